#ifndef BASE_TEST_UTIL_H
#define BASE_TEST_UTIL_H

/* What unit tests of every room include: cmocka with what it needs, and death
 * tests. */
#include "base/base.h"

#include <setjmp.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <cmocka.h>

/* Runs fn(arg) in a child and tells whether it aborted. */
static inline bool dies(void (*fn)(void *), void *arg)
{
    int status = 0;
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        struct rlimit none = { 0, 0 };

        /* cmocka catches SIGABRT; the death is quiet and leaves no core. */
        (void)sigaction(SIGABRT, &(struct sigaction){ .sa_handler = SIG_DFL },
                        NULL);
        (void)setrlimit(RLIMIT_CORE, &none);
        (void)close(STDERR_FILENO);
        fn(arg);
        _exit(0);
    }
    while (waitpid(pid, &status, 0) < 0)
        assert_int_equal(errno, EINTR);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

/* Compares bytes and shows both sides when they differ. */
static inline void assert_slice(slice got, slice want)
{
    if (!slice_eq(got, want))
        fail_msg("got \"%.*s\", want \"%.*s\"", SLF(got), SLF(want));
}

#endif
