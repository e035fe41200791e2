/*
 * Certificates and private keys: opened here, where the rights are, watched,
 * and handed down; keys to the process `keys` alone.  Certificates go down as
 * copies in memory that hold nothing else, since one file may hold both.
 */
#include "keys/keys.h"
#include "master/master_priv.h"

#include <fcntl.h>
#include <sys/mman.h>

struct keyfile {
    struct list link;
    char *path;
    enum keys_kind kind;
    bool is_wanted;
    bool is_missing; /* said so already */
    int fd;          /* what is handed down, -1 none */
    struct stat seen;
    struct stat pending; /* a change that may still go on */
};

static struct keyfile *find(struct master *m, enum keys_kind kind, slice path)
{
    list_each(it, &m->keyfiles) {
        struct keyfile *f = CONTAINER_OF(it, struct keyfile, link);

        if (f->kind == kind && slice_eqs(path, f->path))
            return f;
    }
    return NULL;
}

static void want(void *arg, enum keys_kind kind, slice path)
{
    struct master *m = arg;
    struct keyfile *f = find(m, kind, path);

    if (f == NULL) {
        f = xcalloc(1, sizeof *f);
        f->path = slice_xstrdup(path);
        f->kind = kind;
        f->fd = -1;
        list_push(&m->keyfiles, &f->link);
    }
    f->is_wanted = true;
}

static void mark_wanted(struct master *m, const struct conf *c)
{
    list_each(it, &m->keyfiles)
        CONTAINER_OF(it, struct keyfile, link)->is_wanted = false;
    keys_each_file(c, want, m);
}

/* ------------------------------------------------------------------ reading */

