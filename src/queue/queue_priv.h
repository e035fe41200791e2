#ifndef QUEUE_PRIV_H
#define QUEUE_PRIV_H

/* What the files of this room share.  queue.h has the states. */
#include "base/heap.h"
#include "base/map.h"
#include "mail/queue_id.h"
#include "queue/queue.h"
#include "rt/rt.h"

#define QUEUE_MAGIC  MAGIC('Q', 'U', 'E', 'U')
#define ACTIVE_MAGIC MAGIC('A', 'C', 'T', 'V')

/* In the journal's number of attempts: a delay warning was sent. */
#define ATTEMPTS_WARNED (1u << 31)

/* Bits of notify_classes that concern this room. */
enum { CLASS_BOUNCE = 1, CLASS_2BOUNCE = 2, CLASS_DELAY = 4 };

/* What the configuration says; an active message keeps the one it began
 * with. */
struct settings {
    unsigned n_refs;
    struct conf *conf;
    struct queue_times times;
    msec delay_warning; /* 0: none */
    size_t active_limit;
    size_t rcpt_limit;
    uint64_t bounce_size;
    unsigned classes;
    bool soft_bounce;
    bool confirms_cleared; /* confirm_delay_cleared */
    bool is_threaded;      /* enable_threaded_bounces */
    bool has_verp_bounces; /* disable_verp_bounces */
    const char *hostname;
    const char *origin;
    const char *mail_name;
    const char *defer_transports;
    char *double_bounce; /* full address */
};

enum qmsg_where { QM_NOWHERE, QM_WAITING, QM_PARKED };

/* A message that the spool keeps.  There may be a million of them: 40 bytes. */
struct qmsg {
    union {
        struct heap_node node; /* QM_WAITING: in queue.waiting, by wall time */
        struct list parked;    /* QM_PARKED: in dest.parked */
    } in;
    struct spool_message *sm; /* never NULL */

    union {
        struct active *active; /* NULL: waits, or is held */
        struct dest *dest;     /* QM_PARKED */
    } by;

    /* One bit for each domain of a recipient, by its hash; 0: not known, since
     * the message was not read since the start. */
    uint32_t sites;
    uint8_t where;   /* enum qmsg_where */
    bool is_flushed; /* by the administrator: defer_transports passed over */
};

struct queue {
    uint32_t magic;
    const struct queue_ops *ops;
    void *arg;
    struct settings *set;
    struct spool *spool;
    msec epoch; /* of the queue runs */
    bool is_open;
    bool is_closing;
    size_t n_msgs;
    struct heap waiting;
    struct list fresh;   /* active.ready: to be routed */
    struct list actives; /* active.link: all of them */
    struct list running; /* job.running */
    struct list serving; /* request.link: commands that are answered */
    struct verify *verify;
    struct templates *templates; /* NULL: the built-in texts */
    size_t n_active;
    size_t n_active_rcpts;
    size_t n_routers;
    size_t n_tasks; /* routers and jobs */
    struct map transports;
    struct map dests;
    struct timer timer;
    struct deferred pump;
    size_t n_busy_dests; /* with jobs that wait for their turn */
    size_t n_dead_dests;
    size_t n_parked;
    unsigned n_etrns;    /* that look for their mail */
    uint64_t n_works;    /* so far: their order */
    struct waitq kicked; /* jobs that wait for their deliverer */
    struct waitq idle;   /* queue_close() */
    struct buf scratch;  /* never kept across a wait */

    struct {
        uint64_t n_messages, n_jobs, n_sent, n_deferred, n_bounced, n_expanded,
            n_notices, n_repeated;
    } count;
};

enum rcpt_state {
    RS_NONE,      /* not there, or settled */
    RS_PENDING,   /* to be routed */
    RS_JOB,       /* in a job */
    RS_EXPANDING, /* the journal is being written */
    RS_SENT,      /* a success report is due before it is settled */
    RS_TRACED,    /* of a probe: told, then settled */
    RS_QUIET,     /* settled behind another recipient's report of success */
    RS_DEFERRED,
    RS_FAILED,
};

