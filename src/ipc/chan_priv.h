#ifndef IPC_CHAN_PRIV_H
#define IPC_CHAN_PRIV_H

/*
 * The pure part of channels: frames as bytes.  Used by chan.c and by blocking
 * code without a loop (the template process), and fuzzed.
 */
#include "ipc/chan.h"

#define CHAN_RELEASE  1
#define CHAN_FEATURES 0

#define FRAME_HEADER 12

enum { FRAME_ANSWER = 1, FRAME_FAILED = 2 };

struct frame {
    uint16_t type;
    uint8_t flags;
    uint8_t n_fds;
    uint32_t id;
    slice body;
    size_t size; /* with the header */
};

/* 1: the first frame of `in`; 0: it is not complete; -1: damaged. */
int frame_parse(slice in, struct frame *out);
/* The header of `f`; the body's length is taken from f->body. */
void frame_header(char dst[static FRAME_HEADER], const struct frame *f);
void frame_put(struct buf *b, const struct frame *f);
void frame_put_hello(struct buf *b);
/* A hello of a release that we can speak with. */
bool frame_hello_ok(const struct frame *f, uint64_t *features_out);
/* The body of a failed answer, and back (returns -1). */
void frame_put_err(struct buf *b, const struct err *why);
int frame_get_err(slice body, struct err *err);

#endif
