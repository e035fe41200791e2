/* Values of parameters: override, main.cf, default; expanded and kept. */
#include "conf/conf_priv.h"

const struct conf_entry *conf_entry_find(const struct conf *c, slice name)
{
    struct map_node *n = map_get(c->main, name);

    return n == NULL ? NULL : CONTAINER_OF(n, struct conf_entry, node);
}

const struct conf_override *conf_override_find(const struct conf_service *s,
                                               slice name)
{
    if (s == NULL)
        return NULL;
    /* The last one wins. */
    for (size_t i = s->n_overrides; i > 0; i--)
        if (slice_eqs(name, s->overrides[i - 1].name))
            return &s->overrides[i - 1];
    return NULL;
}

static const char *set_text(const struct conf *c, const struct conf_service *s,
                            slice name)
{
    const struct conf_override *o = conf_override_find(s, name);
    const struct conf_entry *e;

    if (o != NULL)
        return o->value;
    e = conf_entry_find(c, name);
    return e != NULL ? e->value : NULL;
}

/* For mydomain's default: the names in myhostname's text, one level deep, so
 * that "myhostname = mail.$mydomain" is no loop. */
struct plain_ctx {
    const struct conf *c;
    const struct conf_service *s;
};

static bool plain_lookup(void *ctx, slice name, struct buf *out)
{
    const struct plain_ctx *p = ctx;
    const char *text = set_text(p->c, p->s, name);

    if (text == NULL || slice_eqs(name, "mydomain"))
        return false;
    return buf_puts(out, text);
}

static const char *default_mydomain(const struct conf *c,
                                    const struct conf_service *s,
                                    struct buf *scratch)
{
    struct plain_ctx ctx = { .c = c, .s = s };
    const char *text = set_text(c, s, SL("myhostname"));
    ssize_t dot;
    struct err err;

    if (text == NULL)
        text = c->hostname;
    if (conf_expand_with(slice_str(text), plain_lookup, &ctx, scratch, &err) <
        0)
        buf_clear(scratch);
    dot = slice_chr(buf_view(scratch), '.');
    if (dot < 0 || (size_t)dot + 1 >= scratch->n)
        return "localdomain";
    buf_consume(scratch, (size_t)dot + 1);
    return buf_cstr(scratch);
}

static const char *default_myhostname(const struct conf *c,
                                      const struct conf_service *s,
                                      struct buf *scratch)
{
    const char *domain;

    if (strchr(c->hostname, '.') != NULL)
        return c->hostname;
    domain = set_text(c, s, SL("mydomain"));
    buf_printf(scratch, "%s.%s", c->hostname,
               domain != NULL ? "$mydomain" : "localdomain");
    return buf_cstr(scratch);
}

/* Class A, B and C as they were before CIDR. */
static int class_bits(const struct conf_addr *a)
{
    if (a->is_v6)
        return a->bits;
    if (a->ip[0] < 128)
        return 8;
    return a->ip[0] < 192 ? 16 : 24;
}

static bool has_word(slice list, slice word)
{
    slice w;

    while (conf_list_next(&list, &w))
        if (slice_eq(w, word))
            return true;
    return false;
}

#define MAX_OWN 64

static const char *default_mynetworks(const struct conf *c,
                                      const struct conf_service *s,
                                      struct buf *scratch)
{
    struct conf_addr own[MAX_OWN];
    size_t n = conf_own_addrs(c, false, own, MAX_OWN);
    slice style = conf_slice(c, s, "mynetworks_style");

    for (size_t i = 0; i < n; i++) {
        int bits = own[i].is_v6 ? 128 : 32;
        struct buf one;

        if (slice_eqs(style, "subnet"))
            bits = own[i].bits;
        else if (slice_eqs(style, "class"))
            bits = class_bits(&own[i]);
        buf_init(&one, 128);
        conf_addr_print(&own[i], &one, bits);
        if (!has_word(buf_view(scratch), buf_view(&one)))
            buf_printf(scratch, "%s%s", i > 0 ? " " : "", buf_cstr(&one));
        buf_done(&one);
    }
    return buf_cstr(scratch);
}

static const char *default_config_directory(const struct conf *c,
                                            const struct conf_service *s UNUSED,
                                            struct buf *scratch UNUSED)
{
    return c->dir;
}

static const char *default_process_name(const struct conf *c UNUSED,
                                        const struct conf_service *s,
                                        struct buf *scratch UNUSED)
{
    return s != NULL ? s->command : "";
}

static const char *default_service_name(const struct conf *c UNUSED,
                                        const struct conf_service *s,
                                        struct buf *scratch UNUSED)
{
    return s != NULL ? s->name : "";
}

static const char *default_mail_version(const struct conf *c UNUSED,
                                        const struct conf_service *s UNUSED,
                                        struct buf *scratch UNUSED)
{
    return HATO_VERSION;
}

