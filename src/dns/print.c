/* Records for people. */
#include "dns/dns_priv.h"

#include "base/digest.h"

#include <arpa/inet.h>

static const struct {
    const char *name;
    enum dns_type type;
} types[] = {
    { "A", DNS_A },     { "AAAA", DNS_AAAA },   { "MX", DNS_MX },
    { "TXT", DNS_TXT }, { "PTR", DNS_PTR },     { "TLSA", DNS_TLSA },
    { "SRV", DNS_SRV }, { "CNAME", DNS_CNAME }, { "NS", DNS_NS },
    { "SOA", DNS_SOA },
};

const char *dns_type_name(enum dns_type type)
{
    for (size_t i = 0; i < ARRAY_LEN(types); i++)
        if (types[i].type == type)
            return types[i].name;
    return "?";
}

bool dns_type_find(slice name, enum dns_type *out)
{
    for (size_t i = 0; i < ARRAY_LEN(types); i++)
        if (slice_ieqs(name, types[i].name)) {
            *out = types[i].type;
            return true;
        }
    return false;
}

static void put_quoted(slice text, struct buf *out)
{
    (void)buf_byte(out, '"');
    for (size_t i = 0; i < text.n; i++) {
        unsigned char c = (unsigned char)text.p[i];

        if (c < ' ' || c > '~')
            (void)buf_printf(out, "\\%03u", c);
        else if (c == '"' || c == '\\')
            (void)buf_printf(out, "\\%c", c);
        else
            (void)buf_byte(out, (char)c);
    }
    (void)buf_byte(out, '"');
}

static void put_address(const struct dns_rr *rr, struct buf *out)
{
    char text[INET6_ADDRSTRLEN];

    if (inet_ntop(rr->type == DNS_A ? AF_INET : AF_INET6, rr->ip, text,
                  sizeof text) != NULL)
        (void)buf_puts(out, text);
}

static void put_data(const struct dns_rr *rr, struct buf *out)
{
    switch (rr->type) {
    case DNS_A:
    case DNS_AAAA:
        put_address(rr, out);
        break;
    case DNS_TXT:
        put_quoted(rr->text, out);
        break;
    case DNS_TLSA:
        (void)buf_printf(out, "%u %u %u ", rr->usage, rr->selector,
                         rr->matching);
        (void)hex_put(out, rr->data);
        break;
    case DNS_MX:
        (void)buf_printf(out, "%u %.*s.", rr->pref, SLF(rr->name));
        break;
    case DNS_SRV:
        (void)buf_printf(out, "%u %u %u %.*s.", rr->pref, rr->weight, rr->port,
                         SLF(rr->name));
        break;
    case DNS_NS:
    case DNS_CNAME:
    case DNS_SOA:
    case DNS_PTR:
    default:
        (void)buf_printf(out, "%.*s.", SLF(rr->name));
        break;
    }
}

void dns_rr_print(const struct dns_rr *rr, struct buf *out)
{
    (void)buf_printf(out, "%s ", dns_type_name(rr->type));
    put_data(rr, out);
}
