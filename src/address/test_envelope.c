#include "address/test_util.h"

/* Senders, recipients, and what they become.
 * covers: canonical_maps canonical_classes sender_canonical_maps
 * sender_canonical_classes recipient_canonical_maps
 * recipient_canonical_classes masquerade_domains masquerade_exceptions
 * masquerade_classes virtual_alias_maps virtual_alias_recursion_limit
 * virtual_alias_expansion_limit virtual_alias_address_length_limit
 * propagate_unmatched_extensions recipient_delimiter always_bcc
 * sender_bcc_maps recipient_bcc_maps receive_override_options
 * enable_original_recipient */

struct envelope_case {
    const char *settings;
    const char *in;
    const char *want; /* addresses with spaces between; "!" fails */
};

static void run_recipients(const struct envelope_case *v, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct address_list l;
        struct setup s;
        struct buf got;
        struct err err = { .class = ERR_NONE };

        setup_init(&s, v[i].settings);
        buf_init(&got, 4096);
        address_list_init(&l, s.b.arena);
        if (address_add_recipient(s.address, &l, slice_str(v[i].in), SLICE_NONE,
                                  0, &err) < 0) {
            assert_int_equal(err.class, ERR_TEMP);
            buf_puts(&got, "!");
        }
        for (size_t k = 0; err.class == ERR_NONE && k < l.n; k++) {
            buf_printf(&got, "%s%.*s", k > 0 ? " " : "", SLF(l.v[k].addr));
        }
        assert_answer(buf_cstr(&got), v[i].want, v[i].in);
        buf_done(&got);
        setup_done(&s);
    }
}

static void test_virtual(void **state)
{
    static const struct envelope_case cases[] = {
        { "", "joe", "joe@example.com" },
        { "", "joe@x.org", "joe@x.org" },
        { "virtual_alias_maps = inline:{joe@example.com=ann}\n", "joe",
          "ann@example.com" },
        { "virtual_alias_maps = inline:{joe=ann}\n", "joe@example.com",
          "ann@example.com" },
        { "virtual_alias_maps = inline:{ {a@x.org = b@x.org, c@x.org} "
          "b@x.org=d@y.org}\n",
          "a@x.org", "d@y.org c@x.org" },
        { "virtual_alias_maps = inline:{ {a@x.org = a@x.org, b@x.org} }\n",
          "a@x.org", "a@x.org b@x.org" },
        { "virtual_alias_maps = inline:{@x.org=@y.org}\n", "a@x.org",
          "a@y.org" },
        { "virtual_alias_maps = inline:{@x.org=@y.org}\n"
          "recipient_delimiter = +\n",
          "a+b@x.org", "a+b@y.org" },
        { "virtual_alias_maps = inline:{a@x.org=b@y.org}\n"
          "recipient_delimiter = +\n",
          "a+ext@x.org", "b+ext@y.org" },
        { "virtual_alias_maps = inline:{a@x.org=b@y.org}\n"
          "propagate_unmatched_extensions = canonical\n"
          "recipient_delimiter = +\n",
          "a+ext@x.org", "b@y.org" },
        { "virtual_alias_maps = inline:{ {a@x.org = b@y.org, b@y.org} }\n",
          "a@x.org", "b@y.org" },
        { "virtual_alias_maps = inline:{a@x.org=b@x.org, b@x.org=a@x.org}\n",
          "a@x.org", "!" },
        { "virtual_alias_maps = inline:{a@x.org=b@x.org,b@x.org=c@x.org,"
          "c@x.org=d@x.org}\nvirtual_alias_recursion_limit = 2\n",
          "a@x.org", "!" },
        { "virtual_alias_maps = inline:{ {a@x.org = b@x.org, c@x.org, d@x.org"
          "} }\nvirtual_alias_expansion_limit = 2\n",
          "a@x.org", "!" },
        { "virtual_alias_maps = inline:{a@x.org=a-very-long-one@x.org}\n"
          "virtual_alias_address_length_limit = 10\n",
          "a@x.org", "!" },
        { "virtual_alias_maps = inline:{a@x.org=b@y.org}\n"
          "receive_override_options = no_address_mappings\n",
          "a@x.org", "a@x.org" },
        { "virtual_alias_maps = fail:x\n", "a@x.org", "!" },
        { "virtual_alias_maps = inline:{ {a@x.org = \"j d\"@x.org} }\n",
          "a@x.org", "j d@x.org" },
    };

    (void)state;
    run_recipients(cases, ARRAY_LEN(cases));
}

