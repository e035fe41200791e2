#include "access/access_priv.h"

#include "base/codec.h"
#include "base/digest.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/stat.h>

/*
 * What clients have passed of postscreen's tests, in memory that all smtpd
 * share, so that each knows what another one saw.  No locks, as in rate.c:
 *
 *   - an address hashes to one bucket of slots; its slot has the 64 bits of its
 *     hash as the key, set by compare-and-swap;
 *   - each time in a slot carries 32 bits of its address' hash: what a process
 *     writes into a slot that another one takes over just then counts for
 *     nobody, so a race may lose a pass and never gives one away;
 *   - a full bucket gives the slot whose passes end first to who comes.
 *
 * An address that has the hash of another one has its passes.  Who computes
 * 2^48 hashes to find one among 50,000 has spared himself a wait of seconds.
 *
 * On the disk, little endian: magic, version, number of entries; of each the
 * key and the times in seconds; CRC-32C of all before.
 */

#define PASSES_MAGIC   0x7361705f6f746168u
#define PASSES_BUCKET  16
#define PASSES_BUCKETS 4096
#define PASSES_SLOTS   ((size_t)PASSES_BUCKET * PASSES_BUCKETS)

#define FILE_MAGIC   "HATOPASS"
#define FILE_VERSION 1
#define FILE_HEAD    16
#define FILE_ENTRY   (8 + 4 * ACCESS_PASS_N)

struct pass_slot {
    _Atomic uint64_t key; /* 0: free */
    /* seconds of the wall clock, with the key's upper half above; 0: never */
    _Atomic uint64_t until[ACCESS_PASS_N];
};

struct pass_memory {
    uint64_t magic;
    _Atomic uint64_t n_changes;
    struct pass_slot slots[PASSES_SLOTS];
};

struct access_passes {
    struct pass_memory *memory;
};

int access_passes_create(int *fd_out, struct err *err)
{
    uint64_t magic = PASSES_MAGIC;
    int fd CLEANUP(close_fd) = memfd_create("hato-passes", MFD_CLOEXEC);

    if (fd < 0 || ftruncate(fd, (off_t)sizeof(struct pass_memory)) < 0 ||
        pwrite(fd, &magic, sizeof magic, 0) != (ssize_t)sizeof magic)
        return err_sys(err, "memory for passed tests");
    *fd_out = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    return *fd_out < 0 ? err_sys(err, "memory for passed tests") : 0;
}

