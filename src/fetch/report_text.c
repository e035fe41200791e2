#include "fetch/report.h"

#include "base/digest.h"

#define DAY_S 86400

/* ---- names and times */

static void put_time(int64_t s, char out[static 32])
{
    struct civil c;

    clock_utc(s, &c);
    (void)snprintf(out, 32, "%04d-%02d-%02dT%02d:%02d:%02dZ", c.year % 10000,
                   c.month % 100, c.day % 100, c.hour % 100, c.min % 100,
                   c.sec % 100);
}

void report_names_init(struct report_names *n, const struct conf *c,
                       slice domain, int64_t day)
{
    uint32_t r;

    random_bytes(&r, sizeof r);
    n->from_s = day * DAY_S;
    n->until_s = n->from_s + DAY_S - 1;
    put_time(n->from_s, n->from);
    put_time(n->until_s, n->until);
    (void)slice_copy_to(domain, n->domain, sizeof n->domain);
    (void)snprintf(n->submitter, sizeof n->submitter, "%s",
                   conf_str(c, NULL, "mydomain"));
    (void)snprintf(n->sender, sizeof n->sender, "%s",
                   conf_str(c, NULL, "smtp_tls_reporting_sender"));
    (void)snprintf(n->id, sizeof n->id, "%.10s.%08x@%s", n->from, r,
                   conf_str(c, NULL, "myhostname"));
}

/* ---- JSON */

static void put_string(struct buf *out, slice s)
{
    (void)buf_byte(out, '"');
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];

        if (c == '"' || c == '\\')
            (void)buf_printf(out, "\\%c", c);
        else if (c < ' ' || c >= 0x7f)
            (void)buf_printf(out, "\\u%04x", c);
        else
            (void)buf_byte(out, (char)c);
    }
    (void)buf_byte(out, '"');
}

static void put_field(struct buf *out, const char *name, const char *value,
                      const char *then)
{
    (void)buf_printf(out, "\"%s\":", name);
    put_string(out, slice_str(value));
    (void)buf_puts(out, then);
}

void report_begin(const struct report_names *n, struct buf *out)
{
    (void)buf_byte(out, '{');
    put_field(out, "organization-name", n->submitter, ",");
    (void)buf_puts(out, "\"date-range\":{");
    put_field(out, "start-datetime", n->from, ",");
    put_field(out, "end-datetime", n->until, "},");
    put_field(out, "contact-info", n->sender, ",");
    put_field(out, "report-id", n->id, ",");
    (void)buf_puts(out, "\"policies\":[");
}

static void put_lines(struct buf *out, slice lines)
{
    bool has_more = false;
    slice line;

    (void)buf_puts(out, "\"policy-string\":[");
    while (lines.n > 0) {
        (void)slice_cut(&lines, '\n', &line);
        line = slice_trim(line);
        if (line.n == 0)
            continue;
        if (has_more)
            (void)buf_byte(out, ',');
        has_more = true;
        put_string(out, line);
    }
    (void)buf_puts(out, "],");
}

/* RFC 8460 4.4: the patterns of an STS policy. */
static void put_hosts(struct buf *out, const struct counted *c)
{
    struct sts_policy *p = xcalloc(1, sizeof *p);

    if (strcmp(c->kind, "sts") == 0 && sts_parse(slice_str(c->lines), p)) {
        (void)buf_puts(out, ",\"mx-host\":[");
        for (size_t i = 0; i < p->n_mx; i++) {
            if (i > 0)
                (void)buf_byte(out, ',');
            put_string(out, p->mx[i]);
        }
        (void)buf_byte(out, ']');
    }
    free(p);
}

static void put_failure(struct buf *out, const struct failure *f)
{
    (void)buf_byte(out, '{');
    put_field(out, "result-type", f->type, ",");
    if (f->local[0] != '\0')
        put_field(out, "sending-mta-ip", f->local, ",");
    put_field(out, "receiving-mx-hostname", f->remote, ",");
    if (f->addr[0] != '\0')
        put_field(out, "receiving-ip", f->addr, ",");
    if (f->text[0] != '\0')
        put_field(out, "failure-reason-code", f->text, ",");
    (void)buf_printf(out, "\"failed-session-count\":%llu}",
                     (unsigned long long)f->n);
}

void report_policy(const struct counted *c, bool has_more, struct buf *out)
{
    bool more = false;

    (void)buf_puts(out, has_more ? ",{\"policy\":{" : "{\"policy\":{");
    put_field(out, "policy-type", c->kind, ",");
    if (c->lines[0] != '\0')
        put_lines(out, slice_str(c->lines));
    put_field(out, "policy-domain", c->domain, "");
    put_hosts(out, c);
    (void)buf_printf(out,
                     "},\"summary\":{\"total-successful-session-count\":%llu,"
                     "\"total-failure-session-count\":%llu}",
                     (unsigned long long)c->n_good,
                     (unsigned long long)c->n_failed);
    if (c->n_failures > 0) {
        (void)buf_puts(out, ",\"failure-details\":[");
        list_each(it, &c->failures) {
            if (more)
                (void)buf_byte(out, ',');
            more = true;
            put_failure(out, CONTAINER_OF(it, struct failure, link));
        }
        (void)buf_byte(out, ']');
    }
    (void)buf_byte(out, '}');
}

