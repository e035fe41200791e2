/* The text of `hato status` as metrics. */
#include "metrics/metrics.h"

enum kind { GAUGE, COUNTER };

#define NO_LABELS                                                              \
 {                                                                             \
  NULL, NULL                                                                   \
 }

/* `key` is the words in front of the number.  The last `n_labels` words of a
 * line that begins with `key` become values of `labels`; "fixed" is a pair of
 * its own. */
static const struct row {
    const char *process;
    const char *key;
    const char *name; /* without "hato_" */
    enum kind kind;
    const char *help;
    const char *fixed;
    const char *labels[2];
} rows[] = {
    { "master", "up", "uptime_seconds", GAUGE, "Since master started.", "",
      NO_LABELS },
    { "master",
      "died",
      "process_deaths_total",
      COUNTER,
      "Processes that ended by themselves or were killed, and were started "
      "again.",
      "",
      { "type" } },
    { "log", "lines", "log_lines_total", COUNTER, "Lines of the log.", "",
      NO_LABELS },
    { "log", "lost", "log_lost_total", COUNTER,
      "Events that could not be written.", "", NO_LABELS },
    { "log",
      "delivered",
      "deliveries_total",
      COUNTER,
      "Attempts to deliver to a recipient, by who tried and how it ended.",
      "",
      { "transport", "status" } },
    { "log",
      "accepted",
      "messages_accepted_total",
      COUNTER,
      "Messages taken into the queue.",
      "",
      { "service" } },
    { "log",
      "rejected",
      "rejects_total",
      COUNTER,
      "Commands of clients that were refused.",
      "",
      { "service" } },
    { "log",
      "connected",
      "connections_total",
      COUNTER,
      "Connections of clients.",
      "",
      { "service" } },
    { "log",
      "login",
      "logins_total",
      COUNTER,
      "Sign-ins to IMAP and POP3.",
      "",
      { "service" } },
    { "log",
      "tls",
      "tls_sessions_total",
      COUNTER,
      "TLS sessions, in and out, where they are logged.",
      "",
      { "service" } },
    { "log",
      "level",
      "log_trouble_total",
      COUNTER,
      "Lines of the log of warnings and worse.",
      "",
      { "level" } },
    { "qmgr", "messages", "queue_messages", GAUGE, "Messages in the queue.", "",
      NO_LABELS },
    { "qmgr", "active", "queue_active_messages", GAUGE,
      "Messages that are being delivered.", "", NO_LABELS },
    { "qmgr", "waiting", "queue_waiting_messages", GAUGE,
      "Messages that wait for their next attempt.", "", NO_LABELS },
    { "qmgr", "parked", "queue_parked_messages", GAUGE,
      "Messages that wait for room at their destination.", "", NO_LABELS },
    { "qmgr", "active-recipients", "queue_active_recipients", GAUGE,
      "Recipients in memory.", "", NO_LABELS },
    { "qmgr", "destinations-busy", "queue_busy_destinations", GAUGE,
      "Destinations with deliveries under way.", "", NO_LABELS },
    { "qmgr", "destinations-dead", "queue_dead_destinations", GAUGE,
      "Destinations that are not tried for a while.", "", NO_LABELS },
    { "qmgr", "messages-total", "queue_messages_total", COUNTER,
      "Messages that came into the queue.", "", NO_LABELS },
    { "qmgr", "jobs-total", "queue_jobs_total", COUNTER,
      "Deliveries that were handed out.", "", NO_LABELS },
    { "qmgr", "sent-total", "queue_recipients_total", COUNTER,
      "Recipients by what an attempt came to.", "outcome=\"sent\"", NO_LABELS },
    { "qmgr", "deferred-total", "queue_recipients_total", COUNTER, "",
      "outcome=\"deferred\"", NO_LABELS },
    { "qmgr", "bounced-total", "queue_recipients_total", COUNTER, "",
      "outcome=\"bounced\"", NO_LABELS },
    { "qmgr", "expanded-total", "queue_recipients_total", COUNTER, "",
      "outcome=\"expanded\"", NO_LABELS },
    { "qmgr", "notices-total", "queue_notices_total", COUNTER,
      "Reports of delivery that were sent.", "", NO_LABELS },
    { "smtpd", "sessions", "smtpd_sessions", GAUGE, "Open sessions.", "",
      NO_LABELS },
    { "smtpd", "accepted", "smtpd_connections_total", COUNTER,
      "Connections that were accepted.", "", NO_LABELS },
    { "smtpd", "messages", "smtpd_messages_total", COUNTER,
      "Messages that were accepted.", "", NO_LABELS },
    { "lmtpd", "sessions", "lmtpd_sessions", GAUGE, "Open sessions.", "",
      NO_LABELS },
    { "lmtpd", "messages", "lmtpd_messages_total", COUNTER,
      "Messages that came by LMTP.", "", NO_LABELS },
    { "lmtpd", "delivered", "lmtpd_delivered_total", COUNTER,
      "Recipients whose mail was stored.", "", NO_LABELS },
    { "login", "connections", "login_connections", GAUGE,
      "Connections to IMAP and POP3.", "", NO_LABELS },
    { "login", "parked", "login_parked_connections", GAUGE,
      "Idle ones without a process.", "", NO_LABELS },
    { "login", "accepted", "login_connections_total", COUNTER,
      "Connections that were accepted.", "", NO_LABELS },
    { "login", "signed in", "login_signed_in_total", COUNTER,
      "Connections that signed in.", "", NO_LABELS },
    { "broker", "workers", "mailbox_workers", GAUGE,
      "Processes that hold mailboxes.", "", NO_LABELS },
    { "broker", "sessions", "sessions", GAUGE, "Signed-in sessions.", "",
      NO_LABELS },
    { "broker",
      "syncs",
      "mail_syncs_total",
      COUNTER,
      "Syncs of file systems with mail.",
      "",
      { "fs" } },
    { "broker",
      "synced",
      "mail_synced_total",
      COUNTER,
      "Deliveries and changes that these made durable.",
      "",
      { "fs" } },
    { "broker",
      "failed",
      "mail_sync_failures_total",
      COUNTER,
      "Syncs that failed.",
      "",
      { "fs" } },
    { "auth", "sign-ins good", "auth_total", COUNTER, "Checked sign-ins.",
      "result=\"good\"", NO_LABELS },
    { "auth", "refused", "auth_total", COUNTER, "", "result=\"refused\"",
      NO_LABELS },
    { "auth", "failed", "auth_total", COUNTER, "", "result=\"failed\"",
      NO_LABELS },
    { "tables", "lookups", "tables_lookups_total", COUNTER,
      "Lookups that the process tables did.", "", NO_LABELS },
    { "tables", "failed", "tables_failures_total", COUNTER,
      "Those that failed.", "", NO_LABELS },
    { "local", "deliveries under way", "local_deliveries", GAUGE,
      "Local deliveries under way.", "", NO_LABELS },
    { "local", "done", "local_deliveries_total", COUNTER,
      "Local deliveries that ended.", "", NO_LABELS },
    { "smtp", "deliveries under way", "smtp_deliveries", GAUGE,
      "Deliveries to other hosts under way.", "", NO_LABELS },
    { "smtp", "done", "smtp_deliveries_total", COUNTER,
      "Deliveries to other hosts that ended.", "", NO_LABELS },
    { "smtp", "connections made", "smtp_connections_total", COUNTER,
      "Connections to other hosts.", "", NO_LABELS },
    { "smtp", "used again", "smtp_connections_reused_total", COUNTER,
      "Deliveries over a connection that was open.", "", NO_LABELS },
    { "smtp", "idle connections", "smtp_idle_connections", GAUGE,
      "Open connections without work.", "", NO_LABELS },
    { "resolver", "dns questions", "dns_questions_total", COUNTER,
      "Questions of other processes.", "", NO_LABELS },
    { "resolver", "dns found", "dns_answers_total", COUNTER,
      "Answers of the resolver, by what they say.", "result=\"found\"",
      NO_LABELS },
    { "resolver", "dns nothing", "dns_answers_total", COUNTER, "",
      "result=\"nothing\"", NO_LABELS },
    { "resolver", "dns failed", "dns_answers_total", COUNTER, "",
      "result=\"failed\"", NO_LABELS },
    { "resolver", "dns bogus", "dns_bogus_total", COUNTER,
      "Failed ones that DNSSEC disproves.", "", NO_LABELS },
    { "resolver", "dns waiting", "dns_waiting", GAUGE,
      "Questions without an answer yet.", "", NO_LABELS },
    { "resolver", "dns validating", "dns_validating", GAUGE,
      "Whether answers are validated.", "", NO_LABELS },
};

