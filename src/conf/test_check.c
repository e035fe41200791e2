/* What conf_check() finds, by its text; and what it lets pass. */
#include "conf/conf.h"
#include <setjmp.h>
#include <stdarg.h>
#include <sys/stat.h>

#include <cmocka.h>

#define SMTPD "smtp inet n - n - - smtpd\n"
/* Without it the default compatibility level has no relay rules. */
#define LEVEL "compatibility_level = 3.6\n"

static char *findings(const char *main_cf, const char *master_cf)
{
    struct conf_diags d;
    struct conf *c;
    struct buf out;
    char *text;
    bool ok;

    conf_diags_init(&d);
    c = conf_from_text(slice_str(main_cf), slice_str(master_cf), &d);
    ok = conf_check(c, false, &d);
    assert_int_equal(ok, d.n_errors == 0);
    buf_init(&out, 100000);
    conf_diags_print(&d, &out);
    text = slice_xstrdup(buf_view(&out));
    buf_done(&out);
    conf_diags_done(&d);
    conf_unref(&c);
    return text;
}

static const struct {
    const char *main_cf; /* behind LEVEL */
    const char *want;    /* the whole of what is found */
} cases[] = {
    /* Good values, defaults in another form, honoured parameters. */
    { "", "" },
    { "smtpd_timeout = 5m\nbiff = no\nmax_idle=3\n", "" },
    { "canonical_maps =\nvirtual_mailbox_limit = 51200000\n", "" },
    { "canonical_classes = envelope_sender envelope_recipient header_sender "
      "header_recipient\n",
      "" },
    { "smtp_connect_timeout = 30\n", "" },
    { "relayhost = [mail.example.org]:587\ntransport_maps = hash:/etc/t\n",
      "" },
    /* Unknown names. */
    { "smtpd_baner = x\n", "main.cf:2: error: unknown parameter smtpd_baner "
                           "(did you mean smtpd_banner?)\n" },
    { "mydesitnation = x\n",
      "main.cf:2: error: unknown parameter mydesitnation (did you mean "
      "mydestination?)\n" },
    { "zzzzzzzzz = x\n", "main.cf:2: error: unknown parameter zzzzzzzzz\n" },
    { "mine = x\nsmtpd_banner = $mine\n", "" },
    { "strict = reject\nsmtpd_restriction_classes = strict\n", "" },
    { "smtpd_banner = $myhostnam\n",
      "main.cf:2: warning: smtpd_banner: undefined parameter $myhostnam (did "
      "you mean $myhostname?)\n" },
    /* Types and ranges. */
    { "smtpd_helo_required = maybe\n",
      "main.cf:2: error: smtpd_helo_required = maybe: neither yes nor no\n" },
    { "message_size_limit = 10M\n",
      "main.cf:2: error: message_size_limit = 10M: not a number "
      "(bytes, written out)\n" },
    { "smtpd_hard_error_limit = 0\n",
      "main.cf:2: error: smtpd_hard_error_limit = 0: out of range (at least "
      "1)\n" },
    { "reject_code = 250\n",
      "main.cf:2: error: reject_code = 250: out of range (from 400 to "
      "599)\n" },
    { "queue_run_delay = 5x\n",
      "main.cf:2: error: queue_run_delay = 5x: not a time (a number and s, m, "
      "h, d or w)\n" },
    { "mynetworks_style = net\n",
      "main.cf:2: error: mynetworks_style = net: not a known word (one of: "
      "host subnet class)\n" },
    { "virtual_alias_maps = /etc/virtual\n",
      "main.cf:2: error: virtual_alias_maps = /etc/virtual: a table is written "
      "type:name (put hash: in front)\n" },
    { "virtual_alias_maps = hsah:/etc/virtual\n",
      "main.cf:2: error: virtual_alias_maps = hsah:/etc/virtual: unknown type "
      "of table (see hato-params(5))\n" },
    { "smtpd_banner = ${x\n",
      "main.cf:2: warning: smtpd_banner: undefined parameter $x\n"
      "main.cf:2: error: smtpd_banner: truncated ${ reference at: \"{x\"\n" },
    /* The state, and the state per value. */
    { "smtpd_milters = inet:localhost:8891\n",
      "main.cf:2: error: smtpd_milters = inet:localhost:8891 is refused: "
      "milters are not done yet (take it out; the default is \"\")\n" },
    { "smtpd_tls_security_level = may\nsmtpd_tls_cert_file = /c\n", "" },
    { "smtpd_tls_security_level = encrypt\n", "" },
    { "smtpd_tls_wrappermode = yes\n", "" },
    { "smtpd_tls_dcert_file = /c\n",
      "main.cf:2: warning: smtpd_tls_dcert_file = /c: DSA certificates are "
      "not served\n" },
    { "tls_ssl_options = NO_TICKET, 0x10\n",
      "main.cf:2: warning: tls_ssl_options = NO_TICKET, 0x10: this option is "
      "not passed on\n" },
    { "smtpd_sasl_type = dovecot\n",
      "main.cf:2: warning: smtpd_sasl_type = dovecot: Hato's own auth checks "
      "passwords, by passdb\n" },
    { "smtpd_forbid_bare_newline = reject\n",
      "main.cf:2: error: smtpd_forbid_bare_newline = reject is refused: a bare "
      "LF never ends a line or a message; see doc/message-bytes.md (take it out; "
      "the default is \"no\")\n" },
    { "virtual_alias_maps = ldap:/etc/l.cf\n",
      "main.cf:2: error: virtual_alias_maps: ldap:/etc/l.cf: it asks over the "
      "network, which is not there yet (use a hash:, texthash:, inline:, "
      "static:, regexp:, pcre:, cidr: or unix: table)\n" },
    /* Restrictions. */
    { "smtpd_sender_restrictions = reject_unknown_sender_domain\n", "" },
    { "smtpd_client_restrictions = reject_rbl_client x.org, permit\n", "" },
    { "smtpd_sender_restrictions = check_policy_service unix:x\n",
      "main.cf:2: error: smtpd_sender_restrictions: check_policy_service: "
      "policy servers are not asked yet (take it out)\n" },
    { "smtpd_client_restrictions = permit_mynetwork\n",
      "main.cf:2: error: smtpd_client_restrictions: unknown restriction "
      "\"permit_mynetwork\" (did you mean permit_mynetworks?)\n" },
    { "smtpd_client_restrictions = check_client_access /x\n",
      "main.cf:2: error: smtpd_client_restrictions: check_client_access wants "
      "a table, not \"/x\" (write type:name)\n" },
    { "smtpd_client_restrictions = check_client_access\n",
      "main.cf:2: error: smtpd_client_restrictions: check_client_access needs "
      "an argument\n" },
    { "smtpd_client_restrictions = sleep long\n",
      "main.cf:2: error: smtpd_client_restrictions: sleep wants a number, not "
      "\"long\"\n" },
    { "smtpd_client_restrictions = permit_sasl_authenticated\n"
      "smtpd_helo_restrictions = hash:/x, check_helo_access pcre:/y\n",
      "" },
    /* Relaying. */
    { "smtpd_relay_restrictions =\n",
      "main.cf:2: error: service smtp would relay for everybody: neither "
      "smtpd_relay_restrictions nor smtpd_recipient_restrictions has, before "
      "any permit, one of reject_unauth_destination, "
      "defer_unauth_destination, reject, defer, defer_if_permit (add "
      "reject_unauth_destination)\n" },
    { "smtpd_relay_restrictions = all, reject_unauth_destination\n"
      "smtpd_restriction_classes = all\nall = permit\n",
      "main.cf:2: error: service smtp would relay for everybody: neither "
      "smtpd_relay_restrictions nor smtpd_recipient_restrictions has, before "
      "any permit, one of reject_unauth_destination, "
      "defer_unauth_destination, reject, defer, defer_if_permit (add "
      "reject_unauth_destination)\n" },
    { "smtpd_relay_restrictions = permit\n"
      "smtpd_recipient_restrictions = sleep 1, reject\n",
      "" },
    { "mynetworks = 127.0.0.0/8, 0.0.0.0/0\n",
      "main.cf:2: error: mynetworks: 0.0.0.0/0 would let the whole Internet "
      "relay (name your own networks)\n" },
    { "smtpd_relay_restrictions =\nsmtpd_recipient_restrictions = guard\n"
      "guard = permit_mynetworks, reject_unauth_destination\n"
      "smtpd_restriction_classes = guard\n",
      "" },
    { "virtual_mailbox_domains = a.org, !b.org hash:/x localhost\n"
      "virtual_alias_domains = b.org hash:/x\n",
      "main.cf:2: warning: do not list domain localhost in BOTH mydestination "
      "and virtual_mailbox_domains (take it out of one of the two)\n" },
    { "relay_domains = $mydestination\n", "" },
    /* Directories of Postfix. */
    { "queue_directory = /var/spool/postfix/\n",
      "main.cf:2: error: queue_directory = /var/spool/postfix/ belongs to "
      "Postfix (give Hato a directory of its own)\n" },
    { "data_directory = /var/lib/postfix/x\n",
      "main.cf:2: error: data_directory = /var/lib/postfix/x belongs to "
      "Postfix (give Hato a directory of its own)\n" },
    { "queue_directory = spool\n",
      "main.cf:2: error: queue_directory = spool: not a full path (start it "
      "with /)\n" },
    { "inet_interfaces = no.such.host\n",
      "main.cf:2: error: inet_interfaces = no.such.host, inet_protocols = all: "
      "there is no such address (name an address or a host of this "
      "machine)\n" },
};

