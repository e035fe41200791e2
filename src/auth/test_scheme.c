#include "auth/scheme.h"

#include "auth/auth.h"
#include "base/test_util.h"

/* Passwords as others store them. */

static const char password[] = "seCr t{}: \xc3\xa9";

/* Each made by `doveadm pw` of Debian's Dovecot 2.3. */
static const char *const dovecot[] = {
    "{CRYPT}$2y$05$kf/kNzkEpKS8oj9z02OH4uGhzsF/gxqxSEaYDZi6cnv1Pd0Qomw.G",
    "{MD5-CRYPT}$1$OS7u6qps$W53IaC.QEqqk7zrgIhgmw.",
    "{SHA256-CRYPT}$5$G7tMe1i8ib55bGqT$1ZsHhKh5hcfXwsA7q2VYRwjQQCSth6bM6TxKVmzxuh9",
    "{SHA512-CRYPT}$6$qsd1ljhjIxw7Dcv8$JFBmy5HyeaVuGU6MqoFzHe8rZ3pnDNlC3Vi.F6z9Vr/05lKzd3CbJD1AoJJlErtNJnVoUw7sEf71zwVtDwJ0i0",
    "{BLF-CRYPT}$2y$05$xc1hVf8ftYney21Q/tnB8OVOpbhinDbIp5BCncOiBq.2..eix5yGm",
    "{SHA}de9wYaAJ3K49iFmbgZGFBNe/TR0=",
    "{SHA1}de9wYaAJ3K49iFmbgZGFBNe/TR0=",
    "{SHA256}hUfhpAOaomrv3iy9XbQrYfGjocHyOTjgN9WnvwEmTjw=",
    "{SHA512}7K3tIit/6XUGRdFXvYwqhoRFVwwE/J3oHhN50lcXMpS9oeOO6batUzCw65z2AWAT2KSvqpD39zjFqBZlsVT0Xg==",
    "{SSHA}/gcn9l+Z2pMcct1qe7rBEtEiBpPGRyrO",
    "{SSHA256}xXmElaEjWRiNOAt+znK5TW1YzC76+BHUNt2EFkwMCb/eyHvf",
    "{SSHA512}Rax61li6eXfieY5Mk+cy7/x/xuO8ZF6XJ4rFbP7+vYmj5gc6Cqk8b/pfyFrkXGXuPgJ1/oJgGGXoP1zLdTW6QnC73Kc=",
    "{SMD5}K/oi7wjo1FoHQeZAr3aXLusJu1A=",
    "{PLAIN}seCr t{}: é",
    "{PLAIN-MD5}97812e549aac8876574511e1c6c8f324",
    "{LDAP-MD5}l4EuVJqsiHZXRRHhxsjzJA==",
    "{PBKDF2}$1$6jzLh8OdVrBSzycB$5000$d7a46e53bb072dfa202e657204b2e8840bb81627",
    "{ARGON2I}$argon2i$v=19$m=32768,t=4,p=1$9Z9oQsVP03FKEVPEauRDMQ$jeaHhRxy1IW2KS/Nx7TYwAksvt4G1yhlDAksGuuMOlo",
    "{ARGON2ID}$argon2id$v=19$m=65536,t=3,p=1$/yTa4wK/21f2G2CSl0uB9g$XrT69tdTZXnX/wXHKT/61pV4aLf3HTIPlQ7GQ1fi2L0",
    "{SCRAM-SHA-1}4096,8iy+GtTUB2czKepecdCsPQ==,UUdYOreYW2qYfah2mmzhnCTppNo=,qZPG84rMpXBA0XKQW53YLqIdqnE=",
    "{SCRAM-SHA-256}4096,lr/P6lRk/T8TOX24D+zC6Q==,33nY7vCuLehzpGtNdzjBWaa+UMn9wMLaEEcGiDop/Q8=,/1ExDfYtQRPVUTZysiJjM5RoxkK2RfW5422CtvwQ1JM=",
    "{SHA256.HEX}8547e1a4039aa26aefde2cbd5db42b61f1a3a1c1f23938e037d5a7bf01264e3c",
    "{SSHA512.HEX}41689eb7909605dc580029e3275377193c85d0189819ab96955901bd55722a5ed4a63cb3e62fa4543d75262d8ddb85dfc1b372a5d3c32c03ba24f8922a8ef73cbfb06200",
    "{SMD5.B64}mfjkp93vOYv6aTDQZdzAIusPsvE=",
    "{CLEARTEXT}seCr t{}: é",
    "{MD5}$1$yw2C03YU$CuQOyxjl.2sLKcuzQztpI/",
    "{PLAIN.B64}c2VDciB0e306IMOp",
    "{SHA1.HEX}75ef7061a009dcae3d88599b81918504d7bf4d1d",
};

