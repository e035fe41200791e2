#include "smtp/client/sasl.h"

#include "base/clock.h"
#include "base/digest.h"
#include "base/map.h"

/* As whom to sign in where: smtp_sasl_password_maps and its kin, and the memory
 * of sign-ins that a server refused. */

#define REFUSALS_MAX 1000

struct client_login {
    uint32_t magic;
    const struct conf_service *service;
    struct conf *conf;
    struct table_list *passwords;
    struct table_match *filter;
    bool has_filter;
    bool by_sender;
    bool soft_bounce;
    slice delimiters;
    slice security[3]; /* by enum client_login_level */
    /* smtp_sasl_auth_cache_*: kept in memory. */
    bool remembers;
    msec remember_ms;
    struct map refusals;
};

#define CLIENT_LOGIN_MAGIC MAGIC('L', 'O', 'G', 'N')

/* A server's 535 to these credentials. */
struct refusal {
    struct map_node node;
    char *key; /* host, user */
    char *status, *text;
    uint8_t password[32];
    msec until;
};

struct param {
    char name[80];
};

static struct param param_of(const char *prefix, const char *rest)
{
    struct param p;

    (void)snprintf(p.name, sizeof p.name, "%s_%s", prefix, rest);
    return p;
}

static void refusal_free(struct client_login *l, struct refusal *r)
{
    map_del(&l->refusals, &r->node);
    explicit_bzero(r->password, sizeof r->password);
    free(r->key);
    free(r->status);
    free(r->text);
    free(r);
}

static void settings(struct client_login *l, const char *prefix)
{
    const struct conf *c = l->conf;
    const struct conf_service *s = l->service;

    l->by_sender =
        conf_bool(c, s,
                  param_of(prefix, "sender_dependent_authentication").name);
    l->soft_bounce =
        conf_bool(c, s, param_of(prefix, "sasl_auth_soft_bounce").name);
    l->delimiters = conf_slice(c, s, "recipient_delimiter");
    l->security[CLIENT_LOGIN_CLEAR] =
        conf_slice(c, s, param_of(prefix, "sasl_security_options").name);
    l->security[CLIENT_LOGIN_TLS] =
        conf_slice(c, s, param_of(prefix, "sasl_tls_security_options").name);
    l->security[CLIENT_LOGIN_VERIFIED] =
        conf_slice(c, s,
                   param_of(prefix, "sasl_tls_verified_security_options").name);
    l->has_filter =
        conf_slice(c, s, param_of(prefix, "sasl_mechanism_filter").name).n > 0;
    l->remembers =
        conf_slice(c, s, param_of(prefix, "sasl_auth_cache_name").name).n > 0;
    l->remember_ms =
        conf_time(c, s, param_of(prefix, "sasl_auth_cache_time").name) * 1000;
}

int client_login_new(struct tables *t, const struct conf *c,
                     const struct conf_service *service, const char *prefix,
                     struct client_login **out, struct err *err)
{
    struct client_login *l;

    *out = NULL;
    if (!conf_bool(c, service, param_of(prefix, "sasl_auth_enable").name))
        return 0;
    l = xcalloc(1, sizeof *l);
    l->magic = CLIENT_LOGIN_MAGIC;
    /* A reference changes only the count. */
    memcpy(&l->conf, &c, sizeof(void *));
    (void)conf_ref(l->conf);
    l->service = service;
    map_init(&l->refusals, true);
    settings(l, prefix);
    if (table_list_param(t, c, service,
                         param_of(prefix, "sasl_password_maps").name,
                         &l->passwords, err) < 0 ||
        table_match_new(t, c, service,
                        param_of(prefix, "sasl_mechanism_filter").name,
                        &l->filter, err) < 0) {
        client_login_free(&l);
        return -1;
    }
    if (table_list_is_empty(l->passwords)) {
        client_login_free(&l);
        return err_perm(err,
                        "%s_sasl_auth_enable is set, but "
                        "%s_sasl_password_maps is empty",
                        prefix, prefix);
    }
    *out = l;
    return 0;
}

void client_login_free(struct client_login **lp)
{
    struct client_login *l = *lp;
    struct map_node *n;
    size_t pos = 0;

    *lp = NULL;
    if (l == NULL)
        return;
    CHECK_OBJ(l, CLIENT_LOGIN_MAGIC);
    while ((n = map_next(&l->refusals, &pos, NULL)) != NULL) {
        refusal_free(l, CONTAINER_OF(n, struct refusal, node));
        pos = 0;
    }
    map_done(&l->refusals);
    table_list_free(&l->passwords);
    table_match_free(&l->filter);
    conf_unref(&l->conf);
    l->magic = 0;
    free(l);
}

slice client_login_security(const struct client_login *l,
                            enum client_login_level level)
{
    return l->security[level];
}

bool client_login_soft_bounce(const struct client_login *l)
{
    return l->soft_bounce;
}

bool client_login_by_sender(const struct client_login *l)
{
    return l->by_sender;
}

/* ---- who */

