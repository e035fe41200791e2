#include "base/clock.h"
#include "broker/broker.h"
#include "rt/rt.h"
#include "rt/sandbox.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>

#define IDLE_MS         60000 /* a mailbox worker without work goes then */
#define IDLE_COMMAND_MS 5000
#define ORPHAN_MS                                                              \
 10000 /* what is being done may take this long when the                       \
        * broker is gone */
#define FS_MAX  64
#define SYNC_MS 60000

/* Messages that came before on_start() had returned. */
struct early {
    struct list link;
    struct msg *msg;
};

static struct {
    struct worker w;
    struct list early;
    struct timer idle;
    struct timer orphan;
    uint64_t n_taken; /* connections, as the broker counts them */
    int n_busy;
    uint64_t devs[FS_MAX];
    size_t n_devs;
    uint64_t generation; /* of failed syncs: what is written now may rely on */
    uint64_t next_generation; /* told by a sync that failed */
    msec next_at;             /* when it is taken over; 0: there is none */
    bool is_started;
    bool is_exiting;
    int status;
} life;

static void idle_too_long(struct timer *t UNUSED)
{
    struct buf b;

    if (life.n_busy > 0 || life.w.is_retiring)
        return;
    /* The broker answers with WORKER_RETIRE, unless it gave us something
     * meanwhile. */
    buf_init(&b, 64);
    attr_put_u64(&b, AT_SEQ, life.n_taken);
    if (chan_send(life.w.broker, WORKER_IDLE, buf_view(&b), NULL, 0, NULL) < 0)
        worker_exit(&life.w, 1);
    buf_done(&b);
    worker_touch(&life.w);
}

void worker_touch(struct worker *w)
{
    timer_set(&life.idle,
              clock_after(w->is_command ? IDLE_COMMAND_MS : IDLE_MS),
              idle_too_long);
}

void worker_busy(struct worker *w, int change)
{
    life.n_busy += change;
    CHECK(life.n_busy >= 0);
    if (life.n_busy == 0 || change > 0)
        worker_touch(w);
}

int worker_tell_fs(struct worker *w, uint64_t dev, int dirfd, struct err *err)
{
    struct buf b;
    int fd;
    int rc;

    for (size_t i = 0; i < life.n_devs; i++)
        if (life.devs[i] == dev)
            return 0;
    if (life.n_devs == FS_MAX)
        return err_temp(err, "more than %d file systems with mail", FS_MAX);
    /* Opened anew: the kernel tells of a failed write once per opened file, and
     * who syncs by this descriptor here must not take that from the broker. */
    fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return err_sys(err, "open a directory for syncs");
    buf_init(&b, 64);
    attr_put_u64(&b, AT_FSID, dev);
    rc = chan_send(w->broker, WORKER_FS, buf_view(&b), &fd, 1, err);
    buf_done(&b);
    close(fd);
    if (rc == 0)
        life.devs[life.n_devs++] = dev;
    return rc;
}

/* ---------------------------------------------------------------- sessions */

static void tell(struct worker *w, uint16_t type, const struct buf *body,
                 const int *fd)
{
    if (chan_send(w->broker, type, buf_view(body), fd, fd != NULL ? 1 : 0,
                  NULL) < 0)
        log_warning("the broker does not take %s", proto_name(type));
}

static void begin(struct buf *body, const uint8_t *handle)
{
    buf_init(body, CHAN_MAX_BYTES);
    attr_put(body, AT_HANDLE, slice_of(handle, 16));
}

void worker_park(struct worker *w, const struct worker_parking *p)
{
    struct buf b;

    begin(&b, p->handle);
    attr_put_u64(&b, AT_OFFSET, p->n_read);
    attr_put_u64(&b, AT_LENGTH, p->n_written);
    attr_put_u64(&b, AT_TIME, p->keepalive_s);
    attr_put(&b, AT_TEXT, p->keepalive);
    tell(w, WORKER_PARK, &b, NULL);
    buf_done(&b);
}

void worker_push(struct worker *w, const uint8_t *handle, slice bytes)
{
    struct buf b;

    begin(&b, handle);
    attr_put(&b, AT_CONTENT, bytes);
    tell(w, WORKER_PUSH, &b, NULL);
    buf_done(&b);
}

void worker_ended(struct worker *w, const uint8_t *handle)
{
    struct buf b;

    begin(&b, handle);
    tell(w, WORKER_ENDED, &b, NULL);
    buf_done(&b);
}

