#include "smtp/server/auth.h"

/* A session may make us hold this much without ending a line. */
#define LINE_MAX_BYTES ((size_t)1 << 20)

/* "submission/smtpd" for a service with -o syslog_name=postfix/submission. */
static void make_tag(struct smtp_service *service)
{
    const char *global = conf_str(service->conf, NULL, "syslog_name");
    const char *own = conf_str(service->conf, service->line, "syslog_name");
    size_t n = strlen(global);

    if (service->is_pickup)
        (void)snprintf(service->tag, sizeof service->tag, "pickup");
    else if (strcmp(global, own) == 0)
        (void)snprintf(service->tag, sizeof service->tag, "smtpd");
    else if (strncmp(global, own, n) == 0 && own[n] == '/')
        (void)snprintf(service->tag, sizeof service->tag, "%s/smtpd",
                       own + n + 1);
    else
        (void)snprintf(service->tag, sizeof service->tag, "%s/smtpd", own);
}

static unsigned uint_param(const struct smtp_service *v, const char *name)
{
    int64_t n = conf_int(v->conf, v->line, name);

    return n < 0 ? 0 : n > INT_MAX ? INT_MAX : (unsigned)n;
}

static unsigned ehlo_keywords(slice list)
{
    static const struct {
        const char *name;
        unsigned bit;
    } names[] = {
        { "pipelining", EHLO_PIPELINING },
        { "size", EHLO_SIZE },
        { "vrfy", EHLO_VRFY },
        { "etrn", EHLO_ETRN },
        { "enhancedstatuscodes", EHLO_ENHANCED },
        { "8bitmime", EHLO_8BITMIME },
        { "dsn", EHLO_DSN },
        { "smtputf8", EHLO_SMTPUTF8 },
        { "chunking", EHLO_CHUNKING },
        { "requiretls", EHLO_REQUIRETLS },
        { "auth", EHLO_AUTH },
        { "silent-discard", EHLO_SILENT },
        { "starttls", EHLO_STARTTLS },
    };

    unsigned bits = 0;
    slice word;

    while (conf_list_next(&list, &word))
        for (size_t i = 0; i < ARRAY_LEN(names); i++)
            if (slice_ieqs(word, names[i].name))
                bits |= names[i].bit;
    return bits;
}

static void limits(struct smtp_service *v)
{
    v->timeout_ms = conf_time(v->conf, v->line, "smtpd_timeout") * 1000;
    v->line_max = uint_param(v, "line_length_limit");
    v->header_max = uint_param(v, "header_size_limit");
    v->message_max = conf_size(v->conf, v->line, "message_size_limit");
    v->rcpt_max = uint_param(v, "smtpd_recipient_limit");
    v->rcpt_overshoot = uint_param(v, "smtpd_recipient_overshoot_limit");
    v->soft_errors = uint_param(v, "smtpd_soft_error_limit");
    v->hard_errors = uint_param(v, "smtpd_hard_error_limit");
    v->junk_max = uint_param(v, "smtpd_junk_command_limit");
    v->error_sleep_ms =
        conf_time(v->conf, v->line, "smtpd_error_sleep_time") * 1000;
    v->hop_max = uint_param(v, "hopcount_limit");
    /* A number in the line of postscreen is not one of sessions. */
    if (v->line != NULL && v->line->maxproc > 0 &&
        strcmp(v->line->command, "smtpd") == 0) {
        const struct process *p = v->server->parts.process;
        unsigned max = (unsigned)v->line->maxproc;
        unsigned n = p->n_slots > 0 ? p->n_slots : 1;

        v->is_limited = true;
        v->max_sessions = max / n + (p->slot % n < max % n ? 1 : 0);
    }
    if (v->line_max < 512)
        v->line_max = 512;
    if (v->line_max > LINE_MAX_BYTES)
        v->line_max = LINE_MAX_BYTES;
    if (v->header_max < 1024)
        v->header_max = 1024;
    if (v->timeout_ms < 1000)
        v->timeout_ms = 1000;
    if (v->hard_errors == 0)
        v->hard_errors = 1;
}