int client_login_find(struct client_login *l,
                      const struct client_login_ask *ask, struct arena *a,
                      struct client_credentials *out, struct err *err)
{
    struct table_addr_find how = { .strategy = TABLE_ADDR_DEFAULT,
                                   .delimiters = l->delimiters };
    const slice keys[] = { ask->host, ask->dest };
    slice value = SLICE_NONE;
    slice rest;

    CHECK_OBJ(l, CLIENT_LOGIN_MAGIC);
    *out = (struct client_credentials){ .found = false };
    if (l->by_sender && ask->sender.n > 0 &&
        table_list_find_addr(l->passwords, ask->sender, &how, a, &value, NULL,
                             err) < 0)
        return -1;
    for (size_t i = 0; i < ARRAY_LEN(keys) && value.p == NULL; i++)
        if (keys[i].n > 0 &&
            table_list_lookup(l->passwords, keys[i], 0, a, &value, err) < 0)
            return -1;
    if (value.p == NULL)
        return 0;
    rest = value;
    (void)slice_cut(&rest, ':', &out->user);
    out->password = rest;
    out->found = true;
    return 0;
}

static void wipe(slice s)
{
    char *p;

    memcpy(&p, &s.p, sizeof p);
    if (s.n > 0)
        explicit_bzero(p, s.n);
}

void client_credentials_wipe(struct client_credentials *c)
{
    wipe(c->user);
    wipe(c->password);
    *c = (struct client_credentials){ .found = false };
}

/* ---- how */

static bool has_word(slice list, slice word)
{
    slice one;

    while (slice_token(&list, " ", &one))
        if (slice_ieq(one, word))
            return true;
    return false;
}

int client_login_mechs(struct client_login *l, slice offered, struct arena *a,
                       slice *out, struct err *err)
{
    struct buf kept CLEANUP(buf_done);
    slice word;

    buf_init(&kept, 2048);
    while (slice_token(&offered, " \t", &word)) {
        bool is_good = true;

        if (word.n > 40 || has_word(buf_view(&kept), word))
            continue;
        if (l->has_filter &&
            table_match_string(l->filter, word, &is_good, err) < 0)
            return -1;
        if (!is_good)
            continue;
        if (kept.n > 0)
            (void)buf_byte(&kept, ' ');
        (void)buf_slice(&kept, word);
    }
    *out = slice_dup(a, buf_view(&kept));
    return 0;
}

/* ---- refusals that are remembered */

static char *refusal_key(slice host, slice user)
{
    return xasprintf("%.*s;%.*s", SLF(host), SLF(user));
}

static struct refusal *refusal_find(struct client_login *l, slice host,
                                    const struct client_credentials *who)
{
    char *key CLEANUP(free_ptr) = refusal_key(host, who->user);
    struct map_node *n = map_get(&l->refusals, slice_str(key));
    struct refusal *r;
    uint8_t digest[32];
    bool same;

    if (n == NULL)
        return NULL;
    r = CONTAINER_OF(n, struct refusal, node);
    sha256_of(who->password, digest);
    same = memcmp(digest, r->password, sizeof digest) == 0;
    if (same && r->until > clock_mono())
        return r;
    refusal_free(l, r);
    return NULL;
}

/* The one that ends first goes when there are too many. */
static void refusals_bound(struct client_login *l)
{
    struct refusal *first = NULL;
    struct map_node *n = NULL;
    size_t pos = 0;

    if (l->refusals.n < REFUSALS_MAX)
        return;
    while ((n = map_next(&l->refusals, &pos, n)) != NULL) {
        struct refusal *r = CONTAINER_OF(n, struct refusal, node);

        if (first == NULL || r->until < first->until)
            first = r;
    }
    if (first != NULL)
        refusal_free(l, first);
}

static void refusal_keep(struct client_login *l, slice host,
                         const struct client_credentials *who, slice status,
                         const char *text)
{
    struct refusal *r;

    if (!l->remembers || refusal_find(l, host, who) != NULL)
        return;
    refusals_bound(l);
    r = xcalloc(1, sizeof *r);
    r->key = refusal_key(host, who->user);
    r->status = slice_xstrdup(status);
    r->text = xstrdup(text);
    sha256_of(who->password, r->password);
    r->until = clock_after(l->remember_ms);
    map_put(&l->refusals, &r->node, slice_str(r->key));
}

/* ---- the dialogue */

struct dialogue {
    struct client_login *l;
    const struct client_login_ask *ask;
    const char *namaddr;
    const struct client_sasl_talk *talk;
    struct client_credentials who;
    struct arena *a;
    struct client_sasl *sasl;
    struct client_sasl_reply reply;
    struct buf line;
    struct err *err;
};

/* Our own trouble: always tried again. */
static enum client_login_result cannot(struct dialogue *d, const char *why)
{
    (void)err_set(d->err, ERR_TEMP, "4.7.0",
                  "SASL authentication failed; cannot authenticate to server "
                  "%s: %s",
                  d->namaddr, why);
    return CLIENT_LOGIN_FAILED;
}

