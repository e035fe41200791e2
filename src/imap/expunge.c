/* EXPUNGE and UID EXPUNGE: RFC 3501 6.4.3, RFC 4315 2.1. */
#include "imap/imap_priv.h"

/* UIDs of those to go: \Deleted, in the view and in `uids` if given. */
static size_t collect(struct imap_session *s, struct imap_set *uids,
                      uint32_t **out)
{
    struct store_view *v = &s->selected->view;
    const struct store_mailbox *m = v->mailbox;
    struct store_status st;
    uint32_t *list;
    size_t n = 0;

    *out = NULL;
    store_mailbox_status(m, &st);
    if (st.deleted == 0)
        return 0;
    list = xcalloc((size_t)st.deleted, sizeof *list);
    for (size_t row = 0; row < v->rows && n < st.deleted; row++) {
        uint32_t uid = store_row_uid(m, row);

        if (uid != 0 && (store_row_flags(m, row) & STORE_DELETED) &&
            (uids == NULL || imap_set_has(uids, uid)))
            list[n++] = uid;
    }
    *out = list;
    return n;
}

int imap_expunge_deleted(struct imap_session *s, struct imap_set *uids,
                         struct err *err)
{
    struct store_mailbox *m = s->selected->view.mailbox;
    uint32_t *list;
    size_t n = collect(s, uids, &list);
    uint64_t modseq;
    int rc = 0;

    if (n > 0)
        rc = store_expunge(m, list, n, &modseq, err);
    free(list);
    if (n == 0 || rc < 0)
        return rc;
    s->n_expunged += n;
    return imap_durable(s, m, err);
}

MAY_WAIT static void expunge(struct imap_cmd *c, struct imap_set *uids)
{
    struct imap_session *s = c->s;
    struct err err;
    char code[64];

    if (s->selected->is_read_only) {
        imap_no(c, "READ-ONLY", "Mailbox is read-only.");
        return;
    }
    if (imap_expunge_deleted(s, uids, &err) < 0) {
        imap_fail(c, &err);
        return;
    }
    if (!imap_sync(s, true)) {
        c->no_sync = true;
        return;
    }
    if (s->condstore) { /* RFC 7162 3.2.7 */
        (void)snprintf(code, sizeof code, "HIGHESTMODSEQ %" PRIu64,
                       s->selected->modseq_told);
        imap_ok(c, code, "Expunge completed.");
    } else {
        imap_ok(c, NULL, "Expunge completed.");
    }
}

MAY_WAIT static void cmd_expunge(struct imap_cmd *c)
{
    struct imap_set uids = { 0 };
    bool ok = true;

    if (c->is_uid)
        ok = imap_sp(&c->in) && imap_set_parse(&c->in, UINT32_MAX, &uids);
    if (!ok || !imap_end(&c->in)) {
        imap_bad(c, "Invalid arguments.");
        return;
    }
    expunge(c, c->is_uid ? &uids : NULL);
}

const struct imap_command imap_expunge_commands[] = {
    { "EXPUNGE", IMAP_SELECTED, IMAP_UID, cmd_expunge },
    { 0 },
};
