#include "command/command.h"

#include "auth/auth.h"
#include "mail/mail.h"
#include "rt/file.h"
#include "rt/tls.h"

#include <fcntl.h>
#include <pwd.h>
#include <sysexits.h>

/*
 * hato init DIR [options]: a small, commented, working configuration for one
 * domain with a first user.  Everything lies below DIR, so it runs as root with
 * separate users as well as all in one as an ordinary user.
 */

#define MAIL_USER        "hato-mail"
#define CERTIFICATE_DAYS 3650

struct init {
    char *dir; /* absolute */
    const char *domain;
    const char *user;
    const char *password;
    const char *host;
    unsigned port;
    bool is_root;
};

static void usage(void)
{
    (void)fputs(
        "usage: hato init DIR [--domain DOMAIN] [--user NAME]\n"
        "                     [--password TEXT] [--host NAME] [--port N]\n",
        stderr);
    exit(EX_USAGE);
}

static void write_file(const struct init *in, int dirfd, const char *name,
                       mode_t mode, struct buf *text)
{
    int fd CLEANUP(close_fd) = -1;
    struct err err;

    fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC);
    if (fd >= 0)
        command_die(EX_CANTCREAT,
                    "%s/%s exists already; nothing is overwritten", in->dir,
                    name);
    if (text->overflow ||
        file_replace(dirfd, name, buf_view(text), mode, &err) < 0)
        command_die(EX_CANTCREAT, "%s/%s: %s", in->dir, name,
                    text->overflow ? "too long" : err.log);
}

/* ---- the files */

static void main_cf(const struct init *in, struct buf *b)
{
    (void)buf_printf(
        b,
        "# Hato's main configuration: Postfix's language, names and defaults.\n"
        "# man hato-params lists every parameter.  After a change:\n"
        "#     hato -c %s check     says what is wrong, and where\n"
        "#     hato -c %s reload    takes it over; no connection is lost\n"
        "compatibility_level = 3.6\n"
        "\n"
        "# Who we are.  Mail written here without a domain comes from "
        "$myorigin.\n"
        "myhostname = %s\n"
        "mydomain = %s\n"
        "myorigin = $mydomain\n"
        "\n"
        "# Where the queue, the built tables and the log lie.  Without\n"
        "# maillog_file the log goes to syslog.\n"
        "queue_directory = %s/queue\n"
        "data_directory = %s/data\n"
        "maillog_file = %s/log/mail.log\n"
        "\n",
        in->dir, in->dir, in->host, in->domain, in->dir, in->dir, in->dir);
    (void)buf_printf(
        b,
        "# Where we listen (the ports stand in master.cf), and who may send "
        "to\n"
        "# other domains: these networks, and whoever signs in.\n"
        "inet_interfaces = %s\n"
        "mynetworks = 127.0.0.0/8 [::1]/128\n"
        "smtpd_relay_restrictions = permit_mynetworks,\n"
        "    permit_sasl_authenticated, reject_unauth_destination\n"
        "\n"
        "# TLS: this certificate signs itself; put one that others trust in "
        "its\n"
        "# place, which counts at once.\n"
        "smtpd_tls_cert_file = %s/cert.pem\n"
        "smtpd_tls_key_file = %s/key.pem\n"
        "smtpd_tls_security_level = may\n"
        "\n",
        in->port == 25 ? "all" : "loopback-only", in->dir, in->dir);
    (void)buf_printf(
        b,
        "# Mail for the machine itself: users of the system, and the names in\n"
        "# the file `aliases`, which is indexed by itself when it changes.\n"
        "mydestination = $myhostname, localhost.$mydomain, localhost\n"
        "alias_maps = hash:%s/aliases\n"
        "alias_database = $alias_maps\n"
        "recipient_delimiter = +\n"
        "\n"
        "# Mail for our domains: users who exist only here, one line each in\n"
        "# the file `users`, further addresses in the file `virtual`.  %%d is\n"
        "# the domain, %%n the name before the @.\n"
        "virtual_mailbox_domains = %s\n"
        "virtual_alias_maps = hash:%s/virtual\n"
        "userdb = passwd-file:%s/users\n"
        "mail_location = maildir:%s/mail/%%d/%%n\n"
        "# They sign in with the passwords there (hato user add|passwd|list|"
        "delete).\n"
        "passdb = passwd-file:%s/users\n",
        in->dir, in->domain, in->dir, in->dir, in->dir, in->dir);
    if (in->is_root)
        (void)buf_puts(b, "# The user of the system who owns their mail.\n"
                          "mail_uid = " MAIL_USER "\n"
                          "mail_gid = " MAIL_USER "\n"
                          "first_valid_uid = 100\n");
}

