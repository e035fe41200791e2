/* Timers over one heap. */
#include "rt/rt_priv.h"

void timer_set(struct timer *t, msec at, void (*fn)(struct timer *t))
{
    t->fn = fn;
    if (t->node.at != 0)
        heap_move(&rt_loop.timers, &t->node, at);
    else
        heap_put(&rt_loop.timers, &t->node, at);
}

void timer_cancel(struct timer *t)
{
    heap_del(&rt_loop.timers, &t->node);
}

bool timer_is_set(const struct timer *t)
{
    return t->node.at != 0;
}

void lazy_timer_set(struct timer *t, msec at, void (*fn)(struct timer *t))
{
    if (t->node.at != 0 && t->node.key <= at)
        return;
    if (t->node.at == 0)
        rt_loop.n_lazy++;
    timer_set(t, at, fn);
}

void lazy_timer_drop(struct timer *t)
{
    if (t->node.at == 0)
        return;
    rt_loop.n_lazy--;
    heap_del(&rt_loop.timers, &t->node);
}

/* How many public timers are set. */
size_t timers_live(void)
{
    return rt_loop.timers.n - rt_loop.n_lazy;
}

msec timers_next(void)
{
    const struct heap_node *top = heap_top(&rt_loop.timers);

    return top == NULL ? MSEC_NEVER : top->key;
}

/* A timer set by fn for a time that has come runs in the next turn. */
void timers_run(msec now)
{
    size_t bound = rt_loop.timers.n;

    while (bound-- > 0) {
        struct heap_node *top = heap_top(&rt_loop.timers);
        struct timer *t;

        if (top == NULL || top->key > now)
            return;
        t = CONTAINER_OF(top, struct timer, node);
        heap_del(&rt_loop.timers, top);
        t->fn(t);
    }
}
