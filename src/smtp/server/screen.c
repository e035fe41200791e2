#include "smtp/server/server_priv.h"

#include "dns/dns.h"

#include <sys/socket.h>

/*
 * postscreen(8): what a stranger must pass before he is greeted, in the process
 * that then serves him.  A session under test is parked; what an address has
 * passed is kept in this process for some time.
 *
 *     connect -> access list -> kept? -> "220-..." and DNS lists -> wait
 *             -> greeted by smtpd | refused at RCPT (enforce) | dropped
 *
 * The tests of what a client says (pipelining, foreign commands, bare newlines)
 * watch a session of smtpd whose recipients are all deferred; who comes to RCPT
 * without a fault has passed them, and may come again.
 */

#define KEPT_MAX   50000
#define SITES_MAX  100
#define RULES_MAX  100
#define LAST_WORDS 5000

enum screen_action { ACTION_IGNORE, ACTION_ENFORCE, ACTION_DROP };

enum deep { DEEP_PIPELINING, DEEP_FOREIGN, DEEP_NEWLINE, DEEP_N };

struct deep_test {
    bool is_on;
    enum screen_action action;
    msec ttl_ms;
};

struct screen_site {
    struct access_dnsxl list;
    int weight;
};

enum rule_kind { RULE_MYNETWORKS, RULE_PERMIT, RULE_REJECT, RULE_TABLE };

struct screen_rule {
    enum rule_kind kind;
    struct table_list *table;
};

struct smtp_screen {
    struct arena *arena;
    struct screen_rule rules[RULES_MAX];
    size_t n_rules;
    struct table_match *mynetworks;
    enum screen_action deny, greet, dnsbl;
    struct deep_test deep[DEEP_N];
    char *teaser; /* NULL: the client may talk at once */
    msec wait_ms, greet_ttl_ms, dnsbl_min_ms, dnsbl_max_ms;
    int64_t threshold, allow_threshold;
    struct screen_site *sites;
    size_t n_sites;
    struct table_list *reply_map;
    size_t testing_max, per_client_max;
    size_t n_testing;
    struct map kept; /* by address */
    struct list order;
    size_t n_kept;
};

/* An address: what it has passed, and how long that is good. */
struct kept {
    struct map_node node;
    struct list link;
    unsigned n_testing;
    msec greet_until, dnsbl_until; /* 0: never passed */
    msec deep_until[DEEP_N];
    char addr[64];
};

struct smtp_screening {
    unsigned n_refs;
    struct smtp *s; /* NULL: gone */
    struct smtp_screen *screen;
    struct kept *kept;
    struct task *waiting; /* for the DNS lists, behind an early client */
    msec began;
    bool wants_greet, wants_dnsbl, is_new, has_failed;
    bool is_vouched_for; /* by a list of good clients */
    bool is_over;        /* the early tests: what DNS says now comes too late */
    bool wants_deep[DEEP_N], has_deep; /* one of them */
    bool has_rcpt;       /* the deep tests were passed, or failed */
    unsigned char where; /* the verb before */
    unsigned n_pending;  /* questions to DNS lists */
    int64_t score;
    int best; /* the weight of `domain` */
    slice domain;
    uint32_t ttl;
    char *refusal; /* of every recipient */
    char addr[64];
};

/* ------------------------------------------------------------------ *
 * Settings
 */

static enum screen_action action_of(const struct conf *c,
                                    const struct conf_service *line,
                                    const char *param)
{
    slice word = conf_slice(c, line, param);

    if (slice_ieqs(word, "drop"))
        return ACTION_DROP;
    return slice_ieqs(word, "enforce") ? ACTION_ENFORCE : ACTION_IGNORE;
}

/* "domain=filter*weight" */
static bool site_parse(slice spec, struct screen_site *out)
{
    ssize_t star = slice_rchr(spec, '*');
    int64_t weight = 1;

    if (star >= 0) {
        slice number = slice_from(spec, (size_t)star + 1);

        if (!slice_i64(number, &weight) || weight < -10000 || weight > 10000)
            return false;
        spec = slice_sub(spec, 0, (size_t)star);
    }
    out->weight = (int)weight;
    return access_dnsxl_parse(spec, &out->list);
}