/* The directory in front of "main.cf:" and "master.cf:" taken off. */
static void strip(char *text)
{
    static const char dir[] = "/etc/hato/";
    char *at = strstr(text, dir);

    while (at != NULL) {
        memmove(at, at + sizeof(dir) - 1, strlen(at + sizeof(dir) - 1) + 1);
        at = strstr(at, dir);
    }
}

static void test_main(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char *main_cf CLEANUP(free_ptr) =
            xasprintf("%s%s", LEVEL, cases[i].main_cf);
        char *got CLEANUP(free_ptr) = findings(main_cf, SMTPD);

        strip(got);
        assert_string_equal(got, cases[i].want);
    }
}

static const struct {
    const char *main_cf;
    const char *master_cf;
    const char *want;
} services[] = {
    { "", "x inet n - n - - smtpd\n",
      "master.cf:1: error: service x: unknown port (write the number, or name "
      "it in known_tcp_ports)\n" },
    { "", "smtp inet n - n - - smtpdd\n",
      "master.cf:1: error: service smtp: unknown command \"smtpdd\" (did you "
      "mean smtpd?)\n" },
    { "", "smtp inet n - n - 1 postscreen\nsmtpd pass - - n - - smtpd\n", "" },
    { "", "nohost:25 inet n - n - - smtpd\n",
      "master.cf:1: error: service nohost:25: no address for \"nohost\" (write "
      "an address of this machine)\n" },
    { "", "uucp unix - n n - - pipe user=u argv=x\n",
      "master.cf:1: warning: service uucp: pipe transports are not done yet; "
      "mail for this one is deferred\n" },
    { "", "submission inet n - n - - smtpd -o smtpd_tls_wrapermode=yes\n",
      "master.cf:1: error: unknown parameter smtpd_tls_wrapermode (did you "
      "mean smtpd_tls_wrappermode?)\n" },
    { "",
      "submission inet n - n - - smtpd -o "
      "smtpd_tls_security_level=encrypt\n",
      "" },
    /* What an override changes by $name in main.cf counts as well. */
    { "smtpd_helo_restrictions = $mine\nmine =\n",
      "submission inet n - n - - smtpd "
      "-o mine=reject_unknown_forward_client_hostname\n",
      "master.cf:1: error: smtpd_helo_restrictions: "
      "reject_unknown_forward_client_hostname: Postfix has it only in builds "
      "for testing (take it out)\n" },
    { "maildrop_destination_recipient_limit = 1\n",
      "maildrop unix - n n - - pipe argv=x\n",
      "master.cf:1: warning: service maildrop: pipe transports are not done "
      "yet; mail for this one is deferred\n" },
    { "maildrop_destination_recipient_limit = 1\n", "",
      "main.cf:2: error: unknown parameter "
      "maildrop_destination_recipient_limit\n" },
    { "maildorp_destination_recipient_limit = 1\n",
      "maildrop unix - n n - - local\n",
      "main.cf:2: error: unknown parameter "
      "maildorp_destination_recipient_limit (did you mean "
      "maildrop_destination_recipient_limit?)\n" },
    { "tlsproxy_client_policy_maps = ldap:foo\nfoo_server_host = x\nfoo_bind = no\n",
      "", "" },
    { "tlsproxy_client_policy_maps = ldap:foo\nfoo_serer_host = x\n", "",
      "main.cf:3: error: unknown parameter foo_serer_host\n" },
    { "",
      "cleanup unix n - y - 0 cleanup\nrewrite unix - - y - - trivial-rewrite\n"
      "proxymap unix - - n - - proxymap\nanvil unix - - y - 1 anvil\n"
      "scache unix - - y - 1 scache\nverify unix - - y - 1 verify\n"
      "tlsmgr unix - - y 1000? 1 tlsmgr\n",
      "" },
};

