#include "local/local_priv.h"

#include "base/digest.h"
#include "store/store.h"

/*
 * The worker's part of `hato mailbox`: what WORKER_MAILBOX asks about an
 * account, as text.
 */

enum {
    TEXT_MAX = 1 << 20,
    TROUBLES_MAX = 100, /* of a mailbox that are named */
    NAMES_MAX = 10000,
};

struct asked {
    struct store_account *account;
    struct buf text;
    struct buf names; /* of mailboxes, each with its NUL */
    size_t n_names;
    uint64_t n_troubles;
};

static void put_name(struct asked *a, slice name)
{
    /* What a stranger named a folder does not steer a terminal. */
    for (size_t i = 0; i < name.n; i++)
        buf_byte(&a->text, (uint8_t)name.p[i] < ' ' ? '?' : name.p[i]);
}

/* ---- list ---- */

static bool list_folder(void *arg, const struct store_folder *f)
{
    static const char *const uses[] = {
        "all",  "archive", "drafts", "flagged",
        "junk", "sent",    "trash",  "important"
    };
    struct asked *a = arg;

    put_name(a, f->name);
    buf_puts(&a->text, f->exists ? "" : " (no mailbox)");
    buf_puts(&a->text, f->subscribed ? " (subscribed)" : "");
    for (size_t i = 0; i < ARRAY_LEN(uses); i++)
        if (f->use >> i & 1)
            buf_printf(&a->text, " (%s)", uses[i]);
    return buf_byte(&a->text, '\n');
}

/* ---- one mailbox ---- */

static void put_status(struct asked *a, struct store_mailbox *m)
{
    struct store_status st;

    store_mailbox_status(m, &st);
    put_name(a, store_mailbox_name(m));
    buf_printf(&a->text,
               ": %" PRIu64 " messages, %" PRIu64 " unseen, %" PRIu64
               " bytes, UIDVALIDITY %u, UIDNEXT %u, HIGHESTMODSEQ %" PRIu64
               ", MAILBOXID ",
               st.messages, st.unseen, st.bytes, st.uidvalidity, st.uidnext,
               st.highestmodseq);
    hex_put(&a->text, slice_of(st.guid, sizeof st.guid));
    buf_byte(&a->text, '\n');
}

static void on_trouble(void *arg, uint32_t uid, const char *what)
{
    struct asked *a = arg;

    if (a->n_troubles++ < TROUBLES_MAX)
        buf_printf(&a->text, "  UID %u %s\n", uid, what);
}

MAY_WAIT static int check(struct asked *a, struct store_mailbox *m,
                          struct err *err)
{
    put_status(a, m);
    a->n_troubles = 0;
    if (store_mailbox_check(m, on_trouble, a, err) < 0)
        return -1;
    if (a->n_troubles == 0)
        buf_puts(&a->text, "  every message has its file\n");
    else
        buf_printf(&a->text, "  %" PRIu64 " troubles\n", a->n_troubles);
    return 0;
}

MAY_WAIT static int rebuild(struct asked *a, struct store_mailbox *m,
                            struct err *err)
{
    if (store_mailbox_rebuild(m, err) < 0 || store_mailbox_durable(m, err) < 0)
        return -1;
    put_status(a, m);
    return 0;
}

MAY_WAIT static int one_mailbox(struct asked *a, slice what, slice name,
                                struct err *err)
{
    struct store_mailbox *m = NULL;
    int rc = 0;

    if (store_mailbox_open(a->account, name, 0, &m, err) < 0)
        return -1;
    if (slice_eqs(what, "check")) {
        rc = check(a, m, err);
    } else if (slice_eqs(what, "rebuild")) {
        rc = rebuild(a, m, err);
    } else {
        rc = store_mailbox_sync(m, false, err);
        put_status(a, m);
    }
    store_mailbox_unref(&m);
    return rc;
}

/* ---- all of them ---- */

static bool collect(void *arg, slice name)
{
    struct asked *a = arg;

    buf_slice(&a->names, name);
    return buf_byte(&a->names, '\0') && ++a->n_names < NAMES_MAX;
}

MAY_WAIT static int all_mailboxes(struct asked *a, slice what, struct err *err)
{
    slice rest, name;

    if (store_mailbox_list(a->account, collect, a, err) < 0)
        return -1;
    rest = buf_view(&a->names);
    while (slice_cut(&rest, '\0', &name)) {
        if (one_mailbox(a, what, name, err) == 0)
            continue;
        put_name(a, name);
        buf_printf(&a->text, ": %s\n", err->log);
    }
    return 0;
}

MAY_WAIT static int answer(struct asked *a, slice what, slice name,
                           struct err *err)
{
    if (slice_eqs(what, "list"))
        return store_folders(a->account, list_folder, a, err);
    if (!slice_eqs(what, "status") && !slice_eqs(what, "check") &&
        !slice_eqs(what, "rebuild"))
        return err_perm(err, "a worker does not know this question");
    return name.n > 0 ? one_mailbox(a, what, name, err)
                      : all_mailboxes(a, what, err);
}

void local_mailboxes_serve(struct chan *c, struct msg *m, struct store *store)
{
    slice what = SLICE_NONE, user = SLICE_NONE, mail = SLICE_NONE;
    slice name = SLICE_NONE;
    struct chan *held = chan_ref(c);
    struct asked a = { 0 };
    struct buf reply;
    struct err err;

    (void)attr_find(m->body, AT_NAME, &what);
    (void)attr_find(m->body, AT_USER, &user);
    (void)attr_find(m->body, AT_MAIL, &mail);
    (void)attr_find(m->body, AT_PATH, &name);
    buf_init(&a.text, TEXT_MAX);
    buf_init(&a.names, TEXT_MAX);
    buf_init(&reply, TEXT_MAX + 64);
    if (store_account_open(store, user, mail, false, &a.account, &err) < 0 ||
        answer(&a, what, name, &err) < 0) {
        chan_fail(held, m->id, &err);
    } else {
        (void)attr_put(&reply, AT_TEXT, buf_view(&a.text));
        chan_answer(held, m->id, buf_view(&reply), NULL, 0);
    }
    store_account_unref(&a.account);
    buf_done(&a.text);
    buf_done(&a.names);
    buf_done(&reply);
    chan_unref(&held);
}
