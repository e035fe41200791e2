/* Mailbox names on the wire: modified UTF-7, RFC 3501 5.1.3. */
#include "imap/imap_priv.h"

#include "mail/domain.h"

static const char digits[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,";

static void put_utf8(struct buf *b, uint32_t u)
{
    if (u < 0x80) {
        buf_byte(b, (char)u);
    } else if (u < 0x800) {
        buf_byte(b, (char)(0xc0 | u >> 6));
        buf_byte(b, (char)(0x80 | (u & 63)));
    } else if (u < 0x10000) {
        buf_byte(b, (char)(0xe0 | u >> 12));
        buf_byte(b, (char)(0x80 | (u >> 6 & 63)));
        buf_byte(b, (char)(0x80 | (u & 63)));
    } else {
        buf_byte(b, (char)(0xf0 | u >> 18));
        buf_byte(b, (char)(0x80 | (u >> 12 & 63)));
        buf_byte(b, (char)(0x80 | (u >> 6 & 63)));
        buf_byte(b, (char)(0x80 | (u & 63)));
    }
}

/* UTF-16 units as they come; false when they do not pair. */
static bool put_unit(struct buf *b, uint32_t u, uint32_t *high)
{
    if (*high != 0) {
        if (u < 0xdc00 || u > 0xdfff)
            return false;
        put_utf8(b, 0x10000 + ((*high - 0xd800) << 10) + (u - 0xdc00));
        *high = 0;
        return true;
    }
    if (u >= 0xdc00 && u <= 0xdfff)
        return false;
    if (u >= 0xd800 && u <= 0xdbff)
        *high = u;
    else if (u == 0)
        return false;
    else
        put_utf8(b, u);
    return true;
}

static bool decode_run(struct buf *b, slice run)
{
    uint32_t acc = 0, high = 0;
    unsigned bits = 0;

    for (size_t i = 0; i < run.n; i++) {
        const char *d = run.p[i] != '\0' ? strchr(digits, run.p[i]) : NULL;

        if (d == NULL)
            return false;
        acc = acc << 6 | (uint32_t)(d - digits);
        bits += 6;
        if (bits < 16)
            continue;
        bits -= 16;
        if (!put_unit(b, acc >> bits & 0xffff, &high))
            return false;
    }
    return high == 0 && bits < 6;
}

bool imap_utf7_to_utf8(struct buf *out, slice in)
{
    slice part;

    while (slice_cut(&in, '&', &part)) {
        slice run;

        buf_slice(out, part);
        if (!slice_cut(&in, '-', &run))
            return false;
        if (run.n == 0)
            buf_byte(out, '&');
        else if (!decode_run(out, run))
            return false;
    }
    buf_slice(out, part);
    return !out->overflow;
}

/* The character at the front of *s; bytes that are no UTF-8 as U+FFFD. */
static uint32_t next_char(slice *s)
{
    size_t n = mail_utf8_len(*s);
    uint32_t u = (unsigned char)s->p[0];

    if (n == 0) {
        *s = slice_from(*s, 1);
        return 0xfffd;
    }
    if (n > 1)
        u &= 0xffu >> (n + 1);
    for (size_t i = 1; i < n; i++)
        u = u << 6 | ((unsigned char)s->p[i] & 63);
    *s = slice_from(*s, n);
    return u;
}

struct run {
    uint32_t acc;
    unsigned bits;
    bool open;
};

static void run_put(struct buf *b, struct run *r, uint32_t unit)
{
    if (!r->open) {
        buf_byte(b, '&');
        *r = (struct run){ .open = true };
    }
    r->acc = r->acc << 16 | unit;
    r->bits += 16;
    while (r->bits >= 6) {
        r->bits -= 6;
        buf_byte(b, digits[r->acc >> r->bits & 63]);
    }
}

static void run_end(struct buf *b, struct run *r)
{
    if (!r->open)
        return;
    if (r->bits > 0)
        buf_byte(b, digits[r->acc << (6 - r->bits) & 63]);
    buf_byte(b, '-');
    r->open = false;
}

void imap_utf8_to_utf7(struct buf *out, slice in)
{
    struct run r = { 0 };

    while (in.n > 0) {
        uint32_t u = next_char(&in);

        if (u >= 0x20 && u <= 0x7e) {
            run_end(out, &r);
            buf_byte(out, (char)u);
            if (u == '&')
                buf_byte(out, '-');
        } else if (u >= 0x10000) {
            run_put(out, &r, 0xd800 + ((u - 0x10000) >> 10));
            run_put(out, &r, 0xdc00 + ((u - 0x10000) & 0x3ff));
        } else {
            run_put(out, &r, u);
        }
    }
    run_end(out, &r);
}
