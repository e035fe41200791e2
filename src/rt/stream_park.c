/* Quiet sessions: a parked stream is its struct and a registration. */
#include "rt/stream_priv.h"

bool stream_is_parked(const struct stream *s)
{
    return s->is_parked;
}

void stream_unpark(struct stream *s)
{
    if (!s->is_parked)
        return;
    s->is_parked = false;
    rt_loop.n_parked--;
}

static void fire(struct stream *s, enum stream_why why)
{
    stream_unpark(s);
    (void)task_spawn_why("session", s->park_fn, s->park_arg, why);
}

static void deadline_came(struct timer *t)
{
    struct stream *s = CONTAINER_OF(t, struct stream, timer);

    rt_loop.n_lazy--;
    if (!s->is_parked || s->park_deadline == MSEC_NEVER)
        return;
    if (s->park_deadline > rt_loop.now)
        lazy_timer_set(t, s->park_deadline, deadline_came);
    else
        fire(s, STREAM_DEADLINE);
}

void stream_parked_event(struct stream *s)
{
    switch (stream_try_read(s)) {
    case GOT_NOTHING:
        return;
    case GOT_BYTES:
        fire(s, STREAM_INPUT);
        return;
    case GOT_EOF:
    case GOT_ERROR:
        fire(s, STREAM_EOF);
        return;
    }
}

void stream_park(struct stream *s, msec deadline,
                 void (*fn)(void *arg, enum stream_why why), void *arg)
{
    CHECK_OBJ(s, STREAM_MAGIC);
    CHECK(!s->is_parked && s->reader == NULL && s->writer == NULL);
    CHECK(iobuf_used(&s->out) == 0 || s->broken != 0);
    s->park_fn = fn;
    s->park_arg = arg;
    s->park_deadline = deadline;
    s->is_parked = true;
    rt_loop.n_parked++;
    if (iobuf_used(&s->in) > 0) {
        fire(s, STREAM_INPUT);
        return;
    }
    iobuf_free(&s->in);
    iobuf_free(&s->out);
    if (s->eof || s->broken != 0) {
        fire(s, STREAM_EOF);
        return;
    }
    if (!s->in_armed && s->fd >= 0) {
        /* Arming tells of what is there already, but not of what TLS holds. */
        if (s->tls == NULL)
            s->in_ready = false;
        s->io->arm_in(s);
    }
    if (s->in_ready)
        stream_parked_event(s);
    if (s->is_parked && deadline != MSEC_NEVER)
        lazy_timer_set(&s->timer, deadline, deadline_came);
}

void stream_kick(struct stream *s)
{
    CHECK_OBJ(s, STREAM_MAGIC);
    if (s->is_parked)
        fire(s, STREAM_KICKED);
}
