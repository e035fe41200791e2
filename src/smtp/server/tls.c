#include "smtp/server/auth.h"

#include "rt/tls.h"

/*
 * TLS of the server: STARTTLS (RFC 3207) and wrapper mode (RFC 8314 3.3), and
 * what is said of it in the log and in Received fields, in Postfix's words.
 */

void smtp_tls_settings(struct smtp_service *v)
{
    struct smtp_tls_settings *t = &v->tls;

    if (v->is_pickup)
        return;
    t->how = keys_service_of(v->conf, v->line);
    t->timeout_ms =
        conf_time(v->conf, v->line, "smtpd_starttls_timeout") * 1000;
    if (t->timeout_ms < 1000)
        t->timeout_ms = 1000;
    t->loglevel = conf_int(v->conf, v->line, "smtpd_tls_loglevel");
    t->in_received = conf_bool(v->conf, v->line, "smtpd_tls_received_header");
    t->demands_cert = conf_bool(v->conf, v->line, "smtpd_tls_req_ccert") &&
                      t->how.level == KEYS_ENCRYPT;
    t->asks_cert = conf_bool(v->conf, v->line, "smtpd_tls_ask_ccert") ||
                   conf_bool(v->conf, v->line, "smtpd_tls_req_ccert");
}

static struct tls_context *context(const struct smtp *s)
{
    struct keyring *r = s->service->server->parts.keyring;

    if (r == NULL || s->service->is_pickup)
        return NULL;
    return keyring_context(r, s->service->line, NULL);
}

bool smtp_tls_offered(const struct smtp *s)
{
    const struct smtp_service *v = s->service;

    return v->tls.how.level != KEYS_NO_TLS && !v->tls.how.is_wrapper &&
           !stream_is_tls(s->stream) && !(v->ehlo_off & EHLO_STARTTLS) &&
           context(s) != NULL;
}

bool smtp_tls_missing(const struct smtp *s)
{
    return s->service->tls.how.level == KEYS_ENCRYPT &&
           !stream_is_tls(s->stream) && !s->service->is_pickup;
}

bool smtp_tls_auth_ok(const struct smtp *s)
{
    return !s->service->tls.how.auth_only || stream_is_tls(s->stream);
}

/* ---- the log */

static void log_certificate(const struct smtp *s, const struct tls_info *info)
{
    if (info->has_client_cert)
        event_text(EV_INFO, s->service->tag, NULL,
                   "%s: subject_CN=%s, issuer=%s, fingerprint=%s, "
                   "pkey_fingerprint=%s",
                   s->client, info->client_name, info->client_issuer,
                   info->client_fingerprint, info->client_key_fingerprint);
}

static const char *trust_of(const struct tls_info *info)
{
    if (!info->has_client_cert)
        return "Anonymous";
    return info->client_cert_ok ? "Trusted" : "Untrusted";
}

static void log_established(const struct smtp *s, const struct tls_info *info)
{
    if (s->service->tls.loglevel < 1)
        return;
    log_certificate(s, info);
    event_text(EV_INFO, s->service->tag, NULL,
               "%s TLS connection %s from %s%s%s: %s with cipher %s (%d/%d "
               "bits)%s%s%s%s",
               trust_of(info), info->was_resumed ? "reused" : "established",
               s->client, info->sni[0] != '\0' ? " to " : "", info->sni,
               info->protocol, info->cipher, info->bits, info->algorithm_bits,
               info->key_exchange[0] != '\0' ? " key-exchange " : "",
               info->key_exchange, info->signature[0] != '\0' ? " " : "",
               info->signature);
}

static void log_failed(const struct smtp *s, const struct err *err)
{
    const char *tag = s->service->tag;
    bool is_library = strncmp(err->log, "error:", 6) == 0;

    if (s->is_shutdown)
        return;
    event_text(EV_INFO, tag, NULL, "SSL_accept error from %s: %s", s->client,
               is_library ? "-1" : err->log);
    if (is_library)
        event_text(EV_WARNING, tag, NULL, "TLS library problem: %s", err->log);
}

/* ---- the handshake */

/* Postfix's smtpd_tls_req_ccert. */
MAY_WAIT static int demand_cert(struct smtp *s, const struct tls_info *info)
{
    const char *why = info->has_client_cert ? "Client certificate not trusted"
                                            : "No client certificate presented";

    if (!s->service->tls.demands_cert || info->client_cert_ok)
        return 0;
    event_text(EV_INFO, s->service->tag, "NOQUEUE", "abort: TLS from %s: %s",
               s->client, why);
    s->must_close = true;
    s->said_quit = true;
    return smtp_reply(s, 421, "4.7.1", "%s Error: %s", s->service->myhostname,
                      why);
}

/* 0: done, or a last word is on its way; -1: end the session. */
MAY_WAIT static int shake_hands(struct smtp *s, struct tls_context *ctx)
{
    struct tls_context *held = tls_context_ref(ctx);
    struct tls_info info;
    struct err err;
    int r;

    if (s->service->tls.loglevel >= 2)
        event_text(EV_INFO, s->service->tag, NULL,
                   "setting up TLS connection from %s", s->client);
    stream_deadline(s->stream, clock_after(s->service->tls.timeout_ms));
    r = stream_tls_accept(s->stream, held, &err);
    tls_context_unref(&held);
    if (r < 0) {
        log_failed(s, &err);
        return -1;
    }
    stream_deadline(s->stream, clock_after(s->service->timeout_ms));
    (void)stream_tls_info(s->stream, &info);
    log_established(s, &info);
    return demand_cert(s, &info);
}

