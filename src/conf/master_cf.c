#include "conf/conf_priv.h"

#define N_COLUMNS 8

/* One line being parsed; errors go to d (NULL: nobody wants to know). */
struct master_line {
    struct conf *c;
    struct conf_diags *d;
    int line;
};

struct words {
    const char **v;
    size_t n;
    size_t size;
};

static void complain(const struct master_line *m, const char *cure,
                     const char *fmt, ...) PRINTF(3, 4);

static void complain(const struct master_line *m, const char *cure,
                     const char *fmt, ...)
{
    char text[300];
    va_list ap;

    if (m->d == NULL)
        return;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    conf_diags_add(m->d, CONF_ERROR, m->c->master_path, m->line, cure, "%s",
                   text);
}

const char *conf_service_type_name(enum conf_service_type type)
{
    static const char *const names[] = {
        [CONF_INET] = "inet",
        [CONF_UNIX] = "unix",
        [CONF_UNIX_DGRAM] = "unix-dgram",
        [CONF_FIFO] = "fifo",
        [CONF_PASS] = "pass",
    };

    return names[type];
}

static bool parse_type(slice word, enum conf_service_type *out)
{
    for (int t = CONF_INET; t <= CONF_PASS; t++) {
        if (slice_eqs(word,
                      conf_service_type_name((enum conf_service_type)t))) {
            *out = (enum conf_service_type)t;
            return true;
        }
    }
    return false;
}

static void parse_flag(const struct master_line *m, slice word, bool def,
                       const char *column, bool *out)
{
    if (slice_eqs(word, "-")) {
        *out = def;
    } else if (slice_eqs(word, "y") || slice_eqs(word, "n")) {
        *out = word.p[0] == 'y';
    } else {
        *out = def;
        complain(m, "write y, n or -", "the %s column holds \"%.*s\"", column,
                 (int)min_size(word.n, 40), word.p);
    }
}

static void parse_wakeup(const struct master_line *m, slice word,
                         struct conf_service *s)
{
    int64_t n = 0;

    if (slice_eqs(word, "-"))
        return;
    if (slice_ends(word, SL("?"))) {
        s->wakeup_if_used = true;
        word = slice_sub(word, 0, word.n - 1);
    }
    if (slice_i64(word, &n) && n <= INT32_MAX)
        s->wakeup_sec = (int)n;
    else
        complain(m, "write seconds, seconds? or -",
                 "the wakeup column holds \"%.*s\"", (int)min_size(word.n, 40),
                 word.p);
}

static void parse_maxproc(const struct master_line *m, slice word,
                          struct conf_service *s)
{
    int64_t n = 0;

    s->maxproc = CONF_MAXPROC_DEFAULT;
    if (slice_eqs(word, "-"))
        return;
    if (slice_i64(word, &n) && n <= INT32_MAX)
        s->maxproc = (int)n;
    else
        complain(m, "write a number or -", "the maxproc column holds \"%.*s\"",
                 (int)min_size(word.n, 40), word.p);
}

/* "host:port", "[::1]:25", "port": the host part. */
static slice host_part(slice name)
{
    ssize_t colon = slice_rchr(name, ':');
    slice host;

    if (colon < 0)
        return SLICE_NONE;
    host = slice_sub(name, 0, (size_t)colon);
    if (host.n > 1 && host.p[0] == '[' && host.p[host.n - 1] == ']')
        host = slice_sub(host, 1, host.n - 2);
    return host;
}

static void word_add(struct words *w, const char *text)
{
    if (w->n == w->size) {
        w->size = w->size > 0 ? 2 * w->size : 8;
        w->v = xrealloc(w->v, w->size * sizeof(w->v[0]));
    }
    w->v[w->n++] = text;
}

struct overrides {
    struct conf_override *v;
    size_t n;
    size_t size;
};

static void override_add(const struct master_line *m, struct overrides *o,
                         slice text)
{
    slice name;
    slice value;
    const char *wrong = conf_split_nameval(text, &name, &value);

    if (wrong != NULL) {
        complain(m, "write -o name=value or -o { name = value }",
                 "-o: %s: \"%.*s\"", wrong, (int)min_size(text.n, 60),
                 text.n > 0 ? text.p : "");
        return;
    }
    if (o->n == o->size) {
        o->size = o->size > 0 ? 2 * o->size : 8;
        o->v = xrealloc(o->v, o->size * sizeof(o->v[0]));
    }
    o->v[o->n++] = (struct conf_override){
        .name = slice_cstr(m->c->arena, name),
        .value = slice_cstr(m->c->arena, value),
    };
}

