/* Everything that can be found wrong by looking at the snapshot. */
#include "conf/conf_priv.h"

#define SHOWN 120 /* bytes of a value that a diagnostic shows */

/* One value under inspection. */
struct subject {
    struct conf_check *k;
    const struct conf_service *s;
    const struct conf_param *p;
    const char *name;
    const char *file;
    int line;
    slice value; /* expanded */
};

static int shown(slice s)
{
    return (int)min_size(s.n, SHOWN);
}

/* "smtpd_x = y": the wrong type or range. */
static void wrong(const struct subject *t, const char *what, const char *cure)
{
    conf_diags_add(t->k->d, CONF_ERROR, t->file, t->line, cure, "%s = %.*s: %s",
                   t->name, shown(t->value), t->value.p, what);
}

static void check_number(const struct subject *t)
{
    char cure[120];
    int64_t n;

    if (slice_eqs(t->value, "") && t->p->def[0] == '\0')
        return;
    if (!conf_parse_int(t->value, &n)) {
        wrong(t, "not a number",
              t->p->type == CONF_T_SIZE ? "bytes, written out" : "");
        return;
    }
    if (n >= t->p->min && n <= t->p->max)
        return;
    if (t->p->max == INT64_MAX)
        (void)snprintf(cure, sizeof(cure), "at least %" PRId64, t->p->min);
    else
        (void)snprintf(cure, sizeof(cure), "from %" PRId64 " to %" PRId64,
                       t->p->min, t->p->max);
    wrong(t, "out of range", cure);
}

static void check_enum(const struct subject *t)
{
    slice rest = slice_str(t->p->values);
    slice w;
    char cure[200];

    while (slice_token(&rest, " ", &w))
        if (slice_ieq(w, t->value))
            return;
    (void)snprintf(cure, sizeof(cure), "one of: %.180s", t->p->values);
    wrong(t, "not a known word", cure);
}

static void check_table_words(const struct subject *t)
{
    slice rest = t->value;
    slice w;
    slice type;
    slice name;

    while (conf_list_next(&rest, &w)) {
        slice inside = conf_list_unbrace(w);

        if (inside.n != w.n || conf_split_table(w, &type, &name) ||
            t->p->state != CONF_HONOURED)
            continue;
        if (slice_chr(w, ':') >= 0)
            wrong(t, "unknown type of table", "see hato-params(5)");
        else
            wrong(t, "a table is written type:name", "put hash: in front");
    }
}

static void check_type(const struct subject *t)
{
    bool b;
    int64_t n;

    switch (t->p->type) {
    case CONF_T_BOOL:
        if (!conf_parse_bool(t->value, &b))
            wrong(t, "neither yes nor no", "");
        break;
    case CONF_T_INT:
    case CONF_T_SIZE:
        check_number(t);
        break;
    case CONF_T_TIME:
        if (!conf_parse_time(t->value, t->p->unit, &n))
            wrong(t, "not a time", "a number and s, m, h, d or w");
        break;
    case CONF_T_ENUM:
        check_enum(t);
        break;
    case CONF_T_TABLES:
        check_table_words(t);
        break;
    case CONF_T_RESTRICTIONS:
        conf_check_restrictions(t->k, t->s, t->name, t->file, t->line);
        break;
    case CONF_T_STRING:
    case CONF_T_RAW:
    case CONF_T_LIST:
    case CONF_T_MATCH:
    case CONF_T_PATH:
        break;
    }
}

/* The same value, however it is written. */
static bool same_value(const struct conf_param *p, slice a, slice b)
{
    bool x;
    bool y;
    int64_t m;
    int64_t n;
    slice v;
    slice w;
    bool more;

    if (slice_eq(a, b))
        return true;
    if (p->type == CONF_T_BOOL)
        return conf_parse_bool(a, &x) && conf_parse_bool(b, &y) && x == y;
    if (p->type == CONF_T_TIME)
        return conf_parse_time(a, p->unit, &m) &&
               conf_parse_time(b, p->unit, &n) && m == n;
    if (conf_parse_int(a, &m) && conf_parse_int(b, &n))
        return m == n;
    for (;;) {
        more = conf_list_next(&a, &v);
        if (more != conf_list_next(&b, &w))
            return false;
        if (!more)
            return true;
        if (!slice_eq(v, w))
            return false;
    }
}

