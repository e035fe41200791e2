#include "command/queue_priv.h"

#include <sysexits.h>

/* postsuper(1): -d delete, -h hold, -H release, -r requeue; by queue id, "ALL"
 * (with "-d ALL deferred" only that queue), or "-" for ids on standard input.
 * -s and -p have nothing to do: the spool repairs itself at start. */

#define OPS_MAX 1000

struct op {
    char what;
    const char *id;
};

struct ops {
    struct op v[OPS_MAX];
    size_t n;
    const char *only; /* queue name behind ALL, or NULL */
};

static const struct {
    char letter;
    uint16_t type;
    const char *done;
} kinds[] = {
    { 'd', QUEUE_DELETE, "Deleted" },
    { 'h', QUEUE_HOLD, "Placed on hold" },
    { 'H', QUEUE_RELEASE, "Released from hold" },
    { 'r', QUEUE_REQUEUE, "Requeued" },
};

MAY_WAIT static uint64_t change(struct command_queue *q, uint16_t type,
                                slice id, const char *only)
{
    struct buf b;
    uint64_t n;

    buf_init(&b, 4096);
    (void)attr_put(&b, AT_QUEUE_ID, id);
    if (only != NULL)
        (void)attr_put_str(&b, AT_KIND, only);
    n = command_queue_change(q, type, buf_view(&b));
    buf_done(&b);
    return n;
}

MAY_WAIT static uint64_t from_stdin(struct command_queue *q, uint16_t type)
{
    char line[256];
    uint64_t n = 0;

    while (fgets(line, sizeof line, stdin) != NULL)
        n += change(q, type, slice_trim(slice_str(line)), NULL);
    return n;
}

MAY_WAIT static void run(void *arg)
{
    struct ops *ops = arg;
    struct command_queue q = { 0 };
    uint64_t n[ARRAY_LEN(kinds)] = { 0 };

    command_queue_open(&q);
    for (size_t i = 0; i < ops->n; i++)
        for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
            if (kinds[k].letter != ops->v[i].what)
                continue;
            if (strcmp(ops->v[i].id, "-") == 0)
                n[k] += from_stdin(&q, kinds[k].type);
            else
                n[k] += change(&q, kinds[k].type, slice_str(ops->v[i].id),
                               ops->only);
        }
    for (size_t k = 0; k < ARRAY_LEN(kinds); k++)
        if (n[k] > 0)
            (void)fprintf(stderr, "%s: %s: %" PRIu64 " message%s\n",
                          command_name, kinds[k].done, n[k],
                          n[k] == 1 ? "" : "s");
    chan_free(&q.chan);
}

int command_postsuper(int argc, char **argv)
{
    static struct ops ops;
    int c;

    optind = 1;
    while ((c = getopt(argc, argv, "c:d:h:H:r:e:f:psSv")) != -1) {
        switch (c) {
        case 'c':
            (void)setenv("MAIL_CONFIG", optarg, 1);
            break;
        case 'd':
        case 'h':
        case 'H':
        case 'r':
            if (ops.n == OPS_MAX)
                command_die(EX_USAGE, "more than %d queue ids; use -%c -",
                            OPS_MAX, c);
            ops.v[ops.n++] = (struct op){ (char)c, optarg };
            break;
        case 'p':
        case 's':
        case 'S':
        case 'v':
            break;
        default:
            command_die(EX_USAGE, "usage: postsuper [-c config_dir] [-d id] "
                                  "[-h id] [-H id] [-r id] [queue]");
        }
    }
    if (optind < argc)
        ops.only = argv[optind];
    if (ops.n > 0)
        command_run_task(run, &ops);
    return 0;
}
