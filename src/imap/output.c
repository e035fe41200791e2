/* Responses: collected in work->out, sent in large pieces. */
#include "imap/imap_priv.h"

#include "mail/date.h"

void imap_say(struct imap_session *s, slice v)
{
    buf_slice(imap_out(s), v);
}

void imap_says(struct imap_session *s, const char *v)
{
    buf_put(imap_out(s), v, strlen(v));
}

void imap_u64(struct buf *b, uint64_t n)
{
    char digits[20];
    size_t at = sizeof digits;

    do
        digits[--at] = (char)('0' + n % 10);
    while ((n /= 10) > 0);
    buf_put(b, digits + at, sizeof digits - at);
}

void imap_say_u64(struct imap_session *s, uint64_t n)
{
    imap_u64(imap_out(s), n);
}

/* Can it stand between quotes?  Long ones, line ends and 8-bit cannot. */
static bool is_quotable(slice v)
{
    if (v.n > 1000)
        return false;
    for (size_t i = 0; i < v.n; i++) {
        unsigned char ch = (unsigned char)v.p[i];

        if (ch >= 0x80 || ch == '\r' || ch == '\n' || ch == '\0')
            return false;
    }
    return true;
}

void imap_say_string(struct imap_session *s, slice v)
{
    struct buf *out = imap_out(s);

    if (!is_quotable(v)) {
        buf_byte(out, '{');
        imap_u64(out, v.n);
        buf_puts(out, "}\r\n");
        buf_slice(out, v);
        return;
    }
    buf_byte(out, '"');
    for (size_t i = 0; i < v.n; i++) {
        if (v.p[i] == '"' || v.p[i] == '\\')
            buf_byte(out, '\\');
        buf_byte(out, v.p[i]);
    }
    buf_byte(out, '"');
}

void imap_say_astring(struct imap_session *s, slice v)
{
    bool is_atom = v.n > 0 && !slice_ieqs(v, "NIL");

    for (size_t i = 0; is_atom && i < v.n; i++) {
        unsigned char ch = (unsigned char)v.p[i];

        is_atom = ch > 0x20 && ch < 0x7f && strchr("(){%*\"\\]", ch) == NULL;
    }
    if (is_atom)
        imap_say(s, v);
    else
        imap_say_string(s, v);
}

void imap_say_mailbox(struct imap_session *s, slice utf8)
{
    struct buf b CLEANUP(buf_done) = { 0 };

    buf_init(&b, utf8.n * 4 + 16);
    imap_utf8_to_utf7(&b, utf8);
    imap_say_astring(s, buf_view(&b));
}

static const struct {
    uint32_t flag;
    const char *name;
} flag_names[] = {
    { STORE_ANSWERED, "\\Answered" }, { STORE_FLAGGED, "\\Flagged" },
    { STORE_DELETED, "\\Deleted" },   { STORE_SEEN, "\\Seen" },
    { STORE_DRAFT, "\\Draft" },       { STORE_PASSED, "$Forwarded" },
};

void imap_say_flags(struct imap_session *s, const struct store_mailbox *m,
                    uint32_t flags, uint64_t keywords, bool is_recent)
{
    struct buf *out = imap_out(s);
    const char *space = "";

    for (size_t i = 0; flags != 0 && i < ARRAY_LEN(flag_names); i++) {
        if (!(flags & flag_names[i].flag))
            continue;
        buf_puts(out, space);
        buf_puts(out, flag_names[i].name);
        space = " ";
    }
    if (is_recent) {
        buf_puts(out, space);
        buf_puts(out, "\\Recent");
        space = " ";
    }
    while (keywords != 0) {
        slice name = store_keyword(m, (size_t)__builtin_ctzll(keywords));

        keywords &= keywords - 1;
        if (name.n == 0 ||
            ((flags & STORE_PASSED) && slice_ieqs(name, "$Forwarded")))
            continue;
        buf_puts(out, space);
        buf_slice(out, name);
        space = " ";
    }
}

void imap_say_date_time(struct imap_session *s, int64_t unix_sec)
{
    char text[32];

    mail_date_imap(unix_sec, 0, text);
    buf_byte(imap_out(s), '"');
    imap_says(s, text);
    buf_byte(imap_out(s), '"');
}

static void push(struct imap_session *s, slice bytes)
{
    const struct imap_parts *parts = &s->server->parts;

    if (parts->push != NULL)
        parts->push(parts->arg, s->handle, bytes);
}

/* With the turn to write. */
MAY_WAIT static bool send_now(struct imap_session *s, struct buf *out)
{
    struct err err;

    s->told_at = loop_now();
    s->n_out += out->n;
    if (s->stream == NULL) {
        push(s, buf_view(out));
    } else {
        s->n_written += out->n;
        stream_deadline(s->stream, clock_after(IMAP_STALL_MS));
        if (stream_write(s->stream, buf_view(out), &err) < 0)
            s->is_broken = true;
    }
    if (out->size > 4 * (size_t)IMAP_OUT_FLUSH)
        buf_release(out);
    else
        buf_clear(out);
    return !s->is_broken;
}

MAY_WAIT static bool send_out(struct imap_session *s, struct buf *out)
{
    if (out->overflow)
        s->is_broken = true;
    if (s->is_broken)
        buf_clear(out);
    return out->n > 0 ? send_now(s, out) : !s->is_broken;
}

/* With lanes: whose turn it is, which ends between two items. */
MAY_WAIT static bool send_in_turn(struct imap_session *s, bool to_the_end)
{
    struct imap_work *w = imap_work(s);
    struct err err;
    bool ok;

    if (!imap_turn_take(s))
        return false;
    ok = send_out(s, &w->out);
    if (ok && to_the_end && s->stream != NULL && stream_unsent(s->stream) > 0 &&
        stream_flush(s->stream, &err) < 0)
        s->is_broken = true;
    if (!w->in_item)
        imap_turn_give(s);
    return !s->is_broken;
}

void imap_pause(struct imap_session *s)
{
    if (!s->server->is_eager && !task_is_long())
        return;
    imap_side_by_side(s);
    task_yield();
}

bool imap_room(struct imap_session *s)
{
    struct imap_work *w = imap_work(s);

    if ((w->out.n >= IMAP_OUT_FLUSH || (!w->in_item && imap_turn_is_ours(s))) &&
        !send_in_turn(s, false))
        return false;
    imap_pause(s);
    return !s->is_broken && !s->is_kicked;
}

bool imap_flush(struct imap_session *s)
{
    return send_in_turn(s, true);
}

void imap_log(const struct imap_session *s, enum ev_level level,
              const char *fmt, ...)
{
    struct buf b CLEANUP(buf_done) = { 0 };
    va_list ap;

    buf_init(&b, 2000);
    va_start(ap, fmt);
    (void)buf_vprintf(&b, fmt, ap);
    va_end(ap);
    event_text(level, "imap", NULL, "imap(%.*s)<%d><%.*s>: %s", SLF(s->user),
               (int)getpid(), SLF(s->session_id), buf_cstr(&b));
}
