/* The settings of an imapd or pop3d line. */
#include "login/login_priv.h"

#include <arpa/inet.h>

/* "192.0.2.0/24", "[2001:db8::]/32", "192.0.2.1". */
static bool parse_net(slice text, struct login_net *out)
{
    slice ip, bits = text;
    bool has_bits = slice_cut(&bits, '/', &ip);
    char name[64];
    uint64_t n;

    memset(out, 0, sizeof *out);
    if (ip.n > 1 && ip.p[0] == '[' && ip.p[ip.n - 1] == ']')
        ip = slice_sub(ip, 1, ip.n - 2);
    if (!slice_copy_to(ip, name, sizeof name))
        return false;
    out->is_v6 = strchr(name, ':') != NULL;
    if (inet_pton(out->is_v6 ? AF_INET6 : AF_INET, name, out->ip) != 1)
        return false;
    n = out->is_v6 ? 128 : 32;
    if (has_bits && (!slice_u64(bits, &n) || n > (out->is_v6 ? 128u : 32u)))
        return false;
    out->bits = (uint8_t)n;
    return true;
}

static int trusted(struct login_service *s, struct err *err)
{
    slice rest = conf_slice(s->login->conf, s->line, "login_trusted_networks");
    slice word;

    while (conf_list_next(&rest, &word)) {
        if (s->n_trusted == TRUSTED_MAX)
            return err_perm(err, "more than %d login_trusted_networks",
                            TRUSTED_MAX);
        if (!parse_net(word, &s->trusted[s->n_trusted]))
            return err_perm(err, "login_trusted_networks: %.*s is no network",
                            (int)min_size(word.n, 100), word.p);
        s->n_trusted++;
    }
    return 0;
}

static bool is_inside(const struct login_net *net, const struct peer_addr *peer)
{
    unsigned whole = net->bits / 8, rest = net->bits % 8;

    if (peer->family != (net->is_v6 ? AF_INET6 : AF_INET) ||
        memcmp(net->ip, peer->ip, whole) != 0)
        return false;
    return rest == 0 || ((net->ip[whole] ^ peer->ip[whole]) >> (8 - rest)) == 0;
}

bool login_is_trusted(const struct login_service *s,
                      const struct peer_addr *peer)
{
    for (size_t i = 0; i < s->n_trusted; i++)
        if (is_inside(&s->trusted[i], peer))
            return true;
    return false;
}

int login_service_new(struct login *g, const struct conf_service *line,
                      struct login_service **out, struct err *err)
{
    struct login_service *s = xcalloc(1, sizeof *s);
    const struct process *p = g->parts.process;

    s->login = g;
    s->line = line;
    s->index = (int)line->index;
    s->protocol =
        strcmp(line->command, "pop3d") == 0 ? &login_pop3 : &login_imap;
    s->tls = keys_service_of(g->conf, line);
    s->greeting = conf_slice(g->conf, line, "login_greeting");
    s->timeout_ms =
        conf_time(g->conf, line,
                  s->protocol == &login_pop3 ? "pop3_login_timeout"
                                             : "imap_login_timeout") *
        1000;
    s->plaintext_disabled =
        s->tls.auth_only || conf_bool(g->conf, line, "disable_plaintext_auth");
    s->max_conns = CONNS_MAX;
    if (line->maxproc > 0) {
        size_t max = (size_t)line->maxproc, n = p->n_slots > 0 ? p->n_slots : 1;

        s->is_limited = true;
        s->max_conns = max / n + (p->slot % n < max % n ? 1 : 0);
    }
    if (trusted(s, err) < 0) {
        login_service_free(&s);
        return -1;
    }
    list_push(&g->services, &s->link);
    *out = s;
    return 0;
}

void login_service_free(struct login_service **s)
{
    free(*s);
    *s = NULL;
}
