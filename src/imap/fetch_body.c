/*
 * Sections of a message, out of its file.  The file has LF line ends; what the
 * client gets has CRLF, and NUL bytes as 0x80 (a literal may not hold them,
 * RFC 3501 4.3; Dovecot does the same).  Bodies go through in pieces.
 */
#include "imap/fetch.h"

#include "mail/header.h"
#include "mail/mime.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/uio.h>

enum { HEADER_LOOK = FETCH_PIECE };

/* ---- reading */

struct cold {
    int fd;
    char *p;
    size_t n;
    off_t at;
};

static int read_cold(void *arg)
{
    struct cold *r = arg;
    ssize_t n;

    do
        n = pread(r->fd, r->p, r->n, r->at);
    while (n < 0 && errno == EINTR);
    return (int)n;
}

/* At most FETCH_PIECE bytes: what is in memory at once, else a thread reads.
 * 0: the end; -1: cannot be read. */
MAY_WAIT static ssize_t read_piece(const struct fetch_message *m, uint64_t at,
                                   uint64_t n)
{
    size_t want = n < FETCH_PIECE ? (size_t)n : (size_t)FETCH_PIECE;
    struct iovec v = { m->f->piece, want };
    struct cold job = { m->fd, m->f->piece, want, (off_t)at };
    ssize_t got = preadv2(m->fd, &v, 1, (off_t)at, RWF_NOWAIT);

    if (got > 0 || (got == 0 && n == 0))
        return got;
    return offload(read_cold, &job);
}

int fetch_open(struct fetch *f, size_t row, struct fetch_message *out,
               struct err *err)
{
    struct store_view *v = &f->s->selected->view;
    struct store_mailbox *m = v->mailbox;
    struct store_row r;
    struct stat st;

    *out = (struct fetch_message){ .f = f, .row = row, .fd = -1 };
    if (f->piece == NULL)
        f->piece = xmalloc(FETCH_PIECE);
    store_view_get(v, row, &r);
    out->uid = r.uid;
    if (store_view_is_gone(v, row))
        return 0;
    if (store_open_body(m, r.uid, &out->fd, err) < 0) {
        if (store_view_is_gone(v, row) || err->class == ERR_PERM)
            return 0;
        return -1;
    }
    /* A file of a stranger, or one that he wrote to: measured anew. */
    if (fstat(out->fd, &st) == 0 &&
        (r.crlf_size == 0 || (uint64_t)st.st_size != r.size)) {
        if (store_fill(m, r.uid, err) < 0)
            return -1;
        store_view_get(v, row, &r);
    }
    out->stored = r.size;
    out->crlf = r.crlf_size;
    return 1;
}

void fetch_close(struct fetch_message *m)
{
    close_fd(&m->fd);
    arena_free(&m->arena);
}

/* ---- where a section lies */

bool fetch_tree(struct fetch_message *m)
{
    struct mail_mime *mime;
    uint64_t at = 0;
    ssize_t n;

    if (m->root != NULL)
        return true;
    m->arena = arena_new(FETCH_TREE_MAX);
    mime = mail_mime_new(m->arena);
    while ((n = read_piece(m, at, UINT64_MAX)) > 0) {
        mail_mime_feed(mime, slice_of(m->f->piece, (size_t)n));
        at += (uint64_t)n;
        imap_pause(m->f->s);
    }
    m->root = mail_mime_finish(mime);
    return n == 0;
}

/* Bytes with CRLF; prev_cr says what stands before, and then at the end. */
static uint64_t crlf_bytes(slice s, bool *prev_cr)
{
    const char *p = s.p, *end = s.p + s.n;
    uint64_t n = s.n;

    while (p < end) {
        const char *lf = memchr(p, '\n', (size_t)(end - p));

        if (lf == NULL)
            break;
        n += lf == s.p ? !*prev_cr : lf[-1] != '\r';
        p = lf + 1;
    }
    if (s.n > 0)
        *prev_cr = s.p[s.n - 1] == '\r';
    return n;
}

/* Behind the first empty line; 0: there is none. */
static size_t header_end(slice s)
{
    const char *p = s.p, *end = s.p + s.n;

    while (p < end) {
        const char *lf;

        if (*p == '\n')
            return (size_t)(p - s.p) + 1;
        if (*p == '\r' && p + 1 < end && p[1] == '\n')
            return (size_t)(p - s.p) + 2;
        lf = memchr(p, '\n', (size_t)(end - p));
        if (lf == NULL)
            break;
        p = lf + 1;
    }
    return 0;
}

/* The message's own header, mostly without parsing all of it. */
MAY_WAIT static bool find_header(struct fetch_message *m)
{
    ssize_t n;
    size_t end;
    bool cr = false;

    if (m->has_header)
        return true;
    m->has_header = true;
    if (m->root == NULL) {
        n = read_piece(m, 0, HEADER_LOOK);
        if (n < 0)
            return false;
        end = header_end(slice_of(m->f->piece, (size_t)n));
        if (end > 0) {
            m->header = (struct imap_range64){
                0, end, crlf_bytes(slice_of(m->f->piece, end), &cr)
            };
            return true;
        }
    }
    if (!fetch_tree(m))
        return false;
    m->header = (struct imap_range64){ 0, m->root->header.stored,
                                       m->root->header.crlf };
    return true;
}

