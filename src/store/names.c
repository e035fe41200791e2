#include "store/store_priv.h"

/* Maildir's flag letters in the order of their bits 0..5; a..z are 6..31. */
static const char upper_letters[] = "DFPRST";

static uint32_t letter_bit(char c)
{
    const char *at;

    if (c >= 'a' && c <= 'z')
        return 1u << (6 + (c - 'a'));
    at = c ? strchr(upper_letters, c) : NULL;
    return at ? 1u << (at - upper_letters) : 0;
}

static const struct {
    uint32_t flag;
    char letter;
} flag_letters[] = {
    { STORE_SEEN, 'S' },    { STORE_ANSWERED, 'R' }, { STORE_FLAGGED, 'F' },
    { STORE_DELETED, 'T' }, { STORE_DRAFT, 'D' },    { STORE_PASSED, 'P' },
};

uint32_t letters_of(uint32_t flags, uint64_t keywords)
{
    uint32_t letters = (uint32_t)(keywords << 6);

    for (size_t i = 0; i < ARRAY_LEN(flag_letters); i++)
        if (flags & flag_letters[i].flag)
            letters |= letter_bit(flag_letters[i].letter);
    return letters;
}

uint32_t flags_of_letters(uint32_t letters)
{
    uint32_t flags = 0;

    for (size_t i = 0; i < ARRAY_LEN(flag_letters); i++)
        if (letters & letter_bit(flag_letters[i].letter))
            flags |= flag_letters[i].flag;
    return flags;
}

uint64_t keywords_of_letters(uint32_t letters)
{
    return letters >> 6;
}

void info_put(char *dst, size_t size, uint32_t letters)
{
    size_t n = 0;

    CHECK(size >= 40);
    memcpy(dst, ":2,", 3);
    n = 3;
    for (unsigned i = 0; i < 6; i++)
        if (letters & 1u << i)
            dst[n++] = upper_letters[i];
    for (unsigned i = 6; i < 32; i++)
        if (letters & 1u << i)
            dst[n++] = (char)('a' + (i - 6));
    dst[n] = '\0';
}

/* "S=123" among the comma parts. */
static uint64_t size_part(slice base, const char *key)
{
    slice rest = base;
    slice part;
    uint64_t v = 0;

    while (rest.n > 0) {
        slice_cut(&rest, ',', &part);
        if (part.n > 2 && part.p[0] == key[0] && part.p[1] == '=' &&
            slice_u64(slice_from(part, 2), &v))
            return v;
    }
    return 0;
}

/* The unique part of our own names: M<usec>P<pid>C<crc>D<id>. */
static void unique_parse(slice unique, struct file_name *out)
{
    uint8_t crc[4];
    ssize_t d = slice_rchr(unique, 'D');

    if (unique.n == 0 || unique.p[0] != 'M' || d < 0 ||
        unique.n - (size_t)d != 1 + 2 * ID_BYTES)
        return;
    out->has_id = hex_get(slice_from(unique, (size_t)d + 1), out->id, ID_BYTES);
    if (!out->has_id || d < 9 || unique.p[d - 9] != 'C')
        return;
    out->has_crc = hex_get(slice_sub(unique, (size_t)d - 8, 8), crc, 4);
    out->crc = (uint32_t)crc[0] << 24 | (uint32_t)crc[1] << 16 |
               (uint32_t)crc[2] << 8 | crc[3];
}

static void info_parse(slice name, size_t colon, struct file_name *out)
{
    slice info = slice_from(name, colon);
    char again[40];

    if (!slice_starts(info, SL(":2,"))) {
        out->odd = true;
        return;
    }
    out->has_info = true;
    for (size_t i = 3; i < info.n; i++)
        out->letters |= letter_bit(info.p[i]);
    info_put(again, sizeof again, out->letters);
    out->odd = !slice_eqs(info, again);
}

bool file_name_parse(slice name, struct file_name *out)
{
    struct file_name f = { 0 };
    ssize_t colon = slice_chr(name, ':');
    slice rest, sec, unique;
    uint64_t v;

    if (name.n == 0 || name.n > FILE_NAME_MAX || name.p[0] == '.')
        return false;
    f.base = name;
    if (colon >= 0) {
        f.base = slice_sub(name, 0, (size_t)colon);
        info_parse(name, (size_t)colon, &f);
    }
    if (f.base.n == 0)
        return false;
    f.size = size_part(f.base, "S");
    f.crlf_size = size_part(f.base, "W");
    rest = f.base;
    slice_cut(&rest, '.', &sec);
    if (slice_u64(sec, &v) && v < INT64_MAX)
        f.sec = (int64_t)v;
    slice_cut(&rest, '.', &unique);
    unique_parse(unique, &f);
    *out = f;
    return true;
}

