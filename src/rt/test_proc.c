#include "rt/proc.h"

#include "rt/test_util_rt.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>

static const char *const env[] = { "PATH=/bin:/usr/bin", "GREETING=hello",
                                   NULL };

#define SHELL(text)                                                            \
 {                                                                             \
  .path = "/bin/sh", .argv = (const char *[]){ "sh", "-c", text, NULL },       \
  .envp = env, .uid = (uid_t)-1                                                \
 }

struct outcome {
    struct buf out;
    struct err err;
    int rc, wstatus;
};

static void run(struct outcome *o, const struct proc_spec *spec, slice input,
                msec ms)
{
    buf_init(&o->out, 200000);
    o->wstatus = -1;
    o->rc =
        proc_run(spec, input, &o->out, clock_after(ms), &o->wstatus, &o->err);
}

static void assert_output(const struct proc_spec *spec, const char *input,
                          const char *want)
{
    struct outcome o;

    run(&o, spec, slice_str(input), 5000);
    if (o.rc < 0)
        fail_msg("%s", o.err.log);
    assert_slice(buf_view(&o.out), slice_str(want));
    assert_int_equal(o.wstatus, 0);
    buf_done(&o.out);
}

/* ---- proc_run */

static void simple(UNUSED void *arg)
{
    struct proc_spec cat = SHELL("cat; echo $GREETING; echo err >&2");
    struct proc_spec pwd = SHELL("pwd; id -u");
    struct proc_spec rc = SHELL("exit 3");
    struct proc_spec sig = SHELL("kill -TERM $$");
    /* The environment is only what was given; the shell adds PWD and such. */
    struct proc_spec home = SHELL("echo [$HOME]");
    struct proc_spec pipe = SHELL("yes | head -1"); /* SIGPIPE is not ignored */
    struct outcome o;
    char want[64];

    assert_output(&cat, "input\n", "input\nhello\nerr\n");
    assert_output(&cat, "", "hello\nerr\n");
    assert_output(&home, "", "[]\n");
    assert_output(&pipe, "", "y\n");
    pwd.chdir = "/usr";
    (void)snprintf(want, sizeof(want), "/usr\n%u\n", getuid());
    assert_output(&pwd, "", want);
    run(&o, &rc, SLICE_NONE, 5000);
    assert_int_equal(WEXITSTATUS(o.wstatus), 3);
    buf_done(&o.out);
    run(&o, &sig, SLICE_NONE, 5000);
    assert_int_equal(WTERMSIG(o.wstatus), SIGTERM);
    buf_done(&o.out);
}

static void test_simple(void **state)
{
    (void)state;
    in_task(simple, NULL);
}

static void failures(UNUSED void *arg)
{
    struct proc_spec none = SHELL("true");
    struct proc_spec dir = SHELL("true");
    struct outcome o;

    none.path = "/no/such/program";
    run(&o, &none, SLICE_NONE, 5000);
    assert_int_equal(o.rc, -1);
    assert_int_equal(o.err.sys, ENOENT);
    assert_non_null(strstr(o.err.log, "exec"));
    buf_done(&o.out);
    dir.chdir = "/no/such/dir";
    run(&o, &dir, SLICE_NONE, 5000);
    assert_int_equal(o.rc, -1);
    assert_int_equal(o.err.sys, ENOENT);
    assert_non_null(strstr(o.err.log, "chdir"));
    buf_done(&o.out);
}

static void test_failures(void **state)
{
    (void)state;
    in_task(failures, NULL);
}

/* More input and output than any pipe holds, in both directions at once; and a
 * child that does not read its input. */
static void large(UNUSED void *arg)
{
    enum { SIZE = 1 << 20 };
    struct proc_spec cat = SHELL("cat");
    struct proc_spec deaf = SHELL("exec <&-; sleep 0.01; echo done");
    struct proc_spec loud = SHELL("head -c 1000000 /dev/zero");
    char *big = xmalloc(SIZE);
    struct outcome o;

    memset(big, 'b', SIZE);
    run(&o, &cat, slice_of(big, SIZE), 20000);
    assert_int_equal(o.rc, 0);
    assert_int_equal(o.out.n, 200000); /* its maximum; the rest is dropped */
    assert_memory_equal(o.out.p, big, 200000);
    buf_done(&o.out);
    run(&o, &deaf, slice_of(big, SIZE), 20000);
    assert_int_equal(o.rc, 0);
    assert_slice(buf_view(&o.out), SL("done\n"));
    buf_done(&o.out);
    run(&o, &loud, SLICE_NONE, 20000);
    assert_int_equal(o.rc, 0);
    assert_int_equal(o.wstatus, 0);
    assert_int_equal(o.out.n, 200000);
    buf_done(&o.out);
    free(big);
}