/* smtpd_client_new_tls_session_rate_limit.  *ok false when it was refused. */
MAY_WAIT static int count(struct smtp *s, bool *ok)
{
    struct smtp_tx *tx = smtp_tx_get(s);
    struct access_reply reply = { 0 };
    struct err err;

    if (access_count(s->service->access, s->service->server->counters,
                     &s->counted, &tx->policy, ACCESS_EVENT_TLS, &reply,
                     &err) < 0)
        return smtp_fail(s, &err);
    *ok = reply.ok;
    return 0;
}

/* RFC 3207 4.2: nothing that was said before counts. */
static void forget_all(struct smtp *s)
{
    smtp_auth_reset(s);
    smtp_tx_reset(s);
    free(s->helo);
    s->helo = NULL;
    free(s->deferred);
    s->deferred = NULL;
    s->is_esmtp = false;
}

int smtp_cmd_starttls(struct smtp *s, slice args)
{
    const struct smtp_service *v = s->service;
    struct tls_context *ctx;
    bool ok = true;

    if (args.n > 0)
        return smtp_reply(s, 501, "5.5.4", "Syntax: STARTTLS");
    if (stream_is_tls(s->stream))
        return smtp_reply(s, 554, "5.5.1", "Error: TLS already active");
    if (v->tls.how.level == KEYS_NO_TLS || v->is_pickup ||
        (v->ehlo_off & EHLO_STARTTLS))
        return smtp_reply(s, 502, "5.5.1", "Error: command not implemented");
    ctx = context(s);
    if (ctx == NULL)
        return smtp_reply(s, 454, "4.7.0",
                          "TLS not available due to local problem");
    ctx = tls_context_ref(ctx);
    if (count(s, &ok) < 0 || !ok) {
        tls_context_unref(&ctx);
        return ok ? -1
                  : smtp_reply(s, 454, "4.7.0",
                               "Error: too many new TLS sessions from %s",
                               s->peer.text);
    }
    /* Bytes behind STARTTLS are logged by the caller and thrown away by
     * stream_tls_accept() (CVE-2011-0411). */
    if (smtp_reply(s, 220, "2.0.0", "Ready to start TLS") < 0 ||
        shake_hands(s, ctx) < 0) {
        tls_context_unref(&ctx);
        s->reply_failed = true;
        return -1;
    }
    tls_context_unref(&ctx);
    forget_all(s);
    return 0;
}

int smtp_tls_wrap(struct smtp *s)
{
    struct tls_context *ctx;
    bool ok = true;

    if (!s->service->tls.how.is_wrapper || s->service->is_pickup)
        return 0;
    ctx = context(s);
    if (ctx == NULL) {
        event_text(EV_WARNING, s->service->tag, NULL,
                   "Wrapper-mode request dropped from %s for service %s. TLS "
                   "context initialization failed. For details see earlier "
                   "warnings in your logs.",
                   s->client, s->service->line->name);
        return -1;
    }
    ctx = tls_context_ref(ctx);
    if (count(s, &ok) < 0 || !ok || shake_hands(s, ctx) < 0) {
        tls_context_unref(&ctx);
        return -1;
    }
    tls_context_unref(&ctx);
    return 0;
}

/* ---- what others are told of it */

void smtp_tls_policy(const struct smtp *s, struct smtp_tx *tx)
{
    struct tls_info info;

    tx->policy.is_tls = stream_is_tls(s->stream);
    if (!tx->policy.is_tls || !s->service->tls.asks_cert)
        return;
    (void)stream_tls_info(s->stream, &info);
    tx->policy.ccert_ok = info.has_client_cert && info.client_cert_ok;
    tx->policy.ccert_fingerprint =
        slice_dup(tx->arena, slice_str(info.client_fingerprint));
    tx->policy.ccert_key_fingerprint =
        slice_dup(tx->arena, slice_str(info.client_key_fingerprint));
}

/* A comment of RFC 5322 3.2.2: no parentheses and no backslash from outside. */
static void put_comment(struct buf *out, const char *text)
{
    for (; *text != '\0'; text++)
        (void)buf_byte(out, strchr("()\\", *text) != NULL ||
                                    (unsigned char)*text < ' '
                                ? '?'
                                : *text);
}

static void put_cert(const struct smtp *s, const struct tls_info *info,
                     struct buf *out)
{
    if (info->has_client_cert) {
        (void)buf_puts(out, "\n\t(Client CN \"");
        put_comment(out, info->client_name);
        (void)buf_puts(out, "\", Issuer \"");
        put_comment(out, info->client_issuer);
        (void)buf_printf(out, "\" (%s))",
                         info->client_cert_ok ? "verified OK" : "not verified");
        return;
    }
    (void)buf_puts(out, s->service->tls.asks_cert
                            ? "\n\t(Client did not present a certificate)"
                            : "\n\t(No client certificate requested)");
}

void smtp_tls_received(const struct smtp *s, struct buf *out)
{
    struct tls_info info;
    const char *client;

    if (!s->service->tls.in_received || !stream_tls_info(s->stream, &info))
        return;
    (void)buf_printf(out, "\n\t(using %s with cipher %s (%d/%d bits)",
                     info.protocol, info.cipher, info.bits,
                     info.algorithm_bits);
    client = strstr(info.signature, " client-signature");
    if (info.key_exchange[0] != '\0')
        (void)buf_printf(out, "\n\t key-exchange %s", info.key_exchange);
    if (info.signature[0] != '\0') {
        size_t n = client != NULL ? (size_t)(client - info.signature)
                                  : strlen(info.signature);

        (void)buf_printf(out, " %.*s", (int)n, info.signature);
    }
    if (client != NULL)
        (void)buf_printf(out, "\n\t%s", client);
    (void)buf_byte(out, ')');
    put_cert(s, &info, out);
}
