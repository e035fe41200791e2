#include "access/test_util.h"

#include <sys/mman.h>

/* What the lists decide, stage by stage.
 * covers: smtpd_client_restrictions smtpd_helo_restrictions
 * smtpd_sender_restrictions smtpd_relay_restrictions
 * smtpd_recipient_restrictions smtpd_data_restrictions
 * smtpd_end_of_data_restrictions smtpd_etrn_restrictions
 * smtpd_restriction_classes smtpd_delay_reject
 * smtpd_relay_before_recipient_restrictions smtpd_reject_unlisted_recipient
 * smtpd_reject_unlisted_sender smtpd_null_access_lookup_key mynetworks
 * reject_code defer_code relay_domains_reject_code non_fqdn_reject_code
 * invalid_hostname_reject_code multi_recipient_bounce_reject_code soft_bounce
 * smtpd_sender_login_maps allow_untrusted_routing */

struct list_case {
    const char *settings;
    const char *field; /* "name=value,..." of the session; NULL none */
    enum access_stage stage;
    const char *want;
};

#define CLIENT "smtpd_client_restrictions = "
#define HELO   "smtpd_helo_restrictions = "
#define SENDER "smtpd_sender_restrictions = "
#define RELAY  "smtpd_relay_restrictions = "
#define RCPT   "smtpd_recipient_restrictions = "

