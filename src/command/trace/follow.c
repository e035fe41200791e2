/*
 * Which messages belong together, and what happened to them.
 *
 * A pass reads the log once.  The first finds what the key names; each later
 * one what is tied to what is known: reports ("notification: ID"), and copies
 * that a filter or another program of this host gave back ("queued as ID").
 * The lines of the last pass are shown.
 */
#include "command/trace/trace_priv.h"

enum {
    CONNECTION_LINES = 4, /* connect, TLS */
    CONNECTION_IDS = 64,
    READER_MESSAGES = 64,
    LOOSE_LINES = 1000,
};

/* Lines of connections are many, and few of them are shown: they are copied
 * here until a message asks for them. */
struct held {
    size_t at[4];
    size_t n[4];
    char bytes[320];
};

struct connection {
    struct map_node node;
    struct list age;
    struct held lines[CONNECTION_LINES];
    unsigned n_lines;
    struct trace_message *m[CONNECTION_IDS];
    unsigned n_m;
    char key[192];
};

struct reader {
    struct map_node node;
    struct trace_message *m[READER_MESSAGES];
    unsigned n_m;
    char user[256];
};

static void set_once(char **field, slice v)
{
    if (*field == NULL && v.p != NULL)
        *field = slice_xstrdup(v);
}

static void message_free(struct trace *t, struct trace_message *m)
{
    map_del(&t->messages, &m->node);
    list_remove(&m->link);
    free(m->id);
    free(m->message_id);
    free(m->from);
    free(m->size);
    free(m->parent);
    free(m);
}

static struct trace_message *message_find(struct trace *t, slice id)
{
    struct map_node *n = id.n > 0 ? map_get(&t->messages, id) : NULL;

    return n != NULL ? CONTAINER_OF(n, struct trace_message, node) : NULL;
}

/* NULL at the limit. */
static struct trace_message *message_add(struct trace *t, slice id)
{
    struct trace_message *m = message_find(t, id);

    if (m != NULL || slice_eqs(id, "NOQUEUE"))
        return m;
    if (t->messages.n >= TRACE_MESSAGES) {
        t->is_full = true;
        return NULL;
    }
    m = xcalloc(1, sizeof *m);
    list_init(&m->lines);
    list_init(&m->rcpts);
    set_once(&m->id, id);
    map_put(&t->messages, &m->node, slice_str(m->id));
    list_push(&t->order, &m->link);
    t->has_new = true;
    return m;
}

/* ---- lines */

static struct trace_text *text_new(struct trace *t, const struct trace_line *l)
{
    struct trace_text *x = arena_alloc(t->lines, sizeof *x);

    if (x == NULL) {
        t->is_full = true;
        return NULL;
    }
    *x = (struct trace_text){
        .time = slice_dup(t->lines, l->time),
        .service = slice_dup(t->lines, l->service),
        .pid = slice_dup(t->lines, l->pid),
        .text = slice_dup(t->lines, l->text),
        .is_last = slice_eqs(l->text, "removed"),
    };
    list_init(&x->link);
    return x;
}

static void text_add(struct trace *t, struct list *to, size_t *n, size_t max,
                     const struct trace_line *l)
{
    struct trace_text *x = *n < max ? text_new(t, l) : NULL;

    if (x == NULL) {
        t->is_full = true;
        return;
    }
    list_push(to, &x->link);
    ++*n;
}

static void message_line(struct trace *t, struct trace_message *m,
                         const struct trace_line *l)
{
    text_add(t, &m->lines, &m->n_lines, TRACE_LINES, l);
}

/* ---- connections of smtpd: known by process and client */

static void connection_free(struct trace *t, struct connection *c)
{
    map_del(&t->connections, &c->node);
    list_remove(&c->age);
    free(c);
}

static struct connection *connection_at(struct trace *t,
                                        const struct trace_line *l,
                                        slice client, bool is_new)
{
    char key[sizeof((struct connection *)0)->key];
    int n = snprintf(key, sizeof key, "%.*s %.*s", SLF(l->pid), SLF(client));
    struct map_node *found;
    struct connection *c;

    if (n < 0 || (size_t)n >= sizeof key)
        return NULL;
    found = map_get(&t->connections, slice_of(key, (size_t)n));
    if (found != NULL && is_new)
        connection_free(t, CONTAINER_OF(found, struct connection, node));
    else if (found != NULL || !is_new)
        return found == NULL ? NULL
                             : CONTAINER_OF(found, struct connection, node);
    if (t->connections.n >= TRACE_CONNECTIONS)
        connection_free(t, CONTAINER_OF(t->connection_age.next,
                                        struct connection, age));
    c = xcalloc(1, sizeof *c);
    memcpy(c->key, key, (size_t)n);
    list_push(&t->connection_age, &c->age);
    map_put(&t->connections, &c->node, slice_of(c->key, (size_t)n));
    return c;
}

