#include "command/queue_priv.h"

#include <sysexits.h>
#include <time.h>

/* postqueue(1): -p list, -j list as JSON, -f flush, -s site, -i id. */

struct options {
    char mode; /* p j f s i */
    const char *arg;
};

struct listing {
    uint64_t n;
    uint64_t bytes;
};

/* ---- -p */

static void print_reason(slice reason)
{
    int indent = 76 - (int)min_size(reason.n, 76);

    if (reason.n == 0)
        return;
    printf("%*s(", indent, "");
    command_print_text(reason);
    puts(")");
}

static void print_rcpts(slice item)
{
    slice in = item;
    slice last = SLICE_NONE;
    struct attr a;

    while (attr_next(&in, &a) > 0) {
        slice addr = SLICE_NONE;
        slice reason = SLICE_NONE;

        if (a.tag != AT_RCPT)
            continue;
        (void)attr_find(a.v, AT_ADDR, &addr);
        (void)attr_find(a.v, AT_REASON, &reason);
        if (!slice_eq(reason, last))
            print_reason(reason);
        last = reason;
        printf("%-17s %8s %-19s ", "", "", "");
        command_print_text(addr);
        putchar('\n');
    }
}

static void print_item(struct command_queue *q, slice item)
{
    struct listing *l = q->data;
    slice id = SLICE_NONE, sender = SLICE_NONE, kind = SLICE_NONE;
    uint64_t size = attr_u64_or(item, AT_SIZE, 0);
    time_t arrival = (time_t)(attr_u64_or(item, AT_ARRIVAL, 0) / 1000);
    char when[32] = "";
    char shown[48];
    struct tm tm;

    (void)attr_find(item, AT_QUEUE_ID, &id);
    (void)attr_find(item, AT_SENDER, &sender);
    (void)attr_find(item, AT_KIND, &kind);
    if (l->n++ == 0)
        printf("%-17s %8s %-19s %s\n", "----Queue ID-----", "--Size--",
               "---Arrival Time----", "--Sender/Recipient------");
    l->bytes += size;
    (void)snprintf(shown, sizeof shown, "%.*s%s", SLF(id),
                   slice_eqs(kind, "active") ? "*"
                   : slice_eqs(kind, "hold") ? "!"
                                             : "");
    if (localtime_r(&arrival, &tm) != NULL)
        (void)strftime(when, sizeof when, "%a %b %e %H:%M:%S", &tm);
    if (sender.n == 0)
        sender = SL("MAILER-DAEMON");
    printf("%-17s %8" PRIu64 " %19.19s ", shown, size, when);
    command_print_text(sender);
    putchar('\n');
    print_rcpts(item);
    putchar('\n');
}

static void print_end(const struct listing *l)
{
    if (l->n == 0)
        puts("Mail queue is empty");
    else
        printf("-- %" PRIu64 " Kbytes in %" PRIu64 " Request%s.\n",
               l->bytes / 1024, l->n, l->n == 1 ? "" : "s");
}

/* ---- -j */

void command_json_string(slice s)
{
    putchar('"');
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];

        if (c == '"' || c == '\\')
            printf("\\%c", c);
        else if (c < ' ')
            printf("\\u%04x", c);
        else
            putchar(c);
    }
    putchar('"');
}

static void json_item(struct command_queue *q, slice item)
{
    slice id = SLICE_NONE, sender = SLICE_NONE, kind = SL("deferred");
    slice in = item;
    const char *comma = "";
    struct attr a;

    (void)q;
    (void)attr_find(item, AT_QUEUE_ID, &id);
    (void)attr_find(item, AT_SENDER, &sender);
    (void)attr_find(item, AT_KIND, &kind);
    if (sender.n == 0)
        sender = SL("MAILER-DAEMON"); /* as Postfix has it */
    printf("{\"queue_name\": ");
    command_json_string(kind);
    printf(", \"queue_id\": ");
    command_json_string(id);
    printf(", \"arrival_time\": %" PRIu64 ", \"message_size\": %" PRIu64
           ", \"forced_expire\": false, \"sender\": ",
           attr_u64_or(item, AT_ARRIVAL, 0) / 1000,
           attr_u64_or(item, AT_SIZE, 0));
    command_json_string(sender);
    printf(", \"recipients\": [");
    while (attr_next(&in, &a) > 0) {
        slice text = SLICE_NONE;

        if (a.tag != AT_RCPT)
            continue;
        (void)attr_find(a.v, AT_ADDR, &text);
        printf("%s{\"address\": ", comma);
        command_json_string(text);
        if (attr_find(a.v, AT_REASON, &text) && text.n > 0) {
            printf(", \"delay_reason\": ");
            command_json_string(text);
        }
        putchar('}');
        comma = ", ";
    }
    puts("]}");
}

/* ---- */

MAY_WAIT static void run(void *arg)
{
    const struct options *o = arg;
    struct listing l = { 0 };
    struct command_queue q = { .data = &l };
    struct buf b;

    command_queue_open_as_user(&q);
    buf_init(&b, 4096);
    switch (o->mode) {
    case 'p':
        q.on_item = print_item;
        command_queue_list(&q, SLICE_NONE);
        print_end(&l);
        break;
    case 'j':
        q.on_item = json_item;
        command_queue_list(&q, SLICE_NONE);
        break;
    case 'i':
        (void)attr_put_str(&b, AT_QUEUE_ID, o->arg);
        (void)command_queue_change(&q, QUEUE_FLUSH, buf_view(&b));
        break;
    default:
        (void)attr_put_str(&b, AT_NAME, o->arg != NULL ? o->arg : "");
        (void)command_queue_change(&q, QUEUE_FLUSH, buf_view(&b));
        break;
    }
    buf_done(&b);
    chan_free(&q.chan);
}

int command_postqueue(int argc, char **argv)
{
    struct options o = { 0 };
    int c;

    optind = 1;
    while ((c = getopt(argc, argv, "c:fi:jps:v")) != -1) {
        if (c == 'c')
            (void)setenv("MAIL_CONFIG", optarg, 1);
        else if (c == '?')
            break;
        else if (c != 'v') {
            o.mode = (char)c;
            o.arg = optarg;
        }
    }
    if (o.mode == 0 || c == '?' || optind < argc)
        command_die(EX_USAGE, "usage: postqueue -f | postqueue -i queueid | "
                              "postqueue -j | postqueue -p | postqueue -s "
                              "site");
    command_run_task(run, &o);
    command_flush();
    return 0;
}
