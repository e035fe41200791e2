#include "table/table_priv.h"

#include "base/codec.h"
#include "base/digest.h"
#include "ipc/event.h"
#include "rt/file.h"

#include <cdb.h>
#include <fcntl.h>
#include <sys/stat.h>

/*
 * Indexing a source (postmap, postalias, master's child).  The library writes
 * into a file in memory; what reaches the disk goes through rt/file.h in one
 * piece, so that the crash tests see it.
 */

enum table_format table_format_of(const char *param)
{
    return strcmp(param, "alias_maps") == 0 ||
                   strcmp(param, "alias_database") == 0
               ? TABLE_POSTALIAS
               : TABLE_POSTMAP;
}

void table_built_name(slice source_path, enum table_format format,
                      char out[static TABLE_FILE_NAME])
{
    ssize_t slash = slice_rchr(source_path, '/');
    slice base = slice_sub(source_path, (size_t)(slash + 1), 60);
    uint8_t digest[32];
    struct sha256 h;
    struct buf hex;
    char safe[64];

    sha256_init(&h);
    sha256_update(&h, source_path);
    sha256_update(&h, format == TABLE_POSTALIAS ? SL("\0a") : SL("\0m"));
    sha256_final(&h, digest);
    for (size_t i = 0; i < base.n; i++)
        safe[i] =
            ascii_isalnum(base.p[i]) || base.p[i] == '.' || base.p[i] == '-'
                ? base.p[i]
                : '_';
    safe[base.n] = '\0';
    buf_init(&hex, 32);
    hex_put(&hex, slice_of(digest, 8));
    (void)snprintf(out, TABLE_FILE_NAME, "%s-%s.cdb", safe, buf_cstr(&hex));
    buf_done(&hex);
}

struct building {
    const struct table_build *b;
    struct cdb_make make;
    struct arena *arena; /* of one line */
    size_t n;
};

static void warn(struct building *w, unsigned line, const char *text)
{
    char all[600];

    (void)snprintf(all, sizeof(all), "%s, line %u: %s", w->b->source_name, line,
                   text);
    if (w->b->warn != NULL)
        w->b->warn(w->b->warn_ctx, all);
    else
        log_warning("%s", all);
}

static void warn_source(void *ctx, unsigned line, const char *text)
{
    warn(ctx, line, text);
}

static int put(struct building *w, slice key, slice value, unsigned line,
               struct err *err)
{
    int mode = w->b->dup_is_ok ? CDB_PUT_REPLACE : CDB_PUT_INSERT;
    int rc = cdb_make_put(&w->make, key.p, (unsigned)key.n, value.p,
                          (unsigned)value.n, (enum cdb_put_mode)mode);

    if (rc < 0)
        return err_sys(err, "%s, line %u: cannot index", w->b->source_name,
                       line);
    if (rc > 0 && !w->b->dup_is_ok && !w->b->dup_is_first) {
        char text[300];

        (void)snprintf(text, sizeof(text), "duplicate entry: \"%.*s\"",
                       (int)min_size(key.n, 200), key.p);
        warn(w, line, text);
    }
    w->n += rc == 0;
    return 0;
}

static int build_line(struct building *w, slice text, unsigned line,
                      struct err *err)
{
    const char *wrong;
    slice key;
    slice value;

    arena_reset(w->arena);
    wrong = w->b->format == TABLE_POSTALIAS
                ? source_split_alias(w->arena, text, &key, &value)
                : source_split_map(text, &key, &value);
    if (wrong != NULL) {
        warn(w, line, wrong);
        return 0;
    }
    if (w->b->format == TABLE_POSTMAP && key.p[key.n - 1] == ':')
        warn(w, line,
             "record is in \"key: value\" format; is this an alias "
             "file?");
    if (!w->b->no_fold)
        key = table_fold(w->arena, key);
    if (key.p == NULL || key.n > TABLE_VALUE_MAX) {
        warn(w, line, "key too long -- ignoring this line");
        return 0;
    }
    return put(w, key, value, line, err);
}

