#include "base/base.h"

#include "mail/mail.h"
#include "queue/queue_priv.h"

/*
 * The text of delivery status notifications: RFC 3461 6, RFC 3464, RFC 6533.
 * Subjects, the first line and the shape of "<address>: reason" are those of
 * Postfix, since programs that read bounces know them.
 */

#define WRAP_COLUMN 79
#define WRAP_INDENT 4

/* Text from elsewhere on one line: control bytes become blanks, and bytes
 * above 127 question marks where the part is US-ASCII. */
static void put_clean(struct buf *b, slice s, bool is_utf8)
{
    bool keep = is_utf8 && mail_utf8_valid(s);

    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];

        if (c < ' ' || c == 127)
            (void)buf_byte(b, ' ');
        else
            (void)buf_byte(b, c > 127 && !keep ? '?' : (char)c);
    }
}

/* An address in its external form, on one line whatever it holds. */
static void put_addr(struct buf *b, slice internal, bool is_utf8)
{
    struct buf quoted;

    buf_init(&quoted, 16384);
    (void)mail_addr_quote(&quoted, internal);
    put_clean(b, buf_view(&quoted), is_utf8);
    buf_done(&quoted);
}

/* Break `s` at blanks towards column 79, later lines indented. */
static void put_wrapped(struct buf *b, slice s)
{
    size_t col = 0;
    slice word;
    bool is_first = true;

    while (slice_token(&s, " ", &word)) {
        if (!is_first && col + 1 + word.n > WRAP_COLUMN) {
            (void)buf_printf(b, "\n%*s", WRAP_INDENT, "");
            col = WRAP_INDENT;
        } else if (!is_first) {
            (void)buf_byte(b, ' ');
            col++;
        }
        (void)buf_slice(b, word);
        col += word.n;
        is_first = false;
    }
    (void)buf_byte(b, '\n');
}

/* "smtp; 550 no" is a foreign diagnostic (RFC 3464 2.3.6); other text is ours,
 * whatever stands in it.  *type is empty then. */
static slice split_diag(slice diag, slice *type)
{
    static const char *const types[] = { "smtp", "x-unix" };

    ssize_t at = slice_chr(diag, ';');
    slice t = slice_sub(diag, 0, at < 0 ? 0 : (size_t)at);

    *type = SLICE_NONE;
    for (size_t i = 0; i < ARRAY_LEN(types); i++)
        if (slice_ieqs(t, types[i]))
            *type = t;
    return type->n == 0 ? diag : slice_trim(slice_from(diag, t.n + 1));
}

void dsn_put_reason(struct buf *b, slice diag, slice remote_mta)
{
    slice type;
    slice text = split_diag(diag, &type);
    slice host = remote_mta;
    slice head;

    if (slice_ieqs(type, "smtp") && remote_mta.n > 0) {
        if (slice_cut(&host, ';', &head))
            host = slice_trim(host);
        else
            host = remote_mta;
        (void)buf_printf(b, "host %.*s said: ", SLF(host));
    }
    (void)buf_slice(b, text);
}

const char *dsn_subject(enum dsn_kind kind, bool is_copy)
{
    switch (kind) {
    case DSN_DELAY:
        return is_copy ? "Postmaster Warning: Delayed Mail"
                       : "Delayed Mail (still being retried)";
    case DSN_VERIFY:
        return "Mail Delivery Status Report";
    case DSN_SUCCESS:
        return "Successful Mail Delivery Report";
    case DSN_FAILURE:
    default:
        return is_copy ? "Postmaster Copy: Undelivered Mail"
                       : "Undelivered Mail Returned to Sender";
    }
}

static const char *subject_of(const struct dsn *d)
{
    if (d->is_postmaster_copy && d->copy_subject != NULL)
        return d->copy_subject;
    if (!d->is_postmaster_copy && d->subject != NULL)
        return d->subject;
    return dsn_subject(d->kind, d->is_postmaster_copy);
}

/* A template's sender has no domain, as a rule. */
static void put_from(struct buf *b, const struct dsn *d)
{
    slice rest = d->from != NULL ? slice_str(d->from)
                                 : SL("MAILER-DAEMON (Mail Delivery System)");
    slice name;

    (void)slice_cut(&rest, ' ', &name);
    (void)buf_puts(b, "From: ");
    if (slice_chr(name, '<') >= 0 || slice_chr(rest, '<') >= 0 ||
        slice_chr(name, '@') >= 0)
        put_clean(b, slice_str(d->from), d->is_utf8);
    else
        (void)buf_printf(b, "%.*s@%.*s %.*s", SLF(name), SLF(d->origin),
                         SLF(rest));
    (void)buf_byte(b, '\n');
}

