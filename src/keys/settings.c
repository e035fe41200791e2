/* Postfix's TLS parameters as settings of a context. */
#include "keys/keys_priv.h"

/* TLS's own numbers (RFC 8446 4.1.2). */
enum { TLS_1_2 = 0x0303 };

/* Of TLS 1.2 and 1.3, those that the list allows: older ones are not there. */
static int set_versions(slice list, struct tls_settings *out, struct err *err)
{
    if (keys_versions(list, TLS_1_2, &out->min_version, &out->max_version,
                      err) == 0)
        return 0;
    /* That none is left is told in the words of a server. */
    return out->min_version < 0
               ? -1
               : err_perm(err, "neither TLSv1.2 nor TLSv1.3 is allowed");
}

static int set_ciphers(const struct conf *c, const struct conf_service *s,
                       bool is_mandatory, struct arena *a, struct buf *b,
                       struct err *err)
{
    slice more = is_mandatory
                     ? conf_slice(c, s, "smtpd_tls_mandatory_exclude_ciphers")
                     : SLICE_NONE;
    const char *exclude =
        arena_printf(a, "%.*s %.*s",
                     SLF(conf_slice(c, s, "smtpd_tls_exclude_ciphers")),
                     SLF(more));

    if (exclude == NULL)
        return err_temp(err, "settings of TLS are too long");
    return keys_ciphers(c, s,
                        conf_slice(c, s,
                                   is_mandatory ? "smtpd_tls_mandatory_ciphers"
                                                : "smtpd_tls_ciphers"),
                        slice_str(exclude), b, err);
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
        rc = set_ciphers(c, s, is_mandatory, a, &ciphers, err);
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
