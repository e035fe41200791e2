#include "auth/auth_priv.h"

#include "ipc/event.h"

#include <dlfcn.h>
#include <gsasl.h>

/*
 * PLAIN (RFC 4616) and LOGIN are read here, so that a password lies in buffers
 * that are wiped and is compared as the bytes it is; SCRAM (RFC 5802, 7677) is
 * GNU SASL's.
 */
static const struct mech {
    const char *name;
    unsigned bit;
    const char *flags; /* of its MECH line */
    const char *scheme;
} mechs[] = {
    { "PLAIN", MECH_PLAIN, "\tplaintext", NULL },
    { "LOGIN", MECH_LOGIN, "\tplaintext", NULL },
    { "SCRAM-SHA-1", MECH_SCRAM_1, "\tmutual-auth", "SCRAM-SHA-1" },
    { "SCRAM-SHA-256", MECH_SCRAM_256, "\tmutual-auth", "SCRAM-SHA-256" },
    { "SCRAM-SHA-1-PLUS", MECH_SCRAM_1_PLUS, "\tmutual-auth\tchannel-binding",
      "SCRAM-SHA-1" },
    { "SCRAM-SHA-256-PLUS", MECH_SCRAM_256_PLUS,
      "\tmutual-auth\tchannel-binding", "SCRAM-SHA-256" },
};

struct sasl {
    const struct mech *mech;
    slice name; /* LOGIN */
    bool has_name;
    bool has_asked;
    /* SCRAM */
    Gsasl_session *session;
    struct auth_request *r;
    struct scram keys;
    bool has_keys, is_real, is_trouble;
};

/* Loaded before the sandbox, by this process alone: linked, it and what it
 * needs would be part of every process. */
static struct {
    Gsasl *lib;
    void (*callback_set)(Gsasl *, Gsasl_callback_function);
    int (*init)(Gsasl **);
    int (*server_start)(Gsasl *, const char *, Gsasl_session **);
    int (*step)(Gsasl_session *, const char *, size_t, char **, size_t *);
    void (*finish)(Gsasl_session *);
    void (*free)(void *);
    void (*hook_set)(Gsasl_session *, void *);
    void *(*hook_get)(Gsasl_session *);
    const char *(*property_fast)(Gsasl_session *, Gsasl_property);
    int (*property_set)(Gsasl_session *, Gsasl_property, const char *);
} gs;

unsigned sasl_find(slice name)
{
    for (size_t i = 0; i < ARRAY_LEN(mechs); i++)
        if (slice_ieqs(name, mechs[i].name))
            return mechs[i].bit;
    return 0;
}

void sasl_mechs(unsigned offered, struct buf *out)
{
    for (size_t i = 0; i < ARRAY_LEN(mechs); i++)
        if (mechs[i].bit & offered)
            (void)buf_printf(out, "MECH\t%s%s\n", mechs[i].name,
                             mechs[i].flags);
}

struct sasl *sasl_new(unsigned mech)
{
    struct sasl *s = xcalloc(1, sizeof *s);

    for (size_t i = 0; i < ARRAY_LEN(mechs); i++)
        if (mechs[i].bit == mech)
            s->mech = &mechs[i];
    CHECK(s->mech != NULL);
    return s;
}

void sasl_free(struct sasl **ps)
{
    struct sasl *s = *ps;

    *ps = NULL;
    if (s == NULL)
        return;
    if (s->session != NULL)
        gs.finish(s->session);
    explicit_bzero(s, sizeof *s);
    free(s);
}

/* ---- PLAIN: authzid NUL authcid NUL password */

MAY_WAIT static enum sasl_step plain_step(struct sasl *s,
                                          struct auth_request *r, slice in)
{
    slice rest = in;
    slice as, name;

