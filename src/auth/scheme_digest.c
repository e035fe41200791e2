/* Digests of libcrypto: plain and salted, PBKDF2, SCRAM's keys. */
#include "auth/scheme.h"

#include "base/digest.h"

#define SALT_BYTES        16
#define SMALL_SALT_BYTES  4 /* of the salted digests, as Dovecot makes them */
#define PBKDF2_ROUNDS     5000
#define ROUNDS_MAX        10000000
#define SCRAM_ITERATIONS  4096
#define PBKDF2_SALT_CHARS 16

static int no_digest(const struct scheme *s, struct err *err)
{
    return err_temp(err, "{%s}: libcrypto refuses %s", s->name, s->detail);
}

int scheme_digest_verify(const struct scheme *s, slice value, slice password,
                         bool *fits, struct err *err)
{
    uint8_t got[DIGEST_MAX];
    slice salt = slice_from(value, s->digest_bytes);

    if (value.n < s->digest_bytes || (salt.n > 0) != s->is_salted)
        return err_temp(err, "a stored {%s} password of a wrong length",
                        s->name);
    if (!digest_named(s->detail, password, salt, got, s->digest_bytes))
        return no_digest(s, err);
    *fits = const_time_eq(slice_of(got, s->digest_bytes),
                          slice_sub(value, 0, s->digest_bytes));
    explicit_bzero(got, sizeof got);
    return 0;
}

int scheme_digest_make(const struct scheme *s, slice password, struct buf *out,
                       struct err *err)
{
    uint8_t got[DIGEST_MAX];
    uint8_t random[SMALL_SALT_BYTES];
    slice salt = SLICE_NONE;

    if (s->is_salted) {
        random_bytes(random, sizeof random);
        salt = slice_of(random, sizeof random);
    }
    if (!digest_named(s->detail, password, salt, got, s->digest_bytes))
        return no_digest(s, err);
    (void)buf_put(out, got, s->digest_bytes);
    (void)buf_slice(out, salt);
    return 0;
}

static bool pbkdf2(const struct scheme *s, slice password, slice salt,
                   unsigned rounds, uint8_t *out)
{
    return digest_pbkdf2(s->detail, password, salt, rounds, out,
                         s->digest_bytes);
}

/* ---- {PBKDF2}$1$salt$rounds$hex */

int scheme_pbkdf2_verify(const struct scheme *s, slice value, slice password,
                         bool *fits, struct err *err)
{
    uint8_t want[DIGEST_MAX], got[DIGEST_MAX];
    slice rest = value;
    slice empty, version, salt, rounds;
    uint64_t n;

    if (!slice_cut(&rest, '$', &empty) || !slice_cut(&rest, '$', &version) ||
        !slice_cut(&rest, '$', &salt) || !slice_cut(&rest, '$', &rounds) ||
        empty.n != 0 || !slice_eqs(version, "1") || !slice_u64(rounds, &n) ||
        n == 0 || n > ROUNDS_MAX || !hex_get(rest, want, s->digest_bytes))
        return err_temp(err, "a stored {%s} password that is damaged", s->name);
    if (!pbkdf2(s, password, salt, (unsigned)n, got))
        return no_digest(s, err);
    *fits = const_time_eq(slice_of(got, s->digest_bytes),
                          slice_of(want, s->digest_bytes));
    explicit_bzero(got, sizeof got);
    return 0;
}

int scheme_pbkdf2_make(const struct scheme *s, slice password, struct buf *out,
                       struct err *err)
{
    static const char letters[] = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                  "abcdefghijklmnopqrstuvwxyz";
    uint8_t got[DIGEST_MAX];
    char salt[PBKDF2_SALT_CHARS];

    random_bytes(salt, sizeof salt);
    for (size_t i = 0; i < sizeof salt; i++)
        salt[i] = letters[salt[i] & 63];
    if (!pbkdf2(s, password, slice_of(salt, sizeof salt), PBKDF2_ROUNDS, got))
        return no_digest(s, err);
    (void)buf_printf(out, "$1$%.*s$%d$", (int)sizeof salt, salt, PBKDF2_ROUNDS);
    (void)hex_put(out, slice_of(got, s->digest_bytes));
    return 0;
}

