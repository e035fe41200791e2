#include "store/store_priv.h"

#include "rt/rt.h"

/*
 * MOVE is a copy, a wait until the copy is durable, and an expunge: the order
 * in which nothing can be lost.  So that a crash in between does not leave a
 * message in both mailboxes, the index of the first one is told before: which
 * UIDs are to go where, and the ids of their copies (IR_MOVE).  When it is read
 * again and finds no end of it (IR_MOVED), those whose copies are there are
 * expunged.
 *
 *     IR_MOVE   key (16), target's guid (16), its uidvalidity u32, then
 *               per message: UID u32, id of the copy (16)
 *     IR_MOVED  key
 */

enum {
    MOVE_HEAD = 36,
    MOVE_ITEM = 20,
    MOVE_ITEMS = 8192, /* of one record */
    MOVE_BYTES = MOVE_ITEMS * MOVE_ITEM,
};

static struct move *move_find(const struct store_mailbox *m, const char *key)
{
    for (struct move *v = m->moves; v; v = v->next)
        if (memcmp(v->key, key, ID_BYTES) == 0)
            return v;
    return NULL;
}

static void move_drop(struct store_mailbox *m, const char *key)
{
    for (struct move **at = &m->moves; *at; at = &(*at)->next) {
        struct move *v = *at;

        if (memcmp(v->key, key, ID_BYTES) != 0)
            continue;
        *at = v->next;
        buf_done(&v->items);
        free(v);
        return;
    }
}

void moves_free(struct store_mailbox *m)
{
    while (m->moves)
        move_drop(m, (const char *)m->moves->key);
}

bool moves_apply(struct store_mailbox *m, slice p)
{
    struct move *v;

    if (p.n < MOVE_HEAD || (p.n - MOVE_HEAD) % MOVE_ITEM != 0)
        return false;
    v = move_find(m, p.p);
    if (!v) {
        v = xcalloc(1, sizeof *v);
        memcpy(v->key, p.p, ID_BYTES);
        memcpy(v->guid, p.p + ID_BYTES, ID_BYTES);
        v->uidvalidity = get_u32(p.p + 32);
        buf_init(&v->items, (size_t)1 << 30);
        v->next = m->moves;
        m->moves = v;
    }
    return buf_slice(&v->items, slice_from(p, MOVE_HEAD));
}

bool moves_apply_end(struct store_mailbox *m, slice p)
{
    if (p.n < ID_BYTES)
        return false;
    move_drop(m, p.p);
    return true;
}

int moves_each_record(const struct store_mailbox *m,
                      int (*put)(void *arg, slice payload, struct err *err),
                      void *arg, struct err *err)
{
    struct buf b CLEANUP(buf_done) = { 0 };

    buf_init(&b, ENGINE_RECORD_MAX);
    for (const struct move *v = m->moves; v; v = v->next) {
        slice all = buf_view(&v->items);

        for (size_t i = 0; i < all.n; i += MOVE_BYTES) {
            buf_clear(&b);
            buf_put(&b, v->key, ID_BYTES);
            buf_put(&b, v->guid, ID_BYTES);
            buf_u32(&b, v->uidvalidity);
            buf_slice(&b, slice_sub(all, i, MOVE_BYTES));
            if (put(arg, buf_view(&b), err) < 0)
                return -1;
        }
    }
    return 0;
}

/* ---- a move of our own ---- */

static int put_record(struct store_mailbox *m, slice payload, struct err *err)
{
    if (index_append_buf(m, IR_MOVE, payload, err) < 0)
        return -1;
    CHECK(moves_apply(m, payload));
    return 0;
}

int move_begin(struct store_copy *job, const uint8_t (*ids)[ID_BYTES],
               struct err *err)
{
    struct buf b CLEANUP(buf_done) = { 0 };

