/* Making, keeping and serialising a snapshot. */
#include "base/codec.h"
#include "conf/conf_priv.h"

/* Attributes of the serialised snapshot (base/codec.h); the lower ones of a
 * nested record in the second group. */
enum {
    TAG_DIR = 1,
    TAG_MAIN = 2,
    TAG_MASTER = 3,
    TAG_HOSTNAME = 4,
    TAG_IFADDR = 5, /* is_v6, bits, 16 bytes */
    TAG_FILE = 6,
    TAG_HOST = 7,
    TAG_PORT = 8,
};

enum {
    SUB_NAME = 1,
    SUB_TEXT = 2,
    SUB_TROUBLE = 3,
    SUB_ADDR = 4,
    SUB_NUMBER = 5,
};

static struct map *new_map(void)
{
    struct map *m = xmalloc(sizeof(*m));

    map_init(m, false);
    return m;
}

static void free_map(struct map **m)
{
    if (*m == NULL)
        return;
    map_done(*m);
    free(*m);
    *m = NULL;
}

struct conf *conf_new(const char *dir)
{
    struct conf *c = xcalloc(1, sizeof(*c));

    c->magic = CONF_MAGIC;
    c->refs = 1;
    c->arena = arena_new(CONF_MAX_ARENA);
    c->dir = slice_cstr(c->arena, slice_str(dir));
    c->main_path = arena_printf(c->arena, "%s/main.cf", dir);
    c->master_path = arena_printf(c->arena, "%s/master.cf", dir);
    CHECK(c->dir != NULL && c->main_path != NULL && c->master_path != NULL);
    c->hostname = "localhost";
    c->main = new_map();
    c->files = new_map();
    c->hosts = new_map();
    c->ports = new_map();
    c->cache = new_map();
    return c;
}

struct conf *conf_ref(struct conf *c)
{
    CHECK_OBJ(c, CONF_MAGIC);
    c->refs++;
    return c;
}

void conf_unref(struct conf **cp)
{
    struct conf *c = *cp;

    *cp = NULL;
    if (c == NULL)
        return;
    CHECK_OBJ(c, CONF_MAGIC);
    if (--c->refs > 0)
        return;
    free_map(&c->main);
    free_map(&c->files);
    free_map(&c->hosts);
    free_map(&c->ports);
    free_map(&c->cache);
    arena_free(&c->arena);
    c->magic = 0;
    free(c);
}

const char *conf_dir(const struct conf *c)
{
    return c->dir;
}

const char *conf_dir_default(const char *arg)
{
    if (arg != NULL)
        return arg;
    arg = getenv("MAIL_CONFIG");
    return arg != NULL && arg[0] != '\0' ? arg : "/etc/hato";
}

void conf_dump(const struct conf *c, struct buf *out)
{
    CHECK_OBJ(c, CONF_MAGIC);
    buf_printf(out,
               "conf %s refs=%u entries=%zu services=%zu files=%zu hosts=%zu "
               "cached=%zu bytes=%zu\n",
               c->dir, c->refs, c->n_entries, c->n_services, c->files->n,
               c->hosts->n, c->cache->n, arena_used(c->arena));
}

void conf_forget(struct conf *c)
{
    /* The values stay in the arena until the snapshot goes. */
    free_map(&c->cache);
    c->cache = new_map();
}

static slice keep(struct conf *c, slice s)
{
    char *copy = xarena_alloc(c->arena, s.n + 1);

    if (s.n > 0)
        memcpy(copy, s.p, s.n);
    return slice_of(copy, s.n);
}

void conf_set_texts(struct conf *c, slice main_cf, slice master_cf,
                    struct conf_diags *d)
{
    c->main_text = keep(c, main_cf);
    c->master_text = keep(c, master_cf);
    conf_parse_main(c, d);
    conf_parse_master(c, d);
}

