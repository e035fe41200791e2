#include "auth/auth_priv.h"

#include "mail/mail.h"

/* ---- passdb */

static const struct {
    const char *word;
    enum passdb_kind kind;
} workers[] = { { "pam", PASSDB_PAM }, { "shadow", PASSDB_SHADOW } };

/* "pam", "pam:service", "shadow". */
static bool is_worker(slice item, enum passdb_kind *kind, slice *service)
{
    slice word;

    *service = item;
    (void)slice_cut(service, ':', &word);
    for (size_t i = 0; i < ARRAY_LEN(workers); i++) {
        if (slice_eqs(word, workers[i].word)) {
            *kind = workers[i].kind;
            return true;
        }
    }
    return false;
}

bool auth_config_needs_worker(const struct conf *conf)
{
    slice rest = conf_slice(conf, NULL, "passdb");
    enum passdb_kind kind;
    slice item, service;

    while (conf_list_next(&rest, &item))
        if (is_worker(item, &kind, &service))
            return true;
    return false;
}

static int add_passdb(struct auth_config *c, struct tables *tables, slice item,
                      struct err *err)
{
    struct passdb *p = &c->passdbs[c->n_passdbs];
    slice type, name, whole, service;

    if (c->n_passdbs == PASSDBS_MAX)
        return err_perm(err, "passdb: more than %d entries", PASSDBS_MAX);
    if (is_worker(item, &p->kind, &service)) {
        p->name = p->kind == PASSDB_PAM ? "pam" : "shadow";
        if (!slice_copy_to(service, p->service, sizeof p->service) ||
            slice_chr(service, '/') >= 0)
            return err_perm(err, "passdb: %.*s: bad name of a PAM service",
                            SLF(item));
        c->n_passdbs++;
        return 0;
    }
    if (slice_eqs(item, "passwd"))
        item = SL("unix:passwd.byname");
    if (!table_canonical(item, &type, &name, &whole))
        return err_perm(err,
                        "passdb: \"%.*s\" is neither type:name nor pam, "
                        "shadow or passwd",
                        SLF(slice_sub(item, 0, 100)));
    p->kind = slice_eqs(type, "passwd-file") || slice_eqs(type, "unix")
                  ? PASSDB_FILE
                  : PASSDB_TABLE;
    p->name = slice_eqs(type, "passwd-file") ? "passwd-file"
              : slice_eqs(type, "unix")      ? "passwd"
                                             : "table";
    if (table_list_new(tables, item, &p->list, err) < 0)
        return err_prefix(err, "passdb");
    c->n_passdbs++;
    return 0;
}

/* ---- reading */

static int read_mechs(struct auth_config *c, struct err *err)
{
    slice rest = conf_slice(c->conf, NULL, "auth_mechanisms");
    slice word;

    while (conf_list_next(&rest, &word)) {
        unsigned bit = sasl_find(word);

        if (bit == 0)
            return err_perm(err,
                            "auth_mechanisms: %.*s is not one of plain, "
                            "login, scram-sha-256, scram-sha-1, "
                            "scram-sha-256-plus, scram-sha-1-plus",
                            SLF(slice_sub(word, 0, 40)));
        c->mechs |= bit;
    }
    return 0;
}

static bool format_is_good(slice f)
{
    for (size_t i = 0; i < f.n; i++) {
        if (f.p[i] != '%')
            continue;
        i++;
        while (i < f.n && (f.p[i] == 'L' || f.p[i] == 'U'))
            i++;
        if (i == f.n || strchr("und%", f.p[i]) == NULL)
            return false;
    }
    return true;
}

