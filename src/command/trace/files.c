/* The files of a log.  Those that gzip made are read by zlib, which is loaded
 * when there is one to be read. */
#include "command/command.h"
#include "command/trace/trace_priv.h"

#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/stat.h>

static struct {
    void *(*dopen)(int fd, const char *mode);
    int (*read)(void *file, void *to, unsigned n);
    int (*close)(void *file);
} gz;

static bool load_zlib(void)
{
    static const struct {
        const char *name;
        void *at;
    } functions[] = {
        { "gzdopen", &gz.dopen },
        { "gzread", &gz.read },
        { "gzclose", &gz.close },
    };

    void *so = gz.dopen != NULL ? NULL : dlopen("libz.so.1", RTLD_NOW);

    for (size_t i = 0; so != NULL && i < ARRAY_LEN(functions); i++) {
        void *f = dlsym(so, functions[i].name);

        if (f == NULL)
            return false;
        memcpy(functions[i].at, &f, sizeof f);
    }
    return gz.dopen != NULL;
}

void trace_files_add(struct trace_files *f, const char *path)
{
    if (f->n < TRACE_FILES)
        f->path[f->n++] = xstrdup(path);
}

void trace_files_done(struct trace_files *f)
{
    for (size_t i = 0; i < f->n; i++)
        free(f->path[i]);
    f->n = 0;
}

struct found {
    char *path;
    struct timespec mtime;
};

static int older_first(const void *a, const void *b)
{
    const struct found *x = a, *y = b;

    if (x->mtime.tv_sec != y->mtime.tv_sec)
        return x->mtime.tv_sec < y->mtime.tv_sec ? -1 : 1;
    if (x->mtime.tv_nsec != y->mtime.tv_nsec)
        return x->mtime.tv_nsec < y->mtime.tv_nsec ? -1 : 1;
    return strcmp(y->path, x->path); /* log.2 before log.1 */
}

/* "mail.log.1", "mail.log-20261122.gz", but neither "mail.log" nor
 * "mail.logins". */
static bool is_rotated(slice base, slice name)
{
    char c;

    if (!slice_starts(name, base) || name.n < base.n + 2)
        return false;
    c = name.p[base.n];
    return (c == '.' || c == '-') && ascii_isdigit(name.p[base.n + 1]);
}

static size_t list_rotated(const char *dir, slice base, struct found *out)
{
    DIR *d = opendir(dir);
    size_t n = 0;

    if (d == NULL)
        return 0;
    for (const struct dirent *e = readdir(d); e != NULL && n < TRACE_FILES - 1;
         e = readdir(d)) {
        struct stat st;

        if (!is_rotated(base, slice_str(e->d_name)))
            continue;
        out[n].path = xasprintf("%s/%s", dir, e->d_name);
        if (stat(out[n].path, &st) == 0 && S_ISREG(st.st_mode))
            out[n++].mtime = st.st_mtim;
        else
            free(out[n].path);
    }
    (void)closedir(d);
    return n;
}

void trace_files_find(struct trace_files *f, const char *path)
{
    const char *slash = strrchr(path, '/');
    char *dir CLEANUP(free_ptr) =
        slash == NULL
            ? xstrdup(".")
            : xstrndup(path, slash == path ? 1 : (size_t)(slash - path));
    struct found *found = xcalloc(TRACE_FILES, sizeof *found);
    size_t n =
        list_rotated(dir, slice_str(slash == NULL ? path : slash + 1), found);

    qsort(found, n, sizeof *found, older_first);
    for (size_t i = 0; i < n; i++) {
        trace_files_add(f, found[i].path);
        free(found[i].path);
    }
    free(found);
    trace_files_add(f, path);
}

/* ---- reading */

struct reader {
    int fd;
    void *file; /* of zlib */
    struct buf buf;
    bool is_too_long;
};

static ssize_t read_some(struct reader *r, char *to, size_t n)
{
    if (r->file != NULL)
        return gz.read(r->file, to, (unsigned)n);
    return read(r->fd, to, n);
}

/* Hand out the whole lines; what is left moves to the front. */
static void hand_out(struct reader *r, trace_line_fn *fn, void *arg)
{
    slice rest = buf_view(&r->buf), line;

    while (slice_chr(rest, '\n') >= 0) {
        (void)slice_cut(&rest, '\n', &line);
        if (!r->is_too_long)
            fn(arg, line);
        r->is_too_long = false;
    }
    buf_consume(&r->buf, r->buf.n - rest.n);
    if (r->buf.n >= TRACE_LINE_BYTES) {
        r->is_too_long = true;
        buf_clear(&r->buf);
    }
}

static void read_lines(struct reader *r, trace_line_fn *fn, void *arg)
{
    buf_init(&r->buf, TRACE_LINE_BYTES * 2);
    for (;;) {
        char *to = buf_reserve(&r->buf, TRACE_LINE_BYTES);
        ssize_t n = to == NULL ? -1 : read_some(r, to, TRACE_LINE_BYTES);

        if (n <= 0)
            break;
        buf_commit(&r->buf, (size_t)n);
        hand_out(r, fn, arg);
    }
    buf_done(&r->buf);
}

static bool read_file(const char *path, trace_line_fn *fn, void *arg,
                      struct err *err)
{
    struct reader r = { .fd = open(path, O_RDONLY | O_CLOEXEC) };
    bool is_gzip = slice_ends(slice_str(path), SL(".gz"));

    if (r.fd < 0) {
        err_sys(err, "open %s", path);
        return false;
    }
    if (is_gzip && load_zlib())
        r.file = gz.dopen(r.fd, "rb");
    if (is_gzip && r.file == NULL) {
        err_temp(err, "%s: zlib is not there", path);
        close(r.fd);
        return false;
    }
    read_lines(&r, fn, arg);
    if (r.file != NULL)
        (void)gz.close(r.file);
    else
        close(r.fd);
    return true;
}

static bool is_unreadable_kind(const char *path)
{
    static const slice kinds[] = { { ".xz", 3 }, { ".bz2", 4 }, { ".zst", 4 } };

    for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
        if (slice_ends(slice_str(path), kinds[i]))
            return true;
    return false;
}

int trace_files_read(struct trace_files *f, trace_line_fn *fn, void *arg,
                     struct err *err)
{
    size_t n = 0;

    err_temp(err, "no log to read");
    for (size_t i = 0; i < f->n; i++) {
        char *path = f->path[i];

        if (!is_unreadable_kind(path) && read_file(path, fn, arg, err)) {
            f->path[n++] = path;
            continue;
        }
        command_warn("%s is passed over", path);
        free(path);
    }
    f->n = n;
    return n > 0 ? 0 : -1;
}
