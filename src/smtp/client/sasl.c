#include "smtp/client/sasl.h"

#include "base/digest.h"

#include <dlfcn.h>
#include <gsasl.h>

/*
 * PLAIN (RFC 4616), LOGIN, XOAUTH2 and OAUTHBEARER (RFC 7628) are one or two
 * lines and made here; CRAM-MD5 (RFC 2195) and SCRAM (RFC 5802, 7677) are GNU
 * SASL's.
 */

/* What a mechanism offers against attacks: Cyrus SASL's properties, which
 * smtp_sasl_security_options names. */
enum {
    SEC_NOPLAINTEXT = 1,
    SEC_NOACTIVE = 2,
    SEC_NODICTIONARY = 4,
    SEC_FORWARD_SECRECY = 8,
    SEC_NOANONYMOUS = 16,
    SEC_MUTUAL_AUTH = 32,
};

static const struct {
    const char *name;
    unsigned bit;
} properties[] = {
    { "noplaintext", SEC_NOPLAINTEXT },
    { "noactive", SEC_NOACTIVE },
    { "nodictionary", SEC_NODICTIONARY },
    { "forward_secrecy", SEC_FORWARD_SECRECY },
    { "noanonymous", SEC_NOANONYMOUS },
    { "mutual_auth", SEC_MUTUAL_AUTH },
};

/* A server that asks for more rounds of SCRAM would keep the process busy; what
 * servers ask for today is 4,096 to 15,000. */
#define SCRAM_ROUNDS_MAX 200000

/* RFC 4954 4: AUTH and an initial response are one command line. */
#define COMMAND_MAX 510

struct client_sasl {
    const struct mech *mech;
    char *user, *password, *host;
    unsigned n_steps;
    bool is_begun;
    bool is_done;
    bool is_held;      /* the first line was too long for AUTH's own */
    struct buf held;   /* it */
    Gsasl_session *gs; /* CRAM-MD5, SCRAM */
};

struct mech {
    const char *name;
    /* The next line, in bytes.  `in` is what the server sent. */
    int (*step)(struct client_sasl *s, slice in, struct buf *out,
                struct err *err);
    unsigned properties;
    bool is_client_first;
    bool is_library;
};

/* Loaded before the sandbox, by this process alone: linked, it and what it
 * needs would be part of every process. */
static struct {
    Gsasl *lib;
    int (*init)(Gsasl **);
    int (*client_start)(Gsasl *, const char *, Gsasl_session **);
    int (*step)(Gsasl_session *, const char *, size_t, char **, size_t *);
    void (*finish)(Gsasl_session *);
    void (*free)(void *);
    int (*property_set)(Gsasl_session *, Gsasl_property, const char *);
    const char *(*property_fast)(Gsasl_session *, Gsasl_property);
    const char *(*strerror)(int);
} gs;

static int out_of_step(const struct client_sasl *s, struct err *err)
{
    return err_perm(err, "unexpected challenge in %s", s->mech->name);
}

/* ---- PLAIN */

static int plain_step(struct client_sasl *s, slice in, struct buf *out,
                      struct err *err)
{
    (void)in;
    if (s->n_steps > 0)
        return out_of_step(s, err);
    (void)buf_byte(out, '\0');
    (void)buf_puts(out, s->user);
    (void)buf_byte(out, '\0');
    (void)buf_puts(out, s->password);
    s->is_done = true;
    return 0;
}

/* ---- LOGIN: what the server asks is not looked at, only its turn. */

static int login_step(struct client_sasl *s, slice in, struct buf *out,
                      struct err *err)
{
    (void)in;
    if (s->n_steps > 1)
        return out_of_step(s, err);
    (void)buf_puts(out, s->n_steps == 0 ? s->user : s->password);
    s->is_done = s->n_steps == 1;
    return 0;
}

/* ---- tokens */

/* A second challenge is the reason for a refusal (RFC 7628 3.2.2); the answer
 * to it makes the server say its 5xx. */