static bool is_default(const struct subject *t)
{
    struct buf scratch;
    struct buf def;
    struct err err;
    const char *raw;
    bool same = false;

    buf_init(&scratch, CONF_MAX_VALUE);
    buf_init(&def, CONF_MAX_VALUE);
    raw = conf_default_text(t->k->c, t->s, slice_str(t->name), &scratch);
    if (raw == NULL)
        raw = "";
    if (t->p->type == CONF_T_RAW)
        buf_puts(&def, raw);
    if (t->p->type == CONF_T_RAW ||
        conf_expand(t->k->c, t->s, slice_str(raw), &def, &err) == 0)
        same = same_value(t->p, t->value, buf_view(&def));
    buf_done(&scratch);
    buf_done(&def);
    return same;
}

struct rule {
    enum conf_verdict verdict;
    slice why;
};

static bool matches(slice pattern, slice value)
{
    if (slice_ends(pattern, SL("*")))
        return slice_istarts(value, slice_sub(pattern, 0, pattern.n - 1));
    return slice_ieq(pattern, value);
}

/* The first rule whose pattern fits: "pattern => verdict: why; ...". */
static struct rule find_rule(const struct conf_param *p, slice value)
{
    struct rule r = { p->state == CONF_REFUSED ? CONF_REFUSE : CONF_OK,
                      slice_str(p->note) };
    slice rest = slice_str(p->rules);

    while (rest.n > 0) {
        ssize_t end = slice_find(rest, SL("; "));
        slice one = end < 0 ? rest : slice_sub(rest, 0, (size_t)end);
        ssize_t arrow = slice_find(one, SL("=>"));
        slice verdict;

        rest = end < 0 ? SLICE_NONE : slice_from(rest, (size_t)end + 2);
        if (arrow < 0 ||
            !matches(slice_trim(slice_sub(one, 0, (size_t)arrow)), value))
            continue;
        one = slice_from(one, (size_t)arrow + 2);
        slice_cut(&one, ':', &verdict);
        verdict = slice_trim(verdict);
        r.verdict = slice_eqs(verdict, "ok")     ? CONF_OK
                    : slice_eqs(verdict, "warn") ? CONF_WARN
                                                 : CONF_REFUSE;
        if (slice_trim(one).n > 0)
            r.why = slice_trim(one);
        return r;
    }
    return r;
}

static void apply_rule(const struct subject *t, slice value)
{
    struct rule r = find_rule(t->p, value);
    char cure[160];

    if (r.verdict == CONF_WARN)
        conf_diags_add(t->k->d, CONF_WARNING, t->file, t->line, "",
                       "%s = %.*s: %.*s", t->name, shown(t->value), t->value.p,
                       SLF(r.why));
    if (r.verdict != CONF_REFUSE)
        return;
    (void)snprintf(cure, sizeof(cure), "take it out; the default is \"%.120s\"",
                   t->p->def);
    conf_diags_add(t->k->d, CONF_ERROR, t->file, t->line, cure,
                   "%s = %.*s is refused: %.*s", t->name, shown(t->value),
                   t->value.p, SLF(r.why));
}

static void check_state(const struct subject *t)
{
    slice rest = t->value;
    slice w;
    bool any = false;

    if (is_default(t))
        return;
    switch (t->p->type) {
    case CONF_T_LIST:
    case CONF_T_MATCH:
    case CONF_T_TABLES:
    case CONF_T_RESTRICTIONS:
        while (conf_list_next(&rest, &w)) {
            any = true;
            apply_rule(t, w);
        }
        if (!any)
            apply_rule(t, SLICE_NONE);
        break;
    case CONF_T_STRING:
    case CONF_T_RAW:
    case CONF_T_BOOL:
    case CONF_T_INT:
    case CONF_T_SIZE:
    case CONF_T_TIME:
    case CONF_T_ENUM:
    case CONF_T_PATH:
        apply_rule(t, t->value);
        break;
    }
}

static bool is_set_anywhere(const struct conf *c, slice name)
{
    if (conf_entry_find(c, name) != NULL)
        return true;
    for (size_t i = 0; i < c->n_services; i++)
        if (conf_override_find(&c->services[i], name) != NULL)
            return true;
    return false;
}