static int sites_init(struct smtp_screen *k, slice list, struct err *err)
{
    slice word;

    k->sites = xarena_alloc(k->arena, SITES_MAX * sizeof *k->sites);
    while (conf_list_next(&list, &word)) {
        if (k->n_sites == SITES_MAX)
            return err_perm(err, "postscreen_dnsbl_sites: more than %d sites",
                            SITES_MAX);
        if (!site_parse(slice_dup(k->arena, word), &k->sites[k->n_sites]))
            return err_perm(err,
                            "postscreen_dnsbl_sites: bad site \"%.*s\": need "
                            "domain=d.d.d.d*weight",
                            SLF(slice_sub(word, 0, 60)));
        k->n_sites++;
    }
    return 0;
}

static int rules_init(struct smtp_screen *k, struct tables *t, slice list,
                      struct err *err)
{
    static const struct {
        const char *word;
        enum rule_kind kind;
    } words[] = {
        { "permit_mynetworks", RULE_MYNETWORKS },
        { "permit", RULE_PERMIT },
        { "reject", RULE_REJECT },
    };

    slice word;

    while (conf_list_next(&list, &word)) {
        struct screen_rule *r = &k->rules[k->n_rules];
        bool is_known = false;

        if (k->n_rules == RULES_MAX)
            return err_perm(err, "postscreen_access_list: too long");
        for (size_t i = 0; i < ARRAY_LEN(words); i++)
            if (slice_ieqs(word, words[i].word)) {
                r->kind = words[i].kind;
                is_known = true;
            }
        if (!is_known && slice_chr(word, ':') <= 0)
            return err_perm(err, "postscreen_access_list: unknown word %.*s",
                            SLF(slice_sub(word, 0, 60)));
        k->n_rules++;
        if (is_known)
            continue;
        r->kind = RULE_TABLE;
        if (table_list_new(t, conf_list_unbrace(word), &r->table, err) < 0)
            return err_prefix(err, "postscreen_access_list");
    }
    return 0;
}

static msec ms_of(const struct conf *c, const struct conf_service *line,
                  const char *param)
{
    return conf_time(c, line, param) * 1000;
}

static void deep_init(struct smtp_screen *k, const struct conf *c,
                      const struct conf_service *line)
{
    static const struct {
        const char *is_on, *action, *ttl;
    } params[DEEP_N] = {
        [DEEP_PIPELINING] = { "postscreen_pipelining_enable",
                              "postscreen_pipelining_action",
                              "postscreen_pipelining_ttl" },
        [DEEP_FOREIGN] = { "postscreen_non_smtp_command_enable",
                           "postscreen_non_smtp_command_action",
                           "postscreen_non_smtp_command_ttl" },
        [DEEP_NEWLINE] = { "postscreen_bare_newline_enable",
                           "postscreen_bare_newline_action",
                           "postscreen_bare_newline_ttl" },
    };

    for (int i = 0; i < DEEP_N; i++) {
        k->deep[i].is_on = conf_bool(c, line, params[i].is_on);
        k->deep[i].action = action_of(c, line, params[i].action);
        k->deep[i].ttl_ms = ms_of(c, line, params[i].ttl);
    }
}

static void values_init(struct smtp_screen *k, const struct conf *c,
                        const struct conf_service *line)
{
    const char *banner = conf_str(c, line, "postscreen_greet_banner");

    k->deny = action_of(c, line, "postscreen_denylist_action");
    k->greet = action_of(c, line, "postscreen_greet_action");
    k->dnsbl = action_of(c, line, "postscreen_dnsbl_action");
    k->wait_ms = ms_of(c, line, "postscreen_greet_wait");
    k->greet_ttl_ms = ms_of(c, line, "postscreen_greet_ttl");
    k->dnsbl_min_ms = ms_of(c, line, "postscreen_dnsbl_min_ttl");
    k->dnsbl_max_ms = ms_of(c, line, "postscreen_dnsbl_max_ttl");
    k->threshold = conf_int(c, line, "postscreen_dnsbl_threshold");
    k->allow_threshold =
        conf_int(c, line, "postscreen_dnsbl_allowlist_threshold");
    k->testing_max = (size_t)conf_int(c, line, "postscreen_pre_queue_limit");
    k->per_client_max =
        (size_t)conf_int(c, line, "postscreen_client_connection_count_limit");
    deep_init(k, c, line);
    if (banner[0] != '\0')
        k->teaser = arena_printf(k->arena, "220-%s\r\n", banner);
}

