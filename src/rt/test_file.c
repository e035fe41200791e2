#include "rt/file.h"

#include "rt/fstrace.h"
#include "rt/test_util_rt.h"

#include "rt/proc.h"

#include <fcntl.h>

static char dir_path[64];
static int dir_fd;

static int setup(void **state)
{
    (void)state;
    (void)snprintf(dir_path, sizeof(dir_path), "/tmp/hato-file-XXXXXX");
    if (mkdtemp(dir_path) == NULL)
        return -1;
    dir_fd = open(dir_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return 0;
}

static int teardown(void **state)
{
    char *rm = xasprintf("rm -rf %s", dir_path);
    const char *argv[] = { "sh", "-c", rm, NULL };
    const char *env[] = { "PATH=/bin", NULL };
    struct proc_spec spec = {
        .path = "/bin/sh", .argv = argv, .envp = env, .uid = (uid_t)-1
    };
    struct err err;
    pid_t pid;

    (void)state;
    (void)close(dir_fd);
    if (proc_spawn(&spec, &pid, &err) == 0)
        (void)waitpid(pid, NULL, 0);
    free(rm);
    return 0;
}

static void read_back(const char *name, slice want)
{
    struct buf b;
    struct err err;

    buf_init(&b, 1000000);
    if (file_read(dir_fd, name, &b, &err) < 0)
        fail_msg("%s", err.log);
    assert_slice(buf_view(&b), want);
    buf_done(&b);
}

static void test_calls(void **state)
{
    struct iovec v[2] = { { (char[]){ "ab" }, 2 }, { (char[]){ "cde" }, 3 } };
    struct stat st;
    int fd = file_openat(dir_fd, "f", O_RDWR | O_CREAT | O_EXCL, 0640);

    (void)state;
    assert_true(fd >= 0);
    assert_int_equal(file_openat(dir_fd, "f", O_RDWR | O_CREAT | O_EXCL, 0640),
                     -1);
    assert_int_equal(errno, EEXIST);
    assert_int_equal(file_pwrite(fd, "xyz", 3, 5), 3);
    assert_int_equal(file_pwritev(fd, v, 2, 0), 5);
    assert_int_equal(file_write_all(fd, SL("!!"), 8), 0);
    read_back("f", SL("abcdexyz!!"));
    assert_int_equal(file_ftruncate(fd, 4), 0);
    read_back("f", SL("abcd"));
    assert_int_equal(file_fallocate(fd, 0, 4096), 0);
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_size, 4096);
    assert_int_equal(file_fdatasync(fd), 0);
    assert_int_equal(file_fsync(fd), 0);
    assert_int_equal(file_syncfs(fd), 0);
    assert_int_equal(file_ftruncate(fd, 2), 0);
    assert_int_equal(file_mkdirat(dir_fd, "d", 0700), 0);
    assert_int_equal(file_linkat(dir_fd, "f", dir_fd, "d/g"), 0);
    assert_int_equal(file_renameat(dir_fd, "f", dir_fd, "h"), 0);
    read_back("d/g", SL("ab"));
    read_back("h", SL("ab"));
    assert_int_equal(file_unlinkat(dir_fd, "h", 0), 0);
    assert_int_equal(file_unlinkat(dir_fd, "h", 0), -1);
    assert_int_equal(errno, ENOENT);
    assert_int_equal(file_unlinkat(dir_fd, "d/g", 0), 0);
    assert_int_equal(file_unlinkat(dir_fd, "d", AT_REMOVEDIR), 0);
    assert_int_equal(close(fd), 0);
    assert_int_equal(file_fdatasync(fd), -1);
    assert_int_equal(errno, EBADF);
}