void conf_add_file(struct conf *c, slice path, slice text, const char *trouble)
{
    struct conf_file *f;

    if (map_get(c->files, path) != NULL)
        return;
    f = ARENA_NEW(c->arena, struct conf_file);
    path = keep(c, path);
    f->path = path.p;
    f->text = keep(c, text);
    if (trouble != NULL)
        f->trouble = keep(c, slice_str(trouble)).p;
    map_put(c->files, &f->node, path);
}

const struct conf_file *conf_get_file(const struct conf *c, slice path)
{
    struct map_node *n = map_get(c->files, path);

    return n == NULL ? NULL : CONTAINER_OF(n, struct conf_file, node);
}

void conf_add_host(struct conf *c, slice name, const struct conf_addr *v,
                   size_t n)
{
    struct conf_host *h;

    if (map_get(c->hosts, name) != NULL)
        return;
    h = ARENA_NEW(c->arena, struct conf_host);
    name = keep(c, name);
    h->name = name.p;
    h->n = n;
    h->v = ARENA_ARRAY(c->arena, struct conf_addr, n + 1);
    if (n > 0)
        memcpy(h->v, v, n * sizeof(v[0]));
    map_put(c->hosts, &h->node, name);
}

void conf_add_port(struct conf *c, slice name, uint16_t port)
{
    struct conf_portname *p;

    if (map_get(c->ports, name) != NULL)
        return;
    p = ARENA_NEW(c->arena, struct conf_portname);
    name = keep(c, name);
    p->name = name.p;
    p->port = port;
    map_put(c->ports, &p->node, name);
}

static void neutral_facts(struct conf *c)
{
    c->hostname = "hato.example.com";
    c->ifaddrs = ARENA_ARRAY(c->arena, struct conf_addr, 2);
    c->ifaddrs[0] = (struct conf_addr){ .bits = 8, .ip = { 127, 0, 0, 1 } };
    c->ifaddrs[1] = (struct conf_addr){ .is_v6 = true, .bits = 128 };
    c->ifaddrs[1].ip[15] = 1;
    c->n_ifaddrs = 2;
    conf_add_host(c, SL("localhost"), c->ifaddrs, 2);
}

struct conf *conf_from_text(slice main_cf, slice master_cf,
                            struct conf_diags *diags)
{
    struct conf *c = conf_new("/etc/hato");

    neutral_facts(c);
    conf_set_texts(c, main_cf, master_cf, diags);
    conf_set_ports(c);
    return c;
}

/* A name of the system that the configuration needs is in the facts; what
 * could not be read is said here. */
static void report_files(const struct conf *c, struct conf_diags *d)
{
    size_t pos = 0;

    for (struct map_node *n = map_next(c->files, &pos, NULL); n != NULL;
         n = map_next(c->files, &pos, n)) {
        const struct conf_file *f = CONTAINER_OF(n, struct conf_file, node);

        if (f->trouble != NULL)
            conf_diags_add(d, CONF_ERROR, c->main_path, 0,
                           "make the file readable or take its name out", "%s",
                           f->trouble);
    }
}

/* A snapshot of a directory by its full path, whatever `dir` is. */
static struct conf *new_by_full_path(const char *dir)
{
    char *full CLEANUP(free_ptr) = realpath(dir, NULL);

    /* Of a directory that is not there the open says so. */
    return conf_new(dir[0] == '/' || full == NULL ? dir : full);
}

/* A first try without a configuration is told how to make one. */
static int no_main_cf(struct err *err)
{
    if (err->sys == ENOENT)
        err_log(err, "%s (hato init DIR writes a first one)", err->log);
    return -1;
}

int conf_load(const char *dir, unsigned flags, struct conf **out,
              struct conf_diags *diags, struct err *err)
{
    struct conf *c = new_by_full_path(dir);
    struct buf main_cf;
    struct buf master_cf;
    int rc = -1;

