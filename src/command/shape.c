#include "command/queue_priv.h"

#include "base/clock.h"
#include "base/map.h"

#include <sysexits.h>

/*
 * qshape(1) and `hato queue --shape`: recipients (or messages by sender) by
 * domain and age, as Postfix's script prints them; asked of qmgr instead of
 * read from the queue's files.
 */

#define BUCKETS_MAX 32
#define WIDTH_MIN   18
#define DOMAIN_MAX  255

struct row {
    struct map_node node;
    uint64_t count[BUCKETS_MAX + 1]; /* [0]: all */
    uint64_t n_subdomains;
    char domain[];
};

struct shape {
    struct command_shape_options o;
    struct map rows;
    uint64_t total[BUCKETS_MAX + 1];
    msec now;
};

static const char *const default_queues[] = { "incoming", "active", NULL };

/* ---------------------------------------------------------------- counting */

static unsigned bucket(const struct shape *s, msec arrival)
{
    msec age = (s->now - arrival) / (60000 * (msec)s->o.tick);
    unsigned b = 2;

    if (age < 1)
        return 1;
    if (s->o.is_linear)
        return age + 1 < s->o.n_buckets ? (unsigned)age + 1 : s->o.n_buckets;
    for (msec v = age; v > 1 && b < s->o.n_buckets; v /= 2)
        b++;
    return b < s->o.n_buckets ? b : s->o.n_buckets;
}

static struct row *row_get(struct shape *s, slice domain)
{
    struct map_node *n = map_get(&s->rows, domain);
    struct row *r;

    if (n != NULL)
        return CONTAINER_OF(n, struct row, node);
    r = xcalloc(1, sizeof(*r) + domain.n + 1);
    if (domain.n > 0)
        memcpy(r->domain, domain.p, domain.n);
    map_put(&s->rows, &r->node, slice_of(r->domain, domain.n));
    return r;
}

/* The domain above, with a dot in front; false at the top. */
static bool go_up(slice *domain)
{
    slice d = *domain;
    slice label;

    if (d.n > 0 && d.p[0] == '.')
        d = slice_from(d, 1);
    if (!slice_cut(&d, '.', &label) || slice_chr(d, '.') < 0)
        return false;
    *domain = slice_of(d.p - 1, d.n + 1);
    return true;
}

static void count(struct shape *s, slice addr, unsigned b)
{
    slice domain = addr;
    bool is_new = false;

    s->total[0]++;
    s->total[b]++;
    for (ptrdiff_t at = slice_chr(domain, '@'); at >= 0;
         at = slice_chr(domain, '@'))
        domain = slice_from(domain, (size_t)at + 1);
    if (addr.n == 0)
        domain = SL("mailer-daemon");
    domain = slice_sub(domain, 0, DOMAIN_MAX);
    do {
        struct row *r = row_get(s, domain);
        bool was_there = r->count[0] > 0;

        r->count[0]++;
        r->count[b]++;
        r->n_subdomains += is_new;
        is_new = !was_there;
    } while (s->o.has_parents && go_up(&domain));
}

static void shape_item(struct command_queue *q, slice item)
{
    struct shape *s = q->data;
    unsigned b = bucket(s, (msec)attr_u64_or(item, AT_ARRIVAL, 0));
    slice in = item;
    slice addr = SLICE_NONE;
    struct attr a;

    if (s->o.is_wanted != NULL && !s->o.is_wanted(s->o.arg, item))
        return;
    if (s->o.by_sender) {
        (void)attr_find(item, AT_SENDER, &addr);
        count(s, addr, b);
        return;
    }
    while (attr_next(&in, &a) > 0)
        if (a.tag == AT_RCPT && attr_find(a.v, AT_ADDR, &addr))
            count(s, addr, b);
}

/* ---------------------------------------------------------------- printing */

static int by_count(const void *x, const void *y)
{
    const struct row *a = *(struct row *const *)x;
    const struct row *b = *(struct row *const *)y;

    if (a->count[0] != b->count[0])
        return a->count[0] < b->count[0] ? 1 : -1;
    if (a->node.key.n != b->node.key.n)
        return a->node.key.n < b->node.key.n ? -1 : 1;
    return slice_cmp(a->node.key, b->node.key);
}

static void print_domain(slice d, int width)
{
    bool is_parent = d.n > 0 && d.p[0] == '.';
    size_t keep = (size_t)width - (is_parent ? 2 : 1);

    if (d.n <= (size_t)width) {
        printf("%*s", width - (int)d.n, "");
    } else {
        printf("%s", is_parent ? ".+" : "+");
        d = slice_from(d, d.n - keep);
    }
    command_print_text(d);
}

static int digits(uint64_t n)
{
    char text[24];

    return snprintf(text, sizeof text, "%" PRIu64, n);
}

/* "T", the ends of the buckets in minutes, and the last one's with a plus. */
static void put_heads(const struct shape *s, char heads[][24])
{
    uint64_t t = 0;

    (void)snprintf(heads[0], 24, "T");
    for (unsigned i = 1; i <= s->o.n_buckets; i++) {
        if (i < s->o.n_buckets)
            t += s->o.is_linear || t == 0 ? s->o.tick : t;
        (void)snprintf(heads[i], 24, "%" PRIu64 "%s", t,
                       i == s->o.n_buckets ? "+" : "");
    }
}