static enum client_login_result refused(struct dialogue *d, const char *how,
                                        slice status, const char *text)
{
    bool is_temp = status.n == 0 || status.p[0] != '5' || d->l->soft_bounce;
    char code[8];

    if (!slice_copy_to(status, code, sizeof code) || status.n < 5)
        (void)snprintf(code, sizeof code, "5.7.8");
    code[0] = is_temp ? '4' : '5';
    (void)err_set(d->err, is_temp ? ERR_TEMP : ERR_PERM, code,
                  "SASL %sauthentication failed; server %s said: %s", how,
                  d->namaddr, text);
    return CLIENT_LOGIN_FAILED;
}

MAY_WAIT static int say(struct dialogue *d)
{
    int rc;

    if (d->line.overflow)
        return err_temp(d->err, "line too long");
    rc = d->talk->say(d->talk->arg, buf_view(&d->line), &d->reply, d->err);
    explicit_bzero(d->line.p, d->line.n);
    buf_clear(&d->line);
    return rc;
}

/* AUTH, and what the server asks, to the end.  0 with the last reply; 1 when
 * the server is out of step (*err says why); -1 the connection broke. */
MAY_WAIT static int converse(struct dialogue *d)
{
    bool has_line = false;
    struct buf first;
    int rc;

    buf_init(&first, CLIENT_SASL_LINE_MAX);
    if (client_sasl_step(d->sasl, SLICE_NONE, &has_line, &first, d->err) < 0) {
        buf_done(&first);
        return 1;
    }
    (void)buf_printf(&d->line, "AUTH %s", client_sasl_mech(d->sasl));
    if (has_line) /* "=" is an empty one: RFC 4954 4 */
        (void)buf_printf(&d->line, " %s", first.n > 0 ? buf_cstr(&first) : "=");
    if (first.p != NULL)
        explicit_bzero(first.p, first.size);
    buf_done(&first);
    rc = say(d);
    while (rc == 0 && d->reply.code / 100 == 3) {
        if (client_sasl_step(d->sasl, d->reply.text, &has_line, &d->line,
                             d->err) < 0)
            return 1;
        rc = say(d);
    }
    return rc;
}

static enum client_login_result outcome(struct dialogue *d)
{
    const struct client_sasl_reply *r = &d->reply;
    char text[200];

    (void)snprintf(text, sizeof text, "%d %.*s", r->code, SLF(r->text));
    if (r->code / 100 == 2) {
        if (client_sasl_is_done(d->sasl))
            return CLIENT_LOGIN_OK;
        (void)cannot(d, "it did not prove its identity");
        return CLIENT_LOGIN_BROKEN;
    }
    if (r->code == 535)
        refusal_keep(d->l, d->ask->host, &d->who,
                     r->status.n > 0 ? r->status : SL("5.7.8"), text);
    return refused(d, "",
                   r->status.n > 0
                       ? r->status
                       : slice_str(r->code / 100 == 5 ? "5.7.8" : "4.7.0"),
                   text);
}

MAY_WAIT static int sign_in(struct dialogue *d,
                            enum client_login_result *result)
{
    struct client_sasl_wish wish = {
        .user = d->who.user,
        .password = d->who.password,
        .host = d->ask->host,
        .security = client_login_security(d->l, d->ask->level),
    };
    struct refusal *r = refusal_find(d->l, d->ask->host, &d->who);
    char why[250];
    int rc;

    if (r != NULL) {
        *result = refused(d, "[CACHED] ", slice_str(r->status), r->text);
        return 0;
    }
    if (client_login_mechs(d->l, d->ask->mechs, d->a, &wish.mechs, d->err) <
            0 ||
        client_sasl_new(&wish, &d->sasl, d->err) < 0) {
        (void)snprintf(why, sizeof why, "%s", d->err->peer);
        *result = cannot(d, why);
        return 0;
    }
    rc = converse(d);
    if (rc == 0) {
        *result = outcome(d);
    } else if (rc > 0) {
        (void)snprintf(why, sizeof why, "%s", d->err->peer);
        (void)cannot(d, why);
        *result = CLIENT_LOGIN_BROKEN;
    }
    return rc < 0 ? -1 : 0;
}

int client_login_do(struct client_login *l, const struct client_login_ask *ask,
                    const char *namaddr, const struct client_sasl_talk *talk,
                    enum client_login_result *result, struct err *err)
{
    struct arena *a CLEANUP(arena_free) = NULL;
    struct dialogue d = {
        .l = l, .ask = ask, .namaddr = namaddr, .talk = talk, .err = err
    };
    int rc = 0;

    *result = CLIENT_LOGIN_STRANGER;
    if (l == NULL || ask->mechs.n == 0)
        return 0;
    a = arena_new(1u << 20);
    d.a = a;
    buf_init(&d.line, (size_t)2 * CLIENT_SASL_LINE_MAX);
    (void)buf_reserve(&d.line, (size_t)2 * CLIENT_SASL_LINE_MAX);
    if (client_login_find(l, ask, a, &d.who, err) < 0) {
        if (err->class == ERR_PEER)
            rc = -1;
        else
            *result = cannot(&d, "lookup of the password failed");
    } else if (d.who.found) {
        rc = sign_in(&d, result);
    }
    client_credentials_wipe(&d.who);
    client_sasl_free(&d.sasl);
    buf_done(&d.line);
    return rc;
}
