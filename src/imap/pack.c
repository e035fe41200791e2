/*
 * A session's selected mailbox as a few numbers.  The runs are pairs of
 * variable-length numbers: how many UIDs are left out, how many follow each
 * other.
 */
#include "imap/park.h"

#include "base/codec.h"

enum { RUNS_MAX = 64 << 20, TIDY_OPS = 64 };

static void put_number(struct buf *b, uint32_t n)
{
    while (n >= 0x80) {
        buf_byte(b, (char)(n | 0x80));
        n >>= 7;
    }
    buf_byte(b, (char)n);
}

static bool get_number(slice *in, uint32_t *out)
{
    uint32_t n = 0;

    for (unsigned shift = 0; shift < 35 && in->n > 0; shift += 7) {
        unsigned char ch = (unsigned char)in->p[0];

        *in = slice_from(*in, 1);
        n |= (uint32_t)(ch & 0x7f) << shift;
        if (ch < 0x80) {
            *out = n;
            return true;
        }
    }
    return false;
}

/* The UIDs of the view; returns the last. */
static uint32_t put_runs(struct store_view *v, struct buf *b)
{
    uint32_t last = 0, first = 0, before = 0;

    for (size_t row = store_view_next(v, 0); row < v->rows;
         row = store_view_next(v, row + 1)) {
        uint32_t uid = store_row_uid(v->mailbox, row);

        if (last != 0 && uid == last + 1) {
            last = uid;
            continue;
        }
        if (last != 0) {
            put_number(b, first - before - 1);
            put_number(b, last - first + 1);
            before = last;
        }
        first = uid;
        last = uid;
    }
    if (last != 0) {
        put_number(b, first - before - 1);
        put_number(b, last - first + 1);
    }
    return last;
}

static struct imap_packed *pack_view(struct imap_session *s)
{
    struct imap_selected *sel = s->selected;
    struct store_view *v = &sel->view;
    slice name = store_mailbox_name(v->mailbox);
    struct buf runs CLEANUP(buf_done) = { 0 };
    struct store_status st;
    struct imap_packed *p;
    uint32_t last;

    buf_init(&runs, RUNS_MAX);
    last = put_runs(v, &runs);
    if (runs.overflow || name.n > UINT16_MAX)
        return NULL;
    store_mailbox_status(v->mailbox, &st);
    p = xcalloc(1, sizeof *p + name.n + runs.n);
    p->session = s;
    p->modseq = v->modseq;
    p->uidvalidity = st.uidvalidity;
    p->last_uid = last;
    p->messages = store_view_messages(v);
    p->recent_from = sel->recent_from;
    p->n_keywords = sel->n_keywords;
    p->is_read_only = sel->is_read_only;
    p->n_name = (uint16_t)name.n;
    p->n_runs = (uint32_t)runs.n;
    memcpy(p->bytes, name.p, name.n);
    if (runs.n > 0)
        memcpy(p->bytes + name.n, runs.p, runs.n);
    return p;
}

/* In IDLE: everything is told, and whatever comes from now on will be seen. */
static bool settle(struct imap_session *s, char *path, size_t size,
                   uint64_t *stamp)
{
    struct store_mailbox *m = s->selected->view.mailbox;
    struct err err;

    if (!store_mailbox_path(m, path, size))
        return false;
    if (!s->selected->is_read_only)
        (void)store_mailbox_tidy(m, TIDY_OPS);
    *stamp = store_peek(path);
    if (store_mailbox_sync(m, false, &err) < 0)
        return false;
    return store_view_pending(&s->selected->view) == 0;
}

