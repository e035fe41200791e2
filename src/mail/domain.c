#include "mail/domain.h"

#include <arpa/inet.h>
#include <idn2.h>

bool mail_is_ascii(slice s)
{
    for (size_t i = 0; i < s.n; i++) {
        if ((unsigned char)s.p[i] >= 0x80)
            return false;
    }
    return true;
}

/* Length of the well-formed UTF-8 sequence at p (RFC 3629 4), 0 for none. */
static size_t utf8_len(const unsigned char *p, size_t n)
{
    unsigned char lo = 0x80, hi = 0xBF;
    size_t len;

    if (p[0] < 0x80)
        return 1;
    if (p[0] >= 0xC2 && p[0] <= 0xDF)
        len = 2;
    else if (p[0] >= 0xE0 && p[0] <= 0xEF)
        len = 3;
    else if (p[0] >= 0xF0 && p[0] <= 0xF4)
        len = 4;
    else
        return 0;
    if (p[0] == 0xE0)
        lo = 0xA0;
    else if (p[0] == 0xED)
        hi = 0x9F;
    else if (p[0] == 0xF0)
        lo = 0x90;
    else if (p[0] == 0xF4)
        hi = 0x8F;
    if (n < len || p[1] < lo || p[1] > hi)
        return 0;
    for (size_t i = 2; i < len; i++) {
        if ((p[i] & 0xC0) != 0x80)
            return 0;
    }
    return len;
}

size_t mail_utf8_len(slice s)
{
    if (s.n == 0)
        return 0;
    return utf8_len((const unsigned char *)s.p, s.n);
}

bool mail_utf8_valid(slice s)
{
    for (size_t i = 0; i < s.n;) {
        size_t len = mail_utf8_len(slice_from(s, i));

        if (len == 0)
            return false;
        i += len;
    }
    return true;
}

static bool label_char(char c)
{
    return ascii_isalnum(c) || c == '-' || c == '_';
}

static bool ascii_hostname_valid(slice s)
{
    size_t label = 0;
    bool has_letter = false;

    if (s.n == 0 || s.n > 255)
        return false;
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];

        if (c == '.') {
            if (label == 0 || s.p[i - 1] == '-')
                return false; /* misplaced delimiter or hyphen */
            label = 0;
            continue;
        }
        if (!label_char(c) || ++label > 63 || (c == '-' && label == 1))
            return false;
        if (!ascii_isdigit(c))
            has_letter = true;
    }
    return label > 0 && s.p[s.n - 1] != '-' && has_letter;
}

bool mail_domain_valid(slice domain)
{
    struct buf b CLEANUP(buf_done) = { 0 };

    if (mail_is_ascii(domain))
        return ascii_hostname_valid(domain);
    buf_init(&b, 1024);
    return mail_domain_to_ascii(&b, domain) &&
           ascii_hostname_valid(buf_view(&b));
}

bool mail_ip_parse(slice s, int *family, uint8_t out[static 16])
{
    char text[INET6_ADDRSTRLEN + 1];
    uint8_t addr[16];

    if (!slice_copy_to(s, text, sizeof text))
        return false;
    if (inet_pton(AF_INET, text, addr) == 1) {
        *family = 4;
        memcpy(out, addr, 4);
        return true;
    }
    if (inet_pton(AF_INET6, text, addr) == 1) {
        *family = 6;
        memcpy(out, addr, 16);
        return true;
    }
    return false;
}

bool mail_literal_parse(slice domain, int *family, uint8_t out[static 16])
{
    slice inner;
    int got = 0;
    uint8_t addr[16];

    if (domain.n < 3 || domain.p[0] != '[' || domain.p[domain.n - 1] != ']')
        return false;
    inner = slice_sub(domain, 1, domain.n - 2);
    if (slice_istarts(inner, SL("IPv6:"))) {
        inner = slice_from(inner, 5);
        if (!mail_ip_parse(inner, &got, addr) || got != 6)
            return false;
    } else if (!mail_ip_parse(inner, &got, addr) || got != 4) {
        return false;
    }
    *family = got;
    memcpy(out, addr, got == 4 ? 4 : 16);
    return true;
}

static bool put_lower(struct buf *b, slice s)
{
    for (size_t i = 0; i < s.n; i++)
        buf_byte(b, ascii_lower(s.p[i]));
    return !b->overflow;
}

/* libidn2 wants C strings; a name over 1 KiB is no name. */
#define IDN_TEXT 1024

bool mail_domain_to_ascii(struct buf *b, slice domain)
{
    char text[IDN_TEXT];
    char *ascii = NULL;
    bool ok;

    if (mail_is_ascii(domain))
        return put_lower(b, domain);
    if (!mail_utf8_valid(domain) || !slice_copy_to(domain, text, sizeof text))
        return false;
    if (idn2_to_ascii_8z(text, &ascii, IDN2_NFC_INPUT | IDN2_NONTRANSITIONAL) !=
        IDN2_OK)
        return false;
    ok = buf_puts(b, ascii);
    idn2_free(ascii);
    return ok;
}

bool mail_domain_to_utf8(struct buf *b, slice domain)
{
    char text[IDN_TEXT];
    char *utf8 = NULL;
    bool ok;

    if (!mail_utf8_valid(domain) || !slice_copy_to(domain, text, sizeof text))
        return false;
    if (slice_ifind(domain, SL("xn--")) < 0)
        return put_lower(b, domain);
    if (idn2_to_unicode_8z8z(text, &utf8, 0) != IDN2_OK)
        return false;
    ok = buf_puts(b, utf8);
    idn2_free(utf8);
    return ok;
}
