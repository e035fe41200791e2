/* Tasks: spawning, running, waiting. */
#include "rt/rt_priv.h"

#define TASK_MAGIC MAGIC('T', 'A', 'S', 'K')

enum {
    RUNS_PER_TURN = 1024, /* then look at the descriptors again */
    LONG_RUN_MS = 5,
};

struct task {
    uint32_t magic;
    enum task_state state;
    enum wait_kind kind;
    enum wait_end end;
    bool is_woken; /* a wake that nobody waited for */
    bool is_cancelled;
    bool has_context;
    enum stream_why why;
    const char *name;
    task_fn *fn;
    void (*why_fn)(void *arg, enum stream_why why); /* instead of fn */
    void *arg;
    msec deadline;     /* of the present wait */
    int64_t run_since; /* real_ms_coarse() */
    struct timer timer;
    struct list link;  /* in rt_loop.tasks */
    struct list queue; /* in rt_loop.ready or .yielded */
    struct context context;
};

/* Thread-local, so that a thread of offload's pool sees that it is no task. */
static _Thread_local struct task *current;
static unsigned no_wait_depth;

struct task *task_self(void)
{
    return current;
}

bool task_inside(void)
{
    return current != NULL;
}

const char *task_name(const struct task *t)
{
    return t->name;
}

size_t task_count(void)
{
    return rt_loop.n_tasks;
}

static struct task *task_new(const char *name, void *arg)
{
    struct task *t = xcalloc(1, sizeof(*t));

    CHECK(rt_loop.is_open);
    t->magic = TASK_MAGIC;
    t->state = TASK_READY;
    t->name = name;
    t->arg = arg;
    list_push(&rt_loop.tasks, &t->link);
    list_push(&rt_loop.ready, &t->queue);
    rt_loop.n_tasks++;
    return t;
}

struct task *task_spawn(const char *name, task_fn *fn, void *arg)
{
    struct task *t = task_new(name, arg);

    t->fn = fn;
    return t;
}

struct task *task_spawn_why(const char *name,
                            void (*fn)(void *arg, enum stream_why why),
                            void *arg, enum stream_why why)
{
    struct task *t = task_new(name, arg);

    t->why_fn = fn;
    t->why = why;
    return t;
}

static void task_main(void *arg)
{
    struct task *t = arg;

    current = t;
    if (t->why_fn != NULL)
        t->why_fn(t->arg, t->why);
    else
        t->fn(t->arg);
    CHECK(no_wait_depth == 0);
    t->state = TASK_GONE;
    context_leave(&t->context, &rt_loop.context);
}

static void task_free(struct task *t)
{
    lazy_timer_drop(&t->timer);
    list_remove(&t->link);
    context_free(&t->context);
    rt_loop.n_tasks--;
    t->magic = 0;
    free(t);
}

static void task_run(struct task *t)
{
    CHECK_OBJ(t, TASK_MAGIC);
    CHECK(t->state == TASK_READY);
    if (!t->has_context) {
        /* Only now, so that any number of spawned tasks shares few stacks. */
        context_make(&t->context, task_main, t);
        t->has_context = true;
    }
    t->state = TASK_RUNNING;
    t->run_since = real_ms_coarse();
    current = t;
    context_switch(&rt_loop.context, &t->context);
    current = NULL;
    stall_check(t->name, t->run_since);
    if (t->state == TASK_GONE)
        task_free(t);
}

static struct list *ready_pick(void)
{
    struct list *at = rt_loop.ready.next;
    size_t n = 0;

    if (rt_loop.seed == 0)
        return at;
    list_each(e, &rt_loop.ready)
        n++;
    CHECK(n > 0);
    /* xorshift64: any fixed sequence that the seed decides will do. */
    rt_loop.seed ^= rt_loop.seed << 13;
    rt_loop.seed ^= rt_loop.seed >> 7;
    rt_loop.seed ^= rt_loop.seed << 17;
    for (n = (size_t)(rt_loop.seed % n); n > 0; n--)
        at = at->next;
    return at;
}

void tasks_run(void)
{
    for (int i = 0; i < RUNS_PER_TURN && !list_empty(&rt_loop.ready); i++) {
        struct list *e = ready_pick();

        list_remove(e);
        task_run(CONTAINER_OF(e, struct task, queue));
    }
    while (!list_empty(&rt_loop.yielded))
        list_push(&rt_loop.ready, list_pop(&rt_loop.yielded));
}

void task_schedule_seed(uint64_t seed)
{
    rt_loop.seed = seed;
}

/* ---- waiting */

static void make_ready(struct task *t, enum wait_end end)
{
    t->state = TASK_READY;
    t->end = end;
    list_push(&rt_loop.ready, &t->queue);
}

