#include "smtp/client/convert.h"

#include "mail/header.h"

/* Changes on the way out.  Works on lines in stored form. */

#define HEAD_MAX       ((size_t)1 << 20)
#define LINE_MAX_BYTES ((size_t)64 << 10)
#define DEPTH_MAX      32
#define BOUNDARY_MAX   200
#define QP_COLUMNS     76

enum place { IN_HEADER, IN_BODY };

struct client_convert {
    const struct address *generic; /* NULL: none */
    bool to_7bit;
    bool is_primary; /* of the headers */
    bool is_qp;      /* the body under way is encoded */
    enum place place;
    struct buf head, line;
    size_t column; /* of an encoded line */
    bool is_open;  /* the line under way was given out in part */
    char *boundary[DEPTH_MAX];
    size_t n_boundaries;
    struct arena *arena; /* of one header */
};

struct client_convert *client_convert_new(const struct address *generic,
                                          bool to_7bit)
{
    struct client_convert *c = xcalloc(1, sizeof *c);

    c->generic = generic;
    c->to_7bit = to_7bit;
    c->is_primary = true;
    c->arena = arena_new(4u << 20);
    buf_init(&c->head, HEAD_MAX);
    buf_init(&c->line, LINE_MAX_BYTES);
    return c;
}

void client_convert_free(struct client_convert **cp)
{
    struct client_convert *c = *cp;

    if (c == NULL)
        return;
    for (size_t i = 0; i < c->n_boundaries; i++)
        free(c->boundary[i]);
    arena_free(&c->arena);
    buf_done(&c->head);
    buf_done(&c->line);
    free(c);
    *cp = NULL;
}

/* ------------------------------------------------------------------ headers */

/* The header without Content-Transfer-Encoding, and with the new one. */
static void put_encoding(struct buf *out, slice head, const char *encoding)
{
    struct mail_header_iter it;
    struct mail_field f;
    size_t done = 0;

    mail_header_iter_init(&it, head, false);
    while (mail_header_next(&it, &f)) {
        if (!slice_ieqs(f.name, "Content-Transfer-Encoding"))
            continue;
        (void)buf_slice(out, slice_sub(head, done, f.offset - done));
        done = f.offset + f.whole.n;
    }
    (void)buf_slice(out, slice_from(head, done));
    (void)buf_printf(out, "Content-Transfer-Encoding: %s\n", encoding);
}

static void push_boundary(struct client_convert *c, slice text)
{
    if (c->n_boundaries == DEPTH_MAX || text.n == 0 || text.n > BOUNDARY_MAX ||
        memchr(text.p, '\0', text.n) != NULL)
        return;
    c->boundary[c->n_boundaries++] = slice_xstrdup(text);
}

/* What follows this header, and the encoding it says; false: as it is. */
static bool needs_7bit(struct client_convert *c, slice head, bool *is_nested,
                       const char **encoding)
{
    struct mail_value type = { .n_pairs = 0 };
    slice raw;
    slice boundary;
    bool is_8bit =
        mail_header_find(head, "Content-Transfer-Encoding", 0, &raw) &&
        (slice_ieqs(slice_trim(raw), "8bit") ||
         slice_ieqs(slice_trim(raw), "binary"));

    *is_nested = false;
    *encoding = "7bit";
    if (mail_header_find(head, "Content-Type", 0, &raw) &&
        mail_content_type_parse(c->arena, raw, &type)) {
        if (slice_ieqs(type.type, "multipart") &&
            mail_value_param(c->arena, &type, "boundary", &boundary)) {
            push_boundary(c, boundary);
            return is_8bit;
        }
        if (slice_ieqs(type.type, "message") &&
            slice_ieqs(type.subtype, "rfc822")) {
            *is_nested = true;
            return is_8bit;
        }
    }
    if (is_8bit)
        *encoding = "quoted-printable";
    c->is_qp = is_8bit;
    return is_8bit;
}

/* The header is complete in c->head, without the blank line. */
MAY_WAIT static int end_header(struct client_convert *c, struct buf *out,
                               struct err *err)
{
    struct buf changed CLEANUP(buf_done);
    slice head = buf_view(&c->head);
    const char *encoding;
    bool is_nested = false;

    arena_reset(c->arena);
    buf_init(&changed, HEAD_MAX * 2);
    if (c->is_primary && c->generic != NULL) {
        if (address_rewrite_headers(c->generic, ADDRESS_LOCAL, head, &changed,
                                    err) < 0)
            return -1;
        head = buf_view(&changed);
    }
    c->is_primary = false;
    c->is_qp = false;
    if (c->to_7bit && needs_7bit(c, head, &is_nested, &encoding))
        put_encoding(out, head, encoding);
    else
        (void)buf_slice(out, head);
    buf_clear(&c->head);
    c->place = is_nested ? IN_HEADER : IN_BODY;
    return 0;
}

/* ------------------------------------------------------------------ bodies */

