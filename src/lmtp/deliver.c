#include "lmtp/server_priv.h"

#include "rt/file.h"

#include <sys/mman.h>

/* ---- answers */

void lmtp_target_fail(struct lmtp_tx *tx, struct lmtp_target *t,
                      const struct err *err)
{
    bool temp = err->class != ERR_PERM;

    t->code = temp ? 451 : 550;
    t->status = temp ? "4.3.0" : "5.2.0";
    if (err->status[0] != '\0') {
        char *copy = slice_cstr(tx->arena, slice_str(err->status));

        if (copy != NULL)
            t->status = copy;
    }
    t->text = slice_dup(tx->arena,
                        slice_str(err->log[0] != '\0' ? err->log : err->peer));
}

static void answer_done(struct lmtp_tx *tx, struct lmtp_target *t, bool durable,
                        uint64_t fs, const char *what)
{
    char *text = arena_printf(tx->arena, "%s fs=%" PRIx64 " %s",
                              durable ? "XDURABLE" : "XVISIBLE", fs, what);

    t->code = 250;
    t->status = "2.0.0";
    t->text = slice_str(text);
}

static void fail(struct lmtp_tx *tx, const struct err *err)
{
    if (!tx->is_failed) {
        tx->is_failed = true;
        tx->why = *err;
    }
}

/* ---- mailboxes */

static slice external(struct arena *a, slice internal)
{
    struct buf b;
    slice out = SLICE_NONE;

    if (internal.n == 0)
        return out;
    buf_init(&b, (size_t)4 * MAIL_ADDRESS_MAX);
    if (mail_addr_quote(&b, internal))
        out = slice_dup(a, buf_view(&b));
    buf_done(&b);
    return out;
}

static void begin_mailboxes(struct lmtp_server *server, struct lmtp_tx *tx)
{
    struct store_message msg = {
        .return_path = external(tx->arena, tx->sender),
        .arrival_usec = (int64_t)tx->arrival_ms * 1000,
        .size_hint = tx->size,
    };
    struct err err;

    tx->rcpts = arena_alloc(tx->arena, tx->n_targets * sizeof *tx->rcpts);
    if (tx->rcpts == NULL) {
        err_temp(&err, "too many recipients");
        fail(tx, &err);
        return;
    }
    for (size_t i = 0; i < tx->n_targets; i++) {
        struct lmtp_target *t = &tx->targets[i];
        struct store_rcpt *r = &tx->rcpts[i];

        r->user = t->user;
        r->location = t->mail;
        r->has_id = t->has_id;
        memcpy(r->id, t->id, sizeof r->id);
        r->delivered_to = external(tx->arena, t->addr);
        r->orig_to = t->orig;
    }
    tx->draft =
        store_draft_new(server->parts.store, &msg, tx->rcpts, tx->n_targets);
}

/* The broker must know a file system before it is asked to sync it. */
static void tell_fs(struct lmtp_server *server, const struct store_rcpt *r)
{
    struct store_account *account;
    struct err err;
    size_t i = 0;

    if (server->parts.on_fs == NULL)
        return;
    while (i < LMTP_FS_MAX && server->told_fs[i] != 0)
        if (server->told_fs[i++] == r->fs + 1)
            return;
    if (store_account_open(server->parts.store, r->user, r->location, false,
                           &account, &err) < 0)
        return;
    server->parts.on_fs(server->parts.arg, r->fs, store_account_fd(account));
    store_account_unref(&account);
    if (i < LMTP_FS_MAX)
        server->told_fs[i] = r->fs + 1;
}

MAY_WAIT static void finish_mailboxes(struct lmtp_server *server,
                                      struct lmtp_tx *tx)
{
    store_deliver(&tx->draft);
    for (size_t i = 0; i < tx->n_targets; i++) {
        struct lmtp_target *t = &tx->targets[i];
        const struct store_rcpt *r = &tx->rcpts[i];

        if (r->failed) {
            lmtp_target_fail(tx, t, &r->err);
            continue;
        }
        server->n_delivered++;
        if (!r->durable)
            tell_fs(server, r);
        answer_done(tx, t, r->durable, r->fs,
                    r->duplicate ? "duplicate" : "stored");
    }
}

