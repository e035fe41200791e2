#include "store/store_priv.h"

#include <sys/inotify.h>
#include <sys/stat.h>

/* For sessions that wait in large numbers: they pin no mailbox, are told of
 * changes by its GUID, and look at its directories now and then. */

void store_on_change(struct store *s,
                     void (*fn)(void *arg, struct store_mailbox *m), void *arg)
{
    CHECK_OBJ(s, STORE_MAGIC);
    s->on_change = fn;
    s->on_change_arg = arg;
}

void peek_changed(struct store_mailbox *m)
{
    const struct store *s = m->account->store;

    if (s->on_change != NULL)
        s->on_change(s->on_change_arg, m);
}

bool store_mailbox_path(const struct store_mailbox *m, char *dst, size_t size)
{
    int n = snprintf(dst, size, "%s/%s", m->account->path, m->dir);

    return n > 0 && (size_t)n < size;
}

static uint64_t mix(uint64_t h, const struct timespec *t)
{
    h = (h ^ (uint64_t)t->tv_sec) * UINT64_C(0x9e3779b97f4a7c15);
    return (h ^ (uint64_t)t->tv_nsec) * UINT64_C(0x9e3779b97f4a7c15);
}

uint64_t store_peek(const char *path)
{
    static const char *const dirs[] = { "new", "cur" };
    char full[1200];
    uint64_t h = 1;

    for (size_t i = 0; i < ARRAY_LEN(dirs); i++) {
        struct stat st;
        int n = snprintf(full, sizeof full, "%s/%s", path, dirs[i]);

        if (n <= 0 || (size_t)n >= sizeof full || stat(full, &st) < 0)
            return 0;
        h = mix(h, &st.st_mtim);
    }
    return h != 0 ? h : 1;
}

int store_peek_watch(const char *path)
{
    static const char *const dirs[] = { "new", "cur" };
    int fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    char full[1200];

    for (size_t i = 0; fd >= 0 && i < ARRAY_LEN(dirs); i++) {
        int n = snprintf(full, sizeof full, "%s/%s", path, dirs[i]);

        if (n <= 0 || (size_t)n >= sizeof full ||
            inotify_add_watch(fd, full,
                              IN_CREATE | IN_DELETE | IN_MOVED_FROM |
                                  IN_MOVED_TO | IN_ONLYDIR) < 0)
            close_fd(&fd);
    }
    return fd;
}
