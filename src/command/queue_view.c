#include "command/queue_priv.h"

#include "base/clock.h"

#include <fnmatch.h>
#include <getopt.h>
#include <sysexits.h>
#include <time.h>

/* hato queue: the queue with filters; why a message waits, its next try, the
 * last answers; and what postsuper does to all that match. */

#define IDS_MAX ((size_t)10000000)

enum { OPT_JSON = 256, OPT_SHAPE, OPT_COUNT, OPT_IDS };

struct options {
    const char *sender, *rcpt, *site, *transport, *reason, *id;
    const char *kinds[5];
    size_t n_kinds;
    msec older, younger; /* ms; 0: not asked */
    bool is_json, is_shape, is_count, is_ids;
    const char *action; /* NULL: show */
    msec now;
    uint64_t n;
    struct buf found; /* ids, one a line, for the action */
};

/* ---------------------------------------------------------------- filters */

/* An address, "@domain", or a pattern with "*" and "?"; "<>" is nobody. */
static bool is_like(slice text, const char *pattern)
{
    char want[520];
    char *have;
    bool is_match;

    if (strcmp(pattern, "<>") == 0)
        return text.n == 0;
    (void)snprintf(want, sizeof want, "%s%s", pattern[0] == '@' ? "*" : "",
                   pattern);
    have = slice_xstrdup(slice_sub(text, 0, 1000));
    is_match = fnmatch(want, have, FNM_CASEFOLD) == 0;
    free(have);
    return is_match;
}

static bool is_site(slice addr, const char *site)
{
    ssize_t at = slice_rchr(addr, '@');

    return at >= 0 && slice_ieqs(slice_from(addr, (size_t)at + 1), site);
}

static bool has_text(slice text, const char *part)
{
    char *have = slice_xstrdup(text);
    bool is_there = strstr(have, part) != NULL;

    free(have);
    return is_there;
}

static bool is_rcpt_wanted(const struct options *o, slice rcpt)
{
    slice addr = SLICE_NONE;
    slice transport = SLICE_NONE;
    slice reason = SLICE_NONE;

    (void)attr_find(rcpt, AT_ADDR, &addr);
    (void)attr_find(rcpt, AT_TRANSPORT, &transport);
    (void)attr_find(rcpt, AT_REASON, &reason);
    return (o->rcpt == NULL || is_like(addr, o->rcpt)) &&
           (o->site == NULL || is_site(addr, o->site)) &&
           (o->transport == NULL || slice_eqs(transport, o->transport)) &&
           (o->reason == NULL || has_text(reason, o->reason));
}

static bool is_wanted(void *arg, slice item)
{
    const struct options *o = arg;
    msec age = o->now - (msec)attr_u64_or(item, AT_ARRIVAL, 0);
    slice sender = SLICE_NONE;
    slice id = SLICE_NONE;
    struct attr a;

    (void)attr_find(item, AT_SENDER, &sender);
    (void)attr_find(item, AT_QUEUE_ID, &id);
    if ((o->sender != NULL && !is_like(sender, o->sender)) ||
        (o->id != NULL && !slice_eqs(id, o->id)) ||
        (o->older > 0 && age < o->older) ||
        (o->younger > 0 && age >= o->younger))
        return false;
    if (o->rcpt == NULL && o->site == NULL && o->transport == NULL &&
        o->reason == NULL)
        return true;
    while (attr_next(&item, &a) > 0)
        if (a.tag == AT_RCPT && is_rcpt_wanted(o, a.v))
            return true;
    return false;
}

/* ---------------------------------------------------------------- printing */

static void print_time(msec at, bool has_seconds)
{
    time_t t = (time_t)(at / 1000);
    char text[48] = "";
    struct tm tm;

    if (localtime_r(&t, &tm) != NULL)
        (void)strftime(text, sizeof text, "%b %e %H:%M:%S", &tm);
    text[has_seconds ? sizeof text - 1 : 12] = '\0';
    (void)fputs(text, stdout);
}

static void print_span(msec ms)
{
    int64_t s = ms / 1000;

    if (s < 120)
        printf("%" PRId64 "s", s < 0 ? 0 : s);
    else if (s < (int64_t)120 * 60)
        printf("%" PRId64 "m", s / 60);
    else if (s < (int64_t)48 * 3600)
        printf("%" PRId64 "h", s / 3600);
    else
        printf("%" PRId64 "d", s / 86400);
}

