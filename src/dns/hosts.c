/* /etc/hosts (hosts(5)): an address, then its names; # begins a comment. */
#include "dns/dns_priv.h"

#include "mail/domain.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define HOSTS_BYTES (1u << 20)
#define HOSTS_TTL   60

struct dns_hosts {
    char *path;
    struct buf text;
    struct timespec mtime;
    off_t size;
};

static void read_all(struct dns_hosts *h, int fd)
{
    char *p;
    ssize_t n;

    buf_clear(&h->text);
    while ((p = buf_reserve(&h->text, 16384)) != NULL) {
        n = read(fd, p, 16384);
        if (n <= 0)
            break;
        buf_commit(&h->text, (size_t)n);
    }
}

/* A file that is gone, or that this process no longer sees, stays as it was. */
static void refresh(struct dns_hosts *h)
{
    int fd CLEANUP(close_fd) = -1;
    struct stat st;

    if (stat(h->path, &st) < 0 || !S_ISREG(st.st_mode) ||
        (st.st_size == h->size && st.st_mtim.tv_sec == h->mtime.tv_sec &&
         st.st_mtim.tv_nsec == h->mtime.tv_nsec))
        return;
    fd = open(h->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return;
    read_all(h, fd);
    h->mtime = st.st_mtim;
    h->size = st.st_size;
}

struct dns_hosts *dns_hosts_new(const char *path)
{
    struct dns_hosts *h = xcalloc(1, sizeof *h);

    h->path = xstrdup(path);
    h->size = -1;
    buf_init(&h->text, HOSTS_BYTES);
    refresh(h);
    return h;
}

void dns_hosts_free(struct dns_hosts **hp)
{
    struct dns_hosts *h = *hp;

    *hp = NULL;
    if (h == NULL)
        return;
    buf_done(&h->text);
    free(h->path);
    free(h);
}

static bool names(slice line, slice name)
{
    slice word;

    while (slice_token(&line, " \t\r\f\v", &word))
        if (slice_ieq(word, name))
            return true;
    return false;
}

static void look_at_line(slice whole, slice name, struct dns_answer *out)
{
    uint8_t ip[16] = { 0 };
    slice line, where;
    struct dns_rr *rr;
    int family;

    (void)slice_cut(&whole, '#', &line);
    if (!slice_token(&line, " \t\r\f\v", &where) ||
        !mail_ip_parse(where, &family, ip) || !names(line, name) ||
        out->n_rr == DNS_MAX_RECORDS)
        return;
    rr = &out->rr[out->n_rr];
    rr->type = family == 4 ? DNS_A : DNS_AAAA;
    rr->ttl = HOSTS_TTL;
    memcpy(rr->ip, ip, sizeof ip);
    for (size_t i = 0; i < out->n_rr; i++)
        if (out->rr[i].type == rr->type &&
            memcmp(out->rr[i].ip, rr->ip, sizeof ip) == 0)
            return; /* written twice */
    out->n_rr++;
}

void dns_hosts_find(struct dns_hosts *h, slice name, struct arena *a,
                    struct dns_answer *out)
{
    slice rest, line;

    *out = (struct dns_answer){ .result = DNS_NXDOMAIN, .why = SL("") };
    if (slice_ends(name, SL(".")))
        name.n--;
    out->canonical = slice_dup(a, name);
    out->rr = arena_alloc(a, DNS_MAX_RECORDS * sizeof *out->rr);
    if (out->rr == NULL)
        return;
    refresh(h);
    rest = buf_view(&h->text);
    while (rest.n > 0) {
        (void)slice_cut(&rest, '\n', &line);
        look_at_line(line, name, out);
    }
    if (out->n_rr > 0) {
        out->result = DNS_OK;
        out->ttl = HOSTS_TTL;
    }
}

bool dns_is_native(const char *path)
{
    struct dns_hosts h = { .size = -1 };
    slice rest, whole, line, word;
    bool is_native = true;
    int fd CLEANUP(close_fd) = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    buf_init(&h.text, HOSTS_BYTES);
    if (fd >= 0)
        read_all(&h, fd);
    rest = buf_view(&h.text);
    while (rest.n > 0) {
        (void)slice_cut(&rest, '\n', &whole);
        (void)slice_cut(&whole, '#', &line);
        if (!slice_token(&line, " \t\r", &word) || !slice_eqs(word, "hosts:"))
            continue;
        is_native = false;
        while (slice_token(&line, " \t\r", &word))
            is_native |= slice_eqs(word, "dns") || slice_eqs(word, "resolve");
    }
    buf_done(&h.text);
    return is_native;
}

/* "127.0.0.1 localhost ...": the first word behind the address. */
static bool is_named(slice line, int family, const uint8_t *ip, slice *name)
{
    uint8_t has[16] = { 0 };
    slice where;
    int has_family;

    return slice_token(&line, " \t\r\f\v", &where) &&
           mail_ip_parse(where, &has_family, has) &&
           (has_family == 4) == (family == AF_INET) &&
           memcmp(has, ip, has_family == 4 ? 4 : 16) == 0 &&
           slice_token(&line, " \t\r\f\v", name);
}

bool dns_hosts_name(struct dns_hosts *h, int family, const uint8_t *ip,
                    struct arena *a, slice *name)
{
    slice rest, whole, line, word;

    refresh(h);
    rest = buf_view(&h->text);
    while (rest.n > 0) {
        (void)slice_cut(&rest, '\n', &whole);
        (void)slice_cut(&whole, '#', &line);
        if (is_named(line, family, ip, &word)) {
            *name = slice_dup(a, word);
            return name->p != NULL;
        }
    }
    return false;
}
