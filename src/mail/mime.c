/*
 * The MIME parser.  Input is cut into lines; a line that starts with "--" in a
 * multipart is held until it is known whether it is a boundary, and so is each
 * line end, since the one in front of a boundary belongs to it (RFC 2046
 * 5.1.1).
 */
#include "mail/mime.h"

#include "base/base.h"

#include "mail/mail_priv.h"
#include "mail/mime_priv.h"

/* RFC 2046 5.1.1 allows 70; Dovecot cuts at 80 and looks at the line's first
 * 84 bytes behind the "--". */
#define BOUNDARY_MAX  80
#define BOUNDARY_LOOK (BOUNDARY_MAX + 4)
#define FIELD_MAX     (1 << 20)

struct boundary {
    struct boundary *outer;
    struct mail_part *part; /* the multipart it belongs to */
    slice text;
};

enum state {
    IN_HEADER,
    IN_BODY,
    IN_BOUNDARY_LINE, /* behind the boundary, up to the line end */
};

struct mail_mime {
    struct arena *a;
    struct mail_part *root;
    struct mail_part *part;      /* the one being read */
    struct boundary *boundaries; /* innermost first */
    struct buf field; /* the header field being read, with its line ends */
    struct buf line;  /* the held start of a line */
    enum state state;
    bool at_start; /* of a line */
    bool last_was_cr;
    bool new_part;      /* behind this boundary line a part begins */
    bool field_dropped; /* it was longer than FIELD_MAX */
    bool is_full;       /* no memory or too many: no further parts */
    bool finished;
    char held_end[2]; /* a line end whose owner is not known yet */
    unsigned n_held_end;
    unsigned n_parts;
    slice part_boundary; /* of m->part, while its header is read */
    uint64_t offset;
};

static void done_field_buf(void *p)
{
    struct mail_mime *m = p;

    buf_done(&m->field);
    buf_done(&m->line);
}

static struct mail_part *part_new(struct mail_mime *m, struct mail_part *parent)
{
    struct mail_part *p = arena_alloc(m->a, sizeof *p);

    if (p == NULL)
        return NULL;
    p->parent = parent;
    p->offset = m->offset;
    if (parent == NULL)
        return p;
    p->depth = parent->depth + 1;
    if (parent->last == NULL)
        parent->child = p;
    else
        parent->last->next = p;
    parent->last = p;
    parent->n_children++;
    return p;
}

struct mail_mime *mail_mime_new(struct arena *a)
{
    struct mail_mime *m = ARENA_NEW(a, struct mail_mime);

    m->a = a;
    m->root = m->part = ARENA_NEW(a, struct mail_part);
    m->n_parts = 1;
    m->at_start = true;
    buf_init(&m->field, FIELD_MAX);
    buf_init(&m->line, BOUNDARY_LOOK + 16);
    arena_defer(a, done_field_buf, m);
    return m;
}

/* Count bytes to one side of a part. */
static void count(struct mail_mime *m, struct mail_size *size, slice s)
{
    const char *p = s.p, *end = s.p + s.n;

    size->stored += s.n;
    size->crlf += s.n;
    while (p < end) {
        const char *lf = memchr(p, '\n', (size_t)(end - p));

        if (lf == NULL)
            break;
        size->lines++;
        if (lf == s.p ? !m->last_was_cr : lf[-1] != '\r')
            size->crlf++;
        p = lf + 1;
    }
    if (s.n > 0)
        m->last_was_cr = s.p[s.n - 1] == '\r';
    m->offset += s.n;
}

static void count_body(struct mail_mime *m, slice s)
{
    if (!m->part->has_nul && s.n > 0)
        m->part->has_nul = memchr(s.p, '\0', s.n) != NULL;
    count(m, &m->part->body, s);
}

/* The held line end belongs to the part being read. */
static void settle_line_end(struct mail_mime *m)
{
    if (m->n_held_end == 0)
        return;
    count_body(m, slice_of(m->held_end, m->n_held_end));
    m->n_held_end = 0;
}

/* ---- boundaries ---- */

static bool is_close(slice line, const struct boundary *b)
{
    return slice_starts(slice_from(line, b->text.n), SL("--"));
}

/*
 * Which boundary does the line (without its "--" and line end) name?  The
 * innermost, but the longest of those that fit, unless one fits exactly: only
 * the beginning of the line has to match, as in Dovecot.
 */
static struct boundary *boundary_of(struct mail_mime *m, slice line)
{
    struct boundary *best = NULL;
    bool dashes = line.n > 2 && slice_ends(line, SL("--"));

    for (struct boundary *b = m->boundaries; b != NULL; b = b->outer) {
        if (!slice_starts(line, b->text) ||
            (best != NULL && best->text.n >= b->text.n))
            continue;
        best = b;
        if (b->text.n == line.n || (dashes && b->text.n == line.n - 2))
            break;
    }
    return best;
}