static const struct list_case cases[] = {
    /* ---- relaying */
    { "", "rcpt=a@else.org", ACCESS_RCPT,
      "454 4.7.1 <a@else.org>: Relay access denied" },
    { RELAY "permit_mynetworks, reject_unauth_destination\n", "rcpt=a@else.org",
      ACCESS_RCPT, "554 5.7.1 <a@else.org>: Relay access denied" },
    { RELAY "reject_unauth_destination\nrelay_domains_reject_code = 550\n",
      "rcpt=a@else.org", ACCESS_RCPT,
      "550 5.7.1 <a@else.org>: Relay access denied" },
    { "", "addr=127.0.0.1,rcpt=a@else.org", ACCESS_RCPT, "" },
    { "", "rcpt=joe@example.com", ACCESS_RCPT, "" },
    { "", "rcpt=postmaster", ACCESS_RCPT, "" },
    { "virtual_mailbox_domains = box.example\n", "rcpt=a@box.example",
      ACCESS_RCPT, "" },
    { "virtual_alias_domains = al.example\nvirtual_alias_maps = "
      "inline:{a@al.example=joe}\n",
      "rcpt=a@al.example", ACCESS_RCPT, "" },
    { "relay_domains = relay.example\n", "rcpt=a@relay.example", ACCESS_RCPT,
      "" },
    { RELAY "reject_unauth_destination\n", "rcpt=a%else.org@example.com",
      ACCESS_RCPT, "554 5.7.1 <a%else.org@example.com>: Relay access denied" },
    { RELAY "reject_unauth_destination\nrelay_domains = relay.example\n",
      "rcpt=a%x.org@relay.example", ACCESS_RCPT,
      "554 5.7.1 <a%x.org@relay.example>: Relay access denied" },
    { RELAY "reject_unauth_destination\n", "rcpt=else.org!a@example.com",
      ACCESS_RCPT, "554 5.7.1 <else.org!a@example.com>: Relay access denied" },
    { RELAY "reject_unauth_destination\n", "rcpt=a@else.org@example.com",
      ACCESS_RCPT, "554 5.7.1 <a@else.org@example.com>: Relay access denied" },
    { RELAY "reject_unauth_destination\nrelay_domains = relay.example\n"
            "allow_untrusted_routing = yes\n",
      "rcpt=a%x.org@relay.example", ACCESS_RCPT, "" },
    { RELAY "permit_sasl_authenticated, reject\n", "rcpt=a@else.org,sasl=joe",
      ACCESS_RCPT, "" },
    { RELAY "permit_sasl_authenticated, reject\n", "rcpt=joe@example.com",
      ACCESS_RCPT,
      "554 5.7.1 <joe@example.com>: Recipient address rejected: Access denied" },
    { RELAY "\n" RCPT "permit_mynetworks, reject_unauth_destination\n",
      "rcpt=a@else.org", ACCESS_RCPT,
      "554 5.7.1 <a@else.org>: Relay access denied" },
    { RELAY "\n" RCPT "permit_mynetworks, reject_unauth_destination\n",
      "rcpt=a@else.org,addr=127.0.0.1", ACCESS_RCPT, "" },
    { "mynetworks = fail:x\n", "rcpt=a@else.org", ACCESS_RCPT,
      "451 4.3.0 <a@else.org>: Temporary lookup failure" },
    { "relay_domains = fail:x\n", "rcpt=a@else.org", ACCESS_RCPT,
      "451 4.3.0 <a@else.org>: Temporary lookup failure" },
    /* ---- never an open relay: invariant 1 */
    { RELAY "permit, reject\n", "rcpt=a@else.org", ACCESS_RCPT,
      "554 5.7.1 <a@else.org>: Relay access denied" },
    { RELAY "check_sender_access static:OK, reject_unauth_destination\n",
      "rcpt=a@else.org", ACCESS_RCPT,
      "554 5.7.1 <a@else.org>: Relay access denied" },
    { RELAY "check_helo_access static:OK, reject_unauth_destination\n",
      "rcpt=a@else.org", ACCESS_RCPT,
      "554 5.7.1 <a@else.org>: Relay access denied" },
    { RELAY "\n" RCPT "check_recipient_access static:OK, "
            "reject_unauth_destination\n",
      "rcpt=a@else.org", ACCESS_RCPT,
      "554 5.7.1 <a@else.org>: Relay access denied" },
    { RELAY "\n" RCPT "permit_mynetworks, permit, reject\n", "rcpt=a@else.org",
      ACCESS_RCPT, "554 5.7.1 <a@else.org>: Relay access denied" },
    { RELAY "defer_if_permit, permit\n", "rcpt=a@else.org", ACCESS_RCPT,
      "554 5.7.1 <a@else.org>: Relay access denied" },
    { "smtpd_restriction_classes = c\nc = permit\n" RELAY "c, reject\n",
      "rcpt=a@else.org", ACCESS_RCPT,
      "554 5.7.1 <a@else.org>: Relay access denied" },
    { RELAY "check_client_access inline:{192.0.2.1=c}, reject\n"
            "smtpd_restriction_classes = c\nc = permit\n",
      "rcpt=a@else.org", ACCESS_RCPT,
      "554 5.7.1 <a@else.org>: Relay access denied" },
    { RELAY "warn_if_reject reject_unauth_destination\n" RCPT
            "reject_multi_recipient_bounce, reject_non_fqdn_recipient, "
            "permit_mynetworks, check_sender_access static:permit, reject\n",
      "rcpt=a@else.org", ACCESS_RCPT,
      "554 5.7.1 <a@else.org>: Relay access denied" },
    { RELAY "check_client_access inline:{192.0.2.1=OK}, reject\n",
      "rcpt=a@else.org", ACCESS_RCPT, "" },
    { RELAY "permit_inet_interfaces, reject\n", "rcpt=a@else.org,addr=::1",
      ACCESS_RCPT, "" },
    /* an OK elsewhere does not relay */
    { CLIENT "check_client_access static:OK\n" RELAY
             "reject_unauth_destination\n",
      "rcpt=a@else.org", ACCESS_RCPT,
      "554 5.7.1 <a@else.org>: Relay access denied" },
    { RCPT "check_client_access static:OK\n" RELAY
           "permit_mynetworks, defer_unauth_destination\n",
      "rcpt=a@else.org", ACCESS_RCPT,
      "454 4.7.1 <a@else.org>: Relay access denied" },
    /* ---- listed or not */
    { "local_recipient_maps = inline:{joe=x}\n", "rcpt=ann@example.com",
      ACCESS_RCPT,
      "550 5.1.1 <ann@example.com>: Recipient address rejected: "
      "User unknown in local recipient table" },
    { "local_recipient_maps = inline:{joe=x}\n"
      "smtpd_reject_unlisted_recipient = no\n",
      "rcpt=ann@example.com", ACCESS_RCPT, "" },
    { "local_recipient_maps = inline:{joe=x}\n"
      "smtpd_reject_unlisted_recipient = no\n" RCPT
      "reject_unlisted_recipient\n",
      "rcpt=ann@example.com", ACCESS_RCPT,
      "550 5.1.1 <ann@example.com>: Recipient address rejected: User unknown "
      "in local recipient table" },
    { "local_recipient_maps = hash:/nonexistent/x\n", "rcpt=ann@example.com",
      ACCESS_RCPT, "451 4.3.0 <ann@example.com>: Temporary lookup failure" },
    { "local_recipient_maps = inline:{joe=x}\n"
      "smtpd_reject_unlisted_sender = yes\n",
      "sender=ann@example.com", ACCESS_RCPT,
      "550 5.1.0 <ann@example.com>: Sender address rejected: User "
      "unknown in local recipient table" },
    { "soft_bounce = yes\nlocal_recipient_maps = inline:{joe=x}\n",
      "rcpt=ann@example.com", ACCESS_RCPT,
      "450 4.1.1 <ann@example.com>: Recipient address rejected: User unknown "
      "in local recipient table" },
    /* ---- names */
    { HELO "reject_invalid_helo_hostname\n", "helo=bad..name", ACCESS_RCPT,
      "501 5.5.2 <bad..name>: Helo command rejected: Invalid name" },
    { HELO "reject_invalid_helo_hostname\n", "helo=192.0.2.1", ACCESS_RCPT,
      "501 5.5.2 <192.0.2.1>: Helo command rejected: Invalid name" },
    { HELO "reject_invalid_helo_hostname\n", "helo=[192.0.2.1]", ACCESS_RCPT,
      "" },
    { HELO "reject_invalid_helo_hostname\n", "helo=[192.0.2]", ACCESS_RCPT,
      "501 5.5.2 <[192.0.2]>: Helo command rejected: invalid ip address" },
    { HELO "reject_non_fqdn_helo_hostname\nnon_fqdn_reject_code = 550\n",
      "helo=host", ACCESS_RCPT,
      "550 5.5.2 <host>: Helo command rejected: need fully-qualified "
      "hostname" },
    { HELO "reject_non_fqdn_helo_hostname\n", "helo=host.example.", ACCESS_RCPT,
      "" },
    { SENDER "reject_non_fqdn_sender\n", "sender=joe@host", ACCESS_RCPT,
      "504 5.5.2 <joe@host>: Sender address rejected: need fully-qualified "
      "address" },
    { SENDER "reject_non_fqdn_sender\n", "sender=joe", ACCESS_RCPT,
      "504 5.5.2 <joe>: Sender address rejected: need fully-qualified "
      "address" },
    { SENDER "reject_non_fqdn_sender\n", "sender=", ACCESS_RCPT, "" },
    { RCPT "reject_non_fqdn_recipient\n", "rcpt=joe", ACCESS_RCPT,
      "504 5.5.2 <joe>: Recipient address rejected: need fully-qualified "
      "address" },
    { RCPT "reject_non_fqdn_recipient\n", "rcpt=postmaster", ACCESS_RCPT, "" },
    { RCPT "reject_non_fqdn_recipient\n", "rcpt=joe@[127.0.0.1]", ACCESS_RCPT,
      "" },
    /* ---- others */
    { CLIENT "reject\n", NULL, ACCESS_RCPT,
      "554 5.7.1 <unknown[192.0.2.1]>: Client host rejected: Access denied" },
    { CLIENT "permit_mynetworks, reject\n", "addr=127.0.0.1", ACCESS_RCPT, "" },
    { CLIENT "reject\nsmtpd_client_port_logging = yes\n", NULL, ACCESS_RCPT,
      "554 5.7.1 <unknown[192.0.2.1]:4711>: Client host rejected: Access "
      "denied" },
    { CLIENT "reject\nreject_code = 521\n", NULL, ACCESS_RCPT,
      "521 5.7.1 <unknown[192.0.2.1]>: Client host rejected: Access denied" },
    { HELO "defer\n", NULL, ACCESS_RCPT,
      "450 4.3.2 <helo.example.org>: Helo command rejected: Try again later" },
    { HELO "defer\ndefer_code = 421\n", NULL, ACCESS_RCPT,
      "421 4.3.2 <helo.example.org>: Helo command rejected: Try again later" },
    { SENDER "warn_if_reject reject\n", NULL, ACCESS_RCPT, "" },
    { SENDER "warn_if_reject reject, reject\n", NULL, ACCESS_RCPT,
      "554 5.7.1 <s@from.example>: Sender address rejected: Access denied" },
    { SENDER "defer_if_permit\n", NULL, ACCESS_RCPT,
      "450 4.7.0 <s@from.example>: Sender address rejected: defer_if_permit "
      "requested" },
    { SENDER "defer_if_permit, reject\n", NULL, ACCESS_RCPT,
      "554 5.7.1 <s@from.example>: Sender address rejected: Access denied" },
    { SENDER "defer_if_reject, reject\n", NULL, ACCESS_RCPT,
      "450 4.7.0 <s@from.example>: Sender address rejected: defer_if_reject "
      "requested" },
    { SENDER "defer_if_reject\n", NULL, ACCESS_RCPT, "" },
    { SENDER "permit, reject\n", NULL, ACCESS_RCPT, "" },
    { RCPT "reject_multi_recipient_bounce\n", "sender=,n=1", ACCESS_RCPT,
      "550 5.5.3 <joe@example.com>: Recipient address rejected: "
      "Multi-recipient bounce" },
    { "smtpd_data_restrictions = reject_multi_recipient_bounce\n",
      "sender=,n=2", ACCESS_DATA,
      "550 5.5.3 <DATA>: Data command rejected: Multi-recipient bounce" },
    { "smtpd_data_restrictions = reject_multi_recipient_bounce\n",
      "sender=,n=1", ACCESS_DATA, "" },
    { "smtpd_data_restrictions = reject_unauth_pipelining\n", "early=1",
      ACCESS_DATA,
      "503 5.5.0 <DATA>: Data command rejected: Improper use of "
      "SMTP command pipelining" },
    { "smtpd_end_of_data_restrictions = defer\n", NULL, ACCESS_END_OF_DATA,
      "450 4.3.2 <END-OF-MESSAGE>: End-of-data rejected: Try again later" },
    { "smtpd_etrn_restrictions = check_etrn_access inline:{ {x.org = REJECT no} }\n",
      "etrn=x.org", ACCESS_ETRN,
      "554 5.7.1 <x.org>: Etrn command rejected: "
      "no" },
    { "smtpd_restriction_classes = strict, loose\nstrict = "
      "reject_non_fqdn_sender, loose\nloose = permit\n" SENDER
      "strict, reject\n",
      NULL, ACCESS_RCPT, "" },
    { "smtpd_restriction_classes = strict\nstrict = inline:{ {s@from.example = 554 go} }\n" SENDER
      "strict\n",
      NULL, ACCESS_RCPT,
      "554 5.7.1 <s@from.example>: Sender address rejected: go" },
    { SENDER "check_sender_access inline:{ {<> = REJECT null} }\n",
      "sender=", ACCESS_RCPT, "554 5.7.1 <>: Sender address rejected: null" },
    { SENDER "check_sender_access inline:{ {NOBODY = REJECT null} }\n"
             "smtpd_null_access_lookup_key = NOBODY\n",
      "sender=", ACCESS_RCPT, "554 5.7.1 <>: Sender address rejected: null" },
    { SENDER "reject_sender_login_mismatch\nsmtpd_sender_login_maps = "
             "inline:{s@from.example=joe}\n",
      NULL, ACCESS_RCPT,
      "553 5.7.1 <s@from.example>: Sender address rejected: not logged in" },
    { SENDER "reject_sender_login_mismatch\nsmtpd_sender_login_maps = "
             "inline:{s@from.example=joe}\n",
      "sasl=ann", ACCESS_RCPT,
      "553 5.7.1 <s@from.example>: Sender address rejected: not owned by user "
      "ann" },
    { SENDER "reject_sender_login_mismatch\nsmtpd_sender_login_maps = "
             "inline:{s@from.example=joe}\n",
      "sasl=joe", ACCESS_RCPT, "" },
    /* ---- when the lists are asked */
    { CLIENT "reject\n", NULL, ACCESS_CONNECT, "" },
    { CLIENT "reject\nsmtpd_delay_reject = no\n", "norcpt=1", ACCESS_CONNECT,
      "554 5.7.1 <unknown[192.0.2.1]>: Client host rejected: Access denied" },
    { HELO "reject\nsmtpd_delay_reject = no\n", "norcpt=1", ACCESS_HELO,
      "554 5.7.1 <helo.example.org>: Helo command rejected: Access denied" },
    { SENDER "reject\nsmtpd_delay_reject = no\n", "norcpt=1", ACCESS_MAIL,
      "554 5.7.1 <s@from.example>: Sender address rejected: Access denied" },
    { SENDER "reject\nsmtpd_delay_reject = no\n", NULL, ACCESS_RCPT, "" },
    { RCPT "reject_unlisted_recipient, reject\nlocal_recipient_maps = "
           "inline:{joe=x}\nsmtpd_relay_before_recipient_restrictions = no\n",
      "rcpt=a@else.org", ACCESS_RCPT,
      "554 5.7.1 <a@else.org>: Recipient address rejected: Access denied" },
    { RCPT "reject\n", "rcpt=a@else.org", ACCESS_RCPT,
      "454 4.7.1 <a@else.org>: Relay access denied" },
};

