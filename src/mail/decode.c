/* Content-Transfer-Encodings to bytes (RFC 2045 6). */
#include "mail/mime.h"

#include "base/base.h"
#include "base/digest.h"

#include "mail/mail_priv.h"

bool mail_decode_base64(struct buf *b, slice in)
{
    uint32_t acc = 0;
    unsigned bits = 0;

    for (size_t i = 0; i < in.n; i++) {
        int v = base64_digit(in.p[i]);

        if (in.p[i] == '=') {
            /* Padding: what follows may be a further encoded run. */
            acc = 0;
            bits = 0;
        }
        if (v < 0)
            continue;
        acc = acc << 6 | (uint32_t)v;
        bits += 6;
        if (bits >= 8) {
            bits -= 8;
            buf_byte(b, (char)(acc >> bits & 0xFF));
        }
    }
    return !b->overflow;
}

/* The line end behind a soft break's '=' and its trailing blanks; 0 when what
 * stands there is none. */
static size_t soft_break(slice s)
{
    size_t n = 0;

    while (n < s.n && (s.p[n] == ' ' || s.p[n] == '\t'))
        n++;
    if (n < s.n && s.p[n] == '\r')
        n++;
    if (n < s.n && s.p[n] == '\n')
        return n + 1;
    return n == s.n ? n : 0;
}

bool mail_decode_qp(struct buf *b, slice in, bool is_header_q)
{
    for (size_t i = 0; i < in.n; i++) {
        char c = in.p[i];
        int hi = -1, lo = -1;
        slice rest;

        if (is_header_q && c == '_') {
            buf_byte(b, ' ');
            continue;
        }
        if (c != '=') {
            buf_byte(b, c);
            continue;
        }
        rest = slice_from(in, i + 1);
        if (rest.n >= 2) {
            hi = priv_hex(rest.p[0]);
            lo = priv_hex(rest.p[1]);
        }
        if (hi >= 0 && lo >= 0) {
            buf_byte(b, (char)(hi << 4 | lo));
            i += 2;
        } else if (!is_header_q && soft_break(rest) > 0) {
            i += soft_break(rest);
        } else if (is_header_q || rest.n > 0) {
            buf_byte(b, '='); /* not encoded after all */
        }
    }
    return !b->overflow;
}

bool mail_decode_body(struct buf *b, slice encoding, slice in)
{
    encoding = slice_trim(encoding);
    if (slice_ieqs(encoding, "base64"))
        return mail_decode_base64(b, in);
    if (slice_ieqs(encoding, "quoted-printable"))
        return mail_decode_qp(b, in, false);
    return buf_slice(b, in);
}