static struct imap_range64 header_of(const struct mail_part *p)
{
    return (struct imap_range64){ p->offset, p->header.stored, p->header.crlf };
}

static struct imap_range64 body_of(const struct mail_part *p)
{
    return (struct imap_range64){ p->offset + p->header.stored, p->body.stored,
                                  p->body.crlf };
}

/* In the message itself. */
MAY_WAIT static bool locate_top(struct fetch_message *m, enum fetch_kind kind,
                                struct imap_range64 *out)
{
    if (kind == FETCH_ALL) {
        *out = (struct imap_range64){ 0, m->stored, m->crlf };
        return true;
    }
    if (!find_header(m))
        return false;
    *out = m->header;
    if (kind != FETCH_TEXT)
        return true;
    out->at = m->header.stored;
    out->stored = m->stored - m->header.stored;
    out->crlf = m->crlf - m->header.crlf;
    return m->stored >= m->header.stored && m->crlf >= m->header.crlf;
}

/* 1: there; 0: there is no such part; -1: cannot be read. */
MAY_WAIT static int locate(struct fetch_message *m,
                           const struct fetch_section *sec,
                           struct imap_range64 *out)
{
    const struct mail_part *p;

    if (sec->part.n == 0)
        return locate_top(m, sec->kind, out) ? 1 : -1;
    if (!fetch_tree(m))
        return -1;
    p = mail_part_find(m->root, sec->part);
    if (p == NULL)
        return 0;
    if (sec->kind == FETCH_ALL) {
        *out = body_of(p);
        return 1;
    }
    if (sec->kind == FETCH_MIME) {
        *out = header_of(p);
        return 1;
    }
    /* HEADER and TEXT are those of the message that the part holds. */
    if (!p->is_message || p->child == NULL)
        return 0;
    *out = sec->kind == FETCH_TEXT ? body_of(p->child) : header_of(p->child);
    return 1;
}

/* ---- sending */

struct sender {
    struct buf *out;
    uint64_t skip; /* bytes with CRLF before what is asked for */
    uint64_t left;
    bool prev_cr;
};

static void put(struct sender *w, const char *p, size_t n)
{
    if (w->skip > 0) {
        size_t drop = w->skip < n ? (size_t)w->skip : n;

        w->skip -= drop;
        p += drop;
        n -= drop;
    }
    if (n > w->left)
        n = (size_t)w->left;
    w->left -= n;
    buf_put(w->out, p, n);
}

/* LF to CRLF. */
static void convert(struct sender *w, slice s)
{
    const char *p = s.p, *end = s.p + s.n;
    size_t was = w->out->n;

    while (p < end && w->left > 0) {
        const char *lf = memchr(p, '\n', (size_t)(end - p));
        const char *to = lf != NULL ? lf : end;
        bool cr = to > p ? to[-1] == '\r' : w->prev_cr;

        put(w, p, (size_t)(to - p));
        if (lf != NULL && cr)
            put(w, "\n", 1);
        else if (lf != NULL)
            put(w, "\r\n", 2);
        w->prev_cr = lf == NULL && cr;
        p = lf != NULL ? lf + 1 : end;
    }
    for (size_t at = was; at < w->out->n; at++) {
        char *nul = memchr(w->out->p + at, '\0', w->out->n - at);

        if (nul == NULL)
            break;
        *nul = (char)0x80;
        at = (size_t)(nul - w->out->p);
    }
}

static bool memo_fits(const struct imap_memo *memo,
                      const struct fetch_message *m,
                      const struct fetch_section *sec)
{
    return memo->uid == m->uid && memo->kind == (int)sec->kind &&
           slice_eqs(sec->part, memo->part);
}

static void memo_begin(struct imap_memo *memo, const struct fetch_message *m,
                       const struct fetch_section *sec,
                       const struct imap_range64 *r)
{
    *memo = (struct imap_memo){ .uid = m->uid,
                                .kind = (int)sec->kind,
                                .at = r->at,
                                .stored = r->stored,
                                .crlf = r->crlf,
                                .pos = r->at };
    if (!slice_copy_to(sec->part, memo->part, sizeof memo->part))
        memo->uid = 0;
}

