#include "keys/keys_priv.h"

#include "base/test_util.h"

/* Parameters as settings of TLS: which files, which versions, which ciphers.
 *
 * covers: smtpd_tls_ciphers smtpd_tls_mandatory_ciphers
 * covers: smtpd_tls_exclude_ciphers smtpd_tls_mandatory_exclude_ciphers
 * covers: smtpd_tls_eecdh_grade tls_eecdh_auto_curves tls_eecdh_strong_curve
 * covers: tls_eecdh_ultra_curve tls_export_cipherlist tls_high_cipherlist
 * covers: tls_low_cipherlist tls_medium_cipherlist tls_null_cipherlist
 * covers: tls_preempt_cipherlist ssl ssl_cert ssl_key
 */

#define MASTER                                                                 \
 "25 inet n - n - - smtpd\n"                                                   \
 "465 inet n - n - - smtpd -o smtpd_tls_wrappermode=yes\n"                     \
 "143 inet n - n - - imapd\n"                                                  \
 "995 inet n - n - - pop3d -o smtpd_tls_wrappermode=yes\n"

static struct conf *conf;
static struct arena *arena;

static void load(const char *main_cf)
{
    if (conf != NULL)
        conf_unref(&conf);
    if (arena != NULL)
        arena_free(&arena);
    conf = conf_from_text(slice_str(main_cf), SL(MASTER), NULL);
    arena = arena_new(1u << 20);
}

static int done(void **state UNUSED)
{
    conf_unref(&conf);
    arena_free(&arena);
    return 0;
}

enum { SMTP, SMTPS, IMAP, POP3S };

static struct tls_settings settings(const char *main_cf, size_t service)
{
    struct tls_settings set = { 0 };
    struct err err;

    load(main_cf);
    if (keys_settings(conf, conf_service_at(conf, service), arena, &set, &err) <
        0)
        fail_msg("%s", err.log);
    return set;
}

static void refused(const char *main_cf, const char *why)
{
    struct tls_settings set = { 0 };
    struct err err;

    load(main_cf);
    assert_int_equal(keys_settings(conf, conf_service_at(conf, SMTP), arena,
                                   &set, &err),
                     -1);
    if (strstr(err.log, why) == NULL)
        fail_msg("%s", err.log);
}

static void test_versions(void **state UNUSED)
{
    static const struct {
        const char *list;
        int min, max;
    } cases[] = {
        { ">=TLSv1", 0x0303, 0x0304 },
        { "", 0x0303, 0x0304 },
        { "!SSLv2, !SSLv3, !TLSv1, !TLSv1.1", 0x0303, 0x0304 },
        { ">=TLSv1.3", 0x0304, 0x0304 },
        { "<=TLSv1.2", 0x0303, 0x0303 },
        { "!TLSv1.2", 0x0304, 0x0304 },
        { "TLSv1.2", 0x0303, 0x0303 },
        { "TLSv1.1 TLSv1.2 TLSv1.3", 0x0303, 0x0304 },
    };

    char text[200];

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct tls_settings set;

        (void)snprintf(text, sizeof text, "smtpd_tls_protocols = %s\n",
                       cases[i].list);
        set = settings(text, SMTP);
        assert_int_equal(set.min_version, cases[i].min);
        assert_int_equal(set.max_version, cases[i].max);
    }
    refused("smtpd_tls_protocols = SSLv3\n", "neither");
    refused("smtpd_tls_protocols = !TLSv1.2, !TLSv1.3\n", "neither");
    refused("smtpd_tls_protocols = TLSv9\n", "no version");
    /* Where TLS is demanded the mandatory ones count. */
    assert_int_equal(settings("smtpd_tls_mandatory_protocols = TLSv1.3\n",
                              SMTPS)
                         .min_version,
                     0x0304);
}

static void test_ciphers(void **state UNUSED)
{
    struct tls_settings set = settings("", SMTP);

    assert_string_equal(set.ciphers, "aNULL:-aNULL:HIGH:MEDIUM:+RC4:@STRENGTH");
    assert_true(set.server_ciphers_first);
    assert_false(
        settings("tls_preempt_cipherlist = no\n", SMTP).server_ciphers_first);
    set = settings("smtpd_tls_ciphers = high\n"
                   "smtpd_tls_exclude_ciphers = CAMELLIA, ARIA SHA\n"
                   "tls_high_cipherlist = HIGH\n"
                   "tls_preempt_cipherlist = yes\n",
                   SMTP);
    assert_string_equal(set.ciphers, "HIGH:!CAMELLIA:!ARIA:!SHA");
    assert_true(set.server_ciphers_first);
    set = settings("smtpd_tls_mandatory_ciphers = low\n"
                   "tls_low_cipherlist = LOW\n"
                   "smtpd_tls_exclude_ciphers = ARIA\n"
                   "smtpd_tls_mandatory_exclude_ciphers = 3DES\n",
                   SMTPS);
    assert_string_equal(set.ciphers, "LOW:!ARIA:!3DES");
    set = settings("smtpd_tls_ciphers = export\n"
                   "tls_export_cipherlist = $tls_null_cipherlist\n"
                   "tls_null_cipherlist = eNULL\n",
                   SMTP);
    assert_string_equal(set.ciphers, "eNULL");
    set = settings("smtpd_tls_ciphers = medium\n"
                   "tls_medium_cipherlist = MEDIUM\n",
                   SMTP);
    assert_string_equal(set.ciphers, "MEDIUM");
    refused("smtpd_tls_ciphers = good\n", "no grade of ciphers");
    refused("smtpd_tls_exclude_ciphers = !AES\n", "cannot be excluded");
}

