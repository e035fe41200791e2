/* Listeners: bound once, kept while they are configured, passed to children. */
#include "master/master_priv.h"

#include <arpa/inet.h>
#include <grp.h>
#include <netinet/in.h>
#include <pwd.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define BACKLOG   1024
#define ADDRS_MAX 64

static struct port *find(struct master *m, const char *where)
{
    list_each(it, &m->ports) {
        struct port *p = CONTAINER_OF(it, struct port, link);

        if (strcmp(p->where, where) == 0)
            return p;
    }
    return NULL;
}

static void drop(struct port *p)
{
    list_remove(&p->link);
    for (size_t i = 0; i < p->n_fds; i++)
        close(p->fds[i]);
    if (strncmp(p->where, "unix:", 5) == 0)
        (void)unlink(p->where + 5);
    free(p);
}

/* With SO_REUSEPORT a port that another server of the same uid holds would be
 * shared with it silently: bind once without. */
static int is_free(const char *where, struct err *err)
{
    int fd;

    if (socket_listen(slice_str(where), 1, 0, 0, &fd, err) < 0)
        return -1;
    close(fd);
    return 0;
}

/* Lines that listen on TCP, by their commands, and who serves them. */
static const struct {
    const char *command; /* also the listener's kind */
    enum ptype type;
} served[] = {
    { "smtpd", PT_SMTPD },     { "postscreen", PT_SMTPD },
    { "lmtpd", PT_LMTPD },     { "auth", PT_AUTH },
    { "pickup", PT_SMTPD },    { "showq", PT_QMGR },
    { "imapd", PT_LOGIN },     { "pop3d", PT_LOGIN },
    { "metrics", PT_METRICS },
};

static enum ptype server_of(const char *kind)
{
    for (size_t i = 0; i < ARRAY_LEN(served); i++)
        if (strcmp(served[i].command, kind) == 0)
            return served[i].type;
    return PT_NONE;
}

static int bind_port(struct master *m, const char *where, const char *kind,
                     int service, bool is_shared, struct err *err)
{
    bool is_unix = strncmp(where, "unix:", 5) == 0;
    struct port *p = find(m, where);

    if (p == NULL) {
        bool is_login =
            strcmp(kind, "imapd") == 0 || strcmp(kind, "pop3d") == 0;
        size_t n = is_shared ? 1 : is_login ? m->n_login : m->n_smtpd;

        if (!is_unix && is_free(where, err) < 0)
            return -1;
        p = xcalloc(1, sizeof *p);
        (void)snprintf(p->where, sizeof p->where, "%s", where);
        list_push(&m->ports, &p->link);
        for (; p->n_fds < n; p->n_fds++)
            if (socket_listen(slice_str(where), BACKLOG,
                              is_shared ? 0 : LISTEN_REUSEPORT, 0666,
                              &p->fds[p->n_fds], err) < 0) {
                drop(p);
                return -1;
            }
        p->service = -1;
    } else if (p->is_wanted) {
        return 0; /* two lines with the same address: the first has it */
    }
    p->is_wanted = true;
    p->service = service;
    (void)snprintf(p->kind, sizeof p->kind, "%s", kind);
    return 0;
}

/* Postfix has one postscreen, so that its line says 1: of processes. */
static bool is_limited(const struct conf_service *s)
{
    return s->maxproc > 0 && strcmp(s->command, "postscreen") != 0;
}

/* Served by one process: a second socket would have nobody who accepts. */
static bool is_alone(const char *command)
{
    return strcmp(command, "auth") == 0 || strcmp(command, "metrics") == 0;
}

static int bind_inet(struct master *m, const struct conf *c,
                     const struct conf_service *s, struct err *err)
{
    struct conf_addr addrs[ADDRS_MAX];
    size_t n = conf_listen_addrs(c, s, addrs, ARRAY_LEN(addrs));
    size_t n_bound = 0;
    char ip[64], where[128];

    for (size_t i = 0; i < n; i++) {
        bool v6 = addrs[i].is_v6;

        inet_ntop(v6 ? AF_INET6 : AF_INET, addrs[i].ip, ip, sizeof ip);
        (void)snprintf(where, sizeof where, v6 ? "inet:[%s]:%u" : "inet:%s:%u",
                       ip, s->port);
        /* Where maxproc limits the sessions, who is over it waits in a backlog
         * from which every process takes. */
        if (bind_port(m, where, s->command, (int)s->index,
                      is_limited(s) || is_alone(s->command), err) == 0) {
            n_bound++;
            continue;
        }
        if (err->sys == EACCES && s->port < 1024)
            return err_perm(err,
                            "%s:%d: %s: ports below 1024 are for root "
                            "(choose a greater one)",
                            s->file, s->line, s->name);
        /* A kernel without IPv6 is not an error of the configuration. */
        if (!(v6 && n > 1 &&
              (err->sys == EAFNOSUPPORT || err->sys == EADDRNOTAVAIL)))
            return err_prefix(err, "%s:%d: %s", s->file, s->line, s->name);
    }
    if (n_bound == 0)
        return err_perm(err, "%s:%d: service %s has no address to listen on",
                        s->file, s->line, s->name);
    return 0;
}

/* unix_listener_mode, _user and _group of the line.  Without them everybody who
 * reaches the socket may connect, but to auth only its own user. */