    if (in.p == NULL && !s->has_asked) {
        s->has_asked = true;
        return SASL_MORE;
    }
    if (!slice_cut(&rest, '\0', &as) || !slice_cut(&rest, '\0', &name) ||
        slice_chr(rest, '\0') >= 0)
        return SASL_BROKEN;
    auth_verify_plain(r, name, rest);
    if (r->verdict == VERDICT_GOOD && as.n > 0 && !slice_ieq(as, name)) {
        /* Nobody acts for another. */
        r->verdict = VERDICT_DENIED;
        r->code = "authz_fail";
    }
    return SASL_DONE;
}

/* ---- LOGIN */

MAY_WAIT static enum sasl_step login_step(struct sasl *s,
                                          struct auth_request *r, slice in,
                                          struct buf *out)
{
    if (!s->has_name && in.p == NULL && !s->has_asked) {
        s->has_asked = true;
        (void)buf_puts(out, "Username:");
        return SASL_MORE;
    }
    if (!s->has_name) {
        s->has_name = true;
        s->name = slice_dup(r->arena, in);
        (void)buf_puts(out, "Password:");
        return SASL_MORE;
    }
    auth_verify_plain(r, s->name, in);
    return SASL_DONE;
}

/* ---- SCRAM */

static void set_base64(Gsasl_session *session, Gsasl_property p, slice raw)
{
    struct buf b;

    buf_init(&b, 4096);
    (void)base64_put(&b, raw);
    (void)gs.property_set(session, p, buf_cstr(&b));
    buf_done(&b);
}

/* The first of the properties is asked for when the name is known. */
MAY_WAIT static int give_keys(struct sasl *s)
{
    const char *name = gs.property_fast(s->session, GSASL_AUTHID);
    char count[16];
    struct err err;

    if (name == NULL || s->has_keys)
        return GSASL_NO_CALLBACK;
    s->has_keys = true;
    if (auth_verify_scram_keys(s->r, scheme_find(slice_str(s->mech->scheme)),
                               slice_str(name), &s->keys, &s->is_real,
                               &err) < 0) {
        s->is_trouble = true;
        return GSASL_AUTHENTICATION_ERROR;
    }
    (void)snprintf(count, sizeof count, "%u", s->keys.iterations);
    (void)gs.property_set(s->session, GSASL_SCRAM_ITER, count);
    set_base64(s->session, GSASL_SCRAM_SALT, s->keys.salt);
    set_base64(s->session, GSASL_SCRAM_STOREDKEY,
               slice_of(s->keys.stored, s->keys.key_bytes));
    set_base64(s->session, GSASL_SCRAM_SERVERKEY,
               slice_of(s->keys.server, s->keys.key_bytes));
    return GSASL_OK;
}

/* The one that the client names.  Without "-PLUS" it is asked for when a client
 * says that we do not offer that: where we do, somebody has changed our offer
 * on its way (RFC 5802 6). */
static int give_binding(struct sasl *s, Gsasl_property p)
{
    const struct auth_request *r = s->r;
    slice v = p == GSASL_CB_TLS_EXPORTER ? r->tls_exporter : r->tls_unique;
    unsigned plus = s->mech->bit << MECH_PLUS;
    char text[257];

    if (s->mech->bit <= MECH_SCRAM_256 && (r->config->mechs & plus) == 0)
        return GSASL_NO_CALLBACK;
    if (v.n == 0 || !slice_copy_to(v, text, sizeof text))
        return GSASL_NO_CALLBACK;
    return gs.property_set(s->session, p, text);
}

MAY_WAIT static int on_property(Gsasl *lib UNUSED, Gsasl_session *session,
                                Gsasl_property p)
{
    struct sasl *s = gs.hook_get(session);

    if (p == GSASL_SCRAM_ITER || p == GSASL_SCRAM_SALT ||
        p == GSASL_SCRAM_STOREDKEY || p == GSASL_SCRAM_SERVERKEY)
        return give_keys(s);
    if (p == GSASL_CB_TLS_EXPORTER || p == GSASL_CB_TLS_UNIQUE)
        return give_binding(s, p);
    return GSASL_NO_CALLBACK;
}