static void test_groups(void **state UNUSED)
{
    assert_string_equal(settings("", SMTP).groups,
                        "X25519:X448:prime256v1:secp521r1:secp384r1");
    assert_string_equal(
        settings("tls_eecdh_auto_curves = X25519, prime256v1\n", SMTP).groups,
        "X25519:prime256v1");
    assert_string_equal(settings("smtpd_tls_eecdh_grade = strong\n"
                                 "tls_eecdh_strong_curve = prime256v1\n",
                                 SMTP)
                            .groups,
                        "prime256v1");
    assert_string_equal(settings("smtpd_tls_eecdh_grade = ultra\n"
                                 "tls_eecdh_ultra_curve = secp384r1\n",
                                 SMTP)
                            .groups,
                        "secp384r1");
    assert_non_null(strstr(
        settings("smtpd_tls_eecdh_grade = none\n", SMTP).ciphers, ":!kEECDH"));
    refused("smtpd_tls_eecdh_grade = best\n", "no grade of curves");
}

static void test_sessions(void **state UNUSED)
{
    assert_int_equal(settings("", SMTP).session_sec, 3600);
    assert_int_equal(
        settings("smtpd_tls_session_cache_timeout = 10m\n", SMTP).session_sec,
        600);
    assert_int_equal(
        settings("tls_session_ticket_cipher =\n", SMTP).session_sec, 0);
    assert_int_equal(
        settings("tls_ssl_options = NO_TICKET\n", SMTP).session_sec, 0);
}

static struct keys_set files(const char *main_cf, size_t service)
{
    struct keys_set set;

    load(main_cf);
    keys_set_of(conf, conf_service_at(conf, service), &set);
    return set;
}

static void test_files(void **state UNUSED)
{
    struct keys_set set = files("smtpd_tls_cert_file = /rsa.pem\n"
                                "smtpd_tls_eccert_file = /ec.pem\n"
                                "smtpd_tls_eckey_file = /ec.key\n",
                                SMTP);

    assert_int_equal(set.n, 2);
    assert_slice(set.v[0].cert, SL("/rsa.pem"));
    assert_slice(set.v[0].key, SL("/rsa.pem"));
    assert_slice(set.v[1].key, SL("/ec.key"));
    set = files("smtpd_tls_cert_file = /rsa.pem\n"
                "smtpd_tls_chain_files = /a, /b\n",
                SMTP);
    assert_int_equal(set.n, 2);
    assert_slice(set.v[1].cert, SL("/b"));
    assert_int_equal(files("smtpd_tls_cert_file = none\n", SMTP).n, 0);
    assert_int_equal(files("", SMTP).n, 0);
    /* Mailboxes have smtpd's unless they have their own. */
    set = files("smtpd_tls_cert_file = /rsa.pem\n", IMAP);
    assert_slice(set.v[0].cert, SL("/rsa.pem"));
    set = files("smtpd_tls_cert_file = /rsa.pem\nssl_cert = </i.pem\n"
                "ssl_key = </i.key\n",
                POP3S);
    assert_int_equal(set.n, 1);
    assert_slice(set.v[0].cert, SL("/i.pem"));
    assert_slice(set.v[0].key, SL("/i.key"));
    set = files("smtpd_tls_cert_file = /rsa.pem\nssl_cert = /i.pem\n", SMTP);
    assert_slice(set.v[0].cert, SL("/rsa.pem"));
}

static struct keys_service level(const char *main_cf, size_t service)
{
    load(main_cf);
    return keys_service_of(conf, conf_service_at(conf, service));
}