static void test_lists(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct stand t;

        stand_init(&t, cases[i].settings);
        stand_set(&t, cases[i].field);
        assert_answer(stand_ask(&t, cases[i].stage), cases[i].want,
                      cases[i].settings);
        stand_done(&t);
    }
}

/* DEFER_IF_PERMIT of an earlier command, without smtpd_delay_reject. */
static void test_deferred(void **state)
{
    struct stand t;

    (void)state;
    stand_init(&t, "smtpd_delay_reject = no\n" HELO "defer_if_permit\n");
    assert_string_equal(stand_ask(&t, ACCESS_CONNECT), "");
    assert_string_equal(stand_ask(&t, ACCESS_HELO), "");
    assert_string_equal(stand_ask(&t, ACCESS_MAIL), "");
    assert_string_equal(stand_ask(&t, ACCESS_RCPT),
                        "450 4.7.0 <helo.example.org>: Helo command rejected: "
                        "defer_if_permit requested");
    stand_done(&t);
}

/* The log line has Postfix's shape. */
static void test_log(void **state)
{
    static struct stand t;
    char text[800];
    int saved = dup(2);
    int fd = memfd_create("log", MFD_CLOEXEC);
    ssize_t n;

    (void)state;
    stand_init(&t, RELAY "reject_unauth_destination\n");
    t.s.recipient = SL("a@else.org");
    t.s.sasl_user = SL("joe");
    assert_int_equal(dup2(fd, 2), 2);
    (void)stand_ask(&t, ACCESS_RCPT);
    assert_int_equal(dup2(saved, 2), 2);
    n = pread(fd, text, sizeof(text) - 1, 0);
    assert_true(n > 0);
    text[n] = '\0';
    if (strstr(text, "NOQUEUE: reject: RCPT from unknown[192.0.2.1]: 554 5.7.1 "
                     "<a@else.org>: Relay access denied; from=<s@from.example> "
                     "to=<a@else.org> proto=ESMTP helo=<helo.example.org> "
                     "sasl_username=<joe>") == NULL)
        fail_msg("%s", text);
    (void)close(fd);
    (void)close(saved);
    stand_done(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lists),
        cmocka_unit_test(test_deferred),
        cmocka_unit_test(test_log),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
