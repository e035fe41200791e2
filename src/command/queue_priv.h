#ifndef COMMAND_QUEUE_PRIV_H
#define COMMAND_QUEUE_PRIV_H

/* postqueue, postsuper and postcat: the conversation with qmgr. */
#include "command/command.h"
#include "ipc/ipc.h"

#define COMMAND_QUEUE_MS ((msec)60 * 1000)
#define COMMAND_LIST_MS  ((msec)3600 * 1000) /* a reader may be slow */

struct command_queue {
    struct chan *chan;
    bool is_done;
    void (*on_item)(struct command_queue *q, slice item);
    void *data;
};

/* Connect through master; dies with a clear text.  In a task. */
MAY_WAIT void command_queue_open(struct command_queue *q);
/* The same for what every user may ask: directly, where the control socket is
 * not ours. */
MAY_WAIT void command_queue_open_as_user(struct command_queue *q);
/* QUEUE_LIST with that body: on_item for each message. */
MAY_WAIT void command_queue_list(struct command_queue *q, slice body);
/* A string in JSON, with its quotes, on standard output. */
void command_json_string(slice s);
/* One of QUEUE_FLUSH ... _REQUEUE; how many messages it changed. */
MAY_WAIT uint64_t command_queue_change(struct command_queue *q, uint16_t type,
                                       slice body);

/* ---- shape.c */
struct command_shape_options {
    bool by_sender, has_parents, is_linear;
    unsigned n_buckets, tick, width, min_subdomains;
    const char *const *queues; /* NULL at its end; NULL: all */
    /* Further choice; NULL: all. */
    bool (*is_wanted)(void *arg, slice item);
    void *arg;
};

void command_shape_defaults(struct command_shape_options *o);
MAY_WAIT void command_shape(const struct command_shape_options *o);

#endif