bool imap_pack(struct imap_session *s)
{
    struct imap_selected *sel = s->selected;
    struct imap_packed *p;
    char path[1024];
    struct store_status st;
    uint64_t stamp = 0;

    if (sel != NULL) {
        if (sel->missing.n > 0 || store_mailbox_is_gone(sel->view.mailbox) ||
            (store_view_pending(&sel->view) & STORE_VIEW_EXPUNGED) ||
            (s->idle_tag != NULL && !settle(s, path, sizeof path, &stamp)))
            return false;
        p = pack_view(s);
        if (p == NULL)
            return false;
        store_mailbox_status(sel->view.mailbox, &st);
        s->packed = p;
        imap_unselect(s);
        if (s->idle_tag != NULL)
            imap_group_join(s, st.guid, path, stamp);
    }
    store_account_unref(&s->account);
    s->is_packed = true;
    return true;
}

void imap_packed_free(struct imap_session *s)
{
    if (s->packed != NULL)
        imap_group_leave(s->packed);
    free(s->packed);
    s->packed = NULL;
    s->is_packed = false;
}

/* ---- and back */

/* Sequence numbers, as the client counts, of what is not there any more. */
static bool find_missing(const struct imap_packed *p,
                         const struct store_mailbox *m, struct buf *missing)
{
    slice runs = slice_of(p->bytes + p->n_name, p->n_runs);
    size_t row = 0, n_rows = store_rows(m);
    uint32_t uid = 0, seq = 0;

    while (runs.n > 0) {
        uint32_t gap, n;

        if (!get_number(&runs, &gap) || !get_number(&runs, &n) ||
            n > p->messages - seq)
            return false;
        uid += gap;
        while (n-- > 0) {
            uid++;
            seq++;
            while (row < n_rows &&
                   (store_row_uid(m, row) == 0 || store_row_uid(m, row) < uid))
                row++;
            if (row >= n_rows || store_row_uid(m, row) != uid)
                buf_put(missing, &seq, sizeof seq);
        }
    }
    return seq == p->messages;
}

static uint32_t count_rows(const struct store_mailbox *m, size_t n)
{
    uint32_t count = 0;

    for (size_t row = 0; row < n; row++)
        count += store_row_uid(m, row) != 0;
    return count;
}

static int put_back(struct imap_session *s, const struct imap_packed *p,
                    struct err *err)
{
    struct imap_selected *sel = s->selected;
    struct store_view *v = &sel->view;
    const struct store_mailbox *m = v->mailbox;
    struct store_status st;
    size_t known;

    store_mailbox_status(m, &st);
    if (st.uidvalidity != p->uidvalidity)
        return err_perm(err, "Mailbox was made anew.");
    /* A record may hold anything, but no more than there ever were. */
    if (p->last_uid >= st.uidnext || p->messages > p->last_uid ||
        !find_missing(p, m, &sel->missing))
        return err_temp(err, "packed session of %.*s is damaged", SLF(s->user));
    known = store_row_at(m, p->last_uid + 1);
    v->rows = known;
    v->messages = p->messages - (uint32_t)(sel->missing.n / sizeof(uint32_t));
    v->modseq = p->modseq;
    v->is_old = st.highestmodseq > p->modseq;
    if (count_rows(m, known) != v->messages)
        return err_perm(err, "Mailbox was made anew.");
    sel->recent_from = p->recent_from;
    sel->n_keywords = p->n_keywords;
    return 0;
}

int imap_unpack(struct imap_session *s, struct err *err)
{
    struct imap_packed *p = s->packed;
    int rc = 0;

    if (!s->is_packed)
        return 0;
    if (imap_account(s, err) < 0)
        return -1;
    s->is_packed = false;
    if (p == NULL)
        return 0;
    s->packed = NULL;
    imap_group_leave(p);
    rc = imap_select(s, slice_of(p->bytes, p->n_name), p->is_read_only, err);
    if (rc == 0)
        rc = put_back(s, p, err);
    free(p);
    if (rc == 0 && s->idle_tag != NULL)
        imap_tell_missing(s);
    return rc;
}

