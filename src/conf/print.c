/* What the postconf command prints, in the forms of Postfix's postconf. */
#include "conf/conf_priv.h"

#define FOLD_COLUMN 79 /* lines end before it */

/* A line being built: words with single spaces, folded if asked. */
struct line {
    struct buf *out;
    size_t column;
    bool fold;
    bool started; /* something stands on the line */
};

static void put_word(struct line *l, slice word)
{
    if (!l->started) {
        l->column += word.n;
    } else if (l->fold && l->column + 1 + word.n >= FOLD_COLUMN) {
        buf_puts(l->out, "\n    ");
        l->column = 4 + word.n;
    } else {
        buf_byte(l->out, ' ');
        l->column += 1 + word.n;
    }
    buf_slice(l->out, word);
    l->started = true;
}

static void put_words(struct line *l, slice text)
{
    slice word;

    while (slice_token(&text, " \t\r\n\v\f", &word))
        put_word(l, word);
}

/* The value as asked for: default or set, expanded or as written. */
static void value_of(const struct conf *c, const struct conf_service *s,
                     slice name, unsigned flags, struct buf *out)
{
    struct buf scratch;
    struct err err;
    const char *raw;

    buf_init(&scratch, CONF_MAX_VALUE);
    if (flags & CONF_PRINT_DEFAULTS)
        raw = conf_default_text(c, s, name, &scratch);
    else
        raw = conf_raw_into(c, s, name, &scratch);
    if (raw == NULL)
        raw = "";
    if ((flags & CONF_PRINT_EXPANDED) &&
        conf_expand(c, s, slice_str(raw), out, &err) < 0)
        buf_clear(out);
    else if (!(flags & CONF_PRINT_EXPANDED))
        buf_puts(out, raw);
    buf_done(&scratch);
}

static void print_value(const struct conf *c, const struct conf_service *s,
                        slice label, slice name, unsigned flags,
                        struct buf *out)
{
    struct line l = { .out = out, .fold = (flags & CONF_PRINT_FOLD) != 0 };
    struct buf value;

    if (!(flags & CONF_PRINT_NO_NAME)) {
        put_word(&l, label);
        if (!(flags & CONF_PRINT_NO_VALUE))
            put_word(&l, SL("="));
    }
    if (!(flags & CONF_PRINT_NO_VALUE)) {
        buf_init(&value, CONF_MAX_VALUE);
        value_of(c, s, name, flags, &value);
        put_words(&l, buf_view(&value));
        buf_done(&value);
    }
    buf_byte(out, '\n');
}

/* Names to print, sorted. */
struct names {
    const char **v;
    size_t n;
    size_t size;
};

