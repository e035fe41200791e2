#include "ipc/event.h"
#include "base/clock.h"
#include "base/codec.h"
#include "rt/rt.h"

#include <sys/socket.h>

/* Attributes of an event's wire form. */
enum {
    EA_LEVEL = 1,
    EA_TIME = 2,
    EA_PID = 3,
    EA_SERVICE = 4,
    EA_NAME = 5,
    EA_QUEUE_ID = 6,
    EA_FIELD = 7, /* u8 type, u8 length of key, key, i64 or text */
};

#define KEY_MAX 23
/* How long an event may wait for company: each datagram wakes the log process.
 */
#define FLUSH_MS  10
#define BATCH_MAX 16384
/* When dropped ones are told, at the latest. */
#define TELL_MS 200

uint64_t event_trace_topics;

/* Where this process's events go. */
static struct {
    int fd;
    const char *service;
    bool is_batching;
    uint64_t n_dropped;
    uint64_t n_telling; /* of them, in the batch that is being made */
    struct buf batch;
    struct timer flush;
} sink = { .fd = -1, .service = "hato" };

/* --------------------------------------------------------------- wire form */

static bool put_field(struct buf *b, const struct ev_field *f)
{
    slice key = slice_sub(slice_str(f->key), 0, KEY_MAX);
    bool is_text = f->type != EVT_U64 && f->type != EVT_I64 &&
                   f->type != EVT_MS && f->type != EVT_SECRET;
    slice text = is_text ? slice_sub(f->str, 0, EVENT_MAX_TEXT) : SLICE_NONE;
    size_t n_before = b->n;
    size_t n = 2 + key.n + (is_text ? text.n : sizeof f->num);

    buf_u16(b, EA_FIELD);
    buf_u32(b, (uint32_t)n);
    buf_byte(b, (char)f->type);
    buf_byte(b, (char)key.n);
    buf_slice(b, key);
    if (is_text)
        buf_slice(b, text);
    else /* a secret does not even reach the log process */
        buf_u64(b, f->type == EVT_SECRET ? 0 : (uint64_t)f->num);
    if (b->overflow) /* no half attribute is left */
        b->n = n_before;
    return !b->overflow;
}

bool event_encode(struct buf *b, const struct event *e)
{
    size_t n_before = b->n;

    attr_put_u64(b, EA_LEVEL, (uint64_t)e->level);
    attr_put_u64(b, EA_TIME, (uint64_t)e->wall_usec);
    attr_put_u64(b, EA_PID, (uint64_t)e->pid);
    attr_put(b, EA_SERVICE, slice_sub(e->service, 0, 64));
    attr_put(b, EA_NAME, slice_sub(e->name, 0, 64));
    if (e->queue_id.n > 0)
        attr_put(b, EA_QUEUE_ID, slice_sub(e->queue_id, 0, 64));
    for (size_t i = 0; i < e->n_fields && i < EVENT_MAX_FIELDS; i++)
        if (b->n - n_before + e->fields[i].str.n < EVENT_MAX_BYTES - 256)
            put_field(b, &e->fields[i]);
    return !b->overflow;
}

static bool get_field(slice v, struct ev_field *out, char key[24])
{
    size_t n;

    if (v.n < 2 || (uint8_t)v.p[0] > EVT_TAIL)
        return false;
    n = (uint8_t)v.p[1];
    if (n > KEY_MAX || v.n - 2 < n)
        return false;
    memcpy(key, v.p + 2, n);
    key[n] = '\0';
    *out = (struct ev_field){ .key = key, .type = (enum ev_type)v.p[0] };
    v = slice_from(v, 2 + n);
    if (out->type == EVT_STR || out->type == EVT_ADDR || out->type == EVT_TAIL)
        out->str = v;
    else if (v.n != 8)
        return false;
    else
        out->num = (int64_t)get_u64(v.p);
    return true;
}

bool event_decode(slice in, struct event *out, struct ev_field *fields,
                  char keys[EVENT_MAX_FIELDS][24])
{
    struct event e = { .level = EV_INFO };
    struct attr a;
    uint64_t u = 0;
    int got;

    while ((got = attr_next(&in, &a)) == 1) {
        if (a.tag <= EA_PID && !attr_u64(&a, &u))
            return false;
        if (a.tag == EA_LEVEL && u <= EV_TRACE)
            e.level = (enum ev_level)u;
        else if (a.tag == EA_TIME)
            e.wall_usec = (int64_t)u;
        else if (a.tag == EA_PID)
            e.pid = (pid_t)u;
        else if (a.tag == EA_SERVICE)
            e.service = a.v;
        else if (a.tag == EA_NAME)
            e.name = a.v;
        else if (a.tag == EA_QUEUE_ID)
            e.queue_id = a.v;
        else if (a.tag == EA_FIELD && e.n_fields < EVENT_MAX_FIELDS &&
                 get_field(a.v, &fields[e.n_fields], keys[e.n_fields]))
            e.n_fields++;
        else if (a.must && a.tag != EA_FIELD)
            return false;
    }
    e.fields = fields;
    *out = e;
    return got == 0;
}

bool event_next(slice *datagram, slice *event)
{
    size_t n;

    if (datagram->n < 2)
        return false;
    n = get_u16(datagram->p);
    if (datagram->n - 2 < n)
        return false;
    *event = slice_sub(*datagram, 2, n);
    *datagram = slice_from(*datagram, 2 + n);
    return true;
}

/* ----------------------------------------------------------------- sending */

