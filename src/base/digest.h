#ifndef BASE_DIGEST_H
#define BASE_DIGEST_H

/* Digests and encodings.  SHA-256 wraps libcrypto; CRC32C uses the processor's
 * instruction where there is one. */
#include "base/buf.h"
#include "base/slice.h"

/* CRC-32C (Castagnoli, RFC 3720 B.4); start with crc 0, chain by passing the
 * last result. */
uint32_t crc32c(uint32_t crc, const void *p, size_t n);

struct sha256 {
    void *ctx;
};

void sha256_init(struct sha256 *h);
void sha256_update(struct sha256 *h, slice s);
void sha256_final(struct sha256 *h, uint8_t out[static 32]); /* frees ctx */
void sha256_of(slice s, uint8_t out[static 32]);
/* For structures that must be cryptographically unguessable. */
void hmac_sha256(slice key, slice msg, uint8_t out[static 32]);
bool const_time_eq(slice a, slice b);

/* Digests by libcrypto's name ("MD5", "SHA1", "SHA256", "SHA512"), for stored
 * passwords; `n` is the digest's length.  False when there is none of that name
 * or length.  pbkdf2 takes milliseconds (RFC 8018 5.2, with HMAC). */
#define DIGEST_MAX 64
bool digest_named(const char *name, slice one, slice two, uint8_t *out,
                  size_t n);
bool digest_hmac(const char *name, slice key, slice msg, uint8_t *out,
                 size_t n);
bool digest_pbkdf2(const char *name, slice password, slice salt,
                   unsigned rounds, uint8_t *out, size_t n);

bool hex_put(struct buf *b, slice s);       /* lower case */
bool hex_get(slice s, void *out, size_t n); /* exactly 2n digits */
bool base64_put(struct buf *b, slice s);    /* RFC 4648 4, padded, one line */
bool base64_get(struct buf *b, slice s);    /* strict; false on bad input */
int base64_digit(char c);                   /* its value, -1: none */

#endif