int smtp_screen_new(struct smtp_service *v, const struct conf_service *line,
                    struct err *err)
{
    struct tables *t = v->server->parts.tables;
    struct smtp_screen *k = xcalloc(1, sizeof *k);
    const struct conf *c = v->conf;

    v->screen = k;
    k->arena = arena_new(4u << 20);
    map_init(&k->kept, false);
    list_init(&k->order);
    values_init(k, c, line);
    if (sites_init(k, conf_slice(c, line, "postscreen_dnsbl_sites"), err) < 0 ||
        rules_init(k, t, conf_slice(c, line, "postscreen_access_list"), err) <
            0 ||
        table_match_new(t, c, line, "mynetworks", &k->mynetworks, err) < 0)
        return -1;
    return table_list_param(t, c, line, "postscreen_dnsbl_reply_map",
                            &k->reply_map, err);
}

static void kept_drop(struct smtp_screen *k, struct kept *e)
{
    map_del(&k->kept, &e->node);
    list_remove(&e->link);
    k->n_kept--;
    free(e);
}

void smtp_screen_free(struct smtp_service *v)
{
    struct smtp_screen *k = v->screen;

    v->screen = NULL;
    if (k == NULL)
        return;
    while (!list_empty(&k->order))
        kept_drop(k, CONTAINER_OF(k->order.next, struct kept, link));
    map_done(&k->kept);
    for (size_t i = 0; i < k->n_rules; i++)
        table_list_free(&k->rules[i].table);
    table_match_free(&k->mynetworks);
    table_list_free(&k->reply_map);
    arena_free(&k->arena);
    free(k);
}

/* ------------------------------------------------------------------ *
 * What is kept
 */

static struct kept *kept_get(struct smtp_screen *k, const char *addr)
{
    struct map_node *n = map_get(&k->kept, slice_str(addr));
    struct kept *e;

    if (n != NULL)
        return CONTAINER_OF(n, struct kept, node);
    list_each_safe(it, tmp, &k->order) {
        struct kept *old = CONTAINER_OF(it, struct kept, link);

        if (k->n_kept < KEPT_MAX)
            break;
        if (old->n_testing == 0)
            kept_drop(k, old);
    }
    e = xcalloc(1, sizeof *e);
    (void)snprintf(e->addr, sizeof e->addr, "%s", addr);
    map_put(&k->kept, &e->node, slice_str(e->addr));
    list_push(&k->order, &e->link);
    k->n_kept++;
    return e;
}

/* ------------------------------------------------------------------ *
 * The log
 */

static void tell(const struct smtp *s, const char *fmt, ...) PRINTF(2, 3);

/* "WHAT for [192.0.2.1]:4711" */
static void tell(const struct smtp *s, const char *fmt, ...)
{
    struct buf b CLEANUP(buf_done);
    va_list ap;

    buf_init(&b, 2000);
    va_start(ap, fmt);
    (void)buf_vprintf(&b, fmt, ap);
    va_end(ap);
    event_text(EV_INFO, "postscreen", NULL, "%s [%s]:%u", buf_cstr(&b),
               s->peer.text, s->peer.port);
}

/* "0.04", "1.2", "12": two digits count. */
static const char *delta(msec ms, char out[static 24])
{
    double sec = (double)ms / 1000;

    if (sec >= 10)
        (void)snprintf(out, 24, "%.0f", sec);
    else
        (void)snprintf(out, 24, "%.2g", sec);
    return out;
}

