#include "fetch/libs.h"
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

#define js fetch_json

/* Of what is not UTF-8 only what is ASCII. */
static json_t *text(slice s)
{
    json_t *out = js.stringn(s.p, s.n);
    char *copy;

    if (out != NULL)
        return out;
    copy = slice_xstrdup(s);
    for (size_t i = 0; i < s.n; i++)
        if (copy[i] < ' ' || copy[i] >= 0x7f)
            copy[i] = '?';
    out = js.stringn(copy, s.n);
    free(copy);
    return out;
}

static void put(json_t *o, const char *name, json_t *value)
{
    (void)js.object_set_new(o, name, value);
}

static void put_text(json_t *o, const char *name, const char *value)
{
    put(o, name, text(slice_str(value)));
}

json_t *report_new(const struct report_names *n)
{
    json_t *out = js.object(), *range = js.object();

    put_text(out, "organization-name", n->submitter);
    put_text(range, "start-datetime", n->from);
    put_text(range, "end-datetime", n->until);
    put(out, "date-range", range);
    put_text(out, "contact-info", n->sender);
    put_text(out, "report-id", n->id);
    put(out, "policies", js.array());
    return out;
}

static json_t *lines_of(slice lines)
{
    json_t *out = js.array();
    slice line;

    while (lines.n > 0) {
        (void)slice_cut(&lines, '\n', &line);
        line = slice_trim(line);
        if (line.n > 0)
            (void)js.array_append_new(out, text(line));
    }
    return out;
}

/* RFC 8460 4.4: the patterns of an STS policy. */
static void put_hosts(json_t *policy, const struct counted *c)
{
    struct sts_policy *p = xcalloc(1, sizeof *p);

    if (strcmp(c->kind, "sts") == 0 && sts_parse(slice_str(c->lines), p)) {
        json_t *hosts = js.array();

        for (size_t i = 0; i < p->n_mx; i++)
            (void)js.array_append_new(hosts, text(p->mx[i]));
        put(policy, "mx-host", hosts);
    }
    free(p);
}

static json_t *policy_of(const struct counted *c)
{
    json_t *out = js.object();

    put_text(out, "policy-type", c->kind);
    if (c->lines[0] != '\0')
        put(out, "policy-string", lines_of(slice_str(c->lines)));
    put_text(out, "policy-domain", c->domain);
    put_hosts(out, c);
    return out;
}

static json_t *failure_of(const struct failure *f)
{
    json_t *out = js.object();

    put_text(out, "result-type", f->type);
    if (f->local[0] != '\0')
        put_text(out, "sending-mta-ip", f->local);
    put_text(out, "receiving-mx-hostname", f->remote);
    if (f->addr[0] != '\0')
        put_text(out, "receiving-ip", f->addr);
    if (f->text[0] != '\0')
        put_text(out, "failure-reason-code", f->text);
    put(out, "failed-session-count", js.integer((json_int_t)f->n));
    return out;
}

void report_add(json_t *report, const struct counted *c)
{
    json_t *one = js.object(), *sum = js.object(), *failures;

    put(one, "policy", policy_of(c));
    put(sum, "total-successful-session-count",
        js.integer((json_int_t)c->n_good));
    put(sum, "total-failure-session-count",
        js.integer((json_int_t)c->n_failed));
    put(one, "summary", sum);
    if (c->n_failures > 0) {
        failures = js.array();
        list_each(it, &c->failures)
            (void)js.array_append_new(
                failures, failure_of(CONTAINER_OF(it, struct failure, link)));
        put(one, "failure-details", failures);
    }
    (void)js.array_append_new(js.object_get(report, "policies"), one);
}

static int on_text(const char *p, size_t n, void *arg)
{
    return buf_put(arg, p, n) ? 0 : -1;
}

bool report_write(json_t *report, struct buf *out)
{
    bool ok = report != NULL &&
              js.dump_callback(report, on_text, out,
                               JSON_COMPACT | JSON_ENSURE_ASCII) == 0;

    /* It is ours alone, so there is no count to look at. */
    if (report != NULL)
        js.delete(report);
    return ok;
}

/* ---- gzip */

#define WINDOW_GZIP (15 + 16) /* deflateInit2(): a gzip header and trailer */

bool report_gzip(slice in, struct buf *out)
{
    Bytef room[1024];
    z_stream z = { .next_in = (const Bytef *)in.p, .avail_in = (uInt)in.n };
    int rc = Z_OK;

    if (in.n > UINT32_MAX ||
        fetch_zlib.init2(&z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, WINDOW_GZIP, 8,
                         Z_DEFAULT_STRATEGY, ZLIB_VERSION,
                         (int)sizeof z) != Z_OK)
        return false;
    while (rc == Z_OK) {
        z.next_out = room;
        z.avail_out = sizeof room;
        rc = fetch_zlib.deflate(&z, Z_FINISH);
        (void)buf_put(out, room, sizeof room - z.avail_out);
    }
    (void)fetch_zlib.end(&z);
    return rc == Z_STREAM_END && !out->overflow;
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
