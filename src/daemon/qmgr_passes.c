#include "daemon/qmgr_passes.h"

#include "access/access.h"
#include "ipc/ipc.h"
#include "rt/file.h"
#include "rt/rt.h"

#include <fcntl.h>

#define PASSES_FILE "postscreen"
#define SAVE_MS     60000

static struct {
    struct access_passes *passes; /* NULL: there is no memory */
    int fd;
    const char *dir;
    bool is_kept;
    bool is_saving;
    bool is_over;
    uint64_t n_saved; /* access_passes_changes() then */
    msec retention, cleanup, cleaned;
    struct timer timer;
    struct waitq saved;
} keeper = { .fd = -1 };

void qmgr_passes_on_fd(struct process *p UNUSED, slice name, int fd)
{
    if (!slice_eqs(name, "passes") || keeper.fd >= 0) {
        close(fd);
        return;
    }
    keeper.fd = fd;
}

static int write_file(void *arg)
{
    struct buf *b = arg;
    int dir CLEANUP(close_fd) =
        open(keeper.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct err err;

    if (dir < 0)
        return -1;
    return file_replace(dir, PASSES_FILE, buf_view(b), 0600, &err);
}

MAY_WAIT static void save(void)
{
    uint64_t n = access_passes_changes(keeper.passes);
    struct buf b CLEANUP(buf_done);

    keeper.is_saving = true;
    buf_init(&b, access_passes_bytes());
    access_passes_clean(keeper.passes, clock_wall() - keeper.retention);
    if (access_passes_pack(keeper.passes, &b) && offload(write_file, &b) == 0)
        keeper.n_saved = n;
    else
        log_warning("%s/" PASSES_FILE ": what clients have passed of "
                    "postscreen's tests cannot be kept",
                    keeper.dir);
    keeper.is_saving = false;
    waitq_wake_all(&keeper.saved);
}

MAY_WAIT static void save_task(void *arg UNUSED)
{
    save();
}

static void on_timer(struct timer *t)
{
    msec now = clock_wall();

    if (keeper.is_over)
        return;
    /* covers: postscreen_cache_cleanup_interval */
    if (keeper.cleanup > 0 && now - keeper.cleaned >= keeper.cleanup) {
        access_passes_clean(keeper.passes, now - keeper.retention);
        keeper.cleaned = now;
    }
    if (keeper.is_kept && !keeper.is_saving &&
        access_passes_changes(keeper.passes) != keeper.n_saved)
        (void)task_spawn("qmgr-passes", save_task, NULL);
    timer_set(t, clock_after(SAVE_MS), on_timer);
}

static void read_file(void)
{
    int dir CLEANUP(close_fd) =
        open(keeper.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct buf b CLEANUP(buf_done);
    struct err err;

    buf_init(&b, access_passes_bytes());
    if (dir < 0 || faccessat(dir, PASSES_FILE, F_OK, 0) < 0)
        return;
    if (file_read(dir, PASSES_FILE, &b, &err) < 0 ||
        access_passes_unpack(keeper.passes, buf_view(&b), &err) < 0)
        log_warning("%s/" PASSES_FILE ": what clients had passed of "
                    "postscreen's tests is lost: %s",
                    keeper.dir, err.log);
}

void qmgr_passes_set(struct conf *c)
{
    keeper.is_kept = *conf_str(c, NULL, "postscreen_cache_map") != '\0';
    keeper.retention =
        conf_time(c, NULL, "postscreen_cache_retention_time") * 1000;
    keeper.cleanup =
        conf_time(c, NULL, "postscreen_cache_cleanup_interval") * 1000;
}

void qmgr_passes_open(struct conf *c, const char *dir)
{
    struct err err;

    if (keeper.fd < 0)
        return;
    if (access_passes_open(keeper.fd, &keeper.passes, &err) < 0) {
        log_warning("%s", err.log);
        return;
    }
    keeper.dir = dir;
    waitq_init(&keeper.saved);
    keeper.cleaned = clock_wall();
    qmgr_passes_set(c);
    if (keeper.is_kept)
        read_file();
    keeper.n_saved = access_passes_changes(keeper.passes);
    timer_set(&keeper.timer, clock_after(SAVE_MS), on_timer);
}

void qmgr_passes_close(void)
{
    struct err err;

    if (keeper.passes == NULL)
        return;
    keeper.is_over = true;
    timer_cancel(&keeper.timer);
    while (keeper.is_saving &&
           waitq_wait(&keeper.saved, clock_after(SAVE_MS), &err) == 0)
        continue;
    if (keeper.is_kept && !keeper.is_saving &&
        access_passes_changes(keeper.passes) != keeper.n_saved)
        save();
    access_passes_close(&keeper.passes);
    close_fd(&keeper.fd);
}
