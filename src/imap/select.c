/* SELECT, EXAMINE, CLOSE, UNSELECT: RFC 3501 6.3.1, 6.4.2, RFC 3691; CONDSTORE
 * of SELECT: RFC 7162 3.1.8. */
#include "imap/imap_priv.h"

#include "base/digest.h"

int imap_account(struct imap_session *s, struct err *err)
{
    if (s->account != NULL)
        return 0;
    return store_account_open(s->server->parts.store, s->user, s->mail, true,
                              &s->account, err);
}

int imap_open(struct imap_session *s, slice name, struct store_mailbox **out,
              struct err *err)
{
    if (imap_account(s, err) < 0)
        return -1;
    if (store_mailbox_open(s->account, name, 0, out, err) == 0)
        return 0;
    /* No such mailbox, or a name that none can have: it is not there. */
    if (err->class == ERR_PERM && err->sys == 0)
        err->sys = ENOENT;
    return -1;
}

/* Carry flags into file names and unlink what was expunged, a piece at a time:
 * when a client leaves a mailbox nobody waits for it. */
static void tidy(struct store_mailbox *m)
{
    enum { TIDY_OPS = 64 };

    if (!store_mailbox_is_gone(m))
        (void)store_mailbox_tidy(m, TIDY_OPS);
}

void imap_unselect(struct imap_session *s)
{
    struct imap_selected *sel = s->selected;

    if (sel == NULL)
        return;
    s->selected = NULL;
    store_watch_del(&sel->watch);
    if (!sel->is_read_only)
        tidy(sel->view.mailbox);
    store_view_close(&sel->view);
    buf_done(&sel->missing);
    free(sel);
}

static void on_change(struct store_watch *w, struct store_mailbox *m UNUSED)
{
    imap_session_news(CONTAINER_OF(w, struct imap_selected, watch)->session);
}

/* Sequence number of the first message without \Seen, or 0. */
static uint32_t first_unseen(struct imap_selected *sel)
{
    const struct store_mailbox *m = sel->view.mailbox;
    struct store_status st;
    uint32_t seq = 0;

    store_mailbox_status(m, &st);
    if (st.unseen == 0)
        return 0;
    for (size_t row = store_view_next(&sel->view, 0); row < sel->view.rows;
         row = store_view_next(&sel->view, row + 1)) {
        seq++;
        if (!(store_row_flags(m, row) & STORE_SEEN))
            return seq;
    }
    return 0;
}

static void code(struct imap_session *s, const char *name, uint64_t n,
                 const char *text)
{
    imap_says(s, "* OK [");
    imap_says(s, name);
    imap_says(s, " ");
    imap_say_u64(s, n);
    imap_says(s, text);
}

static void say_mailbox_id(struct imap_session *s, const uint8_t *guid)
{
    imap_says(s, "* OK [MAILBOXID (");
    (void)hex_put(imap_out(s), slice_of(guid, 16));
    imap_says(s, ")] Ok\r\n");
}

/* What SELECT has to tell, in Dovecot's order. */
static void describe(struct imap_session *s)
{
    struct imap_selected *sel = s->selected;
    struct store_mailbox *m = sel->view.mailbox;
    struct store_status st;
    uint64_t recent = 0;
    uint32_t unseen;

    store_mailbox_status(m, &st);
    for (size_t row = store_row_at(m, sel->recent_from); row < store_rows(m);
         row++)
        recent += store_row_uid(m, row) != 0;
    imap_tell_keywords(s);
    imap_says(s, "* ");
    imap_say_u64(s, store_view_messages(&sel->view));
    imap_says(s, " EXISTS\r\n* ");
    imap_say_u64(s, recent);
    imap_says(s, " RECENT\r\n");
    unseen = first_unseen(sel);
    if (unseen > 0)
        code(s, "UNSEEN", unseen, "] First unseen.\r\n");
    code(s, "UIDVALIDITY", st.uidvalidity, "] UIDs valid\r\n");
    code(s, "UIDNEXT", st.uidnext, "] Predicted next UID\r\n");
    /* RFC 7162: MODSEQs are above 0. */
    code(s, "HIGHESTMODSEQ", st.highestmodseq > 0 ? st.highestmodseq : 1,
         "] Highest\r\n");
    say_mailbox_id(s, st.guid);
    sel->modseq_told = st.highestmodseq;
}

