/*
 * Private keys that are in another process.  OpenSSL believes in a provider
 * "hato" whose keys know their public half and how to ask for a signature: the
 * handshake signs with them as with any other key, and its task waits for the
 * answer.
 *
 * Only what a TLS server does with its key is here: one-shot signatures of
 * data that is not hashed yet.  Decryption (the RSA key exchange of TLS 1.2) is
 * not: tls.c leaves those cipher suites out.
 */
#include "rt/tls_priv.h"

#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/params.h>
#include <openssl/provider.h>
#include <openssl/rsa.h>

#define KEY_PARAM "hato-key"

/* TLS's numbers of signature schemes (RFC 8446 4.2.3). */
enum {
    SCHEME_RSA_PKCS1_SHA256 = 0x0401,
    SCHEME_ECDSA_SHA256 = 0x0403,
    SCHEME_RSA_PSS_SHA256 = 0x0804,
    SCHEME_ED25519 = 0x0807,
    SCHEME_ED448 = 0x0808,
};

struct remote_key {
    const char *type;
    EVP_PKEY *public;
    tls_sign_fn *sign; /* NULL: a public key that came to be compared */
    void *sign_arg;
    uint8_t id[32];
};

struct operation {
    const struct remote_key *key;
    int hash; /* 0, 1, 2: SHA-256, -384, -512 */
    bool is_pss;
};

/* ---- keys */

static void *key_new(const char *type)
{
    struct remote_key *k = xcalloc(1, sizeof(*k));

    k->type = type;
    return k;
}

static void *rsa_new(UNUSED void *provider)
{
    return key_new("RSA");
}

static void *ec_new(UNUSED void *provider)
{
    return key_new("EC");
}

static void *ed25519_new(UNUSED void *provider)
{
    return key_new("ED25519");
}

static void *ed448_new(UNUSED void *provider)
{
    return key_new("ED448");
}

static void key_free(void *key)
{
    struct remote_key *k = key;

    if (k == NULL)
        return;
    EVP_PKEY_free(k->public);
    free(k);
}

static int key_has(const void *key, UNUSED int selection)
{
    return ((const struct remote_key *)key)->public != NULL;
}

static int key_match(const void *a, const void *b, UNUSED int selection)
{
    const struct remote_key *x = a;
    const struct remote_key *y = b;

    return EVP_PKEY_eq(x->public, y->public) == 1;
}

static int import_public(struct remote_key *k, const OSSL_PARAM *params)
{
    EVP_PKEY_CTX *c =
        EVP_PKEY_CTX_new_from_name(NULL, k->type, "provider=default");
    OSSL_PARAM *copy = OSSL_PARAM_dup(params);
    int ok;

    ok = c != NULL && copy != NULL && EVP_PKEY_fromdata_init(c) > 0 &&
         EVP_PKEY_fromdata(c, &k->public, EVP_PKEY_PUBLIC_KEY, copy) > 0;
    OSSL_PARAM_free(copy);
    EVP_PKEY_CTX_free(c);
    return ok;
}

/* Of our own kind (tls_remote_key), or a public key of another provider that
 * OpenSSL wants to compare with one of ours. */
static int key_import(void *key, UNUSED int selection,
                      const OSSL_PARAM params[])
{
    struct remote_key *k = key;
    const OSSL_PARAM *p = OSSL_PARAM_locate_const(params, KEY_PARAM);
    const struct remote_key *from;

    if (p == NULL)
        return import_public(k, params);
    CHECK(p->data_size == sizeof(void *));
    memcpy(&from, p->data, sizeof(void *));
    CHECK(strcmp(from->type, k->type) == 0);
    if (!EVP_PKEY_up_ref(from->public))
        return 0;
    *k = *from;
    return 1;
}

static const OSSL_PARAM *key_import_types(UNUSED int selection)
{
    static const OSSL_PARAM types[] = {
        OSSL_PARAM_octet_string(KEY_PARAM, NULL, 0), OSSL_PARAM_END
    };

    return types;
}