static slice name_of(const struct row *r)
{
    if (r == NULL)
        return SL("TOTAL");
    return slice_eqs(r->node.key, "mailer-daemon") ? SL("MAILER-DAEMON")
                                                   : r->node.key;
}

static void print_rows(struct shape *s, struct row **v, size_t n)
{
    char heads[BUCKETS_MAX + 1][24];
    int widths[BUCKETS_MAX + 1];
    int width = (int)s->o.width;

    put_heads(s, heads);
    for (unsigned i = 0; i <= s->o.n_buckets; i++) {
        int w = digits(s->total[i]);

        if ((int)strlen(heads[i]) > w)
            w = (int)strlen(heads[i]);
        widths[i] = w > 2 ? w + 1 : 3;
        width -= widths[i];
    }
    if (width < WIDTH_MIN)
        width = WIDTH_MIN;
    printf("%*s", width, "");
    for (unsigned i = 0; i <= s->o.n_buckets; i++)
        printf("%*s", widths[i], heads[i]);
    for (size_t k = 0; k <= n; k++) {
        const struct row *r = k == 0 ? NULL : v[k - 1];

        putchar('\n');
        print_domain(name_of(r), width);
        for (unsigned i = 0; i <= s->o.n_buckets; i++)
            printf("%*" PRIu64, widths[i],
                   r == NULL ? s->total[i] : r->count[i]);
    }
    putchar('\n');
}

static void print(struct shape *s)
{
    struct row **v = xcalloc(s->rows.n + 1, sizeof(struct row *));
    struct map_node *it = NULL;
    size_t pos = 0;
    size_t n = 0;

    while ((it = map_next(&s->rows, &pos, it)) != NULL) {
        struct row *r = CONTAINER_OF(it, struct row, node);

        if (r->domain[0] != '.' || r->n_subdomains >= s->o.min_subdomains)
            v[n++] = r;
    }
    qsort(v, n, sizeof(struct row *), by_count);
    print_rows(s, v, n);
    free(v);
}

/* ---------------------------------------------------------------- commands */

void command_shape_defaults(struct command_shape_options *o)
{
    *o = (struct command_shape_options){ .n_buckets = 10,
                                         .tick = 5,
                                         .width = 80,
                                         .min_subdomains = 5,
                                         .queues = default_queues };
}

void command_shape(const struct command_shape_options *o)
{
    struct shape *s = xcalloc(1, sizeof(*s));
    struct command_queue q = { .data = s, .on_item = shape_item };
    struct map_node *it = NULL;
    size_t pos = 0;
    struct buf b;

    s->o = *o;
    s->now = clock_wall();
    map_init(&s->rows, true);
    command_queue_open_as_user(&q);
    buf_init(&b, 4096);
    for (size_t i = 0; o->queues != NULL && o->queues[i] != NULL; i++)
        (void)attr_put_str(&b, AT_KIND, o->queues[i]);
    command_queue_list(&q, buf_view(&b));
    buf_done(&b);
    chan_free(&q.chan);
    print(s);
    while ((it = map_next(&s->rows, &pos, NULL)) != NULL) {
        map_del(&s->rows, it);
        free(CONTAINER_OF(it, struct row, node));
        pos = 0;
    }
    map_done(&s->rows);
    free(s);
}

MAY_WAIT static void run(void *arg)
{
    command_shape(arg);
}

static unsigned number(const char *text, unsigned high)
{
    uint64_t n;

    if (!slice_u64(slice_str(text), &n) || n == 0 || n > high)
        command_die(EX_USAGE, "%s: a number from 1 to %u is wanted", text,
                    high);
    return (unsigned)n;
}

int command_qshape(int argc, char **argv)
{
    struct command_shape_options o;
    int c;

    command_shape_defaults(&o);
    optind = 1;
    while ((c = getopt(argc, argv, "lhc:psw:b:t:m:n:N:")) != -1) {
        switch (c) {
        case 'c':
            (void)setenv("MAIL_CONFIG", optarg, 1);
            break;
        case 'l':
            o.is_linear = true;
            break;
        case 'p':
            o.has_parents = true;
            break;
        case 's':
            o.by_sender = true;
            break;
        case 'w':
            o.width = number(optarg, 1000);
            break;
        case 'b':
            o.n_buckets = number(optarg, BUCKETS_MAX);
            break;
        case 't':
            o.tick = number(optarg, 1000000);
            break;
        case 'm':
            o.min_subdomains = number(optarg, 1000000);
            break;
        case 'n':
        case 'N':
            break;
        default:
            command_die(EX_USAGE,
                        "usage: qshape [-s] [-p] [-m min_subdomains] [-l] "
                        "[-b bucket_count] [-t bucket_time] [-w width] "
                        "[-c config_dir] [queue ...]");
        }
    }
    if (o.width < 80)
        o.width = 80;
    if (optind < argc)
        o.queues = (const char *const *)argv + optind;
    command_run_task(run, &o);
    command_flush();
    return 0;
}