static const struct {
    const char *name;
    const char *(*make)(const struct conf *c, const struct conf_service *s,
                        struct buf *scratch);
} computed[] = {
    { "config_directory", default_config_directory },
    { "mail_version", default_mail_version },
    { "mydomain", default_mydomain },
    { "myhostname", default_myhostname },
    { "mynetworks", default_mynetworks },
    { "process_name", default_process_name },
    { "service_name", default_service_name },
};

const char *conf_default_text(const struct conf *c,
                              const struct conf_service *s, slice name,
                              struct buf *scratch)
{
    const struct conf_param *p;
    size_t prefix;

    for (size_t i = 0; i < ARRAY_LEN(computed); i++)
        if (slice_eqs(name, computed[i].name))
            return computed[i].make(c, s, scratch);
    p = conf_param_find(name);
    if (p == NULL)
        p = conf_family_find(name, &prefix);
    return p != NULL ? p->def : NULL;
}

/* "myorigin = /etc/mailname": the first line of that file. */
static const char *first_line(const struct conf *c, const char *path,
                              struct buf *scratch)
{
    const struct conf_file *f = conf_get_file(c, slice_str(path));
    slice rest;
    slice line;

    if (f == NULL || f->trouble != NULL)
        return path;
    rest = f->text;
    slice_cut(&rest, '\n', &line);
    buf_clear(scratch);
    buf_slice(scratch, slice_trim(line));
    return buf_cstr(scratch);
}

const char *conf_raw_into(const struct conf *c, const struct conf_service *s,
                          slice name, struct buf *scratch)
{
    const char *text = set_text(c, s, name);

    if (text == NULL)
        return conf_default_text(c, s, name, scratch);
    if (text[0] == '/' && slice_eqs(name, "myorigin"))
        return first_line(c, text, scratch);
    return text;
}

const struct conf_param *conf_param_for(const struct conf *c, slice name)
{
    /* Transports that need no line in master.cf. */
    static const char *const always[] = { "smtp", "relay", "lmtp", "local",
                                          "virtual" };
    const struct conf_param *p = conf_param_find(name);
    size_t n;

    if (p != NULL)
        return p;
    p = conf_family_find(name, &n);
    if (p == NULL)
        return NULL;
    for (size_t i = 0; i < ARRAY_LEN(always); i++)
        if (slice_eqs(slice_sub(name, 0, n), always[i]))
            return p;
    for (size_t i = 0; i < c->n_services; i++)
        if (slice_eqs(slice_sub(name, 0, n), c->services[i].name))
            return p;
    return NULL;
}

/* The expanded text of a name; what does not expand is replaced by the
 * default (invariant 2). */
static void expand_value(const struct conf *c, const struct conf_service *s,
                         slice name, struct buf *out)
{
    const struct conf_param *p = conf_param_find(name);
    struct buf scratch;
    struct err err;
    const char *raw;

    buf_init(&scratch, CONF_MAX_VALUE);
    raw = conf_raw_into(c, s, name, &scratch);
    if (raw == NULL)
        raw = "";
    if (p != NULL && p->type == CONF_T_RAW) {
        buf_puts(out, raw);
    } else if (conf_expand(c, s, slice_str(raw), out, &err) < 0) {
        buf_clear(out);
        buf_clear(&scratch);
        raw = conf_default_text(c, s, name, &scratch);
        if (raw == NULL || conf_expand(c, s, slice_str(raw), out, &err) < 0)
            buf_clear(out);
    }
    buf_done(&scratch);
}

struct conf_cached *conf_cached_get(const struct conf *c,
                                    const struct conf_service *s,
                                    const char *name)
{
    struct conf_cached *k;
    struct map_node *n;
    struct buf value;
    char key[300];
    int len;

    CHECK_OBJ(c, CONF_MAGIC);
    len = snprintf(key, sizeof(key), "%zu %s", s != NULL ? s->index + 1 : 0,
                   name);
    CHECK(len > 0 && (size_t)len < sizeof(key));
    n = map_get(c->cache, slice_of(key, (size_t)len));
    if (n != NULL)
        return CONTAINER_OF(n, struct conf_cached, node);
    buf_init(&value, CONF_MAX_VALUE);
    expand_value(c, s, slice_str(name), &value);
    k = ARENA_NEW(c->arena, struct conf_cached);
    k->value = slice_cstr(c->arena, buf_view(&value));
    CHECK(k->value != NULL);
    k->text = slice_str(k->value);
    buf_done(&value);
    map_put(c->cache, &k->node,
            slice_dup(c->arena, slice_of(key, (size_t)len)));
    return k;
}

const char *conf_str(const struct conf *c, const struct conf_service *service,
                     const char *name)
{
    return conf_cached_get(c, service, name)->value;
}

slice conf_slice(const struct conf *c, const struct conf_service *service,
                 const char *name)
{
    return conf_cached_get(c, service, name)->text;
}