static bool same_file(const struct stat *a, const struct stat *b)
{
    return a->st_ino == b->st_ino && a->st_dev == b->st_dev &&
           a->st_size == b->st_size && a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
           a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

static int memory_file(slice text, struct err *err)
{
    int fd = memfd_create("certificates", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    if (fd < 0)
        return err_sys(err, "memfd_create");
    if (write(fd, text.p, text.n) != (ssize_t)text.n ||
        fcntl(fd, F_ADD_SEALS,
              F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0) {
        err_sys(err, "write to a memfd");
        close(fd);
        return -1;
    }
    return fd;
}

static int read_all(int fd, const char *path, size_t size, struct buf *out,
                    struct err *err)
{
    char *room = size <= KEYS_FILE_MAX ? buf_reserve(out, size + 1) : NULL;
    ssize_t n;

    if (room == NULL)
        return err_perm(err, "%s is longer than %u bytes", path, KEYS_FILE_MAX);
    n = pread(fd, room, size, 0);
    if (n < 0)
        return err_sys(err, "read %s", path);
    buf_commit(out, (size_t)n);
    return 0;
}

static int certs_of(int fd, const char *path, const struct stat *st,
                    struct err *err)
{
    struct buf all, certs;
    int out = -1;

    buf_init(&all, KEYS_FILE_MAX + 1);
    buf_init(&certs, KEYS_FILE_MAX + 4096);
    if (read_all(fd, path, (size_t)st->st_size, &all, err) == 0) {
        keys_only_certs(buf_view(&all), &certs);
        out = memory_file(buf_view(&certs), err);
    }
    if (all.p != NULL)
        explicit_bzero(all.p, all.size);
    buf_done(&all);
    buf_done(&certs);
    return out;
}

/* Bring f->fd up to what the file is now; *changed when it is another. */
static int refresh(struct keyfile *f, bool *changed, struct err *err)
{
    int fd CLEANUP(close_fd) =
        open(f->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    struct stat st;
    int given;

    *changed = false;
    if (fd < 0)
        return err_sys(err, "open %s", f->path);
    if (fstat(fd, &st) < 0)
        return err_sys(err, "stat %s", f->path);
    if (!S_ISREG(st.st_mode))
        return err_perm(err, "%s is not a file", f->path);
    if (f->fd >= 0 && same_file(&st, &f->seen))
        return 0;
    given =
        f->kind == KEYS_CERT ? certs_of(fd, f->path, &st, err) : take_fd(&fd);
    if (given < 0)
        return -1;
    close_fd(&f->fd);
    f->fd = given;
    f->seen = st;
    f->is_missing = false;
    *changed = true;
    return 0;
}

/* ------------------------------------------------------------------- giving */

static bool takes(enum ptype type, enum keys_kind kind)
{
    if (kind == KEYS_KEY)
        return type == PT_KEYS;
    return type == PT_SMTPD || type == PT_LOGIN || type == PT_LMTPD ||
           type == PT_SMTP;
}

static void give(const struct keyfile *f, struct child *c)
{
    static const char *const kinds[] = {
        [KEYS_CERT] = "cert", [KEYS_KEY] = "key", [KEYS_MAP] = "map"
    };
    struct buf b;

    if (f->fd < 0 || !f->is_wanted || !takes(c->type, f->kind))
        return;
    buf_init(&b, 8192);
    (void)buf_printf(&b, "%s:%s", kinds[f->kind], f->path);
    child_give_fd(c, buf_cstr(&b), f->fd);
    buf_done(&b);
}

void keyfiles_give(struct master *m, struct child *c)
{
    list_each(it, &m->keyfiles)
        give(CONTAINER_OF(it, struct keyfile, link), c);
}

static void give_all(struct master *m, const struct keyfile *f)
{
    list_each(it, &m->children)
        give(f, CONTAINER_OF(it, struct child, link));
}

int keyfiles_load(struct master *m, const struct conf *c, struct err *err)
{
    mark_wanted(m, c);
    list_each(it, &m->keyfiles) {
        struct keyfile *f = CONTAINER_OF(it, struct keyfile, link);
        bool changed;

        if (!f->is_wanted)
            continue;
        if (refresh(f, &changed, err) < 0)
            return -1;
        /* The keys that a reload brings are there before who needs them. */
        if (changed)
            give_all(m, f);
    }
    return 0;
}

/* Which key files count from now on: `keys` forgets the others. */
static void give_list(struct master *m)
{
    struct child *c = child_of(m, PT_KEYS);
    struct buf b;
    int fd CLEANUP(close_fd) = -1;

    if (c == NULL)
        return;
    buf_init(&b, KEYS_FILE_MAX);
    list_each(it, &m->keyfiles) {
        const struct keyfile *f = CONTAINER_OF(it, struct keyfile, link);

        if (f->is_wanted && f->kind == KEYS_KEY)
            (void)buf_printf(&b, "%s\n", f->path);
    }
    fd = memory_file(buf_view(&b), NULL);
    if (fd >= 0)
        child_give_fd(c, "keylist", fd);
    buf_done(&b);
}

void keyfiles_settle(struct master *m, bool is_new_conf)
{
    if (!is_new_conf)
        mark_wanted(m, m->conf);
    list_each_safe(it, tmp, &m->keyfiles) {
        struct keyfile *f = CONTAINER_OF(it, struct keyfile, link);

        if (f->is_wanted)
            continue;
        list_remove(&f->link);
        close_fd(&f->fd);
        free(f->path);
        free(f);
    }
    give_list(m);
}

/* ----------------------------------------------------------------- watching */

static void look_at(struct master *m, struct keyfile *f, bool is_final)
{
    struct stat st;
    struct err err;
    bool changed;

    if (stat(f->path, &st) < 0 || same_file(&st, &f->seen))
        return;
    if (!is_final && !same_file(&st, &f->pending)) {
        f->pending = st;
        return;
    }
    f->pending = st;
    if (refresh(f, &changed, &err) < 0) {
        if (!f->is_missing)
            log_warning("%s; the last version stays in use", err.log);
        f->is_missing = true;
        return;
    }
    if (!changed)
        return;
    log_info("%s %s has changed",
             f->kind == KEYS_KEY   ? "key file"
             : f->kind == KEYS_MAP ? "table"
                                   : "certificate file",
             f->path);
    give_all(m, f);
}

/* A map that names other files than before. */
static void look_at_maps(struct master *m)
{
    struct err err;

    if (keyfiles_load(m, m->conf, &err) < 0)
        log_warning("%s", err.log);
}

void keyfiles_look(struct master *m, bool is_final)
{
    bool is_map = false;

    list_each(it, &m->keyfiles) {
        struct keyfile *f = CONTAINER_OF(it, struct keyfile, link);
        struct stat before = f->seen;

        if (!f->is_wanted)
            continue;
        look_at(m, f, is_final);
        is_map |= f->kind == KEYS_MAP && !same_file(&before, &f->seen);
    }
    if (is_map && !m->is_reloading)
        look_at_maps(m);
}

void keyfiles_each_path(struct master *m,
                        void (*fn)(struct master *m, const char *path))
{
    list_each(it, &m->keyfiles)
        fn(m, CONTAINER_OF(it, struct keyfile, link)->path);
}