static void print_rcpt(slice rcpt)
{
    slice addr = SLICE_NONE, transport = SLICE_NONE, nexthop = SLICE_NONE;
    slice reason = SLICE_NONE, status = SLICE_NONE;

    (void)attr_find(rcpt, AT_ADDR, &addr);
    (void)attr_find(rcpt, AT_TRANSPORT, &transport);
    (void)attr_find(rcpt, AT_NEXTHOP, &nexthop);
    (void)attr_find(rcpt, AT_REASON, &reason);
    (void)attr_find(rcpt, AT_STATUS, &status);
    (void)fputs("    to ", stdout);
    command_print_text(addr);
    if (transport.n > 0) {
        (void)fputs(" by ", stdout);
        command_print_text(transport);
        putchar(':');
        command_print_text(nexthop);
    }
    putchar('\n');
    if (reason.n == 0)
        return;
    (void)fputs("        ", stdout);
    command_print_text(status);
    putchar(' ');
    command_print_text(reason);
    putchar('\n');
}

static void print_why(const struct options *o, slice item)
{
    msec next = (msec)attr_u64_or(item, AT_TIME, 0);
    uint64_t n = attr_u64_or(item, AT_ATTEMPTS, 0);
    slice why = SLICE_NONE;

    (void)attr_find(item, AT_TEXT, &why);
    (void)fputs("    ", stdout);
    command_print_text(why);
    if (next > o->now && slice_starts(why, SL("waits"))) {
        (void)fputs(" in ", stdout);
        print_span(next - o->now);
        (void)fputs(" (", stdout);
        print_time(next, false);
        putchar(')');
    }
    if (n > 0)
        printf(", tried %" PRIu64 " time%s", n, n == 1 ? "" : "s");
    putchar('\n');
}

static void print_item(const struct options *o, slice item)
{
    msec arrival = (msec)attr_u64_or(item, AT_ARRIVAL, 0);
    slice id = SLICE_NONE, sender = SLICE_NONE, kind = SLICE_NONE;
    struct attr a;

    (void)attr_find(item, AT_QUEUE_ID, &id);
    (void)attr_find(item, AT_SENDER, &sender);
    (void)attr_find(item, AT_KIND, &kind);
    printf("%-17.*s %-8.*s %" PRIu64 " bytes, ", SLF(id), SLF(kind),
           attr_u64_or(item, AT_SIZE, 0));
    print_span(o->now - arrival);
    (void)fputs(" old (", stdout);
    print_time(arrival, true);
    (void)fputs("), from <", stdout);
    command_print_text(sender);
    puts(">");
    print_why(o, item);
    while (attr_next(&item, &a) > 0)
        if (a.tag == AT_RCPT)
            print_rcpt(a.v);
}

static void json_field(slice in, uint16_t tag, const char *name)
{
    slice text = SLICE_NONE;

    if (!attr_find(in, tag, &text) || text.n == 0)
        return;
    printf(", \"%s\": ", name);
    command_json_string(text);
}

static void json_item(slice item)
{
    slice id = SLICE_NONE, sender = SLICE_NONE, addr = SLICE_NONE;
    slice in = item;
    const char *comma = "";
    struct attr a;

    (void)attr_find(item, AT_QUEUE_ID, &id);
    (void)attr_find(item, AT_SENDER, &sender);
    (void)fputs("{\"queue_id\": ", stdout);
    command_json_string(id);
    json_field(item, AT_KIND, "queue_name");
    printf(", \"arrival_time\": %" PRIu64 ", \"message_size\": %" PRIu64
           ", \"next_try\": %" PRIu64 ", \"attempts\": %" PRIu64,
           attr_u64_or(item, AT_ARRIVAL, 0) / 1000,
           attr_u64_or(item, AT_SIZE, 0), attr_u64_or(item, AT_TIME, 0) / 1000,
           attr_u64_or(item, AT_ATTEMPTS, 0));
    json_field(item, AT_TEXT, "why");
    (void)fputs(", \"sender\": ", stdout);
    command_json_string(sender);
    (void)fputs(", \"recipients\": [", stdout);
    while (attr_next(&in, &a) > 0) {
        if (a.tag != AT_RCPT)
            continue;
        (void)attr_find(a.v, AT_ADDR, &addr);
        printf("%s{\"address\": ", comma);
        command_json_string(addr);
        json_field(a.v, AT_TRANSPORT, "transport");
        json_field(a.v, AT_NEXTHOP, "nexthop");
        json_field(a.v, AT_STATUS, "status");
        json_field(a.v, AT_REASON, "delay_reason");
        putchar('}');
        comma = ", ";
    }
    puts("]}");
}