/* Words of the command: separated by white space, { } groups kept whole. */
static bool next_word(slice *rest, slice *word)
{
    size_t depth = 0;
    size_t i = 0;
    slice s = *rest;

    while (i < s.n && ascii_isspace(s.p[i]))
        i++;
    s = slice_from(s, i);
    if (s.n == 0)
        return false;
    for (i = 0; i < s.n; i++) {
        if (depth == 0 && ascii_isspace(s.p[i]))
            break;
        if (s.p[i] == '{')
            depth++;
        else if (s.p[i] == '}' && depth > 0)
            depth--;
    }
    *word = slice_sub(s, 0, i);
    *rest = slice_from(s, i);
    return true;
}

/* An argument "{ text }" is its text; anything else is itself. */
static slice unbrace(const struct master_line *m, slice word)
{
    if (word.n > 0 && word.p[0] == '{' && word.p[word.n - 1] != '}')
        complain(m, "close it with }", "missing '}' in \"%.*s\"",
                 (int)min_size(word.n, 60), word.p);
    return conf_list_unbrace(word);
}

/* Options stand before the first other word, as for a Unix command. */
static void parse_args(const struct master_line *m, slice rest,
                       struct words *args, struct overrides *o,
                       struct conf_service *s)
{
    bool options = true;
    slice w;

    while (next_word(&rest, &w)) {
        if (options && slice_eqs(w, "-o")) {
            if (!next_word(&rest, &w))
                complain(m, "write -o name=value", "-o at the end of the line");
            else
                override_add(m, o, unbrace(m, w));
        } else if (options && slice_starts(w, SL("-o"))) {
            override_add(m, o, slice_from(w, 2));
        } else if (options && (slice_eqs(w, "-v") || slice_eqs(w, "-vv"))) {
            s->verbose += (int)w.n - 1;
        } else {
            options = w.p[0] == '-';
            word_add(args, slice_cstr(m->c->arena, unbrace(m, w)));
        }
    }
}

static void keep_lists(struct conf *c, struct conf_service *s,
                       struct words *args, struct overrides *o)
{
    const char **v = ARENA_ARRAY(c->arena, const char *, args->n + 1);
    struct conf_override *ov =
        ARENA_ARRAY(c->arena, struct conf_override, o->n + 1);

    if (args->n > 0)
        memcpy(v, args->v, args->n * sizeof(v[0]));
    if (o->n > 0)
        memcpy(ov, o->v, o->n * sizeof(ov[0]));
    s->args = v;
    s->n_args = args->n;
    s->overrides = ov;
    s->n_overrides = o->n;
    free(args->v);
    free(o->v);
}

static bool is_duplicate(const struct conf *c, const struct conf_service *s)
{
    for (size_t i = 0; i < c->n_services; i++)
        if (c->services[i].type == s->type &&
            strcmp(c->services[i].name, s->name) == 0)
            return true;
    return false;
}

static void parse_columns(const struct master_line *m, const slice *col,
                          struct conf_service *s)
{
    s->name = slice_cstr(m->c->arena, col[0]);
    s->command = slice_cstr(m->c->arena, col[7]);
    parse_flag(m, col[2], s->type != CONF_INET && s->type != CONF_PASS,
               "private", &s->is_private);
    parse_flag(m, col[3], true, "unpriv", &s->is_unpriv);
    parse_flag(m, col[4], false, "chroot", &s->is_chroot);
    parse_wakeup(m, col[5], s);
    parse_maxproc(m, col[6], s);
    s->host = "";
    if (s->type == CONF_INET && s->is_private)
        complain(m, "write n in the private column",
                 "an inet service cannot be private");
    if (s->type == CONF_INET)
        s->host = slice_cstr(m->c->arena, host_part(col[0]));
}

/* One logical line: true when *s was filled. */
static bool parse_line(const struct master_line *m, slice line,
                       struct conf_service *s)
{
    slice col[N_COLUMNS];
    struct words args = { 0 };
    struct overrides o = { 0 };