static int xoauth2_step(struct client_sasl *s, slice in, struct buf *out,
                        struct err *err)
{
    (void)in;
    if (s->n_steps > 1)
        return out_of_step(s, err);
    if (s->n_steps == 0)
        (void)buf_printf(out, "user=%s\001auth=Bearer %s\001\001", s->user,
                         s->password);
    s->is_done = true;
    return 0;
}

/* RFC 5801 4: "," and "=" are not themselves in a name. */
static void put_saslname(struct buf *out, const char *name)
{
    for (; *name != '\0'; name++) {
        if (*name == ',')
            (void)buf_puts(out, "=2C");
        else if (*name == '=')
            (void)buf_puts(out, "=3D");
        else
            (void)buf_byte(out, *name);
    }
}

static int oauthbearer_step(struct client_sasl *s, slice in, struct buf *out,
                            struct err *err)
{
    (void)in;
    if (s->n_steps > 1)
        return out_of_step(s, err);
    if (s->n_steps == 1)
        return (void)buf_byte(out, '\001'), 0;
    (void)buf_puts(out, "n,a=");
    put_saslname(out, s->user);
    (void)buf_puts(out, ",\001");
    if (s->host[0] != '\0')
        (void)buf_printf(out, "host=%s\001", s->host);
    (void)buf_printf(out, "auth=Bearer %s\001\001", s->password);
    s->is_done = true;
    return 0;
}

/* ---- CRAM-MD5 and SCRAM */

/* server-first-message: "r=...,s=...,i=4096" */
static bool is_too_much_work(slice in)
{
    slice rest = in;
    slice part;
    uint64_t n;

    while (rest.n > 0) {
        (void)slice_cut(&rest, ',', &part);
        if (slice_starts(part, SL("i=")))
            return !slice_u64(slice_from(part, 2), &n) || n > SCRAM_ROUNDS_MAX;
    }
    return false;
}

static int library_step(struct client_sasl *s, slice in, struct buf *out,
                        struct err *err)
{
    char *bytes = NULL;
    size_t n = 0;
    int rc;

    if (s->is_done)
        return out_of_step(s, err);
    if (s->mech->is_client_first && is_too_much_work(in))
        return err_perm(err, "the server asks for too many rounds of %s",
                        s->mech->name);
    rc = gs.step(s->gs, in.p, in.n, &bytes, &n);
    if ((rc == GSASL_OK || rc == GSASL_NEEDS_MORE) && n > 0)
        (void)buf_put(out, bytes, n);
    if (bytes != NULL)
        explicit_bzero(bytes, n);
    gs.free(bytes);
    if (rc != GSASL_OK && rc != GSASL_NEEDS_MORE)
        return err_perm(err, "%s: %s", s->mech->name, gs.strerror(rc));
    s->is_done = rc == GSASL_OK;
    return 0;
}

/* ---- choice */

/* The strongest first.  Tokens come last: what stands in a password map is a
 * token only where nothing else may be used or the filter says so. */
static const struct mech mechs[] = {
    { "SCRAM-SHA-256", library_step,
      SEC_NOPLAINTEXT | SEC_NOACTIVE | SEC_NOANONYMOUS | SEC_MUTUAL_AUTH, true,
      true },
    { "SCRAM-SHA-1", library_step,
      SEC_NOPLAINTEXT | SEC_NOACTIVE | SEC_NOANONYMOUS | SEC_MUTUAL_AUTH, true,
      true },
    { "CRAM-MD5", library_step, SEC_NOPLAINTEXT | SEC_NOANONYMOUS, false,
      true },
    { "PLAIN", plain_step, SEC_NOANONYMOUS, true, false },
    { "LOGIN", login_step, SEC_NOANONYMOUS, false, false },
    { "OAUTHBEARER", oauthbearer_step, SEC_NOANONYMOUS, true, false },
    { "XOAUTH2", xoauth2_step, SEC_NOANONYMOUS, true, false },
};