/* ---- SCRAM */

static bool take_base64(slice text, void *out, size_t n)
{
    struct buf b;
    bool ok;

    buf_init(&b, SCHEME_VALUE_MAX);
    ok = base64_get(&b, text) && b.n == n;
    if (ok)
        memcpy(out, b.p, n);
    buf_done(&b);
    return ok;
}

int scram_parse(const struct scheme *s, slice value, struct arena *a,
                struct scram *out, struct err *err)
{
    struct scram sc = { .key_bytes = s->digest_bytes };
    slice rest = value;
    slice count, salt, stored;
    uint64_t n;
    struct buf b;
    bool ok;

    buf_init(&b, SCHEME_VALUE_MAX);
    ok = slice_cut(&rest, ',', &count) && slice_cut(&rest, ',', &salt) &&
         slice_cut(&rest, ',', &stored) && slice_u64(count, &n) && n > 0 &&
         n <= ROUNDS_MAX && base64_get(&b, salt) && b.n > 0 &&
         take_base64(stored, sc.stored, sc.key_bytes) &&
         take_base64(rest, sc.server, sc.key_bytes);
    if (ok) {
        sc.iterations = (unsigned)n;
        sc.salt = slice_dup(a, buf_view(&b));
        ok = sc.salt.p != NULL;
    }
    buf_done(&b);
    if (!ok)
        return err_temp(err, "a stored {%s} password that is damaged", s->name);
    *out = sc;
    return 0;
}

static bool hmac(const struct scheme *s, const uint8_t *key, const char *text,
                 uint8_t *out)
{
    return digest_hmac(s->detail, slice_of(key, s->digest_bytes),
                       slice_str(text), out, s->digest_bytes);
}

int scram_compute(const struct scheme *s, slice password, struct scram *sc,
                  struct err *err)
{
    uint8_t salted[DIGEST_MAX], client[DIGEST_MAX];
    uint8_t stored[DIGEST_MAX];
    bool ok = pbkdf2(s, password, sc->salt, sc->iterations, salted) &&
              hmac(s, salted, "Client Key", client) &&
              digest_named(s->detail, slice_of(client, s->digest_bytes),
                           SLICE_NONE, stored, s->digest_bytes) &&
              hmac(s, salted, "Server Key", sc->server);

    sc->key_bytes = s->digest_bytes;
    memcpy(sc->stored, stored, s->digest_bytes);
    explicit_bzero(salted, sizeof salted);
    explicit_bzero(client, sizeof client);
    return ok ? 0 : no_digest(s, err);
}

int scheme_scram_verify(const struct scheme *s, slice value, slice password,
                        bool *fits, struct err *err)
{
    struct arena *a CLEANUP(arena_free) = arena_new(8192);
    struct scram want = { 0 };
    struct scram got;

    if (scram_parse(s, value, a, &want, err) < 0)
        return -1;
    got = want;
    if (scram_compute(s, password, &got, err) < 0)
        return -1;
    *fits = const_time_eq(slice_of(got.stored, got.key_bytes),
                          slice_of(want.stored, want.key_bytes));
    return 0;
}

int scheme_scram_make(const struct scheme *s, slice password, struct buf *out,
                      struct err *err)
{
    uint8_t salt[SALT_BYTES] = { 0 };
    struct scram sc = { .iterations = SCRAM_ITERATIONS,
                        .salt = slice_of(salt, sizeof salt) };

    random_bytes(salt, sizeof salt);
    if (scram_compute(s, password, &sc, err) < 0)
        return -1;
    (void)buf_printf(out, "%u,", sc.iterations);
    (void)base64_put(out, sc.salt);
    (void)buf_byte(out, ',');
    (void)base64_put(out, slice_of(sc.stored, sc.key_bytes));
    (void)buf_byte(out, ',');
    (void)base64_put(out, slice_of(sc.server, sc.key_bytes));
    return 0;
}
