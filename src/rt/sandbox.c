/* Giving up what is not needed, in the only order that works: resolve paths,
 * change root, drop the uid, and last the filters, which would refuse the rest.
 */
#include "rt/sandbox.h"

#include "rt/sandbox_priv.h"

#include <dirent.h>
#include <grp.h>
#include <sys/prctl.h>

/* Landlock binds the thread that asks and what it starts later, so there may
 * be no other yet: enter before the loop has run. */
static int count_threads(void)
{
    DIR *dir = opendir("/proc/self/task");
    int n = 0;

    if (dir == NULL)
        return 1; /* no /proc: nothing to be learned */
    for (const struct dirent *d = readdir(dir); d != NULL; d = readdir(dir))
        if (d->d_name[0] != '.')
            n++;
    (void)closedir(dir);
    return n;
}

static int change_root(const struct sandbox *s, struct err *err)
{
    if (s->empty_root == NULL || geteuid() != 0)
        return 0;
    if (chroot(s->empty_root) < 0 || chdir("/") < 0)
        return err_sys(err, "sandbox: chroot %s", s->empty_root);
    return 0;
}

static int drop_uid(const struct sandbox *s, struct err *err)
{
    if (s->uid == (uid_t)-1 || geteuid() != 0)
        return 0;
    if (setgroups(1, &s->gid) < 0 || setresgid(s->gid, s->gid, s->gid) < 0)
        return err_sys(err, "sandbox: gid %u", s->gid);
    if (setresuid(s->uid, s->uid, s->uid) < 0)
        return err_sys(err, "sandbox: uid %u", s->uid);
    if (s->uid != 0 && setuid(0) == 0)
        return err_temp(err, "sandbox: uid 0 could be had back");
    return 0;
}

static int enter(const struct sandbox *s, int landlock, struct err *err)
{
    if (change_root(s, err) < 0 || drop_uid(s, err) < 0)
        return -1;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return err_sys(err, "sandbox: no_new_privs");
    if (landlock_enter(landlock, err) < 0)
        return -1;
    return 0;
}

int sandbox_refuse_always(struct err *err)
{
    static const struct sandbox s = {
        .allow = SANDBOX_OPEN | SANDBOX_WRITE | SANDBOX_EXEC | SANDBOX_FORK |
                 SANDBOX_INET | SANDBOX_UNIX | SANDBOX_SETUID | SANDBOX_KILL,
        .uid = (uid_t)-1,
        .gid = (gid_t)-1,
    };

    if (count_threads() > 1)
        return err_temp(err, "sandbox: threads run already");
    return seccomp_enter(&s, false, err);
}

int sandbox_enter(const struct sandbox *s, struct err *err)
{
    int landlock CLEANUP(close_fd) = -1;

    if (count_threads() > 1)
        return err_temp(err, "sandbox: threads run already");
    if (landlock_open(s, &landlock, err) < 0)
        return -1;
    if (enter(s, landlock, err) < 0)
        return -1;
    close_fd(&landlock);
    return seccomp_enter(s, true, err);
}
