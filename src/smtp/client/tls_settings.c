/* Parameters of TLS of one service, its authorities and contexts. */
#include "smtp/client/policy.h"

#include "keys/keys.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#define CA_FILE_MAX ((size_t)4 << 20)
#define CA_DIR_MAX  2000

/* ---- levels */

static const struct {
    const char *name;
    enum tls_level level;
} levels[] = {
    { "none", TLS_LEVEL_NONE },       { "may", TLS_LEVEL_MAY },
    { "encrypt", TLS_LEVEL_ENCRYPT }, { "fingerprint", TLS_LEVEL_FINGERPRINT },
    { "dane", TLS_LEVEL_DANE },       { "dane-only", TLS_LEVEL_DANE_ONLY },
    { "verify", TLS_LEVEL_VERIFY },   { "secure", TLS_LEVEL_SECURE },
};

bool policy_level(slice name, enum tls_level *out)
{
    for (size_t i = 0; i < ARRAY_LEN(levels); i++)
        if (slice_ieqs(name, levels[i].name)) {
            *out = levels[i].level;
            return true;
        }
    return false;
}

const char *policy_level_name(enum tls_level level)
{
    for (size_t i = 0; i < ARRAY_LEN(levels); i++)
        if (levels[i].level == level)
            return levels[i].name;
    return "?";
}

/* smtp_tls_security_level, else the old switches, else ours. */
static int set_level(struct client_tls *t, struct err *err)
{
    const struct client_service *s = t->service;
    slice name = client_str(s, "tls_security_level");

    if (name.n > 0)
        return policy_level(name, &t->level)
                   ? 0
                   : err_perm(err, "%s: \"%.*s\" is no level",
                              client_param(s, "tls_security_level"), SLF(name));
    if (client_bool(s, "enforce_tls"))
        t->level = client_bool(s, "tls_enforce_peername") ? TLS_LEVEL_VERIFY
                                                          : TLS_LEVEL_ENCRYPT;
    else if (client_bool(s, "use_tls"))
        t->level = TLS_LEVEL_MAY;
    else {
        t->level = s->is_lmtp ? TLS_LEVEL_MAY : TLS_LEVEL_DANE;
        t->level_is_ours = true;
    }
    return 0;
}

static int set_insecure_mx(struct client_tls *t, struct err *err)
{
    slice name;

    t->insecure_mx = TLS_LEVEL_MAY;
    if (t->service->is_lmtp)
        return 0;
    name = client_str(t->service, "tls_dane_insecure_mx_policy");
    if (!policy_level(name, &t->insecure_mx) ||
        (t->insecure_mx != TLS_LEVEL_MAY &&
         t->insecure_mx != TLS_LEVEL_ENCRYPT &&
         t->insecure_mx != TLS_LEVEL_DANE))
        return err_perm(err,
                        "smtp_tls_dane_insecure_mx_policy: \"%.*s\" is not "
                        "may, encrypt or dane",
                        SLF(name));
    return 0;
}

static void set_texts(struct client_tls *t)
{
    const struct client_service *s = t->service;

    t->may.protocols = client_str(s, "tls_protocols");
    t->may.ciphers = client_str(s, "tls_ciphers");
    t->may.exclude = client_str(s, "tls_exclude_ciphers");
    t->must.protocols = client_str(s, "tls_mandatory_protocols");
    t->must.ciphers = client_str(s, "tls_mandatory_ciphers");
    t->must.exclude = slice_str(
        arena_printf(s->client->arena, "%.*s %.*s", SLF(t->may.exclude),
                     SLF(client_str(s, "tls_mandatory_exclude_ciphers"))));
    t->verify_match = client_str(s, "tls_verify_cert_match");
    t->secure_match = client_str(s, "tls_secure_cert_match");
    t->fingerprint_match = client_str(s, "tls_fingerprint_cert_match");
    t->servername = client_str(s, "tls_servername");
    t->force_insecure_host =
        client_bool(s, "tls_force_insecure_host_tlsa_lookup");
    t->loglevel = (int)client_int(s, "tls_loglevel");
    t->note_offer = client_bool(s, "tls_note_starttls_offer");
    t->is_wrapper = client_bool(s, "tls_wrappermode");
    t->session_ms = client_time(s, "tls_session_cache_timeout") * 1000;
    t->has_sts =
        !s->is_lmtp && conf_bool(s->client->conf, s->line, "smtp_tls_mta_sts");
}

