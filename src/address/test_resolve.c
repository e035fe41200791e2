#include "address/test_util.h"

/* Classes and routes.
 * covers: mydestination inet_interfaces proxy_interfaces virtual_alias_domains
 * virtual_mailbox_domains relay_domains local_transport virtual_transport
 * relay_transport default_transport relayhost transport_maps relocated_maps
 * sender_dependent_relayhost_maps sender_dependent_default_transport_maps
 * resolve_null_domain resolve_numeric_domain empty_address_recipient
 * empty_address_relayhost_maps_lookup_key
 * empty_address_default_transport_maps_lookup_key */

static const char domains[] = "virtual_alias_domains = alias.example\n"
                              "virtual_mailbox_domains = box.example\n"
                              "relay_domains = relay.example\n"
                              "virtual_alias_maps =\n"
                              "virtual_mailbox_maps =\n";

struct route_case {
    const char *settings;
    const char *sender;
    const char *addr;
    enum address_class class;
    const char *want; /* transport:nexthop:recipient */
};

static const struct route_case cases[] = {
    { "", "s@x.org", "joe", ADDRESS_CLASS_LOCAL,
      "local:mx.example.com:joe@mx.example.com" },
    { "", "", "joe@example.com", ADDRESS_CLASS_LOCAL,
      "local:mx.example.com:joe@example.com" },
    { "", "", "joe@EXAMPLE.com.", ADDRESS_CLASS_LOCAL,
      "local:mx.example.com:joe@EXAMPLE.com" },
    { "", "", "joe@[127.0.0.1]", ADDRESS_CLASS_LOCAL,
      "local:mx.example.com:joe@[127.0.0.1]" },
    { "proxy_interfaces = 192.0.2.99\n", "", "joe@[192.0.2.99]",
      ADDRESS_CLASS_LOCAL, "local:mx.example.com:joe@[192.0.2.99]" },
    { "", "", "joe@[192.0.2.98]", ADDRESS_CLASS_DEFAULT,
      "smtp:[192.0.2.98]:joe@[192.0.2.98]" },
    { "", "", "x@alias.example", ADDRESS_CLASS_ALIAS,
      "error:5.1.1 User unknown in virtual alias table:x@alias.example" },
    { "", "", "x@box.example", ADDRESS_CLASS_VIRTUAL,
      "virtual:box.example:x@box.example" },
    { "virtual_transport = lmtp:unix:/x\n", "", "x@box.example",
      ADDRESS_CLASS_VIRTUAL, "lmtp:unix:/x:x@box.example" },
    { "", "", "x@relay.example", ADDRESS_CLASS_RELAY,
      "relay:relay.example:x@relay.example" },
    { "parent_domain_matches_subdomains = relay_domains\n", "",
      "x@sub.relay.example", ADDRESS_CLASS_RELAY,
      "relay:sub.relay.example:x@sub.relay.example" },
    { "", "", "x@else.org", ADDRESS_CLASS_DEFAULT, "smtp:else.org:x@else.org" },
    { "relayhost = [gw.example]:587\n", "", "x@else.org", ADDRESS_CLASS_DEFAULT,
      "smtp:[gw.example]:587:x@else.org" },
    { "relayhost = [gw.example]\ndefault_transport = uucp:site\n", "",
      "x@else.org", ADDRESS_CLASS_DEFAULT, "uucp:site:x@else.org" },
    { "sender_dependent_relayhost_maps = inline:{ {a@b=[one]}, {<>=[two]}, "
      "{c@d=DUNNO} }\nrelayhost = r\n",
      "a@b", "x@else.org", ADDRESS_CLASS_DEFAULT, "smtp:[one]:x@else.org" },
    { "sender_dependent_relayhost_maps = inline:{ {a@b=[one]}, {<>=[two]}, "
      "{c@d=DUNNO} }\nrelayhost = r\n",
      "", "x@else.org", ADDRESS_CLASS_DEFAULT, "smtp:[two]:x@else.org" },
    { "sender_dependent_relayhost_maps = inline:{ {c@d=DUNNO} }\n"
      "relayhost = r\n",
      "c@d", "x@else.org", ADDRESS_CLASS_DEFAULT, "smtp:else.org:x@else.org" },
    { "sender_dependent_default_transport_maps = inline:{a@b=slow:host, "
      "<>=null:}\n",
      "a@b", "x@else.org", ADDRESS_CLASS_DEFAULT, "slow:host:x@else.org" },
    { "sender_dependent_default_transport_maps = inline:{a@b=slow:host, "
      "<>=null:}\n",
      "", "x@else.org", ADDRESS_CLASS_DEFAULT, "null:else.org:x@else.org" },
    { "sender_dependent_default_transport_maps = inline:{nobody=null:}\n"
      "empty_address_default_transport_maps_lookup_key = nobody\n"
      "sender_dependent_relayhost_maps = inline:{none=[two]}\n"
      "empty_address_relayhost_maps_lookup_key = none\n",
      "", "x@else.org", ADDRESS_CLASS_DEFAULT, "null:[two]:x@else.org" },
    { "transport_maps = inline:{else.org=smtp:[in]}\n", "", "x@else.org",
      ADDRESS_CLASS_DEFAULT, "smtp:[in]:x@else.org" },
    { "transport_maps = inline:{.else.org=slow:}\n", "", "x@sub.else.org",
      ADDRESS_CLASS_DEFAULT, "slow:sub.else.org:x@sub.else.org" },
    { "transport_maps = inline:{else.org=slow:}\n", "", "x@sub.else.org",
      ADDRESS_CLASS_DEFAULT, "smtp:sub.else.org:x@sub.else.org" },
    { "transport_maps = inline:{else.org=slow:}\n"
      "parent_domain_matches_subdomains = transport_maps\n",
      "", "x@sub.else.org", ADDRESS_CLASS_DEFAULT,
      "slow:sub.else.org:x@sub.else.org" },
    { "transport_maps = inline:{x@else.org=local:, *=smtp:[gate]}\n"
      "recipient_delimiter = +\n",
      "", "x+y@else.org", ADDRESS_CLASS_DEFAULT,
      "local:else.org:x+y@else.org" },
    { "transport_maps = inline:{*=smtp:[gate]}\n", "", "joe@example.com",
      ADDRESS_CLASS_LOCAL, "smtp:[gate]:joe@example.com" },
    { "transport_maps = inline:{else.org=:[only]}\n", "", "x@else.org",
      ADDRESS_CLASS_DEFAULT, "smtp:[only]:x@else.org" },
    { "transport_maps = inline:{else.org=error:}\n", "", "x@else.org",
      ADDRESS_CLASS_DEFAULT, "error:Address is undeliverable:x@else.org" },
    { "transport_maps = inline:{ {else.org = error:4.0.0 later on} }\n", "",
      "x@else.org", ADDRESS_CLASS_DEFAULT, "error:4.0.0 later on:x@else.org" },
    { "relocated_maps = inline:{joe@example.com=joe@new.org}\n"
      "recipient_delimiter = +\n",
      "", "joe+x@example.com", ADDRESS_CLASS_LOCAL,
      "error:5.1.6 User has moved to joe@new.org:joe+x@example.com" },
    { "", "", "", ADDRESS_CLASS_LOCAL,
      "local:mx.example.com:MAILER-DAEMON@mx.example.com" },
    { "", "", "@example.com", ADDRESS_CLASS_LOCAL,
      "local:mx.example.com:MAILER-DAEMON@example.com" },
    { "", "", "a%else.org@example.com", ADDRESS_CLASS_DEFAULT,
      "smtp:else.org:a@else.org" },
    { "", "", "else.org!a@example.com", ADDRESS_CLASS_DEFAULT,
      "smtp:else.org:a@else.org" },
    { "", "", "a@else.org@example.com", ADDRESS_CLASS_DEFAULT,
      "smtp:else.org:a@else.org" },
    { "allow_percent_hack = no\n", "", "a%else.org@example.com",
      ADDRESS_CLASS_LOCAL, "local:mx.example.com:a%else.org@example.com" },
    { "", "", "a@", ADDRESS_CLASS_DEFAULT,
      "error:5.1.3 bad address syntax:a@" },
    { "resolve_null_domain = yes\n", "", "a@", ADDRESS_CLASS_LOCAL,
      "local:mx.example.com:a@mx.example.com" },
    { "", "", "a@b..c", ADDRESS_CLASS_DEFAULT,
      "error:5.1.3 bad address syntax:a@b..c" },
    { "", "", "a@192.0.2.7", ADDRESS_CLASS_DEFAULT,
      "error:5.1.3 bad address syntax:a@192.0.2.7" },
    { "resolve_numeric_domain = yes\n", "", "a@192.0.2.7",
      ADDRESS_CLASS_DEFAULT, "smtp:[192.0.2.7]:a@[192.0.2.7]" },
};

