#ifndef AUTH_SCHEME_H
#define AUTH_SCHEME_H

/*
 * How passwords are stored: Dovecot's {SCHEME}value, with {SCHEME.hex} and
 * {SCHEME.b64} for another writing.  Pure, but slow: hashes take milliseconds.
 * What depends on a password is wiped.
 */
#include "base/base.h"

#define SCHEME_VALUE_MAX 1024
#define SCRAM_KEY_MAX    32

enum scheme_writing { WRITTEN_RAW, WRITTEN_HEX, WRITTEN_BASE64 };

struct scheme {
    const char *name;
    /* Does it fit?  `value` is decoded.  -1: the value is broken. */
    int (*verify)(const struct scheme *s, slice value, slice password,
                  bool *fits, struct err *err);
    /* Append a new value, in raw bytes where it is written otherwise. */
    int (*make)(const struct scheme *s, slice password, struct buf *out,
                struct err *err);
    const char *detail; /* name of the digest, or crypt's prefix */
    size_t digest_bytes;
    bool is_salted;
    enum scheme_writing writing;
};

/* Find by "{NAME}" or "{NAME.hex}" in front of `stored`, or by the default;
 * *value is decoded into the arena.  ERR_TEMP when there is none. */
int scheme_of(slice stored, const char *default_scheme, struct arena *a,
              const struct scheme **out, slice *value, struct err *err);
const struct scheme *scheme_find(slice name);

/* ---- crypt.c, digest.c */
int scheme_crypt_verify(const struct scheme *s, slice value, slice password,
                        bool *fits, struct err *err);
int scheme_crypt_make(const struct scheme *s, slice password, struct buf *out,
                      struct err *err);
int scheme_argon2_verify(const struct scheme *s, slice value, slice password,
                         bool *fits, struct err *err);
int scheme_argon2_make(const struct scheme *s, slice password, struct buf *out,
                       struct err *err);
int scheme_digest_verify(const struct scheme *s, slice value, slice password,
                         bool *fits, struct err *err);
int scheme_digest_make(const struct scheme *s, slice password, struct buf *out,
                       struct err *err);
int scheme_pbkdf2_verify(const struct scheme *s, slice value, slice password,
                         bool *fits, struct err *err);
int scheme_pbkdf2_make(const struct scheme *s, slice password, struct buf *out,
                       struct err *err);
int scheme_scram_verify(const struct scheme *s, slice value, slice password,
                        bool *fits, struct err *err);
int scheme_scram_make(const struct scheme *s, slice password, struct buf *out,
                      struct err *err);

/* ---- SCRAM (RFC 5802 3), for its mechanism too */
struct scram {
    unsigned iterations;
    slice salt; /* raw */
    size_t key_bytes;
    uint8_t stored[SCRAM_KEY_MAX];
    uint8_t server[SCRAM_KEY_MAX];
};

/* "4096,salt,stored,server", as stored.  The salt lies in the arena. */
int scram_parse(const struct scheme *s, slice value, struct arena *a,
                struct scram *out, struct err *err);
/* Fill the keys for a password; iterations and salt are given. */
int scram_compute(const struct scheme *s, slice password, struct scram *sc,
                  struct err *err);

#endif