void imap_tell_missing(struct imap_session *s)
{
    struct buf *missing = &s->selected->missing;
    const uint32_t *seq = (const void *)missing->p;

    for (size_t i = missing->n / sizeof *seq; i > 0; i--) {
        imap_says(s, "* ");
        imap_say_u64(s, seq[i - 1]);
        imap_says(s, " EXPUNGE\r\n");
    }
    buf_release(missing);
}

/* ---- records: a packed session for another worker */

enum {
    REC_NAME = 1,
    REC_RUNS,
    REC_MODSEQ,
    REC_UIDVALIDITY,
    REC_LAST_UID,
    REC_MESSAGES,
    REC_RECENT,
    REC_FLAGS, /* 1 read-only, 2 CONDSTORE */
    REC_IDLE_TAG,
    REC_ACTIVE, /* seconds since its last command */
};

void imap_packed_put(const struct imap_session *s, struct buf *out)
{
    const struct imap_packed *p = s->packed;
    msec quiet = loop_now() - s->active_at;
    uint64_t flags = s->condstore ? 2 : 0;

    if (p != NULL) {
        flags |= p->is_read_only ? 1 : 0;
        attr_put(out, REC_NAME, slice_of(p->bytes, p->n_name));
        attr_put(out, REC_RUNS, slice_of(p->bytes + p->n_name, p->n_runs));
        attr_put_u64(out, REC_MODSEQ, p->modseq);
        attr_put_u64(out, REC_UIDVALIDITY, p->uidvalidity);
        attr_put_u64(out, REC_LAST_UID, p->last_uid);
        attr_put_u64(out, REC_MESSAGES, p->messages);
        attr_put_u64(out, REC_RECENT, p->recent_from);
    }
    attr_put_u64(out, REC_FLAGS, flags);
    if (s->idle_tag != NULL)
        attr_put_str(out, REC_IDLE_TAG, s->idle_tag);
    attr_put_u64(out, REC_ACTIVE, quiet > 0 ? (uint64_t)quiet / 1000 : 0);
}

static struct imap_packed *get_packed(slice record)
{
    struct imap_packed *p;
    slice name, runs;

    if (!attr_find(record, REC_NAME, &name))
        return NULL;
    if (!attr_find(record, REC_RUNS, &runs))
        runs = SLICE_NONE;
    if (name.n > 4096 || runs.n > RUNS_MAX)
        return NULL;
    p = xcalloc(1, sizeof *p + name.n + runs.n);
    p->modseq = attr_u64_or(record, REC_MODSEQ, 0);
    p->uidvalidity = (uint32_t)attr_u64_or(record, REC_UIDVALIDITY, 0);
    p->last_uid = (uint32_t)attr_u64_or(record, REC_LAST_UID, 0);
    p->messages = (uint32_t)attr_u64_or(record, REC_MESSAGES, 0);
    p->recent_from = (uint32_t)attr_u64_or(record, REC_RECENT, UINT32_MAX);
    p->n_keywords = UINT32_MAX;
    p->is_read_only = (attr_u64_or(record, REC_FLAGS, 0) & 1) != 0;
    p->n_name = (uint16_t)name.n;
    p->n_runs = (uint32_t)runs.n;
    memcpy(p->bytes, name.p, name.n);
    if (runs.n > 0)
        memcpy(p->bytes + name.n, runs.p, runs.n);
    return p;
}

int imap_packed_get(struct imap_session *s, slice record, struct err *err)
{
    slice tag = SLICE_NONE;
    uint64_t flags;

    if (!attr_find_u64(record, REC_FLAGS, &flags))
        return err_temp(err, "record of a parked session is damaged");
    s->condstore = (flags & 2) != 0;
    if (attr_find(record, REC_IDLE_TAG, &tag) && tag.n > 0 && tag.n <= 128)
        s->idle_tag = slice_xstrdup(tag);
    s->active_at -= (msec)(attr_u64_or(record, REC_ACTIVE, 0) % 100000) * 1000;
    s->packed = get_packed(record);
    if (s->packed != NULL)
        s->packed->session = s;
    s->is_packed = true;
    return 0;
}
