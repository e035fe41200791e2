#include "store/store_priv.h"

#include "rt/rt.h"

#include <sys/stat.h>

/* The index held against the files, for `hato mailbox check`. */

static const char *trouble_of(struct store_mailbox *m, size_t r)
{
    char path[PATH_IN_DIR_MAX + 64];
    int fd CLEANUP(close_fd) = -1;
    uint64_t size;
    uint32_t crc;
    struct err err;

    if (ROW_FIELD(m, r, state) & ROW_ODD_NAME) {
        if (!find_by_base(m, row_name(m, r), path, sizeof path))
            return "has no file";
    } else if (!row_path(m, r, path, sizeof path)) {
        return "has a name that is too long";
    }
    if (engine_get(m->account->dir, path, &fd, &size, &err) != ENGINE_OK)
        return err.sys == ENOENT ? "has no file" : "cannot be read";
    if (size != ROW_FIELD(m, r, size))
        return "has another size than its file";
    if (ROW_FIELD(m, r, crc) == 0)
        return NULL;
    if (!file_crc(fd, &crc))
        return "cannot be read";
    return crc == ROW_FIELD(m, r, crc) ? NULL
                                       : "has other bytes than were delivered";
}

int store_mailbox_check(struct store_mailbox *m,
                        void (*fn)(void *arg, uint32_t uid, const char *what),
                        void *arg, struct err *err)
{
    CHECK_OBJ(m, MAILBOX_MAGIC);
    if (store_mailbox_sync(m, true, err) < 0)
        return -1;
    for (size_t r = 0; r < rows_count(m) && !m->is_gone; r++) {
        const char *what = row_is_hole(m, r) ? NULL : trouble_of(m, r);

        if (what)
            fn(arg, ROW_FIELD(m, r, uid), what);
        if (task_inside())
            task_yield_if_long();
    }
    return 0;
}
