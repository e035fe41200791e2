#ifndef DNS_DNS_H
#define DNS_DNS_H

/*
 * dns - questions to the domain name system, and who answers them.
 *
 * Two sides.  The process `resolver` runs libunbound (a module of its own, so
 * that no other process loads it) with cache and DNSSEC validation, from root
 * hints or through forwarders; dns_server_* is all of it.  Every other process
 * asks it over a channel: struct dns, one for a process.  A question with the
 * same name, type and flags that is under way is shared.
 *
 *     smtp, smtpd, fetcher --DNS_QUERY--> resolver --UDP, TCP--> forwarders or
 *                                            |                   authorities
 *                                            +--> cache, trust anchors
 *
 * Parameters (ours): resolver_forwarders (those of /etc/resolv.conf when empty,
 * "root": from the root down), resolver_port, resolver_dnssec,
 * resolver_trust_anchor_file, resolver_insecure_zones, resolver_cache_size,
 * resolver_query_timeout; doc/dns.md says more.
 *
 * Invariants: (1) an answer of DNS that fails validation is DNS_FAIL with
 * `is_bogus`, never data; (2) "does not exist" (DNS_NXDOMAIN, DNS_NODATA) is
 * told apart from "cannot be known now" (DNS_FAIL), whatever the cache holds;
 * (3) what is handed out was parsed whole: names are printable or escaped,
 * at most 255 bytes, records of another name or type are dropped; (4) at most
 * DNS_MAX_RECORDS records an answer, the rest is dropped; (5) CNAME chains are
 * followed by libunbound, which ends them at 11 names.
 *
 * Waits: what is marked MAY_WAIT.  It never decides what an answer means for
 * mail.
 */
#include "base/base.h"
#include "base/clock.h"
#include "ipc/process.h"

#define DNS_MAX_RECORDS 100

enum dns_type {
    DNS_A = 1,
    DNS_NS = 2,
    DNS_CNAME = 5,
    DNS_SOA = 6,
    DNS_PTR = 12,
    DNS_MX = 15,
    DNS_TXT = 16,
    DNS_AAAA = 28,
    DNS_SRV = 33,
    DNS_TLSA = 52,
};

enum dns_result {
    DNS_OK,       /* records > 0 */
    DNS_NODATA,   /* the name exists, without this type */
    DNS_NXDOMAIN, /* it does not */
    DNS_FAIL,     /* SERVFAIL, timeout, bogus, our own trouble: try later */
    DNS_BAD_NAME, /* not a domain name at all */
};

/* Flags of a question. */
enum {
    DNS_RAW = 1, /* only the records of the name itself: no CNAME is followed */
};

struct dns_rr {
    enum dns_type type;
    uint32_t ttl;
    unsigned pref; /* MX, SRV's priority */
    unsigned port, weight;
    slice name;     /* MX, CNAME, PTR, NS, SRV: without the final dot; "" is the
                     * root (a null MX) */
    uint8_t ip[16]; /* A, AAAA */
    slice text;     /* TXT: the strings joined */
    uint8_t usage, selector, matching; /* TLSA */
    slice data;                        /* TLSA */
};

struct dns_answer {
    enum dns_result result;
    bool is_secure; /* validated (the AD bit of our own resolver) */
    bool is_bogus;
    bool is_cname;   /* the name was an alias of `canonical` */
    slice canonical; /* name that the records belong to */
    slice why;       /* for logs: "SERVFAIL", "signature expired" ... */
    uint32_t ttl;    /* also of negative answers */
    struct dns_rr *rr;
    size_t n_rr;
};

/* ---- asking */
struct dns;
struct dns *dns_new(struct process *p);
/* For commands: over a socket to the resolver, which it takes over. */
struct dns *dns_new_socket(int fd, msec timeout_ms);
void dns_free(struct dns **d);
/* Everything lives in the arena.  0 with *out (also for failures of DNS, which
 * are a result); -1 only when cancelled (ERR_PEER) or the arena is full. */
MAY_WAIT int dns_query(struct dns *d, slice name, enum dns_type type,
                       unsigned flags, struct arena *a, struct dns_answer *out,
                       struct err *err);

/* The questions of a list at once; out[i] belongs to q[i]. */
struct dns_question {
    slice name;
    enum dns_type type;
    unsigned flags;
};

MAY_WAIT int dns_query_all(struct dns *d, const struct dns_question *q,
                           size_t n, struct arena *a, struct dns_answer *out,
                           struct err *err);
/* For tests of other rooms: answers come from fn instead of the resolver. */
typedef void dns_fake_fn(void *arg, const struct dns_question *q,
                         struct arena *a, struct dns_answer *out);
struct dns *dns_new_fake(dns_fake_fn *fn, void *arg);

/* A record as a zone file has it: "MX 10 mx.example.com."; bytes that are not
 * printable as \DDD. */
void dns_rr_print(const struct dns_rr *rr, struct buf *out);
const char *dns_type_name(enum dns_type type); /* "MX", "TYPE9" */
bool dns_type_find(slice name, enum dns_type *out);

/* ---- names (pure) */
/* "1.2.0.192.in-addr.arpa", "...ip6.arpa"; family AF_INET or AF_INET6.  A
 * suffix that is not NULL replaces the zone: "" gives the digits with a dot at
 * the end, for DNSBLs.  What does not fit gives "". */
void dns_reverse_name(int family, const uint8_t *ip, const char *suffix_v4,
                      const char *suffix_v6, char out[static 100]);
/* The A-label form of a host or domain (IDNA 2008, non-transitional); -1 when
 * it is not a valid one.  At most 255 bytes. */
int dns_ascii_name(slice in, struct arena *a, slice *out);

/* ---- /etc/hosts and the name service, as smtp_host_lookup = native asks for.
 * Reads the file when it changed; only where the process may. */
struct dns_hosts;
struct dns_hosts *dns_hosts_new(const char *path);
void dns_hosts_free(struct dns_hosts **h);
/* Addresses of a name as A and AAAA records; DNS_NXDOMAIN when it has none. */
void dns_hosts_find(struct dns_hosts *h, slice name, struct arena *a,
                    struct dns_answer *out);
/* Does this machine's name service ask DNS behind the file?  By the line
 * "hosts:" of nsswitch.conf(5); without one, yes. */
bool dns_is_native(const char *path);
/* The first name of an address (AF_INET, AF_INET6); false when it has none. */
bool dns_hosts_name(struct dns_hosts *h, int family, const uint8_t *ip,
                    struct arena *a, slice *name);

/* ---- the process `resolver` */
struct dns_server;
/* Reads what the parameters name, and leaves nothing to be opened later. */
MAY_WAIT int dns_server_new(struct process *p, struct dns_server **out,
                            struct err *err);
void dns_server_on_peer(struct dns_server *s, int fd);
void dns_server_drain(struct dns_server *s, void (*on_idle)(void *arg),
                      void *arg);
void dns_server_free(struct dns_server **s); /* for tests: after the drain */
void dns_server_dump(const struct dns_server *s, struct buf *out);

#endif