static void put_header(struct buf *b, const struct dsn *d)
{
    put_from(b, d);
    (void)buf_printf(b, "Subject: %s\nTo: ", subject_of(d));
    put_addr(b, d->to, d->is_utf8);
    if (d->references.n > 0) {
        (void)buf_puts(b, "\nReferences: ");
        put_clean(b, d->references, d->is_utf8);
        (void)buf_puts(b, "\nIn-Reply-To: ");
        put_clean(b, d->references, d->is_utf8);
    }
    (void)buf_printf(b,
                     "\nAuto-Submitted: auto-replied\nMIME-Version: 1.0\n"
                     "Content-Type: multipart/report; "
                     "report-type=%sdelivery-status;\n\tboundary=\"%s\"\n",
                     d->is_utf8 ? "global-" : "", d->boundary);
    if (d->is_utf8 || d->is_8bit || !mail_is_ascii(d->text))
        (void)buf_puts(b, "Content-Transfer-Encoding: 8bit\n");
    (void)buf_puts(b, "\nThis is a MIME-encapsulated message.\n");
}

#define TEXT_BEGIN "This is the mail system at host $myhostname.\n\n"
#define TEXT_END                                                               \
 "\nIf you need help, please write to postmaster and include this "            \
 "report.\n\n                   The mail system\n"

const char *dsn_text(enum dsn_kind kind)
{
    switch (kind) {
    case DSN_DELAY:
        return TEXT_BEGIN
            "THIS IS A WARNING ONLY.  YOU DO NOT NEED TO RESEND YOUR "
            "MESSAGE.\n\nYour message has been waiting for more than "
            "$delay_warning_time_hours hour(s) and is not delivered\nto the "
            "address(es) below yet.  Delivery will be tried until the message "
            "is\n$maximal_queue_lifetime_days day(s) old.\n" TEXT_END;
    case DSN_VERIFY:
        return TEXT_BEGIN "This is the report about mail delivery that you "
                          "asked for.\n";
    case DSN_SUCCESS:
        return TEXT_BEGIN
            "As you asked for, this reports that your message was delivered "
            "to, or expanded\nfor, the address(es) below.  Where it went on to "
            "other addresses, reports of\nfailures may still follow."
            "\n" TEXT_END;
    case DSN_FAILURE:
    default:
        return TEXT_BEGIN
            "Your message could not be delivered to the address(es) below and "
            "is returned\nto you; it is attached to this report.\n" TEXT_END;
    }
}

static bool text_name(void *ctx, slice name, struct buf *out)
{
    const struct dsn *d = ctx;

    if (slice_eqs(name, "myhostname"))
        return buf_slice(out, d->hostname);
    return buf_printf(out, "%" PRId64,
                      slice_eqs(name, "delay_warning_time_hours")
                          ? d->delay_warning / 3600000
                          : d->lifetime / 86400000);
}

static void put_intro(struct buf *b, const struct dsn *d)
{
    struct dsn copy = *d;
    struct err err;

    if (d->text.n > 0)
        (void)buf_slice(b, d->text);
    else
        CHECK(conf_expand_with(slice_str(dsn_text(d->kind)), text_name, &copy,
                               b, &err) == 0 ||
              b->overflow);
}

static void put_reason(struct buf *b, const struct dsn *d,
                       const struct dsn_rcpt *r)
{
    struct buf line;
    struct buf text;
    bool has_orig = r->orig.n > 0 && !slice_ieq(r->orig, r->addr);

    buf_init(&line, 16384);
    buf_init(&text, 8192);
    dsn_put_reason(&text, slice_sub(r->diag, 0, 4096),
                   slice_sub(r->remote_mta, 0, 300));
    (void)buf_byte(&line, '<');
    put_clean(&line, r->addr, d->is_utf8);
    if (has_orig) {
        (void)buf_puts(&line, "> (expanded from <");
        put_clean(&line, r->orig, d->is_utf8);
        (void)buf_puts(&line, ">): ");
    } else {
        (void)buf_puts(&line, ">: ");
    }
    put_clean(&line, buf_view(&text), d->is_utf8);
    (void)buf_byte(b, '\n');
    put_wrapped(b, buf_view(&line));
    buf_done(&line);
    buf_done(&text);
}

static void put_text_part(struct buf *b, const struct dsn *d)
{
    (void)buf_printf(b,
                     "\n--%s\nContent-Description: Notification\n"
                     "Content-Type: text/plain; charset=%s\n\n",
                     d->boundary,
                     d->is_utf8                            ? "utf-8"
                     : d->charset != NULL && d->text.n > 0 ? d->charset
                                                           : "us-ascii");
    if (!d->is_postmaster_copy)
        put_intro(b, d);
    for (size_t i = 0; i < d->n_rcpts; i++)
        put_reason(b, d, &d->rcpts[i]);
}

/* RFC 3464 2.1.2: an address in a report is "type; address"; utf-8 by RFC 6533
 * where it holds such bytes. */
