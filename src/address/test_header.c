#include "address/test_util.h"

/* Addresses in headers.
 * covers: local_header_rewrite_clients remote_header_rewrite_domain
 * masquerade_classes sender_canonical_classes canonical_classes */

struct header_case {
    const char *settings;
    enum address_context context;
    const char *in;
    const char *want;
};

static const struct header_case cases[] = {
    { "", ADDRESS_LOCAL, "From: joe\n\nbody\n",
      "From: joe@example.com\n\nbody\n" },
    { "", ADDRESS_REMOTE, "From: joe\n\n", "From: joe\n\n" },
    { "remote_header_rewrite_domain = domain.invalid\n", ADDRESS_REMOTE,
      "From: joe\nTo: a, b@x.org\n",
      "From: joe@domain.invalid\nTo: "
      "a@domain.invalid, b@x.org\n" },
    { "", ADDRESS_LOCAL, "To: \"A, B\" <joe>, (c, d) ann (Ann),\n\t<x@y.org>\n",
      "To: \"A, B\" <joe@example.com>, (c, d) ann@example.com (Ann),\n"
      "\t<x@y.org>\n" },
    { "", ADDRESS_LOCAL, "Cc: Group: a, b@x.org;, \"j d\"\n",
      "Cc: Group: a@example.com, b@x.org;, \"j d\"@example.com\n" },
    { "", ADDRESS_LOCAL, "Subject: joe\nX-To: ann\n",
      "Subject: joe\nX-To: ann\n" },
    { "", ADDRESS_LOCAL, "To: <>, undisclosed-recipients:;\n",
      "To: <>, undisclosed-recipients:;\n" },
    { "", ADDRESS_LOCAL, "To: some words without address\n",
      "To: some words without address\n" },
    { "sender_canonical_maps = inline:{joe=Joe.Doe@x.org}\n", ADDRESS_LOCAL,
      "From: J <joe>\nTo: joe\n",
      "From: J <Joe.Doe@x.org>\nTo: "
      "joe@example.com\n" },
    { "sender_canonical_maps = inline:{joe=Joe.Doe@x.org}\n"
      "sender_canonical_classes = envelope_sender\n",
      ADDRESS_LOCAL, "From: joe\n", "From: joe@example.com\n" },
    { "recipient_canonical_maps = inline:{ {joe = \"J D\"@x.org} }\n",
      ADDRESS_LOCAL, "Reply-To: joe\nResent-To: joe\n",
      "Reply-To: joe@example.com\nResent-To: \"J D\"@x.org\n" },
    { "masquerade_domains = example.com\n", ADDRESS_LOCAL,
      "From: j@a.example.com\nTo: k@b.example.com\n",
      "From: j@example.com\nTo: k@example.com\n" },
    { "masquerade_domains = example.com\nmasquerade_classes = "
      "header_sender\n",
      ADDRESS_LOCAL,
      "From: j@a.example.com\nTo: "
      "k@b.example.com\n",
      "From: j@example.com\nTo: k@b.example.com\n" },
    { "", ADDRESS_LOCAL, "From x@y Mon\nFrom: joe\nno header here\nTo: a\n",
      "From x@y Mon\nFrom: joe@example.com\nno header here\nTo: a\n" },
    { "", ADDRESS_LOCAL, "From: \"unclosed <joe\nTo: a\\\n",
      NULL /* no crash, whatever comes out */ },
};

static void test_rewrite(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct setup s;
        struct buf out;
        struct err err;

        setup_init(&s, cases[i].settings);
        buf_init(&out, 65536);
        if (address_rewrite_headers(s.address, cases[i].context,
                                    slice_str(cases[i].in), &out, &err) < 0)
            fail_msg("%s: %s", cases[i].in, err.log);
        if (cases[i].want != NULL)
            assert_slice(buf_view(&out), slice_str(cases[i].want));
        buf_done(&out);
        setup_done(&s);
    }
}

static void test_clients(void **state)
{
    static const struct {
        const char *settings;
        const char *ip;
        bool want;
    } v[] = {
        { "", "127.0.0.1", true },
        { "", "192.0.2.1", false },
        { "local_header_rewrite_clients =\n", "127.0.0.1", false },
        { "local_header_rewrite_clients = permit_mynetworks\n", "127.9.9.9",
          true },
        { "local_header_rewrite_clients = check_address_map "
          "inline:{192.0.2.1=x}\n",
          "192.0.2.1", true },
        { "local_header_rewrite_clients = inline:{192.0.2.1=x}\n", "192.0.2.1",
          true },
        { "local_header_rewrite_clients = static:all\n", "192.0.2.1", true },
    };
    struct setup s;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(v); i++) {
        struct err err;
        bool got;

        setup_init(&s, v[i].settings);
        assert_int_equal(address_rewrites_headers_of(s.address, SL("unknown"),
                                                     slice_str(v[i].ip), false,
                                                     &got, &err),
                         0);
        if (got != v[i].want)
            fail_msg("%s %s", v[i].settings, v[i].ip);
        setup_done(&s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rewrite),
        cmocka_unit_test(test_clients),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
