#include "store/store_priv.h"

/* Messages come, change and go: the index first, then the names of files. */

enum {
    EXPUNGE_BYTES = 3600, /* of one record: the reserve takes it */
};

/* Items of as many changes as one record takes, from *done on; what changes
 * nothing is passed over. */
static void put_changes(const struct store_mailbox *m,
                        const struct store_change *c, size_t n, size_t *done,
                        struct buf *b)
{
    for (; *done < n && b->n < ENGINE_RECORD_MAX - 64; ++*done) {
        const struct store_change *one = &c[*done];
        size_t r = row_find(m, one->uid);

        if (r >= rows_count(m) || (ROW_FIELD(m, r, flags) == one->flags &&
                                   ROW_FIELD(m, r, keywords) == one->keywords))
            continue;
        buf_u32(b, one->uid);
        buf_u32(b, one->flags & STORE_FLAGS_ALL);
        buf_u64(b, one->keywords);
    }
}

int store_set_flags(struct store_mailbox *m, const struct store_change *c,
                    size_t n, uint64_t *modseq_out, struct err *err)
{
    struct buf b CLEANUP(buf_done) = { 0 };
    uint64_t modseq;
    size_t done = 0;

    CHECK_OBJ(m, MAILBOX_MAGIC);
    if (account_next_modseq(m->account, m, &modseq, err) < 0)
        return -1;
    buf_init(&b, ENGINE_RECORD_MAX);
    while (done < n) {
        buf_clear(&b);
        buf_u64(&b, modseq);
        put_changes(m, c, n, &done, &b);
        if (b.n == 8)
            continue;
        if (index_append_buf(m, IR_FLAGS | ENGINE_MUST_UNDERSTAND, buf_view(&b),
                             err) < 0)
            return -1;
        CHECK(index_apply(m, IR_FLAGS, buf_view(&b), 0));
    }
    if (modseq_out)
        *modseq_out = modseq;
    mailbox_changed(m);
    tidy_later(m);
    return 0;
}

/* Their ids first: should the log of the index get lost, they must be known
 * before the files go.  What came long ago cannot come again. */
static int remember_ids(struct store_mailbox *m, const uint32_t *uids, size_t n,
                        struct err *err)
{
    uint8_t(*ids)[ID_BYTES] = xcalloc(n + 1, ID_BYTES);
    size_t n_ids = 0;
    int rc = 0;

    for (size_t i = 0; i < n; i++) {
        size_t r = row_find(m, uids[i]);
        struct row row;

        if (r >= rows_count(m))
            continue;
        row_load(m, r, &row);
        if (!id_is_zero(row.id) && account_may_retry(m->account, row.sdate))
            memcpy(ids[n_ids++], row.id, ID_BYTES);
    }
    if (n_ids > 0)
        rc = account_gone(m->account, (const uint8_t(*)[ID_BYTES])ids, n_ids,
                          err);
    free(ids);
    /* A full disk must be emptied.  What it costs: a delivery of these days
     * that was never reported to its queue would come again. */
    if (rc < 0 && err && (err->sys == ENOSPC || err->sys == EDQUOT)) {
        store_note(m->account, "ids of expunged mail not kept: %s", err->log);
        rc = 0;
    }
    return rc;
}

static int append_expunge(struct store_mailbox *m, slice payload,
                          struct err *err)
{
    uint16_t type = IR_EXPUNGE | ENGINE_MUST_UNDERSTAND;
    size_t left = m->n_doomed;
    size_t before;

    if (index_append_buf(m, type, payload, err) == 0)
        return 0;
    if (!err || (err->sys != ENOSPC && err->sys != EDQUOT) || left == 0)
        return -1;
    /* The reserve is used up: what was expunged before makes room. */
    do {
        before = left;
        left = store_mailbox_tidy(m, before);
    } while (left > 0 && left < before);
    return index_append_buf(m, type, payload, err);
}

int store_expunge(struct store_mailbox *m, const uint32_t *uids, size_t n,
                  uint64_t *modseq_out, struct err *err)
{
    struct buf b CLEANUP(buf_done) = { 0 };
    uint64_t modseq;
    size_t done = 0;

    CHECK_OBJ(m, MAILBOX_MAGIC);
    if (remember_ids(m, uids, n, err) < 0 ||
        account_next_modseq(m->account, m, &modseq, err) < 0)
        return -1;
    buf_init(&b, EXPUNGE_BYTES);
    while (done < n) {
        buf_clear(&b);
        buf_u64(&b, modseq);
        buf_u64(&b, (uint64_t)(clock_wall() / 1000));
        for (; done < n && b.n < EXPUNGE_BYTES; done++)
            if (row_find(m, uids[done]) < rows_count(m))
                buf_u32(&b, uids[done]);
        if (b.n == 16)
            continue;
        if (append_expunge(m, buf_view(&b), err) < 0)
            return -1;
        CHECK(index_apply(m, IR_EXPUNGE, buf_view(&b), 0));
    }
    if (modseq_out)
        *modseq_out = modseq;
    mailbox_changed(m);
    tidy_later(m);
    return 0;
}

/* ---- bodies ---- */

int store_open_body(struct store_mailbox *m, uint32_t uid, int *fd_out,
                    struct err *err)
{
    char path[PATH_IN_DIR_MAX + 64];
    uint64_t size;

    CHECK_OBJ(m, MAILBOX_MAGIC);
    for (int tries = 0; tries < 3; tries++) {
        size_t r = row_find(m, uid);
        enum engine_outcome o;

        if (r >= rows_count(m))
            return err_perm(err, "message is gone");
        if (ROW_FIELD(m, r, state) & ROW_ODD_NAME) {
            if (!find_by_base(m, row_name(m, r), path, sizeof path))
                return err_temp(err, "file of UID %u is not found", uid);
        } else if (!row_path(m, r, path, sizeof path)) {
            return err_temp(err, "file name of UID %u is too long", uid);
        }
        o = engine_get(m->account->dir, path, fd_out, &size, err);
        if (o == ENGINE_OK)
            return 0;
        if (o != ENGINE_NOENT)
            return store_fail(o, err, "open message in", m->name);
        if (mailbox_scan(m, SCAN_FORCE, err) < 0)
            return -1;
    }
    return err_temp(err, "file of UID %u in %s keeps moving", uid, m->name);
}
