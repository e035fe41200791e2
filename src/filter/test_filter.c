/* covers: header_checks mime_header_checks nested_header_checks body_checks
 * body_checks_size_limit mime_nesting_limit mime_boundary_length_limit
 * disable_mime_input_processing header_size_limit */
#include "base/test_util.h"
#include "filter/filter.h"

struct run {
    struct conf *conf;
    struct tables *tables;
    struct filter *filter;
    struct arena *arena;
    struct filter_message *m;
    struct filter_context context;
    struct buf out;
};

static void start(struct run *r, const char *main_cf)
{
    struct err err;

    memset(r, 0, sizeof *r);
    r->conf = conf_from_text(slice_str(main_cf), SLICE_NONE, NULL);
    r->tables = tables_new();
    tables_set_direct(r->tables, NULL);
    r->arena = arena_new(1u << 20);
    buf_init(&r->out, 4u << 20);
    r->context.queue_id = "NOQUEUE";
    if (filter_new(r->conf, NULL, r->tables, &r->filter, &err) < 0)
        fail_msg("%s", err.log);
    r->m = filter_begin(r->filter, &r->context, r->arena);
}

static void done(struct run *r)
{
    filter_end(&r->m);
    filter_free(&r->filter);
    tables_free(&r->tables);
    conf_unref(&r->conf);
    arena_free(&r->arena);
    buf_done(&r->out);
}

static void feed(struct run *r, const char *text, size_t step)
{
    slice in = slice_str(text);
    struct err err;

    while (in.n > 0) {
        slice piece = slice_sub(in, 0, step);

        assert_int_equal(filter_feed(r->m, piece, &r->out, &err), 0);
        in = slice_from(in, piece.n);
    }
    assert_int_equal(filter_finish(r->m, &r->out, &err), 0);
}

#define MESSAGE                                                                \
 "Subject: buy\n now\n"                                                        \
 "Content-Type: multipart/mixed; boundary=b\n"                                 \
 "X-Drop: me\n"                                                                \
 "\n"                                                                          \
 "--b\n"                                                                       \
 "Content-Type: text/plain; name=x.exe\n"                                      \
 "\n"                                                                          \
 "bad words\n"                                                                 \
 "--b\n"                                                                       \
 "Content-Type: message/rfc822\n"                                              \
 "\n"                                                                          \
 "X-Inner: deep\n"                                                             \
 "\n"                                                                          \
 "inner text\n"                                                                \
 "--b--\n"

static void test_bytes_stay(void **state)
{
    (void)state;
    for (size_t step = 1; step < 50; step += 7) {
        struct run r;

        start(&r, "header_checks = inline:{none=REJECT}\n"
                  "body_checks = inline:{none=REJECT}\n");
        assert_false(filter_is_idle(r.filter));
        feed(&r, MESSAGE, step);
        assert_slice(buf_view(&r.out), slice_str(MESSAGE));
        assert_false(filter_result(r.m)->reject);
        done(&r);
    }
}

static void test_idle(void **state)
{
    struct run r;

    (void)state;
    start(&r, "");
    assert_true(filter_is_idle(r.filter));
    done(&r);
}

static const char *write_table(const char *text)
{
    static char path[64];
    int fd;

    (void)snprintf(path, sizeof path, "/tmp/hato-filter-XXXXXX");
    fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
    return path;
}

static void with_table(struct run *r, const char *param, const char *text)
{
    const char *path = write_table(text);
    char *cf = xasprintf("%s = regexp:%s\n", param, path);

    start(r, cf);
    feed(r, MESSAGE, 9);
    unlink(path);
    free(cf);
}

static void test_folded_header_is_one(void **state)
{
    struct run r;

    (void)state;
    with_table(&r, "header_checks", "/^Subject: buy.*now/ REJECT 5.7.9 spam\n");
    assert_true(filter_result(r.m)->reject);
    assert_slice(filter_result(r.m)->status, slice_str("5.7.9"));
    assert_slice(filter_result(r.m)->text, slice_str("spam"));
    done(&r);
}

static void test_ignore_prepend_replace(void **state)
{
    struct run r;

    (void)state;
    with_table(&r, "header_checks",
               "/^X-Drop/ IGNORE\n/^Subject/ PREPEND X-New: yes\n"
               "/^X-Inner/ REPLACE X-Outer: shallow\n");
    assert_true(slice_find(buf_view(&r.out), SL("X-Drop")) < 0);
    assert_int_equal(slice_find(buf_view(&r.out), SL("X-New: yes\nSubject")),
                     0);
    assert_true(slice_find(buf_view(&r.out), SL("\nX-Outer: shallow\n")) > 0);
    done(&r);
}

