/* Hashes of libxcrypt (crypt(5)) and Argon2. */
#include "auth/scheme.h"

#include "base/digest.h"

#include <argon2.h>
#include <crypt.h>

/* crypt_rn() wants C strings; a password with NUL inside fits nothing. */
static char *cstr_of(slice s)
{
    char *text;

    if (s.n > CRYPT_MAX_PASSPHRASE_SIZE || memchr(s.p, 0, s.n) != NULL)
        return NULL;
    text = xmalloc(s.n + 1);
    if (s.n > 0)
        memcpy(text, s.p, s.n);
    text[s.n] = '\0';
    return text;
}

static void wipe_cstr(char **text)
{
    if (*text != NULL)
        explicit_bzero(*text, strlen(*text));
    free(*text);
    *text = NULL;
}

/* Not crypt_r(): ASan has one of its own and loses libcrypt's. */
static bool hash_with(const char *password, const char *setting,
                      char out[static CRYPT_OUTPUT_SIZE])
{
    struct crypt_data *data = xcalloc(1, sizeof *data);
    const char *got = crypt_rn(password, setting, data, (int)sizeof *data);
    bool ok = got != NULL && got[0] != '*' &&
              slice_copy_to(slice_str(got), out, CRYPT_OUTPUT_SIZE);

    explicit_bzero(data, sizeof *data);
    free(data);
    return ok;
}

int scheme_crypt_verify(const struct scheme *s UNUSED, slice value,
                        slice password, bool *fits, struct err *err UNUSED)
{
    char *text CLEANUP(wipe_cstr) = cstr_of(password);
    char setting[CRYPT_OUTPUT_SIZE], got[CRYPT_OUTPUT_SIZE];

    /* "*" and "!" stand for accounts without a password: nothing fits. */
    *fits = text != NULL && value.n > 0 &&
            slice_copy_to(value, setting, sizeof setting) &&
            hash_with(text, setting, got) &&
            const_time_eq(slice_str(got), value);
    return 0;
}

int scheme_crypt_make(const struct scheme *s, slice password, struct buf *out,
                      struct err *err)
{
    char *text CLEANUP(wipe_cstr) = cstr_of(password);
    char setting[CRYPT_GENSALT_OUTPUT_SIZE], got[CRYPT_OUTPUT_SIZE];
    char random[32];

    if (text == NULL)
        return err_perm(err, "a password of more than %d bytes or with NUL",
                        CRYPT_MAX_PASSPHRASE_SIZE);
    random_bytes(random, sizeof random);
    if (crypt_gensalt_rn(s->detail, 0, random, (int)sizeof random, setting,
                         (int)sizeof setting) == NULL ||
        !hash_with(text, setting, got))
        return err_perm(err, "this system's libcrypt has no %s", s->name);
    (void)buf_puts(out, got);
    return 0;
}

/* ---- Argon2, in its own text form "$argon2id$v=19$m=..,t=..,p=..$salt$hash"
 */

#define ARGON2_MEMORY_KIB 65536
#define ARGON2_PASSES     3
#define ARGON2_SALT_BYTES 16

static argon2_type type_of(const struct scheme *s)
{
    return strcmp(s->detail, "id") == 0 ? Argon2_id : Argon2_i;
}

int scheme_argon2_verify(const struct scheme *s, slice value, slice password,
                         bool *fits, struct err *err)
{
    char text[SCHEME_VALUE_MAX + 1];
    int rc;

    if (!slice_copy_to(value, text, sizeof text))
        return err_temp(err, "a stored {%s} password that is damaged", s->name);
    rc = argon2_verify(text, password.p != NULL ? password.p : "", password.n,
                       type_of(s));
    if (rc != ARGON2_OK && rc != ARGON2_VERIFY_MISMATCH)
        return err_temp(err, "{%s}: %s", s->name, argon2_error_message(rc));
    *fits = rc == ARGON2_OK;
    return 0;
}

int scheme_argon2_make(const struct scheme *s, slice password, struct buf *out,
                       struct err *err)
{
    uint8_t salt[ARGON2_SALT_BYTES];
    char text[256];
    int rc;

    random_bytes(salt, sizeof salt);
    rc = type_of(s) == Argon2_id
             ? argon2id_hash_encoded(ARGON2_PASSES, ARGON2_MEMORY_KIB, 1,
                                     password.p != NULL ? password.p : "",
                                     password.n, salt, sizeof salt,
                                     s->digest_bytes, text, sizeof text)
             : argon2i_hash_encoded(ARGON2_PASSES, ARGON2_MEMORY_KIB, 1,
                                    password.p != NULL ? password.p : "",
                                    password.n, salt, sizeof salt,
                                    s->digest_bytes, text, sizeof text);
    if (rc != ARGON2_OK)
        return err_temp(err, "{%s}: %s", s->name, argon2_error_message(rc));
    (void)buf_puts(out, text);
    return 0;
}
