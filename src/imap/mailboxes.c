/* CREATE, DELETE, RENAME, SUBSCRIBE, UNSUBSCRIBE, NAMESPACE, STATUS: RFC 3501
 * 6.3.3 to 6.3.7 and 6.3.10, RFC 2342, RFC 6154 3, RFC 8438, RFC 8474 4. */
#include "imap/mailboxes.h"

#include "base/digest.h"

static const struct {
    const char *name;
    unsigned use;
} uses[] = {
    { "\\All", STORE_USE_ALL },       { "\\Archive", STORE_USE_ARCHIVE },
    { "\\Drafts", STORE_USE_DRAFTS }, { "\\Flagged", STORE_USE_FLAGGED },
    { "\\Junk", STORE_USE_JUNK },     { "\\Sent", STORE_USE_SENT },
    { "\\Trash", STORE_USE_TRASH },   { "\\Important", STORE_USE_IMPORTANT },
};

const char *imap_use_name(size_t i, unsigned *use)
{
    if (i >= ARRAY_LEN(uses))
        return NULL;
    *use = uses[i].use;
    return uses[i].name;
}

static bool use_of(slice word, unsigned *use)
{
    for (size_t i = 0; i < ARRAY_LEN(uses); i++)
        if (slice_ieqs(word, uses[i].name)) {
            *use |= uses[i].use;
            return true;
        }
    return false;
}

/* The name, and nothing behind it. */
static bool only_mailbox(struct imap_cmd *c, slice *name)
{
    return imap_sp(&c->in) && imap_mailbox(&c->in, name) && imap_end(&c->in);
}

/* "foo." of CREATE means that names below it will follow (RFC 3501 6.3.3). */
static slice without_separator(slice name)
{
    while (name.n > 1 && name.p[name.n - 1] == '.')
        name.n--;
    return name;
}

/* ------------------------------------------------------------------ CREATE */

/* " (USE (\Sent \Drafts))"; 0 when some attribute is none: *bad. */
static bool create_uses(struct imap_cmd *c, unsigned *use, bool *bad)
{
    slice word;

    if (!imap_sp(&c->in) || !imap_eat(&c->in, '(') ||
        !imap_eat_word(&c->in, "USE") || !imap_sp(&c->in) ||
        !imap_eat(&c->in, '('))
        return false;
    while (!imap_eat(&c->in, ')')) {
        const char *start = c->in.rest.p;

        if (!imap_eat(&c->in, '\\') || !imap_atom(&c->in, &word))
            return false;
        word = slice_of(start, word.n + 1);
        *bad = *bad || !use_of(word, use);
        (void)imap_sp(&c->in);
    }
    return imap_eat(&c->in, ')') && imap_end(&c->in);
}

MAY_WAIT static void created(struct imap_cmd *c, slice name)
{
    struct store_mailbox *m;
    struct store_status st;
    struct err err;

    /* RFC 8474 4.2 */
    if (imap_open(c->s, name, &m, &err) < 0) {
        imap_ok(c, NULL, "Create completed.");
        return;
    }
    store_mailbox_status(m, &st);
    store_mailbox_unref(&m);
    imap_answer_begin(c, IMAP_OK);
    (void)buf_puts(&c->text, "[MAILBOXID (");
    (void)hex_put(&c->text, slice_of(st.guid, sizeof st.guid));
    (void)buf_puts(&c->text, ")] Create completed.");
}

MAY_WAIT static void cmd_create(struct imap_cmd *c)
{
    struct imap_session *s = c->s;
    bool bad_use = false;
    unsigned use = 0;
    struct err err;
    slice name;

    if (!imap_sp(&c->in) || !imap_mailbox(&c->in, &name) ||
        (!imap_end(&c->in) && !create_uses(c, &use, &bad_use)))
        return;
    if (bad_use) {
        imap_no(c, "USEATTR", "Unsupported special use.");
        return;
    }
    name = without_separator(name);
    if (imap_account(s, &err) < 0 ||
        store_folder_create(s->account, name, use, &err) < 0)
        imap_fail(c, &err);
    else
        created(c, name);
}

/* ---------------------------------------------------------- DELETE, RENAME */

static bool is_selected(const struct imap_session *s, slice name)
{
    return s->selected != NULL &&
           slice_eq(store_mailbox_name(s->selected->view.mailbox), name);
}