static int key_get_params(void *key, OSSL_PARAM params[])
{
    return EVP_PKEY_get_params(((struct remote_key *)key)->public, params);
}

static const OSSL_PARAM *key_gettable_params(UNUSED void *provider)
{
    static const OSSL_PARAM list[] = {
        OSSL_PARAM_int(OSSL_PKEY_PARAM_BITS, NULL),
        OSSL_PARAM_int(OSSL_PKEY_PARAM_SECURITY_BITS, NULL),
        OSSL_PARAM_int(OSSL_PKEY_PARAM_MAX_SIZE, NULL),
        OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_DEFAULT_DIGEST, NULL, 0),
        OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_MANDATORY_DIGEST, NULL, 0),
        OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, NULL, 0),
        OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_EC_POINT_CONVERSION_FORMAT, NULL,
                               0),
        OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_PUB_KEY, NULL, 0),
        OSSL_PARAM_END
    };

    return list;
}

static const char *ec_operation(int operation)
{
    return operation == OSSL_OP_SIGNATURE ? "ECDSA" : NULL;
}

/* OpenSSL's dispatch tables hold every function as void (*)(void). */
#define ENTRY(id, fn)                                                          \
 {                                                                             \
  id, (void (*)(void))(fn)                                                     \
 }
#define KEY_ENTRIES(new)                                                       \
 ENTRY(OSSL_FUNC_KEYMGMT_NEW, new), ENTRY(OSSL_FUNC_KEYMGMT_FREE, key_free),   \
     ENTRY(OSSL_FUNC_KEYMGMT_HAS, key_has),                                    \
     ENTRY(OSSL_FUNC_KEYMGMT_MATCH, key_match),                                \
     ENTRY(OSSL_FUNC_KEYMGMT_IMPORT, key_import),                              \
     ENTRY(OSSL_FUNC_KEYMGMT_IMPORT_TYPES, key_import_types),                  \
     ENTRY(OSSL_FUNC_KEYMGMT_GET_PARAMS, key_get_params),                      \
     ENTRY(OSSL_FUNC_KEYMGMT_GETTABLE_PARAMS, key_gettable_params)

static const OSSL_DISPATCH rsa_keys[] = { KEY_ENTRIES(rsa_new), { 0, NULL } };
static const OSSL_DISPATCH ec_keys[] = {
    KEY_ENTRIES(ec_new),
    ENTRY(OSSL_FUNC_KEYMGMT_QUERY_OPERATION_NAME, ec_operation),
    { 0, NULL }
};
static const OSSL_DISPATCH ed25519_keys[] = { KEY_ENTRIES(ed25519_new),
                                              { 0, NULL } };
static const OSSL_DISPATCH ed448_keys[] = { KEY_ENTRIES(ed448_new),
                                            { 0, NULL } };

/* ---- signatures */

static void *operation_new(UNUSED void *provider, UNUSED const char *query)
{
    return xcalloc(1, sizeof(struct operation));
}

static void operation_free(void *op)
{
    free(op);
}

static int hash_of(const char *name)
{
    static const char *const names[] = { "SHA256",   "SHA384",   "SHA512",
                                         "SHA2-256", "SHA2-384", "SHA2-512" };

    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (strcasecmp(name, names[i]) == 0)
            return (int)(i % 3);
    return -1;
}

static int padding_of(const OSSL_PARAM *p, bool *is_pss)
{
    int mode = 0;

    if (p->data_type == OSSL_PARAM_UTF8_STRING) {
        slice text = slice_of(p->data, p->data_size);

        *is_pss = slice_eqs(text, OSSL_PKEY_RSA_PAD_MODE_PSS);
        return *is_pss || slice_eqs(text, OSSL_PKEY_RSA_PAD_MODE_PKCSV15);
    }
    if (!OSSL_PARAM_get_int(p, &mode))
        return 0;
    *is_pss = mode == RSA_PKCS1_PSS_PADDING;
    return *is_pss || mode == RSA_PKCS1_PADDING;
}