static void test_routes(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const struct route_case *c = &cases[i];
        struct address_route r;
        struct setup s;
        struct err err;
        char text[600];
        char got[300];

        (void)snprintf(text, sizeof(text), "%s%s", domains, c->settings);
        setup_init(&s, text);
        if (address_resolve(s.address, slice_str(c->sender), slice_str(c->addr),
                            s.b.arena, &r, &err) < 0)
            fail_msg("%s: %s", c->addr, err.log);
        (void)snprintf(got, sizeof(got), "%.*s:%.*s:%.*s", SLF(r.transport),
                       SLF(r.nexthop), SLF(r.recipient));
        assert_answer(got, c->want, c->addr);
        assert_int_equal(r.class, c->class);
        setup_done(&s);
    }
}

static void test_routed(void **state)
{
    static const struct {
        const char *addr;
        bool routed;
    } v[] = {
        { "a%b@else.org", true },     { "b!a@else.org", true },
        { "a@b@else.org", true },     { "a@else.org", false },
        { "a%b@example.com", false },
    };
    struct setup s;

    (void)state;
    setup_init(&s, domains);
    for (size_t i = 0; i < ARRAY_LEN(v); i++) {
        struct address_route r;
        struct err err;

        assert_int_equal(address_resolve(s.address, SLICE_NONE,
                                         slice_str(v[i].addr), s.b.arena, &r,
                                         &err),
                         0);
        assert_int_equal(r.is_routed, v[i].routed);
    }
    setup_done(&s);
}

