#include "queue/queue.h"

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
