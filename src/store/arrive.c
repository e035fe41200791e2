#include "store/store_priv.h"

/*
 * Several messages arrive in a mailbox together, or none of them: what COPY and
 * APPEND have in common.  Their files are put into place first, which may
 * yield; meanwhile no scan takes them for a stranger's
 * (store_mailbox.arriving). Then their records go into the index without a wait
 * in between.
 */

bool arrival_path(const struct store_mailbox *to, const struct arrival *a,
                  char *dst, size_t size)
{
    return file_path(to, slice_str(a->base), a->row.letters, a->row.state, dst,
                     size);
}

void arrival_name(struct store_mailbox *to, struct arrival *a)
{
    struct row *row = &a->row;
    struct name_parts parts = {
        .usec = row->idate > 0 && row->idate < INT64_C(1) << 40
                    ? row->idate * 1000000 + (int64_t)(random_u64() % 1000000)
                    : 0,
        .crc = row->crc,
        .no_crc = row->crc == 0,
        .size = row->size,
        .crlf_size = row->crlf_size,
        .host = to->account->store->host
    };

    if (id_is_zero(a->id))
        random_bytes(row->id, ID_BYTES);
    else
        memcpy(row->id, a->id, ID_BYTES);
    memcpy(parts.id, row->id, ID_BYTES);
    base_name_make(a->base, sizeof a->base, &parts);
    row->sdate = clock_wall() / 1000;
    row->letters = letters_of(row->flags, row->keywords);
    row->state = ROW_HAS_INFO;
}

static void expunge_recorded(struct store_mailbox *to,
                             const struct arrival *list, size_t n)
{
    struct buf b CLEANUP(buf_done) = { 0 };
    uint64_t modseq;
    struct err err;

    if (account_next_modseq(to->account, to, &modseq, &err) < 0)
        return;
    for (size_t i = 0; i < n;) {
        buf_done(&b);
        buf_init(&b, 4000);
        buf_u64(&b, modseq);
        buf_u64(&b, (uint64_t)(clock_wall() / 1000));
        for (; i < n && b.n < 3600; i++)
            if (list[i].recorded)
                buf_u32(&b, list[i].row.uid);
        if (b.n > 16 &&
            index_append_buf(to, IR_EXPUNGE | ENGINE_MUST_UNDERSTAND,
                             buf_view(&b), &err) == 0)
            (void)index_apply(to, IR_EXPUNGE, buf_view(&b), 0);
    }
}

void arrival_undo(struct store_mailbox *to, struct arrival *list, size_t n)
{
    char path[PATH_IN_DIR_MAX + 64];

    expunge_recorded(to, list, n); /* tidying takes their files */
    for (size_t i = 0; i < n; i++) {
        struct arrival *a = &list[i];

        if (a->placed && !a->recorded && arrival_path(to, a, path, sizeof path))
            (void)engine_unlink(to->account->dir, path, NULL);
        a->placed = a->recorded = false;
    }
    mailbox_changed(to);
}

int arrival_record(struct store_mailbox *to, struct arrival *list, size_t n,
                   struct err *err)
{
    struct add_batch b;
    int rc = 0;

    if (mailbox_check_there(to, err) < 0) {
        arrival_undo(to, list, n);
        return -1;
    }
    add_batch_init(&b, to);
    for (size_t i = 0; i < n && rc == 0; i++) {
        struct arrival *a = &list[i];

        CHECK(a->placed);
        a->row.uid = 0;
        rc = add_batch_put(&b, &a->row, slice_str(a->base), a->strings, err);
    }
    if (rc == 0)
        rc = add_batch_flush(&b, err);
    add_batch_done(&b);
    for (size_t i = 0; i < n; i++)
        list[i].recorded = list[i].row.uid != 0 &&
                           row_find(to, list[i].row.uid) < rows_count(to);
    if (rc < 0)
        arrival_undo(to, list, n);
    return rc;
}

void arrival_begin(struct store_mailbox *to)
{
    to->arriving++;
}

void arrival_end(struct store_mailbox *to)
{
    CHECK(to->arriving > 0);
    to->arriving--;
    mailbox_changed(to);
    mailbox_compact_if_due(to);
}