static void put_qp(struct client_convert *c, slice text, bool ends_line,
                   struct buf *out)
{
    static const char hex[] = "0123456789ABCDEF";

    for (size_t i = 0; i < text.n; i++) {
        unsigned char b = (unsigned char)text.p[i];
        bool is_last = ends_line && i + 1 == text.n;
        bool plain = (b >= 33 && b <= 126 && b != '=') ||
                     ((b == ' ' || b == '\t') && !is_last);
        size_t width = plain ? 1 : 3;

        if (c->column + width > QP_COLUMNS - 1) {
            (void)buf_puts(out, "=\n");
            c->column = 0;
        }
        c->column += width;
        if (plain) {
            (void)buf_byte(out, (char)b);
            continue;
        }
        (void)buf_byte(out, '=');
        (void)buf_byte(out, hex[b >> 4]);
        (void)buf_byte(out, hex[b & 15]);
    }
}

/* Is the line a delimiter of a multipart that is open?  Those inside it end. */
static bool is_delimiter(struct client_convert *c, slice line, bool *is_end)
{
    if (!slice_starts(line, SL("--")))
        return false;
    line = slice_from(slice_rtrim(line), 2);
    for (size_t i = c->n_boundaries; i-- > 0;) {
        slice b = slice_str(c->boundary[i]);

        if (!slice_starts(line, b))
            continue;
        *is_end = slice_starts(slice_from(line, b.n), SL("--"));
        if (line.n != b.n && !*is_end)
            continue;
        while (c->n_boundaries > i + (*is_end ? 0 : 1))
            free(c->boundary[--c->n_boundaries]);
        return true;
    }
    return false;
}

/* One line without its end; `is_whole` false: only its front. */
MAY_WAIT static int take_line(struct client_convert *c, slice line,
                              bool is_whole, struct buf *out, struct err *err)
{
    bool is_end;

    if (!c->is_open && is_whole && is_delimiter(c, line, &is_end)) {
        /* A header without a body ends as well. */
        if (c->place == IN_HEADER && end_header(c, out, err) < 0)
            return -1;
        c->is_qp = false;
        c->column = 0;
        c->place = is_end ? IN_BODY : IN_HEADER;
        (void)buf_slice(out, line);
        (void)buf_byte(out, '\n');
        return 0;
    }
    if (c->place == IN_HEADER && line.n == 0 && is_whole && !c->is_open) {
        if (end_header(c, out, err) < 0)
            return -1;
        (void)buf_byte(out, '\n');
        return 0;
    }
    if (c->place == IN_HEADER && c->head.n + line.n + 1 < HEAD_MAX) {
        (void)buf_slice(&c->head, line);
        if (is_whole)
            (void)buf_byte(&c->head, '\n');
        c->is_open = !is_whole;
        return 0;
    }
    if (c->place == IN_HEADER && end_header(c, out, err) < 0)
        return -1; /* an endless header: the rest is body */
    c->place = IN_BODY;
    if (c->is_qp)
        put_qp(c, line, is_whole, out);
    else
        (void)buf_slice(out, line);
    c->is_open = !is_whole;
    if (is_whole) {
        (void)buf_byte(out, '\n');
        c->column = 0;
    }
    return 0;
}

int client_convert_feed(struct client_convert *c, slice in, struct buf *out,
                        struct err *err)
{
    while (in.n > 0) {
        ssize_t lf = slice_chr(in, '\n');
        size_t n = lf >= 0 ? (size_t)lf : in.n;
        slice part = slice_sub(in, 0, n);
        int rc = 0;

        if (lf < 0 && c->line.n + n < LINE_MAX_BYTES) {
            (void)buf_slice(&c->line, part); /* the rest comes later */
            return 0;
        }
        if (c->line.n > 0 && c->line.n + n < LINE_MAX_BYTES) {
            (void)buf_slice(&c->line, part);
            rc = take_line(c, buf_view(&c->line), lf >= 0, out, err);
            buf_clear(&c->line);
        } else {
            if (c->line.n > 0)
                rc = take_line(c, buf_view(&c->line), false, out, err);
            buf_clear(&c->line);
            if (rc == 0)
                rc = take_line(c, part, lf >= 0, out, err);
        }
        if (rc < 0)
            return -1;
        in = slice_from(in, n + (lf >= 0 ? 1 : 0));
    }
    return out->overflow ? err_temp(err, "the message grew too long") : 0;
}

int client_convert_finish(struct client_convert *c, struct buf *out,
                          struct err *err)
{
    if (c->line.n > 0 || c->is_open) {
        if (take_line(c, buf_view(&c->line), true, out, err) < 0)
            return -1;
        buf_clear(&c->line);
    }
    if (c->place == IN_HEADER && c->head.n > 0 && end_header(c, out, err) < 0)
        return -1;
    return out->overflow ? err_temp(err, "the message grew too long") : 0;
}
