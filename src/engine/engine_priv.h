#ifndef ENGINE_ENGINE_PRIV_H
#define ENGINE_ENGINE_PRIV_H

/* Shared by the files of the local engine. */
#include "base/map.h"
#include "engine/engine.h"
#include "rt/rt.h"

#define ENGINE_MAGIC       MAGIC('E', 'N', 'G', 'N')
#define ENGINE_DIR_MAGIC   MAGIC('E', 'D', 'I', 'R')
#define ENGINE_LOG_MAGIC   MAGIC('E', 'L', 'O', 'G')
#define ENGINE_LEASE_MAGIC MAGIC('E', 'L', 'S', 'E')

struct engine {
    uint32_t magic;
    int (*sync_fn)(int fd, void *arg, struct err *err);
    void *sync_arg;
    struct list sync_groups; /* one a file system, see sync.c */
    int inotify_fd;
    struct fd_watch *inotify;
    struct imap watched; /* by watch descriptor */
};

struct engine_dir {
    uint32_t magic;
    struct engine *engine;
    int fd;
    char *path;   /* NULL when adopted */
    uint64_t dev; /* st_dev */
};

/* Fill err from errno and turn it into an outcome. */
enum engine_outcome engine_fail(struct err *err, const char *fmt, ...)
    PRINTF(2, 3);
/* Magic and CRC of a log's header are right. */
bool engine_log_head_is_whole(const uint8_t in[static ENGINE_LOG_HEAD]);
/* Refuses names that are empty, too long, absolute or hold "..". */
enum engine_outcome engine_name_check(const char *name, struct err *err);

#endif
