#include "smtp/server/screen_priv.h"

#include "dns/dns.h"

#include <sys/socket.h>

/*
 * postscreen(8): what a stranger must pass before he is greeted, in the process
 * that then serves him.  A session under test is parked; what an address has
 * passed is in memory that all smtpd share (access/access.h), and qmgr keeps
 * it.
 *
 *     connect -> access list -> passed? -> "220-..." and DNS lists -> wait
 *             -> greeted by smtpd | refused at RCPT (enforce) | dropped
 *
 * The tests of what a client says (pipelining, foreign commands, bare newlines)
 * watch a session of smtpd whose recipients are all deferred; who comes to RCPT
 * without a fault has passed them, and may come again.
 */

#define LAST_WORDS 5000

/* ------------------------------------------------------------------ *
 * Who is under test, and what he has passed
 */

static unsigned n_testing(struct smtp_screen *k, const char *addr)
{
    struct map_node *n = map_get(&k->clients, slice_str(addr));

    return n != NULL ? CONTAINER_OF(n, struct screen_client, node)->n_testing
                     : 0;
}

static struct screen_client *client_get(struct smtp_screen *k, const char *addr)
{
    struct map_node *n = map_get(&k->clients, slice_str(addr));
    struct screen_client *c;

    if (n != NULL)
        return CONTAINER_OF(n, struct screen_client, node);
    c = xcalloc(1, sizeof *c);
    (void)snprintf(c->addr, sizeof c->addr, "%s", addr);
    map_put(&k->clients, &c->node, slice_str(c->addr));
    return c;
}

static void client_put(struct smtp_screen *k, struct screen_client *c)
{
    if (c->n_testing > 0)
        return;
    map_del(&k->clients, &c->node);
    free(c);
}

void screen_pass(struct smtp_screening *k, enum access_pass which, msec ms)
{
    msec until = clock_wall() + ms;

    k->passed.until_ms[which] = until;
    access_passes_set(k->screen->passes, slice_str(k->s->peer.text), which,
                      until);
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

void screen_put_escaped(struct buf *b, slice text)
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
    if (k->client != NULL) {
        k->client->n_testing--;
        client_put(k->screen, k->client);
        k->client = NULL;
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
        screen_pass(k, ACCESS_PASS_DNSBL, ttl);
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

void screen_tell_pass(const struct smtp_screening *k)
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
        screen_tell_pass(k);
    if (k->refusal == NULL && !k->has_deep)
        smtp_screen_end(s);
    smtp_session_greet(s);
}

/* The tests are over: on to smtpd, with a refusal or without. */
MAY_WAIT static void conclude(struct smtp_screening *k)
{
    if (judge_dnsbl(k))
        return;
    if (k->is_vouched_for && k->passed.until_ms[ACCESS_PASS_GREET] <
                                 k->passed.until_ms[ACCESS_PASS_DNSBL])
        screen_pass(k, ACCESS_PASS_GREET,
                    k->passed.until_ms[ACCESS_PASS_DNSBL] - clock_wall());
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
    screen_put_escaped(&b, slice_sub(said, 0, 100));
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
        screen_pass(k, ACCESS_PASS_GREET, k->screen->greet_ttl_ms);
    conclude(k);
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
MAY_WAIT static bool is_full(struct smtp *s)
{
    struct smtp_screen *k = s->service->screen;

    if (k->per_client_max > 0 &&
        n_testing(k, s->peer.text) >= k->per_client_max) {
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

/* What must be tested, of what has not been passed. */
static void choose_tests(struct smtp_screening *k)
{
    const struct smtp_screen *screen = k->screen;
    const msec *until = k->passed.until_ms;
    msec now = clock_wall();

    (void)access_passes_get(screen->passes, slice_str(k->s->peer.text),
                            &k->passed);
    /* covers: postscreen_cache_retention_time */
    k->is_new = true;
    for (int i = 0; i < ACCESS_PASS_N; i++)
        k->is_new &= until[i] + screen->retention_ms < now;
    for (int i = 0; i < DEEP_N; i++) {
        k->wants_deep[i] =
            screen->deep[i].is_on && until[ACCESS_PASS_PIPELINING + i] <= now;
        k->has_deep |= k->wants_deep[i];
    }
    k->wants_greet = screen->teaser != NULL && until[ACCESS_PASS_GREET] <= now;
    k->wants_dnsbl = screen->n_sites > 0 && until[ACCESS_PASS_DNSBL] <= now;
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

    tell_connect(s);
    says = screen_access_says(screen, slice_str(s->peer.text));
    if (says != LISTED_NOT)
        tell(s, says == LISTED_ALLOW ? "ALLOWLISTED" : "DENYLISTED");
    if (says == LISTED_ALLOW) {
        smtp_session_greet(s);
        return;
    }
    if (is_full(s))
        return;
    k = screening_new(s);
    if (says == LISTED_DENY &&
        fail(k, screen->deny, "5.3.2 Service currently unavailable"))
        return;
    choose_tests(k);
    k->client = client_get(screen, s->peer.text);
    k->client->n_testing++;
    screen->n_testing++;
    if (k->wants_greet || k->wants_dnsbl)
        test(k);
    else
        enter_smtpd(k);
}