static void names_add(struct names *names, const char *name)
{
    if (names->n == names->size) {
        names->size = names->size > 0 ? 2 * names->size : 1024;
        names->v = xrealloc(names->v, names->size * sizeof(names->v[0]));
    }
    names->v[names->n++] = name;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void names_sort(struct names *names)
{
    size_t kept = 0;

    if (names->n == 0)
        return;
    qsort(names->v, names->n, sizeof(names->v[0]), by_name);
    for (size_t i = 0; i < names->n; i++)
        if (kept == 0 || strcmp(names->v[i], names->v[kept - 1]) != 0)
            names->v[kept++] = names->v[i];
    names->n = kept;
}

/* The members of the families, for the transports of master.cf. */
static void add_families(const struct conf *c, struct names *names)
{
    for (size_t i = 0; i < c->n_services; i++) {
        const struct conf_service *s = &c->services[i];
        bool is_pipe = strcmp(s->command, "pipe") == 0;

        if (s->type != CONF_UNIX ||
            (!is_pipe && strcmp(s->command, "smtp") != 0 &&
             strcmp(s->command, "lmtp") != 0 &&
             strcmp(s->command, "local") != 0 &&
             strcmp(s->command, "virtual") != 0 &&
             strcmp(s->command, "error") != 0))
            continue;
        for (size_t f = 0; f < conf_family_count(); f++) {
            const char *suffix = conf_family_at(f)->name;

            if (is_pipe || strcmp(suffix, "_time_limit") != 0)
                names_add(names,
                          arena_printf(c->arena, "%s%s", s->name, suffix));
        }
    }
}

static void all_names(const struct conf *c, unsigned flags, struct names *names)
{
    struct conf_names *used = conf_names_referenced(c);

    for (size_t i = 0; i < c->n_entries; i++) {
        const char *name = c->entries[i]->name;

        if (!(flags & CONF_PRINT_DEFAULTS) &&
            (conf_is_known(c, slice_str(name)) ||
             conf_names_has(used, slice_str(name))))
            names_add(names, name);
    }
    conf_names_free(&used);
    if (flags & CONF_PRINT_CHANGED) {
        names_add(names, "config_directory");
        names_sort(names);
        return;
    }
    for (size_t i = 0; i < conf_param_count(); i++)
        names_add(names, conf_param_at(i)->name);
    add_families(c, names);
    names_sort(names);
}

int conf_print(const struct conf *c, const char *name, unsigned flags,
               struct buf *out, struct err *err)
{
    struct names names = { 0 };

    CHECK_OBJ(c, CONF_MAGIC);
    if (name != NULL) {
        if (!conf_is_known(c, slice_str(name)) &&
            conf_entry_find(c, slice_str(name)) == NULL)
            return err_perm(err, "%.100s: unknown parameter", name);
        print_value(c, NULL, slice_str(name), slice_str(name), flags, out);
        return 0;
    }
    all_names(c, flags, &names);
    for (size_t i = 0; i < names.n; i++)
        if (names.v[i] != NULL)
            print_value(c, NULL, slice_str(names.v[i]), slice_str(names.v[i]),
                        flags, out);
    free(names.v);
    return 0;
}

/* Does "name" or "name/type" mean this service? */
static bool selects(slice pattern, const struct conf_service *s)
{
    slice name;

    slice_cut(&pattern, '/', &name);
    return (slice_eqs(name, s->name) || slice_eqs(name, "*")) &&
           (pattern.n == 0 || slice_eqs(pattern, "*") ||
            slice_eqs(pattern, conf_service_type_name(s->type)));
}

static const char *flag_text(bool value, bool def)
{
    return value == def ? "-" : value ? "y" : "n";
}

static void put_args(const struct conf_service *s, struct line *l)
{
    for (int i = 0; i < s->verbose; i++)
        put_word(l, SL("-v"));
    for (size_t i = 0; i < s->n_overrides; i++) {
        const struct conf_override *o = &s->overrides[i];
        bool spaced = o->value[strcspn(o->value, " \t")] != '\0';
        struct buf word;

        buf_init(&word, CONF_MAX_VALUE);
        if (l->fold && l->started) {
            buf_puts(l->out, "\n   ");
            l->column = 3;
        }
        buf_printf(&word, spaced ? "{ %s = %s }" : "%s=%s", o->name, o->value);
        put_word(l, SL("-o"));
        put_word(l, buf_view(&word));
        buf_done(&word);
    }
    for (size_t i = 0; i < s->n_args; i++) {
        const char *a = s->args[i];
        struct buf word;

        buf_init(&word, CONF_MAX_VALUE);
        buf_printf(&word,
                   a[0] == '\0' || a[strcspn(a, " \t")] != '\0' ? "{ %s }"
                                                                : "%s",
                   a);
        put_word(l, buf_view(&word));
        buf_done(&word);
    }
}

/* At its column, or one space behind what stands there. */
static void put_column(struct buf *out, size_t column, const char *text)
{
    if (out->n > 0)
        buf_byte(out, ' ');
    while (out->n < column && buf_byte(out, ' '))
        ;
    buf_puts(out, text);
}

static void print_service(const struct conf_service *s, unsigned flags,
                          struct buf *out)
{
    struct line l = { .out = out, .fold = (flags & CONF_PRINT_FOLD) != 0 };
    char wakeup[16] = "-";
    char maxproc[16] = "-";
    struct buf columns;

    if (s->wakeup_sec > 0)
        (void)snprintf(wakeup, sizeof(wakeup), "%d%s", s->wakeup_sec,
                       s->wakeup_if_used ? "?" : "");
    if (s->maxproc >= 0)
        (void)snprintf(maxproc, sizeof(maxproc), "%d", s->maxproc);
    buf_init(&columns, 10000);
    put_column(&columns, 0, s->name);
    put_column(&columns, 11, conf_service_type_name(s->type));
    put_column(&columns, 17,
               s->type == CONF_INET || s->type == CONF_PASS
                   ? (s->is_private ? "y" : "n")
                   : flag_text(s->is_private, true));
    put_column(&columns, 25, flag_text(s->is_unpriv, true));
    put_column(&columns, 33, s->is_chroot ? "y" : "n");
    put_column(&columns, 41, wakeup);
    put_column(&columns, 49, maxproc);
    put_column(&columns, 57, s->command);
    put_word(&l, buf_view(&columns));
    buf_done(&columns);
    put_args(s, &l);
    buf_byte(out, '\n');
}

static int unknown_service(const char *pattern, struct err *err)
{
    return err_perm(err, "unmatched request: \"%.100s\"", pattern);
}

int conf_print_services(const struct conf *c, const char *pattern,
                        unsigned flags, struct buf *out, struct err *err)
{
    bool any = pattern == NULL;

    CHECK_OBJ(c, CONF_MAGIC);
    for (size_t i = 0; i < c->n_services; i++) {
        if (pattern != NULL && !selects(slice_str(pattern), &c->services[i]))
            continue;
        any = true;
        print_service(&c->services[i], flags, out);
    }
    return any ? 0 : unknown_service(pattern, err);
}

/* "name/type" and the parameter behind the second slash. */
static void split_pattern(slice pattern, slice *service, slice *param)
{
    ssize_t first = slice_chr(pattern, '/');
    ssize_t second = -1;

    *service = pattern;
    *param = SLICE_NONE;
    if (first >= 0)
        second = slice_chr(slice_from(pattern, (size_t)first + 1), '/');
    if (second >= 0) {
        size_t at = (size_t)first + 1 + (size_t)second;

        *service = slice_sub(pattern, 0, at);
        *param = slice_from(pattern, at + 1);
    }
}

int conf_print_overrides(const struct conf *c, const char *pattern,
                         unsigned flags, struct buf *out, struct err *err)
{
    slice service = SLICE_NONE;
    slice param = SLICE_NONE;
    bool any = pattern == NULL;

    CHECK_OBJ(c, CONF_MAGIC);
    if (pattern != NULL)
        split_pattern(slice_str(pattern), &service, &param);
    for (size_t i = 0; i < c->n_services; i++) {
        const struct conf_service *s = &c->services[i];

        if (pattern != NULL && !selects(service, s))
            continue;
        for (size_t o = 0; o < s->n_overrides; o++) {
            slice name = slice_str(s->overrides[o].name);
            struct buf label;

            if (param.n > 0 && !slice_eq(param, name) && !slice_eqs(param, "*"))
                continue;
            any = true;
            buf_init(&label, 1000);
            buf_printf(&label, "%s/%s/%.*s", s->name,
                       conf_service_type_name(s->type), SLF(name));
            print_value(c, s, buf_view(&label), name, flags, out);
            buf_done(&label);
        }
    }
    return any ? 0 : unknown_service(pattern, err);
}
