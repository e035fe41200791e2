/* Tables: what their sources are now, handed down as descriptors. */
#include "master/master_priv.h"
#include "table/table.h"

#include <fcntl.h>
#include <sys/inotify.h>

#define LOOK_MS 1000

/* ------------------------------------------------------------ which tables */

struct wanted {
    struct master *m;
    bool is_alias;
    enum table_asker asker;
    bool is_set; /* in a file, not by a default */
};

static struct source *find(struct master *m, slice whole)
{
    list_each(it, &m->sources) {
        struct source *s = CONTAINER_OF(it, struct source, link);

        if (slice_eqs(whole, s->whole))
            return s;
    }
    return NULL;
}

static void want_leaf(void *ctx, slice type, slice name, slice whole)
{
    struct wanted *w = ctx;
    enum table_kind kind = table_kind(type);
    bool is_password = table_is_served_file(type);
    struct source *s = find(w->m, whole);

    if (name.n == 0 || name.p[0] != '/' ||
        (kind != TABLE_BUILT && kind != TABLE_SOURCE && !is_password))
        return;
    if (s == NULL) {
        s = xcalloc(1, sizeof *s);
        s->whole = slice_xstrdup(whole);
        s->path = slice_xstrdup(name);
        s->is_built = kind == TABLE_BUILT;
        s->is_passwords = is_password;
        s->fd = -1;
        s->m = w->m;
        list_push(&w->m->sources, &s->link);
    }
    s->is_wanted = true;
    s->for_passdb |= w->asker == TABLE_ASKER_AUTH;
    s->for_smtp |= w->asker == TABLE_ASKER_SMTP;
    s->for_others |= w->asker == TABLE_ASKER_OTHER;
    s->is_alias |= w->is_alias;
    s->is_set |= w->is_set;
}

static void want_ref(void *ctx, const struct conf_table_ref *ref)
{
    struct wanted w = { .m = ctx,
                        .is_alias =
                            table_format_of(ref->param) == TABLE_POSTALIAS,
                        .asker = table_asker_of(ref->param),
                        .is_set = ref->line > 0 };
    const struct conf_param *p = conf_param_find(slice_str(ref->param));
    char *spec;

    /* What nobody reads needs no data: caches of things not done yet, and the
     * list that newaliases alone goes by. */
    if ((p != NULL && p->state != CONF_HONOURED) ||
        strcmp(ref->param, "alias_database") == 0)
        return;
    spec = xasprintf("%.*s:%.*s", SLF(ref->type), SLF(ref->name));
    table_each_leaf(slice_str(spec), want_leaf, &w);
    free(spec);
}

static void mark_wanted(struct master *m, const struct conf *c)
{
    list_each(it, &m->sources) {
        struct source *s = CONTAINER_OF(it, struct source, link);

        s->is_wanted = s->is_set = false;
        s->for_passdb = s->for_smtp = s->for_others = false;
    }
    conf_each_table(c, want_ref, m);
}

/* ------------------------------------------------------------------ reading */