struct qrcpt {
    slice addr, orig, orcpt, path, owner;
    slice verp;         /* sender for this recipient alone; empty: none */
    slice to;           /* routed */
    slice status, diag; /* of the last answer */
    slice remote_mta;   /* "dns; host": who said it; empty: ourselves */
    msec tried;         /* wall; 0: not known */
    enum relayed relayed;
    uint32_t notify;
    uint32_t depth;
    uint32_t parent; /* index, or UINT32_MAX */
    enum rcpt_state state;
    struct job *job; /* of RS_JOB */
    bool has_owner;
    bool is_passed_on;  /* from one transport to another */
    bool is_grouped;    /* for the report that is being made */
    const char *action; /* of RS_TRACED */
};

/* A message that is being worked on. */
struct active {
    uint32_t magic;
    struct queue *q;
    struct settings *set;
    struct qmsg *qm;   /* NULL once the message is gone */
    struct list link;  /* in queue.actives */
    struct list ready; /* in queue.fresh */
    struct arena *arena;
    struct envelope env; /* without recipients and settlements */
    bool is_loaded;
    bool is_flushed;
    bool owes_removed; /* the line "removed" is to be written */
    bool is_finishing; /* no job is left: reports are being written */
    msec next_try;     /* what active_finish() says; MSEC_NEVER: gone */
    struct qrcpt *v;   /* heap; index: the spool's */
    size_t n, size;
    size_t n_charged;  /* recipients */
    size_t n_counted;  /* of these, in queue.n_active_rcpts */
    struct dest *park; /* congested: wait for it (a reference) */
    unsigned n_refs;   /* routing, jobs, answers */
    msec since;        /* wall time when it became active */
    struct list jobs;  /* made, not submitted */
    struct list works; /* submitted, waiting */
    struct map seen;   /* addresses, when something was expanded */
    bool has_seen;
    /* Lists that were expanded for who wants a report of success. */
    uint32_t *expanded;
    size_t n_expanded;
};

/* Numbers of Postfix with a fraction, in millionths. */
#define FEEDBACK_ONE 1000000

/* <transport>_destination_concurrency_positive_feedback and its like. */
struct feedback {
    enum { PER_DELIVERY, PER_CONCURRENCY, PER_ROOT } kind;

    int64_t base; /* millionths */
};

/* How many deliveries to a destination may be on the way; feedback moves it. */
struct window {
    unsigned size;
    int64_t success, failure, cohorts; /* millionths */
};

/* Jobs of small messages, and of messages that others may preempt. */
enum { JOBS_SMALL, JOBS_BIG, N_JOB_KINDS };

/* A message's jobs of one transport that wait: a "job" in Postfix's
 * SCHEDULER_README, whose "entries" are our jobs.  Work that preempts other
 * work stands in front of it, and is its child as long as it waits. */
struct work {
    struct list link;      /* in transport.works */
    struct list of_active; /* in active.works */
    struct transport *t;
    struct list jobs; /* job.of_work */
    unsigned n_all, n_taken;
    int64_t slots; /* deliveries, less those that preempting work cost */
    int64_t used;  /* of the parent's slots, less what was expected */
    uint64_t order;
    msec since; /* mono */
    struct work *parent;
    struct list sibling;  /* in parent->children */
    struct list children; /* that preempted it */
};

struct transport {
    struct map_node node;
    struct queue *q;
    char *name;
    unsigned limit;      /* jobs at once */
    bool is_limit_hard;  /* slow ones count as well */
    bool has_windows;    /* its destinations have one */
    unsigned dest_limit; /* of one destination; 0: none */
    unsigned dest_start; /* initial_destination_concurrency */
    unsigned rcpt_limit; /* of one request */
    size_t held_rcpts;   /* in memory, of jobs that wait */
    bool is_deferred;    /* defer_transports */
    bool is_debugged;    /* destination_concurrency_feedback_debug */
    struct feedback positive, negative;
    unsigned cohort_limit;  /* 0: none */
    msec retry_time;        /* transport_retry_time */
    msec backoff;           /* how long a destination is dead */
    msec dest_delay, delay; /* rate delays */
    unsigned slot_cost, slot_loan, slot_discount, min_slots;

