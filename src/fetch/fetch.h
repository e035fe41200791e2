#ifndef FETCH_FETCH_H
#define FETCH_FETCH_H

/*
 * fetch - what is got by HTTPS: policies of MTA-STS (RFC 8461); and the daily
 * reports on TLS (RFC 8460).
 *
 * The process `fetcher` (hato-fetch: no files, no mail) is started when smtp
 * first asks.  It keeps the policies, in memory and in two files of its own in
 * $data_directory, of which one is always whole.
 *
 *     smtp --FETCH_POLICY--> fetcher --DNS--> resolver
 *                               |  \--HTTPS--> mta-sts.<domain>
 *                               +--> fetcher.0, fetcher.1
 *     smtp --FETCH_COUNT --> fetcher --mail--> qmgr, or HTTPS, once a day
 *
 * Invariants: (1) a policy comes only over TLS with a certificate that the
 * system's authorities vouch for, for mta-sts.<domain>, with status 200, no
 * redirection, at most FETCH_MAX_BYTES; (2) a fetch that fails never takes away
 * a policy that has not expired; (3) a policy is kept no longer than its
 * max_age; (4) a server that stalls costs one task until its deadline; (5)
 * what is kept and counted is bounded.
 *
 * Waits: fetching.  Parsing is pure.
 */
#include "base/base.h"
#include "base/clock.h"
#include "ipc/process.h"

#define FETCH_MAX_BYTES ((size_t)64 << 10)
#define FETCH_MX_MAX    100

/* ---- policies (pure) */
struct sts_policy {
    enum sts_mode { STS_NONE, STS_TESTING, STS_ENFORCE } mode;

    uint64_t max_age; /* seconds */
    slice mx[FETCH_MX_MAX];
    size_t n_mx;
};

/* RFC 8461 3.2.  False: it is none. */
bool sts_parse(slice text, struct sts_policy *out);
/* RFC 8461 3.1: the id of "v=STSv1; id=...;".  False: it is no such record. */
bool sts_parse_record(slice txt, slice *id);
/* RFC 8461 4.1: is the host one of those named? */
bool sts_mx_matches(slice pattern, slice host);

/* ---- the process */
struct fetch_server;
/* Settings, authorities and files; before the sandbox. */
CHECKED int fetch_server_new(struct process *p, struct fetch_server **out,
                             struct err *err);
void fetch_server_on_peer(struct fetch_server *s, int fd);
void fetch_server_drain(struct fetch_server *s, void (*on_idle)(void *arg),
                        void *arg);
void fetch_server_dump(const struct fetch_server *s, struct buf *out);

#endif
