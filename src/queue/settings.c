#include "base/base.h"

#include "queue/queue_priv.h"

/* The classes of notify_classes that are this room's: what other processes
 * report (resource, software, protocol, policy, data) is theirs to send. */
static unsigned classes_of(slice list)
{
    static const struct {
        const char *name;
        unsigned bit;
    } names[] = {
        { "bounce", CLASS_BOUNCE },
        { "2bounce", CLASS_2BOUNCE },
        { "delay", CLASS_DELAY },
    };

    unsigned bits = 0;
    slice item;

    while (conf_list_next(&list, &item))
        for (size_t i = 0; i < ARRAY_LEN(names); i++)
            if (slice_ieqs(item, names[i].name))
                bits |= names[i].bit;
    return bits;
}

static size_t limit_of(int64_t v)
{
    return v <= 0 ? SIZE_MAX : (size_t)v;
}

struct settings *settings_new(struct conf *c)
{
    struct settings *s = xcalloc(1, sizeof(*s));

    *s = (struct settings){
        .n_refs = 1,
        .conf = conf_ref(c),
        .times = {
            .min_backoff = conf_time(c, NULL, "minimal_backoff_time") * 1000,
            .max_backoff = conf_time(c, NULL, "maximal_backoff_time") * 1000,
            .run_delay = conf_time(c, NULL, "queue_run_delay") * 1000,
            .lifetime = conf_time(c, NULL, "maximal_queue_lifetime") * 1000,
            .bounce_lifetime =
                conf_time(c, NULL, "bounce_queue_lifetime") * 1000,
        },
        .delay_warning = conf_time(c, NULL, "delay_warning_time") * 1000,
        .active_limit = limit_of(conf_int(c, NULL, "qmgr_message_active_limit")),
        .rcpt_limit =
            limit_of(conf_int(c, NULL, "qmgr_message_recipient_limit")),
        .bounce_size = conf_size(c, NULL, "bounce_size_limit"),
        .classes = classes_of(conf_slice(c, NULL, "notify_classes")),
        .soft_bounce = conf_bool(c, NULL, "soft_bounce"),
        .confirms_cleared = conf_bool(c, NULL, "confirm_delay_cleared"),
        .is_threaded = conf_bool(c, NULL, "enable_threaded_bounces"),
        .has_verp_bounces = !conf_bool(c, NULL, "disable_verp_bounces"),
        .hostname = conf_str(c, NULL, "myhostname"),
        .origin = conf_str(c, NULL, "myorigin"),
        .mail_name = conf_str(c, NULL, "mail_name"),
        .defer_transports = conf_str(c, NULL, "defer_transports"),
    };
    s->double_bounce =
        xasprintf("%s@%s", conf_str(c, NULL, "double_bounce_sender"),
                  s->origin);
    return s;
}

struct settings *settings_ref(struct settings *s)
{
    s->n_refs++;
    return s;
}

void settings_unref(struct settings *s)
{
    if (--s->n_refs > 0)
        return;
    free(s->double_bounce);
    conf_unref(&s->conf);
    free(s);
}

static bool is_transport_set(const struct conf *c, const char *name,
                             const char *suffix)
{
    char own[128];
    char common[128];

    (void)snprintf(own, sizeof(own), "%s%s", name, suffix);
    (void)snprintf(common, sizeof(common), "default%s", suffix);
    return conf_is_set(c, NULL, own) || conf_is_set(c, NULL, common);
}

/* Deliveries at once: as many as Postfix would run processes (maxproc of the
 * service, else default_process_limit), times what our pipelining allows.  A
 * number in the line of a transport to other hosts is meant: so many
 * connections and no more. */
static void set_job_limit(struct transport *t, const struct conf *c,
                          bool is_ours)
{
    const struct conf_service *s = conf_service_find(c, t->name, "unix");
    int64_t n = conf_int(c, NULL, "default_process_limit");
    bool has_number = s != NULL && s->maxproc != CONF_MAXPROC_DEFAULT;

    if (has_number)
        n = s->maxproc;
    has_number = has_number && n > 0;
    if (n <= 0 || n > 10000)
        n = n <= 0 ? 1000 : 10000;
    t->is_limit_hard = is_ours || has_number;
    t->limit = (unsigned)n;
    if (is_ours || !has_number)
        t->limit *= QUEUE_JOBS_PER_PROCESS;
}

static unsigned clamp_limit(int64_t v, unsigned high)
{
    return v <= 0 || v > high ? high : (unsigned)v;
}

