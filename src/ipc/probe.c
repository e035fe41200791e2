#include "ipc/process.h"

#ifdef HATO_PROBE

# include <fcntl.h>
# include <sched.h>
# include <signal.h>
# include <sys/ptrace.h>
# include <sys/socket.h>
# include <sys/wait.h>

/* Each attempt is made so that it does no harm where it is allowed: the exec
 * is of something that cannot be executed, the ptrace of nobody. */

static int try_exec(void)
{
    char *argv[] = { NULL };

    return execve("/dev/null", argv, argv);
}

static int try_ptrace(void)
{
    return (int)ptrace(PTRACE_PEEKDATA, 0x3ffffffe, NULL, NULL);
}

static int try_open(void)
{
    int fd = open("/etc/passwd", O_RDONLY | O_CLOEXEC);

    if (fd >= 0)
        close(fd);
    return fd;
}

static int try_create(void)
{
    int fd = open("/tmp/hato-probe", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

    if (fd >= 0) {
        close(fd);
        unlink("/tmp/hato-probe");
    }
    return fd;
}

static int try_inet(void)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd >= 0)
        close(fd);
    return fd;
}

static int try_unix(void)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd >= 0)
        close(fd);
    return fd;
}

static int try_fork(void)
{
    pid_t pid = fork();

    if (pid == 0)
        _exit(0);
    if (pid > 0)
        waitpid(pid, NULL, 0);
    return pid < 0 ? -1 : 0;
}

static int try_unshare(void)
{
    return unshare(0);
}

static int try_kill(void)
{
    return kill(getppid(), 0);
}

static int try_setuid(void)
{
    return setuid(0);
}

typedef int attempt_fn(void);

void process_probe(struct buf *out)
{
    static const struct {
        const char *what;
        attempt_fn *attempt;
        int also; /* an errno that shows that the kernel went beyond the
                   * sandbox: allowed */
    } tries[] = {
        { "exec", try_exec, EACCES }, { "ptrace", try_ptrace, ESRCH },
        { "open", try_open, 0 },      { "create", try_create, 0 },
        { "inet", try_inet, 0 },      { "unix", try_unix, 0 },
        { "fork", try_fork, 0 },      { "kill", try_kill, 0 },
        { "setuid", try_setuid, 0 },  { "unshare", try_unshare, 0 },
    };

    buf_printf(out, "uid=%d gid=%d\n", (int)getuid(), (int)getgid());
    for (size_t i = 0; i < ARRAY_LEN(tries); i++) {
        int rc, code;

        errno = 0;
        rc = tries[i].attempt();
        code = errno;
        buf_printf(out, "%s=%s (%s)\n", tries[i].what,
                   rc < 0 && (tries[i].also == 0 || code != tries[i].also)
                       ? "refused"
                       : "allowed",
                   rc < 0 ? strerror(code) : "done");
    }
}

#else

void process_probe(struct buf *out)
{
    buf_puts(out, "no probe in this build\n");
}

#endif
