/* Which files hold the certificates and keys of a service. */
#include "keys/keys_priv.h"

#include <sys/stat.h>

/* ---- PEM */

bool keys_pem_next(slice *rest, slice *label, slice *block)
{
    for (;;) {
        ssize_t at = slice_find(*rest, SL("-----BEGIN "));
        slice from, line;
        char end[64];
        ssize_t stop;

        if (at < 0)
            return false;
        from = slice_from(*rest, (size_t)at);
        *rest = slice_from(from, 11);
        stop = slice_find(*rest, SL("-----"));
        if (stop < 0 || stop > 40)
            continue;
        *label = slice_sub(*rest, 0, (size_t)stop);
        (void)snprintf(end, sizeof end, "-----END %.*s-----", SLF(*label));
        stop = slice_find(from, slice_str(end));
        /* One that lost its end must not swallow what follows: a key. */
        if (stop < 0 || slice_find(slice_sub(from, 11, (size_t)stop - 11),
                                   SL("-----BEGIN ")) >= 0)
            continue;
        *block = slice_sub(from, 0, (size_t)stop + strlen(end));
        *rest = slice_from(from, block->n);
        line = *rest;
        if (line.n > 0 && line.p[0] == '\n')
            *block = slice_sub(from, 0, block->n + 1);
        return true;
    }
}

bool keys_is_key_label(slice label)
{
    return slice_ends(label, SL("PRIVATE KEY"));
}

void keys_only_certs(slice pem, struct buf *out)
{
    slice label, block;

    while (keys_pem_next(&pem, &label, &block))
        if (slice_ends(label, SL("CERTIFICATE"))) {
            (void)buf_slice(out, block);
            if (!slice_ends(block, SL("\n")))
                (void)buf_byte(out, '\n');
        }
}

int keys_read_fd(int fd, struct buf *out, struct err *err)
{
    char piece[1024];
    off_t at = 0;

    for (;;) {
        ssize_t n = pread(fd, piece, sizeof piece, at);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_sys(err, "read");
        if (n == 0)
            return 0;
        if (!buf_put(out, piece, (size_t)n))
            return err_perm(err, "longer than %u bytes", KEYS_FILE_MAX);
        at += n;
    }
}

/* ---- parameters */

bool keys_is_tls_service(const struct conf_service *s)
{
    return strcmp(s->command, "smtpd") == 0 ||
           strcmp(s->command, "postscreen") == 0 ||
           strcmp(s->command, "imapd") == 0 ||
           strcmp(s->command, "pop3d") == 0 || strcmp(s->command, "lmtpd") == 0;
}

static bool is_mailbox_service(const struct conf_service *s)
{
    return s != NULL && (strcmp(s->command, "imapd") == 0 ||
                         strcmp(s->command, "pop3d") == 0);
}

static void add_pair(struct keys_set *set, slice cert, slice key)
{
    if (cert.n == 0 || slice_eqs(cert, "none") || set->n == KEYS_SET_MAX)
        return;
    set->v[set->n++] = (struct keys_pair){ cert, key.n > 0 ? key : cert };
}

void keys_set_add_chains(struct keys_set *set, slice list)
{
    slice path;

    while (conf_list_next(&list, &path))
        add_pair(set, path, path);
}

/* Dovecot writes "<" in front of a path whose contents are meant. */
static slice dovecot_path(slice value)
{
    value = slice_trim(value);
    if (value.n > 0 && value.p[0] == '<')
        value = slice_trim(slice_from(value, 1));
    return value;
}

void keys_set_of(const struct conf *c, const struct conf_service *s,
                 struct keys_set *out)
{
    slice chains = conf_slice(c, s, "smtpd_tls_chain_files");

    out->n = 0;
    if (is_mailbox_service(s) && conf_slice(c, s, "ssl_cert").n > 0) {
        add_pair(out, dovecot_path(conf_slice(c, s, "ssl_cert")),
                 dovecot_path(conf_slice(c, s, "ssl_key")));
        return;
    }
    if (chains.n > 0) { /* as with Postfix, the others do not count then */
        keys_set_add_chains(out, chains);
        return;
    }
    add_pair(out, conf_slice(c, s, "smtpd_tls_cert_file"),
             conf_slice(c, s, "smtpd_tls_key_file"));
    add_pair(out, conf_slice(c, s, "smtpd_tls_eccert_file"),
             conf_slice(c, s, "smtpd_tls_eckey_file"));
}

void keys_client_set_of(const struct conf *c, const struct conf_service *line,
                        bool is_lmtp, struct keys_set *out)
{
    slice chains =
        conf_slice(c, line,
                   is_lmtp ? "lmtp_tls_chain_files" : "smtp_tls_chain_files");

    out->n = 0;
    if (chains.n > 0) {
        keys_set_add_chains(out, chains);
    } else if (is_lmtp) {
        add_pair(out, conf_slice(c, line, "lmtp_tls_cert_file"),
                 conf_slice(c, line, "lmtp_tls_key_file"));
        add_pair(out, conf_slice(c, line, "lmtp_tls_eccert_file"),
                 conf_slice(c, line, "lmtp_tls_eckey_file"));
    } else {
        add_pair(out, conf_slice(c, line, "smtp_tls_cert_file"),
                 conf_slice(c, line, "smtp_tls_key_file"));
        add_pair(out, conf_slice(c, line, "smtp_tls_eccert_file"),
                 conf_slice(c, line, "smtp_tls_eckey_file"));
    }
}

