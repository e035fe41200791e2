#ifndef SMTP_CLIENT_FAKE_H
#define SMTP_CLIENT_FAKE_H

/* For tests and the fuzzer: a client of a configuration, whose DNS is a list of
 * lines "name type value" ("a.test MX 10 mx.test", "b.test FAIL"), and one job
 * that nobody waits for. */
#include "smtp/client/job.h"

#include <arpa/inet.h>

struct fake {
    struct conf *conf;
    struct tables *tables;
    struct dns *dns;
    struct process process;
    struct smtp_client *client;
    const char *zone;
    struct client_job job;
};

static inline bool fake_type(slice word, enum dns_type *out)
{
    *out = slice_eqs(word, "MX")     ? DNS_MX
           : slice_eqs(word, "A")    ? DNS_A
           : slice_eqs(word, "AAAA") ? DNS_AAAA
                                     : DNS_TXT;
    return *out != DNS_TXT;
}

static inline void fake_answer(void *arg, const struct dns_question *q,
                               struct arena *a, struct dns_answer *out)
{
    struct fake *f = arg;
    slice rest = slice_str(f->zone);
    slice name = q->name;
    slice line;
    bool more = true;

    *out = (struct dns_answer){ .result = DNS_NXDOMAIN };
    out->rr = ARENA_ARRAY(a, struct dns_rr, 50);
    for (int n = 0; more && n < 50; n++) {
        struct dns_rr *rr = &out->rr[out->n_rr];
        enum dns_type type;
        slice owner;
        slice word;
        char text[64];
        uint64_t pref = 0;

        more = slice_cut(&rest, '\n', &line);
        if (!slice_token(&line, " ", &owner) || !slice_ieq(owner, name) ||
            !slice_token(&line, " ", &word))
            continue;
        if (slice_eqs(word, "FAIL")) {
            out->result = DNS_FAIL;
            return;
        }
        if (slice_eqs(word, "CNAME")) {
            out->is_cname = true;
            out->canonical = slice_trim(line);
            name = out->canonical;
            rest = slice_str(f->zone);
            more = true;
            continue;
        }
        if (out->result == DNS_NXDOMAIN)
            out->result = DNS_NODATA;
        if (!fake_type(word, &type) || type != q->type)
            continue;
        *rr = (struct dns_rr){ .type = type, .ttl = 60 };
        if (type == DNS_MX) {
            (void)slice_token(&line, " ", &word);
            (void)slice_u64(word, &pref);
            rr->pref = (unsigned)pref;
            rr->name = slice_trim(line);
        } else if (slice_copy_to(slice_trim(line), text, sizeof text)) {
            (void)inet_pton(type == DNS_A ? AF_INET : AF_INET6, text, rr->ip);
        }
        out->n_rr++;
        out->result = DNS_OK;
    }
}

static inline void fake_open(struct fake *f, const char *main_cf,
                             const char *transport, const char *zone)
{
    struct smtp_client_parts parts = { .process = &f->process };
    struct client_job *j = &f->job;
    struct err err;

    *f = (struct fake){ .zone = zone };
    f->conf = conf_from_text(
        slice_str(main_cf),
        SL("plain unix - - n - - smtp\nlm unix - - n - - lmtp\n"), NULL);
    f->tables = tables_new();
    tables_set_direct(f->tables, NULL);
    f->dns = dns_new_fake(fake_answer, f);
    f->process.conf = f->conf;
    parts.tables = f->tables;
    parts.dns = f->dns;
    if (smtp_client_new(&parts, &f->client, &err) < 0)
        panic("%s", err.log);
    j->client = f->client;
    j->service = client_service_of(f->client, slice_str(transport));
    j->arena = arena_new(64u << 20);
    j->queue_id = "4Q";
    j->body_fd = -1;
    j->deadline = clock_after(60000);
    j->started = loop_now();
}

static inline void fake_rcpts(struct fake *f, const char *const *addrs,
                              size_t n)
{
    f->job.rcpts = ARENA_ARRAY(f->job.arena, struct client_rcpt, n);
    f->job.n_rcpts = f->job.n_left = n;
    for (size_t i = 0; i < n; i++)
        f->job.rcpts[i].addr = slice_str(addrs[i]);
}

MAY_WAIT static inline void fake_close(struct fake *f)
{
    struct err err;

    client_cache_close(f->client->cache);
    while (f->client->n_quits > 0 && task_inside() && task_sleep(1, &err) == 0)
        continue;
    arena_free(&f->job.arena);
    smtp_client_free(&f->client);
    dns_free(&f->dns);
    tables_free(&f->tables);
    conf_unref(&f->conf);
}

#endif
