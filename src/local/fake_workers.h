#ifndef LOCAL_FAKE_WORKERS_H
#define LOCAL_FAKE_WORKERS_H

/* lmtp/workers.c without workers, which the linker then leaves out: a test adds
 * lmtp_worker_ask(). */
#include "local/local_priv.h"

struct lmtp_workers *lmtp_workers_new(struct link *broker,
                                      struct lmtp_syncs *syncs)
{
    (void)broker;
    (void)syncs;
    return NULL;
}

int lmtp_worker_get(struct lmtp_workers *w, const struct lmtp_place *place,
                    struct lmtp_worker **out, struct err *err)
{
    (void)w;
    (void)place;
    (void)out;
    return err_temp(err, "no workers here");
}

int lmtp_worker_deliver(struct lmtp_worker *w, const struct lmtp_message *m,
                        struct lmtp_rcpt *rcpts, size_t n, struct arena *a,
                        struct err *err)
{
    (void)w;
    (void)m;
    (void)rcpts;
    (void)n;
    (void)a;
    return err_temp(err, "no workers here");
}

void lmtp_worker_put(struct lmtp_worker **w)
{
    *w = NULL;
}

void lmtp_workers_dump(const struct lmtp_workers *w, struct buf *out)
{
    (void)w;
    (void)out;
}

#endif