/* ---- files */

static unsigned locks_of(const struct conf *conf)
{
    slice list = conf_slice(conf, NULL, "mailbox_delivery_lock");
    slice word;
    unsigned locks = 0;

    while (conf_list_next(&list, &word)) {
        if (slice_ieqs(word, "fcntl"))
            locks |= STORE_LOCK_FCNTL;
        else if (slice_ieqs(word, "flock"))
            locks |= STORE_LOCK_FLOCK;
        else if (slice_ieqs(word, "dotlock"))
            locks |= STORE_LOCK_DOTLOCK;
    }
    return locks;
}

MAY_WAIT static void finish_file(struct lmtp_server *server, struct lmtp_tx *tx)
{
    const struct conf *conf = server->parts.conf;
    struct lmtp_target *t = &tx->targets[0];
    struct store_append a = {
        .path = slice_cstr(tx->arena, t->arg),
        .return_path = external(tx->arena, tx->sender),
        .envelope_from = external(tx->arena, tx->sender),
        .orig_to = t->orig,
        .delivered_to = external(tx->arena, t->addr),
        .body_fd = tx->body_fd,
        .body_bytes = tx->body_bytes,
        .host = server->parts.host,
        .locks = locks_of(conf),
        .lock_tries = (unsigned)conf_int(conf, NULL, "deliver_lock_attempts"),
        .lock_delay = conf_time(conf, NULL, "deliver_lock_delay") * 1000,
        .stale_lock = conf_time(conf, NULL, "stale_lock_time") * 1000,
        .max_bytes = conf_size(conf, NULL, "mailbox_size_limit"),
        .fsync = true,
    };
    struct err err;

    memcpy(a.id, t->id, sizeof a.id);
    if (a.path == NULL)
        err_perm(&err, "file name holds a NUL");
    else if (store_append(&a, &err) == 0) {
        server->n_delivered++;
        answer_done(tx, t, true, a.fs, "stored");
        return;
    }
    lmtp_target_fail(tx, t, &err);
}

/* ---- a transaction */

void lmtp_tx_begin(struct lmtp_server *server, struct lmtp_tx *tx)
{
    struct err err;

    if (tx->kind == LMTP_MAILBOX) {
        begin_mailboxes(server, tx);
        return;
    }
    tx->body_fd = memfd_create("message", MFD_CLOEXEC);
    if (tx->body_fd < 0) {
        err_sys(&err, "memory for a message");
        fail(tx, &err);
    }
}

void lmtp_tx_write(struct lmtp_tx *tx, slice bytes)
{
    struct err err;

    if (tx->is_failed)
        return;
    if (tx->kind == LMTP_MAILBOX) {
        if (store_draft_write(tx->draft, bytes, &err) < 0)
            fail(tx, &err);
        return;
    }
    while (bytes.n > 0) {
        ssize_t n = write(tx->body_fd, bytes.p, bytes.n);

        if (n < 0) {
            err_sys(&err, "memory for a message");
            fail(tx, &err);
            return;
        }
        tx->body_bytes += (uint64_t)n;
        bytes = slice_from(bytes, (size_t)n);
    }
}

void lmtp_tx_finish(struct lmtp_server *server, struct lmtp_tx *tx)
{
    if (tx->is_failed) {
        for (size_t i = 0; i < tx->n_targets; i++)
            lmtp_target_fail(tx, &tx->targets[i], &tx->why);
        return;
    }
    switch (tx->kind) {
    case LMTP_MAILBOX:
        finish_mailboxes(server, tx);
        return;
    case LMTP_FILE:
        finish_file(server, tx);
        return;
    case LMTP_COMMAND:
        lmtp_run_command(server, tx, &tx->targets[0]);
        return;
    }
}

void lmtp_tx_free(struct lmtp_tx **tp)
{
    struct lmtp_tx *tx = *tp;
    struct arena *arena;

    if (tx == NULL)
        return;
    store_draft_free(&tx->draft);
    close_fd(&tx->body_fd);
    arena = tx->arena; /* the transaction itself lies in it */
    arena_free(&arena);
    *tp = NULL;
}
