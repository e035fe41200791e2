#ifndef QUEUE_TEST_UTIL_QUEUE_H
#define QUEUE_TEST_UTIL_QUEUE_H

/*
 * A queue over a real spool in a temporary directory, with a clock that tests
 * move, a `local` that answers as a test says, and the log lines in memory.
 */
#include "base/test_util.h"

#include "queue/queue_priv.h"

#define DAY    ((msec)86400000)
#define HOUR   ((msec)3600000)
#define MINUTE ((msec)60000)
#define SECOND ((msec)1000)

struct world;

/* One recipient that `local` is asked for. */
struct asked {
    char addr[200];
    char sender[200];
    char transport[32];
    char nexthop[100];
    char orig[200];
    char path[400];
    char id[33]; /* delivery id in hex */
    char queue_id[MAIL_QUEUE_ID_SIZE];
    uint32_t index;
    uint32_t notify;
    uint32_t depth;
    msec at;      /* wall */
    unsigned job; /* number of the request */
};

/* What it answers; texts are literals or live in the test. */
struct told {
    enum outcome outcome;
    const char *status;
    const char *diag;
    const char *remote_mta; /* NULL: none */
    enum relayed relayed;
    msec tried;
    const char *owner;      /* NULL: none */
    const char *members[8]; /* OUT_EXPANDED */
    bool is_silent;         /* leave it out of the answer */
    const char *hop_status; /* the whole destination failed; NULL: not */
    const char *hop_text;
};

struct world {
    char dir[64];
    struct conf *conf;
    struct queue *q;
    /* The test's `local`; default: everything is sent. */
    void (*answer)(struct world *w, const struct asked *r, struct told *out);
    /* Before the answer is made; -1 fails the request.  May wait. */
    int (*before)(struct world *w, unsigned job, struct err *err);
    struct asked *asked;
    size_t n_asked;
    unsigned n_jobs, n_open, max_open;
    struct buf log;
    struct buf last; /* the last message that was asked for, as delivered */
    bool keep_last;
    bool has_smtp; /* somebody serves far.example */
    void *arg;
};

void world_main(void); /* once, first in main() */
/* Run fn in a task of a fresh world with this main.cf. */
void world_run(const char *main_cf, void (*fn)(struct world *w));
void world_open(struct world *w, const char *main_cf);
void world_close(struct world *w); /* the queue; the directory stays */

/* Put a message into the queue; recipients separated by blanks.  Returns its
 * sequence number. */
uint64_t world_mail(struct world *w, const char *sender, const char *rcpts);
uint64_t world_mail_of(struct world *w, struct envelope *e, const char *rcpts,
                       slice body);
void world_advance(msec ms); /* move the clock and let the queue act */
/* Let the queue act until it is quiet: nothing active, no task. */
void world_settle(struct world *w);
size_t world_count(struct world *w);
/* Requests for this address so far. */
size_t world_asked(struct world *w, const char *addr);
const struct asked *world_last(struct world *w, const char *addr);
/* The log since the last call of world_log_clear(). */
const char *world_log(struct world *w);
void world_log_clear(struct world *w);

static inline void assert_has(const char *text, const char *part)
{
    if (strstr(text, part) == NULL)
        fail_msg("\"%s\" is not in \"%s\"", part, text);
}

static inline void assert_has_not(const char *text, const char *part)
{
    if (strstr(text, part) != NULL)
        fail_msg("\"%s\" is in \"%s\"", part, text);
}

#endif
