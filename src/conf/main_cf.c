#include "conf/conf_priv.h"

void conf_lines_init(struct conf_lines *l, slice text)
{
    l->rest = text;
    l->number = 0;
    buf_init(&l->text, CONF_MAX_TEXT);
}

void conf_lines_done(struct conf_lines *l)
{
    buf_done(&l->text);
}

static bool is_noise(slice physical)
{
    slice t = slice_trim(physical);

    return t.n == 0 || t.p[0] == '#';
}

bool conf_lines_next(struct conf_lines *l, slice *line, int *number)
{
    bool started = false;

    buf_clear(&l->text);
    while (l->rest.n > 0) {
        slice after = l->rest;
        slice physical;

        slice_cut(&after, '\n', &physical);
        /* Comments and empty lines may stand inside a logical line. */
        if (is_noise(physical)) {
            l->rest = after;
            l->number++;
            continue;
        }
        if (started && physical.p[0] != ' ' && physical.p[0] != '\t')
            break;
        l->rest = after;
        l->number++;
        if (!started)
            *number = l->number;
        started = true;
        buf_slice(&l->text, physical);
    }
    *line = slice_rtrim(buf_view(&l->text));
    return started;
}

const char *conf_split_nameval(slice line, slice *name, slice *value)
{
    size_t i = 0;
    slice rest;

    if (slice_chr(line, '\0') >= 0)
        return "the line holds a NUL byte";
    while (i < line.n && !ascii_isspace(line.p[i]) && line.p[i] != '=')
        i++;
    *name = slice_sub(line, 0, i);
    if (i == 0)
        return "missing attribute name";
    rest = slice_trim(slice_from(line, i));
    if (rest.n == 0 || rest.p[0] != '=')
        return "missing '=' after attribute name";
    *value = slice_trim(slice_from(rest, 1));
    return NULL;
}

static void add_entry(struct conf *c, slice name, slice value, int line,
                      struct conf_diags *d)
{
    struct map_node *old = map_get(c->main, name);
    struct conf_entry *e;

    if (old != NULL) {
        e = CONTAINER_OF(old, struct conf_entry, node);
        if (d != NULL)
            conf_diags_add(d, CONF_WARNING, c->main_path, line,
                           "remove one of the two",
                           "overriding earlier entry: %s=%.200s (line %d)",
                           e->name, e->value, e->line);
    } else {
        e = ARENA_NEW(c->arena, struct conf_entry);
        e->name = slice_cstr(c->arena, name);
        e->order = c->n_entries++;
        map_put(c->main, &e->node, slice_str(e->name));
    }
    e->value = slice_cstr(c->arena, value);
    e->line = line;
}

static void order_entries(struct conf *c)
{
    size_t pos = 0;

    c->entries = ARENA_ARRAY(c->arena, struct conf_entry *, c->n_entries + 1);
    for (struct map_node *n = map_next(c->main, &pos, NULL); n != NULL;
         n = map_next(c->main, &pos, n)) {
        struct conf_entry *e = CONTAINER_OF(n, struct conf_entry, node);

        c->entries[e->order] = e;
    }
}

void conf_parse_main(struct conf *c, struct conf_diags *d)
{
    struct conf_lines lines;
    slice line;
    int number;

    conf_lines_init(&lines, c->main_text);
    while (conf_lines_next(&lines, &line, &number)) {
        slice name;
        slice value;
        const char *wrong = NULL;

        if (ascii_isspace(line.p[0]))
            wrong = "the first line starts with white space";
        else
            wrong = conf_split_nameval(line, &name, &value);
        if (wrong == NULL)
            add_entry(c, name, value, number, d);
        else if (d != NULL)
            conf_diags_add(d, CONF_ERROR, c->main_path, number,
                           "write: name = value", "%s: \"%.*s\"", wrong,
                           (int)min_size(line.n, 60), line.p);
    }
    conf_lines_done(&lines);
    order_entries(c);
}
