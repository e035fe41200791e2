#ifndef COMMAND_TRACE_TRACE_PRIV_H
#define COMMAND_TRACE_TRACE_PRIV_H

/*
 * hato trace: one message's whole life, from the log.
 *
 *     files.c   the log's files, the oldest first, line by line
 *     line.c    a line of any of the three formats as one struct (pure)
 *     follow.c  which messages belong together, and their lines: the log is
 *               read until no new message is found (at most TRACE_PASSES times)
 *     print.c   text and JSON
 *
 * Memory is bounded by the limits below, whatever the log holds.
 */
#include "base/base.h"
#include "base/map.h"

#define TRACE_PASSES      6
#define TRACE_MESSAGES    2000 /* with those that belong to them */
#define TRACE_LINES       2000 /* of one message */
#define TRACE_RCPTS       1000
#define TRACE_CONNECTIONS 4096
#define TRACE_BYTES       ((size_t)64 << 20)
#define TRACE_LINE_BYTES  ((size_t)64 << 10)
#define TRACE_FILES       200

/* ---- lines */
struct trace_line {
    slice time, service, pid;
    slice id;   /* queue id, "NOQUEUE" or empty */
    slice text; /* what follows, in Postfix's shape */
};

/* `scratch` holds what is not in the line itself; it is reset.  False when it
 * is no line of a log. */
bool trace_line_parse(slice line, struct arena *scratch,
                      struct trace_line *out);
/* The value of "key=" in the text: what stands in <>, or up to the next comma
 * or space.  NULL slice when there is none. */
slice trace_field(slice text, const char *key);
bool trace_is_id(slice s);

/* ---- files */
typedef void trace_line_fn(void *arg, slice line);

struct trace_files {
    char *path[TRACE_FILES];
    size_t n;
};

/* `path` and what it was rotated to (path.1, path.2.gz, path-20261122 ...). */
void trace_files_find(struct trace_files *f, const char *path);
void trace_files_add(struct trace_files *f, const char *path);
void trace_files_done(struct trace_files *f);
/* Each line of all; -1 when none of them can be read.  One that cannot is named
 * and dropped from the list. */
int trace_files_read(struct trace_files *f, trace_line_fn *fn, void *arg,
                     struct err *err);

/* ---- messages */
struct trace_text {
    struct list link;
    slice time, service, pid, text;
    bool is_last; /* "removed": shown behind the others */
};

struct trace_rcpt {
    struct list link;
    slice to, orig_to, relay, dsn, status, why, time, service;
    unsigned n_tries;
};

struct trace_message {
    struct map_node node;
    struct list link;
    char *id, *message_id, *from, *size; /* NULL: not known */
    char *parent;      /* the message that this one is about or comes from */
    const char *is_of; /* "notification" or "copy" */
    bool is_removed;
    bool is_match; /* the key itself names it */
    struct list lines;
    size_t n_lines;
    struct list rcpts;
    size_t n_rcpts;
};

struct trace {
    slice key;
    size_t max_matches;
    size_t n_matches, n_dropped;
    struct arena *lines; /* of this pass */
    struct arena *scratch;
    struct map messages;
    struct list order;
    struct map connections;
    struct list connection_age;
    struct map readers; /* user -> who got mail */
    /* Lines of no message: refused ones, and those of mail that other servers
     * gave us by LMTP. */
    struct list loose;
    size_t n_loose;
    unsigned pass;
    bool has_new;
    bool is_full;
};

void trace_init(struct trace *t, slice key, size_t max_matches);
void trace_done(struct trace *t);
int trace_follow(struct trace *t, struct trace_files *f, struct err *err);
void trace_print(const struct trace *t);
void trace_print_json(const struct trace *t);

#endif
