#include "base/clock.h"
#include "ipc/event.h"

static const char *const level_names[] = { "panic",   "fatal", "error",
                                           "warning", "info",  "trace" };

/* Length of the well-formed UTF-8 sequence at p (RFC 3629 4), or 0. */
static size_t utf8_len(const uint8_t *p, size_t n)
{
    size_t len = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;

    if (p[0] < 0xc2 || p[0] > 0xf4 || len > n)
        return 0;
    for (size_t i = 1; i < len; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) ||
        (p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f))
        return 0;
    if (p[0] == 0xc2 && p[1] < 0xa0) /* C1 control characters */
        return 0;
    return len;
}

/* `quote`: put a backslash before quotes and backslashes. */
static void put_clean(struct buf *b, slice s, bool quote)
{
    const uint8_t *p = (const uint8_t *)s.p;
    size_t i = 0;

    while (i < s.n) {
        size_t n = p[i] < 0x80 ? 1 : utf8_len(p + i, s.n - i);

        if (n == 0 || p[i] < ' ' || p[i] == 0x7f) {
            buf_byte(b, '?');
            n = 1;
        } else {
            if (quote && (p[i] == '"' || p[i] == '\\'))
                buf_byte(b, '\\');
            buf_put(b, p + i, n);
        }
        i += n;
    }
}

static size_t put_digits(char *dst, uint64_t v)
{
    char tmp[24];
    int n = snprintf(tmp, sizeof tmp, "%" PRIu64, v);

    memcpy(dst, tmp, (size_t)n);
    return (size_t)n;
}

size_t event_format_ms(int64_t ms, char out[static 24])
{
    uint64_t v = ms > 0 ? (uint64_t)ms : 0;
    uint64_t unit; /* two significant digits, at most two behind the point */
    uint64_t hundredths;
    size_t n;

    unit = v >= 10000 ? 1000 : v >= 1000 ? 100 : 10;
    v = (v + unit / 2) / unit * unit;
    n = put_digits(out, v / 1000);
    hundredths = v % 1000 / 10;
    if (hundredths > 0) {
        out[n++] = '.';
        out[n++] = (char)('0' + hundredths / 10);
        if (hundredths % 10 > 0)
            out[n++] = (char)('0' + hundredths % 10);
    }
    out[n] = '\0';
    return n;
}

/* The value alone; `quote` as for put_clean(). */
static void put_value(struct buf *b, const struct ev_field *f, bool quote)
{
    char ms[24];

    switch (f->type) {
    case EVT_STR:
    case EVT_TAIL:
    case EVT_ADDR:
        put_clean(b, f->str, quote);
        break;
    case EVT_U64:
        buf_printf(b, "%" PRIu64, (uint64_t)f->num);
        break;
    case EVT_I64:
        buf_printf(b, "%" PRId64, f->num);
        break;
    case EVT_MS:
        buf_put(b, ms, event_format_ms(f->num, ms));
        break;
    case EVT_SECRET:
        buf_puts(b, "***");
        break;
    }
}

void event_render_postfix(struct buf *b, const struct event *e)
{
    const char *sep = "";

    if (e->level < EV_INFO)
        buf_printf(b, "%s: ", level_names[e->level]);
    if (e->queue_id.n > 0) {
        put_clean(b, e->queue_id, false);
        buf_puts(b, ": ");
    }
    for (size_t i = 0; i < e->n_fields; i++) {
        const struct ev_field *f = &e->fields[i];

        if (f->type == EVT_TAIL) {
            buf_puts(b, sep[0] != '\0' ? " " : "");
            put_value(b, f, false);
            sep = " ";
            continue;
        }
        buf_puts(b, sep);
        put_clean(b, slice_str(f->key), false);
        buf_puts(b, f->type == EVT_ADDR ? "=<" : "=");
        put_value(b, f, false);
        buf_puts(b, f->type == EVT_ADDR ? ">" : "");
        sep = ", ";
    }
}

static void put_time(struct buf *b, int64_t usec)
{
    struct civil c;

    clock_utc(usec / 1000000, &c);
    buf_printf(b, "%04d-%02d-%02dT%02d:%02d:%02d.%06dZ", c.year, c.month, c.day,
               c.hour, c.min, c.sec, (int)(usec % 1000000));
}

/* One shape for both: `open`..`close` around each pair. */
struct pair_style {
    const char *before_key;
    const char *after_key;
    bool bare; /* values without odd characters need no quotes */
};

static const struct pair_style json_style = { ",\"", "\":", false };
static const struct pair_style logfmt_style = { " ", "=", true };

static bool is_plain(slice s)
{
    for (size_t i = 0; i < s.n; i++)
        if ((uint8_t)s.p[i] <= ' ' || s.p[i] == '"' || s.p[i] == '=' ||
            s.p[i] == '\\' || (uint8_t)s.p[i] >= 0x7f)
            return false;
    return s.n > 0;
}

static void put_pair(struct buf *b, const struct pair_style *style,
                     const struct ev_field *f)
{
    bool is_number =
        f->type == EVT_U64 || f->type == EVT_I64 || f->type == EVT_MS;
    bool quote = !is_number &&
                 !(style->bare && (f->type == EVT_SECRET || is_plain(f->str)));

    buf_puts(b, style->before_key);
    put_clean(b, slice_str(f->type == EVT_TAIL ? "text" : f->key), true);
    buf_puts(b, style->after_key);
    buf_puts(b, quote ? "\"" : "");
    put_value(b, f, quote);
    buf_puts(b, quote ? "\"" : "");
}

static void put_head(struct buf *b, const struct pair_style *style,
                     const struct event *e)
{
    struct ev_field head[] = {
        ev_str("level", slice_str(level_names[e->level])),
        ev_str("service", e->service),
        ev_u64("pid", (uint64_t)e->pid),
        ev_str("event", e->name),
        ev_str("queue_id", e->queue_id),
    };

    for (size_t i = 0; i < ARRAY_LEN(head); i++)
        if (head[i].type == EVT_U64 || head[i].str.n > 0)
            put_pair(b, style, &head[i]);
    for (size_t i = 0; i < e->n_fields; i++)
        put_pair(b, style, &e->fields[i]);
}

void event_render_json(struct buf *b, const struct event *e)
{
    buf_puts(b, "{\"time\":\"");
    put_time(b, e->wall_usec);
    buf_byte(b, '"');
    put_head(b, &json_style, e);
    buf_byte(b, '}');
}

void event_render_logfmt(struct buf *b, const struct event *e)
{
    buf_puts(b, "time=");
    put_time(b, e->wall_usec);
    put_head(b, &logfmt_style, e);
}
