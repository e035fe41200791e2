#include "store/test_util.h"

static void test_utf7(void **state)
{
    static const char *const pairs[][2] = {
        { "Work", "Work" },
        { "A&B", "A&-B" },
        { "Entw\xc3\xbcrfe", "Entw&APw-rfe" },
        /* RFC 3501 5.1.3 */
        { "~peter/mail/\xe5\x8f\xb0\xe5\x8c\x97/\xe6\x97\xa5\xe6\x9c\xac\xe8"
          "\xaa\x9e",
          "~peter/mail/&U,BTFw-/&ZeVnLIqe-" },
        { "\xf0\x9f\x98\x80x", "&2D3eAA-x" },
    };
    static const char *const bad[] = { "&",     "&AAA",  "&!-",
                                       "a\xc3", "&2D0-", "&3gA-" };
    struct buf b;

    (void)state;
    buf_init(&b, 1000);
    for (size_t i = 0; i < ARRAY_LEN(pairs); i++) {
        buf_clear(&b);
        assert_true(utf7_encode(&b, slice_str(pairs[i][0])));
        assert_string_equal(buf_cstr(&b), pairs[i][1]);
        buf_clear(&b);
        assert_true(utf7_decode(&b, slice_str(pairs[i][1])));
        assert_string_equal(buf_cstr(&b), pairs[i][0]);
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        buf_clear(&b);
        assert_false(utf7_decode(&b, slice_str(bad[i])));
    }
    buf_clear(&b);
    assert_false(utf7_encode(&b, SL("\xff")));
    assert_false(utf7_encode(&b, SL("\xed\xa0\x80")));
    buf_done(&b);
}

static void test_dirs(void **state)
{
    static const char *const bad[] = { "a/b", "..",   ".",  "a.",
                                       ".a",  "a..b", "\n", "a\x7f" };
    char dir[MAILBOX_DIR_MAX + 1];
    char long_name[400];
    struct buf b;
    struct err err;

    (void)state;
    assert_int_equal(mailbox_dir_of(SL("iNbOx"), dir, &err), 0);
    assert_string_equal(dir, "");
    assert_int_equal(mailbox_dir_of(SL("Work.Hato"), dir, &err), 0);
    assert_string_equal(dir, ".Work.Hato");
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(mailbox_dir_of(slice_str(bad[i]), dir, &err), -1);
    memset(long_name, 'x', sizeof long_name);
    assert_int_equal(
        mailbox_dir_of(slice_of(long_name, sizeof long_name), dir, &err), -1);
    assert_int_equal(mailbox_dir_of(slice_of("a\0b", 3), dir, &err), -1);
    buf_init(&b, 1000);
    assert_true(mailbox_name_of(SL(".Work"), &b));
    assert_string_equal(buf_cstr(&b), "Work");
    assert_false(mailbox_name_of(SL(".."), &b));
    assert_false(mailbox_name_of(SL("cur"), &b));
    buf_done(&b);
}

static void test_files(void **state)
{
    struct name_parts parts = { .usec = 1700000000000042,
                                .crc = 0xdeadbeef,
                                .size = 1234,
                                .crlf_size = 1300,
                                .host = "h.example" };
    struct file_name f;
    char name[300], info[40];

    (void)state;
    memset(parts.id, 0xab, sizeof parts.id);
    base_name_make(name, 256, &parts);
    assert_true(file_name_parse(slice_str(name), &f));
    assert_true(f.has_id && f.has_crc);
    assert_memory_equal(f.id, parts.id, 16);
    assert_int_equal(f.crc, 0xdeadbeef);
    assert_int_equal(f.size, 1234);
    assert_int_equal(f.crlf_size, 1300);
    assert_int_equal(f.sec, 1700000000);
    assert_false(f.has_info || f.odd);
    (void)snprintf(name + strlen(name), 20, ":2,FSa");
    assert_true(file_name_parse(slice_str(name), &f));
    assert_true(f.has_info);
    assert_false(f.odd);
    assert_int_equal(flags_of_letters(f.letters), STORE_FLAGGED | STORE_SEEN);
    assert_int_equal(keywords_of_letters(f.letters), 1);
    assert_int_equal(letters_of(STORE_FLAGGED | STORE_SEEN, 1), f.letters);
    info_put(info, sizeof info, f.letters);
    assert_string_equal(info, ":2,FSa");
    info_put(info, sizeof info, UINT32_MAX);
    assert_string_equal(info, ":2,DFPRSTabcdefghijklmnopqrstuvwxyz");

    assert_true(file_name_parse(SL("x:2,SF"), &f));
    assert_true(f.odd);
    assert_true(file_name_parse(SL("x:1,"), &f));
    assert_true(f.odd);
    assert_true(file_name_parse(SL("1.Mx.h"), &f));
    assert_false(f.has_id);
    assert_false(file_name_parse(SL(".x"), &f));
    assert_false(file_name_parse(SL(":2,S"), &f));
    assert_false(file_name_parse(SLICE_NONE, &f));
}

static void test_idset(void **state)
{
    struct idset s = { 0 };
    uint8_t id[16];

    (void)state;
    bench_id(id, 1);
    assert_int_equal(idset_get(&s, id), 0);
    for (uint32_t i = 1; i <= 5000; i++) {
        bench_id(id, i);
        idset_put(&s, id, i);
        idset_put(&s, id, i);
    }
    assert_int_equal(s.n, 5000);
    for (uint32_t i = 1; i <= 5000; i++) {
        bench_id(id, i);
        assert_int_equal(idset_get(&s, id), i);
    }
    bench_id(id, 5001);
    assert_int_equal(idset_get(&s, id), 0);
    idset_done(&s);
}

static void test_add_record(void **state)
{
    struct row row = { .uid = 9,
                       .flags = 3,
                       .keywords = 1ull << 63,
                       .modseq = 77,
                       .created = 66,
                       .idate = -5,
                       .sdate = 1700000000,
                       .size = 1ull << 40,
                       .crlf_size = 12,
                       .letters = 0x80000001,
                       .state = ROW_IN_NEW,
                       .crc = 5,
                       .cache_version = 2 };
    uint8_t bytes[ADD_FIXED + 8];
    struct add_record a;

    (void)state;
    memset(row.id, 1, 16);
    memset(row.emailid, 2, 16);
    memset(row.threadid, 3, 16);
    add_encode(bytes, &row, 42, 4);
    for (size_t i = 0; i < 8; i++)
        bytes[ADD_FIXED + i] = (uint8_t) "nameAAAA"[i];
    assert_true(add_decode(slice_of(bytes, sizeof bytes), &a));
    assert_int_equal(a.instance, 42);
    assert_true(slice_eqs(a.name, "name"));
    assert_true(slice_eqs(a.strings, "AAAA"));
    assert_int_equal(a.row.cache_off, ADD_FIXED + 4);
    a.row.cache_off = 0;
    a.row.cache_len = 0;
    a.row.name_len = 0;
    assert_memory_equal(&a.row, &row, sizeof row);
    assert_false(add_decode(slice_of(bytes, ADD_FIXED - 1), &a));
    assert_false(add_decode(slice_of(bytes, ADD_FIXED + 3), &a));
    bytes[ADD_FIXED] = '/';
    assert_false(add_decode(slice_of(bytes, sizeof bytes), &a));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_utf7),       cmocka_unit_test(test_dirs),
        cmocka_unit_test(test_files),      cmocka_unit_test(test_idset),
        cmocka_unit_test(test_add_record),
    };

    return cmocka_run_group_tests_name("store-names", tests, NULL, NULL);
}