/* ---- authorities */

int policy_read_file(int dirfd, const char *name, struct buf *out,
                     struct err *err)
{
    int fd CLEANUP(close_fd) =
        openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    char piece[1024];
    struct stat st;

    if (fd < 0)
        return err_sys(err, "open %s", name);
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        return err_perm(err, "%s is no file", name);
    for (;;) {
        ssize_t n = read(fd, piece, sizeof piece);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_sys(err, "read %s", name);
        if (n == 0)
            break;
        if (!buf_put(out, piece, (size_t)n))
            return err_perm(err, "%s: more than %zu bytes of authorities", name,
                            CA_FILE_MAX);
    }
    (void)buf_byte(out, '\n');
    return 0;
}

static int read_param(struct client_tls *t, const char *suffix, struct err *err)
{
    slice path = client_str(t->service, suffix);
    char *name CLEANUP(free_ptr) = slice_xstrdup(path);

    if (path.n == 0)
        return 0;
    if (policy_read_file(AT_FDCWD, name, &t->ca, err) < 0)
        return err_prefix(err, "%s", client_param(t->service, suffix));
    return 0;
}

/* Every file: links by hash lead to files that stand beside them, and a
 * certificate that comes twice is one. */
static int read_dir(struct client_tls *t, struct err *err)
{
    char *path CLEANUP(free_ptr) =
        slice_xstrdup(client_str(t->service, "tls_CApath"));
    struct dirent *e;
    int n = 0, rc = 0;
    DIR *d;

    if (path[0] == '\0')
        return 0;
    d = opendir(path);
    if (d == NULL)
        return err_sys(err, "%s: open %s",
                       client_param(t->service, "tls_CApath"), path);
    while (rc == 0 && n < CA_DIR_MAX && (e = readdir(d)) != NULL) {
        size_t before = t->ca.n;

        if (e->d_name[0] == '.' || e->d_type == DT_DIR)
            continue;
        n++;
        /* What is no certificate, or a link to nowhere, is passed over. */
        if (policy_read_file(dirfd(d), e->d_name, &t->ca, err) < 0) {
            if (t->ca.overflow)
                rc = -1;
        } else if (slice_find(slice_from(buf_view(&t->ca), before),
                              SL("-----BEGIN ")) < 0) {
            t->ca.n = before;
        }
    }
    (void)closedir(d);
    return rc;
}

/* The system's authorities, or a file that a parameter names in their place:
 * read once, before the sandbox. */
static struct {
    struct buf pem;
    bool is_read;
    struct tls_context *ctx;
    bool is_complained;
} roots;

static int read_roots(const char *file, struct err *err)
{
    static const char *const places[] = {
        "/etc/ssl/certs/ca-certificates.crt",
        "/etc/pki/tls/certs/ca-bundle.crt",
        "/etc/ssl/cert.pem",
    };

    if (roots.is_read)
        return 0;
    roots.is_read = true;
    buf_init(&roots.pem, CA_FILE_MAX);
    if (file[0] != '\0')
        return policy_read_file(AT_FDCWD, file, &roots.pem, err) < 0
                   ? err_prefix(err, "smtp_tls_mta_sts_CAfile")
                   : 0;
    for (size_t i = 0; i < ARRAY_LEN(places); i++)
        if (policy_read_file(AT_FDCWD, places[i], &roots.pem, err) == 0)
            return 0;
    return 0;
}