    if (slice_chr(line, '\0') >= 0 || ascii_isspace(line.p[0])) {
        complain(m, "start the line with the service's name",
                 "the line starts with white space or holds a NUL byte");
        return false;
    }
    for (size_t i = 0; i < N_COLUMNS; i++) {
        if (!next_word(&line, &col[i])) {
            complain(m,
                     "name type private unpriv chroot wakeup maxproc command",
                     "a service needs 8 columns, here are %zu", i);
            return false;
        }
    }
    *s = (struct conf_service){ .file = m->c->master_path, .line = m->line };
    if (!parse_type(col[1], &s->type)) {
        complain(m, "inet, unix, unix-dgram, fifo or pass",
                 "unknown service type \"%.*s\"", (int)min_size(col[1].n, 40),
                 col[1].p);
        return false;
    }
    parse_columns(m, col, s);
    parse_args(m, line, &args, &o, s);
    keep_lists(m->c, s, &args, &o);
    if (is_duplicate(m->c, s)) {
        complain(m, "remove one of the two", "the service %s %s is there twice",
                 s->name, conf_service_type_name(s->type));
        return false;
    }
    return true;
}

/* No more services than lines. */
static size_t count_lines(slice text)
{
    size_t n = 0;

    for (size_t i = 0; i < text.n; i++)
        n += text.p[i] == '\n';
    return n + 1;
}

void conf_parse_master(struct conf *c, struct conf_diags *d)
{
    struct conf_lines lines;
    struct master_line m = { .c = c, .d = d };
    slice line;
    size_t size = min_size(count_lines(c->master_text), CONF_MAX_SERVICES) + 1;

    c->services = ARENA_ARRAY(c->arena, struct conf_service, size);
    conf_lines_init(&lines, c->master_text);
    while (conf_lines_next(&lines, &line, &m.line)) {
        struct conf_service *s = &c->services[c->n_services];

        if (c->n_services == CONF_MAX_SERVICES) {
            complain(&m, "", "more than %d services", CONF_MAX_SERVICES);
            break;
        }
        if (parse_line(&m, line, s))
            s->index = c->n_services++;
    }
    conf_lines_done(&lines);
}

size_t conf_service_count(const struct conf *c)
{
    CHECK_OBJ(c, CONF_MAGIC);
    return c->n_services;
}

const struct conf_service *conf_service_at(const struct conf *c, size_t index)
{
    CHECK_OBJ(c, CONF_MAGIC);
    CHECK(index < c->n_services);
    return &c->services[index];
}

const struct conf_service *conf_service_find(const struct conf *c,
                                             const char *name, const char *type)
{
    CHECK_OBJ(c, CONF_MAGIC);
    for (size_t i = 0; i < c->n_services; i++) {
        const struct conf_service *s = &c->services[i];

        if (strcmp(s->name, name) == 0 &&
            (type == NULL ||
             strcmp(conf_service_type_name(s->type), type) == 0))
            return s;
    }
    return NULL;
}

/* known_tcp_ports: "lmtp=24, smtps=submissions=465". */
static bool known_port(const struct conf *c, slice name, uint16_t *out)
{
    slice list = conf_slice(c, NULL, "known_tcp_ports");
    slice entry;

    while (conf_list_next(&list, &entry)) {
        ssize_t eq = slice_rchr(entry, '=');
        uint64_t port;
        slice head;

        if (eq < 0 || !slice_u64(slice_from(entry, (size_t)eq + 1), &port) ||
            port > 65535)
            continue;
        entry = slice_sub(entry, 0, (size_t)eq);
        while (entry.n > 0) {
            slice_cut(&entry, '=', &head);
            if (slice_eq(head, name)) {
                *out = (uint16_t)port;
                return true;
            }
        }
    }
    return false;
}

/* Without asking the system. */
static bool port_of(const struct conf *c, slice name, uint16_t *out)
{
    struct map_node *n;
    uint64_t number;

    if (slice_u64(name, &number)) {
        if (number == 0 || number > 65535)
            return false;
        *out = (uint16_t)number;
        return true;
    }
    if (known_port(c, name, out))
        return true;
    n = map_get(c->ports, name);
    if (n == NULL)
        return false;
    *out = CONTAINER_OF(n, struct conf_portname, node)->port;
    return true;
}

bool conf_port(const struct conf *c, slice name, uint16_t *out)
{
    char copy[64];

    CHECK_OBJ(c, CONF_MAGIC);
    if (port_of(c, name, out))
        return true;
    return slice_copy_to(name, copy, sizeof(copy)) &&
           conf_system_port(copy, out);
}

void conf_set_ports(struct conf *c)
{
    for (size_t i = 0; i < c->n_services; i++) {
        struct conf_service *s = &c->services[i];
        slice name = slice_str(s->name);
        ssize_t colon = slice_rchr(name, ':');

        if (s->type != CONF_INET)
            continue;
        if (colon >= 0)
            name = slice_from(name, (size_t)colon + 1);
        if (!port_of(c, name, &s->port))
            s->port = 0;
    }
}