int imap_select(struct imap_session *s, slice name, bool read_only,
                struct err *err)
{
    struct store_mailbox *m;
    struct imap_selected *sel;

    if (imap_open(s, name, &m, err) < 0)
        return -1;
    if (store_mailbox_sync(m, false, err) < 0 ||
        store_mailbox_reserve(m, IMAP_RESERVE, err) < 0) {
        store_mailbox_unref(&m);
        return -1;
    }
    sel = xcalloc(1, sizeof *sel);
    sel->session = s;
    sel->is_read_only = read_only;
    sel->n_keywords = UINT32_MAX;
    sel->watch.fn = on_change;
    buf_init(&sel->missing, (size_t)1 << 30);
    store_view_open(&sel->view, m);
    store_watch_add(m, &sel->watch);
    sel->recent_from = store_mailbox_recent(m, !read_only);
    store_mailbox_unref(&m);
    s->selected = sel;
    s->has_news = false;
    return 0;
}

/* "(CONDSTORE)"; other parameters are nothing we know. */
static bool parameters(struct imap_cmd *c)
{
    slice word;

    if (!imap_sp(&c->in) || !imap_eat(&c->in, '('))
        return false;
    do {
        if (!imap_atom(&c->in, &word))
            return false;
        if (!slice_ieqs(word, "CONDSTORE"))
            return false;
        imap_use_condstore(c->s);
    } while (imap_sp(&c->in));
    return imap_eat(&c->in, ')') && imap_end(&c->in);
}

MAY_WAIT static void open_mailbox(struct imap_cmd *c, bool read_only)
{
    struct imap_session *s = c->s;
    struct err err;
    slice name;
    bool was_open = s->selected != NULL;

    if (!imap_sp(&c->in) || !imap_mailbox(&c->in, &name)) {
        imap_bad(c, "Missing mailbox name.");
        return;
    }
    if (!imap_end(&c->in) && !parameters(c)) {
        imap_bad(c, "Unknown parameter.");
        return;
    }
    /* RFC 3501 6.3.1: also when the new one cannot be opened. */
    imap_unselect(s);
    if (was_open)
        imap_says(s, "* OK [CLOSED] Previous mailbox closed.\r\n");
    if (imap_select(s, name, read_only, &err) < 0) {
        imap_fail(c, &err);
        return;
    }
    describe(s);
    if (read_only)
        imap_ok(c, "READ-ONLY", "Examine completed.");
    else
        imap_ok(c, "READ-WRITE", "Select completed.");
}

MAY_WAIT static void cmd_select(struct imap_cmd *c)
{
    open_mailbox(c, false);
}

MAY_WAIT static void cmd_examine(struct imap_cmd *c)
{
    open_mailbox(c, true);
}

MAY_WAIT static void cmd_close(struct imap_cmd *c)
{
    struct err err;

    if (!c->s->selected->is_read_only &&
        imap_expunge_deleted(c->s, NULL, &err) < 0) {
        imap_fail(c, &err);
        return;
    }
    imap_unselect(c->s);
    imap_ok(c, NULL, "Close completed.");
}

static void cmd_unselect(struct imap_cmd *c)
{
    imap_unselect(c->s);
    imap_ok(c, NULL, "Unselect completed.");
}

const struct imap_command imap_select_commands[] = {
    { "SELECT", IMAP_ANY, IMAP_NO_SYNC, cmd_select },
    { "EXAMINE", IMAP_ANY, IMAP_NO_SYNC, cmd_examine },
    { "CLOSE", IMAP_SELECTED, IMAP_NO_SYNC, cmd_close },
    { "UNSELECT", IMAP_SELECTED, IMAP_NO_SYNC, cmd_unselect },
    { 0 },
};