/* Each client: main.cf's two kinds, and the lines that may say otherwise. */
static void each_client(const struct conf *c,
                        void (*fn)(void *arg, const struct keys_set *set),
                        void *arg)
{
    struct keys_set set;

    for (int is_lmtp = 0; is_lmtp <= 1; is_lmtp++) {
        keys_client_set_of(c, NULL, is_lmtp == 1, &set);
        fn(arg, &set);
    }
    for (size_t i = 0; i < conf_service_count(c); i++) {
        const struct conf_service *s = conf_service_at(c, i);
        bool is_lmtp = strcmp(s->command, "lmtp") == 0;

        if (!is_lmtp && strcmp(s->command, "smtp") != 0)
            continue;
        keys_client_set_of(c, s, is_lmtp, &set);
        fn(arg, &set);
    }
}

/* ---- levels */

static enum keys_level smtpd_level(const struct conf *c,
                                   const struct conf_service *s)
{
    slice level = conf_slice(c, s, "smtpd_tls_security_level");

    if (level.n > 0) {
        if (slice_ieqs(level, "none"))
            return KEYS_NO_TLS;
        /* The levels of a client mean "encrypt" to Postfix's server. */
        return slice_ieqs(level, "may") ? KEYS_MAY : KEYS_ENCRYPT;
    }
    if (conf_bool(c, s, "smtpd_enforce_tls"))
        return KEYS_ENCRYPT;
    return conf_bool(c, s, "smtpd_use_tls") ? KEYS_MAY : KEYS_NO_TLS;
}

static enum keys_level mailbox_level(const struct conf *c,
                                     const struct conf_service *s)
{
    const char *ssl = conf_str(c, s, "ssl");

    if (strcmp(ssl, "no") == 0)
        return KEYS_NO_TLS;
    return strcmp(ssl, "required") == 0 ? KEYS_ENCRYPT : KEYS_MAY;
}

struct keys_service keys_service_of(const struct conf *c,
                                    const struct conf_service *s)
{
    struct keys_service out = {
        .level =
            is_mailbox_service(s) ? mailbox_level(c, s) : smtpd_level(c, s),
        .is_wrapper = conf_bool(c, s, "smtpd_tls_wrappermode"),
        .auth_only = is_mailbox_service(s)
                         ? conf_bool(c, s, "disable_plaintext_auth")
                         : conf_bool(c, s, "smtpd_tls_auth_only"),
    };

    if (out.is_wrapper)
        out.level = KEYS_ENCRYPT;
    if (out.level == KEYS_ENCRYPT)
        out.auth_only = true;
    return out;
}

/* ---- all of them */

struct telling {
    void (*fn)(void *arg, enum keys_kind kind, slice path);
    void *arg;
};

static void tell_set(void *arg, const struct keys_set *set)
{
    const struct telling *t = arg;

    for (size_t i = 0; i < set->n; i++) {
        t->fn(t->arg, KEYS_CERT, set->v[i].cert);
        t->fn(t->arg, KEYS_KEY, set->v[i].key);
    }
}

static void tell_entry(void *arg, slice name UNUSED, slice files)
{
    struct keys_set set = { .n = 0 };

    keys_set_add_chains(&set, files);
    tell_set(arg, &set);
}

static void tell_map(void *arg, slice path, slice inside)
{
    const struct telling *t = arg;
    char *name CLEANUP(free_ptr) = slice_xstrdup(path);
    struct buf text;
    struct err err;
    FILE *f;

    if (path.n == 0) {
        keys_inline_each(inside, tell_entry, arg);
        return;
    }
    t->fn(t->arg, KEYS_MAP, path);
    f = fopen(name, "re");
    if (f == NULL)
        return; /* who opens it says why */
    buf_init(&text, KEYS_FILE_MAX);
    if (keys_read_fd(fileno(f), &text, &err) == 0)
        keys_map_each(buf_view(&text), tell_entry, arg);
    buf_done(&text);
    (void)fclose(f);
}

static void count_set(void *arg, const struct keys_set *set)
{
    *(size_t *)arg += set->n;
}

static bool wants_tls(const struct conf *c, const struct conf_service *s)
{
    struct keys_set set;

    if (!keys_is_tls_service(s) || keys_service_of(c, s).level == KEYS_NO_TLS)
        return false;
    keys_set_of(c, s, &set);
    return set.n > 0;
}

bool keys_wanted(const struct conf *c)
{
    size_t n = 0;

    each_client(c, count_set, &n);
    if (n > 0)
        return true;
    for (size_t i = 0; i < conf_service_count(c); i++)
        if (wants_tls(c, conf_service_at(c, i)))
            return true;
    return false;
}

void keys_each_file(const struct conf *c,
                    void (*fn)(void *arg, enum keys_kind kind, slice path),
                    void *arg)
{
    struct telling t = { fn, arg };

    each_client(c, tell_set, &t);
    for (size_t i = 0; i < conf_service_count(c); i++) {
        const struct conf_service *s = conf_service_at(c, i);
        slice ca = conf_slice(c, s, "smtpd_tls_CAfile");
        struct keys_set set;

        if (!wants_tls(c, s))
            continue;
        keys_set_of(c, s, &set);
        tell_set(&t, &set);
        if (ca.n > 0)
            fn(arg, KEYS_CERT, ca);
        keys_each_map(c, s, tell_map, &t);
    }
}
