#include "base/clock.h"
#include "log/log.h"

static const char months[12][4] = { "Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                    "Jul", "Aug", "Sep", "Oct", "Nov", "Dec" };

void log_settings_read(struct log_settings *s, const struct conf *c)
{
    const char *format = conf_str(c, NULL, "hato_log_format");
    char host[64] = "";
    char *dot;

    memset(s, 0, sizeof *s);
    s->format = strcmp(format, "json") == 0     ? LOG_JSON
                : strcmp(format, "logfmt") == 0 ? LOG_LOGFMT
                                                : LOG_POSTFIX;
    (void)snprintf(s->tag, sizeof s->tag, "%s",
                   conf_str(c, NULL, "syslog_name"));
    if (gethostname(host, sizeof host - 1) < 0 || host[0] == '\0')
        (void)snprintf(host, sizeof host, "%s",
                       conf_str(c, NULL, "myhostname"));
    dot = strchr(host, '.');
    if (dot != NULL)
        *dot = '\0';
    memcpy(s->host, host, sizeof s->host);
    s->facility = 2 << 3;
}

/* "Nov  1 18:05:35": local time, as syslogd writes it. */
static void put_date(struct buf *b, int64_t usec)
{
    static int64_t last_sec = -1;
    static char last[32];
    static size_t last_n;
    int64_t sec = usec / 1000000;
    struct civil c;

    if (sec != last_sec) {
        int n;

        clock_local(sec, &c);
        n = snprintf(last, sizeof last, "%s %2d %02d:%02d:%02d",
                     months[(unsigned)(c.month - 1) % 12], c.day, c.hour, c.min,
                     c.sec);
        last_n = n > 0 ? min_size((size_t)n, sizeof last - 1) : 0;
        last_sec = sec;
    }
    buf_put(b, last, last_n);
}

/* What is of Dovecot's programs is named as Dovecot names it, which scripts and
 * fail2ban's filters look for. */
static bool is_of_dovecot(slice service)
{
    static const char *const names[] = { "auth", "imap-login", "pop3-login" };

    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (slice_eqs(service, names[i]))
            return true;
    return false;
}

/* Sessions, whose text begins with "imap(user)<pid><session>: ". */
static bool names_itself(slice service)
{
    return slice_eqs(service, "imap") || slice_eqs(service, "pop3") ||
           slice_eqs(service, "lmtpd");
}

static void put_tag(struct buf *b, const struct log_settings *s,
                    const struct event *e)
{
    if (is_of_dovecot(e->service)) {
        buf_printf(b, "dovecot[%d]: %.*s: ", (int)e->pid, SLF(e->service));
        return;
    }
    if (names_itself(e->service)) {
        buf_printf(b, "dovecot[%d]: ", (int)e->pid);
        return;
    }
    buf_printf(b, "%s/%.*s[%d]: ", s->tag, SLF(e->service), (int)e->pid);
}

void log_line(struct buf *b, const struct log_settings *s,
              const struct event *e)
{
    switch (s->format) {
    case LOG_POSTFIX:
        put_date(b, e->wall_usec);
        buf_printf(b, " %s ", s->host);
        put_tag(b, s, e);
        event_render_postfix(b, e);
        break;
    case LOG_JSON:
        event_render_json(b, e);
        break;
    case LOG_LOGFMT:
        event_render_logfmt(b, e);
        break;
    }
    buf_byte(b, '\n');
}

void log_syslog_line(struct buf *b, const struct log_settings *s,
                     const struct event *e)
{
    static const int severity[] = { 2, 2, 3, 4, 6, 7 };

    buf_printf(b, "<%d>", s->facility | severity[e->level]);
    put_date(b, e->wall_usec);
    buf_byte(b, ' ');
    put_tag(b, s, e);
    if (s->format == LOG_JSON)
        event_render_json(b, e);
    else if (s->format == LOG_LOGFMT)
        event_render_logfmt(b, e);
    else
        event_render_postfix(b, e);
}
