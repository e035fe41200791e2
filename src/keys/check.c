/* hato check: certificates and keys. */
#include "keys/keys_priv.h"

#include "base/clock.h"

#include <fcntl.h>
#include <sys/stat.h>

/* Certificates that end sooner are worth a word. */
#define SOON_SEC 604800

struct check {
    const struct conf *conf;
    const struct conf_service *service;
    struct conf_diags *diags;
    const char *param;
};

static void tell(const struct check *k, enum conf_severity severity,
                 const char *cure, const char *text)
{
    const char *file;
    int line;

    conf_where(k->conf, k->service, k->param, &file, &line);
    for (size_t i = 0; i < k->diags->n; i++)
        if (strcmp(k->diags->v[i].text, text) == 0)
            return; /* of another service with the same files */
    conf_diags_add(k->diags, severity, line > 0 ? file : NULL, line, cure, "%s",
                   text);
}

__attribute__((format(printf, 4, 5))) static void say(
    const struct check *k, enum conf_severity severity, const char *cure,
    const char *fmt, ...)
{
    char *text CLEANUP(free_ptr) = NULL;
    va_list ap;

    va_start(ap, fmt);
    if (vasprintf(&text, fmt, ap) < 0)
        text = NULL;
    va_end(ap);
    if (text != NULL)
        tell(k, severity, cure, text);
}