static void tell_connect(const struct smtp *s)
{
    struct peer_addr own = { .port = 0 };
    struct err err;
    int fd = stream_fd(s->stream);

    if (fd >= 0)
        (void)local_addr_of(fd, &own, &err);
    event_text(EV_INFO, "postscreen", NULL, "CONNECT from [%s]:%u to [%s]:%u",
               s->peer.text, s->peer.port, own.text, own.port);
}

/* As a C string would be written. */
static void put_escaped(struct buf *b, slice text)
{
    for (size_t i = 0; i < text.n; i++) {
        char c = text.p[i];

        if (c == '\r')
            (void)buf_puts(b, "\\r");
        else if (c == '\n')
            (void)buf_puts(b, "\\n");
        else if (c == '\\')
            (void)buf_puts(b, "\\\\");
        else if ((unsigned char)c < 32 || (unsigned char)c > 126)
            (void)buf_printf(b, "\\%03o", (unsigned)(unsigned char)c);
        else
            (void)buf_byte(b, c);
    }
}

/* ------------------------------------------------------------------ *
 * DNS lists
 */

static void screening_unref(struct smtp_screening *k)
{
    if (--k->n_refs > 0)
        return;
    free(k->refusal);
    free(k);
}

void smtp_screen_end(struct smtp *s)
{
    struct smtp_screening *k = s->screening;

    if (k == NULL)
        return;
    s->screening = NULL;
    k->s = NULL;
    if (k->kept != NULL) {
        k->kept->n_testing--;
        k->screen->n_testing--;
    }
    screening_unref(k);
}

struct question {
    struct smtp_screening *k;
    size_t site; /* the first with its domain */
};

static void count_site(struct smtp_screening *k, const struct screen_site *site,
                       const struct dns_answer *answer)
{
    for (size_t i = 0; i < answer->n_rr; i++) {
        if (answer->rr[i].type != DNS_A ||
            !access_filter_match(&site->list.filter, answer->rr[i].ip))
            continue;
        k->score += site->weight;
        if (k->domain.n == 0 || site->weight > k->best) {
            k->domain = site->list.domain;
            k->best = site->weight;
        }
        return;
    }
}

static void count_answer(struct smtp_screening *k, slice domain,
                         const struct dns_answer *answer)
{
    const struct smtp_screen *screen = k->screen;

    if (answer->ttl < k->ttl && answer->result != DNS_FAIL)
        k->ttl = answer->ttl;
    if (answer->result != DNS_OK)
        return;
    for (size_t i = 0; i < screen->n_sites; i++)
        if (slice_ieq(screen->sites[i].list.domain, domain))
            count_site(k, &screen->sites[i], answer);
}

/* All lists have answered, and nothing else is waited for. */
static void dnsbl_over(struct smtp_screening *k)
{
    struct smtp *s = k->s;
    bool is_good = k->screen->allow_threshold < 0 &&
                   k->score <= k->screen->allow_threshold;

    if (k->waiting != NULL)
        task_wake(k->waiting);
    k->is_vouched_for = is_good;
    if (k->waiting == NULL && (!k->wants_greet || is_good) &&
        stream_is_parked(s->stream))
        stream_kick(s->stream);
}

MAY_WAIT static void ask_list(void *arg)
{
    struct question *q = arg;
    struct smtp_screening *k = q->k;
    struct arena *a CLEANUP(arena_free) = arena_new(1u << 20);
    slice domain =
        k->s != NULL ? k->screen->sites[q->site].list.domain : SLICE_NONE;
    struct dns_answer answer = { .result = DNS_FAIL };
    char digits[100];
    struct err err;

    free(q);
    if (k->s != NULL) {
        const struct smtp_server *server = k->s->service->server;
        char *name;

        dns_reverse_name(k->s->peer.family, k->s->peer.ip, "", "", digits);
        name = arena_printf(a, "%s%.*s", digits, SLF(domain));
        domain = slice_dup(a, domain);
        if (server->parts.dns != NULL &&
            dns_query(server->parts.dns, slice_str(name), DNS_A, 0, a, &answer,
                      &err) < 0)
            answer = (struct dns_answer){ .result = DNS_FAIL };
    }
    k->n_pending--;
    if (k->s != NULL) {
        count_answer(k, domain, &answer);
        if (k->n_pending == 0 && !k->is_over)
            dnsbl_over(k);
    }
    screening_unref(k);
}