static int read_all(struct auth_config *c, struct tables *tables,
                    bool is_root_mode, struct err *err)
{
    slice rest = conf_slice(c->conf, NULL, "passdb");
    slice chars = conf_slice(c->conf, NULL, "auth_username_chars");
    slice item;

    c->realm = conf_slice(c->conf, NULL, "auth_default_realm");
    c->format = conf_slice(c->conf, NULL, "auth_username_format");
    if (!format_is_good(c->format))
        return err_perm(err, "auth_username_format: only %%u, %%n, %%d with L "
                             "or U in front are known");
    c->has_chars = chars.n > 0;
    for (size_t i = 0; i < chars.n; i++)
        c->chars[(unsigned char)chars.p[i] / 8] |=
            (uint8_t)(1u << ((unsigned char)chars.p[i] % 8));
    c->hides_plaintext = conf_bool(c->conf, NULL, "disable_plaintext_auth");
    c->is_verbose = conf_bool(c->conf, NULL, "auth_verbose");
    c->failure_delay_ms = conf_time(c->conf, NULL, "auth_failure_delay") * 1000;
    c->cache_ttl_ms = conf_time(c->conf, NULL, "auth_cache_ttl") * 1000;
    c->cache_bytes = conf_size(c->conf, NULL, "auth_cache_size");
    if (read_mechs(c, err) < 0)
        return -1;
    while (conf_list_next(&rest, &item))
        if (add_passdb(c, tables, item, err) < 0)
            return -1;
    return users_new(c->conf, tables, is_root_mode, &c->users, err);
}

int auth_config_new(struct conf *conf, struct tables *tables, bool is_root_mode,
                    struct auth_config **out, struct err *err)
{
    struct auth_config *c = xcalloc(1, sizeof *c);

    c->n_refs = 1;
    c->conf = conf_ref(conf);
    if (read_all(c, tables, is_root_mode, err) < 0) {
        auth_config_unref(&c);
        return -1;
    }
    *out = c;
    return 0;
}

struct auth_config *auth_config_ref(struct auth_config *c)
{
    c->n_refs++;
    return c;
}

void auth_config_unref(struct auth_config **pc)
{
    struct auth_config *c = *pc;

    *pc = NULL;
    if (c == NULL || --c->n_refs > 0)
        return;
    for (size_t i = 0; i < c->n_passdbs; i++)
        table_list_free(&c->passdbs[i].list);
    users_free(&c->users);
    conf_unref(&c->conf);
    free(c);
}

/* ---- names */

static bool chars_are_good(const struct auth_config *c, slice name)
{
    for (size_t i = 0; i < name.n; i++) {
        unsigned char ch = (unsigned char)name.p[i];

        if (ch < ' ' || ch == 127 ||
            (c->has_chars && !(c->chars[ch / 8] & 1u << (ch % 8))))
            return false;
    }
    return name.n > 0 && name.n <= AUTH_NAME_MAX;
}

static void put_part(struct buf *b, slice part, char how)
{
    for (size_t i = 0; i < part.n; i++)
        (void)buf_byte(b, how == 'L'   ? ascii_lower(part.p[i])
                          : how == 'U' ? ascii_upper(part.p[i])
                                       : part.p[i]);
}

static void put_letter(struct buf *b, slice name, char letter, char how)
{
    slice local = name;
    slice domain = SLICE_NONE;

    (void)mail_addr_split(name, &local, &domain);
    if (letter == '%')
        (void)buf_byte(b, '%');
    else
        put_part(b, letter == 'u' ? name : letter == 'n' ? local : domain, how);
}

slice auth_config_name(const struct auth_config *c, slice given,
                       struct arena *a)
{
    slice name = given;
    slice out = SLICE_NONE;
    struct buf b;

    if (!chars_are_good(c, given))
        return SLICE_NONE;
    if (c->realm.n > 0 && slice_chr(given, '@') < 0)
        name =
            slice_str(arena_printf(a, "%.*s@%.*s", SLF(given), SLF(c->realm)));
    if (c->format.n == 0)
        return slice_dup(a, name);
    buf_init(&b, AUTH_NAME_MAX);
    for (size_t i = 0; i < c->format.n; i++) {
        char how = '\0';

        if (c->format.p[i] != '%') {
            (void)buf_byte(&b, c->format.p[i]);
            continue;
        }
        while (c->format.p[++i] == 'L' || c->format.p[i] == 'U')
            how = c->format.p[i];
        put_letter(&b, name, c->format.p[i], how);
    }
    if (!b.overflow && b.n > 0)
        out = slice_dup(a, buf_view(&b));
    buf_done(&b);
    return out;
}
