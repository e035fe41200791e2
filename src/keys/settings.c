/* Postfix's TLS parameters as settings of a context. */
#include "keys/keys_priv.h"

/* TLS's own numbers (RFC 8446 4.1.2). */
enum { TLS_1_2 = 0x0303, TLS_1_3 = 0x0304 };

/* A name of a version, and how new it is; 0: unknown. */
static int version_of(slice name)
{
    static const struct {
        const char *name;
        int number;
    } versions[] = {
        { "SSLv2", 0x0002 },    { "SSLv3", 0x0300 },   { "TLSv1", 0x0301 },
        { "TLSv1.0", 0x0301 },  { "TLSv1.1", 0x0302 }, { "TLSv1.2", TLS_1_2 },
        { "TLSv1.3", TLS_1_3 },
    };

    for (size_t i = 0; i < ARRAY_LEN(versions); i++)
        if (slice_ieqs(name, versions[i].name))
            return versions[i].number;
    return 0;
}

struct versions {
    int min, max;
    bool without[2]; /* TLS 1.2, TLS 1.3 */
    bool with[2];
    bool is_list; /* some were named without "!" */
};

static int one_version(struct versions *v, slice word, struct err *err)
{
    slice name = word;
    int number;

    if (slice_starts(word, SL(">=")) || slice_starts(word, SL("<=")))
        name = slice_from(word, 2);
    else if (slice_starts(word, SL("!")))
        name = slice_from(word, 1);
    number = version_of(slice_trim(name));
    if (number == 0)
        return err_perm(err, "\"%.*s\" is no version of TLS", SLF(word));
    if (word.p[0] == '>') {
        v->min = number;
    } else if (word.p[0] == '<') {
        v->max = number;
    } else if (word.p[0] == '!') {
        if (number >= TLS_1_2)
            v->without[number - TLS_1_2] = true;
    } else {
        v->is_list = true;
        if (number >= TLS_1_2)
            v->with[number - TLS_1_2] = true;
    }
    return 0;
}

/* Of TLS 1.2 and 1.3, those that the list allows: older ones are not there. */
static int set_versions(slice list, struct tls_settings *out, struct err *err)
{
    struct versions v = { 0 };
    bool ok[2];
    slice word;

    while (slice_token(&list, ", \t:", &word))
        if (one_version(&v, word, err) < 0)
            return -1;
    for (int i = 0; i < 2; i++)
        ok[i] = !v.without[i] && (!v.is_list || v.with[i]) &&
                (v.min == 0 || v.min <= TLS_1_2 + i) &&
                (v.max == 0 || v.max >= TLS_1_2 + i);
    if (!ok[0] && !ok[1])
        return err_perm(err, "neither TLSv1.2 nor TLSv1.3 is allowed");
    out->min_version = ok[0] ? TLS_1_2 : TLS_1_3;
    out->max_version = ok[1] ? TLS_1_3 : TLS_1_2;
    return 0;
}

static int put_exclusions(struct buf *b, slice list, struct err *err)
{
    slice word;

    while (slice_token(&list, ", \t\r\n:", &word)) {
        if (slice_chr(word, '!') >= 0 || slice_chr(word, '@') >= 0)
            return err_perm(err, "\"%.*s\" cannot be excluded", SLF(word));
        (void)buf_printf(b, ":!%.*s", SLF(word));
    }
    return 0;
}

static int set_ciphers(const struct conf *c, const struct conf_service *s,
                       bool is_mandatory, struct buf *b, struct err *err)
{
    static const char *const grades[] = { "high", "medium", "low", "export",
                                          "null" };
    slice grade = conf_slice(c, s,
                             is_mandatory ? "smtpd_tls_mandatory_ciphers"
                                          : "smtpd_tls_ciphers");
    char name[64] = "";

    for (size_t i = 0; i < ARRAY_LEN(grades); i++)
        if (slice_ieqs(grade, grades[i]))
            (void)snprintf(name, sizeof name, "tls_%s_cipherlist", grades[i]);
    if (name[0] == '\0')
        return err_perm(err, "\"%.*s\" is no grade of ciphers", SLF(grade));
    (void)buf_slice(b, conf_slice(c, s, name));
    if (put_exclusions(b, conf_slice(c, s, "smtpd_tls_exclude_ciphers"), err) <
        0)
        return -1;
    if (is_mandatory &&
        put_exclusions(b,
                       conf_slice(c, s, "smtpd_tls_mandatory_exclude_ciphers"),
                       err) < 0)
        return -1;
    return 0;
}