static void on_item(struct command_queue *q, slice item)
{
    struct options *o = q->data;
    slice id = SLICE_NONE;

    if (!is_wanted(o, item))
        return;
    o->n++;
    (void)attr_find(item, AT_QUEUE_ID, &id);
    if (o->action != NULL) {
        (void)buf_slice(&o->found, id);
        (void)buf_byte(&o->found, '\n');
    } else if (o->is_ids) {
        printf("%.*s\n", SLF(id));
    } else if (o->is_json) {
        json_item(item);
    } else if (!o->is_count) {
        print_item(o, item);
    }
}

/* ---------------------------------------------------------------- actions */

static const struct {
    const char *name;
    uint16_t type;
    const char *done;
} actions[] = {
    { "hold", QUEUE_HOLD, "held" },
    { "release", QUEUE_RELEASE, "released" },
    { "delete", QUEUE_DELETE, "deleted" },
    { "requeue", QUEUE_REQUEUE, "requeued" },
    { "flush", QUEUE_FLUSH, "to be tried now" },
};

/* Some hundred at a time: each request is made durable by one sync. */
MAY_WAIT static void act(struct command_queue *q, struct options *o)
{
    slice left = buf_view(&o->found);
    uint64_t n = 0;
    size_t k = 0;
    slice id;

    while (strcmp(actions[k].name, o->action) != 0)
        k++;
    while (left.n > 0) {
        struct buf b;

        buf_init(&b, 65536);
        for (unsigned i = 0; i < 500 && slice_cut(&left, '\n', &id); i++)
            (void)attr_put(&b, AT_QUEUE_ID, id);
        n += command_queue_change(q, actions[k].type, buf_view(&b));
        buf_done(&b);
    }
    printf("%" PRIu64 " message%s %s\n", n, n == 1 ? "" : "s", actions[k].done);
}

MAY_WAIT static void shape(struct options *o)
{
    struct command_shape_options s;

    command_shape_defaults(&s);
    s.queues = o->n_kinds > 0 ? o->kinds : NULL;
    s.is_wanted = is_wanted;
    s.arg = o;
    command_shape(&s);
}

MAY_WAIT static void run(void *arg)
{
    struct options *o = arg;
    struct command_queue q = { .data = o, .on_item = on_item };
    struct buf b;

    if (o->is_shape) {
        shape(o);
        return;
    }
    if (o->action != NULL)
        command_queue_open(&q);
    else
        command_queue_open_as_user(&q);
    buf_init(&b, 4096);
    for (size_t i = 0; i < o->n_kinds; i++)
        (void)attr_put_str(&b, AT_KIND, o->kinds[i]);
    if (o->transport != NULL ||
        (o->action == NULL && !o->is_count && !o->is_ids))
        (void)attr_put_u64(&b, AT_FLAGS, 1);
    command_queue_list(&q, buf_view(&b));
    buf_done(&b);
    if (o->action != NULL)
        act(&q, o);
    else if (o->is_count)
        printf("%" PRIu64 "\n", o->n);
    else if (!o->is_json && !o->is_ids)
        printf("%" PRIu64 " message%s\n", o->n, o->n == 1 ? "" : "s");
    chan_free(&q.chan);
}

/* ---------------------------------------------------------------- options */

static NO_RETURN void usage(void)
{
    command_die(
        EX_USAGE,
        "usage: hato queue [--sender PATTERN] [--rcpt PATTERN] [--site DOMAIN] "
        "[--transport NAME] [--status incoming|active|deferred|hold] "
        "[--older TIME] [--younger TIME] [--reason TEXT] [--id QUEUEID] "
        "[--json | --ids | --count | --shape] "
        "[hold | release | delete | requeue | flush]");
}