    unsigned n_tasks;
    unsigned n_slow; /* jobs that run for long; they do not count */
    unsigned n_running;
    struct list works;    /* work.link: in the order of their turns */
    struct work *current; /* has preempted another one; NULL: none */
    struct work *sought;  /* for it no candidate was found ... */
    uint64_t n_changes;   /* ... when so much had changed */
    uint64_t n_changes_then;
    size_t n_rcpts;  /* of jobs that wait */
    msec dead_until; /* 0: alive */
    msec told_until; /* that it does not exist */
    bool is_resting; /* rate delay */
    struct timer rest;
    struct timer slow;
    struct list young;              /* job.young: running, oldest first */
    struct list ready[N_JOB_KINDS]; /* dest.ready: has jobs and room */
};

struct dest {
    struct map_node node; /* "transport\nnexthop" */
    struct transport *t;
    struct list ready[N_JOB_KINDS];
    struct list jobs[N_JOB_KINDS]; /* READY ones */
    size_t n_ready;                /* their number */
    size_t n_rcpts;                /* and that of their recipients */
    unsigned n_refs; /* jobs, submitted or not; parked messages; the timer */
    unsigned n_running;
    struct window window;
    char *dead_status, *dead_text; /* NULL: alive */
    bool is_resting;               /* rate delay */
    struct timer timer;            /* until the end of death or rest */
    struct list parked;            /* qmsg.in.parked */
    size_t n_parked;
    struct job *open; /* takes more recipients; see job_for() */
    char key[];
};

struct job {
    struct list link; /* in dest.jobs or active.jobs */
    struct active *a;
    struct dest *d;
    struct task *task; /* while it runs */
    slice sender;
    slice nexthop;
    uint32_t *rcpts; /* heap */
    size_t n, size;
    struct work *work;   /* while it waits for its turn */
    struct list of_work; /* in work.jobs */
    uint8_t kind;        /* JOBS_SMALL or _BIG */
    bool is_slow;
    msec since;          /* mono; it runs */
    struct list running; /* in queue.running */
    struct list young;   /* in transport.young */
};

/* ---- settings.c */
struct settings *settings_new(struct conf *c);
struct settings *settings_ref(struct settings *s);
void settings_unref(struct settings *s);
void transport_configure(struct transport *t, const struct settings *s);

/* ---- queue.c */
/* (Re)schedule: waits until `at`, unless active or held. */
void queue_msg_wait(struct queue *q, struct qmsg *qm, msec at);
/* Wait until there is room for d's mail; takes the reference over. */
void queue_msg_park(struct queue *q, struct qmsg *qm, struct dest *d);
struct active *queue_msg_active(const struct qmsg *qm); /* NULL: none */
/* The spool has forgotten it: forget it too. */
void queue_msg_gone(struct queue *q, struct qmsg *qm);
void queue_pump(struct queue *q);
void queue_task_ended(struct queue *q);

/* ---- active.c */
struct active *active_new(struct queue *q, struct qmsg *qm);
/* Take the envelope of a fresh message.  False: too large, read it later. */
bool active_take(struct active *a, const struct envelope *e);
/* Route and start the jobs; in a router's task. */
MAY_WAIT void active_run(struct active *a);
MAY_WAIT void active_route(struct active *a, size_t from, size_t n);
void active_ref(struct active *a);
MAY_WAIT void active_unref(struct active *a);
void active_charge(struct active *a, size_t n); /* n more recipients */
void active_note_sites(struct active *a, size_t from);
void active_drop(struct active **a); /* at the end of the process */
struct qrcpt *active_rcpt(struct active *a, uint32_t index); /* grows */
bool active_is_gone(const struct active *a);
slice active_sender(const struct active *a, const struct qrcpt *r);
slice active_dup(struct active *a, slice s); /* "" at the arena's cap */