    random_bytes(job->key, ID_BYTES);
    buf_init(&b, ENGINE_RECORD_MAX);
    for (size_t i = 0; i < job->n;) {
        buf_clear(&b);
        buf_put(&b, job->key, ID_BYTES);
        buf_put(&b, job->to->guid, ID_BYTES);
        buf_u32(&b, job->to->uidvalidity);
        for (size_t k = 0; k < MOVE_ITEMS && i < job->n; k++, i++) {
            buf_u32(&b, job->uids[i]);
            buf_put(&b, ids[i], ID_BYTES);
        }
        if (put_record(job->from, buf_view(&b), err) < 0) {
            move_end(job->from, job->key);
            return -1;
        }
    }
    return 0;
}

void move_end(struct store_mailbox *from, const uint8_t key[static ID_BYTES])
{
    struct err err;

    if (!move_find(from, (const char *)key))
        return;
    /* Without the record the next one who opens it looks in vain. */
    (void)index_append_buf(from, IR_MOVED, slice_of(key, ID_BYTES), &err);
    move_drop(from, (const char *)key);
}

int store_move_end(struct store_copy *job, bool expunge, struct err *err)
{
    uint32_t *uids = xcalloc(job->n_out + 1, sizeof *uids);
    struct store_mailbox *m = expunge ? job->from : job->to;
    int rc = 0;

    CHECK_OBJ(job->from, MAILBOX_MAGIC);
    for (size_t i = 0; i < job->n_out; i++)
        uids[i] = expunge ? job->out[i].from : job->out[i].to;
    if (job->n_out > 0)
        rc = store_expunge(m, uids, job->n_out, NULL, err);
    move_end(job->from, job->key);
    free(uids);
    return rc;
}

/* ---- one that a crash has ended ---- */

/* UIDs of those whose copies are there. */
static size_t arrived(const struct store_mailbox *from,
                      const struct store_mailbox *to, const struct move *v,
                      uint32_t *uids)
{
    size_t n = 0;

    for (size_t i = 0; i < v->items.n; i += MOVE_ITEM) {
        const char *p = v->items.p + i;

        if (row_by_id(to, (const uint8_t *)p + 4) < rows_count(to) &&
            row_find(from, get_u32(p)) < rows_count(from))
            uids[n++] = get_u32(p);
    }
    return n;
}

MAY_WAIT static int finish(struct store_mailbox *m, const struct move *v,
                           struct store_mailbox *to, struct err *err)
{
    uint32_t *uids CLEANUP(free_ptr) = xcalloc(v->items.n + 1, sizeof *uids);
    size_t n;

    if (to->uidvalidity != v->uidvalidity)
        return 0;
    if (mailbox_scan(to, 0, err) < 0 || store_mailbox_durable(to, err) < 0 ||
        mailbox_check_there(m, err) < 0)
        return -1;
    n = arrived(m, to, v, uids);
    return n > 0 ? store_expunge(m, uids, n, NULL, err) : 0;
}

/* `v` stays over the waits: nobody else ends an old one. */
MAY_WAIT static int finish_one(struct store_mailbox *m, const struct move *v,
                               struct err *err)
{
    struct store_mailbox *to = NULL;
    slice name;
    int rc;

    if (!account_name_of(m->account, v->guid, &name))
        return 0;
    if (store_mailbox_open(m->account, name, 0, &to, err) < 0)
        return err->class == ERR_PERM ? 0 : -1;
    rc = finish(m, v, to, err);
    store_mailbox_unref(&to);
    return rc;
}

MAY_WAIT static void moves_task(void *arg)
{
    struct store_mailbox *m = arg;
    struct err err;
    bool again = true;

    while (again && !m->is_gone) {
        again = false;
        for (struct move *v = m->moves; v; v = v->next) {
            if (!v->is_old)
                continue;
            if (finish_one(m, v, &err) < 0) {
                store_note(m->account, "%s: a MOVE is not at its end: %s",
                           m->name, err.log);
                v->is_old = false; /* the next one to open it tries again */
            } else if (!m->is_gone) {
                move_end(m, v->key);
            }
            again = true;
            break;
        }
    }
    store_mailbox_unref(&m);
}

void moves_finish(struct store_mailbox *m)
{
    if (!m->moves || !task_inside())
        return;
    for (struct move *v = m->moves; v; v = v->next)
        v->is_old = true;
    m->pins++;
    m->account->pins++;
    (void)task_spawn("store-moves", moves_task, m);
}
