/* What must stand before anything starts: users, directories, lock, log. */
#include "keys/keys.h"
#include "master/master_priv.h"
#include "rt/file.h"

#include <fcntl.h>
#include <pwd.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/un.h>

/* ------------------------------------------------------------------- users */

static const struct {
    enum ptype type;
    const char *user; /* NULL: mail_owner */
} users[] = {
    { PT_LOG, "hato-log" },
    { PT_TABLES, "hato-tables" },
    { PT_SMTPD, "hato-smtp" },
    { PT_BROKER, "hato-broker" },
    { PT_QMGR, NULL },
    { PT_LOCAL, NULL },
    { PT_LMTPD, "hato-smtp" },
    { PT_KEYS, "hato-keys" },
    { PT_AUTH, "hato-auth" },
    { PT_LOGIN, "hato-login" },
    { PT_SMTP, "hato-smtp" },
    { PT_RESOLVER, "hato-dns" },
    { PT_FETCHER, "hato-fetch" },
    { PT_METRICS, "hato-fetch" },
};

#define USERADD                                                                \
 "useradd --system --user-group --no-create-home --shell /usr/sbin/nologin"

static void note_missing(struct buf *names, const char *name)
{
    slice rest = buf_view(names);
    slice word;

    while (slice_token(&rest, " ", &word))
        if (slice_eqs(word, name))
            return;
    (void)buf_printf(names, "%s%s", names->n > 0 ? " " : "", name);
}

/* All that are missing at once, so that the cure is one command. */
static int tell_missing(slice names, struct err *err)
{
    if (names.n == 0)
        return 0;
    if (slice_chr(names, ' ') < 0)
        return err_perm(err, "there is no user %.*s: " USERADD " %.*s",
                        SLF(names), SLF(names));
    return err_perm(err,
                    "users are missing: for u in %.*s; do " USERADD " $u; done",
                    SLF(names));
}

/* A user named in the configuration; numbers need no name. */
static bool is_unknown(const char *name)
{
    uint64_t n;

    return name[0] != '\0' && !slice_u64(slice_str(name), &n) &&
           getpwnam(name) == NULL;
}

int place_users(struct master *m, const struct conf *c, struct err *err)
{
    struct buf missing;
    int rc;

    for (size_t t = 0; t < PT_N; t++)
        m->ids[t] = (struct identity){ (uid_t)-1, (gid_t)-1 };
    if (!m->is_root)
        return 0;
    buf_init(&missing, 4096);
    for (size_t i = 0; i < ARRAY_LEN(users); i++) {
        const char *name = users[i].user != NULL
                               ? users[i].user
                               : conf_str(c, NULL, "mail_owner");
        const struct passwd *pw = getpwnam(name);

        if (pw == NULL && users[i].type == PT_KEYS && !keys_wanted(c))
            continue;
        if (pw == NULL && users[i].type == PT_LOGIN &&
            !slots_has_command(c, "imapd") && !slots_has_command(c, "pop3d"))
            continue;
        if (pw == NULL) {
            note_missing(&missing, name);
            continue;
        }
        if (pw->pw_uid == 0) {
            buf_done(&missing);
            return err_perm(err, "user %s must not be root", name);
        }
        m->ids[users[i].type] = (struct identity){ pw->pw_uid, pw->pw_gid };
    }
    if (is_unknown(conf_str(c, NULL, "mail_uid")))
        note_missing(&missing, conf_str(c, NULL, "mail_uid"));
    rc = tell_missing(buf_view(&missing), err);
    buf_done(&missing);
    return rc;
}

/* ------------------------------------------------------------- directories */

static int one_dir(const char *path, mode_t mode, const struct identity *owner,
                   struct err *err)
{
    struct stat st;

    if (file_mkdirs(path, mode, err) < 0)
        return -1;
    if (lstat(path, &st) < 0)
        return err_sys(err, "stat %s", path);
    if (!S_ISDIR(st.st_mode))
        return err_perm(err, "%s is not a directory", path);
    if (geteuid() == 0 && owner->uid != (uid_t)-1 &&
        (st.st_uid != owner->uid || st.st_gid != owner->gid) &&
        lchown(path, owner->uid, owner->gid) < 0)
        return err_sys(err, "chown %s", path);
    if ((st.st_mode & 07777) != mode && chmod(path, mode) < 0)
        return err_sys(err, "chmod %s", path);
    return 0;
}

/* What a directory lies in is durable before anything in it is promised: an
 * earlier start may have made it and died before its sync.  Directories that
 * we may not read were there before us. */
