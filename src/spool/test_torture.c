/*
 * Cut the spool's files at every byte and start on what is left.  A message
 * whose end was not yet journaled must be there, whole; nothing that starts is
 * allowed to fail.
 */
#include "spool/test_util_spool.h"

#define N_MAILS 4

/* What happened before the cut. */
static uint64_t seqs[N_MAILS];

static void make_history(struct spool *s)
{
    struct spool_expansion v[2] = { { .addr = SL("x@example.org") },
                                    { .addr = SL("y@example.org") } };
    struct spool_deferral why = { 1, SL("4.0.0"), SL("later") };
    uint32_t first;
    struct err err;

    for (int i = 0; i < N_MAILS; i++) {
        seqs[i] = put_mail(spool_own_writer(s), 2, (char)('a' + i), 50);
        assert_int_equal(spool_sync(s, &err), 0);
    }
    (void)spool_settle(s, spool_find(s, seqs[0]), 0, OUT_SENT);
    assert_int_equal(
        spool_expand(s, spool_find(s, seqs[1]), 0, v, 2, &first, &err), 0);
    spool_defer(s, spool_find(s, seqs[1]), 1000, 1, &why, 1);
    assert_int_equal(spool_sync(s, &err), 0);
    (void)spool_settle(s, spool_find(s, seqs[2]), 0, OUT_SENT);
    (void)spool_settle(s, spool_find(s, seqs[2]), 1, OUT_SENT);
    assert_int_equal(spool_sync(s, &err), 0);
    spool_hold(s, spool_find(s, seqs[3]), true);
    assert_int_equal(spool_sync(s, &err), 0);
}

/* After a cut anywhere in the journal: an expansion is whole or not there. */
static void check_expansion(struct spool *s)
{
    struct spool_message *m = spool_find(s, seqs[1]);

    if (spool_message_is_pending(m, 0))
        assert_int_equal(spool_message_rcpts(m), 2);
    else
        assert_int_equal(spool_message_rcpts(m), 4);
    assert_int_equal(spool_message_pending(m),
                     spool_message_rcpts(m) == 2 ? 2 : 3);
}

static void check_all(const char *dir)
{
    struct watch_queue q = { 0 };
    struct spool *s = open_spool(dir, &q);

    for (int i = 0; i < N_MAILS; i++) {
        if (i == 2 && spool_find(s, seqs[i]) == NULL)
            continue; /* its end is in the journal */
        check_body(s, seqs[i], (char)('a' + i), 50);
    }
    check_expansion(s);
    /* New mail gets new numbers. */
    assert_true(put_mail(spool_own_writer(s), 1, 'n', 10) > seqs[N_MAILS - 1]);
    spool_close(&s);
}