int access_passes_open(int fd, struct access_passes **out, struct err *err)
{
    struct pass_memory *memory;
    struct access_passes *p;
    struct stat st;

    if (fstat(fd, &st) < 0 || st.st_size != (off_t)sizeof *memory)
        return err_temp(err, "no memory for passed tests");
    memory =
        mmap(NULL, sizeof *memory, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (memory == MAP_FAILED)
        return err_sys(err, "map the memory for passed tests");
    if (memory->magic != PASSES_MAGIC) {
        (void)munmap(memory, sizeof *memory);
        return err_temp(err, "the memory for passed tests is damaged");
    }
    p = xcalloc(1, sizeof *p);
    p->memory = memory;
    *out = p;
    return 0;
}

void access_passes_close(struct access_passes **pp)
{
    struct access_passes *p = *pp;

    if (p == NULL)
        return;
    (void)munmap(p->memory, sizeof *p->memory);
    free(p);
    *pp = NULL;
}

/* ------------------------------------------------------------------ *
 * Slots
 */

static uint64_t key_of(slice addr)
{
    uint8_t digest[32];
    uint64_t key;

    sha256_of(addr, digest);
    memcpy(&key, digest, sizeof key);
    return key != 0 ? key : 1;
}

static uint32_t until_of(const struct pass_slot *s, uint64_t key, int which)
{
    uint64_t v = atomic_load(&s->until[which]);

    return v >> 32 == key >> 32 ? (uint32_t)v : 0;
}

static uint32_t newest_of(const struct pass_slot *s, uint64_t key)
{
    uint32_t newest = 0;

    for (int i = 0; i < ACCESS_PASS_N; i++) {
        uint32_t until = until_of(s, key, i);

        newest = until > newest ? until : newest;
    }
    return newest;
}

static struct pass_slot *bucket_of(struct access_passes *p, uint64_t key)
{
    return &p->memory->slots[key % PASSES_BUCKETS * PASSES_BUCKET];
}

static struct pass_slot *slot_find(struct access_passes *p, uint64_t key)
{
    struct pass_slot *s = bucket_of(p, key);

    for (size_t i = 0; i < PASSES_BUCKET; i++)
        if (atomic_load(&s[i].key) == key)
            return &s[i];
    return NULL;
}

/* From `was` to `key`, without a pass.  False: somebody was faster. */
static bool slot_turn(struct pass_slot *s, uint64_t was, uint64_t key)
{
    for (int i = 0; i < ACCESS_PASS_N; i++)
        atomic_store(&s->until[i], 0);
    return atomic_compare_exchange_strong(&s->key, &was, key);
}

static struct pass_slot *slot_take(struct access_passes *p, uint64_t key)
{
    struct pass_slot *s = bucket_of(p, key);
    struct pass_slot *oldest = NULL;
    uint64_t oldest_key = 0;
    uint32_t least = 0;

    for (size_t i = 0; i < PASSES_BUCKET; i++) {
        uint64_t was = atomic_load(&s[i].key);
        uint32_t newest = was != 0 ? newest_of(&s[i], was) : 0;

        if (was == 0 && slot_turn(&s[i], 0, key))
            return &s[i];
        if (oldest == NULL || newest < least) {
            oldest = &s[i];
            oldest_key = was;
            least = newest;
        }
    }
    return slot_turn(oldest, oldest_key, key) ? oldest : NULL;
}

static void set(struct access_passes *p, uint64_t key, int which,
                uint32_t until)
{
    struct pass_slot *s = slot_find(p, key);

    if (s == NULL)
        s = slot_take(p, key);
    if (s != NULL)
        atomic_store(&s->until[which], key >> 32 << 32 | until);
}

bool access_passes_get(struct access_passes *p, slice addr,
                       struct access_passed *out)
{
    uint64_t key = key_of(addr);
    const struct pass_slot *s = slot_find(p, key);

    *out = (struct access_passed){ 0 };
    for (int i = 0; i < ACCESS_PASS_N && s != NULL; i++)
        out->until_ms[i] = (msec)until_of(s, key, i) * 1000;
    return s != NULL;
}

void access_passes_set(struct access_passes *p, slice addr,
                       enum access_pass which, msec until_ms)
{
    int64_t sec = (until_ms + 999) / 1000;

    set(p, key_of(addr), (int)which,
        sec < 0            ? 0
        : sec > UINT32_MAX ? UINT32_MAX
                           : (uint32_t)sec);
    atomic_fetch_add(&p->memory->n_changes, 1);
}

uint64_t access_passes_changes(const struct access_passes *p)
{
    return atomic_load(&p->memory->n_changes);
}

void access_passes_clean(struct access_passes *p, msec before_ms)
{
    for (size_t i = 0; i < PASSES_SLOTS; i++) {
        struct pass_slot *s = &p->memory->slots[i];
        uint64_t key = atomic_load(&s->key);

        if (key != 0 && (msec)newest_of(s, key) * 1000 < before_ms)
            (void)slot_turn(s, key, 0);
    }
}

/* ------------------------------------------------------------------ *
 * On the disk
 */

size_t access_passes_bytes(void)
{
    return FILE_HEAD + PASSES_SLOTS * FILE_ENTRY + 4;
}

static void put_u32(struct buf *b, uint32_t v)
{
    uint8_t raw[4];

    set_u32(raw, v);
    (void)buf_put(b, raw, sizeof raw);
}

bool access_passes_pack(struct access_passes *p, struct buf *b)
{
    uint32_t n = 0;

    (void)buf_puts(b, FILE_MAGIC);
    put_u32(b, FILE_VERSION);
    put_u32(b, 0);
    for (size_t i = 0; i < PASSES_SLOTS; i++) {
        const struct pass_slot *s = &p->memory->slots[i];
        uint64_t key = atomic_load(&s->key);
        uint8_t raw[8];

        if (key == 0)
            continue;
        set_u64(raw, key);
        (void)buf_put(b, raw, sizeof raw);
        for (int t = 0; t < ACCESS_PASS_N; t++)
            put_u32(b, until_of(s, key, t));
        n++;
    }
    if (b->overflow)
        return false;
    set_u32((uint8_t *)b->p + FILE_HEAD - 4, n);
    put_u32(b, crc32c(0, b->p, b->n));
    return !b->overflow;
}

int access_passes_unpack(struct access_passes *p, slice in, struct err *err)
{
    const uint8_t *at = (const uint8_t *)in.p;
    uint32_t n;

    if (in.n < FILE_HEAD + 4 || !slice_starts(in, SL(FILE_MAGIC)))
        return err_temp(err, "it is no list of passed tests");
    if (get_u32(at + 8) != FILE_VERSION)
        return err_temp(err, "it has the format of another release");
    n = get_u32(at + FILE_HEAD - 4);
    if (n > PASSES_SLOTS || in.n != FILE_HEAD + (size_t)n * FILE_ENTRY + 4 ||
        crc32c(0, in.p, in.n - 4) != get_u32(at + in.n - 4))
        return err_temp(err, "it is damaged");
    for (at += FILE_HEAD; n > 0; n--, at += FILE_ENTRY) {
        uint64_t key = get_u64(at);
        const struct pass_slot *s = slot_find(p, key);

        for (int t = 0; key != 0 && t < ACCESS_PASS_N; t++) {
            uint32_t until = get_u32(at + 8 + 4 * (size_t)t);

            /* What was passed since is newer. */
            if (until > (s != NULL ? until_of(s, key, t) : 0))
                set(p, key, t, until);
        }
    }
    return 0;
}