static bool fits(const char *stored, const char *with)
{
    bool out = false;
    struct err err;

    if (auth_password_verify(slice_str(stored), "CRYPT", slice_str(with), &out,
                             &err) < 0)
        fail_msg("%s: %s", stored, err.log);
    return out;
}

static void test_dovecot(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(dovecot); i++) {
        if (!fits(dovecot[i], password))
            fail_msg("%s does not fit", dovecot[i]);
        if (fits(dovecot[i], "seCr t{}: e") || fits(dovecot[i], ""))
            fail_msg("%s fits another password", dovecot[i]);
    }
}

static void test_make(void **state)
{
    static const char *const names[] = {
        "PLAIN",        "CLEARTEXT",     "CRYPT",      "MD5-CRYPT",
        "SHA256-CRYPT", "SHA512-CRYPT",  "BLF-CRYPT",  "SHA",
        "SHA1",         "SHA256",        "SHA512",     "SSHA",
        "SSHA256",      "SSHA512",       "SMD5",       "PLAIN-MD5",
        "LDAP-MD5",     "PBKDF2",        "ARGON2I",    "ARGON2ID",
        "SCRAM-SHA-1",  "SCRAM-SHA-256", "SHA256.hex", "SSHA512.b64",
    };
    struct buf b;

    (void)state;
    buf_init(&b, 4096);
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct err err;

        buf_clear(&b);
        if (auth_password_hash(names[i], slice_str(password), &b, &err) < 0)
            fail_msg("%s: %s", names[i], err.log);
        if (!fits(buf_cstr(&b), password) || fits(buf_cstr(&b), "other"))
            fail_msg("%s: %s", names[i], buf_cstr(&b));
    }
    assert_int_equal(auth_password_hash("ROT13", SL("x"), &b, NULL), -1);
    assert_int_equal(auth_password_hash("SHA.rot", SL("x"), &b, NULL), -1);
    buf_done(&b);
}

/* Accounts without a password fit nothing; damage is trouble, not "wrong". */
static void test_odd(void **state)
{
    static const char *const locked[] = {
        "*", "!", "x", "{CRYPT}*", "{CRYPT}!$6$abc$def", "{CRYPT}"
    };
    static const char *const broken[] = {
        "{ROT13}x",
        "{SHA}",
        "{SHA}AAAA",
        "{SSHA}AAAA",
        "{PLAIN-MD5}zz",
        "{SHA.rot}x",
        "{PBKDF2}$2$a$1$",
        "{PBKDF2}$1$a$99999999999$00",
        "{SCRAM-SHA-256}4096,,a,b",
        "{SCRAM-SHA-256}x",
        "{ARGON2ID}$argon2id$v=19$m=1",
        "{PLAIN.hex}abc",
    };
    bool out;
    char *big;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(locked); i++)
        if (fits(locked[i], "") || fits(locked[i], "x") ||
            fits(locked[i], locked[i]))
            fail_msg("%s fits", locked[i]);
    for (size_t i = 0; i < ARRAY_LEN(broken); i++)
        if (auth_password_verify(slice_str(broken[i]), "CRYPT", SL("x"), &out,
                                 NULL) == 0)
            fail_msg("%s is not noticed", broken[i]);
    assert_false(fits("{SHA512-CRYPT}$6$gaqQJZTKYv0qBLzj$qBXT", password));
    /* without a scheme, the default's */
    assert_int_equal(auth_password_verify(SL("secret"), "PLAIN", SL("secret"),
                                          &out, NULL),
                     0);
    assert_true(out);
    big = xmalloc(100000);
    memset(big, 'a', 100000);
    assert_int_equal(auth_password_verify((slice){ big, 100000 }, "PLAIN",
                                          SL("x"), &out, NULL),
                     -1);
    /* a password of any length, and with NUL */
    assert_int_equal(auth_password_verify(slice_str(dovecot[3]), "CRYPT",
                                          (slice){ big, 100000 }, &out, NULL),
                     0);
    assert_false(out);
    assert_int_equal(auth_password_verify(SL("{CRYPT}$1$abc$"
                                             "WBAYpS3dYEe2jYg9SYsVY/"),
                                          "CRYPT", SL("a\0b"), &out, NULL),
                     0);
    assert_false(out);
    free(big);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dovecot),
        cmocka_unit_test(test_make),
        cmocka_unit_test(test_odd),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