/* 25 goes with 587, 465, 993 and 995, 2525 with 2587, 2465, 2993 and 2995. */
static unsigned port_near(const struct init *in, int from_2525, unsigned usual)
{
    int port = (int)in->port + from_2525;

    if (in->port == 25)
        return usual;
    return (unsigned)(port > 0 && port < 65536 ? port
                                               : (int)in->port - from_2525);
}

static void submission_line(const struct init *in, struct buf *b, bool is_465)
{
    (void)buf_printf(
        b,
        "%-9u inet  n       -      n      -      -       smtpd\n"
        "  -o syslog_name=postfix/%s\n"
        "  -o %s\n"
        "  -o smtpd_sasl_auth_enable=yes\n"
        "  -o smtpd_client_restrictions=\n"
        "  -o smtpd_relay_restrictions=permit_sasl_authenticated,reject\n",
        is_465 ? port_near(in, -60, 465) : port_near(in, 62, 587),
        is_465 ? "submissions" : "submission",
        is_465 ? "smtpd_tls_wrappermode=yes"
               : "smtpd_tls_security_level=encrypt");
}

static void master_cf(const struct init *in, struct buf *b)
{
    (void)buf_printf(
        b,
        "# What Hato listens on, in the columns of Postfix's master.cf.  A "
        "port\n"
        "# or a service name stands first; lines that begin with a blank "
        "belong to\n"
        "# the line above and change a parameter for it alone.\n"
        "# service type  private unpriv chroot wakeup maxproc command\n"
        "%-9u inet  n       -      n      -      -       smtpd\n"
        "# Mail programs hand their mail in here, after sign-in and in TLS: "
        "port 587\n"
        "# with STARTTLS, port 465 with TLS from the start.\n",
        in->port);
    submission_line(in, b, false);
    submission_line(in, b, true);
    (void)buf_printf(
        b,
        "# And read it here: IMAP and POP3 with TLS from the start.\n"
        "%-9u inet  n       -      n      -      -       imapd\n"
        "  -o smtpd_tls_wrappermode=yes\n"
        "%-9u inet  n       -      n      -      -       pop3d\n"
        "  -o smtpd_tls_wrappermode=yes\n",
        port_near(in, 468, 993), port_near(in, 470, 995));
}

static void aliases(const struct init *in, struct buf *b)
{
    (void)buf_printf(b,
                     "# Mail for names of this machine (%s).\n"
                     "# name: where it goes (addresses, |command, /file, "
                     ":include:/file).\n"
                     "# Changes count at once; newaliases is not needed.\n"
                     "postmaster: %s@%s\n"
                     "root: postmaster\n",
                     in->host, in->user, in->domain);
}

/* Addresses that every domain must have (RFC 2142), and root, whom programs of
 * this machine write to: a bare name gets $myorigin. */