static void test_services(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(services); i++) {
        char *main_cf CLEANUP(free_ptr) =
            xasprintf("%s%s", LEVEL, services[i].main_cf);
        char *got CLEANUP(free_ptr) = findings(main_cf, services[i].master_cf);

        strip(got);
        assert_string_equal(got, services[i].want);
    }
}

/* A directory that looks like Postfix's is refused wherever it lies. */
static void test_look(void **state)
{
    char dir[] = "/tmp/hato-check-XXXXXX";
    char *mark CLEANUP(free_ptr) = NULL;
    char *main_cf CLEANUP(free_ptr) = NULL;
    struct conf_diags d;
    struct conf *c;

    (void)state;
    assert_non_null(mkdtemp(dir));
    mark = xasprintf("%s/maildrop", dir);
    main_cf = xasprintf("queue_directory = %s\n", dir);
    c = conf_from_text(slice_str(main_cf), SLICE_NONE, NULL);
    conf_diags_init(&d);
    assert_true(conf_check(c, true, &d));
    assert_int_equal(mkdir(mark, 0700), 0);
    assert_false(conf_check(c, true, &d));
    assert_int_equal(d.n_errors, 1);
    assert_non_null(strstr(d.v[0].text, "belongs to Postfix"));
    rmdir(mark);
    rmdir(dir);
    conf_diags_done(&d);
    conf_unref(&c);
}