/* Add a child's sizes to its parent and go up. */
static void leave_part(struct mail_mime *m)
{
    struct mail_part *p = m->part, *up = p->parent;

    up->body.stored += p->header.stored + p->body.stored;
    up->body.crlf += p->header.crlf + p->body.crlf;
    up->body.lines += p->header.lines + p->body.lines;
    m->part = up;
}

/* m->line holds "--" and what tells that `b` stands there. */
static void at_boundary(struct mail_mime *m, struct boundary *b)
{
    bool is_end = is_close(slice_from(buf_view(&m->line), 2), b);

    while (m->part != b->part)
        leave_part(m);
    m->boundaries = is_end ? b->outer : b;
    m->new_part = !is_end;
    settle_line_end(m);
    m->state = IN_BOUNDARY_LINE;
}

/* Can this part have children?  Invariant 1. */
static bool may_nest(const struct mail_mime *m)
{
    return !m->is_full && m->part->depth + 1 < MAIL_MIME_DEPTH &&
           m->n_parts < MAIL_MIME_PARTS;
}

static void begin_child(struct mail_mime *m)
{
    struct mail_part *p = part_new(m, m->part);

    m->state = IN_BODY;
    if (p == NULL) {
        m->is_full = true; /* the rest is text of the parent */
        return;
    }
    m->part = p;
    m->n_parts++;
    m->state = IN_HEADER;
    m->part_boundary = SLICE_NONE;
}

/* ---- headers ---- */

static void end_field(struct mail_mime *m)
{
    slice boundary = SLICE_NONE;

    if (m->field.n == 0)
        return;
    if (!priv_part_field(m->a, m->part, buf_view(&m->field), &boundary))
        m->root->truncated = true;
    if (boundary.p != NULL)
        m->part_boundary = slice_sub(boundary, 0, BOUNDARY_MAX);
    buf_clear(&m->field);
    m->field_dropped = false;
}

static void push_boundary(struct mail_mime *m)
{
    struct boundary *b = arena_alloc(m->a, sizeof *b);

    if (b == NULL) {
        m->is_full = true;
        return;
    }
    b->outer = m->boundaries;
    b->part = m->part;
    b->text = m->part_boundary;
    m->boundaries = b;
}

/* Without MIME-Version and Content-Type the message is no MIME message, and its
 * other content fields mean nothing. */
static void forget_content(struct mail_part *p)
{
    p->has_disposition = false;
    p->disposition = (struct mail_value){ .n_pairs = 0 };
    p->id = p->description = p->encoding = SLICE_NONE;
    p->md5 = p->language = p->location = SLICE_NONE;
}

/* What the part is, now that all its fields are known. */
static void end_header(struct mail_mime *m)
{
    struct mail_part *p = m->part;

    end_field(m);
    m->state = IN_BODY;
    if (!p->has_type && !p->is_mime &&
        (p->parent == NULL || p->parent->is_message))
        forget_content(p);
    if (!p->has_type) {
        bool in_digest = p->parent != NULL && p->parent->is_digest;

        p->is_message = in_digest;
        p->is_text = !in_digest;
    }
    if (!may_nest(m)) {
        p->is_multipart = p->is_digest = p->is_message = false;
        return;
    }
    if (p->is_multipart && m->part_boundary.p != NULL)
        push_boundary(m);
    else if (p->is_message)
        begin_child(m);
}

/* The part ends inside its header; a message part then has an empty child. */
static void end_all_headers(struct mail_mime *m)
{
    while (m->state == IN_HEADER)
        end_header(m);
}

/* A piece of a header line; `starts` and `ends` the line. */
static void header_piece(struct mail_mime *m, slice s, bool starts, bool ends)
{
    if (starts && s.p[0] != ' ' && s.p[0] != '\t')
        end_field(m);
    if (!m->part->has_nul)
        m->part->has_nul = memchr(s.p, '\0', s.n) != NULL;
    count(m, &m->part->header, s);
    if (starts && ends && (slice_eqs(s, "\n") || slice_eqs(s, "\r\n"))) {
        end_header(m);
        return;
    }
    if (m->field_dropped)
        return;
    if (m->field.n + s.n > FIELD_MAX) {
        m->field_dropped = true;
        m->root->truncated = true;
        return;
    }
    buf_slice(&m->field, s);
}

/* ---- lines ---- */

/* A piece of a body line, not empty. */
static void body_piece(struct mail_mime *m, slice s)
{
    size_t end = 0;

    if (m->n_held_end == 1 && m->held_end[0] == '\r' && s.p[0] == '\n') {
        m->held_end[m->n_held_end++] = '\n'; /* the input was cut between */
        return;
    }
    settle_line_end(m);
    if (m->boundaries != NULL && s.p[s.n - 1] == '\n')
        end = s.n > 1 && s.p[s.n - 2] == '\r' ? 2 : 1;
    else if (m->boundaries != NULL && s.p[s.n - 1] == '\r')
        end = 1;
    s.n -= end;
    count_body(m, s);
    memcpy(m->held_end, s.p + s.n, end);
    m->n_held_end = (unsigned)end;
}

