#include "queue/queue.h"

#include "queue/queue_priv.h"

static msec clamp(msec v, msec low, msec high)
{
    if (v > high)
        v = high;
    return v < low ? low : v;
}

msec queue_next_try(const struct queue_times *t, msec arrival, msec now,
                    msec epoch)
{
    /* A message waits as long again as it has waited so far, so the intervals
     * double; a clock that was set back makes no negative age. */
    msec age = now > arrival ? now - arrival : 0;
    msec at = now + clamp(age, t->min_backoff, t->max_backoff);
    msec run = t->run_delay;

    if (run <= 0 || at <= epoch)
        return at;
    return epoch + (at - epoch + run - 1) / run * run;
}

/* ---------------------------------------------------------------- feedback */

/* Three thirds are one. */
#define ROUND 1000

/* A decimal number, at most 1000, in millionths. */
static bool take_number(slice *in, int64_t *out)
{
    int64_t v = 0;
    int64_t unit = FEEDBACK_ONE;
    bool is_fraction = false;
    size_t n = 0;

    *in = slice_trim(*in);
    for (; n < in->n; n++) {
        char c = in->p[n];

        if (c == '.' && !is_fraction) {
            is_fraction = true;
            continue;
        }
        if (c < '0' || c > '9')
            break;
        if (is_fraction) {
            unit /= 10;
            v += (c - '0') * unit;
        } else {
            v = v * 10 + (int64_t)(c - '0') * FEEDBACK_ONE;
        }
        if (v > (int64_t)1000 * FEEDBACK_ONE)
            return false;
    }
    *in = slice_trim(slice_from(*in, n));
    *out = v;
    return n > 0;
}

bool feedback_parse(slice text, struct feedback *out)
{
    int64_t divisor;

    out->kind = PER_DELIVERY;
    if (!take_number(&text, &out->base))
        return false;
    if (text.n == 0)
        return true;
    if (text.p[0] != '/')
        return false;
    text = slice_trim(slice_from(text, 1));
    if (slice_eqs(text, "concurrency")) {
        out->kind = PER_CONCURRENCY;
        return true;
    }
    if (slice_eqs(text, "sqrt(concurrency)")) {
        out->kind = PER_ROOT;
        return true;
    }
    if (!take_number(&text, &divisor) || divisor == 0 || text.n > 0)
        return false;
    out->base = out->base * FEEDBACK_ONE / divisor;
    return true;
}

/* The square root of a whole number, in thousandths. */
static int64_t root(unsigned v)
{
    int64_t n = (int64_t)v * 1000000;
    int64_t x = n > 0 ? n : 1;

    for (unsigned i = 0; i < 64 && x > n / x; i++)
        x = (x + n / x) / 2;
    return x > 0 ? x : 1;
}

static int64_t feedback_value(const struct feedback *f, unsigned window)
{
    if (f->kind == PER_CONCURRENCY)
        return f->base / (window > 0 ? window : 1);
    if (f->kind == PER_ROOT)
        return f->base * 1000 / root(window > 0 ? window : 1);
    return f->base;
}

/*
 * As Postfix: success adds to the window until the limit, but the window stays
 * near to what is really on the way, else failures would not be felt.
 */
void window_grow(struct window *w, const struct window_rules *r,
                 unsigned n_running)
{
    w->cohorts = 0;
    if ((r->limit != 0 && w->size >= r->limit) ||
        w->size >= n_running + r->start)
        return;
    w->success += feedback_value(&r->positive, w->size);
    while (w->success >= FEEDBACK_ONE - ROUND) {
        w->size++;
        w->success -= FEEDBACK_ONE;
        w->failure = 0;
    }
    if (r->limit != 0 && w->size > r->limit)
        w->size = r->limit;
}

bool window_shrink(struct window *w, const struct window_rules *r)
{
    w->cohorts += FEEDBACK_ONE / (w->size > 0 ? w->size : 1);
    if (r->cohort_limit != 0 &&
        w->cohorts >= (int64_t)r->cohort_limit * FEEDBACK_ONE - ROUND)
        return true;
    w->failure -= feedback_value(&r->negative, w->size);
    while (w->failure < -ROUND) {
        w->size -= w->size > 0 ? 1 : 0;
        w->success = 0;
        w->failure += FEEDBACK_ONE;
    }
    if (w->size < 1)
        w->size = 1;
    return false;
}