    buf_init(&main_cf, CONF_MAX_TEXT);
    buf_init(&master_cf, CONF_MAX_TEXT);
    if (conf_read_file(c->main_path, &main_cf, err) < 0) {
        rc = no_main_cf(err);
        goto out;
    }
    if (conf_read_file(c->master_path, &master_cf, err) < 0 &&
        !(flags & CONF_MAIN_ONLY))
        goto out;
    conf_facts_host(c);
    conf_set_texts(c, buf_view(&main_cf), buf_view(&master_cf), diags);
    conf_facts_rest(c);
    if (diags != NULL)
        report_files(c, diags);
    *out = c;
    c = NULL;
    rc = 0;
out:
    conf_unref(&c);
    buf_done(&main_cf);
    buf_done(&master_cf);
    return rc;
}

static void put_addr(struct buf *b, uint16_t tag, const struct conf_addr *a)
{
    uint8_t bytes[18] = { a->is_v6, a->bits };

    memcpy(bytes + 2, a->ip, 16);
    attr_put(b, tag, slice_of(bytes, sizeof(bytes)));
}

static bool get_addr(slice s, struct conf_addr *a)
{
    if (s.n != 18)
        return false;
    *a = (struct conf_addr){ .is_v6 = s.p[0] != 0, .bits = (uint8_t)s.p[1] };
    memcpy(a->ip, s.p + 2, 16);
    return true;
}

static void put_files(const struct conf *c, struct buf *out, struct buf *sub)
{
    size_t pos = 0;

    for (struct map_node *n = map_next(c->files, &pos, NULL); n != NULL;
         n = map_next(c->files, &pos, n)) {
        const struct conf_file *f = CONTAINER_OF(n, struct conf_file, node);

        buf_clear(sub);
        attr_put_str(sub, SUB_NAME, f->path);
        attr_put(sub, SUB_TEXT, f->text);
        if (f->trouble != NULL)
            attr_put_str(sub, SUB_TROUBLE, f->trouble);
        attr_put(out, TAG_FILE, buf_view(sub));
    }
}

static void put_names(const struct conf *c, struct buf *out, struct buf *sub)
{
    size_t pos = 0;

    for (struct map_node *n = map_next(c->hosts, &pos, NULL); n != NULL;
         n = map_next(c->hosts, &pos, n)) {
        const struct conf_host *h = CONTAINER_OF(n, struct conf_host, node);

        buf_clear(sub);
        attr_put_str(sub, SUB_NAME, h->name);
        for (size_t i = 0; i < h->n; i++)
            put_addr(sub, SUB_ADDR, &h->v[i]);
        attr_put(out, TAG_HOST, buf_view(sub));
    }
    pos = 0;
    for (struct map_node *n = map_next(c->ports, &pos, NULL); n != NULL;
         n = map_next(c->ports, &pos, n)) {
        const struct conf_portname *p =
            CONTAINER_OF(n, struct conf_portname, node);

        buf_clear(sub);
        attr_put_str(sub, SUB_NAME, p->name);
        attr_put_u64(sub, SUB_NUMBER, p->port);
        attr_put(out, TAG_PORT, buf_view(sub));
    }
}

int conf_to_bytes(const struct conf *c, struct buf *out, struct err *err)
{
    struct buf b;
    struct buf sub;
    int rc = 0;

    CHECK_OBJ(c, CONF_MAGIC);
    buf_init(&b, CONF_MAX_BYTES);
    buf_init(&sub, CONF_MAX_BYTES);
    attr_put_str(&b, TAG_DIR | ATTR_MUST, c->dir);
    attr_put(&b, TAG_MAIN | ATTR_MUST, c->main_text);
    attr_put(&b, TAG_MASTER | ATTR_MUST, c->master_text);
    attr_put_str(&b, TAG_HOSTNAME, c->hostname);
    for (size_t i = 0; i < c->n_ifaddrs; i++)
        put_addr(&b, TAG_IFADDR, &c->ifaddrs[i]);
    put_files(c, &b, &sub);
    put_names(c, &b, &sub);
    if (b.overflow || sub.overflow || !buf_slice(out, buf_view(&b)))
        rc = err_perm(err,
                      "the configuration with its list files is larger "
                      "than %u bytes",
                      CONF_MAX_BYTES);
    buf_done(&b);
    buf_done(&sub);
    return rc;
}

