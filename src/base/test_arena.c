#include "base/test_util.h"

static char order[8];
static size_t n_order;

static void note(void *p)
{
    order[n_order++] = *(const char *)p;
}

static void test_cap(void **state)
{
    struct arena *a = arena_new(100);

    (void)state;
    assert_int_equal(arena_cap(a), 100);
    assert_int_equal(arena_used(a), 0);
    assert_non_null(arena_alloc(a, 1));
    assert_int_equal(arena_used(a), 16);
    assert_non_null(arena_alloc(a, 80));
    assert_null(arena_alloc(a, 1));
    assert_null(arena_alloc(a, SIZE_MAX));
    assert_null(arena_alloc(a, SIZE_MAX - 20));
    arena_reset(a);
    assert_int_equal(arena_used(a), 0);
    assert_non_null(arena_alloc(a, 96));
    arena_free(&a);
    assert_null(a);
    arena_free(&a);
}

/* Every allocation is aligned, zeroed and apart from all others. */
static void test_apart(void **state)
{
    struct arena *a = arena_new((size_t)16 << 20);
    static char *p[600];

    (void)state;
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < ARRAY_LEN(p); i++) {
            size_t n = i * 7 % 500 + (i % 50 == 0 ? 40000 : 0);

            p[i] = arena_alloc(a, n);
            assert_non_null(p[i]);
            assert_int_equal((uintptr_t)p[i] % 16, 0);
            for (size_t j = 0; j < n; j++)
                assert_int_equal(p[i][j], 0);
            memset(p[i], (int)(i % 255 + 1), n);
        }
        for (size_t i = 0; i < ARRAY_LEN(p); i++) {
            size_t n = i * 7 % 500 + (i % 50 == 0 ? 40000 : 0);

            for (size_t j = 0; j < n; j++)
                assert_int_equal((unsigned char)p[i][j], i % 255 + 1);
        }
        arena_reset(a);
    }
    arena_free(&a);
}

static void test_defer(void **state)
{
    struct arena *a = arena_new(1000);
    char x = 'x';
    char y = 'y';
    char z = 'z';

    (void)state;
    arena_defer(a, note, &x);
    arena_defer(a, note, &y);
    arena_reset(a);
    arena_defer(a, note, &z);
    arena_free(&a);
    assert_int_equal(n_order, 3);
    assert_memory_equal(order, "yxz", 3);
}

static void test_printf(void **state)
{
    struct arena *a = arena_new(64);

    (void)state;
    assert_string_equal(arena_printf(a, "%s-%d", "a", 7), "a-7");
    assert_null(arena_printf(a, "%100d", 7));
    arena_free(&a);
}

static void overdraw(void *arg)
{
    (void)xarena_alloc(arg, 1000);
}

static void use_freed(void *arg)
{
    (void)arg;
    arena_reset(NULL);
}

static void test_death(void **state)
{
    struct arena *a = arena_new(64);

    (void)state;
    assert_true(dies(overdraw, a));
    assert_true(dies(use_freed, NULL));
    arena_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cap),   cmocka_unit_test(test_apart),
        cmocka_unit_test(test_defer), cmocka_unit_test(test_printf),
        cmocka_unit_test(test_death),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
