/* What the configuration needs to know of the machine.  All calls that block
 * or ask the resolver are in this file. */
#include "conf/conf_priv.h"
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>

bool conf_system_port(const char *name, uint16_t *out)
{
    const struct servent *e = getservbyname(name, "tcp");

    if (e == NULL)
        return false;
    *out = ntohs((uint16_t)e->s_port);
    return true;
}

static uint8_t mask_bits(const struct sockaddr *mask, bool is_v6)
{
    const uint8_t *p;
    unsigned bits = 0;

    if (mask == NULL)
        return is_v6 ? 128 : 32;
    if (is_v6)
        p = ((const struct sockaddr_in6 *)(const void *)mask)
                ->sin6_addr.s6_addr;
    else
        p = (const uint8_t *)&((const struct sockaddr_in *)(const void *)mask)
                ->sin_addr;
    for (size_t i = 0; i < (is_v6 ? 16u : 4u); i++)
        bits += (unsigned)__builtin_popcount(p[i]);
    return (uint8_t)bits;
}

static bool from_sockaddr(const struct sockaddr *sa, struct conf_addr *out)
{
    struct conf_addr a = { 0 };

    if (sa == NULL)
        return false;
    if (sa->sa_family == AF_INET) {
        memcpy(a.ip, &((const struct sockaddr_in *)(const void *)sa)->sin_addr,
               4);
        a.bits = 32;
    } else if (sa->sa_family == AF_INET6) {
        memcpy(a.ip,
               &((const struct sockaddr_in6 *)(const void *)sa)->sin6_addr, 16);
        a.is_v6 = true;
        a.bits = 128;
    } else {
        return false;
    }
    *out = a;
    return true;
}

static void find_interfaces(struct conf *c)
{
    struct ifaddrs *list = NULL;
    size_t n = 0;

    if (getifaddrs(&list) < 0)
        return;
    for (const struct ifaddrs *i = list; i != NULL; i = i->ifa_next)
        n++;
    n = min_size(n, CONF_MAX_IFADDRS);
    c->ifaddrs = ARENA_ARRAY(c->arena, struct conf_addr, n + 1);
    for (const struct ifaddrs *i = list; i != NULL; i = i->ifa_next) {
        struct conf_addr a;

        if (c->n_ifaddrs == n || !(i->ifa_flags & IFF_UP) ||
            !from_sockaddr(i->ifa_addr, &a))
            continue;
        a.bits = mask_bits(i->ifa_netmask, a.is_v6);
        c->ifaddrs[c->n_ifaddrs++] = a;
    }
    freeifaddrs(list);
}

void conf_facts_host(struct conf *c)
{
    char name[256];

    if (gethostname(name, sizeof(name)) < 0 || name[0] == '\0')
        memcpy(name, "localhost", sizeof("localhost"));
    name[sizeof(name) - 1] = '\0';
    c->hostname = slice_cstr(c->arena, slice_str(name));
    find_interfaces(c);
}

/* A regular file of bounded size, whole. */
int conf_read_file(const char *path, struct buf *out, struct err *err)
{
    int fd CLEANUP(close_fd) = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    struct stat st;

    if (fd < 0)
        return err_sys(err, "open %s", path);
    if (fstat(fd, &st) < 0)
        return err_sys(err, "stat %s", path);
    if (S_ISDIR(st.st_mode))
        return err_perm(err, "%s is a directory", path);
    for (;;) {
        char *p = buf_reserve(out, 8192);
        ssize_t n;

        if (p == NULL)
            return err_perm(err, "%s is larger than %u bytes", path,
                            CONF_MAX_TEXT);
        n = read(fd, p, 8192);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_sys(err, "read %s", path);
        if (n == 0)
            return 0;
        buf_commit(out, (size_t)n);
    }
}

