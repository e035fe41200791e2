#include "smtp/server/auth.h"

#include <sys/socket.h>

#define ADDED_MAX 4096 /* Date, Message-ID and From that were missing */

/*
 * The header of a message as it goes into the spool: the trace line that we
 * add, header fields that message_drop_headers takes out, address rewriting,
 * and what a message of our own client may lack (RFC 6409 8: Date, Message-ID,
 * From).
 */

/* RFC 5321 4.4, in Postfix's form. */
bool smtp_received(const struct smtp *s, struct buf *out)
{
    const struct smtp_service *service = s->service;
    const struct smtp_tx *tx = s->tx;
    const struct envelope *e = &tx->env;
    const char *protocol = s->is_esmtp ? "ESMTP" : "SMTP";
    char date[40];

    clock_rfc5322(e->arrival_usec / 1000000, date);
    if (service->is_pickup)
        return buf_printf(out,
                          "Received: by %s (%s, from userid %u)\n"
                          "\tid %s; %s\n",
                          service->myhostname, service->mail_name,
                          (unsigned)s->peer.uid, e->id, date);
    if (e->flags & ENV_SMTPUTF8)
        protocol = "UTF8SMTP"; /* RFC 6531 3.7.3 */
    (void)buf_printf(out, "Received: from %s (%.*s [%s%s])",
                     s->helo != NULL ? s->helo : "unknown",
                     SLF(tx->policy.name),
                     s->peer.family == AF_INET6 ? "IPv6:" : "", s->peer.text);
    smtp_tls_received(s, out);
    if (smtp_auth_shows_sender(s))
        (void)buf_printf(out, "\n\t(Authenticated sender: %s)", s->sasl_user);
    /* RFC 3848: ESMTPS, ESMTPA, ESMTPSA. */
    (void)buf_printf(out, "\n\tby %s (%s) with %s%s%s id %s",
                     service->myhostname, service->mail_name, protocol,
                     s->is_esmtp && tx->policy.is_tls ? "S" : "",
                     s->is_esmtp && tx->policy.sasl_user.n > 0 ? "A" : "",
                     e->id);
    if (tx->n_rcpts != 1)
        return buf_printf(out, ";\n\t%s\n", date);
    (void)buf_puts(out, "\n\tfor <");
    (void)mail_addr_quote(out, tx->first_rcpt);
    return buf_printf(out, ">; %s\n", date);
}

static bool is_dropped(slice list, slice name)
{
    slice word;

    while (conf_list_next(&list, &word))
        if (slice_ieq(word, name))
            return true;
    return false;
}

/* Copy the header without the fields of message_drop_headers; hops and the
 * message id are noted on the way. */
static void copy_fields(struct smtp *s, slice header, struct buf *out,
                        size_t *hops)
{
    struct smtp_tx *tx = s->tx;
    slice drop =
        conf_slice(s->service->conf, s->service->line, "message_drop_headers");
    struct mail_header_iter it;
    struct mail_field f;
    size_t done = 0;

    mail_header_iter_init(&it, header, false);
    while (mail_header_next(&it, &f)) {
        if (slice_ieqs(f.name, "Received"))
            (*hops)++;
        else if (slice_ieqs(f.name, "Message-Id") && tx->env.message_id.n == 0)
            tx->env.message_id =
                slice_dup(tx->arena, slice_sub(slice_trim(f.value), 0, 500));
        if (!is_dropped(drop, f.name))
            continue;
        (void)buf_slice(out, slice_sub(header, done, f.offset - done));
        done = f.offset + f.whole.n;
    }
    (void)buf_slice(out, slice_from(header, done));
}

/* Is this a message sent on, whose last sender has fields of his own?  RFC 5322
 * 3.6.6. */
static bool is_resent(slice header)
{
    static const char *const names[] = { "Resent-From",      "Resent-To",
                                         "Resent-Cc",        "Resent-Bcc",
                                         "Resent-Sender",    "Resent-Date",
                                         "Resent-Message-Id" };
    slice raw;

    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (mail_header_find(header, names[i], 0, &raw))
            return true;
    return false;
}

static bool lacks(slice header, const char *prefix, const char *name)
{
    char full[40];
    slice raw;

    (void)snprintf(full, sizeof full, "%s%s", prefix, name);
    return !mail_header_find(header, full, 0, &raw);
}

static void add_message_id(struct smtp *s, const char *prefix, struct buf *out)
{
    struct smtp_tx *tx = s->tx;
    struct civil c;
    char id[300];

    clock_utc(clock_wall() / 1000, &c);
    (void)snprintf(id, sizeof id, "<%04d%02d%02d%02d%02d%02d.%08" PRIx64 "@%s>",
                   c.year, c.month, c.day, c.hour, c.min, c.sec,
                   random_u64() & 0xffffffffu, s->service->myhostname);
    (void)buf_printf(out, "%sMessage-Id: %s\n", prefix, id);
    if (*prefix == '\0')
        tx->env.message_id = slice_dup(tx->arena, slice_str(id));
}

/* Date, Message-ID and From where a client of our own left them out; of a
 * message that is sent on, those of the one who does (as Postfix). */
static void add_missing(struct smtp *s, slice header, struct buf *out)
{
    const char *prefix = is_resent(header) ? "Resent-" : "";
    struct smtp_tx *tx = s->tx;
    char date[40];

    if (lacks(header, prefix, "Message-Id"))
        add_message_id(s, prefix, out);
    if (lacks(header, prefix, "Date")) {
        clock_rfc5322(clock_wall() / 1000, date);
        (void)buf_printf(out, "%sDate: %s\n", prefix, date);
    }
    if (lacks(header, prefix, "From")) {
        (void)buf_printf(out, "%sFrom: ", prefix);
        if (tx->sender.n > 0)
            (void)mail_addr_quote(out, tx->sender);
        else
            (void)buf_printf(out, "MAILER-DAEMON@%s (Mail Delivery System)",
                             s->service->myhostname);
        (void)buf_byte(out, '\n');
    }
}

static int check_hops(struct smtp *s, size_t hops, struct err *err)
{
    if (hops <= s->service->hop_max)
        return 0;
    err_set(err, ERR_PERM, "5.4.0", "too many hops");
    err_log(err, "too many hops (%zu Received fields)", hops);
    return -1;
}

int smtp_headers_complete(struct smtp *s, slice header, struct buf *out,
                          struct err *err)
{
    struct smtp_service *service = s->service;
    struct smtp_tx *tx = s->tx;
    enum address_context context;
    struct buf kept;
    size_t hops = 0;
    bool is_ours = service->is_pickup;
    int r = 0;

    if (!is_ours &&
        address_rewrites_headers_of(service->address, tx->policy.name,
                                    tx->policy.addr, s->sasl_user != NULL,
                                    &is_ours, err) < 0)
        return -1;
    buf_init(&kept, header.n + ADDED_MAX + 2 * tx->sender.n);
    if (is_ours || service->always_add_headers)
        add_missing(s, header, &kept);
    copy_fields(s, header, &kept, &hops);
    context = is_ours ? ADDRESS_LOCAL : ADDRESS_REMOTE;
    if (address_has_header_work(service->address, context))
        r = address_rewrite_headers(service->address, context, buf_view(&kept),
                                    out, err);
    else
        (void)buf_slice(out, buf_view(&kept));
    if (r == 0 && (out->overflow || kept.overflow))
        r = err_set(err, ERR_PERM, "5.3.4", "message header is too large");
    buf_done(&kept);
    return r < 0 ? r : check_hops(s, hops, err);
}
