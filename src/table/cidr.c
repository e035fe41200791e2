#include "table/table_priv.h"

#include "mail/domain.h"

#include <arpa/inet.h>

/* cidr_table(5): network patterns in order, IF and ENDIF, !pattern. */

#define CIDR_NESTING 64
#define CIDR_RULES   1000000

enum cidr_kind { CIDR_MATCH, CIDR_IF, CIDR_ENDIF };

struct net {
    uint8_t ip[16];
    uint8_t bits;  /* 0..32 or 0..128 */
    uint8_t bytes; /* 4 or 16 */
};

struct cidr_rule {
    enum cidr_kind kind;
    bool negated;
    unsigned depth;
    struct net net;
    slice value;
};

struct cidr {
    struct cidr_rule *v;
    size_t n;
    size_t size;
    struct arena *arena;
};

struct reading {
    struct table *t;
    struct cidr *cidr;
    unsigned line;
    unsigned depth;
    unsigned if_lines[CIDR_NESTING];
};

/* ------------------------------------------------------------------ *
 * Network patterns (mask_addr(3), cidr_match(3))
 */

static bool host_bits_are_zero(const struct net *n)
{
    for (unsigned i = 0; i < n->bytes * 8u; i++) {
        if (i >= n->bits && (n->ip[i / 8] >> (7 - i % 8) & 1) != 0)
            return false;
    }
    return true;
}

static void net_text(const struct net *n, char out[static 80])
{
    struct net masked = *n;
    char ip[INET6_ADDRSTRLEN];

    for (unsigned i = n->bits; i < n->bytes * 8u; i++)
        masked.ip[i / 8] &= (uint8_t) ~(1u << (7 - i % 8));
    if (inet_ntop(n->bytes == 4 ? AF_INET : AF_INET6, masked.ip, ip,
                  sizeof(ip)) == NULL)
        ip[0] = '\0';
    (void)snprintf(out, 80, "%s/%u", ip, n->bits);
}

static const char *say(char *why, size_t size, const char *what, slice pattern)
{
    (void)snprintf(why, size, "%s \"%.*s\"", what,
                   SLF(slice_sub(pattern, 0, 100)));
    return why;
}

/* "[ip]/bits" or "ip/bits" in its two parts; NULL, or what is wrong. */
static const char *net_split(slice pattern, slice *ip, slice *bits,
                             bool *has_bits)
{
    slice rest = pattern;
    ssize_t close = slice_chr(rest, ']');

    if (!slice_starts(rest, SL("["))) {
        *has_bits = slice_cut(&rest, '/', ip);
        *bits = rest;
        return NULL;
    }
    if (close < 0)
        return "missing ']' character after IPv6 address";
    *ip = slice_sub(rest, 1, (size_t)close - 1);
    rest = slice_from(rest, (size_t)close + 1);
    *has_bits = rest.n > 0 && rest.p[0] == '/';
    if (rest.n > 0 && !*has_bits)
        return "garbage after \"]\"";
    *bits = slice_from(rest, *has_bits);
    return NULL;
}

/* NULL and *out, or what is wrong (in `why`). */
static const char *net_parse(slice pattern, struct net *out, char *why,
                             size_t size)
{
    struct net n = { .bits = 0 };
    const char *wrong;
    char better[80];
    slice ip = SLICE_NONE;
    slice mask = SLICE_NONE;
    bool has_mask = false;
    uint64_t bits;
    int family;

    wrong = net_split(pattern, &ip, &mask, &has_mask);
    if (wrong != NULL)
        return wrong;
    if (!mail_ip_parse(ip, &family, n.ip))
        return say(why, size, "bad net/mask pattern:", pattern);
    n.bytes = family == 4 ? 4 : 16;
    bits = n.bytes * UINT64_C(8);
    if (has_mask && (!slice_u64(mask, &bits) || bits > n.bytes * UINT64_C(8)))
        return say(why, size, "bad mask value in", pattern);
    n.bits = (uint8_t)bits;
    if (host_bits_are_zero(&n)) {
        *out = n;
        return NULL;
    }
    net_text(&n, better);
    (void)snprintf(why, size,
                   "non-null host address bits in \"%.*s\", perhaps you should "
                   "use \"%s\" instead",
                   SLF(slice_sub(pattern, 0, 100)), better);
    return why;
}

/* The address is of the same family as the pattern. */
static bool net_has(const struct net *n, const uint8_t *ip)
{
    unsigned whole = n->bits / 8;
    unsigned rest = n->bits % 8;

    if (memcmp(n->ip, ip, whole) != 0)
        return false;
    return rest == 0 || ((n->ip[whole] ^ ip[whole]) >> (8 - rest)) == 0;
}

bool table_net_match(slice pattern, slice ip)
{
    uint8_t bytes[16];
    char why[300];
    struct net n;
    int family;

    return net_parse(pattern, &n, why, sizeof(why)) == NULL &&
           mail_ip_parse(ip, &family, bytes) &&
           n.bytes == (family == 4 ? 4 : 16) && net_has(&n, bytes);
}

const char *table_net_check(slice pattern, char *why, size_t why_size)
{
    struct net n;

    return net_parse(pattern, &n, why, why_size);
}

/* ------------------------------------------------------------------ *
 * Reading
 */

static void warn(struct reading *r, const char *text)
{
    table_warn(r->t, "cidr map %.*s, line %u: %s", SLF(r->t->name), r->line,
               text);
}

static void warn_line(void *ctx, unsigned line, const char *text)
{
    struct reading *r = ctx;

    r->line = line;
    warn(r, text);
}

