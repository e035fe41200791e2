/* Facts counted as they pass, for metrics: every process tells its events to
 * the log anyway.  The names come from our own processes; there are few, and no
 * more than MAX_COUNTS are kept apart. */
#include "log/counts.h"

#include "base/map.h"

enum { MAX_COUNTS = 256 };

struct count {
    struct map_node node;
    struct list link;
    uint64_t n;
    char key[64]; /* "delivered smtp sent" */
};

struct counts {
    struct map map;
    struct list order;
};

struct counts *counts_new(void)
{
    struct counts *c = xcalloc(1, sizeof *c);

    map_init(&c->map, false);
    list_init(&c->order);
    return c;
}

void counts_free(struct counts **cp)
{
    struct counts *c = *cp;

    *cp = NULL;
    if (c == NULL)
        return;
    for (struct list *it = list_pop(&c->order); it != NULL;
         it = list_pop(&c->order)) {
        struct count *k = CONTAINER_OF(it, struct count, link);

        map_del(&c->map, &k->node);
        free(k);
    }
    map_done(&c->map);
    free(c);
}

static void put_word(char *key, size_t size, size_t *n, slice word)
{
    if (*n > 0 && *n < size)
        key[(*n)++] = ' ';
    for (size_t i = 0; i < word.n && *n < size; i++)
        key[(*n)++] = (char)(ascii_isalnum(word.p[i]) ? word.p[i] : '-');
}

static void add(struct counts *c, const char *what, slice one, slice two)
{
    char key[sizeof((struct count *)0)->key];
    struct map_node *found;
    struct count *k;
    size_t n = 0;

    put_word(key, sizeof key, &n, slice_str(what));
    put_word(key, sizeof key, &n, one);
    if (two.n > 0)
        put_word(key, sizeof key, &n, two);
    found = map_get(&c->map, slice_of(key, n));
    if (found != NULL) {
        CONTAINER_OF(found, struct count, node)->n++;
        return;
    }
    if (c->map.n >= MAX_COUNTS)
        return;
    k = xcalloc(1, sizeof *k);
    k->n = 1;
    memcpy(k->key, key, n);
    map_put(&c->map, &k->node, slice_of(k->key, n));
    list_push(&c->order, &k->link);
}

/* What a sentence says, by how it begins. */
static void count_text(struct counts *c, const struct event *e, slice text)
{
    static const struct {
        slice begin;
        const char *what;
    } known[] = {
        { { "connect from ", 13 }, "connected" },
        { { "reject: ", 8 }, "rejected" },
        { { "Login: ", 7 }, "login" },
    };

    for (size_t i = 0; i < ARRAY_LEN(known); i++)
        if (slice_starts(text, known[i].begin)) {
            add(c, known[i].what, e->service, SLICE_NONE);
            return;
        }
    if (slice_find(slice_sub(text, 0, 60), SL("TLS connection established ")) >=
        0)
        add(c, "tls", e->service, SLICE_NONE);
}

void counts_event(struct counts *c, const struct event *e)
{
    static const char *const levels[] = { "panic",   "fatal", "error",
                                          "warning", "info",  "trace" };
    slice status = SLICE_NONE;
    bool has_to = false;

    if (e->level < EV_INFO)
        add(c, "level", slice_str(levels[e->level]), SLICE_NONE);
    if (slice_eqs(e->name, "accepted")) {
        add(c, "accepted", e->service, SLICE_NONE);
        return;
    }
    for (size_t i = 0; i < e->n_fields; i++) {
        const struct ev_field *f = &e->fields[i];

        if (f->type == EVT_TAIL && slice_eqs(e->name, "text"))
            count_text(c, e, f->str);
        has_to |= strcmp(f->key, "to") == 0;
        if (strcmp(f->key, "status") == 0)
            status = f->str;
    }
    if (has_to && status.n > 0)
        add(c, "delivered", e->service, status);
}

void counts_dump(const struct counts *c, struct buf *out)
{
    list_each(it, &c->order) {
        const struct count *k = CONTAINER_OF(it, struct count, link);

        (void)buf_printf(out, "%.*s %" PRIu64 "\n", SLF(k->node.key), k->n);
    }
}
