/* News of the selected mailbox, told only here (invariant 3 of imap.h). */
#include "imap/imap_priv.h"

static bool is_recent(const struct imap_selected *sel, uint32_t uid)
{
    return uid >= sel->recent_from;
}

static void tell_expunged(void *arg, uint32_t seq, uint32_t uid UNUSED)
{
    struct imap_session *s = arg;

    imap_says(s, "* ");
    imap_say_u64(s, seq);
    imap_says(s, " EXPUNGE\r\n");
}

static void tell_exists(void *arg, uint32_t messages, size_t first_row)
{
    struct imap_session *s = arg;
    struct imap_selected *sel = s->selected;
    const struct store_mailbox *m = sel->view.mailbox;
    size_t n = store_rows(m);
    uint64_t recent = 0;

    for (size_t row = store_row_at(m, sel->recent_from); row < n; row++)
        recent += store_row_uid(m, row) != 0;
    (void)first_row;
    imap_says(s, "* ");
    imap_say_u64(s, messages);
    imap_says(s, " EXISTS\r\n* ");
    imap_say_u64(s, recent);
    imap_says(s, " RECENT\r\n");
}

static void put_keywords(struct imap_session *s, const struct store_mailbox *m)
{
    size_t n = store_keywords(m);

    for (size_t i = 0; i < n; i++) {
        slice name = store_keyword(m, i);

        if (name.n == 0 || slice_ieqs(name, "$Forwarded"))
            continue;
        imap_says(s, " ");
        imap_say(s, name);
    }
}

void imap_tell_keywords(struct imap_session *s)
{
    struct imap_selected *sel = s->selected;
    const struct store_mailbox *m = sel->view.mailbox;

    if (store_keywords(m) == sel->n_keywords)
        return;
    sel->n_keywords = (uint32_t)store_keywords(m);
    imap_says(s, "* FLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft "
                 "$Forwarded");
    put_keywords(s, m);
    imap_says(s, ")\r\n* OK [PERMANENTFLAGS (");
    if (!sel->is_read_only) {
        imap_says(s, "\\Answered \\Flagged \\Deleted \\Seen \\Draft "
                     "$Forwarded");
        put_keywords(s, m);
        imap_says(s, " \\*)] Flags permitted.\r\n");
    } else {
        imap_says(s, ")] Read-only mailbox.\r\n");
    }
}

/* "* 5 FETCH (UID 7 MODSEQ (9)" as far as it is due; what separates the next
 * item. */
static const char *tell_head(struct imap_session *s, size_t row, uint32_t seq,
                             bool with_uid, bool with_modseq)
{
    const struct store_mailbox *m = s->selected->view.mailbox;
    const char *space = "";

    imap_says(s, "* ");
    imap_say_u64(s, seq);
    imap_says(s, " FETCH (");
    if (with_uid || s->condstore) {
        imap_says(s, "UID ");
        imap_say_u64(s, store_row_uid(m, row));
        space = " ";
    }
    if (with_modseq) {
        imap_says(s, space);
        imap_says(s, "MODSEQ (");
        imap_say_u64(s, store_row_modseq(m, row));
        imap_says(s, ")");
        space = " ";
    }
    return space;
}

void imap_tell_flags(struct imap_session *s, size_t row, uint32_t seq,
                     bool with_uid)
{
    const struct imap_selected *sel = s->selected;
    const struct store_mailbox *m = sel->view.mailbox;

    imap_says(s, tell_head(s, row, seq, with_uid, s->condstore));
    imap_says(s, "FLAGS (");
    imap_say_flags(s, m, store_row_flags(m, row), store_row_keywords(m, row),
                   is_recent(sel, store_row_uid(m, row)));
    imap_says(s, "))\r\n");
}

void imap_tell_modseq(struct imap_session *s, size_t row, uint32_t seq,
                      bool with_uid)
{
    (void)tell_head(s, row, seq, with_uid, true);
    imap_says(s, ")\r\n");
}

static void tell_changed(void *arg, size_t row, uint32_t seq)
{
    imap_tell_flags(arg, row, seq, false);
}

static const struct store_view_ops tell = {
    .expunged = tell_expunged,
    .exists = tell_exists,
    .flags = tell_changed,
};

static void note_modseq(struct imap_selected *sel)
{
    struct store_status st;

    store_mailbox_status(sel->view.mailbox, &st);
    sel->modseq_told = st.highestmodseq;
}

void imap_sync_flags(struct imap_session *s)
{
    struct imap_selected *sel = s->selected;

    if (!(store_view_pending(&sel->view) & STORE_VIEW_FLAGS))
        return;
    imap_tell_keywords(s);
    store_view_sync(&sel->view, STORE_VIEW_FLAGS, &tell, s);
}

bool imap_sync(struct imap_session *s, bool with_expunges)
{
    struct imap_selected *sel = s->selected;
    unsigned what = STORE_VIEW_NEW | STORE_VIEW_FLAGS;
    unsigned pending;
    struct err err;

    s->has_news = false; /* of no mailbox there are none */
    if (sel == NULL)
        return true;
    if (store_mailbox_is_gone(sel->view.mailbox)) {
        imap_bye(s, "Mailbox was deleted.");
        return false;
    }
    if (with_expunges)
        what |= STORE_VIEW_EXPUNGED;
    pending = store_view_pending(&sel->view) & what;
    if (pending == 0)
        return true;
    /* Numbers that are told must never be given out again. */
    if (store_mailbox_reserve(sel->view.mailbox, IMAP_RESERVE, &err) < 0)
        return true; /* told later */
    imap_tell_keywords(s);
    store_view_sync(&sel->view, pending, &tell, s);
    note_modseq(sel);
    return true;
}

void imap_look(struct imap_session *s)
{
    struct err err;

    /* What cannot be read now is found by a later look. */
    if (s->selected != NULL &&
        store_mailbox_sync(s->selected->view.mailbox, false, &err) < 0)
        return;
}

int imap_durable(struct imap_session *s, struct store_mailbox *m,
                 struct err *err)
{
    const struct imap_parts *parts = &s->server->parts;
    struct store_fs v[2];
    size_t n;

    if (s->server->no_sync)
        return 0;
    if (parts->sync == NULL)
        return store_mailbox_durable(m, err);
    n = store_account_places(store_mailbox_account(m), v);
    for (size_t i = 0; i < n; i++)
        if (parts->sync(parts->arg, v[i].fs, v[i].dirfd, err) < 0)
            return -1;
    return 0;
}