static void test_classes(void **state)
{
    struct run r;

    (void)state;
    with_table(&r, "mime_header_checks", "/name=x.exe/ REJECT\n");
    assert_true(filter_result(r.m)->reject);
    assert_slice(filter_result(r.m)->text,
                 slice_str("message content rejected"));
    done(&r);
    with_table(&r, "nested_header_checks", "/^X-Inner/ DISCARD\n");
    assert_true(filter_result(r.m)->discard);
    done(&r);
    with_table(&r, "nested_header_checks", "/^X-Drop/ DISCARD\n");
    assert_false(filter_result(r.m)->discard);
    done(&r);
    with_table(&r, "body_checks", "/^bad words$/ HOLD\n/^inner/ BCC a@b\n");
    assert_true(filter_result(r.m)->hold);
    assert_int_equal(filter_result(r.m)->n_bcc, 1);
    done(&r);
}

static void test_body_limit(void **state)
{
    struct run r;
    const char *path = write_table("/late/ REJECT\n");
    char *cf = xasprintf("body_checks = regexp:%s\n"
                         "body_checks_size_limit = 20\n",
                         path);

    (void)state;
    start(&r, cf);
    feed(&r, "A: b\n\n0123456789012345678901234\nlate\n", 5);
    assert_false(filter_result(r.m)->reject);
    done(&r);
    unlink(path);
    free(cf);
}

static void with_settings(struct run *r, const char *settings, const char *text)
{
    const char *path = write_table("/^X-Part: bad/ REJECT\n/^Content-/ HOLD\n"
                                   "/fold [0-9]+[[:space:]]*last/ DISCARD\n");
    char *cf = xasprintf("mime_header_checks = regexp:%s\n"
                         "header_checks = regexp:%s\n%s",
                         path, path, settings);

    start(r, cf);
    feed(r, text, 11);
    unlink(path);
    free(cf);
}

static void test_limits(void **state)
{
    static const char one[] = "Content-Type: multipart/mixed; boundary=abcd\n\n"
                              "--abXX\nX-Part: bad\n\n--abcd--\n";
    static const char two[] = "Content-Type: multipart/mixed; boundary=a\n\n"
                              "--a\nContent-Type: multipart/x; boundary=b\n\n"
                              "--b\nX-Part: bad\n\n--b--\n--a--\n";
    struct run r;

    (void)state;
    with_settings(&r, "", one);
    assert_false(filter_result(r.m)->reject);
    assert_true(filter_result(r.m)->hold);
    done(&r);
    with_settings(&r, "mime_boundary_length_limit = 2\n", one);
    assert_true(filter_result(r.m)->reject);
    done(&r);
    with_settings(&r, "", two);
    assert_true(filter_result(r.m)->reject);
    done(&r);
    with_settings(&r, "mime_nesting_limit = 1\n", two);
    assert_false(filter_result(r.m)->reject);
    done(&r);
    with_settings(&r, "disable_mime_input_processing = yes\n", two);
    assert_false(filter_result(r.m)->reject);
    done(&r);
    with_settings(&r, "", "Subject: fold 1\n  last\n\n");
    assert_true(filter_result(r.m)->discard);
    done(&r);
    with_settings(&r, "header_size_limit = 10\n",
                  "Subject: fold 1\n  last\n\n");
    assert_false(filter_result(r.m)->discard);
    done(&r);
}

static void test_long_line(void **state)
{
    struct run r;
    size_t n = 200000;
    char *text = xmalloc(n + 32);

    (void)state;
    memset(text, 'x', n);
    memcpy(text, "A: b\n\n", 6);
    memcpy(text + n, "\nend\n", 6);
    start(&r, "body_checks = inline:{none=REJECT}\n");
    feed(&r, text, 4096);
    assert_slice(buf_view(&r.out), slice_str(text));
    done(&r);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes_stay),
        cmocka_unit_test(test_idle),
        cmocka_unit_test(test_folded_header_is_one),
        cmocka_unit_test(test_ignore_prepend_replace),
        cmocka_unit_test(test_classes),
        cmocka_unit_test(test_body_limit),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_long_line),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
