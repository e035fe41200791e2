#ifndef LMTP_FAKE_H
#define LMTP_FAKE_H

/*
 * For the tests and the fuzzer of LMTP: a store in memory.  The functions of
 * room store that the server uses are defined here, so the linker takes these.
 * What becomes of a delivery, the user's name says: "temp", "perm", "durable",
 * "slow"; all others become visible on file system 0xab.
 */
#include "lmtp/server_priv.h"

#include "ipc/ipc.h"

struct store_draft {
    struct store_rcpt *rcpts;
    size_t n;
    struct buf body;
};

static struct {
    size_t n_drafts; /* that live */
    size_t n_delivered;
    bool fails_write;
    struct buf log; /* a line for each delivery */
} fake_store;

struct store_draft *store_draft_new(struct store *s,
                                    const struct store_message *msg,
                                    struct store_rcpt *rcpts, size_t n)
{
    struct store_draft *d = xcalloc(1, sizeof *d);

    (void)s;
    CHECK(msg->arrival_usec >= 0);
    d->rcpts = rcpts;
    d->n = n;
    buf_init(&d->body, 64u << 20);
    fake_store.n_drafts++;
    return d;
}

int store_draft_write(struct store_draft *d, slice bytes, struct err *err)
{
    if (fake_store.fails_write || !buf_slice(&d->body, bytes))
        return err_set(err, ERR_TEMP, "4.3.1", "no space left");
    return 0;
}

void store_draft_free(struct store_draft **dp)
{
    struct store_draft *d = *dp;

    if (d == NULL)
        return;
    buf_done(&d->body);
    free(d);
    *dp = NULL;
    fake_store.n_drafts--;
}

static inline void fake_log(const struct store_rcpt *r, slice body)
{
    if (fake_store.log.max == 0)
        buf_init(&fake_store.log, 64u << 20);
    (void)buf_printf(&fake_store.log, "%.*s|%.*s|%.*s|%.*s|%02x|", SLF(r->user),
                     SLF(r->location), SLF(r->delivered_to), SLF(r->orig_to),
                     r->id[0]);
    (void)buf_slice(&fake_store.log, body);
    (void)buf_byte(&fake_store.log, '\n');
}

MAY_WAIT static inline void fake_one(struct store_rcpt *r, slice body)
{
    struct err err;

    CHECK(r->user.n > 0 && r->location.n > 0);
    if (slice_starts(r->user, SL("slow")))
        (void)task_sleep(r->user.n > 4 ? 100000 : 5, &err);
    if (slice_eqs(r->user, "temp") || slice_eqs(r->user, "perm")) {
        r->failed = true;
        (void)err_set(&r->err, slice_eqs(r->user, "temp") ? ERR_TEMP : ERR_PERM,
                      slice_eqs(r->user, "temp") ? "4.2.2" : "5.2.2",
                      "Quota\r\nexceeded");
        return;
    }
    r->durable = slice_eqs(r->user, "durable");
    r->fs = 0xab;
    fake_log(r, body);
    fake_store.n_delivered++;
}

void store_deliver(struct store_draft **dp)
{
    struct store_draft *d = *dp;

    for (size_t i = 0; i < d->n; i++)
        fake_one(&d->rcpts[i], buf_view(&d->body));
    store_draft_free(dp);
}

int store_append(struct store_append *a, struct err *err)
{
    (void)err;
    CHECK(a->path != NULL && a->body_fd >= 0);
    a->fs = 7;
    fake_store.n_delivered++;
    return 0;
}

/* Only on_fs asks for these, and there is none here. */
int store_account_open(struct store *s, slice user, slice location,
                       bool only_existing, struct store_account **out,
                       struct err *err)
{
    (void)s;
    (void)user;
    (void)location;
    (void)only_existing;
    (void)out;
    return err_temp(err, "no accounts here");
}

void store_account_unref(struct store_account **a)
{
    *a = NULL;
}

int store_account_fd(const struct store_account *a)
{
    (void)a;
    return -1;
}

static inline void fake_store_reset(void)
{
    CHECK(fake_store.n_drafts == 0);
    buf_done(&fake_store.log);
    memset(&fake_store, 0, sizeof fake_store);
}

#endif
