#include "base/test_util.h"

#include "base/heap.h"
#include "base/map.h"

#define N 20000

struct entry {
    struct map_node node;
    struct imap_node inode;
    char name[16];
    bool is_in;
    unsigned seen;
};

static struct entry *entries_new(void)
{
    struct entry *v = xcalloc(N, sizeof(*v));

    for (size_t i = 0; i < N; i++)
        (void)snprintf(v[i].name, sizeof(v[i].name), "User%zu", i);
    return v;
}

/* Insert and delete at random; the map always agrees with a plain array. */
static void test_map_random(void **state)
{
    struct entry *v CLEANUP(free_ptr) = entries_new();
    struct map m;
    size_t n = 0;

    (void)state;
    map_init(&m, true);
    for (size_t step = 0; step < 5 * N; step++) {
        struct entry *e = &v[random_u64() % N];
        char name[16];
        struct map_node *got;

        for (size_t i = 0; i < sizeof(name); i++)
            name[i] = ascii_upper(e->name[i]);
        got = map_get(&m, slice_str(name));
        assert_ptr_equal(got, e->is_in ? &e->node : NULL);
        /* Grows in the first half, shrinks in the second. */
        if (!e->is_in && step < 3 * N) {
            map_put(&m, &e->node, slice_str(e->name));
            e->is_in = true;
            n++;
        } else if (e->is_in && (step >= 3 * N || step % 3 == 0)) {
            map_del(&m, &e->node);
            e->is_in = false;
            n--;
        }
        assert_int_equal(m.n, n);
    }
    for (size_t i = 0; i < N; i++)
        assert_ptr_equal(map_get(&m, slice_str(v[i].name)),
                         v[i].is_in ? &v[i].node : NULL);
    map_done(&m);
}

static void test_case(void **state)
{
    struct map m;
    struct map_node a;
    struct map_node b;

    (void)state;
    map_init(&m, false);
    assert_null(map_get(&m, SL("x")));
    map_put(&m, &a, SL("x"));
    map_put(&m, &b, SL("X"));
    assert_ptr_equal(map_get(&m, SL("x")), &a);
    assert_ptr_equal(map_get(&m, SL("X")), &b);
    map_done(&m);
}

static void put_twice(void *arg)
{
    struct map_node a;

    map_put(arg, &a, SL("x"));
}

static void test_twice_dies(void **state)
{
    struct map m;
    struct map_node a;

    (void)state;
    map_init(&m, true);
    map_put(&m, &a, SL("X"));
    assert_true(dies(put_twice, &m));
    map_done(&m);
}

/* A walk sees each entry once, also when it frees what it got and when it
 * begins while the table is being moved. */
static void test_walk(void **state)
{
    struct map m;

    (void)state;
    for (size_t n = 0; n < 200; n++) {
        struct map_node *e;
        size_t pos = 0;
        size_t count = 0;
        size_t kept = 0;

        map_init(&m, false);
        for (size_t i = 0; i < n; i++) {
            struct entry *new = xcalloc(1, sizeof(*new));

            (void)snprintf(new->name, sizeof(new->name), "%zu", i);
            map_put(&m, &new->node, slice_str(new->name));
        }
        for (e = map_next(&m, &pos, NULL); e != NULL;
             e = map_next(&m, &pos, e)) {
            struct entry *en = CONTAINER_OF(e, struct entry, node);

            assert_int_equal(en->seen++, 0);
            count++;
            if (count % 3 == 0) {
                kept++;
                continue;
            }
            map_del(&m, e);
            free(en);
        }
        assert_int_equal(count, n);
        assert_int_equal(m.n, kept);
        pos = 0;
        while ((e = map_next(&m, &pos, NULL)) != NULL) {
            map_del(&m, e);
            free(CONTAINER_OF(e, struct entry, node));
            pos = 0;
        }
        assert_int_equal(m.n, 0);
        map_done(&m);
    }
}

static void test_imap(void **state)
{
    struct entry *v CLEANUP(free_ptr) = entries_new();
    struct imap m;
    struct imap_node *e;
    size_t pos = 0;
    size_t count = 0;

    (void)state;
    imap_init(&m);
    assert_null(imap_get(&m, 0));
    assert_null(imap_next(&m, &pos, NULL));
    for (size_t i = 0; i < N; i++)
        imap_put(&m, &v[i].inode, (uint64_t)i << 20);
    for (size_t i = 0; i < N; i++) {
        assert_ptr_equal(imap_get(&m, (uint64_t)i << 20), &v[i].inode);
        assert_null(imap_get(&m, ((uint64_t)i << 20) + 1));
    }
    for (size_t i = 0; i < N; i += 2)
        imap_del(&m, &v[i].inode);
    pos = 0;
    for (e = imap_next(&m, &pos, NULL); e != NULL; e = imap_next(&m, &pos, e)) {
        assert_int_equal(e->key >> 20 & 1, 1);
        count++;
    }
    assert_int_equal(count, N / 2);
    imap_done(&m);
}

static void heap_agrees(const struct heap *h)
{
    for (size_t i = 0; i < h->n; i++) {
        assert_int_equal(h->v[i]->at, i + 1);
        if (i > 0)
            assert_true(h->v[(i - 1) / 2]->key <= h->v[i]->key);
    }
}

static void test_heap(void **state)
{
    struct heap h;
    static struct heap_node v[200];
    int64_t last = INT64_MIN;

    (void)state;
    heap_init(&h);
    assert_null(heap_top(&h));
    for (int step = 0; step < 20000; step++) {
        struct heap_node *e = &v[random_u64() % ARRAY_LEN(v)];
        int64_t key = (int64_t)(random_u64() % 1000) - 500;

        switch (random_u64() % 3) {
        case 0:
            heap_del(&h, e);
            assert_int_equal(e->at, 0);
            break;
        case 1:
            heap_move(&h, e, key);
            assert_int_equal(e->key, key);
            break;
        default:
            if (e->at == 0)
                heap_put(&h, e, key);
        }
        if (step % 100 == 0)
            heap_agrees(&h);
    }
    heap_agrees(&h);
    while (h.n > 1) {
        struct heap_node *e = heap_top(&h);

        assert_true(e->key >= last);
        last = e->key;
        heap_del(&h, e);
    }
    heap_done(&h);
    for (size_t i = 0; i < ARRAY_LEN(v); i++)
        assert_int_equal(v[i].at, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_map_random), cmocka_unit_test(test_case),
        cmocka_unit_test(test_twice_dies), cmocka_unit_test(test_walk),
        cmocka_unit_test(test_imap),       cmocka_unit_test(test_heap),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
