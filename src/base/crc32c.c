#include "base/codec.h"
#include "base/digest.h"

#include "base/base.h"
#include "base/base_priv.h"

#include <pthread.h>
#if defined(__aarch64__)
# include <sys/auxv.h>
# ifndef HWCAP_CRC32
#  define HWCAP_CRC32 (1ul << 7)
# endif
#endif

/* The polynomial of RFC 3720 B.4, bits reversed. */
#define CRC32C_POLY UINT32_C(0x82f63b78)

/* Eight tables, so that a step takes eight bytes. */
static uint32_t tables[8][256];
static pthread_once_t tables_once = PTHREAD_ONCE_INIT;

static void make_tables(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;

        for (int bit = 0; bit < 8; bit++)
            c = (c & 1) != 0 ? c >> 1 ^ CRC32C_POLY : c >> 1;
        tables[0][i] = c;
    }
    for (size_t t = 1; t < 8; t++) {
        for (size_t i = 0; i < 256; i++) {
            uint32_t c = tables[t - 1][i];

            tables[t][i] = c >> 8 ^ tables[0][c & 0xff];
        }
    }
}

static uint32_t crc_by_table(uint32_t crc, const unsigned char *p, size_t n)
{
    pthread_once(&tables_once, make_tables);
    for (; n >= 8; n -= 8, p += 8) {
        uint32_t a = get_u32(p) ^ crc;

        crc = tables[7][a & 0xff] ^ tables[6][a >> 8 & 0xff] ^
              tables[5][a >> 16 & 0xff] ^ tables[4][a >> 24] ^ tables[3][p[4]] ^
              tables[2][p[5]] ^ tables[1][p[6]] ^ tables[0][p[7]];
    }
    for (; n > 0; n--, p++)
        crc = crc >> 8 ^ tables[0][(crc ^ *p) & 0xff];
    return crc;
}

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
/* One load where get_u64() of another file would be a call and eight: bodies
 * of messages go through here. */
static inline uint64_t load_u64(const unsigned char *p)
{
    uint64_t v;

    memcpy(&v, p, sizeof(v));
    return v;
}
#else
# define load_u64 get_u64
#endif

#if defined(__x86_64__)
static bool has_instruction(void)
{
    return __builtin_cpu_supports("sse4.2") != 0;
}

__attribute__((target("sse4.2"))) static uint32_t crc_by_instruction(
    uint32_t crc, const unsigned char *p, size_t n)
{
    uint64_t c = crc;

    for (; n >= 8; n -= 8, p += 8)
        c = __builtin_ia32_crc32di(c, load_u64(p));
    crc = (uint32_t)c;
    for (; n > 0; n--, p++)
        crc = __builtin_ia32_crc32qi(crc, *p);
    return crc;
}
#elif defined(__aarch64__)
static bool has_instruction(void)
{
    return (getauxval(AT_HWCAP) & HWCAP_CRC32) != 0;
}

static uint32_t crc_by_instruction(uint32_t crc, const unsigned char *p,
                                   size_t n)
{
    for (; n >= 8; n -= 8, p += 8) {
        uint64_t v = load_u64(p);

        __asm__(".arch_extension crc\n\tcrc32cx %w0, %w0, %x1"
                : "+r"(crc)
                : "r"(v));
    }
    for (; n > 0; n--, p++) {
        uint32_t v = *p;

        __asm__(".arch_extension crc\n\tcrc32cb %w0, %w0, %w1"
                : "+r"(crc)
                : "r"(v));
    }
    return crc;
}
#else
static bool has_instruction(void)
{
    return false;
}

static uint32_t crc_by_instruction(uint32_t crc, const unsigned char *p,
                                   size_t n)
{
    return crc_by_table(crc, p, n);
}
#endif

uint32_t crc32c(uint32_t crc, const void *p, size_t n)
{
    if (has_instruction())
        return ~crc_by_instruction(~crc, p, n);
    return ~crc_by_table(~crc, p, n);
}

uint32_t crc32c_by_table(uint32_t crc, const void *p, size_t n)
{
    return ~crc_by_table(~crc, p, n);
}
