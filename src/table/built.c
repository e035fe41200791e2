#include "table/table_priv.h"

#include "base/codec.h"

#include <cdb.h>
#include <sys/mman.h>
#include <sys/stat.h>

/* Reading what build.c wrote: an immutable cdb file, mapped. */

int built_memfd(struct err *err)
{
    int fd = memfd_create("hato-table", MFD_CLOEXEC);

    return fd < 0 ? err_sys(err, "memfd_create") : fd;
}

static bool meta_read(struct cdb *db, slice *meta)
{
    if (cdb_find(db, BUILT_META, sizeof(BUILT_META) - 1) <= 0)
        return false;
    *meta = slice_of(cdb_getdata(db), cdb_datalen(db));
    return meta->p != NULL;
}

/* Every record and bucket must lie inside the file: cdb_find() checks what it
 * touches, cdb_init() the size. */
int built_load(struct table *t, int fd, void **out, struct err *err)
{
    struct cdb *db = xcalloc(1, sizeof(*db));
    slice meta;

    if (cdb_init(db, fd) < 0) {
        free(db);
        errno = errno == 0 ? EINVAL : errno;
        return err_sys(err, "%s: its built file", t->whole);
    }
    if (!meta_read(db, &meta) ||
        attr_u64_or(meta, BUILT_TAG_VERSION, 0) != BUILT_VERSION) {
        cdb_free(db);
        free(db);
        return err_temp(err,
                        "%s: its built file is damaged or of another "
                        "release",
                        t->whole);
    }
    *out = db;
    return 0;
}

void built_unload(void *data)
{
    cdb_free(data);
    free(data);
}

int built_lookup(struct table *t, slice key, unsigned flags, struct arena *a,
                 slice *value, struct err *err)
{
    struct cdb *db = t->data;
    const void *p;
    int rc;

    (void)flags;
    rc = key.n > TABLE_VALUE_MAX ? 0 : cdb_find(db, key.p, (unsigned)key.n);
    if (rc < 0)
        return err_temp(err, "%s: its built file is damaged", t->whole);
    if (rc == 0) {
        *value = SLICE_NONE;
        return 0;
    }
    p = cdb_getdata(db);
    if (p == NULL)
        return err_temp(err, "%s: its built file is damaged", t->whole);
    *value = slice_dup(a, slice_of(p, cdb_datalen(db)));
    if (value->p == NULL)
        return err_temp(err, "%s: no memory for the value", t->whole);
    return 0;
}

int built_each(struct table *t, table_each_fn *fn, void *ctx, struct err *err)
{
    struct cdb *db = t->data;
    unsigned pos;
    int rc;

    cdb_seqinit(&pos, db);
    while ((rc = cdb_seqnext(&pos, db)) > 0) {
        slice key = slice_of(cdb_getkey(db), cdb_keylen(db));
        slice value = slice_of(cdb_getdata(db), cdb_datalen(db));

        if (key.n > 0 && key.p[0] == '\0')
            continue;
        if (fn(ctx, key, value, err) < 0)
            return -1;
    }
    if (rc < 0)
        return err_temp(err, "%s: its built file is damaged", t->whole);
    return 0;
}

bool table_built_is_fresh(int built_fd, const struct stat *source)
{
    uint64_t mtime = (uint64_t)source->st_mtim.tv_sec * 1000000000u +
                     (uint64_t)source->st_mtim.tv_nsec;
    struct cdb db;
    slice meta;
    bool fresh;

    if (cdb_init(&db, built_fd) < 0)
        return false;
    fresh = meta_read(&db, &meta) &&
            attr_u64_or(meta, BUILT_TAG_VERSION, 0) == BUILT_VERSION &&
            attr_u64_or(meta, BUILT_TAG_MTIME, 0) == mtime &&
            attr_u64_or(meta, BUILT_TAG_SIZE, UINT64_MAX) ==
                (uint64_t)source->st_size &&
            attr_u64_or(meta, BUILT_TAG_INODE, 0) == (uint64_t)source->st_ino;
    cdb_free(&db);
    return fresh;
}