static bool is_first_of(const struct smtp_screen *screen, size_t at)
{
    for (size_t i = 0; i < at; i++)
        if (slice_ieq(screen->sites[i].list.domain,
                      screen->sites[at].list.domain))
            return false;
    return true;
}

static void ask_lists(struct smtp_screening *k)
{
    for (size_t i = 0; i < k->screen->n_sites; i++) {
        struct question *q;

        if (!is_first_of(k->screen, i))
            continue;
        q = xcalloc(1, sizeof *q);
        *q = (struct question){ k, i };
        k->n_refs++;
        k->n_pending++;
        (void)task_spawn("postscreen-dns", ask_list, q);
    }
}

/* ------------------------------------------------------------------ *
 * Outcomes
 */

/* The last words; the session ends. */
MAY_WAIT static void drop(struct smtp *s, const char *words)
{
    struct err err;

    stream_deadline(s->stream, clock_after(LAST_WORDS));
    if (stream_printf(s->stream, &err, "%s\r\n", words) == 0)
        (void)stream_flush(s->stream, &err);
    smtp_session_drop(s);
}

/* Fail under an action.  True: the session is over. */
MAY_WAIT static bool fail(struct smtp_screening *k, enum screen_action action,
                          const char *text)
{
    struct smtp *s = k->s;
    char *words;

    k->has_failed = true;
    if (action == ACTION_IGNORE)
        return false;
    if (action == ACTION_ENFORCE) {
        if (k->refusal == NULL)
            k->refusal = xasprintf("550 %s", text);
        return false;
    }
    words = xasprintf("521 %s", text);
    drop(s, words);
    free(words);
    return true;
}

/* The name of the list that clients may know. */
MAY_WAIT static slice public_domain(struct smtp_screening *k, struct arena *a)
{
    slice value = SLICE_NONE;
    struct err err;

    if (!table_list_is_empty(k->screen->reply_map) &&
        table_list_lookup(k->screen->reply_map, k->domain, 0, a, &value, &err) <
            0)
        log_warning("%s", err.log);
    return value.p != NULL ? value : k->domain;
}

/* True: the session is over. */
MAY_WAIT static bool judge_dnsbl(struct smtp_screening *k)
{
    struct smtp_screen *screen = k->screen;
    struct arena *a CLEANUP(arena_free) = NULL;
    msec ttl = k->ttl == UINT32_MAX ? 0 : (msec)k->ttl * 1000;

    if (!k->wants_dnsbl)
        return false;
    if (k->score < screen->threshold) {
        ttl = ttl < screen->dnsbl_min_ms   ? screen->dnsbl_min_ms
              : ttl > screen->dnsbl_max_ms ? screen->dnsbl_max_ms
                                           : ttl;
        /* Lists that have not answered in time are asked again soon. */
        if (k->n_pending > 0)
            ttl = screen->dnsbl_min_ms;
        k->kept->dnsbl_until = loop_after(ttl);
        return false;
    }
    tell(k->s, "DNSBL rank %" PRId64 " for", k->score);
    a = arena_new(1u << 16);
    return fail(k, screen->dnsbl,
                arena_printf(a,
                             "5.7.1 Service unavailable; client [%s] blocked "
                             "using %.*s",
                             k->s->peer.text, SLF(public_domain(k, a))));
}

/* All has been passed. */
static void tell_pass(const struct smtp_screening *k)
{
    if (!k->has_failed)
        tell(k->s, "PASS %s", k->is_new ? "NEW" : "OLD");
}

/* The early tests are over. */
MAY_WAIT static void enter_smtpd(struct smtp_screening *k)
{
    struct smtp *s = k->s;

    k->is_over = true;
    if (!k->has_deep)
        tell_pass(k);
    if (k->refusal == NULL && !k->has_deep)
        smtp_screen_end(s);
    smtp_session_greet(s);
}

