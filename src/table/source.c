#include "table/table_priv.h"

/*
 * Postfix's table sources: logical lines (postmap(1), regexp_table(5)).  A
 * line that starts with white space continues the one before; empty lines and
 * lines whose first visible character is # count for nothing, also inside a
 * continuation.
 */

#define SOURCE_LINE_MAX (1u << 20)

void source_init(struct source *s, slice bytes)
{
    *s = (struct source){ .rest = bytes };
    buf_init(&s->joined, SOURCE_LINE_MAX);
}

void source_done(struct source *s)
{
    buf_done(&s->joined);
}

static bool is_skipped(slice line)
{
    for (size_t i = 0; i < line.n; i++) {
        if (!ascii_isspace(line.p[i]))
            return line.p[i] == '#';
    }
    return true;
}

/* Does the line at the front of `rest` go on with the one before? */
static bool continues(slice rest)
{
    return rest.n > 0 && (rest.p[0] == '#' || ascii_isspace(rest.p[0]));
}

static void warn_line(struct source *s, unsigned line, const char *text)
{
    if (s->warn != NULL)
        s->warn(s->ctx, line, text);
}

/* Collect one logical line; false at the end. */
static bool collect(struct source *s, slice *text, unsigned *line)
{
    slice first = SLICE_NONE;
    bool is_joined = false;

    buf_clear(&s->joined);
    while (s->rest.n > 0) {
        slice physical;

        slice_cut(&s->rest, '\n', &physical);
        s->n_lines++;
        if (!is_skipped(physical)) {
            if (first.n == 0) {
                first = physical;
                *line = s->n_lines;
            } else {
                if (!is_joined)
                    buf_slice(&s->joined, first);
                is_joined = true;
                buf_slice(&s->joined, physical);
            }
        }
        if (first.n > 0 && !continues(s->rest))
            break;
    }
    if (first.n == 0)
        return false;
    *text = is_joined ? buf_view(&s->joined) : first;
    if (s->joined.overflow) {
        warn_line(s, *line, "line too long: the rest is ignored");
    }
    return true;
}

bool source_next(struct source *s, slice *text, unsigned *line)
{
    while (collect(s, text, line)) {
        if (!ascii_isspace(text->p[0]) && memchr(text->p, 0, text->n) == NULL)
            return true;
        warn_line(s, *line,
                  ascii_isspace(text->p[0])
                      ? "logical line must not start with whitespace"
                      : "line holds a NUL byte -- ignoring this line");
    }
    return false;
}

const char *source_split_map(slice line, slice *key, slice *value)
{
    bool in_quotes = false;
    size_t i;

    for (i = 0; i < line.n; i++) {
        if (line.p[i] == '\\') {
            if (++i == line.n)
                break;
        } else if (line.p[i] == '"') {
            in_quotes = !in_quotes;
        } else if (ascii_isspace(line.p[i]) && !in_quotes) {
            break;
        }
    }
    if (in_quotes)
        return "unbalanced '\"' -- ignoring this line";
    *key = slice_sub(line, 0, i);
    *value = slice_trim(slice_from(line, i));
    if (key->n == 0 || value->n == 0)
        return "expected format: key whitespace value";
    return NULL;
}

/* Where the colon that ends an alias's name stands, or -1. */
static ssize_t alias_colon(slice line)
{
    bool in_quotes = false;

    for (size_t i = 0; i < line.n; i++) {
        if (line.p[i] == '\\')
            i++;
        else if (line.p[i] == '"')
            in_quotes = !in_quotes;
        else if (line.p[i] == ':' && !in_quotes)
            return (ssize_t)i;
    }
    return -1;
}

/* Take the quotes off, as tok822_internalize() does: "a b" -> a b. */
static slice unquote(struct arena *a, slice s)
{
    char *out;
    size_t n = 0;

    if (memchr(s.p, '"', s.n) == NULL && memchr(s.p, '\\', s.n) == NULL)
        return s;
    out = arena_alloc(a, s.n + 1);
    if (out == NULL)
        return s;
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] == '"')
            continue;
        if (s.p[i] == '\\' && i + 1 < s.n)
            i++;
        out[n++] = s.p[i];
    }
    return slice_of(out, n);
}

const char *source_split_alias(struct arena *a, slice line, slice *key,
                               slice *value)
{
    ssize_t colon = alias_colon(line);
    slice name;

    if (colon < 0)
        return "need name:value pair";
    name = slice_trim(slice_sub(line, 0, (size_t)colon));
    *value = slice_trim(slice_from(line, (size_t)colon + 1));
    if (name.n == 0)
        return "empty alias name";
    if (value->n == 0)
        return "need name:value pair";
    *key = unquote(a, name);
    return NULL;
}