static void put_typed(struct buf *b, const char *field, slice addr,
                      bool is_utf8)
{
    const char *type = is_utf8 && !mail_is_ascii(addr) ? "utf-8" : "rfc822";

    (void)buf_printf(b, "%s: %s; ", field, type);
    put_addr(b, addr, is_utf8);
    (void)buf_byte(b, '\n');
}

static void put_date(struct buf *b, const char *field, msec at)
{
    char date[40];

    clock_rfc5322(at / 1000, date);
    (void)buf_printf(b, "%s: %s\n", field, date);
}

static void put_per_message(struct buf *b, const struct dsn *d)
{
    char field[64];

    (void)buf_printf(b,
                     "\n--%s\nContent-Description: Delivery report\n"
                     "Content-Type: message/%sdelivery-status\n\n"
                     "Reporting-MTA: dns; %.*s\n",
                     d->boundary, d->is_utf8 ? "global-" : "",
                     SLF(d->hostname));
    if (d->envid.n > 0) {
        (void)buf_puts(b, "Original-Envelope-Id: ");
        put_clean(b, d->envid, d->is_utf8);
        (void)buf_byte(b, '\n');
    }
    (void)buf_printf(b, "X-%.*s-Queue-ID: %.*s\n", SLF(d->mail_name),
                     SLF(d->queue_id));
    (void)snprintf(field, sizeof(field), "X-%.*s-Sender",
                   SLF(slice_sub(d->mail_name, 0, 40)));
    put_typed(b, field, d->sender, d->is_utf8);
    put_date(b, "Arrival-Date", d->arrival);
}

static void put_diagnostic(struct buf *b, const struct dsn *d, slice diag)
{
    struct buf line;
    slice type;
    slice text = split_diag(diag, &type);

    buf_init(&line, 8192);
    (void)buf_puts(&line, "Diagnostic-Code: ");
    if (type.n > 0)
        (void)buf_printf(&line, "%.*s; ", SLF(type));
    else
        (void)buf_printf(&line, "X-%.*s; ", SLF(d->mail_name));
    put_clean(&line, slice_sub(text, 0, 4096), d->is_utf8);
    put_wrapped(b, buf_view(&line));
    buf_done(&line);
}

static void put_per_rcpt(struct buf *b, const struct dsn *d,
                         const struct dsn_rcpt *r)
{
    (void)buf_byte(b, '\n');
    put_typed(b, "Final-Recipient", r->addr, d->is_utf8);
    if (r->orcpt.n > 0) {
        (void)buf_puts(b, "Original-Recipient: ");
        put_clean(b, r->orcpt, d->is_utf8);
        (void)buf_byte(b, '\n');
    } else {
        put_typed(b, "Original-Recipient", r->orig.n > 0 ? r->orig : r->addr,
                  d->is_utf8);
    }
    (void)buf_printf(b, "Action: %s\nStatus: %.*s\n", r->action,
                     SLF(r->status));
    if (r->remote_mta.n > 0) {
        (void)buf_puts(b, "Remote-MTA: ");
        put_clean(b, slice_sub(r->remote_mta, 0, 300), d->is_utf8);
        (void)buf_byte(b, '\n');
    }
    if (r->diag.n > 0)
        put_diagnostic(b, d, r->diag);
    if (r->last_attempt > 0)
        put_date(b, "Last-Attempt-Date", r->last_attempt);
    if (d->kind == DSN_DELAY)
        put_date(b, "Will-Retry-Until", d->retry_until);
}

static void put_returned(struct buf *b, const struct dsn *d)
{
    const char *what = d->kind == DSN_FAILURE ? "Undelivered Message"
                       : d->kind == DSN_DELAY ? "Delayed Message"
                                              : "Delivered Message";
    const char *type =
        d->is_headers_only
            ? (d->is_utf8 ? "message/global-headers" : "text/rfc822-headers")
            : (d->is_utf8 ? "message/global" : "message/rfc822");

    (void)buf_printf(b, "\n--%s\nContent-Description: %s%s\nContent-Type: %s\n",
                     d->boundary, what, d->is_headers_only ? " Headers" : "",
                     type);
    if (d->is_8bit)
        (void)buf_puts(b, "Content-Transfer-Encoding: 8bit\n");
    (void)buf_puts(b, "\nReturn-Path: <");
    put_addr(b, d->sender, d->is_utf8);
    (void)buf_puts(b, ">\n");
}

bool dsn_put_front(struct buf *b, const struct dsn *d)
{
    put_header(b, d);
    put_text_part(b, d);
    put_per_message(b, d);
    for (size_t i = 0; i < d->n_rcpts; i++)
        put_per_rcpt(b, d, &d->rcpts[i]);
    put_returned(b, d);
    return !b->overflow;
}

bool dsn_put_back(struct buf *b, const struct dsn *d)
{
    return buf_printf(b, "\n--%s--\n", d->boundary);
}