static int put_meta(struct building *w, const struct stat *st, struct err *err)
{
    struct buf meta CLEANUP(buf_done);
    uint64_t mtime = (uint64_t)st->st_mtim.tv_sec * 1000000000u +
                     (uint64_t)st->st_mtim.tv_nsec;

    buf_init(&meta, 256);
    attr_put_u64(&meta, BUILT_TAG_VERSION, BUILT_VERSION);
    attr_put_u64(&meta, BUILT_TAG_MTIME, mtime);
    attr_put_u64(&meta, BUILT_TAG_SIZE, (uint64_t)st->st_size);
    attr_put_u64(&meta, BUILT_TAG_INODE, (uint64_t)st->st_ino);
    attr_put_u64(&meta, BUILT_TAG_FORMAT, w->b->format);
    if (cdb_make_put(&w->make, BUILT_META, sizeof(BUILT_META) - 1, meta.p,
                     (unsigned)meta.n, CDB_PUT_ADD) < 0)
        return err_sys(err, "%s: cannot index", w->b->source_name);
    return 0;
}

static int build_lines(struct building *w, slice bytes, const struct stat *st,
                       struct err *err)
{
    struct source s;
    unsigned line;
    slice text;
    int rc;

    source_init(&s, bytes);
    s.warn = warn_source;
    s.ctx = w;
    rc = put_meta(w, st, err);
    while (rc == 0 && source_next(&s, &text, &line))
        rc = build_line(w, text, line, err);
    source_done(&s);
    return rc;
}

/* Index into `fd`, a file in memory. */
static int build_memory(const struct table_build *b, int fd, size_t *n_out,
                        struct err *err)
{
    struct buf bytes CLEANUP(buf_done);
    struct building *w;
    struct stat st;
    int rc;

    buf_init(&bytes, TABLE_BUILD_MAX);
    if (fstat(b->source_fd, &st) < 0)
        return err_sys(err, "stat %s", b->source_name);
    if (file_read_fd(b->source_fd, &bytes, err) < 0)
        return err_prefix(err, "%s", b->source_name);
    w = xcalloc(1, sizeof(*w));
    w->b = b;
    w->arena = arena_new((size_t)4 * TABLE_VALUE_MAX);
    rc = cdb_make_start(&w->make, fd) < 0
             ? err_sys(err, "%s: cannot index", b->source_name)
             : build_lines(w, buf_view(&bytes), &st, err);
    if (cdb_make_finish(&w->make) < 0 && rc == 0)
        rc = err_sys(err, "%s: cannot index", b->source_name);
    if (rc == 0 && n_out != NULL)
        *n_out = w->n;
    arena_free(&w->arena);
    free(w);
    return rc;
}

int table_build(const struct table_build *b, int out_fd, size_t *n_out,
                struct err *err)
{
    struct buf bytes CLEANUP(buf_done);
    int fd CLEANUP(close_fd) = built_memfd(err);

    buf_init(&bytes, UINT32_MAX);
    if (fd < 0 || build_memory(b, fd, n_out, err) < 0)
        return -1;
    if (lseek(fd, 0, SEEK_SET) < 0 || file_read_fd(fd, &bytes, err) < 0)
        return err_prefix(err, "%s", b->source_name);
    if (file_write_all(out_fd, buf_view(&bytes), 0) < 0)
        return err_sys(err, "write the table of %s", b->source_name);
    if (file_fsync(out_fd) < 0)
        return err_sys(err, "sync the table of %s", b->source_name);
    return 0;
}

int table_build_file(const struct table_build *b, int dirfd, const char *name,
                     mode_t mode, struct err *err)
{
    struct buf bytes CLEANUP(buf_done);
    int fd CLEANUP(close_fd) = built_memfd(err);

    buf_init(&bytes, UINT32_MAX);
    if (fd < 0 || build_memory(b, fd, NULL, err) < 0)
        return -1;
    if (lseek(fd, 0, SEEK_SET) < 0 || file_read_fd(fd, &bytes, err) < 0)
        return err_prefix(err, "%s", b->source_name);
    return file_replace(dirfd, name, buf_view(&bytes), mode, err);
}