static void hold(struct connection *c, const struct trace_line *l)
{
    const slice v[4] = { l->time, l->service, l->pid, l->text };
    struct held *h;
    size_t at = 0;

    if (c->n_lines == CONNECTION_LINES)
        return;
    h = &c->lines[c->n_lines++];
    for (size_t i = 0; i < ARRAY_LEN(v); i++) {
        h->at[i] = at;
        h->n[i] = min_size(v[i].n, sizeof h->bytes - at);
        if (h->n[i] > 0)
            memcpy(h->bytes + at, v[i].p, h->n[i]);
        at += h->n[i];
    }
}

static slice held(const struct held *h, unsigned i)
{
    return slice_of(h->bytes + h->at[i], h->n[i]);
}

/* The message that came over it: with its connection's lines, and the one that
 * ends it. */
static void arrived(struct trace *t, struct trace_message *m,
                    const struct trace_line *l, slice client)
{
    struct connection *c = connection_at(t, l, client, false);

    for (unsigned i = 0; c != NULL && i < c->n_lines; i++) {
        const struct trace_line was = { .time = held(&c->lines[i], 0),
                                        .service = held(&c->lines[i], 1),
                                        .pid = held(&c->lines[i], 2),
                                        .text = held(&c->lines[i], 3) };

        message_line(t, m, &was);
    }
    if (c != NULL && c->n_m < CONNECTION_IDS)
        c->m[c->n_m++] = m;
}

static bool cut_words(slice *text, slice words)
{
    ssize_t at = slice_find(*text, words);

    if (at < 0)
        return false;
    *text = slice_from(*text, (size_t)at + words.n);
    return true;
}

static slice first_word(slice text)
{
    size_t n = 0;

    while (n < text.n && text.p[n] != ' ' && text.p[n] != ',')
        n++;
    if (n > 0 && text.p[n - 1] == ':')
        n--;
    return slice_sub(text, 0, n);
}

static void look_at_connection(struct trace *t, const struct trace_line *l)
{
    slice text = l->text;
    struct connection *c;

    if (slice_starts(text, SL("connect from "))) {
        c = connection_at(t, l, first_word(slice_from(text, 13)), true);
        if (c != NULL)
            hold(c, l);
    } else if (slice_starts(text, SL("disconnect from "))) {
        c = connection_at(t, l, first_word(slice_from(text, 16)), false);
        for (unsigned i = 0; c != NULL && i < c->n_m; i++)
            message_line(t, c->m[i], l);
        if (c != NULL)
            connection_free(t, c);
    } else if (cut_words(&text, SL("TLS connection established from "))) {
        c = connection_at(t, l, first_word(text), false);
        if (c != NULL)
            hold(c, l);
    }
}

/* ---- reading: the first session of who got it that fetched mail since */

static void reader_add(struct trace *t, slice user, struct trace_message *m)
{
    char key[sizeof((struct reader *)0)->user];
    struct map_node *found;
    struct reader *r;

    if (user.n == 0 || user.n >= sizeof key)
        return;
    for (size_t i = 0; i < user.n; i++)
        key[i] = ascii_lower(user.p[i]);
    found = map_get(&t->readers, slice_of(key, user.n));
    if (found != NULL) {
        r = CONTAINER_OF(found, struct reader, node);
    } else {
        r = xcalloc(1, sizeof *r);
        memcpy(r->user, key, user.n);
        map_put(&t->readers, &r->node, slice_of(r->user, user.n));
    }
    for (unsigned i = 0; i < r->n_m; i++)
        if (r->m[i] == m)
            return;
    if (r->n_m < READER_MESSAGES)
        r->m[r->n_m++] = m;
}

static bool has_fetched(slice text)
{
    static const char *const counts[] = { "fetched", "retr" };

    for (size_t i = 0; i < ARRAY_LEN(counts); i++) {
        slice v = trace_field(text, counts[i]);

        if (v.n > 0 && v.p[0] >= '1' && v.p[0] <= '9')
            return true;
    }
    return false;
}

static void look_at_session(struct trace *t, const struct trace_line *l)
{
    slice rest = l->text, user;
    struct map_node *found;
    struct reader *r;

    if (!slice_cut(&rest, '(', &user) || !slice_cut(&rest, ')', &user) ||
        user.n >= sizeof r->user || !has_fetched(rest))
        return;
    found = map_get(&t->readers, user);
    if (found == NULL)
        return;
    r = CONTAINER_OF(found, struct reader, node);
    for (unsigned i = 0; i < r->n_m; i++)
        message_line(t, r->m[i], l);
    map_del(&t->readers, found);
    free(r);
}