static bool read_path(const struct check *k, slice path, struct buf *out,
                      struct stat *st)
{
    char *name CLEANUP(free_ptr) = slice_xstrdup(path);
    int fd CLEANUP(close_fd) =
        open(name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    struct err err;

    if (fd < 0 || fstat(fd, st) < 0) {
        say(k, CONF_ERROR, "make the file, or take its name out", "%s: %s: %s",
            k->param, name, strerror(errno));
        return false;
    }
    if (!S_ISREG(st->st_mode)) {
        say(k, CONF_ERROR, "", "%s: %s is not a file", k->param, name);
        return false;
    }
    if (keys_read_fd(fd, out, &err) < 0) {
        say(k, CONF_ERROR, "", "%s: %s: %s", k->param, name, err.log);
        return false;
    }
    return true;
}

static void check_dates(const struct check *k, slice path, slice cert)
{
    int64_t from, until, now = clock_wall() / 1000;
    struct err err;

    if (tls_cert_dates(cert, &from, &until, &err) < 0)
        say(k, CONF_ERROR, "", "%s: %.*s: %s", k->param, SLF(path), err.log);
    else if (until < now)
        say(k, CONF_WARNING, "get a new one",
            "%s: the certificate in %.*s has expired", k->param, SLF(path));
    else if (from > now)
        say(k, CONF_WARNING, "look at the clock",
            "%s: the certificate in %.*s is not valid yet", k->param,
            SLF(path));
    else if (until < now + SOON_SEC)
        say(k, CONF_WARNING, "get a new one",
            "%s: the certificate in %.*s expires within a week", k->param,
            SLF(path));
}

/* Is there a key in the text whose id is this?  *n counts the keys before it.
 * -1: one of them cannot be read. */
static int find_key(slice keys, const uint8_t id[static 32], bool *found,
                    size_t *n, struct err *err)
{
    slice label, block;
    uint8_t key[32];

    *found = false;
    *n = 0;
    while (!*found && keys_pem_next(&keys, &label, &block)) {
        if (!keys_is_key_label(label))
            continue;
        ++*n;
        if (tls_cert_key_id(block, key, err) < 0)
            return -1;
        *found = memcmp(key, id, 32) == 0;
    }
    return 0;
}

static void check_fits(const struct check *k, const struct keys_pair *pair,
                       slice keys, const uint8_t id[static 32])
{
    struct err err;
    bool found;
    size_t n;

    if (find_key(keys, id, &found, &n, &err) < 0)
        say(k, CONF_ERROR, "the key must not have a passphrase", "%s: %.*s: %s",
            k->param, SLF(pair->key), err.log);
    else if (found)
        return;
    else if (n > 0)
        say(k, CONF_ERROR, "",
            "%s: the key in %.*s does not fit the certificate in %.*s",
            k->param, SLF(pair->key), SLF(pair->cert));
    else
        say(k, CONF_ERROR, "", "%s: there is no private key in %.*s", k->param,
            SLF(pair->key));
}

static int no_signature(void *arg UNUSED, const uint8_t id[static 32] UNUSED,
                        uint16_t scheme UNUSED, slice tbs UNUSED,
                        struct buf *out UNUSED, struct err *err)
{
    return err_temp(err, "nobody signs here");
}

/* Would a context take it? */
static void check_use(const struct check *k, slice path, slice cert)
{
    struct tls_cert one = { .chain = cert };
    struct tls_settings set = { .certs = &one,
                                .n_certs = 1,
                                .sign = no_signature };
    struct tls_context *c = NULL;
    struct err err;

    if (tls_context_new(&set, &c, &err) < 0)
        say(k, CONF_ERROR, "", "%s: %.*s: %s", k->param, SLF(path), err.log);
    tls_context_unref(&c);
}

static void check_key(const struct check *k, const struct keys_pair *pair,
                      const uint8_t id[static 32])
{
    struct buf key;
    struct stat st;

    buf_init(&key, KEYS_FILE_MAX);
    if (read_path(k, pair->key, &key, &st)) {
        check_fits(k, pair, buf_view(&key), id);
        if ((st.st_mode & 077) != 0)
            say(k, CONF_WARNING, "chmod 600 it",
                "%s: the private key in %.*s is readable for others", k->param,
                SLF(pair->key));
    }
    if (key.p != NULL)
        explicit_bzero(key.p, key.size);
    buf_done(&key);
}

static void check_pair(const struct check *k, const struct keys_pair *pair)
{
    struct buf cert;
    struct stat st;
    uint8_t id[32];
    struct err err;

    buf_init(&cert, KEYS_FILE_MAX);
    if (!read_path(k, pair->cert, &cert, &st)) {
        buf_done(&cert);
        return;
    }
    if (tls_cert_key_id(buf_view(&cert), id, &err) < 0) {
        say(k, CONF_ERROR, "", "%s: %.*s: %s", k->param, SLF(pair->cert),
            err.log);
    } else {
        check_dates(k, pair->cert, buf_view(&cert));
        check_use(k, pair->cert, buf_view(&cert));
        check_key(k, pair, id);
    }
    if (cert.p != NULL)
        explicit_bzero(cert.p, cert.size); /* the key may be in it too */
    buf_done(&cert);
}

static void check_name(void *arg, slice name UNUSED, slice files)
{
    struct check k = *(const struct check *)arg;
    struct keys_set set = { .n = 0 };

    k.param = "tls_server_sni_maps";
    keys_set_add_chains(&set, files);
    for (size_t i = 0; i < set.n; i++)
        check_pair(&k, &set.v[i]);
}

static void check_map(void *arg, slice path, slice inside)
{
    struct check k = *(const struct check *)arg;
    struct buf text;
    struct stat st;

    k.param = "tls_server_sni_maps";
    if (path.n == 0) {
        keys_inline_each(inside, check_name, &k);
        return;
    }
    buf_init(&text, KEYS_FILE_MAX);
    if (read_path(&k, path, &text, &st))
        keys_map_each(buf_view(&text), check_name, &k);
    buf_done(&text);
}

static void check_map_types(const struct check *k)
{
    slice list = conf_slice(k->conf, k->service, "tls_server_sni_maps");
    slice item, type, name;

    while (conf_list_next(&list, &item))
        if (conf_split_table(item, &type, &name) && !keys_map_type_ok(type))
            say(k, CONF_ERROR, "use hash:, texthash: or inline:",
                "tls_server_sni_maps: %.*s: the names must be known at start",
                SLF(item));
}

static void check_settings(struct check *k)
{
    struct tls_settings set = { 0 };
    struct arena *a = arena_new(1u << 18);
    struct err err;

    k->param = "smtpd_tls_security_level";
    if (keys_settings(k->conf, k->service, a, &set, &err) < 0)
        say(k, CONF_ERROR, "", "TLS of service %s: %s", k->service->name,
            err.log);
    arena_free(&a);
}

static const char *param_of(const struct check *k)
{
    if (strcmp(k->service->command, "smtpd") != 0 &&
        strcmp(k->service->command, "postscreen") != 0 &&
        strcmp(k->service->command, "lmtpd") != 0 &&
        conf_slice(k->conf, k->service, "ssl_cert").n > 0)
        return "ssl_cert";
    if (conf_slice(k->conf, k->service, "smtpd_tls_chain_files").n > 0)
        return "smtpd_tls_chain_files";
    return "smtpd_tls_cert_file";
}

static void check_service(struct check *k)
{
    struct keys_service how = keys_service_of(k->conf, k->service);
    slice ca = conf_slice(k->conf, k->service, "smtpd_tls_CAfile");
    bool is_smtp = strcmp(k->service->command, "smtpd") == 0 ||
                   strcmp(k->service->command, "postscreen") == 0;
    struct keys_set set;
    struct buf text;
    struct stat st;

    if (how.level == KEYS_NO_TLS)
        return;
    keys_set_of(k->conf, k->service, &set);
    k->param = param_of(k);
    if (set.n == 0 && how.level == KEYS_ENCRYPT)
        say(k, CONF_ERROR, "set smtpd_tls_cert_file",
            "service %s demands TLS, but there is no certificate",
            k->service->name);
    else if (set.n == 0 && is_smtp)
        say(k, CONF_WARNING, "set smtpd_tls_cert_file",
            "there is no certificate: TLS is not offered");
    if (set.n == 0)
        return;
    for (size_t i = 0; i < set.n; i++)
        check_pair(k, &set.v[i]);
    k->param = "smtpd_tls_CAfile";
    buf_init(&text, KEYS_FILE_MAX);
    if (ca.n > 0)
        (void)read_path(k, ca, &text, &st);
    buf_done(&text);
    keys_each_map(k->conf, k->service, check_map, k);
    check_map_types(k);
    check_settings(k);
}

/* ---- clients */

/* A parameter of smtp_* or lmtp_*. */
static slice client_param(struct check *k, bool is_lmtp, const char *suffix)
{
    char name[80];
    const struct conf_param *p;

    (void)snprintf(name, sizeof name, "%s_%s", is_lmtp ? "lmtp" : "smtp",
                   suffix);
    p = conf_param_find(slice_str(name));
    CHECK(p != NULL);
    k->param = p->name;
    return conf_slice(k->conf, k->service, k->param);
}

static void check_level(struct check *k, bool is_lmtp)
{
    static const char *const levels[] = { "none",   "may",         "encrypt",
                                          "dane",   "dane-only",   "verify",
                                          "secure", "fingerprint", "" };
    slice level = client_param(k, is_lmtp, "tls_security_level");

    for (size_t i = 0; i < ARRAY_LEN(levels); i++)
        if (slice_ieqs(level, levels[i]))
            return;
    say(k, CONF_ERROR, "say none, may, encrypt, dane, verify or secure",
        "%s: \"%.*s\" is no level", k->param, SLF(level));
}

static void check_versions(struct check *k, bool is_lmtp, const char *suffix)
{
    slice list = client_param(k, is_lmtp, suffix);
    int min, max;
    struct err err;

    if (keys_versions(list, KEYS_TLS_OLDEST, &min, &max, &err) < 0)
        say(k, CONF_ERROR, "as in >=TLSv1.2", "%s: %s", k->param, err.log);
}

static void check_grade(struct check *k, bool is_lmtp, const char *suffix)
{
    slice grade = client_param(k, is_lmtp, suffix);
    struct buf b;
    struct err err;

    buf_init(&b, KEYS_FILE_MAX);
    if (keys_ciphers(k->conf, k->service, grade, SLICE_NONE, &b, &err) < 0)
        say(k, CONF_ERROR, "say high or medium", "%s: %s", k->param, err.log);
    buf_done(&b);
}

static void check_exclusions(struct check *k, bool is_lmtp, const char *suffix)
{
    slice list = client_param(k, is_lmtp, suffix);
    struct buf b;
    struct err err;

    buf_init(&b, KEYS_FILE_MAX);
    if (keys_ciphers(k->conf, k->service, SL("high"), list, &b, &err) < 0)
        say(k, CONF_ERROR, "name ciphers only", "%s: %s", k->param, err.log);
    buf_done(&b);
}

static void check_client(struct check *k, bool is_lmtp)
{
    static const char *const files[] = { "tls_CAfile",
                                         "tls_trust_anchor_file" };
    struct keys_set set;

    check_level(k, is_lmtp);
    check_versions(k, is_lmtp, "tls_protocols");
    check_versions(k, is_lmtp, "tls_mandatory_protocols");
    check_grade(k, is_lmtp, "tls_ciphers");
    check_grade(k, is_lmtp, "tls_mandatory_ciphers");
    check_exclusions(k, is_lmtp, "tls_exclude_ciphers");
    check_exclusions(k, is_lmtp, "tls_mandatory_exclude_ciphers");
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        slice path = client_param(k, is_lmtp, files[i]);
        struct buf text;
        struct stat st;

        buf_init(&text, KEYS_FILE_MAX);
        if (path.n > 0)
            (void)read_path(k, path, &text, &st);
        buf_done(&text);
    }
    keys_client_set_of(k->conf, k->service, is_lmtp, &set);
    (void)client_param(k, is_lmtp, "tls_cert_file");
    for (size_t i = 0; i < set.n; i++)
        check_pair(k, &set.v[i]);
}

static void check_clients(const struct conf *c, struct conf_diags *diags)
{
    struct check k = { .conf = c, .diags = diags };

    check_client(&k, false);
    check_client(&k, true);
    for (size_t i = 0; i < conf_service_count(c); i++) {
        k.service = conf_service_at(c, i);
        if (strcmp(k.service->command, "smtp") == 0)
            check_client(&k, false);
        else if (strcmp(k.service->command, "lmtp") == 0)
            check_client(&k, true);
    }
}

void keys_check(const struct conf *c, struct conf_diags *diags)
{
    check_clients(c, diags);
    for (size_t i = 0; i < conf_service_count(c); i++) {
        struct check k = { .conf = c,
                           .service = conf_service_at(c, i),
                           .diags = diags };

        if (keys_is_tls_service(k.service))
            check_service(&k);
    }
}