static int set_access(const struct conf *c, const struct conf_service *s,
                      const char *path, struct err *err)
{
    const char *mode = conf_str(c, s, "unix_listener_mode");
    const char *user = conf_str(c, s, "unix_listener_user");
    const char *group = conf_str(c, s, "unix_listener_group");
    const struct passwd *pw = user[0] != '\0' ? getpwnam(user) : NULL;
    const struct group *gr = group[0] != '\0' ? getgrnam(group) : NULL;
    mode_t bits = 0;

    if (mode[0] == '\0')
        mode = strcmp(s->command, "auth") == 0 ? "0600" : "0666";
    for (size_t i = 0; mode[i] != '\0'; i++) {
        if (mode[i] < '0' || mode[i] > '7' || i > 3)
            return err_perm(err,
                            "unix_listener_mode: %.20s is no mode like "
                            "0660",
                            mode);
        bits = bits * 8 + (mode_t)(mode[i] - '0');
    }
    if (user[0] != '\0' && pw == NULL)
        return err_perm(err, "unix_listener_user: no user %.60s", user);
    if (group[0] != '\0' && gr == NULL)
        return err_perm(err, "unix_listener_group: no group %.60s", group);
    if ((pw != NULL || gr != NULL) &&
        chown(path, pw != NULL ? pw->pw_uid : (uid_t)-1,
              gr != NULL   ? gr->gr_gid
              : pw != NULL ? pw->pw_gid
                           : (gid_t)-1) < 0)
        return err_sys(err, "chown %s", path);
    if (chmod(path, bits) < 0)
        return err_sys(err, "chmod %s", path);
    return 0;
}

/* A UNIX line: "private" or "public" below queue_directory, as Postfix has it,
 * or where its name says when that is a path.  Who may connect is decided by
 * the directory, and for a private one by the socket's mode. */
static int bind_unix(struct master *m, const struct conf *c,
                     const struct conf_service *s, struct err *err)
{
    const char *queue = conf_str(c, NULL, "queue_directory");
    char where[128];
    int n;

    if (s->name[0] == '/')
        n = snprintf(where, sizeof where, "unix:%s", s->name);
    else
        n = snprintf(where, sizeof where, "unix:%s/%s/%s", queue,
                     s->is_private ? "private" : "public", s->name);
    if (n >= (int)sizeof where)
        return err_perm(err, "%s:%d: the path of %s is too long for a socket",
                        s->file, s->line, s->name);
    if (bind_port(m, where, s->command, (int)s->index, true, err) < 0 ||
        set_access(c, s, where + strlen("unix:"), err) < 0)
        return err_prefix(err, "%s:%d: %s", s->file, s->line, s->name);
    return 0;
}

static int bind_pickup(struct master *m, const struct conf *c, struct err *err)
{
    const struct conf_service *s = conf_service_find(c, "pickup", NULL);
    char where[128];
    int n = snprintf(where, sizeof where, "unix:%s/run/pickup",
                     conf_str(c, NULL, "queue_directory"));

    if (n >= (int)sizeof where)
        return err_perm(err, "queue_directory is too long for a socket");
    return bind_port(m, where, "pickup", s != NULL ? (int)s->index : -1, true,
                     err);
}

/* Ordinary users look at the queue and flush it by this one. */
static int bind_showq(struct master *m, const struct conf *c, struct err *err)
{
    char where[128];
    int n = snprintf(where, sizeof where, "unix:%s/run/showq",
                     conf_str(c, NULL, "queue_directory"));

    if (n >= (int)sizeof where)
        return err_perm(err, "queue_directory is too long for a socket");
    return bind_port(m, where, "showq", -1, true, err);
}

int ports_open(struct master *m, const struct conf *c, struct err *err)
{
    list_each(it, &m->ports)
        CONTAINER_OF(it, struct port, link)->is_wanted = false;
    for (size_t i = 0; i < conf_service_count(c); i++) {
        const struct conf_service *s = conf_service_at(c, i);

        if (server_of(s->command) == PT_NONE ||
            strcmp(s->command, "pickup") == 0 ||
            strcmp(s->command, "showq") == 0)
            continue;
        if (s->type == CONF_INET && bind_inet(m, c, s, err) < 0)
            return -1;
        if (s->type == CONF_UNIX && strcmp(s->command, "smtpd") != 0 &&
            bind_unix(m, c, s, err) < 0)
            return -1;
    }
    return bind_pickup(m, c, err) < 0 ? -1 : bind_showq(m, c, err);
}

void ports_drop(struct master *m)
{
    list_each_safe(it, tmp, &m->ports) {
        struct port *p = CONTAINER_OF(it, struct port, link);

        if (!p->is_wanted)
            drop(p);
    }
}

void ports_settle(struct master *m, bool is_new_conf)
{
    struct err err;

    /* Everything of the running configuration is bound: this only marks it. */
    if (!is_new_conf && ports_open(m, m->conf, &err) < 0)
        log_error("%s", err.log);
    ports_drop(m);
}

void ports_give(struct master *m, struct child *c)
{
    struct buf b;

    buf_init(&b, 1024);
    list_each(it, &m->ports) {
        struct port *p = CONTAINER_OF(it, struct port, link);
        unsigned i = p->n_fds == 1 ? 0 : c->slot->index;

        if (!p->is_wanted || server_of(p->kind) != c->type)
            continue;
        buf_clear(&b);
        attr_put_u64(&b, AT_SERVICE, (uint64_t)(int64_t)p->service);
        attr_put_str(&b, AT_KIND, p->kind);
        attr_put_str(&b, AT_WHERE, p->where);
        (void)chan_send(c->chan, MASTER_LISTENER, buf_view(&b), &p->fds[i], 1,
                        NULL);
    }
    buf_done(&b);
}
