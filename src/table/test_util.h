#ifndef TABLE_TEST_UTIL_H
#define TABLE_TEST_UTIL_H

/* For the tests of this room and of those that look things up: tables of
 * texts, in a directory that goes away. */
#include "base/test_util.h"
#include "table/table.h"

#include <fcntl.h>
#include <sys/stat.h>

struct bench {
    char dir[64];
    struct tables *tables;
    struct arena *arena;
    struct buf warnings; /* one line each */
};

static void bench_warn(void *ctx, const char *text)
{
    struct bench *b = ctx;

    buf_printf(&b->warnings, "%s\n", text);
}

static inline void bench_init(struct bench *b)
{
    *b = (struct bench){ .dir = "/tmp/hato-table-XXXXXX" };
    assert_non_null(mkdtemp(b->dir));
    b->tables = tables_new();
    b->arena = arena_new(8u << 20);
    buf_init(&b->warnings, 1u << 20);
    tables_set_direct(b->tables, NULL);
    tables_on_warning(b->tables, bench_warn, b);
}

static inline void bench_done(struct bench *b)
{
    int dir = open(b->dir, O_RDONLY | O_DIRECTORY);

    /* Only files of our own making lie there. */
    for (int i = 0; i < 100; i++) {
        char name[16];

        (void)snprintf(name, sizeof(name), "f%d", i);
        (void)unlinkat(dir, name, 0);
    }
    (void)close(dir);
    (void)rmdir(b->dir);
    tables_free(&b->tables);
    arena_free(&b->arena);
    buf_done(&b->warnings);
}

/* Write file `f<n>` and give "type:/dir/f<n>". */
static inline slice bench_file(struct bench *b, int n, const char *type,
                               const char *text)
{
    char *path = arena_printf(b->arena, "%s/f%d", b->dir, n);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    assert_int_equal(close(fd), 0);
    return slice_str(arena_printf(b->arena, "%s:%s", type, path));
}

/* The value, NULL when there is none, "!" and the log text on trouble. */
static inline const char *bench_ask(struct bench *b, slice spec,
                                    const char *key, unsigned flags)
{
    struct err err;
    slice value;

    if (table_lookup(b->tables, spec, slice_str(key), flags, b->arena, &value,
                     &err) < 0)
        return arena_printf(b->arena, "!%s", err.log);
    return value.p == NULL ? NULL : slice_cstr(b->arena, value);
}

static inline void assert_answer(const char *got, const char *want,
                                 const char *what)
{
    if (got == NULL || want == NULL) {
        if (got != want)
            fail_msg("%s: got %s, want %s", what, got == NULL ? "NULL" : got,
                     want == NULL ? "NULL" : want);
    } else if (strcmp(got, want) != 0) {
        fail_msg("%s: got \"%s\", want \"%s\"", what, got, want);
    }
}

#endif