static bool send_now(slice datagram)
{
    return send(sink.fd, datagram.p, datagram.n, MSG_DONTWAIT | MSG_NOSIGNAL) >=
           0;
}

/* Add one event behind its length.  False when it has no room. */
static bool put_event(struct buf *b, const struct event *e)
{
    size_t at = b->n;
    bool has_fit = buf_u16(b, 0) && event_encode(b, e);

    if (has_fit) {
        set_u16(b->p + at, (uint16_t)(b->n - at - 2));
        return true;
    }
    b->n = at;
    b->overflow = false;
    return false;
}

/* What could not be sent is told as soon as something can be. */
static void on_flush(struct timer *t);

static void put_dropped(struct buf *b)
{
    char text[64];
    int n = snprintf(text, sizeof text, "dropped %" PRIu64 " events",
                     sink.n_dropped);
    struct ev_field f = ev_tail(slice_of(text, (size_t)n));
    struct event e = { .level = EV_WARNING,
                       .wall_usec = clock_wall_usec(),
                       .pid = loop_pid(),
                       .service = slice_str(sink.service),
                       .name = SL("dropped"),
                       .fields = &f,
                       .n_fields = 1 };

    if (put_event(b, &e)) {
        sink.n_telling = sink.n_dropped;
        sink.n_dropped = 0;
    }
}

void event_flush(void)
{
    uint64_t n = 0;
    slice rest = buf_view(&sink.batch), one;

    if (sink.batch.n == 0)
        return;
    if (sink.fd >= 0 && !send_now(rest)) {
        while (event_next(&rest, &one))
            n++;
        /* Word of earlier ones went with it: they still have to be told. */
        if (sink.n_telling > 0)
            n += sink.n_telling - 1;
        sink.n_dropped += n;
    }
    sink.n_telling = 0;
    buf_clear(&sink.batch);
    /* There may be no later event that would tell it. */
    if (sink.n_dropped > 0 && sink.is_batching && !timer_is_set(&sink.flush))
        timer_set(&sink.flush, clock_after(TELL_MS), on_flush);
}

static void on_flush(struct timer *t UNUSED)
{
    if (sink.batch.n == 0 && sink.n_dropped > 0)
        put_dropped(&sink.batch);
    event_flush();
}

/* Commands and tests have no log process: a line on standard error. */
static void print(const struct event *e)
{
    struct buf b;

    buf_init(&b, EVENT_MAX_BYTES);
    buf_printf(&b, "%.*s: ", SLF(e->service));
    event_render_postfix(&b, e);
    buf_byte(&b, '\n');
    if (write(STDERR_FILENO, b.p, b.n) < 0)
        sink.n_dropped++;
    buf_done(&b);
}

static void emit(const struct event *e)
{
    if (sink.fd < 0) {
        print(e);
        return;
    }
    if (sink.batch.max == 0)
        buf_init(&sink.batch, BATCH_MAX);
    if (sink.n_dropped > 0 && sink.batch.n == 0)
        put_dropped(&sink.batch);
    if (!put_event(&sink.batch, e)) {
        event_flush();
        if (sink.n_dropped > 0)
            put_dropped(&sink.batch);
        if (!put_event(&sink.batch, e))
            sink.n_dropped++;
    }
    if (!sink.is_batching || e->level < EV_INFO)
        event_flush();
    else if (!timer_is_set(&sink.flush))
        timer_set(&sink.flush, clock_after(FLUSH_MS), on_flush);
}

void event_setup(int fd, const char *service)
{
    event_flush();
    sink.fd = fd;
    sink.service = service;
}

int event_fd(void)
{
    return sink.fd;
}

void event_batch(bool on)
{
    event_flush();
    sink.is_batching = on;
}

void event_log(enum ev_level level, const char *service, const char *name,
               const char *queue_id, const struct ev_field *fields,
               size_t n_fields)
{
    struct event e = { .level = level,
                       .wall_usec = clock_wall_usec(),
                       .pid = loop_pid(),
                       .service =
                           slice_str(service != NULL ? service : sink.service),
                       .name = slice_str(name),
                       .queue_id = slice_str(queue_id),
                       .fields = fields,
                       .n_fields = n_fields };
    int saved = errno;

    emit(&e);
    errno = saved;
}

PRINTF(4, 0)

static void text(enum ev_level level, const char *service, const char *queue_id,
                 const char *fmt, va_list ap)
{
    struct ev_field f;
    struct buf b;
    int saved = errno;

    buf_init(&b, EVENT_MAX_TEXT + 1);
    buf_vprintf(&b, fmt, ap);
    f = ev_tail(buf_view(&b));
    event_log(level, service, "text", queue_id, &f, 1);
    buf_done(&b);
    errno = saved;
}

#define TEXT(level, service, queue_id)                                         \
 do {                                                                          \
  va_list ap;                                                                  \
  va_start(ap, fmt);                                                           \
  text((level), (service), (queue_id), fmt, ap);                               \
  va_end(ap);                                                                  \
 } while (0)

void event_text(enum ev_level level, const char *service, const char *queue_id,
                const char *fmt, ...)
{
    TEXT(level, service, queue_id);
}

void log_error(const char *fmt, ...)
{
    TEXT(EV_ERROR, NULL, NULL);
}

void log_warning(const char *fmt, ...)
{
    TEXT(EV_WARNING, NULL, NULL);
}

void log_info(const char *fmt, ...)
{
    TEXT(EV_INFO, NULL, NULL);
}
