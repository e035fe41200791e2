#include "conf/conf_priv.h"

static bool is_separator(char ch)
{
    return ch == ',' || ch == ' ' || ch == '\t' || ch == '\r' || ch == '\n';
}

bool conf_list_next(slice *rest, slice *item)
{
    size_t i = 0;
    size_t start;
    size_t depth = 0;

    while (i < rest->n && is_separator(rest->p[i]))
        i++;
    start = i;
    if (start == rest->n) {
        *rest = SLICE_NONE;
        return false;
    }
    for (; i < rest->n; i++) {
        char ch = rest->p[i];

        if (depth == 0 && is_separator(ch))
            break;
        if (ch == '{')
            depth++;
        else if (ch == '}' && depth > 0)
            depth--;
    }
    *item = slice_sub(*rest, start, i - start);
    *rest = slice_from(*rest, i);
    return true;
}

slice conf_list_unbrace(slice item)
{
    if (item.n < 2 || item.p[0] != '{' || item.p[item.n - 1] != '}')
        return item;
    return slice_trim(slice_sub(item, 1, item.n - 2));
}

bool conf_split_table(slice text, slice *type, slice *name)
{
    slice t;
    slice n = conf_list_unbrace(text);

    while (slice_starts(n, SL("proxy:")))
        n = slice_from(n, 6);
    if (!slice_cut(&n, ':', &t) || t.n == 0 || !conf_table_type_known(t))
        return false;
    *type = t;
    *name = n;
    return true;
}

struct item_vec {
    struct conf_item *v;
    size_t n;
    size_t size;
};

static void item_add(struct item_vec *items, bool negated, slice text)
{
    slice type;
    slice name;

    if (items->n == items->size) {
        items->size = items->size > 0 ? 2 * items->size : 16;
        items->v = xrealloc(items->v, items->size * sizeof(items->v[0]));
    }
    items->v[items->n++] = (struct conf_item){
        .negated = negated,
        .is_table = conf_split_table(text, &type, &name),
        .text = text,
    };
}

static void add_words(const struct conf *c, slice words, bool negated,
                      struct item_vec *items, unsigned depth);

/* NOLINTNEXTLINE(misc-no-recursion): at most CONF_MAX_NESTED files deep */
static void add_file(const struct conf *c, slice path, bool negated,
                     struct item_vec *items, unsigned depth)
{
    const struct conf_file *f = conf_get_file(c, path);
    slice rest;
    slice line;

    if (f == NULL || f->trouble != NULL || depth >= CONF_MAX_NESTED)
        return;
    /* Line by line, so that comments can be left out. */
    rest = f->text;
    while (rest.n > 0) {
        slice_cut(&rest, '\n', &line);
        line = slice_trim(line);
        if (line.n > 0 && line.p[0] != '#')
            add_words(c, line, negated, items, depth + 1);
    }
}

/* NOLINTNEXTLINE(misc-no-recursion): at most CONF_MAX_NESTED files deep */
static void add_words(const struct conf *c, slice words, bool negated,
                      struct item_vec *items, unsigned depth)
{
    slice w;

    while (conf_list_next(&words, &w)) {
        bool neg = negated;

        while (w.n > 0 && w.p[0] == '!') {
            neg = !neg;
            w = slice_from(w, 1);
        }
        if (w.n > 0 && w.p[0] == '/')
            add_file(c, w, neg, items, depth);
        else if (w.n > 0)
            item_add(items, neg, w);
    }
}

struct conf_items conf_match_list(const struct conf *c,
                                  const struct conf_service *service,
                                  const char *name)
{
    struct conf_cached *k = conf_cached_get(c, service, name);
    struct item_vec items = { 0 };

    if (!k->has_items) {
        struct conf_item *v;

        add_words(c, k->text, false, &items, 0);
        v = ARENA_ARRAY(c->arena, struct conf_item, items.n + 1);
        if (items.n > 0)
            memcpy(v, items.v, items.n * sizeof(v[0]));
        free(items.v);
        k->items = (struct conf_items){ .v = v, .n = items.n };
        k->has_items = true;
    }
    return k->items;
}
