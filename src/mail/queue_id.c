#include "mail/queue_id.h"

static const char digits[] =
    "0123456789BCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxyz";

enum { SEC_MIN = 6, USEC_LEN = 4, NUMBER_BASE = 51, TIME_BASE = 52 };

static int digit_value(char c)
{
    const char *at = c == '\0' ? NULL : strchr(digits, c);

    return at == NULL ? -1 : (int)(at - digits);
}

/* Write v in the base, at least `width` digits; returns how many. */
static size_t put_number(uint64_t v, unsigned base, size_t width, char *out)
{
    char tmp[16];
    size_t n = 0;

    do {
        tmp[n++] = digits[v % base];
        v /= base;
    } while (v > 0);
    while (n < width)
        tmp[n++] = '0';
    for (size_t i = 0; i < n; i++)
        out[i] = tmp[n - 1 - i];
    return n;
}

static bool get_number(slice s, unsigned base, uint64_t *out)
{
    uint64_t v = 0;

    if (s.n == 0)
        return false;
    for (size_t i = 0; i < s.n; i++) {
        int d = digit_value(s.p[i]);

        if (d < 0 || (unsigned)d >= base || !MUL_OK(v, base, &v) ||
            !ADD_OK(v, (uint64_t)d, &v))
            return false;
    }
    *out = v;
    return true;
}

void mail_queue_id_format(int64_t sec, uint32_t usec, uint64_t number,
                          char out[static MAIL_QUEUE_ID_SIZE])
{
    size_t n;

    CHECK(sec >= 0 && usec < 1000000);
    /* 64 bits are at most 12 digits each: 12 + 4 + 1 + 12 and the NUL. */
    n = put_number((uint64_t)sec, TIME_BASE, SEC_MIN, out);
    n += put_number(usec, TIME_BASE, USEC_LEN, out + n);
    out[n++] = 'z';
    n += put_number(number, NUMBER_BASE, 1, out + n);
    out[n] = '\0';
}

bool mail_queue_id_parse(slice id, int64_t *sec, uint32_t *usec,
                         uint64_t *number)
{
    ssize_t z = slice_rchr(id, 'z');
    uint64_t s, u, num;

    /* The number has no 'z', so the last one is the separator. */
    if (id.n >= MAIL_QUEUE_ID_SIZE || z < SEC_MIN + USEC_LEN)
        return false;
    if (!get_number(slice_sub(id, 0, (size_t)z - USEC_LEN), TIME_BASE, &s) ||
        !get_number(slice_sub(id, (size_t)z - USEC_LEN, USEC_LEN), TIME_BASE,
                    &u) ||
        !get_number(slice_from(id, (size_t)z + 1), NUMBER_BASE, &num))
        return false;
    if (s > INT64_MAX || u >= 1000000)
        return false;
    *sec = (int64_t)s;
    *usec = (uint32_t)u;
    *number = num;
    return true;
}

bool mail_queue_id_valid(slice id)
{
    int64_t sec;
    uint32_t usec;
    uint64_t number;

    return mail_queue_id_parse(id, &sec, &usec, &number);
}