/* "90", "15m", "2h", "3d", "1w" in milliseconds. */
static msec span_of(const char *text)
{
    static const struct {
        char letter;
        msec ms;
    } units[] = { { 's', 1000 },
                  { 'm', 60000 },
                  { 'h', 3600000 },
                  { 'd', 86400000 },
                  { 'w', 604800000 } };

    slice s = slice_str(text);
    msec unit = 1000;
    uint64_t n;

    for (size_t i = 0; s.n > 0 && i < ARRAY_LEN(units); i++)
        if (s.p[s.n - 1] == units[i].letter) {
            unit = units[i].ms;
            s = slice_sub(s, 0, s.n - 1);
            break;
        }
    if (!slice_u64(s, &n) || n == 0 || n > 1000000000)
        command_die(EX_USAGE, "%s: a time as 90s, 15m, 2h or 3d is wanted",
                    text);
    return (msec)n * unit;
}

static void add_kind(struct options *o, const char *kind)
{
    static const char *const known[] = { "incoming", "active", "deferred",
                                         "hold" };

    for (size_t i = 0; i < ARRAY_LEN(known); i++)
        if (strcmp(kind, known[i]) == 0 && o->n_kinds < ARRAY_LEN(known)) {
            o->kinds[o->n_kinds++] = known[i];
            return;
        }
    usage();
}

static const struct option long_options[] = {
    { "sender", required_argument, NULL, 's' },
    { "rcpt", required_argument, NULL, 'r' },
    { "site", required_argument, NULL, 'd' },
    { "transport", required_argument, NULL, 't' },
    { "status", required_argument, NULL, 'k' },
    { "older", required_argument, NULL, 'o' },
    { "younger", required_argument, NULL, 'y' },
    { "reason", required_argument, NULL, 'w' },
    { "id", required_argument, NULL, 'i' },
    { "json", no_argument, NULL, OPT_JSON },
    { "shape", no_argument, NULL, OPT_SHAPE },
    { "count", no_argument, NULL, OPT_COUNT },
    { "ids", no_argument, NULL, OPT_IDS },
    { NULL, 0, NULL, 0 },
};

static const char **text_option(struct options *o, int c)
{
    switch (c) {
    case 's':
        return &o->sender;
    case 'r':
        return &o->rcpt;
    case 'd':
        return &o->site;
    case 't':
        return &o->transport;
    case 'w':
        return &o->reason;
    case 'i':
        return &o->id;
    default:
        return NULL;
    }
}

static void take(struct options *o, int c)
{
    const char **text = text_option(o, c);

    if (text != NULL)
        *text = optarg;
    else if (c == 'k')
        add_kind(o, optarg);
    else if (c == 'o')
        o->older = span_of(optarg);
    else if (c == 'y')
        o->younger = span_of(optarg);
    else if (c == OPT_JSON)
        o->is_json = true;
    else if (c == OPT_SHAPE)
        o->is_shape = true;
    else if (c == OPT_COUNT)
        o->is_count = true;
    else if (c == OPT_IDS)
        o->is_ids = true;
    else
        usage();
}

static void take_action(struct options *o, const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(actions); i++)
        if (strcmp(name, actions[i].name) == 0)
            o->action = name;
    if (o->action == NULL)
        usage();
    /* A slip of the finger shall not empty a queue. */
    if (o->sender == NULL && o->rcpt == NULL && o->site == NULL &&
        o->transport == NULL && o->reason == NULL && o->id == NULL &&
        o->n_kinds == 0 && o->older == 0 && o->younger == 0)
        command_die(EX_USAGE,
                    "%s of all messages is for postsuper or "
                    "postqueue -f; say which are meant",
                    name);
}

int command_queue(int argc, char **argv)
{
    struct options o = { .now = clock_wall() };
    int c;

    optind = 1;
    while ((c = getopt_long(argc, argv, "", long_options, NULL)) != -1)
        take(&o, c);
    if (optind + 1 < argc)
        usage();
    if (optind < argc)
        take_action(&o, argv[optind]);
    buf_init(&o.found, IDS_MAX * 20);
    command_run_task(run, &o);
    buf_done(&o.found);
    command_flush();
    return 0;
}