static void test_large(void **state)
{
    (void)state;
    in_task(large, NULL);
}

/* Gone, or a zombie that nobody has reaped. */
static bool is_dead(pid_t pid)
{
    char path[64], text[256] = { 0 };
    const char *state;
    int fd;

    (void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    fd = open(path, O_RDONLY);
    if (fd < 0)
        return true;
    assert_true(read(fd, text, sizeof(text) - 1) > 0);
    (void)close(fd);
    state = strrchr(text, ')');
    return state != NULL && state[2] == 'Z';
}

/* At the deadline the whole group dies, and a grandchild that keeps the output
 * open is not waited for. */
static void deadline(UNUSED void *arg)
{
    struct proc_spec slow = SHELL("sleep 100 & echo $!; sleep 100");
    struct proc_spec daemon = SHELL("sleep 3 & echo out");
    struct outcome o;
    msec before = clock_mono();
    uint64_t pid;

    run(&o, &slow, SLICE_NONE, 100);
    assert_int_equal(o.rc, -1);
    assert_int_equal(o.err.class, ERR_TEMP);
    assert_true(clock_mono() - before < 3000);
    assert_true(slice_u64(slice_trim(buf_view(&o.out)), &pid));
    /* The child was waited for; its own child dies beside it. */
    for (int i = 0; i < 400 && !is_dead((pid_t)pid); i++)
        assert_int_equal(task_sleep(5, &o.err), 0);
    assert_true(is_dead((pid_t)pid));
    buf_done(&o.out);
    before = clock_mono();
    run(&o, &daemon, SLICE_NONE, 10000);
    assert_int_equal(o.rc, 0);
    assert_slice(buf_view(&o.out), SL("out\n"));
    assert_true(clock_mono() - before < 2000);
    buf_done(&o.out);
}

static void test_deadline(void **state)
{
    (void)state;
    in_task(deadline, NULL);
}

static void be_cancelled(void *arg)
{
    struct proc_spec slow = SHELL("sleep 100");
    struct outcome o;

    run(&o, &slow, SLICE_NONE, 100000);
    assert_int_equal(o.rc, -1);
    assert_int_equal(o.err.class, ERR_PEER);
    assert_true(task_is_cancelled());
    buf_done(&o.out);
    *(bool *)arg = true;
}

static void cancel_soon(void *task)
{
    struct err err;

    assert_int_equal(task_sleep(30, &err), 0);
    task_cancel(task);
}

static void test_cancel(void **state)
{
    bool done = false;

    (void)state;
    (void)task_spawn("cancel", cancel_soon,
                     task_spawn("run", be_cancelled, &done));
    loop_run_until_idle();
    assert_true(done);
}

static void from_fd(UNUSED void *arg)
{
    struct proc_spec wc = SHELL("wc -c");
    struct buf out;
    struct err err;
    int wstatus;
    int fd = memfd_create("in", MFD_CLOEXEC);

    assert_int_equal(ftruncate(fd, 300000), 0);
    buf_init(&out, 100);
    assert_int_equal(
        proc_run_fd(&wc, fd, &out, clock_after(5000), &wstatus, &err), 0);
    assert_slice(slice_trim(buf_view(&out)), SL("300000"));
    buf_done(&out);
    (void)close(fd);
}

static void test_from_fd(void **state)
{
    (void)state;
    in_task(from_fd, NULL);
}

static void limits(UNUSED void *arg)
{
    struct proc_spec cpu = SHELL("while :; do :; done");
    struct proc_spec file = SHELL("ulimit -f");
    struct outcome o;

    cpu.max_cpu_s = 1;
    run(&o, &cpu, SLICE_NONE, 10000);
    assert_int_equal(o.rc, 0);
    assert_true(WIFSIGNALED(o.wstatus));
    buf_done(&o.out);
    file.max_file_bytes = 512 * 100;
    assert_output(&file, "", "100\n");
}

static void test_limits(void **state)
{
    (void)state;
    in_task(limits, NULL);
}

static void as_user(UNUSED void *arg)
{
    struct proc_spec id = SHELL("id -u; id -g; id -G");

    id.uid = 65534;
    id.gid = 65533;
    assert_output(&id, "", "65534\n65533\n65533\n");
}

static void test_as_user(void **state)
{
    (void)state;
    if (geteuid() != 0)
        skip();
    in_task(as_user, NULL);
}

/* ---- exact descriptors */

static slice list_fds(struct proc_spec *spec, char *text, size_t size)
{
    struct err err;
    pid_t pid;
    ssize_t n = 0, got;
    int p[2];

    assert_int_equal(pipe2(p, O_CLOEXEC), 0);
    spec->path = "/proc/self/exe";
    spec->argv = (const char *[]){ "test", "--list", NULL };
    spec->envp = env;
    spec->uid = (uid_t)-1;
    spec->fds = (const int[]){ -1, -1, -1, -1, p[0], p[1], p[0], -1 };
    spec->n_fds = 8;
    assert_int_equal(proc_spawn(spec, &pid, &err), 0);
    (void)close(p[1]);
    while ((got = read(p[0], text + n, size - (size_t)n)) > 0)
        n += got;
    (void)close(p[0]);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    return slice_of(text, (size_t)n);
}

static void test_descriptors(void **state)
{
    struct proc_spec spec = { 0 };
    char text[1024];
    int extra[20];
    slice all, line;

    (void)state;
    if (on_valgrind())
        skip(); /* /proc/self/exe is valgrind */
    for (size_t i = 0; i < ARRAY_LEN(extra); i++)
        extra[i] = dup(STDIN_FILENO); /* inheritable, must not arrive */
    all = list_fds(&spec, text, sizeof(text));
    for (int i = 0; i < 10; i++) {
        assert_true(slice_cut(&all, '\n', &line));
        if (i < 3)
            assert_slice(line, SL("/dev/null"));
        else if (i >= 4 && i <= 6)
            assert_true(slice_starts(line, SL("pipe:")));
        else
            assert_slice(line, SL("-"));
    }
    for (size_t i = 0; i < ARRAY_LEN(extra); i++)
        (void)close(extra[i]);
}

/* Descriptors that change places with one another. */
static void test_swapped(void **state)
{
    struct proc_spec spec = SHELL("echo five >&1; echo four >&0");
    struct err err;
    char text[16] = { 0 };
    int a[2], b[2];
    pid_t pid;

    (void)state;
    assert_int_equal(pipe2(a, O_CLOEXEC), 0);
    assert_int_equal(pipe2(b, O_CLOEXEC), 0);
    spec.fds = (const int[]){ a[1], b[1] };
    spec.n_fds = 2;
    assert_int_equal(proc_spawn(&spec, &pid, &err), 0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_int_equal(read(a[0], text, sizeof(text)), 5);
    assert_memory_equal(text, "four\n", 5);
    assert_int_equal(read(b[0], text, sizeof(text)), 5);
    assert_memory_equal(text, "five\n", 5);
    for (int i = 0; i < 2; i++) {
        (void)close(a[i]);
        (void)close(b[i]);
    }
}

static void test_session(void **state)
{
    struct proc_spec spec = SHELL("exec sleep 100");
    struct err err;
    pid_t pid;
    int status;

    (void)state;
    spec.new_session = true;
    assert_int_equal(proc_spawn(&spec, &pid, &err), 0);
    assert_int_equal(getsid(pid), pid);
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
}

/* The parent of a die_with_parent child is killed. */
static void test_die_with_parent(void **state)
{
    int fds[2];
    char c;
    pid_t middle;

    (void)state;
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    middle = fork();
    if (middle == 0) {
        struct proc_spec spec = SHELL("echo >&3; exec sleep 100");
        struct err err;
        pid_t pid;

        spec.die_with_parent = true;
        spec.fds = (const int[]){ -1, -1, -1, fds[1] };
        spec.n_fds = 4;
        (void)proc_spawn(&spec, &pid, &err);
        (void)close(fds[1]);
        (void)pause();
        _exit(0);
    }
    (void)close(fds[1]);
    assert_int_equal(read(fds[0], &c, 1), 1);
    assert_int_equal(kill(middle, SIGKILL), 0);
    assert_int_equal(read(fds[0], &c, 1), 0); /* the grandchild is gone too */
    assert_int_equal(waitpid(middle, NULL, 0), middle);
    (void)close(fds[0]);
}

/* ---- proc_on_exit */

static int n_ended;

static void on_end(pid_t pid, int wstatus, void *arg)
{
    assert_int_equal(pid, *(pid_t *)arg);
    assert_int_equal(WEXITSTATUS(wstatus), 7);
    n_ended++;
}

static void test_on_exit(void **state)
{
    struct proc_spec quick = SHELL("exit 7");
    struct proc_spec slow = SHELL("sleep 0.05; exit 7");
    struct err err;
    pid_t pids[4];

    (void)state;
    n_ended = 0;
    for (int i = 0; i < 4; i++)
        assert_int_equal(proc_spawn(i % 2 ? &quick : &slow, &pids[i], &err), 0);
    nap_ms(10); /* the quick ones have ended before we ask */
    for (int i = 0; i < 4; i++)
        proc_on_exit(pids[i], on_end, &pids[i]);
    loop_run_until_idle();
    assert_int_equal(n_ended, 4);
}

/* ---- descriptors over sockets */

static void test_pass(void **state)
{
    int pair[2], pipe_fds[2], got[4], send[2];
    size_t n = 4;
    char text[8];

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair),
                     0);
    assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
    send[0] = pipe_fds[0];
    send[1] = pipe_fds[1];
    assert_int_equal(fd_send(pair[0], "abc", 3, send, 2), 3);
    assert_int_equal(fd_recv(pair[1], text, sizeof(text), got, &n), 3);
    assert_int_equal(n, 2);
    assert_memory_equal(text, "abc", 3);
    assert_true(fcntl(got[0], F_GETFD) & FD_CLOEXEC);
    assert_int_equal(write(got[1], "q", 1), 1);
    assert_int_equal(read(pipe_fds[0], text, 1), 1);
    (void)close(got[0]);
    (void)close(got[1]);
    /* More than there is room for: the rest is closed. */
    assert_int_equal(fd_send(pair[0], "d", 1, send, 2), 1);
    n = 1;
    assert_int_equal(fd_recv(pair[1], text, sizeof(text), got, &n), 1);
    assert_int_equal(n, 1);
    (void)close(got[0]);
    (void)close(pipe_fds[1]);
    assert_int_equal(read(pipe_fds[0], text, 1), 0); /* no writer is left */
    /* None. */
    n = 4;
    assert_int_equal(fd_send(pair[0], "e", 1, NULL, 0), 1);
    assert_int_equal(fd_recv(pair[1], text, sizeof(text), got, &n), 1);
    assert_int_equal(n, 0);
    (void)close(pair[0]);
    assert_int_equal(fd_recv(pair[1], text, sizeof(text), got, &n), 0);
    assert_int_equal(fd_send(pair[1], "f", 1, NULL, 0), -1);
    assert_int_equal(errno, EPIPE);
    (void)close(pair[1]);
    (void)close(pipe_fds[0]);
}

/* What the child of test_descriptors runs: where each descriptor leads. */
static int list_own(void)
{
    for (int i = 0; i < 10; i++) {
        char path[32], to[64];
        ssize_t n;

        (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", i);
        n = readlink(path, to, sizeof(to));
        (void)dprintf(5, "%.*s\n", n < 0 ? 1 : (int)n, n < 0 ? "-" : to);
    }
    return 0;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        LOOP_TEST(test_simple),      LOOP_TEST(test_failures),
        LOOP_TEST(test_large),       LOOP_TEST(test_deadline),
        LOOP_TEST(test_cancel),      LOOP_TEST(test_from_fd),
        LOOP_TEST(test_limits),      LOOP_TEST(test_as_user),
        LOOP_TEST(test_descriptors), LOOP_TEST(test_swapped),
        LOOP_TEST(test_session),     LOOP_TEST(test_die_with_parent),
        LOOP_TEST(test_on_exit),     LOOP_TEST(test_pass),
    };

    if (argc > 1 && strcmp(argv[1], "--list") == 0)
        return list_own();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
