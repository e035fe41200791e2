#include "rt/sandbox.h"

#include "rt/proc.h"
#include "rt/stream.h"
#include "rt/test_util_rt.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>

/* Each trial returns 0 when the kernel let it be done, else its errno.  They
 * run in a forked child inside the sandbox. */
typedef int trial(void);

static char work_dir[64], other_dir[64];
static int dir_fd = -1; /* of work_dir, opened outside */

static int got(long rc)
{
    return rc < 0 ? errno : 0;
}

static int try_ptrace(void)
{
    return got(ptrace(PTRACE_TRACEME, 0, NULL, NULL));
}

static int try_bpf(void)
{
    return got(syscall(SYS_bpf, 0, NULL, 0));
}

static int try_mount(void)
{
    return got(mount("none", "/mnt", "tmpfs", 0, NULL));
}

static int try_unshare(void)
{
    return got(unshare(CLONE_NEWUSER));
}

static int try_vm_read(void)
{
    return got(syscall(SYS_process_vm_readv, getppid(), NULL, 0, NULL, 0, 0));
}

static int try_perf(void)
{
    return got(syscall(SYS_perf_event_open, NULL, 0, -1, -1, 0));
}

static int try_keyctl(void)
{
    return got(syscall(SYS_keyctl, 0, -1, 0, 0, 0));
}

static int try_personality(void)
{
    return got(syscall(SYS_personality, 0x0040000));
}

static int try_open(void)
{
    int fd = openat(dir_fd, "file", O_RDONLY);

    return got(fd);
}

static int try_open_path(void)
{
    char path[100];

    (void)snprintf(path, sizeof(path), "%s/file", work_dir);
    return got(open(path, O_RDONLY));
}

static int try_open_other(void)
{
    char path[100];

    (void)snprintf(path, sizeof(path), "%s/file", other_dir);
    return got(open(path, O_RDONLY));
}

static int try_stat(void)
{
    struct stat st;

    return got(fstatat(dir_fd, "file", &st, 0));
}

static int try_fstat(void)
{
    struct stat st;

    return got(fstat(dir_fd, &st));
}

static int try_create(void)
{
    int fd = openat(dir_fd, "new", O_WRONLY | O_CREAT, 0600);

    return got(fd);
}

static int try_write_other(void)
{
    char path[100];

    (void)snprintf(path, sizeof(path), "%s/new", other_dir);
    return got(open(path, O_WRONLY | O_CREAT, 0600));
}

static int try_unlink(void)
{
    return got(unlinkat(dir_fd, "victim", 0));
}

static int try_rename(void)
{
    return got(renameat(dir_fd, "file", dir_fd, "file2"));
}

static int try_exec(void)
{
    char *argv[] = { (char[]){ "true" }, NULL };

    return got(execve("/bin/true", argv, argv + 1));
}

static int try_fork(void)
{
    pid_t pid = fork();

    if (pid == 0)
        _exit(0);
    return pid < 0 ? errno : got(waitpid(pid, NULL, 0));
}

static int try_inet(void)
{
    return got(socket(AF_INET, SOCK_STREAM, 0));
}

static int try_inet6(void)
{
    return got(socket(AF_INET6, SOCK_DGRAM, 0));
}

static int try_unix(void)
{
    return got(socket(AF_UNIX, SOCK_STREAM, 0));
}

static int try_netlink(void)
{
    return got(socket(AF_NETLINK, SOCK_RAW, 0));
}

static int try_packet(void)
{
    return got(socket(AF_PACKET, SOCK_RAW, 0));
}

static int try_kill(void)
{
    return got(kill(getppid(), 0));
}

static int try_setuid(void)
{
    return got(setuid(getuid()));
}

static int try_chroot(void)
{
    return got(chroot("/"));
}

/* What everybody needs. */
static void *thread_fn(void *arg)
{
    return arg;
}