/* ---- the status text */

struct fact {
    slice process; /* "smtpd" */
    slice slot;    /* "0", or empty */
    slice key;     /* words */
    slice value;
};

typedef void fact_fn(void *arg, const struct fact *f);

static bool is_number(slice s)
{
    uint64_t n;

    return slice_u64(s, &n);
}

/* "words 12" or "words: 12" */
static bool parse_pair(slice item, struct fact *f)
{
    ssize_t at;

    item = slice_trim(item);
    at = slice_rchr(item, ' ');
    if (at <= 0 || !is_number(slice_from(item, (size_t)at + 1)))
        return false;
    f->value = slice_from(item, (size_t)at + 1);
    f->key = slice_rtrim(slice_sub(item, 0, (size_t)at));
    if (f->key.n > 0 && f->key.p[f->key.n - 1] == ':')
        f->key.n--;
    return f->key.n > 0;
}

/* "fe01: 12 syncs for 20, 0 failed": in the order of the words below. */
static void parse_fs(slice text, const struct fact *of, fact_fn *fn, void *arg)
{
    static const char *const names[] = { "syncs", "synced", "failed" };
    struct fact f = *of;
    slice fs, word;
    size_t n = 0;
    char key[64];

    if (!slice_cut(&text, ':', &fs))
        return;
    while (n < ARRAY_LEN(names) && slice_token(&text, " ,", &word)) {
        if (!is_number(word))
            continue;
        (void)snprintf(key, sizeof key, "%s %.*s", names[n++],
                       (int)min_size(fs.n, 40), fs.p);
        f.key = slice_str(key);
        f.value = word;
        fn(arg, &f);
    }
}