static void virtual_map(const struct init *in, struct buf *b)
{
    static const char *const names[] = { "postmaster", "abuse", "hostmaster",
                                         "webmaster", "root" };

    (void)buf_printf(b,
                     "# Further addresses of %s: address, then where it "
                     "goes.\n"
                     "# Changes count at once; postmap is not needed.\n",
                     in->domain);
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (strcasecmp(names[i], in->user) != 0)
            (void)buf_printf(b, "%s@%s  %s@%s\n", names[i], in->domain,
                             in->user, in->domain);
}

static void users(const struct init *in, struct buf *b)
{
    struct err err;

    (void)buf_printf(b,
                     "# user@domain:password:uid:gid:gecos:home:shell:extra, "
                     "as Dovecot's\n"
                     "# passwd-file; only the first is needed to get mail.  "
                     "Changes count at once.\n"
                     "%s@%s:",
                     in->user, in->domain);
    if (auth_password_hash("SHA512-CRYPT", slice_str(in->password), b, &err) <
        0)
        command_die(EX_SOFTWARE, "%s", err.log);
    (void)buf_puts(b, "::::::\n");
}

static void certificate(const struct init *in, int dirfd)
{
    struct buf cert, key;
    struct err err;

    buf_init(&cert, 16384);
    buf_init(&key, 16384);
    if (tls_make_self_signed(in->host, CERTIFICATE_DAYS, &cert, &key, &err) < 0)
        command_die(EX_SOFTWARE, "%s", err.log);
    write_file(in, dirfd, "cert.pem", 0644, &cert);
    write_file(in, dirfd, "key.pem", 0600, &key);
    explicit_bzero(key.p, key.size);
    buf_done(&key);
    buf_done(&cert);
}

/* ---- options */

static char *absolute(const char *dir)
{
    char *cwd;
    char *out;

    if (dir[0] == '/')
        return xstrdup(dir);
    cwd = getcwd(NULL, 0);
    if (cwd == NULL)
        command_die(EX_OSERR, "where am I: %s", strerror(errno));
    out = xasprintf("%s/%s", cwd, dir);
    free(cwd);
    return out;
}

static const char *random_password(void)
{
    static char text[17];
    static const char letters[] = "abcdefghijkmnpqrstuvwxyz23456789";
    uint8_t random[16];

    random_bytes(random, sizeof random);
    for (size_t i = 0; i < sizeof random; i++)
        text[i] = letters[random[i] & 31];
    return text;
}

static void parse(struct init *in, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        const char *name = argv[i];
        const char *value;
        uint64_t n;

        if (name[0] != '-') {
            if (in->dir != NULL)
                usage();
            in->dir = absolute(name);
            continue;
        }
        if (i + 1 >= argc)
            usage();
        value = argv[++i];
        if (strcmp(name, "--domain") == 0)
            in->domain = value;
        else if (strcmp(name, "--user") == 0)
            in->user = value;
        else if (strcmp(name, "--password") == 0)
            in->password = value;
        else if (strcmp(name, "--host") == 0)
            in->host = value;
        else if (strcmp(name, "--port") == 0 &&
                 slice_u64(slice_str(value), &n) && n > 0 && n < 65536)
            in->port = (unsigned)n;
        else
            usage();
    }
    if (in->dir == NULL)
        usage();
}

static void check_names(const struct init *in)
{
    struct arena *a = arena_new(65536);
    struct mail_path path;
    struct err err;
    char *text = xasprintf("<%s@%s>", in->user, in->domain);
    slice s = slice_str(text);

    if (!mail_domain_valid(slice_str(in->domain)))
        command_die(EX_USAGE, "%s is no domain name", in->domain);
    if (!mail_domain_valid(slice_str(in->host)))
        command_die(EX_USAGE, "%s is no host name", in->host);
    if (mail_path_parse(a, &s, MAIL_PATH_STRICT, &path, &err) < 0 ||
        strpbrk(in->user, ":/ \"") != NULL)
        command_die(EX_USAGE, "%s is no user name", in->user);
    free(text);
    arena_free(&a);
}