static int try_thread(void)
{
    pthread_t t;
    int rc = pthread_create(&t, NULL, thread_fn, NULL);

    return rc != 0 ? rc : pthread_join(t, NULL);
}

static int try_memory(void)
{
    void *p = xmalloc(10 << 20);

    memset(p, 1, 10 << 20);
    free(p);
    return 0;
}

static int try_pair(void)
{
    int fds[2], pass = STDIN_FILENO, back[1];
    size_t n = 1;
    char c = 'x';

    if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds) < 0)
        return errno;
    if (fd_send(fds[0], &c, 1, &pass, 1) != 1)
        return errno;
    return got(fd_recv(fds[1], &c, 1, back, &n));
}

static int try_time(void)
{
    char text[40];

    clock_rfc5322(1000000000, text);
    return clock_wall() > 0 ? 0 : EIO;
}

static int answer(UNUSED void *arg)
{
    return 42;
}

static void use_offload(void *arg)
{
    struct stream *a, *b;
    struct err err;

    stream_pair(&a, &b);
    if (offload(answer, NULL) == 42 && task_sleep(1, &err) == 0)
        *(bool *)arg = true;
    stream_free(&a);
    stream_free(&b);
}

/* The loop that was made before, with a thread pool that begins now. */
static int try_loop(void)
{
    bool ok = false;

    (void)task_spawn("offload", use_offload, &ok);
    loop_run_until_idle();
    return ok ? 0 : EIO;
}

/* ---- running trials */

static int result_of(const struct sandbox *s, trial *fn, bool as_nobody)
{
    int fds[2];
    int result = -1;
    int status;
    pid_t pid;

    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct err err;

        (void)sigaction(SIGABRT, &(struct sigaction){ .sa_handler = SIG_DFL },
                        NULL);
        loop_init("sandboxed", 1);
        if (as_nobody && (setgid(65534) < 0 || setuid(65534) < 0))
            _exit(1);
        if (sandbox_enter(s, &err) < 0) {
            (void)fprintf(stderr, "%s\n", err.log);
            _exit(2);
        }
        result = fn();
        (void)!write(fds[1], &result, sizeof(result));
        _exit(0);
    }
    (void)close(fds[1]);
    /* exec closes the pipe without a word */
    if (read(fds[0], &result, sizeof(result)) != (ssize_t)sizeof(result))
        result = 0;
    (void)close(fds[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (WIFSIGNALED(status))
        return -WTERMSIG(status);
    return WEXITSTATUS(status) == 0 ? result : -1000 - WEXITSTATUS(status);
}

static int base_fd(trial *fn, const struct sandbox *s)
{
    int plain = geteuid() == 0 ? result_of(s, fn, true) : 0;
    int here = result_of(s, fn, false);

    if (geteuid() == 0 && plain != here)
        fail_msg("as root %d, as a user %d", here, plain);
    return here;
}

#define REFUSED(s, fn) assert_int_equal(base_fd((fn), (s)), EPERM)
#define WORKS(s, fn)   assert_int_equal(base_fd((fn), (s)), 0)

static const struct sandbox nothing = { .uid = (uid_t)-1 };

static struct sandbox with(unsigned allow)
{
    return (struct sandbox){ .allow = allow, .uid = (uid_t)-1 };
}

static void test_always_refused(void **state)
{
    static trial *const trials[] = { try_ptrace,  try_bpf,         try_mount,
                                     try_unshare, try_perf,        try_keyctl,
                                     try_vm_read, try_personality, try_chroot };
    struct sandbox all =
        with(SANDBOX_OPEN | SANDBOX_WRITE | SANDBOX_EXEC | SANDBOX_FORK |
             SANDBOX_INET | SANDBOX_UNIX | SANDBOX_SETUID | SANDBOX_KILL);

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(trials); i++) {
        REFUSED(&nothing, trials[i]);
        REFUSED(&all, trials[i]);
    }
    REFUSED(&nothing, try_packet);
    REFUSED(&nothing, try_netlink);
    REFUSED(&all, try_packet);
}