/* A mailbox, file or command that `local` made of an alias (local/local.h):
 * it goes back to `local`, and people are shown whom it was expanded from. */
bool queue_is_special(slice addr);
slice queue_shown(slice addr, slice path);

/* ---- settle.c: what became of a recipient */
void rcpt_sent(struct active *a, uint32_t i, slice status, slice diag);
void rcpt_discarded(struct active *a, uint32_t i);
void rcpt_deferred(struct active *a, uint32_t i, slice status, slice diag);
void rcpt_bounced(struct active *a, uint32_t i, slice status, slice diag);
/* Decided here and not by a delivery: with a line of service "error". */
void rcpt_decide(struct active *a, uint32_t i, bool is_bounced, slice status,
                 slice text);
/* After the last job: reports, settlements, the next try. */
MAY_WAIT void active_finish(struct active *a);
/* Settle in the spool; a->qm is NULL after the last one. */
void active_settle(struct active *a, uint32_t i, enum outcome how);

/* ---- schedule.c, pure */
/* "1", "0.5", "1/8", "1 / concurrency", "1 / sqrt(concurrency)"; false: wrong.
 */
bool feedback_parse(slice text, struct feedback *out);

struct window_rules {
    unsigned limit; /* 0: none */
    unsigned start;
    unsigned cohort_limit; /* 0: none */
    struct feedback positive, negative;
};

/* A delivery succeeded while n_running were on the way. */
void window_grow(struct window *w, const struct window_rules *r,
                 unsigned n_running);
/* The destination failed as a whole.  True: it is dead now. */
bool window_shrink(struct window *w, const struct window_rules *r);

/* ---- dest.c: transports and destinations */
struct transport *transport_get(struct queue *q, slice name);
/* With a reference more. */
struct dest *dest_get(struct queue *q, struct transport *t, slice what);
void dest_unref(struct queue *q, struct dest *d);
/* Is it its turn some time?  Call whenever jobs or room of d changed. */
void dest_update(struct dest *d);
void dest_put(struct dest *d, struct job *j); /* READY */
void dest_positive(struct dest *d);           /* an answer */
void dest_negative(struct dest *d, slice status, slice text);
/* A job of it has ended (n_running is less already). */
void dest_rest(struct dest *d);
/* Too much of the memory holds its mail: what else comes shall wait. */
bool dest_is_congested(const struct queue *q, const struct dest *d);
/* Let parked messages go on when there is room. */
void dest_unpark(struct queue *q, struct dest *d);
/* The transport's next job, running; NULL: none has its turn. */
struct job *transport_next(struct transport *t);
bool transport_has_turn(struct transport *t);
void transport_dead(struct transport *t);
/* The administrator wants all to be tried: nothing is dead. */
void dests_revive(struct queue *q);
void dests_configure(struct queue *q);
void dests_free(struct queue *q); /* without jobs */

/* ---- preempt.c: messages that overtake others */
/* The work that `a` has for t, made if need be. */
struct work *work_get(struct active *a, struct transport *t);
void work_add(struct work *w, struct job *j);
/* It waits no longer; the work ends with its last job. */
void work_leave(struct job *j);
/* Whose turn it is instead of `big`, the first of those that may be preempted;
 * NULL: big's. */
struct job *preempt_choose(struct transport *t, struct job *big);
/* The next one of work that has preempted other work; NULL: there is none. */
struct job *preempt_next(struct transport *t);

/* ---- job.c */
/* Put recipient i into a job for its route. */
void job_add(struct active *a, uint32_t i, const struct queue_route *r);
void jobs_submit(struct active *a);
void transport_pump(struct transport *t);
void jobs_cancel(struct queue *q); /* those that run, and commands */
/* The memory only; who calls has dealt with the active message. */
void job_free(struct queue *q, struct job *j);

