#include "filter/filter_priv.h"

/* ---- MIME structure: just enough to know what a line is */

static bool is_mime_field(slice name)
{
    return slice_istarts(name, SL("Content-")) ||
           slice_ieqs(name, "MIME-Version");
}

static void note_content_type(struct filter_message *m, slice raw)
{
    struct arena *a = arena_new(256u << 10);
    struct mail_value v;
    slice boundary;

    if (mail_content_type_parse(a, raw, &v)) {
        m->is_multipart = slice_ieqs(v.type, "multipart");
        m->is_message =
            slice_ieqs(v.type, "message") && (slice_ieqs(v.subtype, "rfc822") ||
                                              slice_ieqs(v.subtype, "global"));
        if (m->is_multipart && mail_value_param(a, &v, "boundary", &boundary) &&
            boundary.n > 0) {
            free(m->boundary);
            m->boundary =
                slice_xstrdup(slice_sub(boundary, 0, m->filter->boundary_max));
        }
    }
    arena_free(&a);
}

static void header_begins(struct filter_message *m, enum filter_class state)
{
    m->state = state;
    m->is_multipart = false;
    m->is_message = false;
    free(m->boundary);
    m->boundary = NULL;
}

static void header_ends(struct filter_message *m)
{
    m->body_seen = 0;
    if (m->is_message && m->state != FILTER_BODY) {
        header_begins(m, FILTER_NESTED);
        return;
    }
    if (m->is_multipart && m->boundary != NULL &&
        m->n_boundaries < m->filter->nesting_max) {
        m->boundaries[m->n_boundaries++] = m->boundary;
        m->boundary = NULL;
    }
    m->state = FILTER_BODY;
}

/* A line "--boundary" of an open multipart: what was inside it is over. */
static bool is_boundary(struct filter_message *m, slice line)
{
    slice text;

    if (!slice_starts(line, SL("--")))
        return false;
    text = slice_rtrim(slice_from(line, 2));
    for (size_t i = m->n_boundaries; i > 0; i--) {
        slice b = slice_str(m->boundaries[i - 1]);
        slice rest;

        if (!slice_starts(text, b))
            continue;
        rest = slice_from(text, b.n);
        /* Of a long boundary only the front is told apart. */
        if (b.n == m->filter->boundary_max && !slice_ends(rest, SL("--")))
            rest = SLICE_NONE;
        if (rest.n > 0 && !slice_starts(rest, SL("--")) &&
            b.n < m->filter->boundary_max)
            continue;
        while (m->n_boundaries > i)
            free(m->boundaries[--m->n_boundaries]);
        if (rest.n > 0) {
            free(m->boundaries[--m->n_boundaries]);
            m->state = FILTER_BODY;
            m->body_seen = 0;
        } else {
            header_begins(m, FILTER_MIME);
        }
        return true;
    }
    return false;
}

/* ---- lines */

/* A field that is complete, with its folded lines and last LF. */
MAY_WAIT static int flush_header(struct filter_message *m, struct buf *out,
                                 struct err *err)
{
    slice whole = buf_view(&m->header);
    slice text = whole;
    slice name = SLICE_NONE;
    enum filter_class kind = m->state;
    enum filter_verdict verdict;

    if (whole.n == 0)
        return 0;
    if (text.p[text.n - 1] == '\n')
        text.n--;
    ssize_t colon = slice_chr(text, ':');
    if (colon > 0)
        name = slice_rtrim(slice_sub(text, 0, (size_t)colon));
    if (slice_ieqs(name, "Content-Type") && !m->filter->is_mime_off)
        note_content_type(m, slice_from(text, (size_t)colon + 1));
    if (kind == FILTER_HEADER && is_mime_field(name) && !m->filter->is_mime_off)
        kind = FILTER_MIME;
    if (filter_ask(m, kind, slice_sub(text, 0, m->filter->header_max), &verdict,
                   out, err) < 0)
        return -1;
    if (verdict == FILTER_KEEP)
        (void)buf_slice(out, whole);
    buf_clear(&m->header);
    return 0;
}

