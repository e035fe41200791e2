/*
 * What lies on disk and is read back: records of the index log, a snapshot,
 * names of files and folders.  The first byte chooses.
 */
#include "store/store_priv.h"

#include <sys/mman.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct store_mailbox *mailbox_make(void)
{
    struct store_mailbox *m = xcalloc(1, sizeof *m);

    m->cache_fd = -1;
    list_init(&m->watches);
    rows_init(m);
    m->loaded = true; /* holes and changes are noted for views */
    return m;
}

/* Everything a reader would ask. */
static void look(struct store_mailbox *m)
{
    struct store_row row;
    char path[1024];
    uint8_t id[ID_BYTES] = { 0 };

    for (size_t r = 0; r < store_rows(m); r++) {
        (void)store_row_uid(m, r);
        (void)store_row_at(m, (uint32_t)r);
        if (!store_row_get(m, r, &row))
            continue;
        CHECK(row.base_name.n <= FILE_NAME_MAX);
        (void)row_path(m, r, path, sizeof path);
        (void)row_by_id(m, row.delivery_id);
        (void)row_find(m, row.uid);
    }
    for (size_t i = 0; i < store_keywords(m); i++)
        (void)store_keyword(m, i);
    (void)row_by_id(m, id);
}

/* type, length u16, payload, and again. */
static void fuzz_records(slice in)
{
    struct store_mailbox *m = mailbox_make();

    while (in.n >= 3) {
        uint16_t type = (uint8_t)in.p[0] & 15;
        slice payload = slice_sub(in, 3, get_u16(in.p + 1));

        (void)index_apply(m, type, payload, 64);
        in = slice_from(in, 3 + payload.n);
    }
    look(m);
    rows_done(m);
    free(m);
}

static void fuzz_snapshot(slice in, bool fix_sums)
{
    struct store_mailbox *m = mailbox_make();
    int fd = memfd_create("snapshot", MFD_CLOEXEC);
    char *p = xmalloc(in.n + 1);

    memcpy(p, in.p, in.n);
    if (fix_sums && in.n >= 1024) { /* get past the sums */
        set_u64(p + 200, in.n);
        set_u32(p + 208, crc32c(0, p + 1024, in.n - 1024));
        set_u32(p + 1020, crc32c(0, p, 1020));
    }
    CHECK(fd >= 0 && pwrite(fd, p, in.n, 0) == (ssize_t)in.n);
    if (snapshot_load(m, fd, true))
        look(m);
    rows_done(m);
    free(m);
    free(p);
    close_fd(&fd);
}

static void fuzz_names(slice in)
{
    struct file_name f;
    struct buf b;
    char dir[MAILBOX_DIR_MAX + 1];
    struct err err;

    if (file_name_parse(in, &f))
        CHECK(f.base.n > 0);
    buf_init(&b, 4096);
    if (mailbox_dir_of(in, dir, &err) == 0 && dir[0] != '\0') {
        CHECK(mailbox_name_of(slice_str(dir), &b));
        CHECK(slice_eq(buf_view(&b), in));
    }
    buf_clear(&b);
    (void)mailbox_name_of(in, &b);
    buf_done(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    slice in = slice_of(data, size);

    if (size == 0)
        return 0;
    in = slice_from(in, 1);
    switch (data[0] & 3) {
    case 0:
        fuzz_records(in);
        break;
    case 1:
        fuzz_snapshot(in, true);
        break;
    case 2:
        fuzz_names(in);
        break;
    default:
        fuzz_snapshot(in, false);
    }
    return 0;
}