static void *open_library(void)
{
    static const char *const names[] = { "libgsasl.so.18", "libgsasl.so.7",
                                         "libgsasl.so" };
    void *so = NULL;

    for (size_t i = 0; so == NULL && i < ARRAY_LEN(names); i++)
        so = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    return so;
}

bool sasl_load(void)
{
    const struct {
        const char *name;
        void *at;
    } functions[] = {
        { "gsasl_init", &gs.init },
        { "gsasl_callback_set", &gs.callback_set },
        { "gsasl_server_start", &gs.server_start },
        { "gsasl_step", &gs.step },
        { "gsasl_finish", &gs.finish },
        { "gsasl_free", &gs.free },
        { "gsasl_session_hook_set", &gs.hook_set },
        { "gsasl_session_hook_get", &gs.hook_get },
        { "gsasl_property_fast", &gs.property_fast },
        { "gsasl_property_set", &gs.property_set },
    };

    void *so = gs.lib == NULL ? open_library() : NULL;

    if (gs.lib != NULL)
        return true;
    for (size_t i = 0; so != NULL && i < ARRAY_LEN(functions); i++) {
        void *f = dlsym(so, functions[i].name);

        if (f == NULL)
            return false;
        memcpy(functions[i].at, &f, sizeof f);
    }
    if (so == NULL || gs.init(&gs.lib) != GSASL_OK)
        return false;
    gs.callback_set(gs.lib, on_property);
    return true;
}

static bool start(struct sasl *s, struct auth_request *r)
{
    s->r = r;
    if (gs.lib == NULL ||
        gs.server_start(gs.lib, s->mech->name, &s->session) != GSASL_OK)
        return false;
    gs.hook_set(s->session, s);
    return true;
}

/* "a=other" in the client's first message. */
static bool acts_for_another(struct sasl *s)
{
    const char *as = gs.property_fast(s->session, GSASL_AUTHZID);
    const char *name = gs.property_fast(s->session, GSASL_AUTHID);

    return as != NULL && as[0] != '\0' &&
           (name == NULL || !slice_ieq(slice_str(as), slice_str(name)));
}

MAY_WAIT static enum sasl_step scram_step(struct sasl *s,
                                          struct auth_request *r, slice in,
                                          struct buf *out)
{
    char *bytes = NULL;
    size_t n = 0;
    int rc;

    if (in.p == NULL && !s->has_asked) {
        s->has_asked = true;
        return SASL_MORE;
    }
    if (s->session == NULL && !start(s, r)) {
        event_text(EV_ERROR, "auth", NULL, "GNU SASL has no %s", s->mech->name);
        r->verdict = VERDICT_TEMP;
        return SASL_DONE;
    }
    rc = gs.step(s->session, in.p, in.n, &bytes, &n);
    if ((rc == GSASL_OK || rc == GSASL_NEEDS_MORE) && n > 0)
        (void)buf_put(out, bytes, n);
    gs.free(bytes);
    if (s->is_trouble) {
        r->verdict = VERDICT_TEMP;
        return SASL_DONE;
    }
    if (rc == GSASL_NEEDS_MORE)
        return SASL_MORE;
    if (!s->has_keys)
        return SASL_BROKEN; /* not even a name */
    auth_verify_scram_end(r, rc == GSASL_OK && s->is_real);
    if (r->verdict == VERDICT_GOOD && acts_for_another(s)) {
        r->verdict = VERDICT_DENIED;
        r->code = "authz_fail";
    }
    return SASL_DONE;
}

enum sasl_step sasl_step(struct sasl *s, struct auth_request *r, slice in,
                         struct buf *out)
{
    if (s->mech->bit == MECH_PLAIN)
        return plain_step(s, r, in);
    if (s->mech->bit == MECH_LOGIN)
        return login_step(s, r, in, out);
    return scram_step(s, r, in, out);
}