/* ---- view.c */
/* The bit of an address's domain in qmsg.sites; 0: it has none. */
uint32_t queue_site_bit(slice addr);
void requests_cancel(struct queue *q);

/* ---- answer.c */
/* Apply a DELIVER answer or partial answer to recipients in RS_JOB. */
MAY_WAIT void answer_apply(struct active *a, slice body);

/* ---- dsn.c, pure */
enum dsn_kind { DSN_FAILURE, DSN_DELAY, DSN_SUCCESS, DSN_VERIFY };

struct dsn_rcpt {
    slice addr, orig, orcpt, status, diag;
    slice remote_mta;   /* "dns; host", or empty */
    msec last_attempt;  /* wall; 0: not known */
    const char *action; /* "failed" ... */
};

struct dsn {
    enum dsn_kind kind;
    bool is_postmaster_copy;
    bool is_utf8; /* RFC 6533 forms */
    bool is_8bit; /* what is returned holds bytes above 127 */
    bool is_headers_only;
    slice hostname, origin, mail_name;
    slice to; /* internal */
    slice queue_id, sender, envid;
    /* Of a template; NULL and empty: the built-in ones. */
    slice text;
    const char *charset, *from, *subject, *copy_subject;
    slice references; /* the returned message's Message-ID; empty: none */
    const char *boundary;
    msec arrival;       /* wall */
    msec retry_until;   /* wall; DSN_DELAY */
    msec delay_warning; /* DSN_DELAY */
    msec lifetime;      /* DSN_DELAY */
    const struct dsn_rcpt *rcpts;
    size_t n_rcpts;
};

/* What is built in, with $names. */
const char *dsn_subject(enum dsn_kind kind, bool is_copy);
const char *dsn_text(enum dsn_kind kind);
/* From the first header field to where the returned message goes. */
bool dsn_put_front(struct buf *b, const struct dsn *d);
/* What follows it. */
bool dsn_put_back(struct buf *b, const struct dsn *d);
/* The reason as people read it: "host mx.example said: 550 no". */
void dsn_put_reason(struct buf *b, slice diag, slice remote_mta);

/* ---- notice.c */
/* Send a report about the recipients idx[0..n), all of one sender, as one
 * message; the recipients in `settles` are settled by it. */
struct notice {
    enum dsn_kind kind;
    bool is_postmaster_copy; /* of a report that somebody else gets */
    bool is_headers_only;
    slice from; /* sender of the notice: "" or double-bounce */
    slice to;
    slice sender; /* of the message, as the report shows it */
    const uint32_t *idx;
    size_t n;
    const uint32_t *settles;
    size_t n_settles;
};

CHECKED MAY_WAIT int notice_send(struct active *a, const struct notice *n,
                                 char id_out[static MAIL_QUEUE_ID_SIZE],
                                 struct err *err);

/* ---- verify.c; `dir` is where the cache is kept */
void verify_open(struct queue *q, const char *dir);
void verify_stop(struct queue *q); /* cancel the probes */
/* A sender of our own probes or notices: mail to it goes nowhere. */
bool verify_is_sender(const struct conf *c, slice addr);
MAY_WAIT void verify_free(struct queue *q);

/* ---- template.c */
int templates_parse(slice in, struct templates **out, struct err *err);
void templates_free(struct templates **t);
/* Put the texts for d->kind into *d; false: there are none. */
bool templates_use(const struct templates *t, struct conf *c, struct dsn *d,
                   struct arena *a);

/* ---- verp.c */
bool verp_put(struct buf *b, slice sender, slice rcpt, slice delimiters);
void verp_set(struct active *a, struct qrcpt *r);

/* ---- log.c */
void log_active(const struct active *a);
void log_removed(const char *queue_id);
void log_decided(const struct active *a, const struct qrcpt *r,
                 const char *status, slice dsn, slice text);

#endif