/* $name without a value anywhere is most often a slip of the pen. */
static void check_reference(void *ctx, slice name)
{
    const struct subject *t = ctx;
    const struct conf *c = t->k->c;
    const char *near;
    char cure[120] = "";

    if (is_set_anywhere(c, name) || conf_is_known(c, name))
        return;
    near = conf_param_nearest(c, name);
    if (near != NULL)
        (void)snprintf(cure, sizeof(cure), "did you mean $%s?", near);
    conf_diags_add(t->k->d, CONF_WARNING, t->file, t->line, cure,
                   "%s: undefined parameter $%.*s", t->name, SLF(name));
}

/* The text expands: true, or a diagnostic. */
static bool check_expansion(struct subject *t)
{
    struct buf out;
    struct err err;
    const char *raw = conf_raw(t->k->c, t->s, t->name);
    int rc;

    if (t->p != NULL && t->p->type == CONF_T_RAW)
        return true;
    if (raw == NULL)
        raw = "";
    conf_each_reference(slice_str(raw), check_reference, t);
    buf_init(&out, CONF_MAX_VALUE);
    rc = conf_expand(t->k->c, t->s, slice_str(raw), &out, &err);
    buf_done(&out);
    if (rc < 0)
        conf_diags_add(t->k->d, CONF_ERROR, t->file, t->line, "", "%s: %s",
                       t->name, err.log);
    return rc == 0;
}

static bool is_class(const struct subject *t)
{
    slice rest = conf_slice(t->k->c, t->s, "smtpd_restriction_classes");
    slice w;

    while (conf_list_next(&rest, &w))
        if (slice_eqs(w, t->name))
            return true;
    return false;
}

void conf_check_value(struct conf_check *k, const struct conf_service *s,
                      const char *name, const char *file, int line)
{
    struct subject t = {
        .k = k,
        .s = s,
        .p = conf_param_for(k->c, slice_str(name)),
        .name = name,
        .file = file,
        .line = line,
    };

    if (!check_expansion(&t))
        return;
    t.value = conf_slice(k->c, s, name);
    if (t.p != NULL) {
        check_type(&t);
        check_state(&t);
    } else if (is_class(&t)) {
        conf_check_restrictions(k, s, name, file, line);
    }
}

static void check_name(struct conf_check *k, const char *name, const char *file,
                       int line)
{
    slice n = slice_str(name);
    const char *near;
    char cure[120] = "";

    if (conf_names_has(k->referenced, n) || conf_is_known(k->c, n))
        return;
    near = conf_param_nearest(k->c, n);
    if (near != NULL)
        (void)snprintf(cure, sizeof(cure), "did you mean %s?", near);
    conf_diags_add(k->d, CONF_ERROR, file, line, cure,
                   "unknown parameter %.100s", name);
}

static void check_main(struct conf_check *k)
{
    const struct conf *c = k->c;

    for (size_t i = 0; i < c->n_entries; i++) {
        const struct conf_entry *e = c->entries[i];

        check_name(k, e->name, c->main_path, e->line);
        conf_check_value(k, NULL, e->name, c->main_path, e->line);
    }
}

/* The overrides themselves, and what of main.cf they change by $name. */
static void check_service_values(struct conf_check *k,
                                 const struct conf_service *s)
{
    const struct conf *c = k->c;

    for (size_t i = 0; i < s->n_overrides; i++) {
        check_name(k, s->overrides[i].name, s->file, s->line);
        conf_check_value(k, s, s->overrides[i].name, s->file, s->line);
    }
    for (size_t i = 0; i < c->n_entries; i++) {
        const char *name = c->entries[i]->name;

        if (!slice_eq(conf_slice(c, s, name), conf_slice(c, NULL, name)))
            conf_check_value(k, s, name, s->file, s->line);
    }
}

bool conf_check(const struct conf *c, bool look, struct conf_diags *diags)
{
    struct conf_check k = { .c = c, .d = diags, .look = look };

    CHECK_OBJ(c, CONF_MAGIC);
    k.referenced = conf_names_referenced(c);
    check_main(&k);
    for (size_t i = 0; i < c->n_services; i++)
        if (c->services[i].n_overrides > 0)
            check_service_values(&k, &c->services[i]);
    conf_check_tables(&k);
    conf_check_services(&k);
    conf_check_directories(&k);
    conf_names_free(&k.referenced);
    return diags->n_errors == 0;
}
