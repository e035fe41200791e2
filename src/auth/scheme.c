#include "auth/scheme.h"

#include "auth/auth.h"
#include "base/digest.h"

static int plain_verify(const struct scheme *s UNUSED, slice value,
                        slice password, bool *fits, struct err *err UNUSED)
{
    *fits = const_time_eq(value, password);
    return 0;
}

static int plain_make(const struct scheme *s UNUSED, slice password,
                      struct buf *out, struct err *err)
{
    return buf_slice(out, password) ? 0 : err_perm(err, "password too long");
}

#define PLAIN(n)                                                               \
 {                                                                             \
  n, plain_verify, plain_make, "", 0, false, WRITTEN_RAW                       \
 }
#define CRYPT(n, prefix)                                                       \
 {                                                                             \
  n, scheme_crypt_verify, scheme_crypt_make, prefix, 0, false, WRITTEN_RAW     \
 }
#define DIGEST(n, md, bytes, salted, how)                                      \
 {                                                                             \
  n, scheme_digest_verify, scheme_digest_make, md, bytes, salted, how          \
 }
#define SCRAM(n, md, bytes)                                                    \
 {                                                                             \
  n, scheme_scram_verify, scheme_scram_make, md, bytes, false, WRITTEN_RAW     \
 }

static const struct scheme schemes[] = {
    PLAIN("PLAIN"),
    PLAIN("CLEARTEXT"),
    PLAIN("CLEAR"),
    CRYPT("CRYPT", "$2y$"),
    CRYPT("MD5-CRYPT", "$1$"),
    CRYPT("MD5", "$1$"),
    CRYPT("SHA256-CRYPT", "$5$"),
    CRYPT("SHA512-CRYPT", "$6$"),
    CRYPT("BLF-CRYPT", "$2y$"),
    DIGEST("SHA", "SHA1", 20, false, WRITTEN_BASE64),
    DIGEST("SHA1", "SHA1", 20, false, WRITTEN_BASE64),
    DIGEST("SHA256", "SHA256", 32, false, WRITTEN_BASE64),
    DIGEST("SHA512", "SHA512", 64, false, WRITTEN_BASE64),
    DIGEST("SSHA", "SHA1", 20, true, WRITTEN_BASE64),
    DIGEST("SSHA256", "SHA256", 32, true, WRITTEN_BASE64),
    DIGEST("SSHA512", "SHA512", 64, true, WRITTEN_BASE64),
    DIGEST("SMD5", "MD5", 16, true, WRITTEN_BASE64),
    DIGEST("PLAIN-MD5", "MD5", 16, false, WRITTEN_HEX),
    DIGEST("LDAP-MD5", "MD5", 16, false, WRITTEN_BASE64),
    { "PBKDF2", scheme_pbkdf2_verify, scheme_pbkdf2_make, "SHA1", 20, false,
      WRITTEN_RAW },
    { "ARGON2I", scheme_argon2_verify, scheme_argon2_make, "i", 32, false,
      WRITTEN_RAW },
    { "ARGON2ID", scheme_argon2_verify, scheme_argon2_make, "id", 32, false,
      WRITTEN_RAW },
    SCRAM("SCRAM-SHA-1", "SHA1", 20),
    SCRAM("SCRAM-SHA-256", "SHA256", 32),
};

const struct scheme *scheme_find(slice name)
{
    for (size_t i = 0; i < ARRAY_LEN(schemes); i++)
        if (slice_ieqs(name, schemes[i].name))
            return &schemes[i];
    return NULL;
}

static bool writing_of(slice suffix, enum scheme_writing *out)
{
    if (slice_ieqs(suffix, "hex"))
        *out = WRITTEN_HEX;
    else if (slice_ieqs(suffix, "b64") || slice_ieqs(suffix, "base64"))
        *out = WRITTEN_BASE64;
    else
        return false;
    return true;
}

static bool is_hex(slice s)
{
    for (size_t i = 0; i < s.n; i++)
        if (!ascii_isdigit(s.p[i]) &&
            (ascii_lower(s.p[i]) < 'a' || ascii_lower(s.p[i]) > 'f'))
            return false;
    return true;
}