void host_clean(char *dst, size_t size, const char *host)
{
    size_t n = 0;

    for (const char *p = host ? host : "localhost"; *p && n + 1 < size; p++) {
        bool ok = ascii_isalnum(*p) || *p == '-' || *p == '.' || *p == '_';
        dst[n++] = ok ? *p : '_';
    }
    if (n == 0)
        dst[n++] = '_';
    dst[n] = '\0';
}

/* printf is 1 us of the few that a delivery has; these names are made by
 * hand. */
static char *put_dec(char *p, uint64_t v, unsigned min_digits)
{
    char tmp[24];
    unsigned n = 0;

    do {
        tmp[n++] = (char)('0' + v % 10);
        v /= 10;
    } while (v > 0 || n < min_digits);
    while (n > 0)
        *p++ = tmp[--n];
    return p;
}

static char *put_hex(char *p, const uint8_t *bytes, size_t n)
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < n; i++) {
        *p++ = digits[bytes[i] >> 4];
        *p++ = digits[bytes[i] & 15];
    }
    return p;
}

void base_name_make(char *dst, size_t size, const struct name_parts *parts)
{
    static pid_t pid;
    uint8_t crc[4] = { (uint8_t)(parts->crc >> 24), (uint8_t)(parts->crc >> 16),
                       (uint8_t)(parts->crc >> 8), (uint8_t)parts->crc };
    size_t host_n = strlen(parts->host);
    uint64_t usec = parts->usec > 0 ? (uint64_t)parts->usec : 0;
    char *p = dst;

    /* Four numbers of 20 digits, the hex digits, the marks. */
    CHECK(size >= 4 * 20 + 40 + 20 + host_n);
    if (pid == 0)
        pid = getpid();
    p = put_dec(p, usec / 1000000, 1);
    *p++ = '.';
    *p++ = 'M';
    p = put_dec(p, usec % 1000000, 1);
    *p++ = 'P';
    p = put_dec(p, (uint64_t)pid, 1);
    if (!parts->no_crc) {
        *p++ = 'C';
        p = put_hex(p, crc, 4);
    }
    *p++ = 'D';
    p = put_hex(p, parts->id, ID_BYTES);
    *p++ = '.';
    memcpy(p, parts->host, host_n);
    p += host_n;
    memcpy(p, ",S=", 3);
    p = put_dec(p + 3, parts->size, 1);
    memcpy(p, ",W=", 3);
    p = put_dec(p + 3, parts->crlf_size, 1);
    *p = '\0';
}

/* ---- modified UTF-7, RFC 3501 5.1.3 ---- */