/* ---- what a message's own lines say */

static struct trace_rcpt *rcpt_of(struct trace *t, struct trace_message *m,
                                  slice to, slice orig)
{
    struct trace_rcpt *r;

    list_each(it, &m->rcpts) {
        r = CONTAINER_OF(it, struct trace_rcpt, link);
        if (slice_eq(r->to, to) && slice_eq(r->orig_to, orig))
            return r;
    }
    r = m->n_rcpts < TRACE_RCPTS ? arena_alloc(t->lines, sizeof *r) : NULL;
    if (r == NULL) {
        t->is_full = true;
        return NULL;
    }
    *r = (struct trace_rcpt){ .to = slice_dup(t->lines, to),
                              .orig_to = slice_dup(t->lines, orig) };
    list_push(&m->rcpts, &r->link);
    m->n_rcpts++;
    return r;
}

static void note_delivery(struct trace *t, struct trace_message *m,
                          const struct trace_line *l)
{
    slice to = trace_field(l->text, "to");
    slice status = trace_field(l->text, "status"), at = to;
    ssize_t why = slice_find(l->text, SL("status="));
    struct trace_rcpt *r;

    if (to.p == NULL || status.n == 0 || why < 0)
        return;
    r = rcpt_of(t, m, to, trace_field(l->text, "orig_to"));
    if (r == NULL)
        return;
    r->n_tries++;
    r->time = slice_dup(t->lines, l->time);
    r->service = slice_dup(t->lines, l->service);
    r->relay = slice_dup(t->lines, trace_field(l->text, "relay"));
    r->dsn = slice_dup(t->lines, trace_field(l->text, "dsn"));
    r->status = slice_dup(t->lines, status);
    r->why =
        slice_dup(t->lines,
                  slice_trim(slice_from(l->text, (size_t)why + 7 + status.n)));
    if (!slice_eqs(status, "sent"))
        return;
    if (slice_eqs(l->service, "virtual") || slice_eqs(l->service, "local"))
        reader_add(t, to, m);
    if (slice_eqs(l->service, "local") && slice_cut(&at, '@', &to))
        reader_add(t, to, m);
}

/* `child` is about `parent`, or a copy of it. */
static void tie(struct trace *t, slice parent, slice child, const char *is_of)
{
    struct trace_message *p = message_find(t, parent);
    struct trace_message *c = message_find(t, child);

    if ((p == NULL && c == NULL) || !trace_is_id(child) ||
        slice_eq(parent, child))
        return;
    if (c == NULL)
        c = message_add(t, child);
    if (p == NULL)
        (void)message_add(t, parent);
    if (c != NULL && c->parent == NULL) {
        set_once(&c->parent, parent);
        c->is_of = is_of;
    }
}

static void look_at_ties(struct trace *t, const struct trace_line *l)
{
    slice text = l->text;

    if (cut_words(&text, SL(" notification: "))) {
        tie(t, l->id, first_word(text), "notification");
    } else if (slice_find(l->text, SL("status=sent")) >= 0 &&
               cut_words(&text, SL(" queued as "))) {
        text = first_word(text);
        if (text.n > 0 && text.p[text.n - 1] == ')')
            text.n--;
        tie(t, l->id, text, "copy");
    }
}

static void own_line(struct trace *t, struct trace_message *m,
                     const struct trace_line *l)
{
    slice client = trace_field(l->text, "client");

    if (client.p != NULL)
        arrived(t, m, l, client);
    message_line(t, m, l);
    set_once(&m->message_id, trace_field(l->text, "message-id"));
    if (slice_ends(l->service, SL("qmgr"))) {
        set_once(&m->from, trace_field(l->text, "from"));
        set_once(&m->size, trace_field(l->text, "size"));
        m->is_removed |= slice_eqs(l->text, "removed");
    }
    note_delivery(t, m, l);
}

/* ---- the key */

static slice bare(slice s)
{
    if (s.n > 2 && s.p[0] == '<' && s.p[s.n - 1] == '>')
        return slice_sub(s, 1, s.n - 2);
    return s;
}

static bool is_wanted(const struct trace *t, slice v)
{
    slice key = bare(t->key);

    if (v.n == 0 || slice_chr(key, '@') < 0)
        return false;
    return slice_ieq(v, key) || (key.p[0] == '@' && slice_iends(v, key));
}

static bool matches(const struct trace *t, const struct trace_line *l)
{
    static const char *const fields[] = { "from", "to", "orig_to", "message-id",
                                          "msgid" };

    if (slice_eq(l->id, t->key))
        return true;
    for (size_t i = 0; i < ARRAY_LEN(fields); i++)
        if (is_wanted(t, trace_field(l->text, fields[i])))
            return true;
    return false;
}