static bool is_field_start(slice line)
{
    ssize_t colon = slice_chr(line, ':');

    return colon > 0 && mail_header_name_valid(
                            slice_rtrim(slice_sub(line, 0, (size_t)colon)));
}

MAY_WAIT static int body_line(struct filter_message *m, slice line, slice text,
                              struct buf *out, struct err *err)
{
    enum filter_verdict verdict = FILTER_KEEP;

    if (is_boundary(m, text)) {
        (void)buf_slice(out, line);
        return 0;
    }
    if (m->body_seen < m->filter->body_max &&
        filter_ask(m, FILTER_BODY, text, &verdict, out, err) < 0)
        return -1;
    m->body_seen += line.n;
    if (verdict == FILTER_KEEP)
        (void)buf_slice(out, line);
    return 0;
}

/* `line` with its LF, if it has one. */
MAY_WAIT static int one_line(struct filter_message *m, slice line,
                             struct buf *out, struct err *err)
{
    slice text = line;

    if (text.n > 0 && text.p[text.n - 1] == '\n')
        text.n--;
    if (m->state == FILTER_BODY)
        return body_line(m, line, text, out, err);
    if (text.n > 0 && (text.p[0] == ' ' || text.p[0] == '\t') &&
        m->header.n > 0) {
        if (m->header.n + line.n > m->filter->header_max &&
            flush_header(m, out, err) < 0)
            return -1;
        (void)buf_slice(&m->header, line);
        return 0;
    }
    if (flush_header(m, out, err) < 0)
        return -1;
    if (text.n > 0 && is_field_start(text)) {
        (void)buf_slice(&m->header, line);
        return 0;
    }
    header_ends(m);
    if (text.n == 0) {
        (void)buf_slice(out, line);
        return 0;
    }
    if (m->state != FILTER_BODY)
        m->state = FILTER_BODY; /* junk where a nested header should be */
    return body_line(m, line, text, out, err);
}

/* ---- pieces */

/* Bytes that belong to an incomplete line. */
MAY_WAIT static int keep_piece(struct filter_message *m, slice piece,
                               struct buf *out, struct err *err)
{
    size_t room = FILTER_LINE_MAX - 1 - m->line.n;
    int r;

    if (m->in_long_line) {
        (void)buf_slice(out, piece);
        return 0;
    }
    if (piece.n <= room) {
        (void)buf_slice(&m->line, piece);
        return 0;
    }
    (void)buf_slice(&m->line, slice_sub(piece, 0, room));
    m->in_long_line = true;
    r = one_line(m, buf_view(&m->line), out, err);
    if (r == 0 && m->state != FILTER_BODY)
        r = flush_header(m, out, err);
    buf_clear(&m->line);
    (void)buf_slice(out, slice_from(piece, room));
    return r;
}

int filter_feed(struct filter_message *m, slice in, struct buf *out,
                struct err *err)
{
    while (in.n > 0) {
        ssize_t lf = slice_chr(in, '\n');
        slice piece = lf < 0 ? in : slice_sub(in, 0, (size_t)lf + 1);
        int r = 0;

        in = slice_from(in, piece.n);
        if (lf < 0)
            return keep_piece(m, piece, out, err);
        if (m->in_long_line) {
            (void)buf_slice(out, piece);
            m->in_long_line = false;
            continue;
        }
        if (m->line.n > 0) {
            r = keep_piece(m, piece, out, err);
            if (r == 0 && m->in_long_line)
                m->in_long_line = false;
            else if (r == 0)
                r = one_line(m, buf_view(&m->line), out, err);
            buf_clear(&m->line);
        } else {
            r = one_line(m, piece, out, err);
        }
        if (r < 0)
            return -1;
    }
    return 0;
}

int filter_finish(struct filter_message *m, struct buf *out, struct err *err)
{
    if (m->line.n > 0) {
        if (one_line(m, buf_view(&m->line), out, err) < 0)
            return -1;
        buf_clear(&m->line);
    }
    return m->state == FILTER_BODY ? 0 : flush_header(m, out, err);
}
