/* hato dns NAME [TYPE]: what the running resolver says. */
#include "command/command.h"

#include "base/clock.h"
#include "conf/conf.h"
#include "dns/dns.h"
#include "ipc/ipc.h"
#include "mail/domain.h"
#include "master/master.h"

#include <sys/socket.h>
#include <sysexits.h>

struct question {
    slice name;
    enum dns_type type;
    char reverse[100];
    int status;
};

MAY_WAIT static struct dns *connect_to_resolver(void)
{
    struct conf *conf = command_conf(NULL, CONF_MAIN_ONLY);
    msec timeout = conf_time(conf, NULL, "resolver_query_timeout") * 1000;
    struct buf b;
    struct err err;
    int fd = -1;

    buf_init(&b, 64);
    err.log[0] = '\0';
    (void)attr_put_u64(&b, AT_PTYPE, PT_RESOLVER);
    if (master_ask(conf, CTL_CONNECT, buf_view(&b), NULL, &fd, &err) < 0 ||
        fd < 0)
        command_die(EX_UNAVAILABLE, "the resolver cannot be asked: %s",
                    err.log[0] == '\0' ? "no answer" : err.log);
    buf_done(&b);
    conf_unref(&conf);
    return dns_new_socket(fd, timeout);
}

static const char *describe(const struct dns_answer *r)
{
    if (r->is_bogus)
        return "bogus";
    switch (r->result) {
    case DNS_OK:
        return "found";
    case DNS_NODATA:
        return "no such record";
    case DNS_NXDOMAIN:
        return "no such name";
    case DNS_BAD_NAME:
        return "not a domain name";
    case DNS_FAIL:
    default:
        return "failed";
    }
}

static int status_of(enum dns_result result)
{
    switch (result) {
    case DNS_OK:
        return 0;
    case DNS_NODATA:
    case DNS_NXDOMAIN:
        return 1;
    case DNS_BAD_NAME:
        return EX_USAGE;
    case DNS_FAIL:
    default:
        return EX_TEMPFAIL;
    }
}

static void print_answer(const struct question *q, const struct dns_answer *r)
{
    struct buf b;
    slice rest, line;

    buf_init(&b, 1u << 20);
    (void)buf_printf(&b, "%.*s %s: %s", SLF(q->name), dns_type_name(q->type),
                     describe(r));
    if (r->is_secure)
        (void)buf_puts(&b, ", secure");
    if (r->is_cname)
        (void)buf_printf(&b, ", alias of %.*s", SLF(r->canonical));
    if (r->why.n > 0)
        (void)buf_printf(&b, ": %.*s", SLF(r->why));
    (void)buf_byte(&b, '\n');
    for (size_t i = 0; i < r->n_rr; i++) {
        (void)buf_printf(&b, "%.*s. %u ", SLF(r->canonical), r->rr[i].ttl);
        dns_rr_print(&r->rr[i], &b);
        (void)buf_byte(&b, '\n');
    }
    rest = buf_view(&b);
    while (slice_cut(&rest, '\n', &line)) {
        command_print_text(line);
        putchar('\n');
    }
    buf_done(&b);
}

MAY_WAIT static void run(void *arg)
{
    struct question *q = arg;
    struct dns *d = connect_to_resolver();
    struct arena *a = arena_new(4u << 20);
    struct dns_answer r;
    struct err err;

    if (dns_query(d, q->name, q->type, 0, a, &r, &err) < 0)
        command_die(EX_TEMPFAIL, "%s", err.log);
    print_answer(q, &r);
    q->status = status_of(r.result);
    arena_free(&a);
    dns_free(&d);
}

/* An address without a type is asked for its name. */
static bool is_reverse(struct question *q)
{
    uint8_t ip[16];
    int family;

    if (!mail_ip_parse(q->name, &family, ip))
        return false;
    dns_reverse_name(family == 4 ? AF_INET : AF_INET6, ip, NULL, NULL,
                     q->reverse);
    q->name = slice_str(q->reverse);
    q->type = DNS_PTR;
    return true;
}

int command_dns(int argc, char **argv)
{
    struct question q = { .type = DNS_A };
    struct arena *a;
    slice ascii;

    if (argc < 2 || argc > 3 ||
        (argc == 3 && !dns_type_find(slice_str(argv[2]), &q.type))) {
        (void)fprintf(stderr, "usage: hato dns NAME [A|AAAA|MX|TXT|PTR|TLSA|"
                              "SRV|CNAME|NS|SOA]\n       hato dns ADDRESS\n");
        return EX_USAGE;
    }
    a = arena_new(65536);
    q.name = slice_str(argv[1]);
    if ((argc == 3 || !is_reverse(&q)) && !mail_is_ascii(q.name) &&
        dns_ascii_name(q.name, a, &ascii) == 0)
        q.name = ascii;
    command_run_task(run, &q);
    command_flush();
    arena_free(&a);
    return q.status;
}
