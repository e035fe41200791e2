#include "engine/engine_priv.h"

#include <sys/inotify.h>

/* One watch descriptor of the kernel; several watchers may share it. */
struct watch_dir {
    struct imap_node node; /* key: the watch descriptor */
    struct list watchers;
    bool is_telling; /* then it stays, though its last watcher leaves */
};

struct engine_watch {
    struct list link;
    struct engine *engine;
    struct watch_dir *dir; /* NULL once the directory is gone */
    void (*fn)(void *arg, unsigned events, const char *entry);
    void *arg;
};

static unsigned events_of(uint32_t mask)
{
    unsigned ev = 0;

    if ((mask & (IN_CREATE | IN_MOVED_TO)) != 0)
        ev |= ENGINE_EV_CREATED;
    if ((mask & (IN_DELETE | IN_MOVED_FROM)) != 0)
        ev |= ENGINE_EV_REMOVED;
    if ((mask & (IN_CLOSE_WRITE | IN_ATTRIB)) != 0)
        ev |= ENGINE_EV_CHANGED;
    if ((mask & (IN_DELETE_SELF | IN_MOVE_SELF | IN_IGNORED | IN_UNMOUNT)) != 0)
        ev |= ENGINE_EV_GONE;
    return ev;
}

static void watch_dir_drop(struct engine *e, struct watch_dir *wd)
{
    (void)inotify_rm_watch(e->inotify_fd, (int)wd->node.key);
    imap_del(&e->watched, &wd->node);
    free(wd);
}

/* A watcher's function may free watchers, itself too: take the list aside and
 * put each back before it is called. */
static void watch_tell(struct engine *e, struct watch_dir *wd, unsigned events,
                       const char *entry)
{
    struct list todo;

    list_init(&todo);
    wd->is_telling = true;
    for (struct list *l = list_pop(&wd->watchers); l != NULL;
         l = list_pop(&wd->watchers))
        list_push(&todo, l);
    for (struct list *l = list_pop(&todo); l != NULL; l = list_pop(&todo)) {
        struct engine_watch *w = CONTAINER_OF(l, struct engine_watch, link);

        list_push(&wd->watchers, l);
        w->fn(w->arg, events, entry);
    }
    wd->is_telling = false;
    if (list_empty(&wd->watchers))
        watch_dir_drop(e, wd);
}

static void watch_all_resync(struct engine *e)
{
    size_t pos = 0;
    struct imap_node *n = NULL;

    /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): n is only compared. */
    while ((n = imap_next(&e->watched, &pos, n)) != NULL)
        watch_tell(e, CONTAINER_OF(n, struct watch_dir, node), ENGINE_EV_RESYNC,
                   "");
}

/* The kernel dropped the watch: nobody is called any more. */
static void watch_dir_gone(struct engine *e, struct watch_dir *wd)
{
    for (struct list *l = list_pop(&wd->watchers); l != NULL;
         l = list_pop(&wd->watchers))
        CONTAINER_OF(l, struct engine_watch, link)->dir = NULL;
    imap_del(&e->watched, &wd->node);
    free(wd);
}

static void watch_one(struct engine *e, const struct inotify_event *ev)
{
    struct imap_node *n;

    if ((ev->mask & IN_Q_OVERFLOW) != 0) {
        watch_all_resync(e);
        return;
    }
    n = imap_get(&e->watched, (uint64_t)(unsigned)ev->wd);
    if (n == NULL)
        return;
    watch_tell(e, CONTAINER_OF(n, struct watch_dir, node), events_of(ev->mask),
               ev->len > 0 ? ev->name : "");
    /* It may be gone by now: the last watcher left. */
    n = imap_get(&e->watched, (uint64_t)(unsigned)ev->wd);
    if (n != NULL && (ev->mask & IN_IGNORED) != 0)
        watch_dir_gone(e, CONTAINER_OF(n, struct watch_dir, node));
}

static void watch_readable(void *arg, int events)
{
    struct engine *e = arg;

    union {
        struct inotify_event align;
        char bytes[1024];
    } in;

    ssize_t n;

    (void)events;
    while ((n = read(e->inotify_fd, &in, sizeof in)) > 0) {
        ssize_t at = 0;

        while (at < n) {
            struct inotify_event *ev = (void *)(in.bytes + at);

            at += (ssize_t)(sizeof *ev + ev->len);
            watch_one(e, ev);
        }
    }
}

void engine_watch_poll(struct engine *e)
{
    if (e->inotify_fd >= 0)
        watch_readable(e, WATCH_READ);
}

static int watch_start(struct engine *e, struct err *err)
{
    if (e->inotify_fd >= 0)
        return 0;
    e->inotify_fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (e->inotify_fd < 0)
        return err_sys(err, "inotify (see fs.inotify.max_user_instances)");
    e->inotify = fd_watch_new(e->inotify_fd, WATCH_READ, watch_readable, e);
    return 0;
}

enum engine_outcome engine_watch(struct engine_dir *d, const char *name,
                                 void (*fn)(void *arg, unsigned events,
                                            const char *entry),
                                 void *arg, struct engine_watch **out,
                                 struct err *err)
{
    struct engine *e = d->engine;
    char *path;
    struct watch_dir *wd;
    struct engine_watch *w;
    struct imap_node *n;
    int id;

    if (watch_start(e, err) < 0)
        return ENGINE_TRYLATER;
    if (d->path != NULL)
        path = xasprintf("%s/%s", d->path, name);
    else
        path = xasprintf("/proc/self/fd/%d/%s", d->fd, name);
    id = inotify_add_watch(e->inotify_fd, path,
                           IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO |
                               IN_CLOSE_WRITE | IN_ATTRIB | IN_DELETE_SELF |
                               IN_MOVE_SELF | IN_ONLYDIR);
    free(path);
    if (id < 0)
        return engine_fail(err, "watch %.100s", name);
    n = imap_get(&e->watched, (uint64_t)(unsigned)id);
    if (n == NULL) {
        wd = xcalloc(1, sizeof *wd);
        list_init(&wd->watchers);
        imap_put(&e->watched, &wd->node, (uint64_t)(unsigned)id);
    } else {
        wd = CONTAINER_OF(n, struct watch_dir, node);
    }
    w = xcalloc(1, sizeof *w);
    w->engine = e;
    w->dir = wd;
    w->fn = fn;
    w->arg = arg;
    list_push(&wd->watchers, &w->link);
    *out = w;
    return ENGINE_OK;
}

void engine_watch_free(struct engine_watch **wp)
{
    struct engine_watch *w = *wp;
    struct watch_dir *wd;

    if (w == NULL)
        return;
    *wp = NULL;
    wd = w->dir;
    list_remove(&w->link);
    if (wd != NULL && list_empty(&wd->watchers) && !wd->is_telling)
        watch_dir_drop(w->engine, wd);
    free(w);
}
