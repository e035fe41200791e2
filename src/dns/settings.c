/* The parameters of the resolver, and the files they name. */
#include "dns/dns_priv.h"

#include "mail/domain.h"

#include <arpa/inet.h>
#include <fcntl.h>

#define FILE_BYTES 65536

/* At most FILE_BYTES; NULL with errno when it cannot be read. */
static char *read_text(struct arena *a, const char *path)
{
    int fd CLEANUP(close_fd) = open(path, O_RDONLY | O_CLOEXEC);
    char *p = fd < 0 ? NULL : xarena_alloc(a, FILE_BYTES + 1);
    size_t n = 0;

    while (p != NULL && n < FILE_BYTES) {
        ssize_t got = read(fd, p + n, FILE_BYTES - n);

        if (got < 0)
            return NULL;
        if (got == 0)
            break;
        n += (size_t)got;
    }
    return p;
}

static bool is_loopback(int family, const uint8_t *ip)
{
    static const uint8_t one[16] = { [15] = 1 };

    return family == 4 ? ip[0] == 127 : memcmp(ip, one, 16) == 0;
}

/* "addr" or "addr@port" to `zone`; false when it is no such thing. */
static bool add_forward(struct dns_settings *s, const char *zone, slice text,
                        uint64_t port)
{
    struct dns_forward *f = &s->forwards[s->n_forwards];
    slice rest = text, addr;
    char plain[INET6_ADDRSTRLEN];
    uint8_t ip[16];
    int family;

    if (slice_cut(&rest, '@', &addr) && !slice_u64(rest, &port))
        return false;
    if (s->n_forwards == DNS_FORWARDS_MAX || port == 0 || port > 65535 ||
        !mail_ip_parse(addr, &family, ip) ||
        !slice_copy_to(addr, plain, sizeof plain))
        return false;
    (void)snprintf(f->addr, sizeof f->addr, "%s@%u", plain, (unsigned)port);
    f->zone = zone;
    s->n_forwards++;
    s->has_forwarder |= strcmp(zone, ".") == 0;
    s->has_local |= is_loopback(family, ip);
    return true;
}

/* resolv.conf(5): "nameserver 192.0.2.1".  Scoped addresses are passed over. */
static void read_system(struct dns_settings *s, struct arena *a, uint64_t port)
{
    const char *text = read_text(a, "/etc/resolv.conf");
    slice rest = slice_str(text), line, word;

    while (rest.n > 0) {
        (void)slice_cut(&rest, '\n', &line);
        if (slice_token(&line, " \t\r", &word) &&
            slice_eqs(word, "nameserver") && slice_token(&line, " \t\r", &word))
            (void)add_forward(s, ".", word, port);
    }
    s->is_system = s->has_forwarder;
}

/* "addr[@port]" or "zone=addr[@port]" */
static bool read_forwarder(struct dns_settings *s, struct arena *a, slice item,
                           uint64_t port)
{
    slice addr = item, zone;

    if (!slice_cut(&addr, '=', &zone))
        return add_forward(s, ".", item, port);
    if (slice_eqs(zone, "."))
        return add_forward(s, ".", addr, port);
    if (slice_ends(zone, SL(".")))
        zone.n--;
    return dns_name_ok(zone) && add_forward(s, slice_cstr(a, zone), addr, port);
}

static int read_forwarders(const struct conf *c, struct arena *a,
                           struct dns_settings *s, struct err *err)
{
    uint64_t port = (uint64_t)conf_int(c, NULL, "resolver_port");
    slice rest = conf_slice(c, NULL, "resolver_forwarders"), item;
    bool is_root = false;

    while (conf_list_next(&rest, &item)) {
        if (slice_eqs(item, "root"))
            is_root = true;
        else if (!read_forwarder(s, a, item, port))
            return err_perm(err,
                            "resolver_forwarders: \"%.*s\" is not "
                            "\"root\", addr[@port] or zone=addr[@port]",
                            SLF(item));
    }
    if (is_root && s->has_forwarder)
        return err_perm(err, "resolver_forwarders: \"root\" beside a server "
                             "for everything");
    if (!is_root && !s->has_forwarder)
        read_system(s, a, port);
    return 0;
}

static int read_insecure(const struct conf *c, struct arena *a,
                         struct dns_settings *s, struct err *err)
{
    slice rest = conf_slice(c, NULL, "resolver_insecure_zones"), zone;

    while (conf_list_next(&rest, &zone)) {
        if (zone.n > 1 && slice_ends(zone, SL(".")))
            zone.n--;
        if (!dns_name_ok(zone) || s->n_insecure == DNS_FORWARDS_MAX)
            return err_perm(err,
                            "resolver_insecure_zones: \"%.*s\" is not a "
                            "domain name, or one too many",
                            SLF(zone));
        s->insecure[s->n_insecure++] = slice_cstr(a, zone);
    }
    return 0;
}

static int read_anchor(const struct conf *c, struct arena *a,
                       struct dns_settings *s, struct err *err)
{
    const char *path = conf_str(c, NULL, "resolver_trust_anchor_file");
    const char *how = conf_str(c, NULL, "resolver_dnssec");

    s->anchors = "";
    s->dnssec = strcmp(how, "no") == 0    ? DNSSEC_NO
                : strcmp(how, "yes") == 0 ? DNSSEC_YES
                                          : DNSSEC_AUTO;
    if (s->dnssec == DNSSEC_NO)
        return 0;
    s->anchors = path[0] == '\0' ? NULL : read_text(a, path);
    if (s->anchors != NULL && s->anchors[0] != '\0')
        return 0;
    if (s->dnssec == DNSSEC_YES ||
        conf_is_set(c, NULL, "resolver_trust_anchor_file"))
        return err_sys(err, "resolver_trust_anchor_file: %s", path);
    log_warning("%s: %s; answers of DNS are not validated", path,
                strerror(errno));
    s->anchors = "";
    s->dnssec = DNSSEC_NO;
    return 0;
}

int dns_settings_read(const struct conf *c, struct arena *a,
                      struct dns_settings *out, struct err *err)
{
    *out = (struct dns_settings){
        .cache_bytes = conf_size(c, NULL, "resolver_cache_size"),
        .timeout_ms = conf_time(c, NULL, "resolver_query_timeout") * 1000,
    };
    if (read_forwarders(c, a, out, err) < 0 ||
        read_insecure(c, a, out, err) < 0 || read_anchor(c, a, out, err) < 0)
        return -1;
    return 0;
}