static void learn_file(struct conf *c, slice path)
{
    struct buf text;
    struct err err;
    char name[1024];

    if (conf_get_file(c, path) != NULL)
        return;
    buf_init(&text, CONF_MAX_TEXT);
    if (!slice_copy_to(path, name, sizeof(name)))
        conf_add_file(c, path, SLICE_NONE, "the path is too long");
    else if (conf_read_file(name, &text, &err) < 0)
        conf_add_file(c, path, SLICE_NONE, err.log);
    else
        conf_add_file(c, path, buf_view(&text), NULL);
    buf_done(&text);
}

static void learn_host(struct conf *c, slice name)
{
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM };
    struct addrinfo *list = NULL;
    struct conf_addr v[16];
    size_t n = 0;
    char host[256];

    if (conf_addr_parse(name, &v[0]) || map_get(c->hosts, name) != NULL ||
        !slice_copy_to(name, host, sizeof(host)))
        return;
    if (getaddrinfo(host, NULL, &hints, &list) != 0)
        list = NULL;
    for (const struct addrinfo *i = list; i != NULL && n < ARRAY_LEN(v);
         i = i->ai_next)
        if (from_sockaddr(i->ai_addr, &v[n]))
            n++;
    if (list != NULL)
        freeaddrinfo(list);
    conf_add_host(c, name, v, n);
}

static void learn_hosts_of(struct conf *c, const struct conf_service *s,
                           const char *param)
{
    slice list = conf_slice(c, s, param);
    slice w;

    while (conf_list_next(&list, &w))
        if (!slice_ieqs(w, "all") && !slice_ieqs(w, "loopback-only"))
            learn_host(c, w);
}

/* Files named in match lists, and in those files. */
/* NOLINTNEXTLINE(misc-no-recursion): at most CONF_MAX_NESTED deep */
static void learn_files_in(struct conf *c, slice words, unsigned depth)
{
    slice w;

    if (depth > CONF_MAX_NESTED)
        return;
    while (conf_list_next(&words, &w)) {
        const struct conf_file *f;

        while (w.n > 0 && w.p[0] == '!')
            w = slice_from(w, 1);
        if (w.n == 0 || w.p[0] != '/' || conf_get_file(c, w) != NULL)
            continue;
        learn_file(c, w);
        f = conf_get_file(c, w);
        if (f != NULL && f->trouble == NULL)
            learn_files_in(c, f->text, depth + 1);
    }
}

static void learn_myorigin(struct conf *c, const struct conf_service *s)
{
    slice text = conf_slice(c, s, "myorigin");

    if (text.n > 0 && text.p[0] == '/')
        learn_file(c, text);
}

static void learn_for(struct conf *c, const struct conf_service *s)
{
    learn_myorigin(c, s);
    conf_forget(c);
    for (size_t i = 0; i < conf_param_count(); i++) {
        const struct conf_param *p = conf_param_at(i);

        if (p->type == CONF_T_MATCH)
            learn_files_in(c, conf_slice(c, s, p->name), 0);
    }
    learn_hosts_of(c, s, "inet_interfaces");
    learn_hosts_of(c, s, "proxy_interfaces");
}

void conf_facts_rest(struct conf *c)
{
    learn_for(c, NULL);
    for (size_t i = 0; i < c->n_services; i++) {
        const struct conf_service *s = &c->services[i];
        slice name = slice_str(s->name);
        ssize_t colon = slice_rchr(name, ':');
        uint16_t port;

        if (s->n_overrides > 0)
            learn_for(c, s);
        if (s->type != CONF_INET)
            continue;
        if (s->host[0] != '\0')
            learn_host(c, slice_str(s->host));
        if (colon >= 0)
            name = slice_from(name, (size_t)colon + 1);
        if (name.n > 0 && name.n < 64 && map_get(c->ports, name) == NULL &&
            conf_system_port(s->name + (colon + 1), &port))
            conf_add_port(c, name, port);
    }
    conf_set_ports(c);
    conf_forget(c);
}