/* The groups of elliptic curves, as OpenSSL writes lists. */
static int set_groups(const struct conf *c, const struct conf_service *s,
                      struct buf *groups, struct buf *ciphers, struct err *err)
{
    slice grade = conf_slice(c, s, "smtpd_tls_eecdh_grade");
    slice list = conf_slice(c, s, "tls_eecdh_auto_curves"), word;

    if (slice_ieqs(grade, "none")) {
        (void)buf_puts(ciphers, ":!kEECDH");
        return 0;
    }
    if (slice_ieqs(grade, "strong"))
        list = conf_slice(c, s, "tls_eecdh_strong_curve");
    else if (slice_ieqs(grade, "ultra"))
        list = conf_slice(c, s, "tls_eecdh_ultra_curve");
    else if (!slice_ieqs(grade, "auto"))
        return err_perm(err, "\"%.*s\" is no grade of curves", SLF(grade));
    while (slice_token(&list, ", \t\r\n:", &word))
        (void)buf_printf(groups, "%s%.*s", groups->n > 0 ? ":" : "", SLF(word));
    return 0;
}

static bool is_ssl_option(const struct conf *c, const struct conf_service *s,
                          const char *name)
{
    slice list = conf_slice(c, s, "tls_ssl_options"), word;

    while (slice_token(&list, ", \t\r\n", &word))
        if (slice_ieqs(word, name))
            return true;
    return false;
}

static unsigned session_seconds(const struct conf *c,
                                const struct conf_service *s)
{
    int64_t sec = conf_time(c, s, "smtpd_tls_session_cache_timeout");

    if (conf_slice(c, s, "tls_session_ticket_cipher").n == 0 ||
        is_ssl_option(c, s, "NO_TICKET") || sec <= 0)
        return 0;
    /* RFC 8446 4.6.1 has seven days as the most; Postfix a hundred. */
    return sec > 604800 ? 604800 : (unsigned)sec;
}

int keys_settings(const struct conf *c, const struct conf_service *s,
                  struct arena *a, struct tls_settings *out, struct err *err)
{
    bool is_mandatory = keys_service_of(c, s).level == KEYS_ENCRYPT;
    slice versions = conf_slice(c, s,
                                is_mandatory ? "smtpd_tls_mandatory_protocols"
                                             : "smtpd_tls_protocols");
    struct buf ciphers, groups;
    int rc;

    buf_init(&ciphers, 16384);
    buf_init(&groups, 4096);
    rc = set_versions(versions, out, err);
    if (rc == 0)
        rc = set_ciphers(c, s, is_mandatory, &ciphers, err);
    if (rc == 0)
        rc = set_groups(c, s, &groups, &ciphers, err);
    if (rc == 0) {
        out->ciphers = slice_cstr(a, buf_view(&ciphers));
        out->groups = slice_cstr(a, buf_view(&groups));
        if (out->ciphers == NULL || out->groups == NULL)
            rc = err_temp(err, "settings of TLS are too long");
    }
    buf_done(&ciphers);
    buf_done(&groups);
    if (rc < 0)
        return -1;
    /* Postfix's default is the client's order; ours, when nobody says, is the
     * server's: the strongest that both have. */
    out->server_ciphers_first = !conf_is_set(c, s, "tls_preempt_cipherlist") ||
                                conf_bool(c, s, "tls_preempt_cipherlist");
    out->ask_client_cert = conf_bool(c, s, "smtpd_tls_ask_ccert") ||
                           conf_bool(c, s, "smtpd_tls_req_ccert");
    out->verify_depth = (unsigned)conf_int(c, s, "smtpd_tls_ccert_verifydepth");
    out->digest = conf_str(c, s, "smtpd_tls_fingerprint_digest");
    out->session_sec = session_seconds(c, s);
    return 0;
}