static bool same_file(const struct stat *a, const struct stat *b)
{
    return a->st_ino == b->st_ino && a->st_dev == b->st_dev &&
           a->st_uid == b->st_uid && a->st_size == b->st_size &&
           a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
           a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

/* Bring s->fd up to what the source is now. */
MAY_WAIT static int refresh(struct master *m, struct source *s, struct err *err)
{
    int fd CLEANUP(close_fd) =
        open(s->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    struct stat st;
    int built = -1;

    if (fd < 0)
        return err_sys(err, "open the table %s", s->whole);
    if (fstat(fd, &st) < 0)
        return err_sys(err, "stat %s", s->path);
    if (!S_ISREG(st.st_mode))
        return err_perm(err, "%s is not a file", s->path);
    if (s->fd >= 0 && same_file(&st, &s->seen))
        return 0;
    if (s->is_built) {
        if (source_build(m, s, fd, &st, &built, err) < 0)
            return -1;
    } else {
        built = take_fd(&fd);
    }
    close_fd(&s->fd);
    s->fd = built;
    s->seen = st;
    s->is_missing = false;
    return 0;
}

/* One at a time for each source: building waits. */
MAY_WAIT static int refresh_alone(struct master *m, struct source *s,
                                  struct err *err)
{
    int rc;

    while (s->is_busy)
        if (task_sleep(20, err) < 0)
            return -1;
    s->is_busy = true;
    rc = refresh(m, s, err);
    s->is_busy = false;
    return rc;
}

int sources_load(struct master *m, const struct conf *c, struct err *err)
{
    if (keyfiles_load(m, c, err) < 0)
        return -1;
    mark_wanted(m, c);
    list_each(it, &m->sources) {
        struct source *s = CONTAINER_OF(it, struct source, link);

        if (!s->is_wanted || refresh_alone(m, s, err) == 0)
            continue;
        if (s->is_set)
            return -1;
        /* A default that names what is not there: as with Postfix, who asks
         * this table gets "try again later". */
        s->is_missing = true;
        log_warning("%s", err->log);
    }
    return 0;
}

void sources_settle(struct master *m, bool is_new_conf)
{
    keyfiles_settle(m, is_new_conf);
    if (!is_new_conf)
        mark_wanted(m, m->conf);
    list_each_safe(it, tmp, &m->sources) {
        struct source *s = CONTAINER_OF(it, struct source, link);

        if (s->is_wanted || s->is_busy)
            continue;
        list_remove(&s->link);
        close_fd(&s->fd);
        free(s->whole);
        free(s->path);
        free(s);
    }
}

/* ------------------------------------------------------------------- giving */

static bool takes_tables(enum ptype t)
{
    return t == PT_AUTH || t == PT_SMTPD || t == PT_LOCAL || t == PT_QMGR ||
           t == PT_TABLES || t == PT_LMTPD || t == PT_SMTP;
}

/* Passwords are for auth, those of other servers for smtp; what tables needs of
 * a passwd-file, the rest of its lines, is for tables too. */
static bool may_have(const struct source *s, enum ptype t)
{
    if (!takes_tables(t))
        return false;
    if (t == PT_AUTH)
        return s->for_passdb || s->for_others;
    if (t == PT_SMTP && s->for_smtp)
        return true;
    return s->for_others && (!s->is_passwords || t == PT_TABLES);
}

/* The same file with an offset of its own: who parses a source reads on from
 * where the last reader of a shared descriptor stopped. */
static int own_offset(int fd)
{
    char path[64];

    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return open(path, O_RDONLY | O_CLOEXEC);
}

static void give(const struct source *s, struct child *c)
{
    int fd CLEANUP(close_fd) = -1;
    struct buf b;

    if (s->fd < 0 || !may_have(s, c->type))
        return;
    fd = own_offset(s->fd);
    if (fd < 0) {
        log_warning("open the table %s again: %s", s->whole, strerror(errno));
        return;
    }
    buf_init(&b, 8192);
    attr_put_str(&b, AT_NAME, s->whole);
    attr_put_u64(&b, AT_TIME, (uint64_t)s->seen.st_mtim.tv_sec);
    attr_put_u64(&b, AT_UID, s->seen.st_uid);
    if (chan_send(c->chan, MASTER_TABLE, buf_view(&b), &fd, 1, NULL) < 0)
        log_warning("%s did not get the table %s", ptype_name(c->type),
                    s->whole);
    buf_done(&b);
}

void sources_give(struct master *m, struct child *c)
{
    keyfiles_give(m, c);
    list_each(it, &m->sources) {
        struct source *s = CONTAINER_OF(it, struct source, link);

        if (s->is_wanted)
            give(s, c);
    }
}

/* ----------------------------------------------------------------- watching */

MAY_WAIT static void refresh_task(void *arg)
{
    struct source *s = arg;
    struct master *m = s->m;
    int before = s->fd;
    struct err err;

    if (refresh_alone(m, s, &err) < 0) {
        if (!s->is_missing)
            log_warning("%s; the last version stays in use", err.log);
        s->is_missing = true;
        return;
    }
    if (s->fd == before || !s->is_wanted || m->state != MASTER_RUNNING)
        return;
    log_info("table %s has changed", s->whole);
    list_each(it, &m->children)
        give(s, CONTAINER_OF(it, struct child, link));
}

/* `is_final`: somebody closed the file or moved it into place just now.  Else a
 * change counts when it is a second old: the writer may be at it still. */
static void look_at(struct source *s, bool is_final)
{
    struct stat st;

    if (s->is_busy || stat(s->path, &st) < 0)
        return;
    if (same_file(&st, &s->seen))
        return;
    if (is_final || same_file(&st, &s->pending))
        task_spawn("table", refresh_task, s);
    s->pending = st;
}

static void look_at_all(struct master *m, bool is_final)
{
    if (m->state != MASTER_RUNNING)
        return;
    keyfiles_look(m, is_final);
    list_each(it, &m->sources) {
        struct source *s = CONTAINER_OF(it, struct source, link);

        if (s->is_wanted)
            look_at(s, is_final);
    }
}

static void look_now(struct timer *t)
{
    struct master *m = CONTAINER_OF(t, struct master, look);

    look_at_all(m, false);
    timer_set(&m->look, clock_after(LOOK_MS), look_now);
}

static void dirs_changed(void *arg, int events UNUSED)
{
    struct master *m = arg;
    char dropped[1024];

    while (read(m->dirs_inotify, dropped, sizeof dropped) > 0)
        ;
    look_at_all(m, true);
}

static void watch_dir(struct master *m, const char *path)
{
    char *dir CLEANUP(free_ptr) = xstrdup(path);
    char *slash = strrchr(dir, '/');

    if (slash == NULL)
        return;
    slash[slash == dir ? 1 : 0] = '\0';
    /* Where it cannot be watched the timer looks. */
    (void)inotify_add_watch(m->dirs_inotify, dir,
                            IN_CLOSE_WRITE | IN_MOVED_TO | IN_ONLYDIR);
}

void sources_watch(struct master *m)
{
    if (m->dirs_inotify < 0)
        m->dirs_inotify = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (m->dirs_inotify >= 0 && m->dirs_watch == NULL)
        m->dirs_watch =
            fd_watch_new(m->dirs_inotify, WATCH_READ, dirs_changed, m);
    if (m->dirs_inotify >= 0)
        list_each(it, &m->sources)
            watch_dir(m, CONTAINER_OF(it, struct source, link)->path);
    if (m->dirs_inotify >= 0)
        keyfiles_each_path(m, watch_dir);
    timer_set(&m->look, clock_after(LOOK_MS), look_now);
}