static int switches(struct smtp_service *v, struct err *err)
{
    slice bare = conf_slice(v->conf, v->line, "smtpd_forbid_bare_newline");
    slice strip = conf_slice(v->conf, v->line, "message_strip_characters");
    slice reject = conf_slice(v->conf, v->line, "message_reject_characters");

    v->noop_commands = conf_slice(v->conf, v->line, "smtpd_noop_commands");
    v->forbidden_commands =
        conf_slice(v->conf, v->line, "smtpd_forbidden_commands");
    v->forbids_pipelining =
        conf_bool(v->conf, v->line, "smtpd_forbid_unauth_pipelining");
    v->logs_port = conf_bool(v->conf, v->line, "smtpd_client_port_logging");
    v->looks_up_names = conf_bool(v->conf, v->line, "smtpd_peername_lookup");
    v->helo_required = conf_bool(v->conf, v->line, "smtpd_helo_required");
    v->vrfy_disabled = conf_bool(v->conf, v->line, "disable_vrfy_command");
    v->strict_paths = conf_bool(v->conf, v->line, "strict_rfc821_envelopes");
    v->smtputf8 = conf_bool(v->conf, v->line, "smtputf8_enable");
    v->always_add_headers =
        conf_bool(v->conf, v->line, "always_add_missing_headers");
    v->stray_cr_to_space =
        conf_bool(v->conf, v->line, "cleanup_replace_stray_cr_lf");
    v->ehlo_off = ehlo_keywords(
        conf_slice(v->conf, v->line, "smtpd_discard_ehlo_keywords"));
    if (slice_ieqs(bare, "reject"))
        v->bare_lf = MAIL_BARE_LF_REJECT;
    else if (slice_ieqs(bare, "no") || bare.n == 0)
        v->bare_lf = MAIL_BARE_LF_NO;
    else
        v->bare_lf = MAIL_BARE_LF_NORMALIZE;
    v->has_strip = strip.n > 0;
    if (v->has_strip && !mail_byte_set_parse(strip, v->strip))
        return err_perm(err, "message_strip_characters: bad escape");
    v->has_reject = reject.n > 0;
    if (v->has_reject && !mail_byte_set_parse(reject, v->reject))
        return err_perm(err, "message_reject_characters: bad escape");
    return 0;
}

static int rooms(struct smtp_service *v, struct err *err)
{
    struct tables *t = v->server->parts.tables;

    if (address_new(v->conf, v->line, t, &v->address, err) < 0 ||
        filter_new(v->conf, v->line, t, &v->filter, err) < 0)
        return -1;
    if (v->is_pickup)
        return table_match_new(t, v->conf, NULL, "authorized_submit_users",
                               &v->submitters, err);
    if (table_match_new(t, v->conf, v->line, "smtpd_authorized_verp_clients",
                        &v->verp_clients, err) < 0)
        return -1;
    if (access_new(v->conf, v->line, t, v->address, &v->access, err) < 0)
        return -1;
    access_set_dns(v->access, v->server->parts.dns, v->server->parts.hosts);
    return 0;
}

int smtp_service_new(struct smtp_server *server,
                     const struct conf_service *line, struct smtp_service **out,
                     struct err *err)
{
    struct smtp_service *v = xcalloc(1, sizeof *v);

    v->server = server;
    v->conf = server->conf;
    v->line = line;
    v->index = line != NULL ? (int)line->index : -1;
    v->is_pickup = line == NULL;
    v->notify = smtp_notify_classes(v->conf, line);
    v->myhostname = conf_str(v->conf, line, "myhostname");
    v->mail_name = conf_str(v->conf, line, "mail_name");
    v->banner = xstrdup(conf_str(v->conf, line, "smtpd_banner"));
    make_tag(v);
    limits(v);
    smtp_tls_settings(v);
    list_push(&server->services, &v->link);
    if (switches(v, err) < 0 || rooms(v, err) < 0 ||
        smtp_auth_new(v, err) < 0) {
        smtp_service_free(&v);
        return err_prefix(err, "service %s",
                          line != NULL ? line->name : "pickup");
    }
    *out = v;
    return 0;
}

void smtp_service_free(struct smtp_service **vp)
{
    struct smtp_service *v = *vp;

    if (v == NULL)
        return;
    CHECK(v->n_sessions == 0);
    list_remove(&v->link);
    table_match_free(&v->submitters);
    table_match_free(&v->verp_clients);
    smtp_auth_free(v);
    smtp_screen_free(v);
    access_free(&v->access);
    filter_free(&v->filter);
    address_free(&v->address);
    free(v->banner);
    free(v);
    *vp = NULL;
}