/* [from, from + count) of the range in its CRLF form. */
MAY_WAIT static bool send_range(struct fetch_message *m,
                                const struct imap_range64 *r, uint64_t from,
                                uint64_t count)
{
    struct imap_session *s = m->f->s;
    struct imap_memo *memo = &s->selected->memo;
    uint64_t end = r->at + r->stored;
    uint64_t pos_crlf = 0, pos = r->at;
    struct sender w = { imap_out(s), from, count, false };

    if (memo->uid == m->uid && memo->at == r->at && memo->stored == r->stored &&
        memo->pos_crlf <= from) {
        pos_crlf = memo->pos_crlf;
        pos = memo->pos;
        w.prev_cr = memo->pos_cr;
        w.skip = from - pos_crlf;
    }
    while (w.left > 0) {
        ssize_t n = pos < end ? read_piece(m, pos, end - pos) : 0;
        slice piece;

        if (n <= 0 || s->is_broken)
            break;
        piece = slice_of(m->f->piece, (size_t)n);
        /* Unless a command beside this one reads elsewhere by now. */
        if (memo->uid == m->uid && memo->at == r->at &&
            memo->stored == r->stored) {
            memo->pos = pos;
            memo->pos_crlf = pos_crlf;
            memo->pos_cr = w.prev_cr;
        }
        if (w.skip > 0 || count < UINT64_MAX) {
            bool cr = w.prev_cr;

            pos_crlf += crlf_bytes(piece, &cr);
        }
        convert(&w, piece);
        pos += (uint64_t)n;
        if (!imap_room(s))
            return false;
    }
    return w.left == 0;
}

static void say_literal(struct imap_session *s, uint64_t n)
{
    imap_says(s, " {");
    imap_say_u64(s, n);
    imap_says(s, "}\r\n");
}

/* The file is not what it was when its size was told: no way on. */
static bool give_up(struct fetch_message *m)
{
    struct imap_session *s = m->f->s;

    if (!s->is_broken && !s->is_kicked)
        imap_log(s, EV_WARNING, "UID %u changed while it was read", m->uid);
    s->is_broken = true;
    return false;
}

/* ---- fields of a header */

static bool is_named(const struct fetch_section *sec, slice name)
{
    for (size_t i = 0; i < sec->n_fields; i++)
        if (slice_ieq(sec->fields[i], name))
            return true;
    return false;
}

static void pick_fields(const struct fetch_section *sec, slice header,
                        struct sender *w)
{
    struct mail_header_iter it;
    struct mail_field field;
    bool want = sec->kind == FETCH_FIELDS;

    mail_header_iter_init(&it, header, true);
    while (mail_header_next(&it, &field))
        if (is_named(sec, field.name) == want)
            convert(w, field.whole);
    w->prev_cr = false;
    /* Where the header ended without an empty line, what is left of it does
     * so as well; a choice of fields never does (Dovecot). */
    if (want || it.end == MAIL_HEADER_BLANK)
        convert(w, SL("\n"));
}

MAY_WAIT static bool send_fields(struct fetch_message *m,
                                 const struct fetch_section *sec,
                                 const struct imap_range64 *r)
{
    struct buf header CLEANUP(buf_done) = { 0 };
    struct buf out CLEANUP(buf_done) = { 0 };
    struct sender w = { &out, 0, UINT64_MAX, false };
    uint64_t n = r->stored < FETCH_HEADER_MAX ? r->stored : FETCH_HEADER_MAX;
    slice part;

    buf_init(&header, FETCH_HEADER_MAX);
    buf_init(&out, 2 * (size_t)FETCH_HEADER_MAX + 2);
    while (header.n < n) {
        ssize_t got = read_piece(m, r->at + header.n, n - header.n);

        if (got <= 0)
            return give_up(m);
        buf_put(&header, m->f->piece, (size_t)got);
    }
    pick_fields(sec, buf_view(&header), &w);
    part = buf_view(&out);
    if (sec->is_partial)
        part = slice_sub(part, sec->from < part.n ? (size_t)sec->from : part.n,
                         sec->count < part.n ? (size_t)sec->count : part.n);
    say_literal(m->f->s, part.n);
    imap_say(m->f->s, part);
    return true;
}

bool fetch_send(struct fetch_message *m, const struct fetch_section *sec)
{
    struct imap_session *s = m->f->s;
    struct imap_memo *memo = &s->selected->memo;
    struct imap_range64 r;
    uint64_t n;
    int found = 1;

    imap_say(s, sec->label);
    if (sec->is_partial && memo_fits(memo, m, sec)) {
        r = (struct imap_range64){ memo->at, memo->stored, memo->crlf };
    } else {
        found = locate(m, sec, &r);
        if (found > 0)
            memo_begin(memo, m, sec, &r);
    }
    if (found < 0)
        return give_up(m);
    if (found ==
        0) { /* NIL would do as well, but Dovecot's clients know this */
        say_literal(s, 0);
        return true;
    }
    if (sec->kind == FETCH_FIELDS || sec->kind == FETCH_FIELDS_NOT)
        return send_fields(m, sec, &r);
    n = sec->from < r.crlf ? r.crlf - sec->from : 0;
    if (sec->count < n)
        n = sec->count;
    say_literal(s, n);
    if (n == 0 || send_range(m, &r, sec->from, n))
        return true;
    return give_up(m);
}