static const char *transport_str(const struct conf *c, const char *transport,
                                 const char *suffix)
{
    char name[200];
    int n = snprintf(name, sizeof(name), "%s%s", transport, suffix);

    if (n < 0 || (size_t)n >= sizeof(name))
        (void)snprintf(name, sizeof(name), "x%s", suffix);
    return conf_str(c, NULL, name);
}

static void set_feedback(struct feedback *f, const struct conf *c,
                         const char *transport, const char *suffix)
{
    if (!feedback_parse(slice_str(transport_str(c, transport, suffix)), f))
        *f = (struct feedback){ .base = FEEDBACK_ONE };
    if (f->base > FEEDBACK_ONE)
        f->base = FEEDBACK_ONE;
}

static void set_slots(struct transport *t, const struct conf *c)
{
    t->slot_cost =
        (unsigned)conf_transport_int(c, t->name, "_delivery_slot_cost");
    t->slot_loan =
        (unsigned)conf_transport_int(c, t->name, "_delivery_slot_loan");
    t->slot_discount =
        clamp_limit(conf_transport_int(c, t->name, "_delivery_slot_discount"),
                    100);
    if (conf_transport_int(c, t->name, "_delivery_slot_discount") <= 0)
        t->slot_discount = 0;
    t->min_slots =
        (unsigned)conf_transport_int(c, t->name, "_minimum_delivery_slots");
    if (t->slot_cost == 1) /* as in Postfix: it would not be a cost */
        t->slot_cost = 0;
}

/* A delivery by ourselves costs no process and no connection, so what Postfix
 * limits by default for everybody (20 deliveries to a domain at once, of 50
 * recipients) is limited there only where somebody wrote so; local's own limit,
 * which keeps one user's commands from running all at once, always holds. */
static void set_limits(struct transport *t, const struct conf *c, bool is_ours)
{
    bool is_strict = !is_ours || strcmp(t->name, "local") == 0;
    int64_t n;

    t->dest_limit = 0;
    t->has_windows =
        is_strict ||
        is_transport_set(c, t->name, "_destination_concurrency_limit");
    n = conf_transport_int(c, t->name, "_destination_concurrency_limit");
    if (t->has_windows && n > 0)
        t->dest_limit = clamp_limit(n, 100000);
    t->rcpt_limit = QUEUE_JOB_RCPTS;
    if (is_strict ||
        is_transport_set(c, t->name, "_destination_recipient_limit"))
        t->rcpt_limit = clamp_limit(
            conf_transport_int(c, t->name, "_destination_recipient_limit"),
            QUEUE_JOB_RCPTS);
    t->dest_start = clamp_limit(
        conf_transport_int(c, t->name, "_initial_destination_concurrency"),
        t->dest_limit != 0 ? t->dest_limit : 100000);
}

static size_t held_rcpts(const struct transport *t, const struct conf *c)
{
    int64_t n = conf_transport_int(c, t->name, "_recipient_limit");
    int64_t extra = conf_transport_int(c, t->name, "_extra_recipient_limit");

    return n <= 0 ? SIZE_MAX : (size_t)n + (size_t)(extra > 0 ? extra : 0);
}

void transport_configure(struct transport *t, const struct settings *s)
{
    const struct conf *c = s->conf;
    bool is_ours = queue_transport_is_local(slice_str(t->name));
    slice list = slice_str(s->defer_transports);
    slice item;

    set_job_limit(t, c, is_ours);
    set_limits(t, c, is_ours);
    set_slots(t, c);
    set_feedback(&t->positive, c, t->name,
                 "_destination_concurrency_positive_feedback");
    set_feedback(&t->negative, c, t->name,
                 "_destination_concurrency_negative_feedback");
    t->cohort_limit = (unsigned)conf_transport_int(
        c, t->name, "_destination_concurrency_failed_cohort_limit");
    t->dest_delay =
        conf_transport_time(c, t->name, "_destination_rate_delay") * 1000;
    t->delay = conf_transport_time(c, t->name, "_transport_rate_delay") * 1000;
    t->retry_time = conf_time(c, NULL, "transport_retry_time") * 1000;
    t->backoff = s->times.min_backoff;
    t->held_rcpts = held_rcpts(t, c);
    t->is_debugged =
        conf_bool(c, NULL, "destination_concurrency_feedback_debug");
    t->is_deferred = false;
    while (conf_list_next(&list, &item))
        if (slice_eqs(item, t->name))
            t->is_deferred = true;
}