/* Invariants 1 and 4: a broken table is trouble, not another class. */
static void test_trouble(void **state)
{
    static const char *const broken[] = {
        "mydestination = fail:x\n",
        "virtual_alias_domains = fail:x\n",
        "virtual_mailbox_domains = hash:/nonexistent/y\n",
        "relay_domains = fail:x\n",
        "transport_maps = fail:x\n",
        "relocated_maps = fail:x\n",
        "sender_dependent_relayhost_maps = fail:x\n",
        "sender_dependent_default_transport_maps = fail:x\n",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(broken); i++) {
        struct address_route r;
        struct setup s;
        struct err err = { .class = ERR_NONE };

        setup_init(&s, broken[i]);
        if (address_resolve(s.address, SL("a@b"), SL("x@else.org"), s.b.arena,
                            &r, &err) == 0)
            fail_msg("%s", broken[i]);
        assert_int_equal(err.class, ERR_TEMP);
        setup_done(&s);
    }
}

static void test_class(void **state)
{
    static const struct {
        const char *domain;
        enum address_class class;
    } v[] = {
        { "example.com", ADDRESS_CLASS_LOCAL },
        { "LOCALHOST", ADDRESS_CLASS_LOCAL },
        { "[127.0.0.1]", ADDRESS_CLASS_LOCAL },
        { "[IPv6:::1]", ADDRESS_CLASS_LOCAL },
        { "alias.example", ADDRESS_CLASS_ALIAS },
        { "box.example", ADDRESS_CLASS_VIRTUAL },
        { "relay.example", ADDRESS_CLASS_RELAY },
        { "sub.example.com", ADDRESS_CLASS_DEFAULT },
    };
    struct setup s;

    (void)state;
    setup_init(&s, domains);
    for (size_t i = 0; i < ARRAY_LEN(v); i++) {
        enum address_class class;
        struct err err;

        assert_int_equal(
            address_class(s.address, slice_str(v[i].domain), &class, &err), 0);
        if (class != v[i].class)
            fail_msg("%s", v[i].domain);
    }
    setup_done(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_routes),
        cmocka_unit_test(test_routed),
        cmocka_unit_test(test_trouble),
        cmocka_unit_test(test_class),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