static void put_table(void *ctx, const struct conf_table_ref *ref)
{
    buf_printf(ctx, "%s %.*s|%.*s %d\n", ref->param, SLF(ref->type),
               SLF(ref->name), ref->line);
}

static void test_tables(void **state)
{
    static const char main_cf[] =
        "smtpd_client_restrictions = check_client_access hash:/a, mine\n"
        "smtpd_restriction_classes = mine\n"
        "mine = check_sender_access { inline:{ x=y, z=w } }, texthash:/b\n"
        "mydestination = a.org, !hash:/c\n"
        "virtual_alias_maps = proxy:lmdb:/d $alias_maps\n"
        "alias_maps = hash:/e\n";
    struct conf *c =
        conf_from_text(SL(main_cf),
                       SL("smtp inet n - n - - smtpd -o alias_maps=cidr:/f\n"),
                       NULL);
    struct buf out;
    const char *text;

    (void)state;
    buf_init(&out, 100000);
    conf_each_table(c, put_table, &out);
    text = buf_cstr(&out);
    assert_non_null(strstr(text, "smtpd_client_restrictions hash|/a 1\n"));
    assert_non_null(strstr(text, "mine inline|{ x=y, z=w } 3\n"));
    assert_non_null(strstr(text, "mine texthash|/b 3\n"));
    assert_non_null(strstr(text, "mydestination hash|/c 4\n"));
    assert_non_null(strstr(text, "virtual_alias_maps lmdb|/d 5\n"));
    assert_non_null(strstr(text, "virtual_alias_maps hash|/e 5\n"));
    assert_non_null(strstr(text, "alias_maps hash|/e 6\n"));
    assert_non_null(strstr(text, "alias_maps cidr|/f 1\n"));
    assert_non_null(strstr(text, "local_recipient_maps unix|passwd.byname 0"));
    buf_done(&out);
    conf_unref(&c);
}

/* More findings than are kept are still counted. */
static void test_many(void **state)
{
    struct conf_diags d;
    struct buf out;

    (void)state;
    conf_diags_init(&d);
    for (int i = 0; i < CONF_MAX_DIAGS + 7; i++)
        conf_diags_add(&d, CONF_ERROR, "f", i, "", "x");
    conf_diags_add(&d, CONF_ERROR, "f", 3, "", "x");
    assert_int_equal(d.n, CONF_MAX_DIAGS);
    assert_int_equal(d.n_errors, CONF_MAX_DIAGS + 7);
    buf_init(&out, 100000);
    conf_diags_print(&d, &out);
    assert_true(slice_ends(buf_view(&out), SL("... and 7 more\n")));
    buf_done(&out);
    conf_diags_done(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_main), cmocka_unit_test(test_services),
        cmocka_unit_test(test_look), cmocka_unit_test(test_tables),
        cmocka_unit_test(test_many),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