static int sync_up(const char *path, struct err *err)
{
    char *at CLEANUP(free_ptr) = xstrdup(path);

    for (;;) {
        int fd CLEANUP(close_fd) =
            open(at[0] != '\0' ? at : "/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        char *slash = strrchr(at, '/');

        if (fd >= 0 && file_fsync(fd) < 0 && errno != EINVAL && errno != EROFS)
            return err_sys(err, "sync %s", at);
        if (slash == NULL)
            return 0;
        *slash = '\0';
    }
}

int place_dirs(struct master *m, const struct conf *c, struct err *err)
{
    static const struct identity nobody_special = { (uid_t)-1, (gid_t)-1 };
    const struct identity root = { m->is_root ? 0 : (uid_t)-1,
                                   m->is_root ? 0 : (gid_t)-1 };
    const struct identity *owner =
        m->is_root ? &m->ids[PT_QMGR] : &nobody_special;
    const char *queue = conf_str(c, NULL, "queue_directory");
    const char *data = conf_str(c, NULL, "data_directory");

    const struct {
        const char *base, *name;
        mode_t mode;
        const struct identity *owner;
    } dirs[] = {
        { queue, "", 0755, &root },         { queue, "/pid", 0755, &root },
        { queue, "/run", 0755, &root },     { queue, "/empty", 0555, &root },
        { queue, "/spool", 0700, owner },   { data, "", 0755, &root },
        { queue, "/private", 0700, owner }, { queue, "/public", 0755, &root },
        { data, "/tables", 0755, &root },
    };

    char path[1024];

    for (size_t i = 0; i < ARRAY_LEN(dirs); i++) {
        if (dirs[i].base[0] != '/')
            return err_perm(err, "queue_directory and data_directory must be "
                                 "absolute paths");
        if (snprintf(path, sizeof path, "%s%s", dirs[i].base, dirs[i].name) >=
            (int)sizeof path)
            return err_perm(err, "path too long: %s", dirs[i].base);
        if (one_dir(path, dirs[i].mode, dirs[i].owner, err) < 0)
            return -1;
    }
    free(m->empty_root);
    m->empty_root = xasprintf("%s/empty", queue);
    return sync_up(queue, err);
}

/* -------------------------------------------------------------------- lock */

int place_lock(struct master *m, const struct conf *c, struct err *err)
{
    char *path CLEANUP(free_ptr) =
        xasprintf("%s/pid/master.pid", conf_str(c, NULL, "queue_directory"));
    char text[32];
    ssize_t n;

    m->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (m->lock_fd < 0)
        return err_sys(err, "open %s", path);
    if (flock(m->lock_fd, LOCK_EX | LOCK_NB) == 0)
        return 0;
    if (errno != EWOULDBLOCK)
        return err_sys(err, "lock %s", path);
    n = pread(m->lock_fd, text, sizeof text - 1, 0);
    text[n > 0 ? n : 0] = '\0';
    close_fd(&m->lock_fd);
    return err_perm(err, "the mail system is already running: master pid %.*s",
                    SLF(slice_trim(slice_str(text))));
}

/* --------------------------------------------------------------------- log */

static int open_syslog(int *fd_out, struct err *err)
{
    struct sockaddr_un sa = { .sun_family = AF_UNIX, .sun_path = "/dev/log" };
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return err_sys(err, "make a socket for syslog");
    if (connect(fd, (struct sockaddr *)&sa, sizeof sa) < 0) {
        close(fd);
        return err_sys(err, "connect to syslog at /dev/log (set maillog_file "
                            "to log to a file)");
    }
    *fd_out = fd;
    return 0;
}

/* A descriptor, or -1. */
static int open_log_file(const char *path, struct err *err)
{
    int fd = strcmp(path, "/dev/stdout") == 0
                 ? fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3)
                 : open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);

    return fd >= 0 ? fd : err_sys(err, "open the log %s", path);
}

int place_log(struct master *m, const struct conf *c, struct err *err)
{
    const char *path = conf_str(c, NULL, "maillog_file");
    struct err trouble;

    m->is_syslog = path[0] == '\0';
    if (!m->is_syslog) {
        if (strcmp(path, "/dev/stdout") == 0 && !m->is_foreground)
            return err_perm(err, "maillog_file = /dev/stdout is for start-fg");
        m->log_fd = open_log_file(path, err);
        return m->log_fd < 0 ? -1 : 0;
    }
    /* A machine without syslog can have mail: events go to our standard error
     * in the foreground, and nowhere otherwise, as with Postfix. */
    if (open_syslog(&m->log_fd, &trouble) < 0) {
        (void)fprintf(stderr, "hato: warning: %s\n", trouble.log);
        m->is_syslog = false;
        if (m->is_foreground)
            m->log_fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
    }
    return 0;
}

int place_reopen_log(struct master *m, slice old_name, struct err *err)
{
    const char *path = conf_str(m->conf, NULL, "maillog_file");
    struct child *log = child_of(m, PT_LOG);
    char *moved CLEANUP(free_ptr) = slice_xstrdup(old_name);
    int fd;

    if (path[0] != '/' || strcmp(path, "/dev/stdout") == 0)
        return err_perm(err, "maillog_file is not a file");
    if (moved[0] != '\0' && renameat(AT_FDCWD, path, AT_FDCWD, moved) < 0)
        return err_sys(err, "rename %s to %s", path, moved);
    fd = open_log_file(path, err);
    if (fd < 0)
        return -1;
    close_fd(&m->log_fd);
    m->log_fd = fd;
    if (log != NULL &&
        chan_send(log->chan, MASTER_REOPEN, SLICE_NONE, &fd, 1, err) < 0)
        return -1;
    return 0;
}
