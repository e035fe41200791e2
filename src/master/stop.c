/* The end, in order: who accepts first, who logs last. */
#include "master/master_priv.h"

#include <signal.h>

#define TERM_MS 2000

static size_t count(struct master *m, unsigned types)
{
    size_t n = 0;

    list_each(it, &m->children)
        n += (types >> CONTAINER_OF(it, struct child, link)->type) & 1;
    return n;
}

static void signal_all(struct master *m, unsigned types, int signo)
{
    list_each(it, &m->children) {
        struct child *c = CONTAINER_OF(it, struct child, link);

        if ((types >> c->type & 1) != 0)
            (void)kill(c->pid, signo);
    }
}

MAY_WAIT static void wait_gone(struct master *m, unsigned types, msec ms)
{
    msec deadline = clock_after(ms);

    while (count(m, types) > 0 && waitq_wait(&m->changed, deadline, NULL) == 0)
        ;
}

MAY_WAIT static void end_types(struct master *m, unsigned types, msec limit)
{
    list_each(it, &m->children) {
        struct child *c = CONTAINER_OF(it, struct child, link);

        if ((types >> c->type & 1) != 0)
            child_drain(c, true);
    }
    wait_gone(m, types, limit);
    if (count(m, types) == 0)
        return;
    signal_all(m, types, SIGTERM);
    wait_gone(m, types, TERM_MS);
    if (count(m, types) == 0)
        return;
    log_warning("%zu processes had to be killed", count(m, types));
    signal_all(m, types, SIGKILL);
    wait_gone(m, types, TERM_MS);
}

void master_stop(struct master *m)
{
    static const struct {
        unsigned types;
        msec limit;
    } steps[] = {
        { 1u << PT_SMTPD | 1u << PT_LMTPD | 1u << PT_METRICS, 5000 },
        { 1u << PT_QMGR, 10000 },
        { 1u << PT_SMTP, 5000 },
        { 1u << PT_RESOLVER | 1u << PT_FETCHER | 1u << PT_LOCAL |
              1u << PT_TABLES | 1u << PT_AUTH | 1u << PT_AUTHWORKER,
          5000 },
        /* Workers say goodbye through login. */
        { 1u << PT_BROKER | 1u << PT_LOGIN, 10000 },
        { 1u << PT_TEMPLATE, 2000 },
    };

    m->state = MASTER_STOPPING;
    log_info("stopping the mail system");
    for (size_t i = 0; i < ARRAY_LEN(steps); i++)
        end_types(m, steps[i].types, steps[i].limit);
    event_flush();
    end_types(m, 1u << PT_LOG, 2000);
}

void master_abort(struct master *m)
{
    m->state = MASTER_STOPPING;
    log_info("aborting the mail system");
    event_flush();
    signal_all(m, ~(1u << PT_LOG), SIGKILL);
    wait_gone(m, ~(1u << PT_LOG), TERM_MS);
    end_types(m, 1u << PT_LOG, TERM_MS);
}
