#include "table/table_priv.h"

#include "ipc/chan.h"
#include "ipc/proto.h"

/*
 * What the `tables` process answers: lookups in the served tables that the
 * configuration names, and the system's users.  Anything else is refused, so
 * that a process that was taken over cannot make this one open files or
 * connections of its choice.
 */

struct allowed {
    struct map_node node;
    char *whole;
    bool is_for[3]; /* by enum table_asker; OTHER: for all */
};

struct table_server {
    uint32_t magic;
    struct tables *local;
    struct map allowed;
    enum table_asker naming; /* while the configuration is read */
    uint64_t n_lookups;
    uint64_t n_failed;
};

#define TABLE_SERVER_MAGIC MAGIC('T', 'S', 'R', 'V')

struct table_server *table_server_new(struct tables *local)
{
    struct table_server *s = xcalloc(1, sizeof(*s));

    s->magic = TABLE_SERVER_MAGIC;
    s->local = local;
    map_init(&s->allowed, false);
    return s;
}

static void allowed_clear(struct table_server *s)
{
    struct map_node *n;
    size_t pos = 0;

    while ((n = map_next(&s->allowed, &pos, NULL)) != NULL) {
        struct allowed *e = CONTAINER_OF(n, struct allowed, node);

        map_del(&s->allowed, n);
        free(e->whole);
        free(e);
    }
}

void table_server_free(struct table_server **sp)
{
    struct table_server *s = *sp;

    if (s == NULL)
        return;
    CHECK_OBJ(s, TABLE_SERVER_MAGIC);
    allowed_clear(s);
    map_done(&s->allowed);
    s->magic = 0;
    free(s);
    *sp = NULL;
}

static void allow_leaf(void *ctx, slice type, slice name, slice whole)
{
    struct table_server *s = ctx;
    struct allowed *e;
    struct map_node *n = map_get(&s->allowed, whole);

    (void)name;
    if (table_kind(type) != TABLE_SERVED)
        return;
    if (n != NULL) {
        CONTAINER_OF(n, struct allowed, node)->is_for[s->naming] = true;
        return;
    }
    e = xcalloc(1, sizeof(*e));
    e->whole = slice_xstrdup(whole);
    e->is_for[s->naming] = true;
    map_put(&s->allowed, &e->node, slice_str(e->whole));
}

enum table_asker table_asker_of(const char *param)
{
    if (strcmp(param, "passdb") == 0)
        return TABLE_ASKER_AUTH;
    if (strcmp(param, "smtp_sasl_password_maps") == 0 ||
        strcmp(param, "lmtp_sasl_password_maps") == 0)
        return TABLE_ASKER_SMTP;
    return TABLE_ASKER_OTHER;
}

static void allow_ref(void *ctx, const struct conf_table_ref *ref)
{
    struct table_server *s = ctx;
    struct arena *a CLEANUP(arena_free) = arena_new(1u << 20);
    const char *spec =
        arena_printf(a, "%.*s:%.*s", SLF(ref->type), SLF(ref->name));

    /* Some hold passwords, which are not for all. */
    s->naming = table_asker_of(ref->param);
    if (spec != NULL)
        table_each_leaf(slice_str(spec), allow_leaf, ctx);
}

void table_server_set_conf(struct table_server *s, const struct conf *c)
{
    allowed_clear(s);
    s->naming = TABLE_ASKER_OTHER;
    table_each_leaf(SL("unix:passwd.byname"), allow_leaf, s);
    table_each_leaf(SL("unix:passwd.byuid"), allow_leaf, s);
    conf_each_table(c, allow_ref, s);
}

/* A line of a passwd-file as others may see it. */
static slice without_password(struct arena *a, slice line)
{
    slice rest = line;
    slice name;

    if (line.p == NULL || !slice_cut(&rest, ':', &name) ||
        slice_chr(rest, ':') < 0)
        return line.p == NULL ? line : name;
    rest = slice_from(rest, (size_t)slice_chr(rest, ':'));
    return slice_str(arena_printf(a, "%.*s:%.*s", SLF(name), SLF(rest)));
}