/* The tests are over: on to smtpd, with a refusal or without. */
MAY_WAIT static void conclude(struct smtp_screening *k)
{
    if (judge_dnsbl(k))
        return;
    if (k->is_vouched_for && k->kept->greet_until < k->kept->dnsbl_until)
        k->kept->greet_until = k->kept->dnsbl_until;
    enter_smtpd(k);
}

/* The client spoke before its turn. */
MAY_WAIT static void too_early(struct smtp_screening *k)
{
    struct smtp *s = k->s;
    slice said = stream_peek(s->stream);
    struct buf b CLEANUP(buf_done);
    char time[24];
    struct err err;

    buf_init(&b, 1000);
    put_escaped(&b, slice_sub(said, 0, 100));
    event_text(EV_INFO, "postscreen", NULL,
               "PREGREET %zu after %s from [%s]:%u: %.*s", said.n,
               delta(loop_now() - k->began, time), s->peer.text, s->peer.port,
               SLF(slice_sub(buf_view(&b), 0, 100)));
    if (fail(k, k->screen->greet, "5.5.1 Protocol error"))
        return;
    k->waiting = task_self();
    while (k->n_pending > 0)
        if (task_wait(k->began + k->screen->wait_ms, &err) < 0)
            break;
    k->waiting = NULL;
    conclude(k);
}

MAY_WAIT static void gone(struct smtp_screening *k)
{
    struct smtp *s = k->s;
    char time[24];

    event_text(EV_INFO, "postscreen", NULL,
               "HANGUP after %s from [%s]:%u in tests before SMTP handshake",
               delta(loop_now() - k->began, time), s->peer.text, s->peer.port);
    smtp_session_drop(s);
}

MAY_WAIT static void wake(void *arg, enum stream_why why)
{
    struct smtp *s = arg;
    struct smtp_screening *k = s->screening;

    CHECK_OBJ(s, SMTP_SESSION_MAGIC);
    s->task = task_self();
    if (s->is_shutdown) {
        task_uncancel();
        drop(s, "421 4.3.2 Service currently unavailable");
        return;
    }
    if (why == STREAM_INPUT || why == STREAM_EOF) {
        (void)stream_fill_now(s->stream);
        if (stream_peek(s->stream).n == 0)
            gone(k);
        else
            too_early(k);
        return;
    }
    if (k->wants_greet && why == STREAM_DEADLINE)
        k->kept->greet_until = loop_after(k->screen->greet_ttl_ms);
    conclude(k);
}

/* ------------------------------------------------------------------ *
 * The beginning
 */

enum listed { LISTED_NOT, LISTED_ALLOW, LISTED_DENY };

static enum listed result_of(slice value)
{
    if (slice_ieqs(value, "permit"))
        return LISTED_ALLOW;
    if (slice_ieqs(value, "reject"))
        return LISTED_DENY;
    if (!slice_ieqs(value, "dunno"))
        log_warning("postscreen_access_list: bad result \"%.*s\"",
                    SLF(slice_sub(value, 0, 60)));
    return LISTED_NOT;
}

MAY_WAIT static enum listed rule_says(struct smtp_screen *k,
                                      const struct screen_rule *r, slice addr)
{
    struct arena *a CLEANUP(arena_free) = NULL;
    slice value = SLICE_NONE;
    bool ours = false;
    struct err err;

    switch (r->kind) {
    case RULE_PERMIT:
        return LISTED_ALLOW;
    case RULE_REJECT:
        return LISTED_DENY;
    case RULE_MYNETWORKS:
        if (table_match_client(k->mynetworks, SL("unknown"), addr, &ours,
                               &err) < 0)
            log_warning("%s", err.log);
        return ours ? LISTED_ALLOW : LISTED_NOT;
    case RULE_TABLE:
        break;
    }
    a = arena_new(1u << 20);
    if (table_list_lookup(r->table, addr, 0, a, &value, &err) < 0)
        log_warning("%s", err.log);
    return value.p != NULL ? result_of(slice_trim(value)) : LISTED_NOT;
}

