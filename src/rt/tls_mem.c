/*
 * Memory of OpenSSL.  A TLS session has some 13 KiB as long as it lives, and
 * for moments, while a record is read or written or a handshake goes on,
 * buffers of 16 to 24 KiB.  From one heap, the small pieces of a thousand
 * sessions that began together would lie between the buffers of their
 * handshakes and hold those pages for good; so the large ones have a place of
 * their own, which gives back what is not used.
 */
#include "rt/rt_priv.h"

#include <openssl/crypto.h>

#include <sys/mman.h>

#if defined(__SANITIZE_ADDRESS__)
# define RT_ASAN
#elif defined(__has_feature)
# if __has_feature(address_sanitizer)
#  define RT_ASAN
# endif
#endif

enum {
    SLOT_BYTES = 24576, /* whole pages; OpenSSL's largest usual buffer: 21848 */
    LARGE_MIN = 8192,
    N_SLOTS = 8192, /* 192 MiB of addresses; what does not fit: the heap */
    N_KEPT = 64,    /* idle ones that keep their pages */
};

static char *area;             /* NULL: not made yet, or cannot be */
static uint16_t idle[N_SLOTS]; /* a stack of slots */
static unsigned n_idle, n_made;

static bool is_slot(const void *p)
{
    uintptr_t at = (uintptr_t)p;
    uintptr_t from = (uintptr_t)area;

    return area != NULL && at >= from &&
           at < from + (size_t)N_SLOTS * SLOT_BYTES;
}

static void *slot_get(void)
{
    unsigned slot;

    if (area == NULL) {
        void *p =
            mmap(NULL, (size_t)N_SLOTS * SLOT_BYTES, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

        if (p == MAP_FAILED)
            return NULL;
        (void)madvise(p, (size_t)N_SLOTS * SLOT_BYTES, MADV_NOHUGEPAGE);
        area = p;
    }
    if (n_idle > 0)
        slot = idle[--n_idle];
    else if (n_made < N_SLOTS)
        slot = n_made++;
    else
        return NULL;
    return area + (size_t)slot * SLOT_BYTES;
}

static void slot_put(void *p)
{
    size_t slot = (size_t)((char *)p - area) / SLOT_BYTES;

    if (n_idle >= N_KEPT)
        (void)madvise(p, SLOT_BYTES, MADV_DONTNEED);
    idle[n_idle++] = (uint16_t)slot;
}

static void *get(size_t n, UNUSED const char *file, UNUSED int line)
{
    void *p = NULL;

    if (n > LARGE_MIN && n <= SLOT_BYTES)
        p = slot_get();
    return p != NULL || n == 0 ? p : xmalloc(n);
}

static void put(void *p, UNUSED const char *file, UNUSED int line)
{
    if (is_slot(p))
        slot_put(p);
    else
        free(p);
}

static void *change(void *old, size_t n, const char *file, int line)
{
    void *p;

    if (old == NULL)
        return get(n, file, line);
    if (n == 0) {
        put(old, file, line);
        return NULL;
    }
    if (!is_slot(old))
        return xrealloc(old, n);
    if (n <= SLOT_BYTES)
        return old;
    p = xmalloc(n);
    memcpy(p, old, SLOT_BYTES);
    slot_put(old);
    return p;
}

/* Refused, without harm, when OpenSSL has memory already.  ASan shall see each
 * buffer. */
void tls_memory_setup(void)
{
#ifndef RT_ASAN
    (void)CRYPTO_set_mem_functions(get, change, put);
#else
    (void)change;
#endif
}
