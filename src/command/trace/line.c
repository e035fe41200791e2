/* Lines as the log process, or syslog, wrote them. */
#include "command/trace/trace_priv.h"

bool trace_is_id(slice s)
{
    bool has_digit = false;

    if (slice_eqs(s, "NOQUEUE"))
        return true;
    if (s.n < 6 || s.n > 24)
        return false;
    for (size_t i = 0; i < s.n; i++) {
        if (!ascii_isalnum(s.p[i]))
            return false;
        has_digit |= ascii_isdigit(s.p[i]);
    }
    return has_digit;
}

slice trace_field(slice text, const char *key)
{
    size_t n = strlen(key);
    slice v;

    for (size_t i = 0; i + n < text.n; i++) {
        if (text.p[i + n] != '=' || memcmp(text.p + i, key, n) != 0 ||
            (i > 0 && text.p[i - 1] != ' '))
            continue;
        v = slice_from(text, i + n + 1);
        if (v.n > 0 && v.p[0] == '<') {
            ssize_t end = slice_chr(v, '>');

            return end < 0 ? slice_from(v, 1)
                           : slice_sub(v, 1, (size_t)end - 1);
        }
        for (n = 0; n < v.n && v.p[n] != ',' && v.p[n] != ' '; n++)
            ;
        return slice_sub(v, 0, n);
    }
    return SLICE_NONE;
}

/* "ID: " in front. */
static void cut_id(struct trace_line *out)
{
    slice rest = out->text, head;

    if (slice_cut(&rest, ':', &head) && trace_is_id(head) && rest.n > 0 &&
        rest.p[0] == ' ') {
        out->id = head;
        out->text = slice_from(rest, 1);
    }
}

/* "postfix/smtpd[12]" or "dovecot[12]" */
static bool parse_tag(slice tag, struct trace_line *out)
{
    ssize_t open = slice_rchr(tag, '[');
    ssize_t slash;

    if (open <= 0 || tag.p[tag.n - 1] != ']')
        return false;
    out->pid = slice_sub(tag, (size_t)open + 1, tag.n - (size_t)open - 2);
    out->service = slice_sub(tag, 0, (size_t)open);
    slash = slice_rchr(out->service, '/');
    if (slash >= 0)
        out->service = slice_from(out->service, (size_t)slash + 1);
    return true;
}

/* Dovecot's lines name their service in the text: "imap-login: Login ...",
 * "imap(user)<12><session>: ...". */
static void name_dovecot(struct trace_line *out)
{
    size_t n = 0;

    if (!slice_eqs(out->service, "dovecot"))
        return;
    while (n < out->text.n &&
           (ascii_isalnum(out->text.p[n]) || out->text.p[n] == '-'))
        n++;
    out->service = slice_sub(out->text, 0, n);
    if (n + 1 < out->text.n && out->text.p[n] == ':')
        out->text = slice_trim(slice_from(out->text, n + 1));
}

/* "Nov 22 01:18:31 host tag: text", or a time of RFC 3339. */
static bool parse_postfix(slice line, struct trace_line *out)
{
    slice rest = line, word;

    if (line.n > 0 && ascii_isdigit(line.p[0])) {
        if (!slice_cut(&rest, ' ', &out->time))
            return false;
    } else {
        if (line.n < 17 || line.p[15] != ' ' || line.p[9] != ':')
            return false;
        out->time = slice_sub(line, 0, 15);
        rest = slice_from(line, 16);
    }
    if (!slice_cut(&rest, ' ', &word)) /* the host */
        return false;
    if (!slice_cut(&rest, ' ', &word) || word.n < 2 ||
        word.p[word.n - 1] != ':')
        return false;
    word.n--;
    if (!parse_tag(word, out))
        return false;
    out->text = rest;
    cut_id(out);
    name_dovecot(out);
    return true;
}

/* ---- JSON and logfmt: pairs, written by us: no nesting, and \" and \\ only */