static bool may_ask(const struct allowed *e, enum table_asker from)
{
    return e->is_for[TABLE_ASKER_OTHER] || e->is_for[from] ||
           from == TABLE_ASKER_AUTH;
}

MAY_WAIT static int do_lookup(struct table_server *s, slice body,
                              enum table_asker from, struct arena *a,
                              struct buf *out, struct err *err)
{
    struct map_node *n;
    slice spec;
    slice type;
    slice name;
    slice whole;
    slice key;
    slice value;

    if (!attr_find(body, AT_TABLE, &spec) || !attr_find(body, AT_KEY, &key) ||
        !table_canonical(spec, &type, &name, &whole))
        return err_perm(err, "malformed lookup");
    n = map_get(&s->allowed, whole);
    if (n == NULL || !may_ask(CONTAINER_OF(n, struct allowed, node), from))
        return err_temp(err, "table %.*s is not one of the configuration",
                        SLF(slice_sub(whole, 0, 100)));
    if (table_lookup(s->local, whole, key, TABLE_NO_FOLD, a, &value, err) < 0)
        return -1;
    if (table_is_served_file(type) && from != TABLE_ASKER_AUTH)
        value = without_password(a, value);
    if (value.p != NULL && !attr_put(out, AT_VALUE, value))
        return err_temp(err, "%.*s: value too long", SLF(whole));
    return 0;
}

MAY_WAIT static int do_user(struct table_server *s, slice body, struct arena *a,
                            struct buf *out, struct err *err)
{
    struct table_user u;
    bool found;
    slice name;

    if (!attr_find(body, AT_NAME, &name))
        return err_perm(err, "malformed question");
    if (tables_system_user(s->local, name, a, &u, &found, err) < 0)
        return -1;
    if (!found)
        return 0;
    attr_put_u64(out, AT_UID, u.uid);
    attr_put_u64(out, AT_GID, u.gid);
    attr_put(out, AT_HOME, u.home);
    if (!attr_put(out, AT_USER, u.name))
        return err_temp(err, "value too long");
    return 0;
}

void table_server_answer(struct table_server *s, struct chan *c, struct msg *m,
                         enum table_asker from)
{
    struct arena *a CLEANUP(arena_free) = arena_new(4u << 20);
    struct buf out CLEANUP(buf_done);
    struct err err;
    int rc;

    CHECK_OBJ(s, TABLE_SERVER_MAGIC);
    buf_init(&out, CHAN_MAX_BYTES / 2);
    s->n_lookups++;
    if (m->type == TABLES_LOOKUP)
        rc = do_lookup(s, m->body, from, a, &out, &err);
    else if (m->type == TABLES_USER)
        rc = do_user(s, m->body, a, &out, &err);
    else
        rc = err_perm(&err, "unknown question %u", (unsigned)m->type);
    if (rc < 0) {
        s->n_failed++;
        chan_fail(c, m->id, &err);
    } else {
        chan_answer(c, m->id, buf_view(&out), NULL, 0);
    }
}

MAY_WAIT static void serve(struct chan *c, struct msg *m, void *arg)
{
    table_server_answer(arg, c, m, TABLE_ASKER_OTHER);
}

static void on_close(struct chan *c, void *arg)
{
    (void)arg;
    chan_free(&c);
}

const struct chan_ops *table_server_ops(void)
{
    static const struct chan_ops ops = {
        .serve = serve,
        .max_tasks = 256,
        .on_close = on_close,
    };

    return &ops;
}

void table_server_dump(const struct table_server *s, struct buf *out)
{
    CHECK_OBJ(s, TABLE_SERVER_MAGIC);
    buf_printf(out, "lookups %" PRIu64 ", failed %" PRIu64 "\n", s->n_lookups,
               s->n_failed);
    tables_dump(s->local, out);
}