/* The salt's length is always the digest's in TLS. */
static int operation_set(void *op, const OSSL_PARAM params[])
{
    struct operation *o = op;
    const OSSL_PARAM *p =
        params == NULL
            ? NULL
            : OSSL_PARAM_locate_const(params, OSSL_SIGNATURE_PARAM_PAD_MODE);

    return p == NULL || padding_of(p, &o->is_pss);
}

static const OSSL_PARAM *operation_settable(UNUSED void *op,
                                            UNUSED void *provider)
{
    static const OSSL_PARAM list[] = {
        OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_PAD_MODE, NULL, 0),
        OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_PSS_SALTLEN, NULL, 0),
        OSSL_PARAM_END
    };

    return list;
}

static int operation_init(void *op, const char *digest, void *key,
                          const OSSL_PARAM params[])
{
    struct operation *o = op;

    if (key != NULL)
        o->key = key;
    if (o->key == NULL || o->key->sign == NULL)
        return 0;
    if (digest != NULL && digest[0] != '\0') {
        o->hash = hash_of(digest);
        if (o->hash < 0)
            return 0;
    } else if (o->key->type[0] != 'E' || o->key->type[1] != 'D') {
        return 0;
    }
    return operation_set(op, params);
}

static uint16_t scheme_of(const struct operation *o)
{
    int base = SCHEME_RSA_PKCS1_SHA256;

    if (strcmp(o->key->type, "ED25519") == 0)
        return SCHEME_ED25519;
    if (strcmp(o->key->type, "ED448") == 0)
        return SCHEME_ED448;
    if (strcmp(o->key->type, "EC") == 0)
        return (uint16_t)(SCHEME_ECDSA_SHA256 + (o->hash << 8));
    if (o->is_pss)
        return (uint16_t)(SCHEME_RSA_PSS_SHA256 + o->hash);
    return (uint16_t)(base + (o->hash << 8));
}

MAY_WAIT static int operation_sign(void *op, unsigned char *out, size_t *n,
                                   size_t size, const unsigned char *tbs,
                                   size_t n_tbs)
{
    const struct operation *o = op;
    const struct remote_key *k = o->key;
    struct buf b;
    struct err err;
    int ok;

    if (out == NULL) {
        *n = (size_t)EVP_PKEY_get_size(k->public);
        return 1;
    }
    buf_init(&b, size);
    ok = k->sign(k->sign_arg, k->id, scheme_of(o), slice_of(tbs, n_tbs), &b,
                 &err) == 0;
    /* Others have run meanwhile, and may have left errors of theirs. */
    ERR_clear_error();
    if (ok && (b.n == 0 || b.overflow)) {
        ok = 0;
        err_temp(&err, "a signature of %zu bytes", b.n);
    }
    if (ok) {
        memcpy(out, b.p, b.n);
        *n = b.n;
    } else {
        ERR_raise_data(ERR_LIB_USER, 1, "%s", err.log);
    }
    buf_done(&b);
    return ok;
}

static const OSSL_DISPATCH signatures[] = {
    ENTRY(OSSL_FUNC_SIGNATURE_NEWCTX, operation_new),
    ENTRY(OSSL_FUNC_SIGNATURE_FREECTX, operation_free),
    ENTRY(OSSL_FUNC_SIGNATURE_DIGEST_SIGN_INIT, operation_init),
    ENTRY(OSSL_FUNC_SIGNATURE_DIGEST_SIGN, operation_sign),
    ENTRY(OSSL_FUNC_SIGNATURE_SET_CTX_PARAMS, operation_set),
    ENTRY(OSSL_FUNC_SIGNATURE_SETTABLE_CTX_PARAMS, operation_settable),
    { 0, NULL }
};

/* ---- the provider */