MAY_WAIT static void cmd_delete(struct imap_cmd *c)
{
    struct imap_session *s = c->s;
    struct err err;
    slice name;

    if (!only_mailbox(c, &name))
        return;
    if (slice_eqs(name, "INBOX")) {
        imap_no(c, "CANNOT", "INBOX can't be deleted.");
        return;
    }
    if (imap_account(s, &err) < 0) {
        imap_fail(c, &err);
        return;
    }
    /* As Dovecot: a client that deletes what it has selected has left it. */
    if (is_selected(s, name))
        imap_unselect(s);
    if (store_folder_delete(s->account, name, &err) < 0)
        imap_fail(c, &err);
    else
        imap_ok(c, NULL, "Delete completed.");
}

MAY_WAIT static void cmd_rename(struct imap_cmd *c)
{
    struct imap_session *s = c->s;
    struct err err;
    slice from, to;

    if (!imap_sp(&c->in) || !imap_mailbox(&c->in, &from) ||
        !only_mailbox(c, &to))
        return;
    to = without_separator(to);
    if (imap_account(s, &err) < 0 ||
        store_folder_rename(s->account, from, to, &err) < 0)
        imap_fail(c, &err);
    else
        imap_ok(c, NULL, "Rename completed.");
}

/* ----------------------------------------------------------- subscriptions */

static void subscribe(struct imap_cmd *c, bool on)
{
    struct err err;
    slice name;

    if (!only_mailbox(c, &name))
        return;
    name = without_separator(name);
    if (imap_account(c->s, &err) < 0 ||
        store_subscribe(c->s->account, name, on, &err) < 0)
        imap_fail(c, &err);
    else
        imap_ok(c, NULL,
                on ? "Subscribe completed." : "Unsubscribe completed.");
}

static void cmd_subscribe(struct imap_cmd *c)
{
    subscribe(c, true);
}

static void cmd_unsubscribe(struct imap_cmd *c)
{
    subscribe(c, false);
}

static void cmd_namespace(struct imap_cmd *c)
{
    if (!imap_end(&c->in))
        return;
    imap_says(c->s, "* NAMESPACE ((\"\" \".\")) NIL NIL\r\n");
    imap_ok(c, NULL, "Namespace completed.");
}

/* ------------------------------------------------------------------ STATUS */

static const struct {
    const char *name;
    unsigned item;
} status_items[] = {
    { "MESSAGES", IMAP_ST_MESSAGES },
    { "RECENT", IMAP_ST_RECENT },
    { "UIDNEXT", IMAP_ST_UIDNEXT },
    { "UIDVALIDITY", IMAP_ST_UIDVALIDITY },
    { "UNSEEN", IMAP_ST_UNSEEN },
    { "DELETED", IMAP_ST_DELETED },
    { "SIZE", IMAP_ST_SIZE },
    { "HIGHESTMODSEQ", IMAP_ST_MODSEQ },
    { "APPENDLIMIT", IMAP_ST_APPENDLIMIT },
    { "MAILBOXID", IMAP_ST_MAILBOXID },
};

bool imap_status_items(struct imap_cursor *in, unsigned *items)
{
    slice word;

    *items = 0;
    if (!imap_eat(in, '('))
        return false;
    do {
        unsigned item = 0;

        if (!imap_atom(in, &word))
            return false;
        for (size_t i = 0; i < ARRAY_LEN(status_items); i++)
            if (slice_ieqs(word, status_items[i].name))
                item = status_items[i].item;
        if (item == 0)
            return false;
        *items |= item;
    } while (imap_sp(in));
    return imap_eat(in, ')');
}

static uint64_t recent_of(struct store_mailbox *m)
{
    uint64_t n = 0;

    for (size_t row = store_row_at(m, store_mailbox_recent(m, false));
         row < store_rows(m); row++)
        n += store_row_uid(m, row) != 0;
    return n;
}

/* RFC822.SIZEs of what strangers put there are not known until asked for. */
MAY_WAIT static void fill_sizes(struct imap_session *s, struct store_mailbox *m)
{
    struct err err;

    for (size_t row = 0; row < store_rows(m); row++) {
        uint32_t uid = store_row_uid(m, row);

        if (uid == 0 || store_row_crlf_size(m, row) != 0)
            continue;
        if (store_fill(m, uid, &err) < 0)
            log_warning("size of a message: %s", err.log);
        imap_pause(s);
    }
}