static void test_canonical(void **state)
{
    static const struct envelope_case cases[] = {
        { "canonical_maps = inline:{joe=Joe.Doe}\n", "joe@example.com",
          "Joe.Doe@example.com" },
        { "recipient_canonical_maps = inline:{joe=first}\n"
          "canonical_maps = inline:{first=second}\n",
          "joe", "second@example.com" },
        { "sender_canonical_maps = inline:{joe=first}\n", "joe",
          "joe@example.com" },
        { "canonical_maps = inline:{joe=x}\n"
          "canonical_classes = envelope_sender\n",
          "joe", "joe@example.com" },
        { "recipient_canonical_maps = inline:{joe=x}\n"
          "recipient_canonical_classes = header_recipient\n",
          "joe", "joe@example.com" },
        { "canonical_maps = inline:{a@x.org=b@x.org,b@x.org=a@x.org}\n",
          "a@x.org", "!" },
        { "masquerade_domains = example.com\n"
          "masquerade_classes = envelope_recipient\n",
          "joe@h.example.com", "joe@example.com" },
        { "masquerade_domains = !h.example.com example.com\n"
          "masquerade_classes = envelope_recipient\n",
          "joe@a.h.example.com", "joe@a.h.example.com" },
        { "masquerade_domains = example.com\nmasquerade_exceptions = root\n"
          "masquerade_classes = envelope_recipient\n",
          "root@h.example.com", "root@h.example.com" },
        { "masquerade_domains = example.com\n", "joe@h.example.com",
          "joe@h.example.com" },
        { "recipient_bcc_maps = inline:{joe@example.com=archive}\n", "joe",
          "joe@example.com archive@example.com" },
        { "recipient_bcc_maps = fail:x\n", "joe", "!" },
    };

    (void)state;
    run_recipients(cases, ARRAY_LEN(cases));
}

static void test_sender(void **state)
{
    static const struct envelope_case cases[] = {
        { "", "", "" },
        { "", "joe", "joe@example.com" },
        { "", "MAILER-DAEMON", "" },
        { "sender_canonical_maps = inline:{joe=first}\n"
          "canonical_maps = inline:{first=second}\n",
          "joe", "second@example.com" },
        { "sender_canonical_maps = inline:{joe=first}\n"
          "sender_canonical_classes = header_sender\n",
          "joe", "joe@example.com" },
        { "recipient_canonical_maps = inline:{joe=first}\n", "joe",
          "joe@example.com" },
        { "masquerade_domains = example.com\n", "joe@h.example.com",
          "joe@example.com" },
        { "canonical_maps = fail:x\n", "", "" },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct setup s;
        struct err err;
        slice out;

        setup_init(&s, cases[i].settings);
        assert_int_equal(address_sender(s.address, slice_str(cases[i].in),
                                        s.b.arena, &out, &err),
                         0);
        assert_slice(out, slice_str(cases[i].want));
        setup_done(&s);
    }
}

static void test_bcc(void **state)
{
    struct address_list l;
    struct setup s;
    struct err err;

    (void)state;
    setup_init(&s, "always_bcc = all\n"
                   "sender_bcc_maps = inline:{ann@x.org=from}\n"
                   "virtual_alias_maps = inline:{from=archive@y.org}\n");
    address_list_init(&l, s.b.arena);
    for (int i = 0; i < 3; i++) /* the same one again is dropped */
        assert_int_equal(address_add_recipient(s.address, &l, SL("joe"),
                                               SL("rfc822;j"), 4, &err),
                         0);
    assert_int_equal(address_add_bcc(s.address, &l, SL("ann@x.org"), &err), 0);
    assert_int_equal(l.n, 3);
    assert_slice(l.v[0].addr, SL("joe@example.com"));
    assert_slice(l.v[0].orig, SL("joe"));
    assert_slice(l.v[0].orcpt, SL("rfc822;j"));
    assert_int_equal(l.v[0].notify, 4);
    assert_slice(l.v[1].addr, SL("all@example.com"));
    assert_true(l.v[1].is_bcc);
    assert_slice(l.v[2].addr, SL("archive@y.org"));
    assert_int_equal(l.v[2].notify, 1);
    setup_done(&s);
}

/* Two that become one address are two unless the originals do not count. */
static void test_original(void **state)
{
    static const char *const settings[] = {
        "enable_original_recipient = yes\n", "enable_original_recipient = no\n"
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(settings); i++) {
        struct address_list l;
        struct setup s;
        struct err err;
        char text[200];

        (void)snprintf(text, sizeof(text),
                       "%svirtual_alias_maps = "
                       "inline:{a@x.org=c@y.org, b@x.org=c@y.org}\n",
                       settings[i]);
        setup_init(&s, text);
        address_list_init(&l, s.b.arena);
        assert_int_equal(address_add_recipient(s.address, &l, SL("a@x.org"),
                                               SLICE_NONE, 0, &err),
                         0);
        assert_int_equal(address_add_recipient(s.address, &l, SL("b@x.org"),
                                               SLICE_NONE, 0, &err),
                         0);
        assert_int_equal(l.n, i == 0 ? 2 : 1);
        assert_slice(l.v[0].orig, i == 0 ? SL("a@x.org") : SL("c@y.org"));
        setup_done(&s);
    }
}

/* Many recipients at once stay quick and unique. */
static void test_many(void **state)
{
    struct address_list l;
    struct setup s;
    struct err err;

    (void)state;
    setup_init(&s, "");
    address_list_init(&l, s.b.arena);
    for (int i = 0; i < 4000; i++) {
        char *rcpt = arena_printf(s.b.arena, "u%d@x.org", i % 2000);

        assert_int_equal(address_add_recipient(s.address, &l, slice_str(rcpt),
                                               SLICE_NONE, 0, &err),
                         0);
    }
    assert_int_equal(l.n, 2000);
    setup_done(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_virtual), cmocka_unit_test(test_canonical),
        cmocka_unit_test(test_sender),  cmocka_unit_test(test_bcc),
        cmocka_unit_test(test_many),    cmocka_unit_test(test_original),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