void worker_keep(struct worker *w, const uint8_t *handle, slice record,
                 int watch_fd)
{
    struct buf b;

    begin(&b, handle);
    attr_put(&b, AT_RECORD, record);
    tell(w, WORKER_KEEP, &b, watch_fd >= 0 ? &watch_fd : NULL);
    buf_done(&b);
}

void worker_answer(struct worker *w, const struct msg *m)
{
    chan_answer(w->broker, m->id, SLICE_NONE, NULL, 0);
}

void worker_refuse(struct worker *w, const struct msg *m, const struct err *why)
{
    chan_fail(w->broker, m->id, why);
}

/* Others of this worker wrote before it too and ask later.  They are told the
 * same for as long as a sync may take. */
static void sync_failed(uint64_t generation)
{
    life.next_generation = generation;
    if (life.next_at == 0)
        life.next_at = clock_after(SYNC_MS);
}

static void take_generation(void)
{
    if (life.next_at == 0 || clock_mono() < life.next_at)
        return;
    life.generation = life.next_generation;
    life.next_at = 0;
}

int worker_sync(struct worker *w, uint64_t fs, int dirfd, struct err *err)
{
    struct msg answer;
    struct buf b;
    slice why;
    int rc;

    if (worker_tell_fs(w, fs, dirfd, err) < 0)
        return -1;
    buf_init(&b, 64);
    attr_put_u64(&b, AT_FSID, fs);
    take_generation();
    attr_put_u64(&b, AT_GENERATION, life.generation);
    attr_put_u64(&b, AT_FLAGS, 1); /* a client waits */
    rc = chan_call(w->broker, WORKER_SYNC, buf_view(&b), NULL, 0,
                   clock_after(SYNC_MS), &answer, err);
    buf_done(&b);
    if (rc < 0)
        return -1;
    if (attr_find(answer.body, AT_LOGTEXT, &why)) {
        rc = err_temp(err, "%.*s", SLF(why));
        sync_failed(attr_u64_or(answer.body, AT_GENERATION, 0));
    }
    msg_free(&answer);
    return rc;
}

int worker_sandbox(struct worker *w, struct err *err)
{
    static const char *const all[] = { "/", NULL };
    static const char *spool[] = { NULL, NULL };
    struct sandbox box = {
        .allow = SANDBOX_OPEN | SANDBOX_WRITE,
        .uid = (uid_t)-1, /* template changed it before we began */
        .gid = (gid_t)-1,
        .read_paths = all,
        .write_paths = all,
    };

    /* What a user's command may need is not ours to know: his uid is the
     * limit, as it is in Postfix. */
    if (w->is_command)
        return 0;
    if (w->is_spool) {
        spool[0] = conf_str(w->conf, NULL, "mail_spool_directory");
        box.read_paths = spool;
        box.write_paths = spool;
    }
    return sandbox_enter(&box, err);
}

MAY_WAIT static void exit_task(void *arg UNUSED)
{
    event_flush();
    (void)chan_flush(life.w.broker, clock_after(1000), NULL);
    loop_stop();
}

void worker_exit(struct worker *w UNUSED, int status)
{
    if (life.is_exiting)
        return;
    life.is_exiting = true;
    life.status = status;
    task_spawn("exit", exit_task, NULL);
}

static void retire(struct worker *w)
{
    if (w->is_retiring)
        return;
    w->is_retiring = true;
    if (life.is_started && w->ops->on_retire != NULL)
        w->ops->on_retire(w);
    else
        worker_exit(w, 0);
}

static void too_late(struct timer *t UNUSED)
{
    worker_exit(&life.w, 1);
}

static void broker_gone(struct chan *c UNUSED, void *arg UNUSED)
{
    timer_set(&life.orphan, clock_after(ORPHAN_MS), too_late);
    retire(&life.w);
}

static void reload_task(void *arg)
{
    struct msg *m CLEANUP(msg_delete) = arg;
    struct worker *w = &life.w;
    struct conf *conf, *old;
    struct err err;

    if (m->n_fds != 1 || process_read_conf(m->fds[0], &conf, &err) < 0) {
        log_error("%s", m->n_fds == 1 ? err.log : "no new configuration came");
        return;
    }
    old = w->conf;
    w->conf = conf;
    if (w->ops->on_reload != NULL)
        w->ops->on_reload(w, conf);
    conf_unref(&old);
    if (w->is_spool) /* its directory may be another one now */
        retire(w);
}

