/* How much processor time the queue takes for a message of one recipient that
 * is delivered at once: spool's owner side, schedule, request, answer and
 * settlement, with the writer of the message in the same process. */
#include "queue/test_util_queue.h"

#include <time.h>

#define N_MESSAGES 20000
#define BATCH      100

static double cpu(void)
{
    struct timespec ts;

    CHECK(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts) == 0);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

struct batch {
    struct world *w;
    size_t left;
};

static void mail_task(void *arg)
{
    struct batch *b = arg;

    world_mail(b->w, "a@far.example", "u@virtual.example");
    b->left--;
}

static MAY_WAIT void run(struct world *w)
{
    double began = cpu();
    double took;

    for (size_t i = 0; i < N_MESSAGES; i += BATCH) {
        struct batch b = { w, BATCH };

        for (size_t k = 0; k < BATCH; k++)
            (void)task_spawn("mail", mail_task, &b);
        while (b.left > 0)
            (void)task_sleep(1, &(struct err){ .sys = 0 });
    }
    world_settle(w);
    took = cpu() - began;
    printf("%d messages, %zu requests: %.1f us of CPU each\n", N_MESSAGES,
           w->n_asked, took * 1e6 / N_MESSAGES);
    (void)fflush(stdout);
}

int main(void)
{
    world_main();
    world_run("", run);
    return 0;
}
