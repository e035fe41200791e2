/* The loop: turns, readiness, deferred calls, signals, the panic dump. */
#include "rt/rt_priv.h"

#include <pthread.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>

enum {
    BATCH = 256,
    STALL_MS = 50,
    TEST_CLOCK_LOOK_MS = 20, /* a test clock moves without waking us */
    DUMP_MAX = 1 << 20,
};

struct loop rt_loop;
struct loop rt_parent_loop;
void (*loop_on_stall)(const char *task_name, msec took);

static uint64_t old_nofile;

struct signal_watch {
    uv_signal_t uv;
    void (*fn)(int signo, void *arg);
    void *arg;
};

/* ---- real time */

static int64_t ms_of(clockid_t id)
{
    struct timespec ts;

    (void)clock_gettime(id, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

int64_t real_ms_coarse(void)
{
    return ms_of(CLOCK_MONOTONIC_COARSE);
}

int64_t real_ms(void)
{
    return ms_of(CLOCK_MONOTONIC);
}

void stall_check(const char *name, int64_t since)
{
    int64_t took;

    if (loop_on_stall == NULL)
        return;
    took = real_ms_coarse() - since;
    if (took > STALL_MS)
        loop_on_stall(name, took);
}

msec loop_now(void)
{
    return rt_loop.is_running ? rt_loop.now : clock_mono();
}

msec loop_after(msec ms)
{
    msec at;

    return ms == MSEC_NEVER || !ADD_OK(loop_now(), ms, &at) ? MSEC_NEVER : at;
}

/* ---- the process */

static pid_t own_pid;

static void forget_pid(void)
{
    own_pid = 0;
}

pid_t loop_pid(void)
{
    static bool is_hooked;

    if (own_pid != 0)
        return own_pid;
    if (!is_hooked)
        is_hooked = pthread_atfork(NULL, NULL, forget_pid) == 0;
    if (!is_hooked)
        return getpid();
    own_pid = getpid();
    return own_pid;
}

/* ---- sources */

static bool epoll_is_ours(void)
{
    return rt_loop.is_open && rt_loop.pid == loop_pid();
}

static int source_ctl(int op, int fd, uint32_t events, struct source *src)
{
    struct epoll_event ev = { .events = events, .data.ptr = src };

    return epoll_ctl(rt_loop.epoll_fd, op, fd, &ev);
}

int source_add(int fd, uint32_t events, struct source *src)
{
    return source_ctl(EPOLL_CTL_ADD, fd, events, src);
}

int source_mod(int fd, uint32_t events, struct source *src)
{
    return source_ctl(EPOLL_CTL_MOD, fd, events, src);
}

void source_del(int fd, struct source *src)
{
    /* Closing would not do: a duplicate in another process keeps the
     * registration alive. */
    if (epoll_is_ours())
        (void)source_ctl(EPOLL_CTL_DEL, fd, 0, src);
    source_forget(src);
}

void source_forget(struct source *src)
{
    for (int i = 0; i < rt_loop.n_batch; i++)
        if (rt_loop.batch[i].data.ptr == src)
            rt_loop.batch[i].data.ptr = NULL;
}

/* ---- libuv inside */

static void uv_pump(void)
{
    rt_loop.uv_dirty = false;
    (void)uv_run(&rt_loop.uv, UV_RUN_NOWAIT);
    if (uv_backend_timeout(&rt_loop.uv) == 0)
        rt_loop.uv_dirty = true;
}

static void uv_ready(UNUSED struct source *src, UNUSED uint32_t events)
{
    uv_pump();
}

static void uv_start(void)
{
    CHECK(uv_loop_init(&rt_loop.uv) == 0);
    CHECK(uv_async_init(&rt_loop.uv, &rt_loop.keep_alive, NULL) == 0);
    uv_pump(); /* registers libuv's own descriptors with its epoll */
    rt_loop.uv_source.fn = uv_ready;
    if (source_add(uv_backend_fd(&rt_loop.uv), EPOLLIN, &rt_loop.uv_source) < 0)
        panic("cannot watch libuv: %s", strerror(errno));
}

static void close_handle(uv_handle_t *h, UNUSED void *arg)
{
    if (!uv_is_closing(h))
        uv_close(h, h->type == UV_SIGNAL ? (uv_close_cb)free : NULL);
}

static void uv_stop_all(void)
{
    source_del(uv_backend_fd(&rt_loop.uv), &rt_loop.uv_source);
    uv_walk(&rt_loop.uv, close_handle, NULL);
    (void)uv_run(&rt_loop.uv, UV_RUN_DEFAULT);
    CHECK(uv_loop_close(&rt_loop.uv) == 0);
}

/* ---- signals */

static void signal_came(uv_signal_t *uv, int signo)
{
    struct signal_watch *w = CONTAINER_OF(uv, struct signal_watch, uv);

    w->fn(signo, w->arg);
}

void signal_on(int signo, void (*fn)(int signo, void *arg), void *arg)
{
    struct signal_watch *w = xcalloc(1, sizeof(*w));

    w->fn = fn;
    w->arg = arg;
    CHECK(uv_signal_init(&rt_loop.uv, &w->uv) == 0);
    CHECK(uv_signal_start(&w->uv, signal_came, signo) == 0);
    rt_loop.uv_dirty = true;
}

/* ---- deferred calls */

void deferred_set(struct deferred *d, void (*fn)(struct deferred *d))
{
    if (d->is_set)
        return;
    d->fn = fn;
    d->is_set = true;
    list_push(&rt_loop.deferred, &d->link);
}

void deferred_cancel(struct deferred *d)
{
    if (!d->is_set)
        return;
    d->is_set = false;
    list_remove(&d->link);
}

/* What a call sets anew runs in the next turn. */
static void deferred_run(void)
{
    struct list end;

    if (list_empty(&rt_loop.deferred))
        return;
    list_push(&rt_loop.deferred, &end);
    while (rt_loop.deferred.next != &end) {
        struct deferred *d =
            CONTAINER_OF(rt_loop.deferred.next, struct deferred, link);

        list_remove(&d->link);
        d->is_set = false;
        d->fn(d);
    }
    list_remove(&end);
}

/* ---- turns */

static bool is_idle(void)
{
    return rt_loop.n_tasks == 0 && rt_loop.n_parked == 0 &&
           rt_loop.n_background == 0 && rt_loop.n_children == 0 &&
           list_empty(&rt_loop.deferred) && timers_live() == 0;
}

static int poll_timeout(void)
{
    msec next = timers_next();
    msec left = -1;

    if (rt_loop.is_stopping || !list_empty(&rt_loop.ready) ||
        !list_empty(&rt_loop.deferred) || (rt_loop.is_until_idle && is_idle()))
        return 0;
    if (next != MSEC_NEVER) {
        left = next - clock_mono();
        if (left <= 0)
            return 0;
        if (left > 60000)
            left = 60000;
    }
    if (clock_is_test() && (left < 0 || left > TEST_CLOCK_LOOK_MS))
        left = TEST_CLOCK_LOOK_MS;
    return (int)left;
}

static void poll_and_dispatch(int timeout)
{
    int n = epoll_wait(rt_loop.epoll_fd, rt_loop.batch, BATCH, timeout);
    int64_t since = real_ms_coarse();

    CHECK(n >= 0 || errno == EINTR);
    rt_loop.n_turns++;
    rt_loop.now = clock_mono();
    rt_loop.n_batch = n > 0 ? n : 0;
    for (int i = 0; i < rt_loop.n_batch; i++) {
        struct source *src = rt_loop.batch[i].data.ptr;

        if (src != NULL)
            src->fn(src, rt_loop.batch[i].events);
    }
    rt_loop.n_batch = 0;
    stall_check("(descriptors)", since);
}

static void turn(void)
{
    int64_t since = real_ms_coarse();

    timers_run(rt_loop.now);
    stall_check("(timers)", since);
    tasks_run();
    since = real_ms_coarse();
    deferred_run();
    stall_check("(deferred)", since);
    if (rt_loop.uv_dirty)
        uv_pump();
    poll_and_dispatch(rt_loop.uv_dirty ? 0 : poll_timeout());
}

static void run(bool until_idle)
{
    CHECK(rt_loop.is_open && !rt_loop.is_running && !task_inside());
    rt_loop.is_running = true;
    rt_loop.is_stopping = false;
    rt_loop.is_until_idle = until_idle;
    rt_loop.now = clock_mono();
    while (!rt_loop.is_stopping && !(until_idle && is_idle()))
        turn();
    rt_loop.is_running = false;
}

void loop_run(void)
{
    run(false);
}

void loop_run_until_idle(void)
{
    run(true);
}

void loop_stop(void)
{
    rt_loop.is_stopping = true;
}

/* ---- beginning and end */

static void raise_nofile(void)
{
    struct rlimit lim;

    if (getrlimit(RLIMIT_NOFILE, &lim) < 0)
        return;
    if (old_nofile == 0)
        old_nofile = lim.rlim_cur;
    lim.rlim_cur = lim.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &lim);
}

uint64_t loop_old_nofile(void)
{
    return old_nofile;
}

/* What a panic shows, besides its own text. */
static void panic_dump(const char *text)
{
    struct buf b;

    buf_init(&b, DUMP_MAX);
    (void)buf_printf(&b, "%s: %s\n", rt_loop.name, text);
    if (task_self() != NULL)
        (void)buf_printf(&b, "in task %s\n", task_name(task_self()));
    rt_dump(&b);
    (void)!write(STDERR_FILENO, b.p, b.n);
    buf_done(&b);
}

static void ignore_sigpipe(void)
{
    struct sigaction sa = { .sa_handler = SIG_IGN };

    CHECK(sigaction(SIGPIPE, &sa, NULL) == 0);
}

/* A forked child gets the parent's loop: nothing of it may be touched but the
 * descriptors, which are closed.  Tasks and streams stay behind in memory. */
static void forget_parent(void)
{
    (void)close(rt_loop.epoll_fd);
    offload_forget();
    CHECK(uv_loop_fork(&rt_loop.uv) == 0);
    if (rt_loop.uv.active_reqs.count == 0) {
        uv_walk(&rt_loop.uv, close_handle, NULL);
        (void)uv_run(&rt_loop.uv, UV_RUN_DEFAULT);
        (void)uv_loop_close(&rt_loop.uv);
    }
    rt_parent_loop = rt_loop; /* what points to its tasks, for gdb and LSan */
    tasks_forget();
    children_forget();
}

void loop_init(const char *process_name, unsigned n_threads)
{
    clock_setup();
    if (rt_loop.is_open && rt_loop.pid != getpid())
        forget_parent();
    else
        CHECK(!rt_loop.is_open);
    memset(&rt_loop, 0, sizeof(rt_loop));
    raise_nofile();
    ignore_sigpipe();
    tls_memory_setup();
    (void)snprintf(rt_loop.name, sizeof(rt_loop.name), "%s", process_name);
    (void)prctl(PR_SET_NAME, rt_loop.name);

    rt_loop.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (rt_loop.epoll_fd < 0)
        panic("epoll_create: %s", strerror(errno));
    rt_loop.pid = getpid();
    rt_loop.batch = xcalloc(BATCH, sizeof(*rt_loop.batch));
    heap_init(&rt_loop.timers);
    list_init(&rt_loop.deferred);
    list_init(&rt_loop.tasks);
    list_init(&rt_loop.ready);
    list_init(&rt_loop.yielded);
    list_init(&rt_loop.streams);
    context_main(&rt_loop.context);
    rt_loop.now = clock_mono();
    rt_loop.is_open = true;
    check_hook = panic_dump;
    uv_start();
    offload_open(n_threads > 0 ? n_threads : 4);
    proc_prepare();
}

/* Let suspended tasks unwind: a stack is never freed under one.  What does not
 * end in a hundred turns is left behind. */
static void cancel_all(void)
{
    for (int i = 0; i < 100 && rt_loop.n_tasks > 0; i++) {
        tasks_cancel_all();
        tasks_run();
        if (rt_loop.uv_dirty)
            uv_pump();
        poll_and_dispatch(list_empty(&rt_loop.ready) ? 10 : 0);
        timers_run(rt_loop.now);
    }
}

void loop_done(void)
{
    CHECK(rt_loop.is_open && !rt_loop.is_running);
    cancel_all();
    while (rt_loop.n_background > 0)
        poll_and_dispatch(10);
    offload_close();
    uv_stop_all();
    (void)close(rt_loop.epoll_fd);
    free(rt_loop.batch);
    heap_done(&rt_loop.timers);
    children_forget();
    context_pool_drain();
    iobuf_pool_drain();
    rt_loop.is_open = false;
    check_hook = NULL;
}

void rt_dump(struct buf *out)
{
    (void)buf_printf(out,
                     "loop %s: %zu tasks, %zu parked, %zu timers, %zu in the "
                     "background\n",
                     rt_loop.name, rt_loop.n_tasks, rt_loop.n_parked,
                     timers_live(), rt_loop.n_background);
    if (!rt_loop.is_open)
        return;
    tasks_dump(out);
    streams_dump(out);
}