static void take_socket(struct worker *w, struct msg *m,
                        void (*fn)(struct worker *w, int fd))
{
    int fd = m->n_fds == 1 ? m->fds[0] : -1;

    if (fd < 0)
        return;
    life.n_taken++;
    worker_touch(w);
    if (fn == NULL || w->is_retiring)
        return; /* closed: the caller asks the broker again */
    m->fds[0] = -1;
    fn(w, fd);
}

/* WORKER_SESSION and WORKER_WAKE. */
static void take_session(struct worker *w, struct msg *m)
{
    struct err err;

    life.n_taken++;
    worker_touch(w);
    if (w->ops->on_session != NULL && !w->is_retiring) {
        w->ops->on_session(w, m);
        return;
    }
    err_temp(&err, "this worker is about to end");
    chan_fail(w->broker, m->id, &err);
    if (m->type == WORKER_SESSION) {
        slice handle;

        if (attr_find(m->body, AT_HANDLE, &handle) && handle.n == 16)
            worker_ended(w, (const uint8_t *)handle.p);
    }
}

static void answer_probe(struct msg *m)
{
    struct buf text, body;

    buf_init(&text, 4096);
    buf_init(&body, 8192);
    process_probe(&text);
    attr_put(&body, AT_TEXT, buf_view(&text));
    chan_answer(life.w.broker, m->id, buf_view(&body), NULL, 0);
    buf_done(&text);
    buf_done(&body);
}

static void handle(struct msg *m)
{
    struct worker *w = &life.w;

    if (m->type == WORKER_LMTP)
        take_socket(w, m, w->ops->on_lmtp);
    else if (m->type == WORKER_CHAN)
        take_socket(w, m, w->ops->on_chan);
    else if (m->type == WORKER_SESSION || m->type == WORKER_WAKE)
        take_session(w, m);
    else if (m->type == WORKER_DROP || m->type == WORKER_KICK) {
        if (w->ops->on_session_end != NULL)
            w->ops->on_session_end(w, m);
    } else if (m->type == WORKER_RELOAD)
        task_spawn("reload", reload_task, msg_take(m));
    else if (m->type == WORKER_RETIRE)
        retire(w);
    else if (m->type == WORKER_GENERATION)
        life.generation = attr_u64_or(m->body, AT_GENERATION, 0);
    else if (m->type == WORKER_PROBE)
        answer_probe(m);
}

static void from_broker(struct chan *c UNUSED, struct msg *m, void *arg UNUSED)
{
    struct early *e;

    if (life.is_started || m->type == WORKER_RETIRE) {
        handle(m);
        return;
    }
    e = xcalloc(1, sizeof *e);
    e->msg = msg_take(m);
    list_push(&life.early, &e->link);
}

static void start_task(void *arg UNUSED)
{
    struct worker *w = &life.w;
    struct list *it;
    struct err err;

    if (w->ops->on_start != NULL && w->ops->on_start(w, &err) < 0) {
        log_error("cannot start: %s", err.log);
        worker_exit(w, 1);
        return;
    }
    life.is_started = true;
    while ((it = list_pop(&life.early)) != NULL) {
        struct early *e = CONTAINER_OF(it, struct early, link);

        handle(e->msg);
        msg_delete(&e->msg);
        free(e);
    }
    worker_touch(w);
}

static void on_term(int signo UNUSED, void *arg UNUSED)
{
    retire(&life.w);
}

static const struct chan_ops broker_ops = {
    .on_msg = from_broker,
    .on_close = broker_gone,
};

int worker_main(int fd, struct conf *conf, const char *kind, bool is_root_mode,
                const struct worker_ops *ops)
{
    struct worker *w = &life.w;
    char name[32];

    memset(&life, 0, sizeof life);
    (void)snprintf(name, sizeof name, "hato: %s", kind);
    loop_init(name, 2);
    event_setup(event_fd(), "local");
    event_batch(true);
    list_init(&life.early);
    w->ops = ops;
    w->conf = conf;
    (void)snprintf(w->kind, sizeof w->kind, "%s", kind);
    w->is_command = strcmp(kind, "command") == 0;
    w->is_spool = strcmp(kind, "spool") == 0;
    w->is_root_mode = is_root_mode;
    signal_on(SIGTERM, on_term, NULL);
    w->broker = chan_new(fd, &broker_ops, NULL);
    task_spawn("start", start_task, NULL);
    loop_run();
    event_flush();
    chan_free(&w->broker);
    return life.status;
}