static int read_all(struct client_tls *t, struct err *err)
{
    const struct client_service *s = t->service;
    const struct conf *c = s->client->conf;
    bool has_anchors = client_str(s, "tls_trust_anchor_file").n > 0;

    buf_init(&t->ca, CA_FILE_MAX);
    t->set.is_ca_any = has_anchors;
    if (read_roots(conf_str(c, NULL, "smtp_tls_mta_sts_CAfile"), err) < 0)
        return -1;
    if (has_anchors)
        return read_param(t, "tls_trust_anchor_file", err);
    if (read_param(t, "tls_CAfile", err) < 0 || read_dir(t, err) < 0)
        return -1;
    if (t->ca.n > 0 && conf_bool(c, s->line, "tls_append_default_CA"))
        (void)buf_slice(&t->ca, buf_view(&roots.pem));
    return 0;
}

/* ---- contexts */

struct tls_context *client_tls_sts_context(const struct client_tls *t)
{
    struct tls_settings set = t->set;
    struct err err;

    if (roots.ctx != NULL)
        return roots.ctx;
    set.ca = buf_view(&roots.pem);
    set.is_ca_any = false;
    if (set.ca.n > 0 && tls_context_new(&set, &roots.ctx, &err) == 0)
        return roots.ctx;
    if (!roots.is_complained)
        event_text(EV_WARNING, t->service->log_name, NULL,
                   "the system's authorities cannot be used: MTA-STS cannot "
                   "be kept (smtp_tls_mta_sts_CAfile)");
    roots.is_complained = true;
    return NULL;
}

struct tls_context *client_tls_context(const struct client_tls *t)
{
    const struct client_service *s = t->service;
    struct tls_context *own = NULL;

    if (s->client->keyring != NULL)
        own = keyring_client_context(s->client->keyring, s->line, s->is_lmtp,
                                     &t->set);
    return own != NULL ? own : t->ctx;
}

static int check_texts(struct client_tls *t, struct err *err)
{
    const struct client_service *s = t->service;
    int min, max;

    if (keys_versions(t->may.protocols, KEYS_TLS_OLDEST, &min, &max, err) < 0)
        return err_prefix(err, "%s", client_param(s, "tls_protocols"));
    if (keys_versions(t->must.protocols, KEYS_TLS_OLDEST, &min, &max, err) < 0)
        return err_prefix(err, "%s",
                          client_param(s, "tls_mandatory_protocols"));
    if (t->level == TLS_LEVEL_FINGERPRINT && t->fingerprint_match.n == 0 &&
        client_str(s, "tls_policy_maps").n == 0)
        return err_perm(err, "%s is empty",
                        client_param(s, "tls_fingerprint_cert_match"));
    return 0;
}

int client_tls_new(struct smtp_client *c, struct client_service *s,
                   struct client_tls **out, struct err *err)
{
    struct client_tls *t = xcalloc(1, sizeof *t);

    *out = t;
    t->service = s;
    list_init(&t->anchors);
    if (set_level(t, err) < 0 || set_insecure_mx(t, err) < 0)
        return -1;
    set_texts(t);
    client_sts_note_files(conf_str(c->conf, NULL, "data_directory"));
    if (check_texts(t, err) < 0 || read_all(t, err) < 0 ||
        client_tables(s, "tls_policy_maps", &t->maps, err) < 0 ||
        client_tables(s, "tls_per_site", &t->per_site, err) < 0)
        return -1;
    policy_anchors_read(t);
    t->set.ca = buf_view(&t->ca);
    t->set.verify_depth = (unsigned)client_int(s, "tls_scert_verifydepth");
    t->set.digest =
        conf_str(c->conf, s->line, client_param(s, "tls_fingerprint_digest"));
    t->set.wildcard_multi =
        conf_bool(c->conf, s->line, "tls_wildcard_matches_multiple_labels");
    t->set.dane_digests = conf_str(c->conf, s->line, "tls_dane_digests");
    /* What a connection may use, its policy says. */
    t->set.min_version = 0x0301;
    return tls_context_new(&t->set, &t->ctx, err);
}

void client_tls_free(struct client_tls **tp)
{
    struct client_tls *t = *tp;

    *tp = NULL;
    if (t == NULL)
        return;
    table_list_free(&t->maps);
    table_list_free(&t->per_site);
    policy_anchors_forget(t);
    tls_context_unref(&t->ctx);
    tls_context_unref(&roots.ctx);
    buf_done(&t->ca);
    free(t);
}