/* The default, expanded, for a value that does not parse. */
static void default_value(const struct conf *c, const struct conf_service *s,
                          const char *name, struct buf *out)
{
    struct buf scratch;
    const char *raw;
    struct err err;

    buf_init(&scratch, CONF_MAX_VALUE);
    raw = conf_default_text(c, s, slice_str(name), &scratch);
    if (raw == NULL || conf_expand(c, s, slice_str(raw), out, &err) < 0)
        buf_clear(out);
    buf_done(&scratch);
}

static const struct conf_param *declared(const char *name)
{
    const struct conf_param *p = conf_param_find(slice_str(name));
    size_t prefix;

    return p != NULL ? p : conf_family_find(slice_str(name), &prefix);
}

int64_t conf_int(const struct conf *c, const struct conf_service *service,
                 const char *name)
{
    const struct conf_param *p = declared(name);
    struct buf def;
    int64_t n = 0;

    if (conf_parse_int(conf_slice(c, service, name), &n) &&
        (p == NULL || (n >= p->min && n <= p->max)))
        return n;
    buf_init(&def, CONF_MAX_VALUE);
    default_value(c, service, name, &def);
    if (!conf_parse_int(buf_view(&def), &n))
        n = 0;
    buf_done(&def);
    return n;
}

bool conf_bool(const struct conf *c, const struct conf_service *service,
               const char *name)
{
    struct buf def;
    bool b = false;

    if (conf_parse_bool(conf_slice(c, service, name), &b))
        return b;
    buf_init(&def, CONF_MAX_VALUE);
    default_value(c, service, name, &def);
    if (!conf_parse_bool(buf_view(&def), &b))
        b = false;
    buf_done(&def);
    return b;
}

int64_t conf_time(const struct conf *c, const struct conf_service *service,
                  const char *name)
{
    const struct conf_param *p = declared(name);
    char unit = p != NULL && p->unit != 0 ? p->unit : 's';
    struct buf def;
    int64_t t = 0;

    if (conf_parse_time(conf_slice(c, service, name), unit, &t))
        return t;
    buf_init(&def, CONF_MAX_VALUE);
    default_value(c, service, name, &def);
    if (!conf_parse_time(buf_view(&def), unit, &t))
        t = 0;
    buf_done(&def);
    return t;
}

uint64_t conf_size(const struct conf *c, const struct conf_service *service,
                   const char *name)
{
    int64_t n = conf_int(c, service, name);

    return n > 0 ? (uint64_t)n : 0;
}

bool conf_is_set(const struct conf *c, const struct conf_service *service,
                 const char *name)
{
    CHECK_OBJ(c, CONF_MAGIC);
    return set_text(c, service, slice_str(name)) != NULL;
}

const char *conf_raw(const struct conf *c, const struct conf_service *service,
                     const char *name)
{
    struct buf scratch;
    const char *raw;

    CHECK_OBJ(c, CONF_MAGIC);
    raw = set_text(c, service, slice_str(name));
    if (raw != NULL)
        return raw;
    buf_init(&scratch, CONF_MAX_VALUE);
    raw = conf_default_text(c, service, slice_str(name), &scratch);
    if (raw != NULL && raw == scratch.p)
        raw = slice_cstr(c->arena, buf_view(&scratch));
    buf_done(&scratch);
    return raw;
}

void conf_where(const struct conf *c, const struct conf_service *service,
                const char *name, const char **file, int *line)
{
    const struct conf_entry *e;

    CHECK_OBJ(c, CONF_MAGIC);
    *file = "";
    *line = 0;
    if (conf_override_find(service, slice_str(name)) != NULL) {
        *file = service->file;
        *line = service->line;
        return;
    }
    e = conf_entry_find(c, slice_str(name));
    if (e != NULL) {
        *file = c->main_path;
        *line = e->line;
    }
}

static void transport_name(const char *transport, const char *suffix, char *out,
                           size_t size)
{
    int n = snprintf(out, size, "%s%s", transport, suffix);

    /* A transport comes from a table as well; one with an endless name has
     * the default. */
    if (n < 0 || (size_t)n >= size)
        (void)snprintf(out, size, "x%s", suffix);
}

int64_t conf_transport_int(const struct conf *c, const char *transport,
                           const char *suffix)
{
    char name[200];

    transport_name(transport, suffix, name, sizeof(name));
    return conf_int(c, NULL, name);
}

int64_t conf_transport_time(const struct conf *c, const char *transport,
                            const char *suffix)
{
    char name[200];

    transport_name(transport, suffix, name, sizeof(name));
    return conf_time(c, NULL, name);
}

bool conf_compat(const struct conf *c, int major, int minor)
{
    char level[32];
    int cmp = -1;

    (void)snprintf(level, sizeof(level), "%d.%d", major, minor);
    return conf_level_compare(conf_slice(c, NULL, "compatibility_level"),
                              slice_str(level), &cmp) &&
           cmp >= 0;
}
