/* HTTP, as much as a scraper needs of it: one GET or HEAD a connection. */
#include "metrics/metrics.h"

#include "ipc/ipc.h"
#include "rt/rt.h"
#include "rt/stream.h"

#define SESSIONS_MAX 50
#define HEAD_BYTES   8192
#define SESSION_MS   10000
#define FRESH_MS     1000
#define ASK_MS       10000
#define TEXT_BYTES   (4u << 20)

struct port {
    struct list link;
    struct listener *listener;
    int fd;
};

struct metrics {
    struct process *process;
    struct list ports;
    size_t n_sessions;
    uint64_t n_served, n_refused;
    struct buf text; /* the last answer */
    msec text_at;
    bool has_text, is_asking;
    struct waitq asked;
    bool is_draining;
    void (*on_idle)(void *arg);
    void *on_idle_arg;
};

struct session {
    struct metrics *m;
    struct stream *stream;
};

struct metrics *metrics_new(struct process *p)
{
    struct metrics *m = xcalloc(1, sizeof *m);

    m->process = p;
    list_init(&m->ports);
    waitq_init(&m->asked);
    buf_init(&m->text, TEXT_BYTES);
    return m;
}

/* ---- the numbers */

MAY_WAIT static int ask_master(struct metrics *m, struct err *err)
{
    struct msg answer;
    slice text = SLICE_NONE;

    if (chan_call(m->process->master, MASTER_STATUS, SLICE_NONE, NULL, 0,
                  clock_after(ASK_MS), &answer, err) < 0)
        return -1;
    (void)attr_find(answer.body, AT_TEXT, &text);
    buf_clear(&m->text);
    metrics_render(text, &m->text);
    msg_free(&answer);
    m->has_text = !m->text.overflow;
    m->text_at = clock_mono();
    return m->has_text ? 0 : err_temp(err, "too many numbers");
}

/* At most one question to master at a time, and one a second. */
MAY_WAIT static int refresh(struct metrics *m, struct err *err)
{
    int rc;

    while (m->is_asking)
        if (waitq_wait(&m->asked, clock_after(ASK_MS), err) < 0)
            return -1;
    if (m->has_text && clock_mono() - m->text_at < FRESH_MS)
        return 0;
    m->is_asking = true;
    rc = ask_master(m, err);
    m->is_asking = false;
    waitq_wake_all(&m->asked);
    return rc;
}

/* ---- a session */

MAY_WAIT static int answer(struct stream *s, const char *status, slice body,
                           bool has_body, struct err *err)
{
    if (stream_printf(s, err,
                      "HTTP/1.1 %s\r\nContent-Type: text/plain; "
                      "version=0.0.4; charset=utf-8\r\nContent-Length: %zu\r\n"
                      "Connection: close\r\n\r\n",
                      status, body.n) < 0)
        return -1;
    if (has_body && stream_write(s, body, err) < 0)
        return -1;
    return stream_flush(s, err);
}

/* The request line and the fields behind it, which say nothing to us. */
MAY_WAIT static int read_head(struct stream *s, char *request, size_t size,
                              struct err *err)
{
    size_t total = 0;
    slice line;

    if (stream_line(s, HEAD_BYTES, &line, err) < 0)
        return -1;
    if (!slice_copy_to(slice_trim(line), request, size))
        return err_perm(err, "a request line that is too long");
    do {
        if (stream_line(s, HEAD_BYTES, &line, err) < 0)
            return -1;
        total += line.n + 2;
        if (total > HEAD_BYTES)
            return err_perm(err, "a head that is too long");
    } while (slice_trim(line).n > 0);
    return 0;
}

static bool is_for_us(slice path)
{
    slice query = path;

    (void)slice_cut(&query, '?', &path);
    return slice_eqs(path, "/metrics") || slice_eqs(path, "/");
}

MAY_WAIT static int serve(struct metrics *m, struct stream *s, struct err *err)
{
    char request[512];
    slice rest, method, path;
    bool is_head;
    struct buf copy;
    int rc;

    if (read_head(s, request, sizeof request, err) < 0)
        return err->class == ERR_PERM ? answer(s, "400 Bad Request",
                                               SL("bad request\n"), true, err)
                                      : -1;
    rest = slice_str(request);
    if (!slice_token(&rest, " ", &method) || !slice_token(&rest, " ", &path) ||
        !slice_starts(slice_trim(rest), SL("HTTP/1.")))
        return answer(s, "400 Bad Request", SL("bad request\n"), true, err);
    is_head = slice_eqs(method, "HEAD");
    if (!is_head && !slice_eqs(method, "GET"))
        return answer(s, "405 Method Not Allowed", SL("GET only\n"), true, err);
    if (!is_for_us(path))
        return answer(s, "404 Not Found", SL("see /metrics\n"), !is_head, err);
    if (refresh(m, err) < 0)
        return answer(s, "503 Service Unavailable", SL("try again later\n"),
                      !is_head, err);
    m->n_served++;
    /* The text may be made anew while this client reads. */
    buf_init(&copy, TEXT_BYTES);
    (void)buf_slice(&copy, buf_view(&m->text));
    rc = answer(s, "200 OK", buf_view(&copy), !is_head, err);
    buf_done(&copy);
    return rc;
}

static void idle_if_done(struct metrics *m)
{
    if (m->is_draining && m->n_sessions == 0)
        m->on_idle(m->on_idle_arg);
}

MAY_WAIT static void session_task(void *arg)
{
    struct session *s = arg;
    struct metrics *m = s->m;
    struct err err;

    stream_deadline(s->stream, clock_after(SESSION_MS));
    if (serve(m, s->stream, &err) == 0)
        (void)stream_shutdown(s->stream, &err);
    stream_free(&s->stream);
    free(s);
    m->n_sessions--;
    idle_if_done(m);
}

static void on_client(int fd, const struct peer_addr *peer UNUSED, void *arg)
{
    struct metrics *m = arg;
    struct session *s;

    if (m->n_sessions >= SESSIONS_MAX || m->is_draining) {
        m->n_refused++;
        close(fd);
        return;
    }
    s = xcalloc(1, sizeof *s);
    s->m = m;
    s->stream = stream_from_fd(fd);
    m->n_sessions++;
    (void)task_spawn("metrics", session_task, s);
}

void metrics_listen(struct metrics *m, const struct process_listener *l)
{
    struct port *p = xcalloc(1, sizeof *p);

    p->fd = l->fd;
    p->listener = listener_new(l->fd, on_client, m);
    list_push(&m->ports, &p->link);
}

void metrics_drain(struct metrics *m, void (*on_idle)(void *arg), void *arg)
{
    m->is_draining = true;
    m->on_idle = on_idle;
    m->on_idle_arg = arg;
    for (struct list *it = list_pop(&m->ports); it != NULL;
         it = list_pop(&m->ports)) {
        struct port *p = CONTAINER_OF(it, struct port, link);

        listener_free(&p->listener);
        close(p->fd);
        free(p);
    }
    idle_if_done(m);
}

void metrics_dump(const struct metrics *m, struct buf *out)
{
    (void)buf_printf(out,
                     "sessions %zu, served %" PRIu64 ", refused %" PRIu64 "\n",
                     m->n_sessions, m->n_served, m->n_refused);
}