static void test_nothing_allowed(void **state)
{
    static trial *const trials[] = { try_open,   try_open_path, try_stat,
                                     try_create, try_unlink,    try_rename,
                                     try_exec,   try_fork,      try_inet,
                                     try_inet6,  try_unix,      try_kill,
                                     try_setuid };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(trials); i++)
        REFUSED(&nothing, trials[i]);
}

static void test_always_works(void **state)
{
    static trial *const trials[] = { try_thread, try_memory, try_pair,
                                     try_time,   try_fstat,  try_loop };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(trials); i++)
        WORKS(&nothing, trials[i]);
}

static int landlock_abi(void)
{
    return (int)syscall(444, NULL, 0, 1);
}

static void test_files(void **state)
{
    const char *paths[] = { work_dir, NULL };
    struct sandbox s = with(SANDBOX_OPEN);

    (void)state;
    s.read_paths = paths;
    WORKS(&s, try_open);
    WORKS(&s, try_open_path);
    WORKS(&s, try_stat);
    REFUSED(&s, try_create);
    REFUSED(&s, try_unlink);
    s.allow |= SANDBOX_WRITE;
    if (landlock_abi() > 0) {
        assert_int_equal(base_fd(try_open_other, &s), EACCES);
        /* readable is not writable */
        assert_int_equal(base_fd(try_create, &s), EACCES);
    }
    s.write_paths = paths;
    assert_int_equal(result_of(&s, try_create, false), 0);
    assert_int_equal(result_of(&s, try_unlink, false), 0);
    if (landlock_abi() > 0)
        assert_int_equal(base_fd(try_write_other, &s), EACCES);
}

