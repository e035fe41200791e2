#include "base/test_util.h"

static int pipe_fds[2];

static void tell(const char *text)
{
    size_t n = strlen(text);

    if (write(pipe_fds[1], text, n) != (ssize_t)n)
        _exit(1);
}

static void tell_and_fail(const char *text)
{
    tell(text);
    CHECK(pipe_fds[1] < 0);
}

static void check_one(void *arg)
{
    (void)arg;
    CHECK(1 + 1 == 3);
}

static void panic_one(void *arg)
{
    panic("%s and %d", (const char *)arg, 7);
}

static slice heard(char *buf, size_t size)
{
    ssize_t n = read(pipe_fds[0], buf, size);

    assert_true(n >= 0);
    return slice_of(buf, (size_t)n);
}

static void test_hook(void **state)
{
    char text[1000];
    slice s;

    (void)state;
    assert_int_equal(pipe(pipe_fds), 0);
    check_hook = tell;
    assert_true(dies(check_one, NULL));
    s = heard(text, sizeof(text));
    assert_true(slice_find(s, SL("check failed: 1 + 1 == 3")) > 0);
    assert_true(slice_find(s, SL("test_check.c:")) > 0);
    assert_true(dies(panic_one, text));
    (void)heard(text, sizeof(text));

    /* A hook that fails itself is called once. */
    check_hook = tell_and_fail;
    memcpy(text, "why", 4);
    assert_true(dies(panic_one, text));
    assert_slice(heard(text, sizeof(text)), SL("panic: why and 7"));
    check_hook = NULL;
    close_fd(&pipe_fds[0]);
    close_fd(&pipe_fds[1]);
}

static void test_holds(void **state)
{
    struct thing {
        uint32_t magic;
    } t = { MAGIC('T', 'H', 'N', 'G') };

    (void)state;
    CHECK(t.magic != 0);
    CHECK_OBJ(&t, MAGIC('T', 'H', 'N', 'G'));
    assert_int_equal(memcmp(&t.magic, "THNG", 4), 0);
}

static void alloc_too_much(void *arg)
{
    size_t *n = arg;

    free(xmalloc(*n));
}

static void test_memory(void **state)
{
    char *s CLEANUP(free_ptr) = xasprintf("%s-%d", "a", 5);
    char *d CLEANUP(free_ptr) = xstrndup("abcdef", 3);
    char *e CLEANUP(free_ptr) = xstrdup("xyz");
    unsigned char *z = xcalloc(3, 5);
    size_t huge = SIZE_MAX / 2;
    struct list *t;

    (void)state;
    assert_string_equal(s, "a-5");
    assert_string_equal(d, "abc");
    assert_string_equal(e, "xyz");
    for (size_t i = 0; i < 15; i++)
        assert_int_equal(z[i], 0);
    z = xrealloc(z, 1000);
    z[999] = 1;
    free_ptr(&z);
    assert_null(z);
    t = xmalloc(0);
    assert_non_null(t);
    free(t);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__clang__)
    assert_true(dies(alloc_too_much, &huge));
#else
    (void)huge;
    (void)alloc_too_much;
#endif
}

static void test_close_fd(void **state)
{
    int fd = dup(0);

    (void)state;
    assert_true(fd >= 0);
    errno = EXDEV;
    close_fd(&fd);
    assert_int_equal(fd, -1);
    close_fd(&fd);
    assert_int_equal(errno, EXDEV);
}

static void test_random(void **state)
{
    char a[512] = { 0 };
    char b[512] = { 0 };

    (void)state;
    random_bytes(a, sizeof(a));
    random_bytes(b, sizeof(b));
    random_bytes(b, 0);
    assert_memory_not_equal(a, b, sizeof(a));
    assert_true(random_u64() != random_u64());
}

struct item {
    int n;
    struct list link;
};

static void test_list(void **state)
{
    struct item items[5];
    struct list head;
    int seen = 0;

    (void)state;
    list_init(&head);
    assert_true(list_empty(&head));
    assert_null(list_pop(&head));
    for (int i = 0; i < 4; i++) {
        items[i].n = i;
        list_push(&head, &items[i].link);
    }
    items[4].n = 4;
    list_push_front(&head, &items[4].link);
    list_remove(&items[2].link);
    list_remove(&items[2].link);
    list_each(it, &head) {
        const struct item *i = CONTAINER_OF(it, struct item, link);

        seen = seen * 10 + i->n;
    }
    assert_int_equal(seen, 4013);
    list_each_safe(it, tmp, &head)
        list_remove(it);
    assert_true(list_empty(&head));
    list_push(&head, &items[1].link);
    assert_ptr_equal(list_pop(&head), &items[1].link);
    assert_true(list_empty(&head));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hook),   cmocka_unit_test(test_holds),
        cmocka_unit_test(test_memory), cmocka_unit_test(test_close_fd),
        cmocka_unit_test(test_random), cmocka_unit_test(test_list),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