static bool is_text(slice s)
{
    return slice_chr(s, '\0') < 0;
}

static bool take_ifaddr(struct conf *c, slice v)
{
    struct conf_addr *grown;

    if (c->n_ifaddrs == CONF_MAX_IFADDRS)
        return false;
    if (c->ifaddrs == NULL)
        c->ifaddrs = ARENA_ARRAY(c->arena, struct conf_addr, CONF_MAX_IFADDRS);
    grown = &c->ifaddrs[c->n_ifaddrs];
    if (!get_addr(v, grown))
        return false;
    c->n_ifaddrs++;
    return true;
}

static bool take_file(struct conf *c, slice v)
{
    slice name;
    slice text = SLICE_NONE;
    slice trouble = SLICE_NONE;
    char why[300] = "";

    if (!attr_find(v, SUB_NAME, &name) || !is_text(name))
        return false;
    attr_find(v, SUB_TEXT, &text);
    if (attr_find(v, SUB_TROUBLE, &trouble) &&
        !slice_copy_to(trouble, why, sizeof(why)))
        return false;
    conf_add_file(c, name, text, trouble.n > 0 ? why : NULL);
    return true;
}

static bool take_host(struct conf *c, slice v)
{
    struct conf_addr addrs[16];
    struct attr a;
    slice name = SLICE_NONE;
    size_t n = 0;
    int got;

    while ((got = attr_next(&v, &a)) > 0) {
        if (a.tag == SUB_NAME)
            name = a.v;
        else if (a.tag == SUB_ADDR && n < ARRAY_LEN(addrs) &&
                 get_addr(a.v, &addrs[n]))
            n++;
    }
    if (got < 0 || !is_text(name))
        return false;
    conf_add_host(c, name, addrs, n);
    return true;
}

static bool take_port(struct conf *c, slice v)
{
    slice name;
    uint64_t port = attr_u64_or(v, SUB_NUMBER, 0);

    if (!attr_find(v, SUB_NAME, &name) || !is_text(name) || port > 65535)
        return false;
    conf_add_port(c, name, (uint16_t)port);
    return true;
}

static bool take_attr(struct conf *c, const struct attr *a)
{
    switch (a->tag) {
    case TAG_HOSTNAME:
        if (!is_text(a->v) || a->v.n > 255)
            return false;
        c->hostname = keep(c, a->v).p;
        return true;
    case TAG_IFADDR:
        return take_ifaddr(c, a->v);
    case TAG_FILE:
        return take_file(c, a->v);
    case TAG_HOST:
        return take_host(c, a->v);
    case TAG_PORT:
        return take_port(c, a->v);
    default:
        /* DIR, MAIN and MASTER were taken before. */
        return !a->must || a->tag <= TAG_PORT;
    }
}

int conf_from_bytes(slice bytes, struct conf **out, struct err *err)
{
    struct conf *c;
    struct attr a;
    slice dir;
    slice main_cf;
    slice master_cf;
    char path[1024];
    int got;

    if (bytes.n > CONF_MAX_BYTES || !attr_find(bytes, TAG_DIR, &dir) ||
        !attr_find(bytes, TAG_MAIN, &main_cf) ||
        !attr_find(bytes, TAG_MASTER, &master_cf) ||
        !slice_copy_to(dir, path, sizeof(path)))
        return err_temp(err, "the configuration snapshot is damaged");
    c = conf_new(path);
    while ((got = attr_next(&bytes, &a)) > 0)
        if (!take_attr(c, &a))
            break;
    if (got != 0) {
        conf_unref(&c);
        return err_temp(err, "the configuration snapshot is damaged");
    }
    conf_set_texts(c, main_cf, master_cf, NULL);
    conf_set_ports(c);
    *out = c;
    return 0;
}
