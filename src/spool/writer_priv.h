#ifndef SPOOL_WRITER_PRIV_H
#define SPOOL_WRITER_PRIV_H

/* The writer's side: segments (writer.c) and drafts (draft.c). */
#include "spool/spool_priv.h"

#define WRITER_MAGIC MAGIC('S', 'P', 'W', 'R')
#define DRAFT_MAGIC  MAGIC('S', 'P', 'D', 'R')
#define POOL_MAX     16

/* A segment while it is written or its last commits are under way. */
struct wseg {
    struct list link; /* spool_writer.segments */
    struct spool_writer *writer;
    uint64_t number;
    struct engine_log *log;
    uint32_t next_place;
    unsigned n_using;    /* commits that hold a pointer */
    struct list pending; /* spool_draft.pending, in the order of offsets */
    bool is_retired;     /* no new records */
    const char *reason;
};

struct spool_writer {
    uint32_t magic;
    const struct spool_source *source;
    void *arg;
    struct spool_writer_conf conf;
    struct engine *engine;
    struct list segments; /* all, the current one too */
    struct wseg *current;
    struct wseg *spare;
    bool is_fetching;
    uint64_t n_fetches;   /* ended ones */
    struct err fetch_err; /* of the last, class ERR_NONE when it succeeded */
    struct waitq fetched;
    struct spool_grant pool[POOL_MAX]; /* own files kept ready */
    size_t n_pool;
    bool is_filling;
    uint64_t n_fills;    /* ended ones */
    struct err fill_err; /* as fetch_err */
    struct waitq filled;
    struct list coming;  /* struct spool_coming, who moved last at the end */
    struct list untold;  /* struct untold: own files whose note is not sent */
    struct buf note;     /* scratch */
    struct buf gathered; /* notes to be sent, each behind its length (u32) */
    struct timer gather; /* sends them */
    msec gathered_at;    /* when some were sent last */
    struct spool_writer_stats stats;
    void (*on_free)(void *arg);
    struct link *link; /* spool_writer_link()'s */
};

struct spool_draft {
    uint32_t magic;
    struct spool_writer *writer;
    struct buf body; /* all of it, or what is not yet in the file */
    size_t counted;  /* of body.size, in the writer's sum */
    uint64_t bytes;  /* of the body so far */
    bool is_file;
    bool is_broken; /* a write failed: only abort is left */
    struct spool_grant file;
    uint64_t written;    /* bytes of the body in the file */
    uint32_t crc;        /* over them */
    struct buf envelope; /* encoded */
    uint8_t trailer[SEG_TRAILER];
    /* while it is committed to a segment */
    struct list pending;
    uint64_t at;
    uint64_t end;
};

/* A segment with `need` bytes of room (with the record's header); it stays
 * usable until the next wait. */
MAY_WAIT int writer_segment(struct spool_writer *w, uint64_t need,
                            struct wseg **out, struct err *err);
/* A commit has ended: send the notes of all that is durable, in order; on
 * failure take the segment out of use.  `o` is what durable said. */
void wseg_done(struct wseg *g, struct spool_draft *d, enum engine_outcome o);
/* Ask for a spare early. */
void writer_prefetch(struct spool_writer *w);
MAY_WAIT int writer_file(struct spool_writer *w, struct spool_grant *out,
                         struct err *err);
void writer_file_unused(struct spool_writer *w, struct spool_grant *g);
/* Tell of a committed own file; the grant is taken over. */
void writer_file_done(struct spool_writer *w, struct spool_draft *d,
                      const struct envelope *e);
int writer_fail(struct err *err, int sys, const char *what);

#endif
