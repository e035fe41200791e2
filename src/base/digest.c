#include "base/digest.h"

#include "base/base.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

/* Fetched once: a fetch for every digest costs more than a short digest. */
static const EVP_MD *sha256_method(void)
{
    static EVP_MD *md;

    if (md == NULL)
        md = EVP_MD_fetch(NULL, "SHA256", NULL);
    CHECK(md != NULL);
    return md;
}

void sha256_init(struct sha256 *h)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();

    CHECK(ctx != NULL);
    CHECK(EVP_DigestInit_ex(ctx, sha256_method(), NULL) == 1);
    h->ctx = ctx;
}

void sha256_update(struct sha256 *h, slice s)
{
    CHECK(h->ctx != NULL);
    CHECK(s.n == 0 || EVP_DigestUpdate(h->ctx, s.p, s.n) == 1);
}

void sha256_final(struct sha256 *h, uint8_t out[static 32])
{
    CHECK(h->ctx != NULL);
    CHECK(EVP_DigestFinal_ex(h->ctx, out, NULL) == 1);
    EVP_MD_CTX_free(h->ctx);
    h->ctx = NULL;
}

void sha256_of(slice s, uint8_t out[static 32])
{
    struct sha256 h;

    sha256_init(&h);
    sha256_update(&h, s);
    sha256_final(&h, out);
}

void hmac_sha256(slice key, slice msg, uint8_t out[static 32])
{
    static const char nothing[1];
    unsigned n = 0;

    CHECK(key.n <= INT_MAX);
    CHECK(HMAC(sha256_method(), key.n > 0 ? key.p : nothing, (int)key.n,
               (const unsigned char *)(msg.n > 0 ? msg.p : nothing), msg.n, out,
               &n) != NULL);
    CHECK(n == 32);
}

bool const_time_eq(slice a, slice b)
{
    return a.n == b.n && (a.n == 0 || CRYPTO_memcmp(a.p, b.p, a.n) == 0);
}

bool hex_put(struct buf *b, slice s)
{
    static const char digits[] = "0123456789abcdef";
    size_t want = s.n * 2;
    char *p = s.n <= SIZE_MAX / 2 ? buf_reserve(b, want) : NULL;

    if (p == NULL) {
        b->overflow = true;
        return false;
    }
    for (size_t i = 0; i < s.n; i++) {
        *p++ = digits[(unsigned char)s.p[i] >> 4];
        *p++ = digits[(unsigned char)s.p[i] & 15];
    }
    buf_commit(b, want);
    return true;
}

/* 0 to 15, or 16 for what is no digit. */
static unsigned hex_value(char c)
{
    if (ascii_isdigit(c))
        return (unsigned)(c - '0');
    c = ascii_lower(c);
    return c >= 'a' && c <= 'f' ? (unsigned)(c - 'a' + 10) : 16;
}

bool hex_get(slice s, void *out, size_t n)
{
    unsigned char *p = out;
    unsigned bad = 0;

    if (s.n / 2 != n || s.n % 2 != 0)
        return false;
    for (size_t i = 0; i < s.n; i++)
        bad |= hex_value(s.p[i]);
    if (bad > 15)
        return false;
    for (size_t i = 0; i < n; i++)
        p[i] = (unsigned char)(hex_value(s.p[2 * i]) << 4 |
                               hex_value(s.p[2 * i + 1]));
    return true;
}

/* RFC 4648 table 1 */
static const char base64_digits[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

bool base64_put(struct buf *b, slice s)
{
    size_t want = s.n / 3 * 4 + (s.n % 3 != 0 ? 4 : 0);
    char *p = s.n <= SIZE_MAX / 2 ? buf_reserve(b, want) : NULL;

    if (p == NULL) {
        b->overflow = true;
        return false;
    }
    for (size_t i = 0; i < s.n; i += 3) {
        size_t left = s.n - i;
        uint32_t v = (uint32_t)(unsigned char)s.p[i] << 16;

        if (left > 1)
            v |= (uint32_t)(unsigned char)s.p[i + 1] << 8;
        if (left > 2)
            v |= (unsigned char)s.p[i + 2];
        *p++ = base64_digits[v >> 18];
        *p++ = base64_digits[v >> 12 & 63];
        *p++ = left > 1 ? base64_digits[v >> 6 & 63] : '=';
        *p++ = left > 2 ? base64_digits[v & 63] : '=';
    }
    buf_commit(b, want);
    return true;
}

int base64_digit(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (ascii_isdigit(c))
        return c - '0' + 52;
    if (c == '+')
        return 62;
    return c == '/' ? 63 : -1;
}

/* The `n` digits (2 to 4) of one group; bits beyond its bytes must be zero. */
static bool base64_group(const char *p, size_t n, char out[3])
{
    uint32_t v = 0;

    for (size_t i = 0; i < 4; i++) {
        int digit = i < n ? base64_digit(p[i]) : 0;

        if (digit < 0)
            return false;
        v = v << 6 | (uint32_t)digit;
    }
    if ((n == 2 && (v & 0xffff) != 0) || (n == 3 && (v & 0xff) != 0))
        return false;
    out[0] = (char)(v >> 16);
    out[1] = (char)(v >> 8);
    out[2] = (char)v;
    return true;
}

bool base64_get(struct buf *b, slice s)
{
    size_t before = b->n;
    char bytes[3];

    if (s.n % 4 != 0)
        return false;
    for (size_t i = 0; i < s.n; i += 4) {
        size_t n = 4;

        if (i + 4 == s.n && s.p[i + 3] == '=')
            n = s.p[i + 2] == '=' ? 2 : 3;
        if (!base64_group(s.p + i, n, bytes) || !buf_put(b, bytes, n - 1)) {
            b->n = before;
            return false;
        }
    }
    return true;
}

static const EVP_MD *named(const char *name, size_t n)
{
    const EVP_MD *md = EVP_get_digestbyname(name);

    return md != NULL && (size_t)EVP_MD_get_size(md) == n && n <= DIGEST_MAX
               ? md
               : NULL;
}

bool digest_named(const char *name, slice one, slice two, uint8_t *out,
                  size_t n)
{
    const EVP_MD *md = named(name, n);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool ok;

    CHECK(ctx != NULL);
    ok = md != NULL && EVP_DigestInit_ex(ctx, md, NULL) == 1 &&
         EVP_DigestUpdate(ctx, one.p, one.n) == 1 &&
         EVP_DigestUpdate(ctx, two.p, two.n) == 1 &&
         EVP_DigestFinal_ex(ctx, out, NULL) == 1;
    EVP_MD_CTX_free(ctx);
    return ok;
}

bool digest_hmac(const char *name, slice key, slice msg, uint8_t *out, size_t n)
{
    const EVP_MD *md = named(name, n);

    return md != NULL && key.n < INT_MAX &&
           HMAC(md, key.p, (int)key.n, (const unsigned char *)msg.p, msg.n, out,
                NULL) != NULL;
}

bool digest_pbkdf2(const char *name, slice password, slice salt,
                   unsigned rounds, uint8_t *out, size_t n)
{
    const EVP_MD *md = named(name, n);

    return md != NULL && password.n < INT_MAX && salt.n < INT_MAX &&
           rounds > 0 && rounds < INT_MAX &&
           PKCS5_PBKDF2_HMAC(password.p != NULL ? password.p : "",
                             (int)password.n, (const unsigned char *)salt.p,
                             (int)salt.n, (int)rounds, md, (int)n, out) == 1;
}
