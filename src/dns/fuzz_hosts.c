/* Any bytes as /etc/hosts. */
#include "dns/dns_priv.h"

#include <sys/mman.h>
#include <sys/socket.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const uint8_t ip4[16] = { 127, 0, 0, 1 };
    static const uint8_t ip6[16] = { [15] = 1 };
    struct arena *a = arena_new(1u << 20);
    int fd = memfd_create("hosts", MFD_CLOEXEC);
    struct dns_answer out;
    struct dns_hosts *h;
    slice name = SLICE_NONE;
    char path[64];

    CHECK(fd >= 0 && write(fd, data, n) == (ssize_t)n);
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    h = dns_hosts_new(path);
    dns_hosts_find(h, SL("localhost."), a, &out);
    CHECK(out.n_rr <= DNS_MAX_RECORDS);
    CHECK((out.result == DNS_OK) == (out.n_rr > 0));
    for (int i = 0; i < 2; i++) {
        if (!dns_hosts_name(h, i == 0 ? AF_INET : AF_INET6, i == 0 ? ip4 : ip6,
                            a, &name))
            continue;
        /* A name that stands there leads back to its address. */
        dns_hosts_find(h, name, a, &out);
        CHECK(slice_ends(name, SL(".")) || out.result == DNS_OK);
    }
    dns_hosts_free(&h);
    (void)close(fd);
    arena_free(&a);
    return 0;
}