static bool take_quoted(slice *rest, struct arena *a, slice *out)
{
    char *p;
    size_t n = 0, i = 1;

    p = arena_alloc(a, rest->n);
    if (p == NULL)
        return false;
    for (; i < rest->n && rest->p[i] != '"'; i++) {
        if (rest->p[i] == '\\' && i + 1 < rest->n)
            i++;
        p[n++] = rest->p[i];
    }
    if (i >= rest->n)
        return false;
    *rest = slice_from(*rest, i + 1);
    *out = slice_of(p, n);
    return true;
}

static bool take_bare(slice *rest, const char *ends, slice *out)
{
    size_t n = 0;

    while (n < rest->n && strchr(ends, rest->p[n]) == NULL)
        n++;
    *out = slice_sub(*rest, 0, n);
    *rest = slice_from(*rest, n);
    return n > 0;
}

static bool take_value(slice *rest, const char *ends, struct arena *a,
                       slice *out)
{
    if (rest->n > 0 && rest->p[0] == '"')
        return take_quoted(rest, a, out);
    return take_bare(rest, ends, out);
}

static slice *own_place(struct trace_line *out, slice key)
{
    if (slice_eqs(key, "time"))
        return &out->time;
    if (slice_eqs(key, "service"))
        return &out->service;
    if (slice_eqs(key, "pid"))
        return &out->pid;
    return slice_eqs(key, "queue_id") ? &out->id : NULL;
}

static bool is_address(slice key)
{
    return slice_eqs(key, "from") || slice_eqs(key, "to") ||
           slice_eqs(key, "orig_to");
}

/* Put the pair where it belongs; what has no place of its own is text. */
static void put_pair(struct trace_line *out, struct buf *text, slice key,
                     slice value)
{
    slice *own = own_place(out, key);

    if (own != NULL) {
        *own = value;
        return;
    }
    if (slice_eqs(key, "event"))
        return;
    if (slice_eqs(key, "level")) {
        if (!slice_eqs(value, "info"))
            (void)buf_printf(text, "%.*s: ", SLF(value));
        return;
    }
    if (slice_eqs(key, "text")) {
        (void)buf_printf(text, "%s%.*s", text->n > 0 ? " " : "", SLF(value));
        return;
    }
    (void)buf_printf(text, is_address(key) ? "%s%.*s=<%.*s>" : "%s%.*s=%.*s",
                     text->n > 0 ? ", " : "", SLF(key), SLF(value));
}

static bool parse_json(slice rest, struct arena *a, struct trace_line *out,
                       struct buf *text)
{
    slice key, value;

    while (rest.n > 1 && (rest.p[0] == '{' || rest.p[0] == ',')) {
        rest = slice_from(rest, 1);
        if (rest.p[0] != '"' || !take_quoted(&rest, a, &key) || rest.n == 0 ||
            rest.p[0] != ':')
            return false;
        rest = slice_from(rest, 1);
        if (!take_value(&rest, ",}", a, &value))
            return false;
        put_pair(out, text, key, value);
    }
    return rest.n > 0 && rest.p[0] == '}';
}

static bool parse_logfmt(slice rest, struct arena *a, struct trace_line *out,
                         struct buf *text)
{
    slice key, value;

    while (rest.n > 0) {
        if (!take_bare(&rest, "= ", &key) || rest.n == 0 || rest.p[0] != '=')
            return false;
        rest = slice_from(rest, 1);
        if (!take_value(&rest, " ", a, &value))
            value = SL("");
        put_pair(out, text, key, value);
        rest = slice_trim(rest);
    }
    return true;
}

bool trace_line_parse(slice line, struct arena *scratch, struct trace_line *out)
{
    struct buf text;
    bool is_good;

    *out = (struct trace_line){ 0 };
    if (line.n == 0)
        return false;
    if (line.p[0] != '{' && !slice_starts(line, SL("time=")))
        return parse_postfix(line, out);
    arena_reset(scratch);
    buf_init(&text, TRACE_LINE_BYTES * 2);
    is_good = line.p[0] == '{' ? parse_json(line, scratch, out, &text)
                               : parse_logfmt(line, scratch, out, &text);
    out->text = slice_dup(scratch, buf_view(&text));
    buf_done(&text);
    return is_good && out->text.p != NULL && out->service.n > 0;
}