static void cut(const char *dir, const char *name, uint64_t at, bool zeroes)
{
    char *path CLEANUP(free_ptr) = xasprintf("%s/%s", dir, name);
    struct stat st;
    int fd = open(path, O_RDWR | O_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(ftruncate(fd, (off_t)at), 0);
    if (zeroes)
        assert_int_equal(ftruncate(fd, st.st_size), 0);
    (void)close(fd);
}

/* Bytes of the file up to the last one that is not zero, below `limit`. */
static uint64_t used_below(const char *dir, const char *name, uint64_t limit)
{
    char *path CLEANUP(free_ptr) = xasprintf("%s/%s", dir, name);
    struct buf b;
    struct err err;
    uint64_t n;

    buf_init(&b, 1u << 30);
    assert_int_equal(file_read(AT_FDCWD, path, &b, &err), 0);
    n = limit < b.n ? limit : b.n;
    while (n > 0 && b.p[n - 1] == 0)
        n--;
    buf_done(&b);
    return n;
}

static uint64_t used_bytes(const char *dir, const char *name)
{
    return used_below(dir, name, UINT64_MAX);
}

static void journal_task(void *arg)
{
    char *copy CLEANUP(free_ptr) = xasprintf("%s-cut", test_dir);
    char *image CLEANUP(free_ptr) = xasprintf("%s-image", test_dir);
    struct watch_queue q = { 0 };
    struct spool *s = open_spool(test_dir, &q);
    uint64_t end;

    (void)arg;
    make_history(s);
    copy_dir(test_dir, image, 0);
    spool_close(&s);
    end = used_bytes(image, "journal-00000001");
    for (uint64_t at = 0; at <= end; at++) {
        copy_dir(image, copy, 0);
        cut(copy, "journal-00000001", at, at % 2 == 0);
        check_all(copy);
        remove_dir(copy, 0);
        task_yield();
    }
    remove_dir(image, 0);
}

/* The journal knows of nothing (no note got that far): of the segment what was
 * written whole is found. */
static void segment_task(void *arg)
{
    char *copy CLEANUP(free_ptr) = xasprintf("%s-cut", test_dir);
    char *image CLEANUP(free_ptr) = xasprintf("%s-image", test_dir);
    struct watch_queue q = { 0 };
    struct spool *s = open_spool(test_dir, &q);
    char name[SEG_NAME_SIZE];
    uint64_t ends[N_MAILS + 1] = { SEG_FIRST };
    uint64_t solid[N_MAILS + 1]; /* zeroes behind make the record whole */

    (void)arg;
    copy_dir(test_dir, image, 0);
    for (int i = 0; i < N_MAILS; i++) {
        seqs[i] = put_mail(spool_own_writer(s), 1, (char)('a' + i), 50);
        ends[i + 1] = segment_get(s, seqs[0] / SEG_PLACES)->known_end;
    }
    seg_name(name, SEGMENT_PLAIN, seqs[0] / SEG_PLACES);
    {
        char *from CLEANUP(free_ptr) = xasprintf("%s/%s", test_dir, name);
        char *to CLEANUP(free_ptr) = xasprintf("%s/%s", image, name);

        copy_file(from, to);
    }
    spool_close(&s);
    for (int i = 1; i <= N_MAILS; i++)
        solid[i] = used_below(image, name, ends[i]);
    for (uint64_t at = 0; at <= ends[N_MAILS] + 8; at++) {
        const uint64_t *needs = at % 2 == 0 ? solid : ends;
        unsigned whole = 0;

        while (whole < N_MAILS && needs[whole + 1] <= at)
            whole++;
        copy_dir(image, copy, 0);
        cut(copy, name, at, at % 2 == 0);
        q = (struct watch_queue){ 0 };
        s = open_spool(copy, &q);
        assert_int_equal(q.n_messages, whole);
        for (unsigned i = 0; i < whole; i++)
            check_body(s, seqs[i], (char)('a' + i), 50);
        spool_close(&s);
        remove_dir(copy, 0);
        task_yield();
    }
    remove_dir(image, 0);
}

/* An own file, cut or changed anywhere, is no message, or it is whole. */
static void own_file_task(void *arg)
{
    char *copy CLEANUP(free_ptr) = xasprintf("%s-cut", test_dir);
    char *image CLEANUP(free_ptr) = xasprintf("%s-image", test_dir);
    struct watch_queue q = { 0 };
    struct spool *s = open_spool(test_dir, &q);
    char name[SEG_NAME_SIZE];
    size_t size = SPOOL_DRAFT_MEMORY + 1000;
    uint64_t seq;
    uint64_t end;

    (void)arg;
    seq = put_mail(spool_own_writer(s), 1, 'o', size);
    assert_true(s->batch.n > 0); /* its note is not in the journal */
    copy_dir(test_dir, image, 0);
    spool_close(&s);
    seg_name(name, SEGMENT_OWN, seq / SEG_PLACES);
    end = used_bytes(image, name);
    for (uint64_t at = 0; at <= end + 4;
         at += at < 200 || at > end - 400 ? 1 : 9973) {
        /* The trailer ends with zeroes: zeroes behind the cut make it whole. */
        bool is_whole = at >= end && at % 2 == 0;

        copy_dir(image, copy, 0);
        cut(copy, name, at, at % 2 == 0);
        q = (struct watch_queue){ 0 };
        s = open_spool(copy, &q);
        if (at < end || is_whole)
            assert_int_equal(q.n_messages, is_whole);
        if (q.n_messages == 1)
            check_body(s, seq, 'o', size);
        spool_close(&s);
        remove_dir(copy, 0);
        task_yield();
    }
    remove_dir(image, 0);
}

SPOOL_TEST(journal)
SPOOL_TEST(segment)
SPOOL_TEST(own_file)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_journal),
        cmocka_unit_test(test_segment),
        cmocka_unit_test(test_own_file),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