void report_end(struct buf *out)
{
    (void)buf_puts(out, "]}");
}

/* ---- gzip with stored blocks (RFC 1951 3.2.4) */

static uint32_t crc32_of(slice s)
{
    uint32_t crc = 0xffffffff;

    for (size_t i = 0; i < s.n; i++) {
        crc ^= (unsigned char)s.p[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
    }
    return ~crc;
}

bool report_gzip(slice in, struct buf *out)
{
    static const char head[10] = { 0x1f, (char)0x8b, 8, 0, 0, 0, 0, 0, 0, 3 };
    uint32_t crc = crc32_of(in), size = (uint32_t)in.n;

    (void)buf_put(out, head, sizeof head);
    do {
        slice part = slice_sub(in, 0, 65535);

        in = slice_from(in, part.n);
        (void)buf_byte(out, in.n == 0);
        (void)buf_u16(out, (uint16_t)part.n);
        (void)buf_u16(out, (uint16_t)~part.n);
        (void)buf_slice(out, part);
    } while (in.n > 0);
    (void)buf_u32(out, crc);
    return buf_u32(out, size);
}

/* ---- mail (RFC 8460 5.3) */

static void put_base64(slice in, struct buf *out)
{
    while (in.n > 0) {
        slice part = slice_sub(in, 0, 57);

        (void)base64_put(out, part);
        (void)buf_byte(out, '\n');
        in = slice_from(in, part.n);
    }
}

void report_mail(const struct report_names *n, slice gzip, slice to,
                 struct buf *head, struct buf *body)
{
    char date[40];

    clock_rfc5322(clock_wall() / 1000, date);
    (void)buf_printf(head,
                     "From: <%s>\nTo: <%.*s>\nDate: %s\nMessage-ID: <%s>\n"
                     "Subject: Report Domain: %s Submitter: %s Report-ID: "
                     "<%s>\nTLS-Report-Domain: %s\nTLS-Report-Submitter: %s\n"
                     "TLS-Required: No\nAuto-Submitted: auto-generated\n"
                     "MIME-Version: 1.0\nContent-Type: multipart/report; "
                     "report-type=\"tlsrpt\";\n boundary=\"=_tlsrpt\"\n",
                     n->sender, SLF(to), date, n->id, n->domain, n->submitter,
                     n->id, n->domain, n->submitter);
    (void)buf_printf(
        body,
        "\n--=_tlsrpt\nContent-Type: text/plain; charset=us-ascii\n\n"
        "This is a report on TLS of mail from %s to %s\n"
        "from %s until %s.\n\n--=_tlsrpt\n"
        "Content-Type: application/tlsrpt+gzip\n"
        "Content-Transfer-Encoding: base64\nContent-Disposition: attachment;\n"
        " filename=\"%s!%s!%lld!%lld.json.gz\"\n\n",
        n->submitter, n->domain, n->from, n->until, n->submitter, n->domain,
        (long long)n->from_s, (long long)n->until_s);
    put_base64(gzip, body);
    (void)buf_puts(body, "\n--=_tlsrpt--\n");
}

/* ---- records */

slice report_places(slice txt)
{
    slice field, name;

    while (txt.n > 0) {
        (void)slice_cut(&txt, ';', &field);
        field = slice_trim(field);
        if (slice_cut(&field, '=', &name) &&
            slice_ieqs(slice_trim(name), "rua"))
            return slice_trim(field);
    }
    return SLICE_NONE;
}

static int hex_of(char c)
{
    if (ascii_isdigit(c))
        return c - '0';
    c = ascii_lower(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

slice report_address(struct arena *a, slice uri)
{
    ssize_t end = slice_chr(uri, '?');
    char *out;
    size_t n = 0;

    if (end >= 0)
        uri = slice_sub(uri, 0, (size_t)end);
    out = arena_alloc(a, uri.n + 1);
    if (out == NULL || uri.n > 320)
        return SLICE_NONE;
    for (size_t i = 0; i < uri.n; i++) {
        int c = (unsigned char)uri.p[i];

        if (c == '%' && i + 2 < uri.n && hex_of(uri.p[i + 1]) >= 0 &&
            hex_of(uri.p[i + 2]) >= 0) {
            c = hex_of(uri.p[i + 1]) * 16 + hex_of(uri.p[i + 2]);
            i += 2;
        }
        if (c <= ' ' || c >= 0x7f || c == '<' || c == '>' || c == '"')
            return SLICE_NONE;
        out[n++] = (char)c;
    }
    return slice_chr(slice_of(out, n), '@') > 0 ? slice_of(out, n) : SLICE_NONE;
}