static bool decode(slice text, enum scheme_writing how, struct arena *a,
                   slice *out)
{
    struct buf b;
    bool ok;

    if (how == WRITTEN_RAW) {
        *out = text;
        return true;
    }
    if (how == WRITTEN_HEX) {
        char *raw = arena_alloc(a, text.n / 2 + 1);

        *out = (slice){ raw, text.n / 2 };
        return raw != NULL && text.n % 2 == 0 && hex_get(text, raw, text.n / 2);
    }
    buf_init(&b, SCHEME_VALUE_MAX);
    ok = base64_get(&b, text);
    *out = slice_dup(a, buf_view(&b));
    buf_done(&b);
    return ok && out->p != NULL;
}

int scheme_of(slice stored, const char *default_scheme, struct arena *a,
              const struct scheme **out, slice *value, struct err *err)
{
    slice rest = stored;
    slice name = slice_str(default_scheme);
    enum scheme_writing how;
    const struct scheme *s;
    bool is_told = false;
    ssize_t dot;

    if (stored.n > SCHEME_VALUE_MAX)
        return err_temp(err, "a stored password of more than %d bytes",
                        SCHEME_VALUE_MAX);
    if (slice_starts(stored, SL("{")) && slice_chr(stored, '}') > 0) {
        rest = slice_from(stored, 1);
        (void)slice_cut(&rest, '}', &name);
    }
    dot = slice_rchr(name, '.');
    if (dot > 0) {
        is_told = writing_of(slice_from(name, (size_t)dot + 1), &how);
        name = slice_sub(name, 0, (size_t)dot);
    }
    s = scheme_find(name);
    if (s == NULL || (dot > 0 && !is_told))
        return err_temp(err, "unknown password scheme {%.*s}",
                        SLF(slice_sub(name, 0, 40)));
    if (!is_told) {
        how = s->writing;
        /* Other programs write digests in hex: that can be told by the
         * length. */
        if (how == WRITTEN_BASE64 && !s->is_salted &&
            rest.n == 2 * s->digest_bytes && is_hex(rest))
            how = WRITTEN_HEX;
    }
    if (!decode(rest, how, a, value))
        return err_temp(err, "a stored {%s} password that cannot be decoded",
                        s->name);
    *out = s;
    return 0;
}

int auth_password_verify(slice stored, const char *default_scheme,
                         slice password, bool *fits, struct err *err)
{
    struct arena *a CLEANUP(arena_free) = arena_new(16384);
    const struct scheme *s = NULL;
    slice value = SLICE_NONE;

    if (scheme_of(stored, default_scheme, a, &s, &value, err) < 0)
        return -1;
    CHECK(s != NULL);
    return s->verify(s, value, password, fits, err);
}

int auth_password_hash(const char *scheme, slice password, struct buf *out,
                       struct err *err)
{
    slice name = slice_str(scheme);
    const struct scheme *s = scheme_find(name);
    enum scheme_writing how;
    ssize_t dot = slice_rchr(name, '.');
    struct buf raw;
    int rc;

    if (dot > 0)
        s = scheme_find(slice_sub(name, 0, (size_t)dot));
    if (s == NULL ||
        (dot > 0 && !writing_of(slice_from(name, (size_t)dot + 1), &how)))
        return err_perm(err, "unknown password scheme %.60s", scheme);
    if (dot <= 0)
        how = s->writing;
    buf_init(&raw, SCHEME_VALUE_MAX);
    rc = s->make(s, password, &raw, err);
    if (rc == 0) {
        (void)buf_printf(out, "{%s}", scheme);
        if (how == WRITTEN_RAW)
            (void)buf_slice(out, buf_view(&raw));
        else if (how == WRITTEN_HEX)
            (void)hex_put(out, buf_view(&raw));
        else
            (void)base64_put(out, buf_view(&raw));
        if (out->overflow)
            rc = err_perm(err, "password too long");
    }
    if (raw.p != NULL)
        explicit_bzero(raw.p, raw.size);
    buf_done(&raw);
    return rc;
}