static const char utf7_digits[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,";

/* One code point off the front of *s; false when it is no valid UTF-8. */
static bool utf8_next(slice *s, uint32_t *out)
{
    static const uint32_t least[] = { 0, 0x80, 0x800, 0x10000 };
    const uint8_t *p = (const uint8_t *)s->p;
    size_t more;
    uint32_t c;

    if (s->n == 0)
        return false;
    more = p[0] < 0x80   ? 0
           : p[0] < 0xc2 ? 9
           : p[0] < 0xe0 ? 1
           : p[0] < 0xf0 ? 2
           : p[0] < 0xf5 ? 3
                         : 9;
    if (more > 3 || s->n < more + 1)
        return false;
    c = more == 0 ? p[0] : p[0] & (0x3fu >> more);
    for (size_t i = 1; i <= more; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return false;
        c = c << 6 | (p[i] & 0x3fu);
    }
    if (c < least[more] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
        return false;
    *s = slice_from(*s, more + 1);
    *out = c;
    return true;
}

static void utf8_put(struct buf *b, uint32_t c)
{
    char out[4];
    size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;

    if (n == 1)
        out[0] = (char)c;
    else
        out[0] = (char)((0xf00u >> n & 0xf0u) | c >> (6 * (n - 1)));
    for (size_t i = 1; i < n; i++)
        out[i] = (char)(0x80u | (c >> (6 * (n - 1 - i)) & 0x3f));
    buf_put(b, out, n);
}

struct bits {
    uint32_t acc;
    unsigned n;
};

static void bits_put16(struct buf *b, struct bits *w, uint32_t unit)
{
    w->acc = w->acc << 16 | (unit & 0xffff);
    w->n += 16;
    while (w->n >= 6) {
        w->n -= 6;
        buf_byte(b, utf7_digits[w->acc >> w->n & 63]);
    }
}

static bool is_plain(uint32_t c)
{
    return c >= 0x20 && c <= 0x7e;
}

bool utf7_encode(struct buf *b, slice utf8)
{
    struct bits w = { 0, 0 };
    bool shifted = false;
    uint32_t c;

    while (utf8.n > 0) {
        if (!utf8_next(&utf8, &c))
            return false;
        if (shifted && is_plain(c)) {
            if (w.n > 0)
                buf_byte(b, utf7_digits[w.acc << (6 - w.n) & 63]);
            buf_byte(b, '-');
            shifted = false;
        }
        if (is_plain(c)) {
            buf_byte(b, (char)c);
            if (c == '&')
                buf_byte(b, '-');
            continue;
        }
        if (!shifted) {
            buf_byte(b, '&');
            w = (struct bits){ 0, 0 };
            shifted = true;
        }
        if (c >= 0x10000) {
            bits_put16(b, &w, 0xd800 + ((c - 0x10000) >> 10));
            bits_put16(b, &w, 0xdc00 + ((c - 0x10000) & 0x3ff));
        } else {
            bits_put16(b, &w, c);
        }
    }
    if (shifted && w.n > 0)
        buf_byte(b, utf7_digits[w.acc << (6 - w.n) & 63]);
    if (shifted)
        buf_byte(b, '-');
    return !b->overflow;
}

/* The run between '&' and '-': UTF-16BE in base64.  A high half waits in
 * *high for its low one. */
static bool utf7_run(struct buf *b, slice run)
{
    struct bits w = { 0, 0 };
    uint32_t high = 0;

    for (size_t i = 0; i < run.n; i++) {
        const char *d = run.p[i] ? strchr(utf7_digits, run.p[i]) : NULL;
        uint32_t unit;

        if (!d)
            return false;
        w.acc = w.acc << 6 | (uint32_t)(d - utf7_digits);
        w.n += 6;
        if (w.n < 16)
            continue;
        w.n -= 16;
        unit = w.acc >> w.n & 0xffff;
        if (high && (unit < 0xdc00 || unit > 0xdfff))
            return false;
        if (unit >= 0xd800 && unit < 0xdc00) {
            high = unit;
            continue;
        }
        if (!high && unit >= 0xdc00 && unit < 0xe000)
            return false;
        utf8_put(b, high ? 0x10000 + ((high - 0xd800) << 10) + (unit - 0xdc00)
                         : unit);
        high = 0;
    }
    return !high && w.n < 6;
}

bool utf7_decode(struct buf *b, slice utf7)
{
    while (utf7.n > 0) {
        slice run;

        if (utf7.p[0] != '&') {
            if (!is_plain((uint8_t)utf7.p[0]))
                return false;
            buf_byte(b, utf7.p[0]);
            utf7 = slice_from(utf7, 1);
            continue;
        }
        utf7 = slice_from(utf7, 1);
        if (!slice_cut(&utf7, '-', &run))
            return false;
        if (run.n == 0)
            buf_byte(b, '&');
        else if (!utf7_run(b, run))
            return false;
    }
    return !b->overflow;
}

static int bad_name(struct err *err)
{
    return mailbox_refuse(err, EINVAL, "Mailbox name cannot be used");
}

int mailbox_dir_of(slice name, char dst[static MAILBOX_DIR_MAX + 1],
                   struct err *err)
{
    struct buf b CLEANUP(buf_done) = { 0 };
    slice rest = name;
    slice level;
    bool more = true;

    if (name.n == 0 || slice_ieqs(name, "INBOX")) {
        dst[0] = '\0';
        return 0;
    }
    for (size_t i = 0; i < name.n; i++)
        if ((uint8_t)name.p[i] < 0x20 || name.p[i] == 0x7f || name.p[i] == '/')
            return bad_name(err);
    while (more) {
        more = slice_cut(&rest, '.', &level);
        if (level.n == 0)
            return bad_name(err);
    }
    buf_init(&b, MAILBOX_DIR_MAX);
    buf_byte(&b, '.');
    if (!utf7_encode(&b, name) ||
        !slice_copy_to(buf_view(&b), dst, MAILBOX_DIR_MAX + 1))
        return bad_name(err);
    return 0;
}

bool mailbox_name_of(slice dir, struct buf *out)
{
    if (dir.n < 2 || dir.n > MAILBOX_DIR_MAX || dir.p[0] != '.' ||
        dir.p[1] == '.')
        return false;
    return utf7_decode(out, slice_from(dir, 1));
}