MAY_WAIT static enum listed access_says(struct smtp_screen *k, slice addr)
{
    enum listed says = LISTED_NOT;

    for (size_t i = 0; i < k->n_rules && says == LISTED_NOT; i++)
        says = rule_says(k, &k->rules[i], addr);
    return says;
}

static struct smtp_screening *screening_new(struct smtp *s)
{
    struct smtp_screening *k = xcalloc(1, sizeof *k);

    k->n_refs = 1;
    k->s = s;
    k->screen = s->service->screen;
    k->ttl = UINT32_MAX;
    k->began = loop_now();
    s->screening = k;
    return k;
}

/* Too many at a time: of this client, or in all. */
MAY_WAIT static bool is_full(struct smtp *s, const struct kept *e)
{
    const struct smtp_screen *k = s->service->screen;

    if (k->per_client_max > 0 && e->n_testing >= k->per_client_max) {
        event_text(EV_INFO, "postscreen", NULL,
                   "NOQUEUE: reject: CONNECT from [%s]:%u: too many "
                   "connections",
                   s->peer.text, s->peer.port);
        drop(s, "421 4.7.0 Error: too many connections");
        return true;
    }
    if (k->testing_max == 0 || k->n_testing < k->testing_max)
        return false;
    event_text(EV_INFO, "postscreen", NULL,
               "reject: connect from [%s]:%u: all screening ports busy",
               s->peer.text, s->peer.port);
    drop(s, "421 4.3.2 All screening ports are busy");
    return true;
}

/* What must be tested, of what is not kept. */
static void choose_tests(struct smtp_screening *k)
{
    const struct smtp_screen *screen = k->screen;
    msec now = loop_now();

    k->is_new = k->kept->greet_until == 0 && k->kept->dnsbl_until == 0;
    for (int i = 0; i < DEEP_N; i++) {
        k->wants_deep[i] =
            screen->deep[i].is_on && k->kept->deep_until[i] <= now;
        k->has_deep |= k->wants_deep[i];
        k->is_new &= k->kept->deep_until[i] == 0;
    }
    k->wants_greet = screen->teaser != NULL && k->kept->greet_until <= now;
    k->wants_dnsbl = screen->n_sites > 0 && k->kept->dnsbl_until <= now;
}

MAY_WAIT static void test(struct smtp_screening *k)
{
    struct smtp *s = k->s;
    struct err err;

    if (k->wants_greet) {
        stream_deadline(s->stream, clock_after(LAST_WORDS));
        if (stream_puts(s->stream, k->screen->teaser, &err) < 0 ||
            stream_flush(s->stream, &err) < 0) {
            gone(k);
            return;
        }
    }
    if (k->wants_dnsbl)
        ask_lists(k);
    s->task = NULL;
    stream_park(s->stream, loop_after(k->screen->wait_ms), wake, s);
}

void smtp_screen_begin(struct smtp *s)
{
    struct smtp_screen *screen = s->service->screen;
    struct smtp_screening *k;
    enum listed says;
    struct kept *e;

    tell_connect(s);
    says = access_says(screen, slice_str(s->peer.text));
    if (says != LISTED_NOT)
        tell(s, says == LISTED_ALLOW ? "ALLOWLISTED" : "DENYLISTED");
    if (says == LISTED_ALLOW) {
        smtp_session_greet(s);
        return;
    }
    e = kept_get(screen, s->peer.text);
    if (is_full(s, e))
        return;
    k = screening_new(s);
    if (says == LISTED_DENY &&
        fail(k, screen->deny, "5.3.2 Service currently unavailable"))
        return;
    k->kept = e;
    choose_tests(k);
    e->n_testing++;
    screen->n_testing++;
    if (k->wants_greet || k->wants_dnsbl)
        test(k);
    else
        enter_smtpd(k);
}

/* ------------------------------------------------------------------ *
 * What the client says
 */

bool smtp_screen_is_deep(const struct smtp *s)
{
    return s->screening != NULL && s->screening->has_deep;
}

