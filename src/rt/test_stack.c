/* The pool of stacks: guards, pages given back, bounds. */
#include "rt/stack.h"

#include "rt/test_util_rt.h"

#include <sys/mman.h>

static size_t resident(char *lo, size_t size)
{
    static unsigned char pages[4096];
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t n = 0;

    assert_true(size / page < sizeof(pages));
    assert_int_equal(mincore(lo, size, pages), 0);
    for (size_t i = 0; i < size / page; i++)
        n += pages[i] & 1;
    return n;
}

static void test_gives_back(void **state)
{
    char *lo, *again;
    size_t size;

    (void)state;
    if (on_valgrind())
        skip(); /* it does not let go of pages it knows */
    stack_get(&lo, &size);
    assert_true(size >= 120000);
    memset(lo, 1, size);
    assert_true(resident(lo, size) > 20);
    stack_put(lo, size);
    assert_true(resident(lo, size) <= 4);
    stack_get(&again, &size);
    assert_ptr_equal(again, lo);
    /* A shallow use costs nothing and keeps its pages. */
    memset(lo + size - 3000, 1, 3000);
    stack_put(lo, size);
    assert_true(resident(lo, size) >= 1);
    stack_pool_drain();
    assert_int_equal(stack_count(), 0);
}

static void test_bounded(void **state)
{
    enum { N = 400 };

    static char *lo[N];
    size_t size;

    (void)state;
    for (int i = 0; i < N; i++)
        stack_get(&lo[i], &size);
    assert_int_equal(stack_count(), N);
    for (int i = 0; i < N; i++)
        stack_put(lo[i], size);
    /* The next wave finds them; when none comes, they go. */
    assert_true(stack_count() <= 2048);
    for (int i = 0; i < 3000; i++) {
        stack_get(&lo[0], &size);
        stack_put(lo[0], size);
    }
    assert_true(stack_count() <= 256);
    stack_pool_drain();
    assert_int_equal(stack_count(), 0);
}

/* Writing below a stack kills, and does not reach the next one. */
static void test_guard(void **state)
{
    char *lo;
    size_t size;
    int status;
    pid_t pid;

    (void)state;
    stack_get(&lo, &size);
    pid = fork();
    if (pid == 0) {
        (void)sigaction(SIGSEGV, &(struct sigaction){ .sa_handler = SIG_DFL },
                        NULL);
        ((volatile char *)lo)[-1] = 1;
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) || WEXITSTATUS(status) != 0);
    stack_put(lo, size);
    stack_pool_drain();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gives_back),
        cmocka_unit_test(test_bounded),
        cmocka_unit_test(test_guard),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