static void test_replace(void **state)
{
    struct err err;
    struct stat st;
    struct buf b;

    (void)state;
    assert_int_equal(file_replace(dir_fd, "r", SL("one"), 0600, &err), 0);
    assert_int_equal(file_replace(dir_fd, "r", SL("two"), 0640, &err), 0);
    read_back("r", SL("two"));
    assert_int_equal(fstatat(dir_fd, "r", &st, 0), 0);
    assert_int_equal(st.st_mode & 07777, 0640);
    assert_int_equal(file_mkdirat(dir_fd, "sub", 0700), 0);
    assert_int_equal(file_replace(dir_fd, "sub/r", SL("deep"), 0600, &err), 0);
    read_back("sub/r", SL("deep"));
    assert_int_equal(file_replace(dir_fd, "none/r", SL("x"), 0600, &err), -1);
    assert_int_equal(err.sys, ENOENT);
    /* A directory in its place: the old one stays and nothing is left. */
    assert_int_equal(file_replace(dir_fd, "sub", SL("x"), 0600, &err), -1);
    read_back("sub/r", SL("deep"));
    buf_init(&b, 2);
    assert_int_equal(file_read(dir_fd, "r", &b, &err), -1); /* larger */
    buf_done(&b);
    buf_init(&b, 3);
    assert_int_equal(file_read(dir_fd, "r", &b, &err), 0); /* just fits */
    assert_slice(buf_view(&b), SL("two"));
    buf_done(&b);
    buf_init(&b, 10);
    assert_int_equal(file_read(dir_fd, "missing", &b, &err), -1);
    assert_int_equal(err.sys, ENOENT);
    buf_done(&b);
}

static void test_mkdirs(void **state)
{
    char *path = xasprintf("%s/a//b/c/", dir_path);
    char *bad = xasprintf("%s/r/b", dir_path);
    struct err err;
    struct stat st;
    uint64_t room;

    (void)state;
    assert_int_equal(file_mkdirs(path, 0750, &err), 0);
    assert_int_equal(file_mkdirs(path, 0750, &err), 0);
    assert_int_equal(fstatat(dir_fd, "a/b/c", &st, 0), 0);
    assert_int_equal(st.st_mode & 07777, 0750);
    assert_int_equal(file_replace(dir_fd, "r", SL("one"), 0600, &err), 0);
    assert_int_equal(file_mkdirs(bad, 0750, &err), -1);
    assert_int_equal(err.sys, ENOTDIR);
    assert_int_equal(file_free_bytes(dir_fd, &room, &err), 0);
    assert_true(room > 0);
    free(path);
    free(bad);
}

#ifdef HATO_FSTRACE
/* ---- the trace, read back as doc/fstrace.md says */

static int trace_fd;

/* The next record of `call`; the others are stepped over. */
static struct fstrace_record next(slice *all, unsigned call, slice *names)
{
    struct fstrace_record r;

    for (;;) {
        assert_true(all->n >= sizeof(r));
        memcpy(&r, all->p, sizeof(r));
        assert_int_equal(r.magic, FSTRACE_MAGIC);
        assert_true(r.size <= all->n);
        assert_int_equal(r.size,
                         sizeof(r) + r.name_len + r.name2_len + r.data_len);
        *names = slice_sub(*all, sizeof(r), r.size - sizeof(r));
        *all = slice_from(*all, r.size);
        if (r.call == call)
            return r;
    }
}

static void do_traced_things(void)
{
    int fd = file_openat(dir_fd, "t", O_RDWR | O_CREAT, 0600);
    char *path = xasprintf("%s/td/u", dir_path);

    assert_int_equal(file_pwrite(fd, "data", 4, 100), 4);
    assert_int_equal(file_fdatasync(fd), 0);
    assert_int_equal(file_mkdirat(dir_fd, "td", 0700), 0);
    assert_int_equal(file_linkat(dir_fd, "t", AT_FDCWD, path), 0);
    assert_int_equal(file_renameat(dir_fd, "td/u", dir_fd, "v"), 0);
    assert_int_equal(file_renameat(dir_fd, "v", dir_fd, "t2"), 0);
    assert_int_equal(file_unlinkat(dir_fd, "t", 0), 0);
    assert_int_equal(file_fsync(dir_fd), 0);
    assert_int_equal(close(fd), 0);
    free(path);
}