/* DIR/log and DIR/mail; the latter for the users' uid. */
static void make_dirs(const struct init *in)
{
    static const char *const names[] = { "log", "mail" };
    const struct passwd *pw = in->is_root ? getpwnam(MAIL_USER) : NULL;
    struct err err;

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        char *path = xasprintf("%s/%s", in->dir, names[i]);

        if (file_mkdirs(path, 0755, &err) < 0)
            command_die(EX_CANTCREAT, "%s", err.log);
        if (i == 1 && pw != NULL && chown(path, pw->pw_uid, pw->pw_gid) < 0)
            command_die(EX_CANTCREAT, "chown %s: %s", path, strerror(errno));
        free(path);
    }
}

/* As root: which users of the system have still to be created. */
static void tell_users(const struct init *in)
{
    static const char *const names[] = {
        "hato",        "hato-log",   "hato-tables", "hato-smtp",
        "hato-broker", "hato-keys",  "hato-auth",   "hato-login",
        "hato-dns",    "hato-fetch", MAIL_USER
    };
    struct buf missing;

    buf_init(&missing, 1024);
    for (size_t i = 0; in->is_root && i < ARRAY_LEN(names); i++)
        if (getpwnam(names[i]) == NULL)
            (void)buf_printf(&missing, " %s", names[i]);
    if (missing.n > 0)
        (void)printf("First create the users that it runs as:\n"
                     "  for u in%.*s; do\n"
                     "    useradd --system --user-group --no-create-home \\\n"
                     "        --shell /usr/sbin/nologin $u\n"
                     "  done\n",
                     SLF(buf_view(&missing)));
    if (in->is_root && getpwnam(MAIL_USER) == NULL)
        (void)printf("  chown " MAIL_USER ": %s/mail\n", in->dir);
    buf_done(&missing);
}

static void emit(const struct init *in, int dirfd, const char *name,
                 mode_t mode, void (*fn)(const struct init *in, struct buf *b))
{
    struct buf b;

    buf_init(&b, 65536);
    fn(in, &b);
    write_file(in, dirfd, name, mode, &b);
    buf_done(&b);
}

int command_init(int argc, char **argv)
{
    struct init in = { .user = "tomo", .is_root = geteuid() == 0 };
    int dirfd CLEANUP(close_fd) = -1;
    char *made = NULL; /* the host name, where none was given */
    struct err err;

    in.port = in.is_root ? 25 : 2525;
    parse(&in, argc, argv);
    if (in.domain == NULL)
        in.domain = "example.test";
    if (in.host == NULL)
        in.host = made = xasprintf("mail.%s", in.domain);
    if (in.password == NULL)
        in.password = random_password();
    check_names(&in);
    if (file_mkdirs(in.dir, 0755, &err) < 0)
        command_die(EX_CANTCREAT, "%s", err.log);
    dirfd = open(in.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dirfd < 0)
        command_die(EX_CANTCREAT, "%s: %s", in.dir, strerror(errno));
    make_dirs(&in);
    emit(&in, dirfd, "main.cf", 0644, main_cf);
    emit(&in, dirfd, "master.cf", 0644, master_cf);
    emit(&in, dirfd, "aliases", 0644, aliases);
    emit(&in, dirfd, "virtual", 0644, virtual_map);
    emit(&in, dirfd, "users", 0600, users);
    certificate(&in, dirfd);
    (void)printf("%s is ready: user %s@%s, password %s.\n"
                 "Ports: SMTP %u, submission %u (STARTTLS) and %u (TLS), IMAP "
                 "%u, POP3 %u (TLS).\n",
                 in.dir, in.user, in.domain, in.password, in.port,
                 port_near(&in, 62, 587), port_near(&in, -60, 465),
                 port_near(&in, 468, 993), port_near(&in, 470, 995));
    tell_users(&in);
    (void)printf("Start it:  hato -c %s start\n", in.dir);
    free(made);
    free(in.dir);
    return 0;
}
