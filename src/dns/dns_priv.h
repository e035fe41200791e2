#ifndef DNS_DNS_PRIV_H
#define DNS_DNS_PRIV_H

/* Shared by the files of the room: names and records in wire form, the answer
 * as it travels between the processes, and the server's two halves. */
#include "dns/dns.h"

#include "conf/conf.h"
#include "ipc/ipc.h"

#define DNS_NAME_MAX 255
/* Rdata of one answer on its way between processes. */
#define DNS_ANSWER_BYTES 65536
/* A client waits so much longer than the resolver gives it: the resolver may
 * have to be started. */
#define DNS_GRACE_MS 10000

/* FLAGS of an answer. */
enum {
    DNS_IS_SECURE = 1,
    DNS_IS_BOGUS = 2,
    DNS_IS_CNAME = 4,
};

/* Is `name` (without a final dot) what may be asked: labels of 1..63 printable
 * ASCII bytes, at most 253 in all. */
bool dns_name_ok(slice name);
/* An uncompressed name at the front of *wire, as text without the final dot:
 * bytes that are no letters, digits, '-' or '_' but printable stay, dots and
 * backslashes in labels and all others become "\." or "\DDD".  Cuts it off
 * *wire.  False when it is damaged, or longer than 255 as text. */
bool dns_wire_name(slice *wire, struct arena *a, slice *out);
/* One record's data in wire form.  False when it is damaged, of no type that
 * dns.h names, or the arena is full. */
bool dns_rdata_parse(enum dns_type type, slice rdata, struct arena *a,
                     struct dns_rr *out);
/* The body of an answer to DNS_QUERY.  What is damaged becomes a DNS_FAIL.  -1
 * when the arena is full. */
int dns_answer_parse(slice body, const struct dns_question *q, struct arena *a,
                     struct dns_answer *out, struct err *err);

/* ---- the process */

struct dns_forward {
    const char *zone; /* "." */
    char addr[64];    /* "192.0.2.1@5353", as libunbound wants it */
};

#define DNS_FORWARDS_MAX 64

struct dns_settings {
    struct dns_forward forwards[DNS_FORWARDS_MAX];
    size_t n_forwards;
    const char *insecure[DNS_FORWARDS_MAX];
    size_t n_insecure;
    bool has_forwarder;  /* for the root: asked for everything */
    bool has_local;      /* one is on this machine */
    bool is_system;      /* they are /etc/resolv.conf's */
    const char *anchors; /* text of the trust anchor file; "" */

    enum { DNSSEC_NO, DNSSEC_AUTO, DNSSEC_YES } dnssec;

    uint64_t cache_bytes;
    int64_t timeout_ms;
};

/* Reads files; everything lives in the arena. */
int dns_settings_read(const struct conf *c, struct arena *a,
                      struct dns_settings *out, struct err *err);

/* What libunbound found, good during the call. */
struct dns_engine_result {
    enum dns_result result;
    bool is_secure, is_bogus;
    const char *canonical; /* NULL: the name itself */
    const char *why;
    uint32_t ttl;
    char *const *data; /* rdata, at most DNS_MAX_RECORDS */
    const int *len;
    size_t n_data;
};

/* libunbound.  Loaded once, before the sandbox. */
struct dns_engine;
typedef void dns_engine_fn(void *arg, const struct dns_engine_result *r);

int dns_engine_load(struct err *err);
/* A context of its own cache, checked and ready, so that nothing is opened
 * later; its thread starts with the first question. */
int dns_engine_new(const struct dns_settings *s, bool is_validating,
                   struct dns_engine **out, struct err *err);
void dns_engine_free(struct dns_engine **e);
/* fn is called from the loop, once, unless dns_engine_cancel() came before;
 * with it the call is gone.  NULL when the question could not be put. */
struct dns_call;
struct dns_call *dns_engine_ask(struct dns_engine *e, const char *name,
                                int type, dns_engine_fn *fn, void *arg,
                                struct err *err);
void dns_engine_cancel(struct dns_engine *e, struct dns_call *c);

/* ---- trust.c, pure: resolver_dnssec = auto */
enum dns_probe { DNS_PROBE_LOST, DNS_PROBE_SIGNED, DNS_PROBE_BOGUS };

struct dns_trust {
    bool is_plain;   /* do not validate */
    bool is_bogus;   /* the last known result */
    bool was_signed; /* the servers passed on signatures before */
    msec bogus_since;
};

/* What asking for the root's keys came to.  Returns after how many
 * milliseconds they are to be asked for again. */
msec dns_trust_step(struct dns_trust *t, enum dns_probe what, msec now);

#endif