static void deadline_came(struct timer *timer)
{
    struct task *t = CONTAINER_OF(timer, struct task, timer);

    rt_loop.n_lazy--;
    if (t->state != TASK_WAITING || t->deadline == MSEC_NEVER)
        return;
    if (t->deadline > rt_loop.now)
        lazy_timer_set(timer, t->deadline, deadline_came);
    else
        make_ready(t, WAIT_DEADLINE);
}

enum wait_end task_block(enum wait_kind kind, msec deadline)
{
    struct task *t = current;

    CHECK(t != NULL);
    CHECK(no_wait_depth == 0);
    if (kind != WAIT_FIRM && t->is_cancelled)
        return WAIT_CANCELLED;
    if (kind == WAIT_WAKE && t->is_woken) {
        t->is_woken = false;
        return WAIT_WOKEN;
    }
    if (deadline != MSEC_NEVER && deadline <= rt_loop.now)
        return WAIT_DEADLINE;

    t->kind = kind;
    t->deadline = deadline;
    t->state = TASK_WAITING;
    if (deadline != MSEC_NEVER)
        lazy_timer_set(&t->timer, deadline, deadline_came);
    context_switch(&t->context, &rt_loop.context);
    return t->end;
}

int wait_result(enum wait_end end, struct err *err)
{
    switch (end) {
    case WAIT_WOKEN:
        return 0;
    case WAIT_DEADLINE:
        return err_temp(err, "timed out");
    case WAIT_CANCELLED:
        return err_peer(err, "cancelled");
    }
    panic("no such end of a wait: %d", (int)end);
}

int task_wait(msec deadline, struct err *err)
{
    return wait_result(task_block(WAIT_WAKE, deadline), err);
}

void task_wake(struct task *t)
{
    CHECK_OBJ(t, TASK_MAGIC);
    if (t->state == TASK_WAITING && t->kind == WAIT_WAKE)
        make_ready(t, WAIT_WOKEN);
    else
        t->is_woken = true;
}

void task_resume(struct task *t)
{
    CHECK_OBJ(t, TASK_MAGIC);
    CHECK(t->state == TASK_WAITING && t->kind == WAIT_FIRM);
    make_ready(t, WAIT_WOKEN);
}

int task_sleep(msec ms, struct err *err)
{
    if (task_block(WAIT_SLEEP, clock_after(ms)) == WAIT_CANCELLED)
        return wait_result(WAIT_CANCELLED, err);
    return 0;
}

void task_yield(void)
{
    struct task *t = current;

    CHECK(t != NULL);
    CHECK(no_wait_depth == 0);
    t->state = TASK_READY;
    list_push(&rt_loop.yielded, &t->queue);
    context_switch(&t->context, &rt_loop.context);
}

bool task_is_long(void)
{
    return current != NULL &&
           real_ms_coarse() - current->run_since > LONG_RUN_MS;
}

void task_yield_if_long(void)
{
    if (task_is_long())
        task_yield();
}

void task_cancel(struct task *t)
{
    CHECK_OBJ(t, TASK_MAGIC);
    t->is_cancelled = true;
    if (t->state == TASK_WAITING && t->kind != WAIT_FIRM)
        make_ready(t, WAIT_CANCELLED);
}

void tasks_cancel_all(void)
{
    list_each(e, &rt_loop.tasks)
        task_cancel(CONTAINER_OF(e, struct task, link));
}

void task_uncancel(void)
{
    CHECK(current != NULL);
    current->is_cancelled = false;
}

bool task_is_cancelled(void)
{
    return current != NULL && current->is_cancelled;
}

void no_wait_begin(void)
{
    no_wait_depth++;
}

void no_wait_end(void)
{
    CHECK(no_wait_depth > 0);
    no_wait_depth--;
}

/* In a forked child the parent's tasks are memory only; their stacks leak,
 * among them the one that this may run on. */
void tasks_forget(void)
{
    current = NULL;
    no_wait_depth = 0;
}

/* ---- dump */

static void dump_pc(void *arg, uintptr_t pc)
{
    (void)buf_printf(arg, " %#" PRIxPTR, pc);
}

void tasks_dump(struct buf *out)
{
    static const char *const states[] = { "?", "ready", "running", "waiting",
                                          "gone" };
    msec now = clock_mono();

    list_each(e, &rt_loop.tasks) {
        const struct task *t = CONTAINER_OF(e, struct task, link);

        (void)buf_printf(out, "task %s %s", t->name, states[t->state]);
        if (t->is_cancelled)
            (void)buf_puts(out, " cancelled");
        if (t->state == TASK_WAITING && t->deadline != MSEC_NEVER)
            (void)buf_printf(out, " deadline=%" PRId64 "ms", t->deadline - now);
        if (t->state != TASK_RUNNING && t->has_context) {
            (void)buf_printf(out, " stack=%zu at", context_depth(&t->context));
            context_backtrace(&t->context, 8, dump_pc, out);
        }
        (void)buf_byte(out, '\n');
    }
}
