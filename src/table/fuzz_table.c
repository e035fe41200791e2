#include "table/table_priv.h"

#include "base/digest.h"

#include <sys/mman.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/*
 * Sources of tables: the first byte chooses the type, a NUL ends the source,
 * what follows is the key.
 */

static void quiet(void *ctx, const char *text)
{
    (void)ctx;
    (void)text;
}

static int fd_of(slice bytes)
{
    int fd = memfd_create("fuzz", MFD_CLOEXEC);

    CHECK(fd >= 0);
    CHECK(write(fd, bytes.p, bytes.n) == (ssize_t)bytes.n);
    CHECK(lseek(fd, 0, SEEK_SET) == 0);
    return fd;
}

static void fuzz_build(slice source, slice key, enum table_format format)
{
    struct tables *t = tables_new();
    struct arena *a = arena_new(8u << 20);
    struct table_build b = { .source_fd = fd_of(source),
                             .source_name = "x",
                             .format = format,
                             .warn = quiet };
    int out = built_memfd(NULL);
    struct err err;
    slice value;

    CHECK(table_build(&b, out, NULL, &err) == 0);
    CHECK(tables_give(t, SL("hash:/x"), out, 1, &err) == 0);
    (void)table_lookup(t, SL("hash:/x"), key, 0, a, &value, &err);
    (void)close(b.source_fd);
    tables_free(&t);
    arena_free(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const types[] = { "regexp:/x",      "pcre:/x",
                                         "cidr:/x",        "texthash:/x",
                                         "passwd-file:/x", "hash:/x" };
    slice in = slice_of(data, size);
    struct tables *t;
    struct arena *a;
    struct err err;
    slice source;
    slice value;
    unsigned choice;

    if (size < 2)
        return 0;
    choice = data[0] % 8;
    in = slice_from(in, 1);
    slice_cut(&in, '\0', &source);
    if (choice >= 6) {
        fuzz_build(source, in, choice == 6 ? TABLE_POSTMAP : TABLE_POSTALIAS);
        return 0;
    }
    t = tables_new();
    tables_on_warning(t, quiet, NULL);
    a = arena_new(8u << 20);
    if (tables_give(t, slice_str(types[choice]), fd_of(source), 1, &err) == 0)
        (void)table_lookup(t, slice_str(types[choice]), in, 0, a, &value, &err);
    tables_free(&t);
    arena_free(&a);
    return 0;
}