static bool is_offered(slice offered, const char *name)
{
    slice word;

    while (slice_token(&offered, " \t,", &word))
        if (slice_ieqs(word, name))
            return true;
    return false;
}

/* An unknown word demands what no mechanism has. */
static unsigned demanded(slice security)
{
    unsigned bits = 0;
    slice word;

    while (slice_token(&security, ", \t\r\n", &word)) {
        unsigned bit = UINT_MAX;

        for (size_t i = 0; i < ARRAY_LEN(properties); i++)
            if (slice_ieqs(word, properties[i].name))
                bit = properties[i].bit;
        bits |= bit;
    }
    return bits;
}

static const struct mech *choose(const struct client_sasl_wish *w)
{
    unsigned need = demanded(w->security);

    for (size_t i = 0; i < ARRAY_LEN(mechs); i++)
        if (is_offered(w->mechs, mechs[i].name) &&
            (mechs[i].properties & need) == need &&
            (!mechs[i].is_library || gs.lib != NULL))
            return &mechs[i];
    return NULL;
}

static int library_start(struct client_sasl *s, struct err *err)
{
    int rc = gs.client_start(gs.lib, s->mech->name, &s->gs);

    if (rc != GSASL_OK)
        return err_temp(err, "GNU SASL has no %s: %s", s->mech->name,
                        gs.strerror(rc));
    (void)gs.property_set(s->gs, GSASL_AUTHID, s->user);
    (void)gs.property_set(s->gs, GSASL_PASSWORD, s->password);
    return 0;
}

int client_sasl_new(const struct client_sasl_wish *w, struct client_sasl **out,
                    struct err *err)
{
    const struct mech *mech = choose(w);
    struct client_sasl *s;

    if (mech == NULL && w->security.n > 0)
        return err_perm(err,
                        "no mechanism available (the security options \"%.*s\" "
                        "allow none that it offers)",
                        SLF(slice_sub(w->security, 0, 100)));
    if (mech == NULL)
        return err_perm(err, "no mechanism available");
    if (slice_chr(w->user, '\0') >= 0 || slice_chr(w->password, '\0') >= 0 ||
        slice_chr(w->user, '\001') >= 0 || slice_chr(w->password, '\001') >= 0)
        return err_perm(err, "control characters in name or password");
    s = xcalloc(1, sizeof *s);
    s->mech = mech;
    s->user = slice_xstrdup(w->user);
    s->password = slice_xstrdup(w->password);
    s->host = slice_xstrdup(w->host);
    buf_init(&s->held, CLIENT_SASL_LINE_MAX);
    if (mech->is_library && library_start(s, err) < 0) {
        client_sasl_free(&s);
        return -1;
    }
    *out = s;
    return 0;
}

static void wipe_text(char **text)
{
    if (*text != NULL)
        explicit_bzero(*text, strlen(*text));
    free(*text);
    *text = NULL;
}

static void wipe_buf(struct buf *b)
{
    if (b->p != NULL)
        explicit_bzero(b->p, b->size);
    buf_done(b);
}

/* The library frees its copy of a password without wiping it. */
static void wipe_library(struct client_sasl *s)
{
    const char *copy = gs.property_fast(s->gs, GSASL_PASSWORD);
    char *p;

    memcpy(&p, &copy, sizeof p);
    if (p != NULL)
        explicit_bzero(p, strlen(p));
    gs.finish(s->gs);
}

void client_sasl_free(struct client_sasl **sp)
{
    struct client_sasl *s = *sp;

    *sp = NULL;
    if (s == NULL)
        return;
    if (s->gs != NULL)
        wipe_library(s);
    wipe_text(&s->user);
    wipe_text(&s->password);
    free(s->host);
    wipe_buf(&s->held);
    free(s);
}

const char *client_sasl_mech(const struct client_sasl *s)
{
    return s->mech->name;
}

/* ---- the dialogue */

static int encode(struct client_sasl *s, slice in, struct buf *line,
                  struct err *err)
{
    struct buf raw;
    int rc;

