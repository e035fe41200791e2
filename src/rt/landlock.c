/* Landlock, by raw system calls: what a process may do with files, TCP,
 * abstract sockets and signals.  Each ABI of the kernel knows more. */
#include "rt/sandbox_priv.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#ifndef SYS_landlock_create_ruleset
# define SYS_landlock_create_ruleset 444
# define SYS_landlock_add_rule       445
# define SYS_landlock_restrict_self  446
#endif

/* From the kernel's documentation (userspace-api/landlock); the C library's
 * headers may be older than the kernel. */
enum {
    FS_EXECUTE = 1 << 0,
    FS_WRITE_FILE = 1 << 1,
    FS_READ_FILE = 1 << 2,
    FS_READ_DIR = 1 << 3,
    FS_ALL_ABI1 = (1 << 13) - 1,
    FS_REFER = 1 << 13,     /* ABI 2 */
    FS_TRUNCATE = 1 << 14,  /* ABI 3 */
    FS_IOCTL_DEV = 1 << 15, /* ABI 5 */
    FS_OF_FILES =
        FS_EXECUTE | FS_WRITE_FILE | FS_READ_FILE | FS_TRUNCATE | FS_IOCTL_DEV,

    NET_BIND_TCP = 1 << 0, /* ABI 4 */
    NET_CONNECT_TCP = 1 << 1,

    SCOPE_ABSTRACT_UNIX = 1 << 0, /* ABI 6 */
    SCOPE_SIGNAL = 1 << 1,

    CREATE_VERSION = 1,
    RULE_PATH_BENEATH = 1,
};

struct ruleset_attr {
    uint64_t fs, net, scoped;
};

struct path_attr {
    uint64_t allowed;
    int32_t parent_fd;
} __attribute__((packed));

static int landlock_abi(void)
{
    return (int)syscall(SYS_landlock_create_ruleset, NULL, 0, CREATE_VERSION);
}

static uint64_t fs_known(int abi)
{
    uint64_t all = FS_ALL_ABI1;

    if (abi >= 2)
        all |= FS_REFER;
    if (abi >= 3)
        all |= FS_TRUNCATE;
    if (abi >= 5)
        all |= FS_IOCTL_DEV;
    return all;
}

static int add_path(int ruleset, const char *path, uint64_t allowed,
                    struct err *err)
{
    int fd CLEANUP(close_fd) = open(path, O_PATH | O_CLOEXEC);
    struct path_attr attr = { .allowed = allowed, .parent_fd = fd };
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0)
        return err_sys(err, "sandbox: %s", path);
    if (!S_ISDIR(st.st_mode))
        attr.allowed &= FS_OF_FILES;
    if (syscall(SYS_landlock_add_rule, ruleset, RULE_PATH_BENEATH, &attr, 0) <
        0)
        return err_sys(err, "sandbox: landlock rule for %s", path);
    return 0;
}

static int add_paths(int ruleset, const char *const *paths, uint64_t allowed,
                     struct err *err)
{
    for (; paths != NULL && *paths != NULL; paths++)
        if (add_path(ruleset, *paths, allowed, err) < 0)
            return -1;
    return 0;
}

static int fill(int ruleset, const struct sandbox *s, uint64_t known,
                struct err *err)
{
    uint64_t reading = FS_READ_FILE | FS_READ_DIR;
    uint64_t writing = known & ~(uint64_t)(FS_EXECUTE | FS_IOCTL_DEV);

    if (s->allow & SANDBOX_EXEC)
        reading |= FS_EXECUTE;
    if ((s->allow & SANDBOX_OPEN) &&
        add_paths(ruleset, s->read_paths, reading, err) < 0)
        return -1;
    if ((s->allow & SANDBOX_WRITE) &&
        add_paths(ruleset, s->write_paths, writing, err) < 0)
        return -1;
    return 0;
}

int landlock_open(const struct sandbox *s, int *fd_out, struct err *err)
{
    int abi = landlock_abi();
    uint64_t known = fs_known(abi);
    struct ruleset_attr attr = { .fs = known };
    size_t size = sizeof(attr.fs);
    int fd;

    *fd_out = -1;
    if (abi < 1)
        return 0; /* the kernel has none: seccomp and the uid remain */
    if (abi >= 4) {
        attr.net = s->allow & SANDBOX_INET ? 0 : NET_BIND_TCP | NET_CONNECT_TCP;
        size = offsetof(struct ruleset_attr, scoped);
    }
    if (abi >= 6) {
        attr.scoped = SCOPE_ABSTRACT_UNIX;
        attr.scoped |= s->allow & SANDBOX_KILL ? 0 : SCOPE_SIGNAL;
        size = sizeof(attr);
    }
    fd = (int)syscall(SYS_landlock_create_ruleset, &attr, size, 0);
    if (fd < 0)
        return err_sys(err, "sandbox: landlock_create_ruleset");
    if (fill(fd, s, known, err) < 0) {
        (void)close(fd);
        return -1;
    }
    *fd_out = fd;
    return 0;
}

int landlock_enter(int fd, struct err *err)
{
    if (fd < 0)
        return 0;
    if (syscall(SYS_landlock_restrict_self, fd, 0) < 0)
        return err_sys(err, "sandbox: landlock_restrict_self");
    return 0;
}