static void drop_oldest(struct trace *t)
{
    list_each(it, &t->order) {
        struct trace_message *m = CONTAINER_OF(it, struct trace_message, link);

        if (!m->is_match)
            continue;
        message_free(t, m);
        t->n_matches--;
        t->n_dropped++;
        return;
    }
}

/* The newest are kept when there are too many. */
static void add_match(struct trace *t, slice id)
{
    struct trace_message *m = message_find(t, id);

    if (m != NULL && m->is_match)
        return;
    if (t->n_matches >= t->max_matches)
        drop_oldest(t);
    m = message_add(t, id);
    if (m != NULL) {
        m->is_match = true;
        t->n_matches++;
    }
}

/* Mail that another server gave us by LMTP has no queue id here. */
static void look_at_lmtp(struct trace *t, const struct trace_line *l)
{
    slice mid = trace_field(l->text, "msgid");

    if (mid.n == 0)
        return;
    list_each(it, &t->order) {
        struct trace_message *m = CONTAINER_OF(it, struct trace_message, link);

        if (slice_eqs(mid, m->message_id)) {
            message_line(t, m, l);
            return;
        }
    }
    if (is_wanted(t, mid))
        text_add(t, &t->loose, &t->n_loose, LOOSE_LINES, l);
}

static void on_line(void *arg, slice line)
{
    struct trace *t = arg;
    struct trace_line l;
    struct trace_message *m;

    if (!trace_line_parse(line, t->scratch, &l))
        return;
    if (t->pass == 0 && l.id.n > 0 && matches(t, &l))
        add_match(t, l.id);
    if (l.id.n > 0 && !slice_eqs(l.id, "NOQUEUE"))
        look_at_ties(t, &l);
    m = t->pass > 0 ? message_find(t, l.id) : NULL;
    if (m != NULL)
        own_line(t, m, &l);
    if (slice_eqs(l.id, "NOQUEUE") && matches(t, &l))
        text_add(t, &t->loose, &t->n_loose, LOOSE_LINES, &l);
    else if (t->pass == 0 || l.id.n > 0)
        return; /* messages may be dropped still: nobody points to them */
    else if (slice_eqs(l.service, "lmtp"))
        look_at_lmtp(t, &l);
    else if (slice_eqs(l.service, "imap") || slice_eqs(l.service, "pop3"))
        look_at_session(t, &l);
    else
        look_at_connection(t, &l);
}

/* ---- passes */

static void forget_pass(struct trace *t)
{
    size_t pos = 0;

    for (struct map_node *n = map_next(&t->readers, &pos, NULL); n != NULL;) {
        struct map_node *next = map_next(&t->readers, &pos, n);

        map_del(&t->readers, n);
        free(CONTAINER_OF(n, struct reader, node));
        n = next;
    }
    while (!list_empty(&t->connection_age))
        connection_free(t, CONTAINER_OF(t->connection_age.next,
                                        struct connection, age));
}

static void begin_pass(struct trace *t)
{
    forget_pass(t);
    list_each(it, &t->order) {
        struct trace_message *m = CONTAINER_OF(it, struct trace_message, link);

        list_init(&m->lines);
        list_init(&m->rcpts);
        m->n_lines = m->n_rcpts = 0;
        m->is_removed = false;
    }
    list_init(&t->loose);
    t->n_loose = 0;
    t->is_full = false;
    t->has_new = false;
    arena_reset(t->lines);
}

void trace_init(struct trace *t, slice key, size_t max_matches)
{
    memset(t, 0, sizeof *t);
    t->key = key;
    t->max_matches = max_matches;
    t->lines = arena_new(TRACE_BYTES);
    t->scratch = arena_new(TRACE_LINE_BYTES * 8);
    map_init(&t->messages, false);
    map_init(&t->connections, false);
    map_init(&t->readers, true);
    list_init(&t->order);
    list_init(&t->connection_age);
    list_init(&t->loose);
}

void trace_done(struct trace *t)
{
    forget_pass(t);
    while (!list_empty(&t->order))
        message_free(t,
                     CONTAINER_OF(t->order.next, struct trace_message, link));
    map_done(&t->messages);
    map_done(&t->connections);
    map_done(&t->readers);
    arena_free(&t->lines);
    arena_free(&t->scratch);
}

int trace_follow(struct trace *t, struct trace_files *f, struct err *err)
{
    for (t->pass = 0; t->pass < TRACE_PASSES; t->pass++) {
        begin_pass(t);
        if (trace_files_read(f, on_line, t, err) < 0)
            return -1;
        if (t->pass > 0 && !t->has_new)
            break;
    }
    return 0;
}