static void rule_add(struct reading *r, struct cidr_rule *rule)
{
    struct cidr *c = r->cidr;

    if (c->n == CIDR_RULES) {
        warn(r, "too many rules: skipping this rule");
        return;
    }
    if (c->n == c->size) {
        c->size = c->size == 0 ? 16 : c->size * 2;
        c->v = xrealloc(c->v, c->size * sizeof(struct cidr_rule));
    }
    rule->depth = r->depth;
    c->v[c->n++] = *rule;
}

/* Take `[!]pattern` off the front. */
static bool pattern_take(struct reading *r, slice *in, struct cidr_rule *rule)
{
    char why[300];
    char text[400];
    const char *wrong;
    slice pattern;
    size_t n = 0;

    while (in->n > 0 && (in->p[0] == '!' || ascii_isspace(in->p[0]))) {
        if (in->p[0] == '!')
            rule->negated = !rule->negated;
        *in = slice_from(*in, 1);
    }
    while (n < in->n && !ascii_isspace(in->p[n]))
        n++;
    pattern = slice_sub(*in, 0, n);
    *in = slice_trim(slice_from(*in, n));
    if (pattern.n == 0) {
        warn(r, "no address pattern: skipping this rule");
        return false;
    }
    wrong = net_parse(pattern, &rule->net, why, sizeof(why));
    if (wrong != NULL) {
        (void)snprintf(text, sizeof(text), "%s: skipping this rule", wrong);
        warn(r, text);
        return false;
    }
    return true;
}

static void read_match(struct reading *r, slice text)
{
    struct cidr_rule rule = { .kind = CIDR_MATCH };

    if (!pattern_take(r, &text, &rule))
        return;
    if (text.n == 0) {
        warn(r, "no lookup result: skipping this rule");
        return;
    }
    rule.value = slice_dup(r->cidr->arena, text);
    rule_add(r, &rule);
}

static void read_if(struct reading *r, slice text)
{
    struct cidr_rule rule = { .kind = CIDR_IF };

    if (!pattern_take(r, &text, &rule))
        return;
    if (text.n > 0)
        warn(r, "ignoring extra text after IF statement");
    if (r->depth == CIDR_NESTING) {
        warn(r, "IFs nested too deep: skipping this rule");
        return;
    }
    rule_add(r, &rule);
    r->if_lines[r->depth++] = r->line;
}

static void read_endif(struct reading *r, slice text)
{
    struct cidr_rule rule = { .kind = CIDR_ENDIF };

    if (r->depth == 0) {
        warn(r, "ignoring ENDIF without matching IF");
        return;
    }
    if (slice_trim(text).n > 0)
        warn(r, "ignoring extra text after ENDIF");
    r->depth--;
    rule_add(r, &rule);
}

static bool is_word(slice text, const char *word, size_t n)
{
    return text.n >= n && slice_ieqs(slice_sub(text, 0, n), word) &&
           (text.n == n || !ascii_isalnum(text.p[n]));
}

static void read_line(struct reading *r, slice text)
{
    if (is_word(text, "if", 2))
        read_if(r, slice_from(text, 2));
    else if (is_word(text, "endif", 5))
        read_endif(r, slice_from(text, 5));
    else
        read_match(r, text);
}

static void cidr_free(void *data)
{
    struct cidr *c = data;

    free(c->v);
    arena_free(&c->arena);
    free(c);
}

static int cidr_load(struct table *t, slice text, void **out, struct err *err)
{
    struct reading *r = xcalloc(1, sizeof(*r));
    struct source s;
    unsigned line;
    slice logical;

    (void)err;
    r->t = t;
    r->cidr = xcalloc(1, sizeof(*r->cidr));
    r->cidr->arena = arena_new((size_t)2 * TABLE_SOURCE_MAX);
    source_init(&s, text);
    s.warn = warn_line;
    s.ctx = r;
    while (source_next(&s, &logical, &line)) {
        r->line = line;
        read_line(r, slice_trim(logical));
    }
    source_done(&s);
    while (r->depth > 0) {
        r->line = r->if_lines[--r->depth];
        warn(r, "IF has no matching ENDIF");
    }
    *out = r->cidr;
    free(r);
    return 0;
}

static int cidr_lookup(struct table *t, slice key, unsigned flags,
                       struct arena *a, slice *value, struct err *err)
{
    const struct cidr *c = t->data;
    unsigned depth = 0;
    uint8_t ip[16];
    unsigned bytes;
    int family;

    (void)flags;
    *value = SLICE_NONE;
    if (!mail_ip_parse(key, &family, ip))
        return 0;
    bytes = family == 4 ? 4 : 16;
    for (size_t i = 0; i < c->n; i++) {
        const struct cidr_rule *rule = &c->v[i];

        if (rule->depth > depth)
            continue; /* inside an IF that does not hold */
        depth = rule->depth;
        /* Another family matches neither the pattern nor its negation. */
        if (rule->kind == CIDR_ENDIF || rule->net.bytes != bytes ||
            net_has(&rule->net, ip) == rule->negated)
            continue;
        if (rule->kind == CIDR_IF) {
            depth++;
            continue;
        }
        *value = slice_dup(a, rule->value);
        return value->p != NULL ? 0 : err_temp(err, "%s: no memory", t->whole);
    }
    return 0;
}

const struct table_ops table_ops_cidr = {
    .type = "cidr",
    .kind = TABLE_SOURCE,
    .load = cidr_load,
    .lookup = cidr_lookup,
    .free = cidr_free,
};
