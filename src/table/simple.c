#include "table/table_priv.h"

/* The types that stand in the configuration: static, fail, environ, randmap,
 * and the ones made of others, unionmap and pipemap. */

static int give(struct table *t, slice found, struct arena *a, slice *value,
                struct err *err)
{
    *value = slice_dup(a, found);
    if (value->p == NULL)
        return err_temp(err, "%s: no memory for the value", t->whole);
    return 0;
}

/* The text between the outer braces. */
static int unbrace(struct table *t, slice text, slice *out, struct err *err)
{
    slice s = slice_trim(text);

    if (s.n < 2 || s.p[0] != '{' || s.p[s.n - 1] != '}')
        return err_temp(err, "bad syntax: \"%s\"; need \"%s:{...}\"", t->whole,
                        t->ops->type);
    *out = slice_trim(slice_sub(s, 1, s.n - 2));
    return 0;
}

/* ---- static:value, static:{ value } */

static int static_lookup(struct table *t, slice key, unsigned flags,
                         struct arena *a, slice *value, struct err *err)
{
    (void)key;
    (void)flags;
    if (t->name.n > 0 && t->name.p[0] == '{')
        return give(t, conf_list_unbrace(slice_trim(t->name)), a, value, err);
    return give(t, t->name, a, value, err);
}

/* ---- fail:text */

static int fail_lookup(struct table *t, slice key, unsigned flags,
                       struct arena *a, slice *value, struct err *err)
{
    (void)key;
    (void)flags;
    (void)a;
    (void)value;
    return err_temp(err, "table %s: lookup error", t->whole);
}

/* ---- environ: */

static int environ_lookup(struct table *t, slice key, unsigned flags,
                          struct arena *a, slice *value, struct err *err)
{
    char *name = slice_cstr(a, key);
    const char *text;

    (void)flags;
    if (name == NULL)
        return err_temp(err, "%s: no memory for the key", t->whole);
    text = getenv(name);
    if (text == NULL) {
        *value = SLICE_NONE;
        return 0;
    }
    return give(t, slice_str(text), a, value, err);
}

/* ---- randmap:{a, b} */

struct words {
    struct arena *arena;
    slice *v;
    size_t n;
};

static void words_free(void *data)
{
    struct words *w = data;

    arena_free(&w->arena);
    free(w);
}

static int randmap_load(struct table *t, slice text, void **out,
                        struct err *err)
{
    struct words *w;
    slice rest = SLICE_NONE;
    slice item;

    if (unbrace(t, text, &rest, err) < 0)
        return -1;
    w = xcalloc(1, sizeof(*w));
    w->arena = arena_new(1u << 20);
    w->v = arena_alloc(w->arena, (rest.n / 2 + 1) * sizeof(slice));
    while (w->v != NULL && conf_list_next(&rest, &item))
        w->v[w->n++] = slice_dup(w->arena, conf_list_unbrace(item));
    if (w->n == 0) {
        words_free(w);
        return err_temp(err, "bad syntax: \"%s\"; need \"randmap:{value...}\"",
                        t->whole);
    }
    *out = w;
    return 0;
}

static int randmap_lookup(struct table *t, slice key, unsigned flags,
                          struct arena *a, slice *value, struct err *err)
{
    struct words *w = t->data;

    (void)key;
    (void)flags;
    return give(t, w->v[random_u64() % w->n], a, value, err);
}

/* ---- unionmap:{type:name, ...}, pipemap:{type:name, ...} */

struct inner {
    struct table **v;
    size_t n;
};

static void inner_free(void *data)
{
    struct inner *in = data;

    free((void *)in->v);
    free(in);
}

static int inner_load(struct table *t, slice text, void **out, struct err *err)
{
    struct inner *in;
    slice rest = SLICE_NONE;
    slice item;

    if (unbrace(t, text, &rest, err) < 0)
        return -1;
    in = xcalloc(1, sizeof(*in));
    in->v = xcalloc(rest.n / 2 + 1, sizeof(struct table *));
    while (conf_list_next(&rest, &item)) {
        struct table *one = NULL;

        if (tables_entry(t->set, conf_list_unbrace(item), t->depth + 1, &one,
                         err) < 0) {
            inner_free(in);
            return err_prefix(err, "%s", t->whole);
        }
        in->v[in->n++] = one;
        t->is_fixed = t->is_fixed || one->is_fixed;
    }
    if (in->n == 0) {
        inner_free(in);
        return err_temp(err, "bad syntax: \"%s\"; need \"%s:{type:name...}\"",
                        t->whole, t->ops->type);
    }
    *out = in;
    return 0;
}

/* NOLINTNEXTLINE(misc-no-recursion): bounded by TABLE_DEPTH */
MAY_WAIT static int unionmap_lookup(struct table *t, slice key, unsigned flags,
                                    struct arena *a, slice *value,
                                    struct err *err)
{
    const struct inner *in = t->data;
    struct buf joined CLEANUP(buf_done);
    bool found = false;

    buf_init(&joined, TABLE_VALUE_MAX);
    for (size_t i = 0; i < in->n; i++) {
        slice one;

        if (table_ask(in->v[i], key, flags, a, &one, err) < 0)
            return -1;
        if (one.p == NULL)
            continue;
        if (found)
            buf_byte(&joined, ',');
        buf_slice(&joined, one);
        found = true;
    }
    if (joined.overflow)
        return err_temp(err, "%s: value too long", t->whole);
    *value = SLICE_NONE;
    return found ? give(t, buf_view(&joined), a, value, err) : 0;
}

/* NOLINTNEXTLINE(misc-no-recursion): bounded by TABLE_DEPTH */
MAY_WAIT static int pipemap_lookup(struct table *t, slice key, unsigned flags,
                                   struct arena *a, slice *value,
                                   struct err *err)
{
    const struct inner *in = t->data;
    slice at = key;

    for (size_t i = 0; i < in->n && at.p != NULL; i++) {
        slice next;

        if (table_ask(in->v[i], at, flags, a, &next, err) < 0)
            return -1;
        at = next;
    }
    *value = at;
    return 0;
}

const struct table_ops table_ops_static = {
    .type = "static",
    .kind = TABLE_CONF,
    .is_fixed = true,
    .lookup = static_lookup,
};

const struct table_ops table_ops_fail = {
    .type = "fail",
    .kind = TABLE_CONF,
    .lookup = fail_lookup,
};

const struct table_ops table_ops_environ = {
    .type = "environ",
    .kind = TABLE_CONF,
    .is_fixed = true,
    .folds = true,
    .lookup = environ_lookup,
};

const struct table_ops table_ops_randmap = {
    .type = "randmap",
    .kind = TABLE_CONF,
    .load = randmap_load,
    .lookup = randmap_lookup,
    .free = words_free,
};

const struct table_ops table_ops_unionmap = {
    .type = "unionmap",
    .kind = TABLE_CONF,
    .load = inner_load,
    .lookup = unionmap_lookup,
    .free = inner_free,
};

const struct table_ops table_ops_pipemap = {
    .type = "pipemap",
    .kind = TABLE_CONF,
    .load = inner_load,
    .lookup = pipemap_lookup,
    .free = inner_free,
};