    /* At once as big as it may be: what grows leaves copies behind. */
    buf_init(&raw, CLIENT_SASL_LINE_MAX);
    (void)buf_reserve(&raw, CLIENT_SASL_LINE_MAX);
    rc = s->mech->step(s, in, &raw, err);
    s->n_steps++;
    if (rc == 0)
        (void)base64_put(line, buf_view(&raw));
    if (rc == 0 &&
        (raw.overflow || line->overflow || line->n > CLIENT_SASL_LINE_MAX))
        rc = err_perm(err, "name and password are too long for %s",
                      s->mech->name);
    wipe_buf(&raw);
    return rc;
}

/* The line that goes with AUTH, where the mechanism has one. */
static int first_step(struct client_sasl *s, bool *has_line, struct buf *line,
                      struct err *err)
{
    size_t before = line->n;

    if (!s->mech->is_client_first) {
        *has_line = false;
        return 0;
    }
    if (encode(s, SLICE_NONE, line, err) < 0)
        return -1;
    *has_line = line->n - before + strlen("AUTH  ") + strlen(s->mech->name) <=
                COMMAND_MAX;
    if (*has_line)
        return 0;
    s->is_held = true;
    (void)buf_put(&s->held, line->p + before, line->n - before);
    explicit_bzero(line->p + before, line->n - before);
    line->n = before;
    return 0;
}

int client_sasl_step(struct client_sasl *s, slice challenge, bool *has_line,
                     struct buf *line, struct err *err)
{
    struct buf in;
    int rc;

    if (!s->is_begun) {
        s->is_begun = true;
        return first_step(s, has_line, line, err);
    }
    *has_line = true;
    if (s->is_held) {
        s->is_held = false;
        (void)buf_slice(line, buf_view(&s->held));
        return 0;
    }
    if (challenge.n > CLIENT_SASL_LINE_MAX)
        return err_perm(err, "challenge too long");
    buf_init(&in, CLIENT_SASL_LINE_MAX);
    /* Servers of LOGIN are known to ask in plain words. */
    if (!base64_get(&in, slice_trim(challenge)) && s->mech->is_library)
        rc = err_perm(err, "malformed challenge");
    else
        rc = encode(s, s->mech->is_library ? buf_view(&in) : SLICE_NONE, line,
                    err);
    buf_done(&in);
    return rc;
}

bool client_sasl_is_done(const struct client_sasl *s)
{
    return s->is_done;
}

/* ---- the library */

static void *open_library(void)
{
    static const char *const names[] = { "libgsasl.so.18", "libgsasl.so.7",
                                         "libgsasl.so" };
    void *so = NULL;

    for (size_t i = 0; so == NULL && i < ARRAY_LEN(names); i++)
        so = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    return so;
}

int client_sasl_setup(struct err *err)
{
    const struct {
        const char *name;
        void *at;
    } functions[] = {
        { "gsasl_init", &gs.init },
        { "gsasl_client_start", &gs.client_start },
        { "gsasl_step", &gs.step },
        { "gsasl_finish", &gs.finish },
        { "gsasl_free", &gs.free },
        { "gsasl_property_set", &gs.property_set },
        { "gsasl_property_fast", &gs.property_fast },
        { "gsasl_strerror", &gs.strerror },
    };

    void *so;

    if (gs.lib != NULL)
        return 0;
    so = open_library();
    if (so == NULL)
        return err_temp(err, "cannot load GNU SASL (libgsasl.so.18)");
    for (size_t i = 0; i < ARRAY_LEN(functions); i++) {
        void *f = dlsym(so, functions[i].name);

        if (f == NULL)
            return err_temp(err, "GNU SASL has no %s", functions[i].name);
        memcpy(functions[i].at, &f, sizeof f);
    }
    if (gs.init(&gs.lib) != GSASL_OK)
        return err_temp(err, "cannot start GNU SASL");
    return 0;
}
