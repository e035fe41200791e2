#include "store/store_priv.h"

#include "rt/file.h"

#include <fcntl.h>

/*
 * A retry that finds its message in the index.  It was visible once, but who
 * asked for it to be durable was not told so: maybe a sync of the file system
 * failed, after which the kernel may have dropped the written pages and calls
 * the next sync a success.  So what a retry finds is written once more in its
 * place, byte for byte, and the next sync is about these bytes: the file, and
 * the index log behind the last snapshot.  It needs no room on the disk.
 */

enum { CHUNK_BYTES = 256 << 10 };

/* Write bytes [at, end) of the file again; *crc over them (NULL: not asked).
 * Fewer when the file is shorter. */
static int write_again(int fd, uint64_t at, uint64_t end, uint32_t *crc)
{
    char *chunk CLEANUP(free_ptr) = xmalloc(CHUNK_BYTES);

    while (at < end) {
        ssize_t n =
            pread(fd, chunk, min_size(CHUNK_BYTES, end - at), (off_t)at);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        if (n == 0)
            return 0;
        if (crc)
            *crc = crc32c(*crc, chunk, (size_t)n);
        if (file_write_all(fd, slice_of(chunk, (size_t)n), (off_t)at) < 0)
            return -1;
        at += (uint64_t)n;
    }
    return 0;
}

/* The row's file for reading and writing; -1 with errno. */
static int open_file(const struct store_mailbox *m, size_t row)
{
    char path[PATH_IN_DIR_MAX + 64];

    if (!row_path(m, row, path, sizeof path)) {
        errno = ENAMETOOLONG;
        return -1;
    }
    return file_openat(engine_dir_fd(m->account->dir), path,
                       O_RDWR | O_CLOEXEC | O_NOFOLLOW, 0);
}

/* *is_hurt: what lies there is not what was written. */
static int renew_file(struct store_mailbox *m, size_t row, bool *is_hurt,
                      struct err *err)
{
    uint32_t want = ROW_FIELD(m, row, crc);
    uint32_t crc = 0;
    int fd CLEANUP(close_fd) = open_file(m, row);

    if (fd < 0)
        return err_sys(err, "open a message in %s", m->name);
    if (write_again(fd, 0, ROW_FIELD(m, row, size), &crc) < 0) {
        *is_hurt = errno == EIO;
        return err_sys(err, "write a message in %s again", m->name);
    }
    *is_hurt = want != 0 && crc != want;
    return 0;
}

static int renew_log(struct store_mailbox *m, struct err *err)
{
    if (index_log_ready(m, err) < 0)
        return -1;
    if (write_again(engine_log_fd(m->log), m->snapshot_at, m->log_end, NULL) <
        0)
        return err_sys(err, "write the index of %s again", m->name);
    return 0;
}

/* The entry goes, and its id with it: the message was not delivered. */
static int forget(struct store_mailbox *m, size_t row, struct err *err)
{
    uint64_t modseq;
    char b[20];
    slice payload = slice_of(b, sizeof b);

    store_note(m->account, "%.*s in %s is hurt: it is delivered again",
               SLF(row_name(m, row)), m->name);
    if (account_next_modseq(m->account, m, &modseq, err) < 0)
        return -1;
    set_u64(b, modseq);
    set_u64(b + 8, (uint64_t)(clock_wall() / 1000));
    set_u32(b + 16, ROW_FIELD(m, row, uid));
    if (index_append_buf(m, IR_EXPUNGE | ENGINE_MUST_UNDERSTAND, payload, err) <
        0)
        return -1;
    CHECK(index_apply(m, IR_EXPUNGE, payload, 0));
    /* At once: the new file may get the same name. */
    tidy_unlink_all(m);
    mailbox_changed(m);
    return 0;
}

int store_renew(struct store_mailbox *m, size_t row, struct err *err)
{
    uint32_t uid = ROW_FIELD(m, row, uid);
    bool is_hurt = false;
    int rc = 0;

    /* A stranger gave it this name, so it was settled long ago. */
    if (ROW_FIELD(m, row, state) & ROW_ODD_NAME)
        return 0;
    rc = renew_file(m, row, &is_hurt, err);
    if (rc < 0 && err->sys == ENOENT) {
        /* Renamed or removed by somebody: look, and it is as they wish. */
        if (mailbox_scan(m, SCAN_FORCE, err) < 0)
            return -1;
        row = row_find(m, uid);
        if (row >= rows_count(m) || ROW_FIELD(m, row, state) & ROW_ODD_NAME)
            return 0;
        rc = renew_file(m, row, &is_hurt, err);
    }
    if (is_hurt)
        return forget(m, row, err);
    if (rc == 0)
        rc = renew_log(m, err);
    return rc == 0 ? 0
                   : store_fail(ENGINE_TRYLATER, err, "deliver to", m->name);
}