/* A fault.  1: the client was told to go; 0: go on; -1: it is gone. */
MAY_WAIT static int deep_fault(struct smtp_screening *k, enum deep which,
                               const char *status, const char *words)
{
    struct smtp *s = k->s;

    k->wants_deep[which] = false;
    k->has_failed = true;
    switch (k->screen->deep[which].action) {
    case ACTION_IGNORE:
        return 0;
    case ACTION_ENFORCE:
        if (k->refusal == NULL)
            k->refusal = xstrdup("550 5.5.1 Protocol error");
        return 0;
    case ACTION_DROP:
        break;
    }
    s->must_close = true;
    s->said_quit = true;
    return smtp_reply(s, 521, status, "%s", words) < 0 ? -1 : 1;
}

MAY_WAIT static int pipelined(struct smtp_screening *k, slice line)
{
    struct smtp *s = k->s;
    struct buf b CLEANUP(buf_done);

    buf_init(&b, 1000);
    put_escaped(&b, slice_sub(stream_peek(s->stream), 0, 100));
    event_text(EV_INFO, "postscreen", NULL,
               "COMMAND PIPELINING from [%s]:%u after %.*s: %.*s", s->peer.text,
               s->peer.port, SLF(slice_sub(slice_trim(line), 0, 100)),
               SLF(slice_sub(buf_view(&b), 0, 100)));
    return deep_fault(k, DEEP_PIPELINING, "5.5.1", "Protocol error");
}

int smtp_screen_line(struct smtp *s, slice line)
{
    struct smtp_screening *k = s->screening;
    int r = 0;

    k->where = s->last_verb;
    if (k->wants_deep[DEEP_NEWLINE] && !slice_ends(line, SL("\r\n"))) {
        event_text(EV_INFO, "postscreen", NULL,
                   "BARE NEWLINE from [%s]:%u after %.*s", s->peer.text,
                   s->peer.port, SLF(smtp_verb_name(k->where)));
        r = deep_fault(k, DEEP_NEWLINE, "5.5.1", "Protocol error");
    }
    if (r == 0 && k->wants_deep[DEEP_PIPELINING] &&
        stream_peek(s->stream).n > 0 && !slice_istarts(line, SL("BDAT")))
        r = pipelined(k, line);
    return r;
}

int smtp_screen_foreign(struct smtp *s, slice line)
{
    struct smtp_screening *k = s->screening;

    if (!k->wants_deep[DEEP_FOREIGN])
        return 0;
    event_text(EV_INFO, "postscreen", NULL,
               "NON-SMTP COMMAND from [%s]:%u after %.*s: %.*s", s->peer.text,
               s->peer.port, SLF(smtp_verb_name(k->where)),
               SLF(slice_sub(slice_trim(line), 0, 100)));
    return deep_fault(k, DEEP_FOREIGN, "5.7.0",
                      "Error: I can break rules, too. Goodbye.");
}

/* Who came so far without a fault has passed. */
static void deep_pass(struct smtp_screening *k)
{
    if (!k->has_deep || k->has_rcpt)
        return;
    k->has_rcpt = true;
    for (int i = 0; i < DEEP_N; i++)
        if (k->wants_deep[i])
            k->kept->deep_until[i] = loop_after(k->screen->deep[i].ttl_ms);
    tell_pass(k);
}

int smtp_screen_refuse(struct smtp *s, slice rcpt)
{
    struct smtp_screening *k = s->screening;
    slice sender =
        s->tx != NULL && s->tx->has_mail ? s->tx->sender : SLICE_NONE;
    struct access_reply reply = { .code = 550 };
    const char *words = k->refusal;

    if (words == NULL) {
        words = "450 4.3.2 Service currently unavailable";
        reply.code = 450;
    }
    reply.line = slice_str(words);
    event_text(EV_INFO, "postscreen", NULL,
               "NOQUEUE: reject: RCPT from [%s]:%u: %s; from=<%.*s>, "
               "to=<%.*s>, proto=%s, helo=<%s>",
               s->peer.text, s->peer.port, words, SLF(sender), SLF(rcpt),
               s->is_esmtp ? "ESMTP" : "SMTP", s->helo != NULL ? s->helo : "");
    deep_pass(k);
    return smtp_reply_line(s, &reply);
}
