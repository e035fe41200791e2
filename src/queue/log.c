#include "base/base.h"

#include "ipc/event.h"
#include "queue/queue_priv.h"

void log_active(const struct active *a)
{
    event_log(EV_INFO, NULL, "active", a->env.id,
              EV_PAIRS(ev_addr("from", a->env.sender),
                       ev_u64("size", spool_message_size(a->qm->sm)),
                       ev_u64("nrcpt", a->n_charged),
                       ev_tail(SL("(queue active)"))));
}

void log_removed(const char *queue_id)
{
    event_log(EV_INFO, NULL, "removed", queue_id,
              EV_PAIRS(ev_tail(SL("removed"))));
}

/* The line that a delivery agent would write: time before this attempt, time
 * in this process, and nothing for connecting and transmitting. */
void log_decided(const struct active *a, const struct qrcpt *r,
                 const char *status, slice dsn, slice text)
{
    msec now = clock_wall();
    msec arrival = envelope_arrival_ms(&a->env);
    char before[24];
    char here[24];
    char delays[64];
    char *tail;
    struct ev_field f[8];
    size_t n = 0;
    slice shown = queue_shown(r->addr, r->path);
    bool has_orig = r->orig.n > 0 && !slice_eq(r->orig, shown);

    (void)event_format_ms(a->since > arrival ? a->since - arrival : 0, before);
    (void)event_format_ms(now > a->since ? now - a->since : 0, here);
    (void)snprintf(delays, sizeof(delays), "%s/%s/0/0", before, here);
    tail = xasprintf("(%.*s)", SLF(slice_sub(text, 0, 1000)));
    f[n++] = ev_addr("to", shown);
    if (has_orig)
        f[n++] = ev_addr("orig_to", r->orig);
    f[n++] = ev_str("relay", SL("none"));
    f[n++] = ev_ms("delay", now > arrival ? now - arrival : 0);
    f[n++] = ev_str("delays", slice_str(delays));
    f[n++] = ev_str("dsn", dsn);
    f[n++] = ev_str("status", slice_str(status));
    f[n++] = ev_tail(slice_str(tail));
    event_log(EV_INFO, "error", "delivery", a->env.id, f, n);
    free(tail);
}