static void test_missing_path(void **state)
{
    const char *paths[] = { "/no/such/directory", NULL };
    struct sandbox s = with(SANDBOX_OPEN);
    pid_t pid;
    int status;

    (void)state;
    s.read_paths = paths;
    if (landlock_abi() < 1)
        skip();
    pid = fork();
    if (pid == 0) {
        struct err err;
        int rc = sandbox_enter(&s, &err);

        _exit(rc == -1 && strstr(err.log, "/no/such/directory") ? 0 : 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static void test_flags(void **state)
{
    const char *root[] = { "/", NULL };
    struct sandbox s;

    (void)state;
    s = with(SANDBOX_FORK);
    WORKS(&s, try_fork);
    REFUSED(&s, try_exec);
    REFUSED(&s, try_kill);
    s = with(SANDBOX_INET);
    WORKS(&s, try_inet);
    WORKS(&s, try_inet6);
    REFUSED(&s, try_unix);
    s = with(SANDBOX_UNIX);
    WORKS(&s, try_unix);
    REFUSED(&s, try_inet);
    s = with(SANDBOX_SETUID);
    WORKS(&s, try_setuid);
    REFUSED(&s, try_fork);
    s = with(SANDBOX_EXEC | SANDBOX_OPEN);
    s.read_paths = root;
    WORKS(&s, try_exec);
    REFUSED(&s, try_fork);
    REFUSED(&s, try_inet);
    REFUSED(&s, try_unix);
    REFUSED(&s, try_kill);
    REFUSED(&s, try_setuid);
    REFUSED(&s, try_unlink);
    WORKS(&s, try_thread);
    s = with(SANDBOX_KILL);
    assert_int_equal(result_of(&s, try_kill, false), 0);
}

static int try_deadly(void)
{
    return got(syscall(SYS_reboot, 0, 0, 0, NULL));
}

static void test_deadly(void **state)
{
    (void)state;
    assert_int_equal(result_of(&nothing, try_deadly, false), -SIGSYS);
}

static int in_child_of_root(trial *fn)
{
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        struct err err;

        if (sandbox_refuse_always(&err) < 0 ||
            setresgid(65534, 65534, 65534) < 0 ||
            setresuid(65534, 65534, 65534) < 0)
            _exit(99);
        _exit(fn());
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static int try_gain(void)
{
    return prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 0 ? 0 : EIO;
}

/* What the template hands on to all workers and their commands. */
static void test_refuse_always(void **state)
{
    static trial *const refused[] = { try_ptrace,  try_bpf,         try_mount,
                                      try_unshare, try_perf,        try_keyctl,
                                      try_vm_read, try_personality, try_chroot,
                                      try_packet };
    static trial *const works[] = { try_fork, try_exec,  try_open,   try_stat,
                                    try_inet, try_inet6, try_unix,   try_thread,
                                    try_time, try_gain,  try_memory, try_pair };
    struct err err;

    (void)state;
    if (geteuid() != 0) {
        pid_t pid = fork();
        int status;

        if (pid == 0)
            _exit(sandbox_refuse_always(&err) < 0 ? 0 : 1);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(refused); i++)
        assert_int_equal(in_child_of_root(refused[i]), EPERM);
    for (size_t i = 0; i < ARRAY_LEN(works); i++)
        assert_int_equal(in_child_of_root(works[i]), 0);
    assert_int_equal(in_child_of_root(try_deadly), -SIGSYS);
}

static int try_who(void)
{
    struct stat st;

    if (getuid() != 65534 || getgid() != 65534 || setuid(0) == 0)
        return EIO;
    return stat("/etc", &st) < 0 && errno == ENOENT ? 0 : EIO;
}

/* As root: the uid is dropped and the root is empty. */
static void test_root_drops(void **state)
{
    const char *paths[] = { work_dir, NULL };
    struct sandbox s = { .allow = SANDBOX_OPEN,
                         .uid = 65534,
                         .gid = 65534,
                         .empty_root = other_dir,
                         .read_paths = paths };

    (void)state;
    if (geteuid() != 0)
        skip();
    assert_int_equal(result_of(&s, try_who, false), 0);
    /* A descriptor from outside still leads to what is allowed. */
    assert_int_equal(result_of(&s, try_open, false), 0);
}

static void make_other(const char *name, bool is_there)
{
    char path[100];

    (void)snprintf(path, sizeof(path), "%s/%s", other_dir, name);
    if (is_there)
        (void)close(open(path, O_WRONLY | O_CREAT, 0644));
    else
        (void)unlink(path);
}

static int setup(void **state)
{
    static const char *const files[] = { "file", "victim" };

    (void)state;
    (void)snprintf(work_dir, sizeof(work_dir), "/tmp/hato-sandbox-XXXXXX");
    (void)snprintf(other_dir, sizeof(other_dir), "/tmp/hato-other-XXXXXX");
    if (mkdtemp(work_dir) == NULL || mkdtemp(other_dir) == NULL)
        return -1;
    (void)chmod(work_dir, 0777);
    (void)chmod(other_dir, 0777);
    make_other("file", true);
    dir_fd = open(work_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (size_t i = 0; i < ARRAY_LEN(files); i++)
        (void)close(openat(dir_fd, files[i], O_WRONLY | O_CREAT, 0644));
    return 0;
}

static int teardown(void **state)
{
    static const char *const files[] = { "file", "victim", "new" };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(files); i++)
        (void)unlinkat(dir_fd, files[i], 0);
    (void)close(dir_fd);
    make_other("file", false);
    (void)rmdir(work_dir);
    (void)rmdir(other_dir);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_always_refused),
        cmocka_unit_test(test_nothing_allowed),
        cmocka_unit_test(test_always_works),
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_missing_path),
        cmocka_unit_test(test_flags),
        cmocka_unit_test(test_deadly),
        cmocka_unit_test(test_refuse_always),
        cmocka_unit_test(test_root_drops),
    };

    if (on_valgrind())
        return 77; /* its own system calls would be refused */
    return cmocka_run_group_tests(tests, setup, teardown);
}
