#include "conf/conf_priv.h"
#include <arpa/inet.h>

bool conf_addr_parse(slice text, struct conf_addr *out)
{
    char copy[64];
    struct conf_addr a = { 0 };

    if (text.n > 1 && text.p[0] == '[' && text.p[text.n - 1] == ']')
        text = slice_sub(text, 1, text.n - 2);
    if (slice_istarts(text, SL("ipv6:")))
        text = slice_from(text, 5);
    if (!slice_copy_to(text, copy, sizeof(copy)))
        return false;
    if (inet_pton(AF_INET, copy, a.ip) == 1) {
        a.bits = 32;
    } else if (inet_pton(AF_INET6, copy, a.ip) == 1) {
        a.is_v6 = true;
        a.bits = 128;
    } else {
        return false;
    }
    *out = a;
    return true;
}

/* "192.0.2.0/24", "[2001:db8::]/64", the host part cleared. */
void conf_addr_print(const struct conf_addr *a, struct buf *out, int bits)
{
    char text[64];
    struct conf_addr net = *a;
    size_t len = a->is_v6 ? 16 : 4;

    for (size_t i = 0; i < len; i++) {
        int left = bits - (int)(8 * i);

        if (left <= 0)
            net.ip[i] = 0;
        else if (left < 8)
            net.ip[i] &= (uint8_t)(0xff << (8 - left));
    }
    if (inet_ntop(a->is_v6 ? AF_INET6 : AF_INET, net.ip, text, sizeof(text)) ==
        NULL)
        return;
    buf_printf(out, a->is_v6 ? "[%s]/%d" : "%s/%d", text, bits);
}

static bool is_loopback(const struct conf_addr *a)
{
    static const uint8_t one[16] = { [15] = 1 };

    return a->is_v6 ? memcmp(a->ip, one, 16) == 0 : a->ip[0] == 127;
}

static bool protocol_enabled(const struct conf *c, const struct conf_service *s,
                             bool is_v6)
{
    slice list = conf_slice(c, s, "inet_protocols");
    slice w;

    while (conf_list_next(&list, &w))
        if (slice_ieqs(w, "all") || slice_ieqs(w, is_v6 ? "ipv6" : "ipv4"))
            return true;
    return false;
}

/* What is filled: an array with its maximum. */
struct addr_vec {
    const struct conf *c;
    const struct conf_service *service;
    struct conf_addr *v;
    size_t n;
    size_t max;
};

static void vec_add(struct addr_vec *vec, const struct conf_addr *a)
{
    if (!protocol_enabled(vec->c, vec->service, a->is_v6))
        return;
    for (size_t i = 0; i < vec->n; i++)
        if (vec->v[i].is_v6 == a->is_v6 &&
            memcmp(vec->v[i].ip, a->ip, sizeof(a->ip)) == 0)
            return;
    if (vec->n < vec->max)
        vec->v[vec->n++] = *a;
}

/* The mask of an interface that has this very address. */
static void set_mask(const struct conf *c, struct conf_addr *a)
{
    for (size_t i = 0; i < c->n_ifaddrs; i++)
        if (c->ifaddrs[i].is_v6 == a->is_v6 &&
            memcmp(c->ifaddrs[i].ip, a->ip, sizeof(a->ip)) == 0)
            a->bits = c->ifaddrs[i].bits;
}

static void add_host(struct addr_vec *vec, slice host)
{
    struct conf_addr a;
    struct map_node *n;

    if (conf_addr_parse(host, &a)) {
        set_mask(vec->c, &a);
        vec_add(vec, &a);
        return;
    }
    n = map_get(vec->c->hosts, host);
    if (n == NULL)
        return;
    const struct conf_host *h = CONTAINER_OF(n, struct conf_host, node);
    for (size_t i = 0; i < h->n; i++) {
        a = h->v[i];
        set_mask(vec->c, &a);
        vec_add(vec, &a);
    }
}

static void add_own(struct addr_vec *vec, bool only_loopback)
{
    for (size_t i = 0; i < vec->c->n_ifaddrs; i++)
        if (!only_loopback || is_loopback(&vec->c->ifaddrs[i]))
            vec_add(vec, &vec->c->ifaddrs[i]);
}

static void add_hosts(struct addr_vec *vec, const char *param, bool wildcards)
{
    static const struct conf_addr any4 = { .bits = 32 };
    static const struct conf_addr any6 = { .is_v6 = true, .bits = 128 };
    slice list = conf_slice(vec->c, vec->service, param);
    slice w;

    while (conf_list_next(&list, &w)) {
        if (slice_ieqs(w, "all") && wildcards) {
            vec_add(vec, &any4);
            vec_add(vec, &any6);
        } else if (slice_ieqs(w, "all")) {
            add_own(vec, false);
        } else if (slice_ieqs(w, "loopback-only")) {
            add_own(vec, true);
        } else {
            add_host(vec, w);
        }
    }
}

size_t conf_listen_addrs(const struct conf *c,
                         const struct conf_service *service,
                         struct conf_addr *out, size_t max)
{
    struct addr_vec vec = { .c = c, .service = service, .v = out, .max = max };

    CHECK_OBJ(c, CONF_MAGIC);
    if (service != NULL && service->host[0] != '\0')
        add_host(&vec, slice_str(service->host));
    else
        add_hosts(&vec, "inet_interfaces", true);
    return vec.n;
}

size_t conf_own_addrs(const struct conf *c, bool with_proxy,
                      struct conf_addr *out, size_t max)
{
    struct addr_vec vec = { .c = c, .v = out, .max = max };

    CHECK_OBJ(c, CONF_MAGIC);
    add_hosts(&vec, "inet_interfaces", false);
    if (with_proxy)
        add_hosts(&vec, "proxy_interfaces", false);
    return vec.n;
}
