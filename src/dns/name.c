#include "dns/dns_priv.h"

#include "mail/domain.h"

#include <sys/socket.h>

bool dns_name_ok(slice name)
{
    slice rest = name, label;

    if (name.n == 0 || name.n > 253)
        return false;
    for (size_t i = 0; i < name.n; i++)
        if (name.p[i] <= ' ' || name.p[i] > '~' || name.p[i] == '\\')
            return false;
    do {
        (void)slice_cut(&rest, '.', &label);
        if (label.n == 0 || label.n > 63)
            return false;
    } while (rest.n > 0);
    return name.p[name.n - 1] != '.';
}

/* Room for a name of which every byte is escaped would be 4 x 255; what does
 * not fit 255 is refused, as no host has such a name. */
static bool put_label(char *out, size_t *n, slice label)
{
    for (size_t i = 0; i < label.n; i++) {
        unsigned char c = (unsigned char)label.p[i];
        bool is_plain = c > ' ' && c <= '~';
        size_t need = !is_plain ? 4 : c == '.' || c == '\\' ? 2 : 1;

        if (*n + need > DNS_NAME_MAX)
            return false;
        if (need == 4) {
            out[*n] = '\\';
            out[*n + 1] = (char)('0' + c / 100);
            out[*n + 2] = (char)('0' + c / 10 % 10);
            out[*n + 3] = (char)('0' + c % 10);
        } else {
            if (need == 2)
                out[*n] = '\\';
            out[*n + need - 1] = (char)c;
        }
        *n += need;
    }
    return true;
}

bool dns_wire_name(slice *wire, struct arena *a, slice *out)
{
    char text[DNS_NAME_MAX];
    size_t n = 0, at = 0;

    for (;;) {
        size_t len;

        if (at >= wire->n || at >= DNS_NAME_MAX)
            return false;
        len = (unsigned char)wire->p[at++];
        if (len == 0)
            break;
        if (len > 63 || len > wire->n - at)
            return false;
        if (n > 0 && n < sizeof text)
            text[n++] = '.';
        if (!put_label(text, &n, slice_sub(*wire, at, len)))
            return false;
        at += len;
    }
    *wire = slice_from(*wire, at);
    *out = n == 0 ? SL("") : slice_dup(a, slice_of(text, n));
    return out->p != NULL;
}

static void put_nibbles(const uint8_t *ip, char out[65])
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < 16; i++) {
        out[4 * i] = digits[ip[15 - i] & 15];
        out[4 * i + 1] = '.';
        out[4 * i + 2] = digits[ip[15 - i] >> 4];
        out[4 * i + 3] = '.';
    }
    out[64] = '\0';
}

void dns_reverse_name(int family, const uint8_t *ip, const char *suffix_v4,
                      const char *suffix_v6, char out[static 100])
{
    char digits[65];
    const char *suffix;

    if (family == AF_INET6) {
        put_nibbles(ip, digits);
        suffix = suffix_v6 != NULL ? suffix_v6 : "ip6.arpa";
    } else {
        (void)snprintf(digits, sizeof digits, "%u.%u.%u.%u.", ip[3], ip[2],
                       ip[1], ip[0]);
        suffix = suffix_v4 != NULL ? suffix_v4 : "in-addr.arpa";
    }
    if (snprintf(out, 100, "%s%s", digits, suffix) >= 100)
        out[0] = '\0';
}

int dns_ascii_name(slice in, struct arena *a, slice *out)
{
    struct buf b;
    slice name = in;
    bool is_good;

    if (slice_ends(name, SL(".")))
        name.n--;
    buf_init(&b, 4096);
    is_good = mail_domain_to_ascii(&b, name) && !b.overflow &&
              dns_name_ok(buf_view(&b));
    if (is_good) {
        slice copy = slice_dup(a, buf_view(&b));

        is_good = copy.p != NULL;
        if (is_good)
            *out = copy;
    }
    buf_done(&b);
    return is_good ? 0 : -1;
}