static void test_levels(void **state UNUSED)
{
    assert_int_equal(level("", SMTP).level, KEYS_NO_TLS);
    assert_int_equal(level("", SMTPS).level, KEYS_ENCRYPT);
    assert_true(level("", SMTPS).is_wrapper);
    assert_int_equal(level("", IMAP).level, KEYS_MAY);
    assert_true(level("", IMAP).auth_only);
    assert_int_equal(level("ssl = no\n", IMAP).level, KEYS_NO_TLS);
    assert_int_equal(level("ssl = required\n", IMAP).level, KEYS_ENCRYPT);
    assert_int_equal(level("ssl = no\n", POP3S).level, KEYS_ENCRYPT);
    assert_int_equal(level("smtpd_tls_security_level = may\n", SMTP).level,
                     KEYS_MAY);
    assert_int_equal(level("smtpd_tls_security_level = dane\n", SMTP).level,
                     KEYS_ENCRYPT);
    assert_int_equal(level("smtpd_tls_security_level = none\n"
                           "smtpd_use_tls = yes\n",
                           SMTP)
                         .level,
                     KEYS_NO_TLS);
    assert_false(level("smtpd_tls_security_level = may\n", SMTP).auth_only);
    assert_true(level("smtpd_tls_auth_only = yes\n", SMTP).auth_only);
    load("smtpd_tls_security_level = may\n");
    assert_false(keys_wanted(conf));
    load("smtpd_tls_cert_file = /c\n");
    assert_true(keys_wanted(conf)); /* of the wrapper and imapd */
}

static char told[1000];

static void tell(void *arg UNUSED, enum keys_kind kind, slice path)
{
    size_t n = strlen(told);

    (void)snprintf(told + n, sizeof told - n, "%c%.*s ", "CKM"[kind],
                   SLF(path));
}

static void test_each_file(void **state UNUSED)
{
    told[0] = '\0';
    load("smtpd_tls_cert_file = /c\nsmtpd_tls_key_file = /k\nssl = no\n"
         "smtpd_tls_CAfile = /ca\n"
         "tls_server_sni_maps = inline:{ {a.example = /x /y} }\n");
    keys_each_file(conf, tell, NULL);
    /* Of the two lines with a wrapper: the plain one wants no TLS. */
    assert_string_equal(told, "C/c K/k C/ca C/x K/x C/y K/y "
                              "C/c K/k C/ca C/x K/x C/y K/y ");
}

/* ---- maps and PEM */

static void entry(void *arg UNUSED, slice name, slice paths)
{
    size_t n = strlen(told);

    (void)snprintf(told + n, sizeof told - n, "%.*s=%.*s;", SLF(name),
                   SLF(paths));
}

static void test_map(void **state UNUSED)
{
    told[0] = '\0';
    keys_map_each(SL("# c\n\na.org  /x\n   /y\n# more\nb.org\t/z\n"
                     "empty\n   \nc.org /w"),
                  entry, NULL);
    assert_string_equal(told, "a.org=/x    /y;b.org=/z;c.org=/w;");
    told[0] = '\0';
    keys_inline_each(SL("{ { a.org = /x /y }, b.org=/z }"), entry, NULL);
    assert_string_equal(told, "a.org=/x /y;b.org=/z;");
    assert_true(keys_map_type_ok(SL("hash")));
    assert_false(keys_map_type_ok(SL("regexp")));
}

#define CERT "-----BEGIN CERTIFICATE-----\nAA\n-----END CERTIFICATE-----\n"
#define KEY  "-----BEGIN EC PRIVATE KEY-----\nBB\n-----END EC PRIVATE KEY-----\n"

static void test_pem(void **state UNUSED)
{
    struct buf b;
    slice rest, label, block;

    buf_init(&b, 10000);
    keys_only_certs(SL("text\n" KEY CERT "more" CERT "-----BEGIN PRIVATE KEY"
                       "-----\nunfinished\n" CERT "-----BEGIN "),
                    &b);
    assert_slice(buf_view(&b), SL(CERT CERT CERT));
    buf_clear(&b);
    /* What claims to be a certificate and swallows a key's head. */
    keys_only_certs(SL("-----BEGIN CERTIFICATE-----\n" KEY), &b);
    assert_int_equal(b.n, 0);
    keys_only_certs(SL("-----BEGIN CERTIFICATE-----\nAA\n" KEY CERT), &b);
    assert_slice(buf_view(&b), SL(CERT));
    buf_done(&b);
    rest = SL(CERT KEY);
    assert_true(keys_pem_next(&rest, &label, &block));
    assert_slice(label, SL("CERTIFICATE"));
    assert_false(keys_is_key_label(label));
    assert_true(keys_pem_next(&rest, &label, &block));
    assert_true(keys_is_key_label(label));
    assert_slice(block, SL(KEY));
    assert_false(keys_pem_next(&rest, &label, &block));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_versions),  cmocka_unit_test(test_ciphers),
        cmocka_unit_test(test_groups),    cmocka_unit_test(test_sessions),
        cmocka_unit_test(test_files),     cmocka_unit_test(test_levels),
        cmocka_unit_test(test_each_file), cmocka_unit_test(test_map),
        cmocka_unit_test(test_pem),
    };

    return cmocka_run_group_tests_name("settings", tests, NULL, done);
}
