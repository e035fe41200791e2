#ifndef FETCH_FETCH_PRIV_H
#define FETCH_FETCH_PRIV_H

/* What the files of fetch share. */
#include "base/list.h"
#include "base/map.h"
#include "dns/dns.h"
#include "fetch/fetch.h"
#include "ipc/ipc.h"
#include "rt/rt.h"

#define FETCH_LINES_MAX 8192 /* of the lines of a policy that is reported */

/* ---- http.c: one request over TLS, no redirections */
struct http_request {
    slice host; /* what the certificate must be for */
    uint16_t port;
    slice path;
    slice content_type; /* with `body`: a POST */
    slice body;
    const slice *addrs; /* tried in this order */
    size_t n_addrs;
    const struct buf *roots; /* authorities, PEM */
    msec deadline;
};

struct http_answer {
    int status;
    bool is_text;    /* Content-Type is text/plain, or there is none */
    struct buf body; /* the caller's: its max is the limit */
};

/* -1: no whole answer; err->log says why, err->status is "4.7.5" when it was
 * the certificate. */
MAY_WAIT int http_ask(const struct http_request *r, struct http_answer *out,
                      struct err *err);
/* Pure: the URL.  False: the host or the path has bytes that would make it
 * another one's. */
bool http_url(slice host, uint16_t port, slice path, struct buf *out);

/* ---- server.c, store.c */
struct fetched {
    struct map_node node;
    struct list by_age; /* the longest untouched first */
    char *id;
    char *text;      /* NULL: nothing was ever got */
    msec until;      /* the policy's end; wall clock */
    char *failed_id; /* the last fetch of this id failed */
    msec failed_until;
    bool is_busy;
    struct waitq waiting;
    char domain[];
};

/* What one policy domain's sessions came to. */
struct counted {
    struct map_node node; /* by domain and kind */
    char *domain;
    char *kind;
    char *lines;
    uint64_t n_good, n_failed;
    struct list failures;
    size_t n_failures;
    char key[];
};

struct failure {
    struct list link;
    char *type, *local, *remote, *addr, *text;
    uint64_t n;
};

struct fetch_server {
    struct process *p;
    struct dns *dns;
    struct buf roots; /* authorities, PEM */
    uint16_t port;
    bool has_v4, has_v6;
    int fd[2]; /* of the store: which is next, `turn` says */
    unsigned turn;
    uint64_t generation;
    bool is_dirty, is_saving;
    struct timer save;
    struct map policies;
    struct list by_age;
    struct list peers;
    uint64_t n_fetched, n_failed;
    /* Reports */
    bool reports;
    struct map counts;
    int64_t day; /* since 1970, of `counts` */
    struct timer midnight;
    bool is_reporting;
    struct spool_writer *spool;
    unsigned n_tasks;
    bool is_draining;
    void (*on_idle)(void *arg);
    void *on_idle_arg;
};

struct fetched *fetch_policy_of(struct fetch_server *s, slice domain);
void fetch_policy_free(struct fetch_server *s, struct fetched *f);
/* A task or a peer has ended: when it was the last, the drain is over. */
void fetch_maybe_idle(struct fetch_server *s);

/* Open the files and read the one that is newer and whole. */
CHECKED int store_open(struct fetch_server *s, struct err *err);
/* Something changed: write it soon. */
void store_touch(struct fetch_server *s);
/* Write what is left, for the end. */
void store_close(struct fetch_server *s);

/* ---- report.c */
void report_count(struct fetch_server *s, slice attributes);
/* Read back what store wrote. */
void report_load(struct fetch_server *s, slice attributes);
void report_put(struct fetch_server *s, struct buf *b);
/* From now on send a day's counts when it is over. */
void report_start(struct fetch_server *s);
MAY_WAIT int fetch_addresses(struct fetch_server *s, slice host,
                             struct arena *a, slice **out, size_t *n,
                             struct err *err);

#endif
