#ifndef RT_FUZZ_TALK_H
#define RT_FUZZ_TALK_H

/* The client that fuzzers of sessions share: it sends its input in pieces,
 * checks what the server says, and waits for the end of the session. */
#include "rt/rt.h"
#include "rt/stream.h"

struct fuzz_client {
    struct stream *st;
    slice input;
    size_t step;               /* bytes of a piece */
    void (*check)(slice line); /* one line of the server, or it aborts */
    size_t (*n_sessions)(void);
    bool is_done; /* all was sent */
};

/* A line of SMTP or LMTP. */
static inline void fuzz_check_reply(slice line)
{
    CHECK(line.n >= 6 && slice_ends(line, SL("\r\n")));
    for (size_t i = 0; i < line.n - 2; i++)
        CHECK((unsigned char)line.p[i] >= ' ' && line.p[i] != 0x7f);
    CHECK(line.p[0] >= '2' && line.p[0] <= '5' && ascii_isdigit(line.p[1]) &&
          ascii_isdigit(line.p[2]) && (line.p[3] == ' ' || line.p[3] == '-'));
}

MAY_WAIT static inline void fuzz_send(void *arg)
{
    struct fuzz_client *c = arg;
    struct err err;

    while (c->input.n > 0) {
        slice part = slice_sub(c->input, 0, c->step);

        c->input = slice_from(c->input, part.n);
        if (stream_write(c->st, part, &err) < 0 ||
            stream_flush(c->st, &err) < 0)
            break;
        if (c->step < 64)
            task_yield();
    }
    (void)stream_shutdown(c->st, &err);
    c->is_done = true;
}

MAY_WAIT static inline void fuzz_read(void *arg)
{
    struct fuzz_client *c = arg;
    struct err err;
    slice line;

    (void)task_spawn("client", fuzz_send, c);
    while (stream_line(c->st, 8192, &line, &err) == 0)
        c->check(line);
    CHECK(err.class == ERR_PEER); /* and no timeout */
    while (!c->is_done || c->n_sessions() > 0)
        CHECK(task_sleep(1, &err) == 0);
    stream_free(&c->st);
}

/* The whole session; then the loop has nothing left. */
static inline void fuzz_talk(struct fuzz_client *c)
{
    stream_deadline(c->st, clock_after(5000));
    (void)task_spawn("run", fuzz_read, c);
    loop_run_until_idle();
    CHECK(c->n_sessions() == 0);
}

/* Reads `arg`, a stream, until its end, so that no answer waits for long. */
MAY_WAIT static inline void fuzz_drain(void *arg)
{
    struct stream *s = arg;
    struct err err;

    stream_deadline(s, clock_after(1000));
    while (!stream_eof(s) && stream_fill(s, &err) == 0)
        stream_consume(s, stream_peek(s).n);
    stream_free(&s);
}

#endif