static void boundary_piece(struct mail_mime *m, slice s)
{
    count_body(m, s);
    if (s.p[s.n - 1] != '\n')
        return;
    if (m->new_part)
        begin_child(m);
    else
        m->state = IN_BODY;
}

static void give_piece(struct mail_mime *m, slice s, bool starts, bool ends)
{
    if (s.n == 0)
        return;
    switch (m->state) {
    case IN_HEADER:
        header_piece(m, s, starts, ends);
        break;
    case IN_BODY:
        body_piece(m, s);
        break;
    case IN_BOUNDARY_LINE:
    default:
        boundary_piece(m, s);
    }
    m->at_start = ends;
}

/* The held line start is judged and given on. */
static void release_line(struct mail_mime *m, bool ends)
{
    slice held = buf_view(&m->line);
    slice text = slice_from(held, 2);
    struct boundary *b = NULL;

    if (ends && text.n > 0 && text.p[text.n - 1] == '\n')
        text.n--;
    if (ends && text.n > 0 && text.p[text.n - 1] == '\r')
        text.n--;
    if (slice_starts(held, SL("--")) && m->n_parts < MAIL_MIME_PARTS &&
        !m->is_full)
        b = boundary_of(m, text);
    if (b != NULL) {
        end_all_headers(m);
        at_boundary(m, b);
    }
    give_piece(m, held, true, ends);
    buf_clear(&m->line);
}

/* Does the line's start have to be held?  Blank lines of headers are, so that
 * they are seen whole. */
static bool must_hold(const struct mail_mime *m, char first)
{
    if (m->state == IN_HEADER && first == '\r')
        return true;
    return m->boundaries != NULL && m->state != IN_BOUNDARY_LINE &&
           first == '-';
}

/* Take bytes for the held line start; true when it is decided. */
static bool hold(struct mail_mime *m, slice *in)
{
    ssize_t lf = slice_chr(*in, '\n');
    size_t room = BOUNDARY_LOOK + 2 - m->line.n;
    size_t n = min_size(lf < 0 ? in->n : (size_t)lf + 1, room);

    buf_put(&m->line, in->p, n);
    *in = slice_from(*in, n);
    if (m->line.p[m->line.n - 1] == '\n')
        return true;
    if (m->line.p[0] == '\r')
        return m->line.n > 1;
    return m->line.n == BOUNDARY_LOOK + 2 ||
           (m->line.n > 1 && m->line.p[1] != '-');
}

/* Body bytes outside a multipart need no cutting into lines. */
static bool is_plain(const struct mail_mime *m)
{
    return m->state == IN_BODY && m->boundaries == NULL && m->n_held_end == 0;
}

void mail_mime_feed(struct mail_mime *m, slice in)
{
    CHECK(!m->finished);
    while (in.n > 0) {
        ssize_t lf;
        size_t n;

        if (is_plain(m)) {
            count_body(m, in);
            m->at_start = in.p[in.n - 1] == '\n';
            return;
        }
        if (m->line.n > 0 || (m->at_start && must_hold(m, in.p[0]))) {
            if (hold(m, &in))
                release_line(m, m->line.p[m->line.n - 1] == '\n');
            continue;
        }
        lf = slice_chr(in, '\n');
        n = lf < 0 ? in.n : (size_t)lf + 1;
        give_piece(m, slice_sub(in, 0, n), m->at_start, lf >= 0);
        in = slice_from(in, n);
    }
}

const struct mail_part *mail_mime_finish(struct mail_mime *m)
{
    if (m->finished)
        return m->root;
    if (m->line.n > 0)
        release_line(m, false);
    end_all_headers(m);
    settle_line_end(m);
    while (m->part->parent != NULL)
        leave_part(m);
    m->root->truncated |= m->is_full;
    m->finished = true;
    return m->root;
}

const struct mail_part *mail_mime_parse(struct arena *a, slice message)
{
    struct mail_mime *m = mail_mime_new(a);

    mail_mime_feed(m, message);
    return mail_mime_finish(m);
}

uint64_t mail_part_virtual_size(const struct mail_part *root)
{
    return root->header.crlf + root->body.crlf;
}

/* The nth child, from 1. */
static const struct mail_part *nth_child(const struct mail_part *p, uint64_t n)
{
    const struct mail_part *c = p->child;

    while (c != NULL && n > 1) {
        c = c->next;
        n--;
    }
    return n == 0 ? NULL : c;
}

const struct mail_part *mail_part_find(const struct mail_part *root,
                                       slice section)
{
    const struct mail_part *p = root;
    bool at_top = true;

    while (section.n > 0 && p != NULL) {
        slice number;
        uint64_t n;

        (void)slice_cut(&section, '.', &number);
        if (!slice_u64(number, &n))
            return NULL;
        /* The parts of a message part are those of what it holds. */
        if (!at_top && p->is_message && p->child != NULL)
            p = p->child;
        else if (!at_top && !p->is_multipart)
            return NULL;
        at_top = false;
        if (p->is_multipart)
            p = nth_child(p, n);
        else if (n != 1)
            p = NULL; /* a single body is part 1 of its message */
    }
    return p;
}