static void one_item(struct imap_session *s, struct store_mailbox *m,
                     const struct store_status *st, unsigned item)
{
    switch (item) {
    case IMAP_ST_MESSAGES:
        imap_say_u64(s, st->messages);
        return;
    case IMAP_ST_RECENT:
        imap_say_u64(s, recent_of(m));
        return;
    case IMAP_ST_UIDNEXT:
        imap_say_u64(s, st->uidnext);
        return;
    case IMAP_ST_UIDVALIDITY:
        imap_say_u64(s, st->uidvalidity);
        return;
    case IMAP_ST_UNSEEN:
        imap_say_u64(s, st->unseen);
        return;
    case IMAP_ST_DELETED:
        imap_say_u64(s, st->deleted);
        return;
    case IMAP_ST_SIZE:
        imap_say_u64(s, st->bytes);
        return;
    case IMAP_ST_MODSEQ:
        imap_say_u64(s, st->highestmodseq > 0 ? st->highestmodseq : 1);
        return;
    case IMAP_ST_APPENDLIMIT: {
        uint64_t limit = imap_append_limit(s);

        if (limit > 0)
            imap_say_u64(s, limit);
        else
            imap_says(s, "NIL");
        return;
    }
    default:
        imap_says(s, "(");
        (void)hex_put(imap_out(s), slice_of(st->guid, sizeof st->guid));
        imap_says(s, ")");
    }
}

int imap_say_status(struct imap_session *s, slice name, unsigned items,
                    struct err *err)
{
    struct store_mailbox *m;
    struct store_status st;
    const char *space = "";
    int rc;

    if (imap_open(s, name, &m, err) < 0)
        return -1;
    rc = store_mailbox_sync(m, false, err);
    /* Numbers that are told must never be given out again. */
    if (rc == 0 && (items & (IMAP_ST_UIDNEXT | IMAP_ST_MODSEQ)))
        rc = store_mailbox_reserve(m, IMAP_RESERVE, err);
    if (rc < 0) {
        store_mailbox_unref(&m);
        return -1;
    }
    if (items & IMAP_ST_SIZE)
        fill_sizes(s, m);
    store_mailbox_status(m, &st);
    imap_says(s, "* STATUS ");
    imap_say_mailbox(s, name);
    imap_says(s, " (");
    for (size_t i = 0; i < ARRAY_LEN(status_items); i++) {
        if (!(items & status_items[i].item))
            continue;
        imap_says(s, space);
        imap_says(s, status_items[i].name);
        imap_says(s, " ");
        one_item(s, m, &st, status_items[i].item);
        space = " ";
    }
    imap_says(s, ")\r\n");
    store_mailbox_unref(&m);
    return 0;
}

MAY_WAIT static void cmd_status(struct imap_cmd *c)
{
    struct err err;
    unsigned items;
    slice name;

    if (!imap_sp(&c->in) || !imap_mailbox(&c->in, &name) || !imap_sp(&c->in) ||
        !imap_status_items(&c->in, &items) || !imap_end(&c->in))
        return;
    if (items & IMAP_ST_MODSEQ) /* RFC 7162 3.1 */
        imap_use_condstore(c->s);
    if (imap_say_status(c->s, name, items, &err) < 0)
        imap_fail(c, &err);
    else
        imap_ok(c, NULL, "Status completed.");
}

const struct imap_command imap_mailboxes_commands[] = {
    { "CREATE", IMAP_ANY, 0, cmd_create },
    { "DELETE", IMAP_ANY, 0, cmd_delete },
    { "RENAME", IMAP_ANY, 0, cmd_rename },
    { "SUBSCRIBE", IMAP_ANY, 0, cmd_subscribe },
    { "UNSUBSCRIBE", IMAP_ANY, 0, cmd_unsubscribe },
    { "NAMESPACE", IMAP_ANY, IMAP_BESIDE, cmd_namespace },
    { "STATUS", IMAP_ANY, IMAP_BESIDE | IMAP_READS_BOXES | IMAP_READS_FLAGS,
      cmd_status },
    { 0 },
};