static void test_trace(void **state)
{
    struct fstrace_record r;
    struct stat st, td, top;
    struct buf b;
    struct err err;
    slice all, names;

    (void)state;
    do_traced_things();
    assert_int_equal(fstatat(dir_fd, "t2", &st, 0), 0);
    assert_int_equal(fstatat(dir_fd, "td", &td, 0), 0);
    assert_int_equal(fstat(dir_fd, &top), 0);
    buf_init(&b, 1 << 20);
    assert_int_equal(lseek(trace_fd, 0, SEEK_SET), 0);
    assert_int_equal(file_read_fd(trace_fd, &b, &err), 0);
    all = buf_view(&b);
    do
        r = next(&all, FSTRACE_OPENAT, &names);
    while (!slice_eqs(names, "t"));
    assert_true(r.flags & FSTRACE_CREATED);
    assert_int_equal(r.ino, st.st_ino);
    assert_int_equal(r.dir_ino, top.st_ino);
    assert_int_equal(r.mode & 07777, 0600);
    assert_int_equal(r.uid, getuid());
    r = next(&all, FSTRACE_PWRITE, &names);
    assert_slice(names, SL("data"));
    assert_int_equal(r.offset, 100);
    assert_int_equal(r.file_size, 104);
    r = next(&all, FSTRACE_FDATASYNC, &names);
    assert_int_equal(r.flags, FSTRACE_BEGIN);
    r = next(&all, FSTRACE_FDATASYNC, &names);
    assert_int_equal(r.flags, FSTRACE_END);
    assert_int_equal(r.ino, st.st_ino);
    r = next(&all, FSTRACE_MKDIRAT, &names);
    assert_int_equal(r.ino, td.st_ino);
    r = next(&all, FSTRACE_LINKAT, &names);
    assert_slice(names, SL("tu"));
    assert_int_equal(r.dir_ino, top.st_ino);
    assert_int_equal(r.dir2_ino, td.st_ino);
    assert_int_equal(r.nlink, 2);
    r = next(&all, FSTRACE_RENAMEAT, &names);
    assert_slice(names, SL("uv"));
    assert_int_equal(r.dir_ino, td.st_ino);
    assert_int_equal(r.ino, st.st_ino);
    r = next(&all, FSTRACE_UNLINKAT, &names);
    assert_int_equal(r.ino, st.st_ino);
    assert_int_equal(r.nlink, 1);
    r = next(&all, FSTRACE_FSYNC, &names);
    assert_int_equal(r.ino, top.st_ino);
    assert_true(r.flags & FSTRACE_IS_DIR);
    r = next(&all, FSTRACE_FSYNC, &names);
    assert_int_equal(r.flags, FSTRACE_END | FSTRACE_IS_DIR);
    assert_int_equal(all.n, 0);
    buf_done(&b);
}

/* Faults are counted per process: in a child, by exec. */
static int faulty_child(void)
{
    int fd = open("/dev/null", O_WRONLY);

    if (fstrace_fd() != 4) /* behind 0..2 and the report */
        return 2;
    if (file_ftruncate(fd, 0) == 0 || errno != EINVAL)
        return 3;
    if (file_ftruncate(fd, 0) == 0 || errno != ENOSPC)
        return 4;
    if (file_ftruncate(fd, 0) == 0 || errno != ENOSPC)
        return 5;
    if (file_fsync(fd) == 0 || errno != EIO)
        return 6;
    return 0;
}

static void test_fault(void **state)
{
    const char *argv[] = { "test", "--faulty", NULL };
    const char *env[] = { "HATO_FAULT=ftruncate:2+:ENOSPC,fsync:1:EIO", NULL };
    struct proc_spec spec = {
        .path = "/proc/self/exe", .argv = argv, .envp = env, .uid = (uid_t)-1
    };
    struct err err;
    int status;
    pid_t pid;

    (void)state;
    if (on_valgrind())
        skip();
    assert_int_equal(proc_spawn(&spec, &pid, &err), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void begin_trace(void)
{
    char path[] = "/tmp/hato-trace-XXXXXX";
    char text[16];

    trace_fd = mkostemp(path, O_APPEND);
    (void)unlink(path);
    (void)snprintf(text, sizeof(text), "%d", trace_fd);
    (void)setenv("HATO_FSTRACE_FD", text, 1);
}
#endif

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_calls),  cmocka_unit_test(test_replace),
        cmocka_unit_test(test_mkdirs),
#ifdef HATO_FSTRACE
        cmocka_unit_test(test_trace),  cmocka_unit_test(test_fault),
#endif
    };

#ifdef HATO_FSTRACE
    if (argc > 1 && strcmp(argv[1], "--faulty") == 0)
        return faulty_child();
    begin_trace();
#endif
    (void)argc;
    (void)argv;
    return cmocka_run_group_tests(tests, setup, teardown);
}