static void each_item(slice line, struct fact *f, fact_fn *fn, void *arg)
{
    size_t begin = 0;

    if (slice_starts(line, SL("fs "))) {
        parse_fs(slice_from(line, 3), f, fn, arg);
        return;
    }
    for (size_t i = 0; i <= line.n; i++) {
        if (i < line.n && strchr(",;()", line.p[i]) == NULL)
            continue;
        if (parse_pair(slice_sub(line, begin, i - begin), f))
            fn(arg, f);
        begin = i + 1;
    }
}

/* "smtpd/0 pid 12 ready, up 7 s" */
static void parse_head(slice line, struct fact *f, fact_fn *fn, void *arg)
{
    ssize_t up = slice_find(line, SL(", up "));
    slice rest = line, value;

    if (slice_find(line, SL(" pid ")) < 0)
        return; /* more of master's */
    f->slot = SLICE_NONE;
    (void)slice_cut(&rest, ' ', &f->process);
    if (slice_chr(f->process, '/') >= 0) {
        f->slot = f->process;
        (void)slice_cut(&f->slot, '/', &f->process);
    }
    if (up < 0 || slice_find(line, SL(" draining,")) >= 0) {
        /* One that a reload replaced: its successor counts. */
        f->process = SLICE_NONE;
        return;
    }
    value = slice_from(line, (size_t)up + 5);
    f->key = SL("up");
    if (slice_token(&value, " ", &f->value) && is_number(f->value))
        fn(arg, f);
}