#define PROPERTY "provider=hato"

static const OSSL_ALGORITHM key_algorithms[] = {
    { "RSA:rsaEncryption:1.2.840.113549.1.1.1", PROPERTY, rsa_keys, NULL },
    { "EC:id-ecPublicKey:1.2.840.10045.2.1", PROPERTY, ec_keys, NULL },
    { "ED25519:1.3.101.112", PROPERTY, ed25519_keys, NULL },
    { "ED448:1.3.101.113", PROPERTY, ed448_keys, NULL },
    { NULL, NULL, NULL, NULL }
};

static const OSSL_ALGORITHM signature_algorithms[] = {
    { "RSA:rsaEncryption:1.2.840.113549.1.1.1", PROPERTY, signatures, NULL },
    { "ECDSA", PROPERTY, signatures, NULL },
    { "ED25519:1.3.101.112", PROPERTY, signatures, NULL },
    { "ED448:1.3.101.113", PROPERTY, signatures, NULL },
    { NULL, NULL, NULL, NULL }
};

static const OSSL_ALGORITHM *query(UNUSED void *provider, int operation,
                                   int *no_cache)
{
    *no_cache = 0;
    if (operation == OSSL_OP_KEYMGMT)
        return key_algorithms;
    return operation == OSSL_OP_SIGNATURE ? signature_algorithms : NULL;
}

static const OSSL_DISPATCH provider_functions[] = {
    ENTRY(OSSL_FUNC_PROVIDER_QUERY_OPERATION, query), { 0, NULL }
};

static int provider_init(const OSSL_CORE_HANDLE *handle,
                         UNUSED const OSSL_DISPATCH *in,
                         const OSSL_DISPATCH **out, void **provider)
{
    *out = provider_functions;
    memcpy(provider, &handle, sizeof(void *));
    return 1;
}

static OSSL_PROVIDER *usual, *ours; /* for the life of the process */

static void unload(void)
{
    (void)OSSL_PROVIDER_unload(ours);
    (void)OSSL_PROVIDER_unload(usual);
}

void tls_provider_load(void)
{
    if (OSSL_PROVIDER_add_builtin(NULL, "hato", provider_init) != 1 ||
        (usual = OSSL_PROVIDER_load(NULL, "default")) == NULL ||
        (ours = OSSL_PROVIDER_load(NULL, "hato")) == NULL ||
        /* Ours is found by those who ask for it alone. */
        EVP_set_default_properties(NULL, "?provider=default") != 1)
        panic("OpenSSL does not take our provider");
    (void)atexit(unload);
}

EVP_PKEY *tls_remote_key(EVP_PKEY *public, const uint8_t id[static 32],
                         tls_sign_fn *sign, void *arg)
{
    static const char *const types[] = { "RSA", "EC", "ED25519", "ED448" };
    struct remote_key from = { .public = public,
                               .sign = sign,
                               .sign_arg = arg };
    const struct remote_key *ref = &from;
    EVP_PKEY *key = NULL;
    EVP_PKEY_CTX *c;
    OSSL_PARAM params[2];

    for (size_t i = 0; i < ARRAY_LEN(types) && from.type == NULL; i++)
        if (EVP_PKEY_is_a(public, types[i]))
            from.type = types[i];
    if (from.type == NULL)
        return NULL;
    memcpy(from.id, id, sizeof(from.id));
    params[0] = OSSL_PARAM_construct_octet_string(KEY_PARAM, (void *)&ref,
                                                  sizeof(void *));
    params[1] = OSSL_PARAM_construct_end();
    c = EVP_PKEY_CTX_new_from_name(NULL, from.type, PROPERTY);
    if (c == NULL || EVP_PKEY_fromdata_init(c) <= 0 ||
        EVP_PKEY_fromdata(c, &key, EVP_PKEY_KEYPAIR, params) <= 0)
        key = NULL;
    EVP_PKEY_CTX_free(c);
    return key;
}