static void each_fact(slice status, fact_fn *fn, void *arg)
{
    struct fact f = { 0 };
    slice line;

    while (status.n > 0) {
        (void)slice_cut(&status, '\n', &line);
        if (line.n > 0 && line.p[0] != ' ')
            parse_head(line, &f, fn, arg);
        else if (f.process.n > 0)
            each_item(slice_trim(line), &f, fn, arg);
    }
}

/* ---- samples */

struct sample {
    const struct row *row;
    struct buf *out;
    bool has_head;
};

static size_t n_labels(const struct row *r)
{
    return r->labels[0] == NULL ? 0 : r->labels[1] == NULL ? 1 : 2;
}

/* The label values behind the key's words; false when the fact is not of this
 * row. */
static bool match(const struct row *r, slice key, slice values[2])
{
    size_t n = n_labels(r);
    slice rest = slice_from(key, strlen(r->key));

    if (!slice_starts(key, slice_str(r->key)))
        return false;
    for (size_t i = 0; i < n; i++)
        if (!slice_token(&rest, " ", &values[i]))
            return false;
    return slice_trim(rest).n == 0;
}

static void put_label(struct buf *out, const char *name, slice value,
                      bool *is_first)
{
    (void)buf_printf(out, "%s%s=\"", *is_first ? "{" : ",", name);
    for (size_t i = 0; i < value.n; i++)
        (void)buf_byte(out,
                       (char)(value.p[i] > ' ' && value.p[i] < 0x7f &&
                                      value.p[i] != '"' && value.p[i] != '\\'
                                  ? value.p[i]
                                  : '_'));
    (void)buf_byte(out, '"');
    *is_first = false;
}

static void put_sample(void *arg, const struct fact *f)
{
    struct sample *s = arg;
    const struct row *r = s->row;
    slice values[2] = { SLICE_NONE, SLICE_NONE };
    bool is_first = true;

    if (!slice_eqs(f->process, r->process) || !match(r, f->key, values))
        return;
    if (!s->has_head)
        (void)buf_printf(s->out, "# HELP hato_%s %s\n# TYPE hato_%s %s\n",
                         r->name, r->help, r->name,
                         r->kind == COUNTER ? "counter" : "gauge");
    s->has_head = true;
    (void)buf_printf(s->out, "hato_%s", r->name);
    if (f->slot.n > 0)
        put_label(s->out, "slot", f->slot, &is_first);
    for (size_t i = 0; i < n_labels(r); i++)
        put_label(s->out, r->labels[i], values[i], &is_first);
    if (r->fixed[0] != '\0') {
        (void)buf_printf(s->out, "%s%s", is_first ? "{" : ",", r->fixed);
        is_first = false;
    }
    (void)buf_printf(s->out, "%s %.*s\n", is_first ? "" : "}", SLF(f->value));
}

static void put_process(void *arg, const struct fact *f)
{
    struct sample *s = arg;
    bool is_first = true;

    if (!slice_eqs(f->key, "up") || slice_eqs(f->process, "master"))
        return;
    if (!s->has_head)
        (void)buf_puts(s->out, "# HELP hato_process_uptime_seconds Since a "
                               "process started.\n"
                               "# TYPE hato_process_uptime_seconds gauge\n");
    s->has_head = true;
    (void)buf_puts(s->out, "hato_process_uptime_seconds");
    put_label(s->out, "type", f->process, &is_first);
    if (f->slot.n > 0)
        put_label(s->out, "slot", f->slot, &is_first);
    (void)buf_printf(s->out, "} %.*s\n", SLF(f->value));
}

void metrics_render(slice status, struct buf *out)
{
    struct sample s = { .out = out };

    (void)buf_printf(out, "# HELP hato_info The release.\n"
                          "# TYPE hato_info gauge\n"
                          "hato_info{version=\"" HATO_VERSION "\"} 1\n");
    each_fact(status, put_process, &s);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        s.row = &rows[i];
        /* Rows of one name follow each other, under one head. */
        s.has_head =
            s.has_head && i > 0 && strcmp(rows[i].name, rows[i - 1].name) == 0;
        each_fact(status, put_sample, &s);
    }
}
