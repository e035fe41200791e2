#include "access/test_util.h"

#include "dns/dns.h"

#include <arpa/inet.h>

/* Restrictions that ask DNS, against an invented one.
 * covers: default_rbl_reply maps_rbl_domains maps_rbl_reject_code
 * permit_mx_backup_networks rbl_reply_maps reject_tempfail_action
 * smtpd_expansion_filter unknown_address_reject_code
 * unknown_address_tempfail_action unknown_client_reject_code
 * unknown_helo_hostname_tempfail_action unknown_hostname_reject_code
 * smtpd_dns_reply_filter */

static const struct {
    const char *name;
    enum dns_type type;
    const char *value; /* "!": fails; "": there, but not of this type */
} zone[] = {
    { "good.example", DNS_MX, "10 mx.good.example" },
    { "mx.good.example", DNS_A, "192.0.2.20" },
    { "host.example", DNS_A, "192.0.2.21" },
    { "six.example", DNS_AAAA, "2001:db8::21" },
    { "null.example", DNS_MX, "0 " },
    { "later.example", DNS_MX, "!" },
    { "later.example", DNS_A, "!" },
    { "later.example", DNS_AAAA, "!" },
    { "half.example", DNS_MX, "!" },
    { "half.example", DNS_A, "192.0.2.22" },
    { "1.2.0.192.bl.example", DNS_A, "127.0.0.2" },
    { "1.2.0.192.bl.example", DNS_A, "127.0.0.9" },
    { "1.2.0.192.bl.example", DNS_TXT, "listed; see\thttp://x/\xc3\xa4" },
    { "1.2.0.192.bl.example", DNS_TXT, "twice" },
    { "1.2.0.192.four.example", DNS_A, "127.0.0.4" },
    { "1.2.0.192.later.example", DNS_A, "!" },
    { "1.2.0.192.wl.example", DNS_A, "127.0.10.1" },
    { "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2."
      "bl.example",
      DNS_A, "127.0.0.3" },
    { "bad.example.rh.example", DNS_A, "127.0.1.2" },
    { "client.bad.example.rh.example", DNS_A, "127.0.1.2" },
    { "backup.example", DNS_MX, "10 primary.example" },
    { "backup.example", DNS_MX, "20 mx.example.com" },
    { "primary.example", DNS_A, "192.0.2.30" },
    { "byaddr.example", DNS_MX, "10 primary.example" },
    { "byaddr.example", DNS_MX, "20 alias.example" },
    { "alias.example", DNS_A, "127.0.0.1" },
    { "primary-is-us.example", DNS_MX, "10 mx.example.com" },
    { "primary-is-us.example", DNS_MX, "20 primary.example" },
    { "broken.example", DNS_MX, "10 lost.example" },
    { "broken.example", DNS_MX, "20 mx.example.com" },
    { "lost.example", DNS_A, "!" },
    { "lost.example", DNS_AAAA, "!" },
    { "spam.example", DNS_NS, "ns.evil.example" },
    { "sub.spam.example", DNS_A, "192.0.2.23" },
    { "ns.evil.example", DNS_A, "198.51.100.7" },
    { "spam.example", DNS_MX, "10 relay.evil.example" },
    { "relay.evil.example", DNS_A, "198.51.100.8" },
};

static unsigned n_calls;
static char asked[4096];

static void add(struct arena *a, struct dns_answer *out, enum dns_type type,
                const char *value)
{
    struct dns_rr *rr = &out->rr[out->n_rr++];
    slice rest = slice_str(value);
    slice pref;
    uint64_t n;

    rr->type = type;
    rr->ttl = 60;
    if (type == DNS_A) {
        assert_int_equal(inet_pton(AF_INET, value, rr->ip), 1);
    } else if (type == DNS_AAAA) {
        assert_int_equal(inet_pton(AF_INET6, value, rr->ip), 1);
    } else if (type == DNS_TXT) {
        rr->text = slice_dup(a, rest);
    } else {
        if (type == DNS_MX) {
            (void)slice_cut(&rest, ' ', &pref);
            assert_true(slice_u64(pref, &n));
            rr->pref = (unsigned)n;
        }
        rr->name = slice_dup(a, rest);
    }
}

static void invent(void *arg, const struct dns_question *q, struct arena *a,
                   struct dns_answer *out)
{
    bool has_name = false;

    (void)arg;
    n_calls++;
    (void)snprintf(asked + strlen(asked), sizeof asked - strlen(asked),
                   "%.*s/%d ", SLF(q->name), (int)q->type);
    *out = (struct dns_answer){ .result = DNS_NXDOMAIN,
                                .canonical = q->name,
                                .why = SL("Host not found"),
                                .ttl = 60 };
    out->rr = arena_alloc(a, 10 * sizeof *out->rr);
    for (size_t i = 0; i < ARRAY_LEN(zone); i++) {
        if (!slice_ieqs(q->name, zone[i].name))
            continue;
        has_name = true;
        if (zone[i].type != q->type)
            continue;
        if (zone[i].value[0] == '!') {
            out->result = DNS_FAIL;
            out->why = SL("SERVFAIL");
            return;
        }
        add(a, out, q->type, zone[i].value);
    }
    if (out->n_rr > 0)
        out->result = DNS_OK;
    else if (has_name)
        out->result = DNS_NODATA;
}

struct name_case {
    const char *settings;
    const char *field;
    const char *want;
};

#define CLIENT "smtpd_client_restrictions = "
#define HELO   "smtpd_helo_restrictions = "
#define SENDER "smtpd_sender_restrictions = "
#define RELAY  "smtpd_relay_restrictions = "
#define RCPT   "smtpd_recipient_restrictions = "

static const struct name_case cases[] = {
    /* ---- the client's name */
    { CLIENT "reject_unknown_client_hostname\n", "status=1", "" },
    { CLIENT "reject_unknown_client_hostname\n", NULL,
      "450 4.7.25 Client host rejected: cannot find your hostname, "
      "[192.0.2.1]" },
    { CLIENT "reject_unknown_client\nunknown_client_reject_code = 550\n",
      "status=3",
      "550 5.7.25 Client host rejected: cannot find your hostname, "
      "[192.0.2.1]" },
    { CLIENT "reject_unknown_client_hostname\n"
             "unknown_client_reject_code = 550\n",
      "status=2",
      "450 4.7.25 Client host rejected: cannot find your hostname, "
      "[192.0.2.1]" },
    { CLIENT "reject_unknown_reverse_client_hostname\n", "rstatus=1", "" },
    { CLIENT "reject_unknown_reverse_client_hostname\n", "status=1",
      "450 4.7.1 Client host rejected: cannot find your reverse hostname, "
      "[192.0.2.1]" },
    { CLIENT "check_client_access inline:{.example=REJECT}\n"
             "parent_domain_matches_subdomains =\n",
      "name=a.b.example",
      "554 5.7.1 <a.b.example[192.0.2.1]>: Client host rejected: Access "
      "denied" },
    { CLIENT "check_reverse_client_hostname_access inline:{a.example=REJECT}\n",
      "rname=a.example",
      "554 5.7.1 <a.example>: Unverified Client host rejected: Access "
      "denied" },
    /* ---- HELO */
    { HELO "reject_unknown_helo_hostname\n", "helo=good.example", "" },
    { HELO "reject_unknown_helo_hostname\n", "helo=host.example", "" },
    { HELO "reject_unknown_helo_hostname\n", "helo=six.example", "" },
    { HELO "reject_unknown_helo_hostname\n", "helo=half.example", "" },
    { HELO "reject_unknown_helo_hostname\n", "helo=[192.0.2.7]", "" },
    { HELO "reject_unknown_helo_hostname\n", "helo=[192.0.2]",
      "501 5.5.2 <[192.0.2]>: Helo command rejected: invalid ip address" },
    { HELO "reject_unknown_helo_hostname\n", "helo=no.example",
      "450 4.7.1 <no.example>: Helo command rejected: Host not found" },
    { HELO "reject_unknown_hostname\nunknown_hostname_reject_code = 550\n",
      "helo=n_o..example",
      "550 5.7.1 <n_o..example>: Helo command rejected: Host not found" },
    { HELO "reject_unknown_helo_hostname\n"
           "unknown_hostname_reject_code = 550\n",
      "helo=later.example",
      "450 4.7.1 <later.example>: Helo command rejected: Host not found" },
    { HELO "reject_unknown_helo_hostname\n"
           "unknown_helo_hostname_tempfail_action = defer\n" RELAY "reject\n",
      "helo=later.example",
      "450 4.7.1 <later.example>: Helo command rejected: Host not found" },
    { HELO "reject_unknown_helo_hostname\n" RELAY "reject\n",
      "helo=later.example",
      "554 5.7.1 <joe@example.com>: Recipient address rejected: Access "
      "denied" },
    /* ---- senders and recipients */
    { SENDER "reject_unknown_sender_domain\n", "sender=a@good.example", "" },
    { SENDER "reject_unknown_sender_domain\n", "sender=a@example.com", "" },
    { SENDER "reject_unknown_sender_domain\n", "sender=a@[192.0.2.1]", "" },
    { SENDER "reject_unknown_sender_domain\n", "sender=", "" },
    { SENDER "reject_unknown_sender_domain\n", "sender=a@no.example",
      "450 4.1.8 <a@no.example>: Sender address rejected: Domain not found" },
    { SENDER "reject_unknown_address\nunknown_address_reject_code = 554\n",
      "sender=a@no.example",
      "554 5.1.8 <a@no.example>: Sender address rejected: Domain not found" },
    { SENDER "reject_unknown_sender_domain\n", "sender=a@null.example",
      "550 5.7.27 <a@null.example>: Sender address rejected: Domain "
      "null.example does not accept mail (nullMX)" },
    { SENDER "reject_unknown_sender_domain\n"
             "unknown_address_reject_code = 554\n",
      "sender=a@later.example",
      "450 4.1.8 <a@later.example>: Sender address rejected: Domain not "
      "found" },
    { SENDER "reject_unknown_sender_domain\n" RELAY "reject\n",
      "sender=a@later.example",
      "554 5.7.1 <joe@example.com>: Recipient address rejected: Access "
      "denied" },
    { SENDER "reject_unknown_sender_domain\n" RELAY "reject\n"
             "reject_tempfail_action = defer\n",
      "sender=a@later.example",
      "450 4.1.8 <a@later.example>: Sender address rejected: Domain not "
      "found" },
    { SENDER "warn_if_reject reject_unknown_sender_domain\n",
      "sender=a@later.example", "" },
    { RCPT "reject_unknown_recipient_domain\n", "rcpt=a@no.example,ours=1",
      "450 4.1.2 <a@no.example>: Recipient address rejected: Domain not "
      "found" },
    { RCPT "reject_unknown_recipient_domain\n", "rcpt=a@null.example,ours=1",
      "556 5.1.10 <a@null.example>: Recipient address rejected: Domain "
      "null.example does not accept mail (nullMX)" },
    { RCPT "reject_unknown_recipient_domain\n", NULL, "" },
    /* ---- DNS lists */
    { CLIENT "reject_rbl_client bl.example\n", NULL,
      "554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using "
      "bl.example; listed; see http://x/__ / twice" },
    { CLIENT "reject_rbl_client four.example\nmaps_rbl_reject_code = 550\n",
      NULL,
      "550 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using "
      "four.example" },
    { CLIENT "reject_rbl_client none.example\n", NULL, "" },
    { CLIENT "reject_rbl_client later.example\n", NULL, "" },
    { CLIENT "reject_rbl_client bl.example=127.0.0.3\n", NULL, "" },
    { CLIENT "reject_rbl_client bl.example=127.0.0.[3..8;10]\n", NULL, "" },
    { CLIENT "reject_rbl_client four.example=127.0.0.[2;4..11]\n", NULL,
      "554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using "
      "four.example" },
    { CLIENT "reject_rbl_client bl.example\n", "addr=2001:db8::1",
      "554 5.7.1 Service unavailable; Client host [2001:db8::1] blocked using "
      "bl.example" },
    { CLIENT "reject_rbl_client bl.example\n", "addr=192.0.2.2", "" },
    { CLIENT "permit_dnswl_client wl.example, reject_rbl_client bl.example\n",
      NULL, "" },
    { CLIENT "permit_dnswl_client wl.example=127.0.[0..9].1, "
             "reject_rbl_client four.example\n",
      NULL,
      "554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using "
      "four.example" },
    { CLIENT "permit_dnswl_client later.example, "
             "reject_rbl_client four.example\n",
      NULL,
      "450 4.7.1 <192.0.2.1>: Client host rejected: Service unavailable" },
    { RELAY "permit_dnswl_client wl.example, reject_unauth_destination\n",
      "rcpt=a@else.org", "554 5.7.1 <a@else.org>: Relay access denied" },
    { CLIENT "reject_rhsbl_client rh.example\n", "name=client.bad.example",
      "554 5.7.1 Service unavailable; Client host [client.bad.example] blocked "
      "using rh.example" },
    { CLIENT "reject_rhsbl_client rh.example\n", NULL, "" },
    { CLIENT "permit_rhswl_client rh.example, reject\n",
      "name=client.bad.example", "" },
    { CLIENT "reject_rhsbl_reverse_client rh.example=127.0.1.2\n",
      "rname=bad.example",
      "554 5.7.1 Service unavailable; Unverified Client host [bad.example] "
      "blocked using rh.example" },
    { HELO "reject_rhsbl_helo rh.example\n", "helo=bad.example",
      "554 5.7.1 Service unavailable; Helo command [bad.example] blocked using "
      "rh.example" },
    { SENDER "reject_rhsbl_sender rh.example\n", "sender=x@bad.example",
      "554 5.7.1 Service unavailable; Sender address [x@bad.example] blocked "
      "using rh.example" },
    { SENDER "reject_rhsbl_sender rh.example\n", "sender=", "" },
    { SENDER "reject_rhsbl_sender rh.example\n", "sender=x@[192.0.2.1]", "" },
    { SENDER "reject_rhsbl_sender rh.example\n", "sender=x@b a d", "" },
    { RCPT "reject_rhsbl_recipient rh.example\n", "rcpt=x@bad.example,ours=1",
      "554 5.7.1 Service unavailable; Recipient address [x@bad.example] "
      "blocked using rh.example" },
    { CLIENT "reject_maps_rbl\nmaps_rbl_domains = none.example four.example\n",
      NULL,
      "554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using "
      "four.example" },
    /* ---- answers that are taken out */
    { CLIENT "reject_rbl_client four.example\n"
             "smtpd_dns_reply_filter = "
             "inline:{{1.2.0.192.four.example. 60 IN A 127.0.0.4 = ignore}}\n",
      NULL, "" },
    { CLIENT "reject_rbl_client four.example\n"
             "smtpd_dns_reply_filter = "
             "inline:{{1.2.0.192.four.example. 60 IN A 127.0.0.5 = ignore}}\n",
      NULL,
      "554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using "
      "four.example" },
    { SENDER "check_sender_mx_access inline:{evil.example=REJECT}\n"
             "smtpd_dns_reply_filter = inline:{{spam.example. 60 IN MX 10 "
             "relay.evil.example. = IGNORE}}\n",
      "sender=a@spam.example", "" },
    /* ---- texts */
    { CLIENT "reject_rbl_client four.example\n"
             "default_rbl_reply = $rbl_code 4.1.0 $client|$client_name|"
             "$helo_name|$sender_domain|$recipient_name|$rbl_domain|$rbl_what|"
             "$rbl_txt${rbl_reason?yes}|\n",
      NULL,
      "554 5.1.0 unknown[192.0.2.1]|unknown|helo.example.org|from.example|joe|"
      "four.example|192.0.2.1||" },
    { CLIENT "reject_rbl_client four.example\ndefault_rbl_reply = busy\n", NULL,
      "450 4.7.1 Service unavailable" },
    { CLIENT
      "reject_rbl_client four.example\n"
      "rbl_reply_maps = inline:{{four.example=421 4.7.0 go $$rbl_class}}\n",
      NULL, "421 4.7.0 go Client host" },
    { CLIENT "reject_rbl_client four.example=127.0.0.4\n"
             "rbl_reply_maps = inline:{{four.example=421 x}}\n",
      NULL,
      "554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using "
      "four.example" },
    { CLIENT "reject_rbl_client four.example\nrbl_reply_maps = fail:x\n", NULL,
      "451 4.3.5 Server configuration error" },
    { CLIENT "reject_rbl_client four.example\n"
             "smtpd_expansion_filter = \\141-z\\40\n"
             "default_rbl_reply = 550 5.7.1 $helo_name x\n",
      "helo=aZ-z", "550 5.7.1 a_-z x" },
    /* ---- the hosts behind names */
    { SENDER "check_sender_mx_access inline:{198.51.100=REJECT}\n",
      "sender=a@spam.example",
      "554 5.7.1 <a@spam.example>: Sender address rejected: Access denied" },
    { SENDER "check_sender_mx_access inline:{{evil.example=REJECT no}}\n",
      "sender=a@spam.example",
      "554 5.7.1 <a@spam.example>: Sender address rejected: no" },
    { SENDER "check_sender_mx_access inline:{192.0.2.21=REJECT}\n",
      "sender=a@host.example",
      "554 5.7.1 <a@host.example>: Sender address rejected: Access denied" },
    { SENDER "check_sender_mx_access inline:{192.0.2.21=OK}\n",
      "sender=a@host.example", "451 4.3.5 Server configuration error" },
    { SENDER "check_sender_mx_access inline:{192.0.2.21=DUNNO} "
             "check_sender_mx_access static:REJECT\n",
      "sender=a@null.example", "" },
    { SENDER "check_sender_mx_access inline:{192.0.2.1=REJECT}\n",
      "sender=a@[192.0.2.1]",
      "554 5.7.1 <a@[192.0.2.1]>: Sender address rejected: Access denied" },
    { SENDER "check_sender_ns_access inline:{ns.evil.example=REJECT}\n",
      "sender=a@sub.spam.example",
      "554 5.7.1 <a@sub.spam.example>: Sender address rejected: Access "
      "denied" },
    { SENDER "check_sender_a_access inline:{{192.0.2.21=450 4.7.1 wait}}\n",
      "sender=a@host.example",
      "450 4.7.1 <a@host.example>: Sender address rejected: wait" },
    { SENDER "check_sender_mx_access static:REJECT\n", "sender=a@later.example",
      "" },
    { HELO "check_helo_a_access inline:{192.0.2.21=REJECT}\n",
      "helo=host.example",
      "554 5.7.1 <host.example>: Helo command rejected: Access denied" },
    { HELO "check_helo_mx_access inline:{mx.good.example=REJECT}\n",
      "helo=good.example",
      "554 5.7.1 <good.example>: Helo command rejected: Access denied" },
    { HELO "check_helo_ns_access inline:{198.51.100.7=REJECT}\n",
      "helo=spam.example",
      "554 5.7.1 <spam.example>: Helo command rejected: Access denied" },
    { CLIENT "check_client_ns_access inline:{198.51.100.7=REJECT}\n",
      "name=x.spam.example",
      "554 5.7.1 <x.spam.example[192.0.2.1]>: Client host rejected: Access "
      "denied" },
    { CLIENT "check_client_a_access static:REJECT\n", NULL, "" },
    { CLIENT "check_reverse_client_hostname_mx_access "
             "inline:{relay.evil.example=REJECT}\n",
      "rname=spam.example",
      "554 5.7.1 <spam.example>: Unverified Client host rejected: Access "
      "denied" },
    { RCPT "check_recipient_mx_access inline:{192.0.2.20=REJECT}\n",
      "rcpt=a@good.example,ours=1",
      "554 5.7.1 <a@good.example>: Recipient address rejected: Access "
      "denied" },
    /* ---- permit_mx_backup */
    { RELAY "permit_mx_backup, reject\n", "rcpt=a@backup.example", "" },
    { RELAY "permit_mx_backup, reject\n", "rcpt=a@byaddr.example", "" },
    { RELAY "permit_mx_backup, reject\n", "rcpt=a@primary-is-us.example",
      "554 5.7.1 <a@primary-is-us.example>: Recipient address rejected: Access "
      "denied" },
    { RELAY "permit_mx_backup, reject\n", "rcpt=a@null.example",
      "554 5.7.1 <a@null.example>: Recipient address rejected: Access "
      "denied" },
    { RELAY "permit_mx_backup, reject\n", "rcpt=a@good.example",
      "554 5.7.1 <a@good.example>: Recipient address rejected: Access "
      "denied" },
    { RELAY "permit_mx_backup, reject\n", "rcpt=a@example.com", "" },
    { RELAY "permit_mx_backup, reject\n", "rcpt=a@[192.0.2.1]",
      "554 5.7.1 <a@[192.0.2.1]>: Recipient address rejected: Access "
      "denied" },
    { RELAY "permit_mx_backup, reject\n", "rcpt=a%x.org@backup.example",
      "554 5.7.1 <a%x.org@backup.example>: Recipient address rejected: Access "
      "denied" },
    { RELAY "permit_mx_backup, reject\n"
            "permit_mx_backup_networks = 192.0.2.30\n",
      "rcpt=a@backup.example", "" },
    { RELAY "permit_mx_backup, reject\n"
            "permit_mx_backup_networks = 192.0.2.31\n",
      "rcpt=a@backup.example",
      "554 5.7.1 <a@backup.example>: Recipient address rejected: Access "
      "denied" },
    { RELAY "permit_mx_backup, reject\n"
            "permit_mx_backup_networks = 192.0.2.31\n",
      "rcpt=a@broken.example",
      "450 4.4.4 <a@broken.example>: Recipient address rejected: Unable to "
      "look up host lost.example as mail exchanger: SERVFAIL" },
    { RELAY "permit_mx_backup, reject\n", "rcpt=a@later.example",
      "450 4.4.4 <a@later.example>: Recipient address rejected: Unable to look "
      "up mail exchanger information: SERVFAIL" },
};

static struct dns *dns;

static void open_stand(struct stand *t, const char *settings,
                       const char *fields)
{
    static char text[1200];

    (void)snprintf(
        text, sizeof text, "%s%s", settings,
        fields != NULL && strstr(fields, "ours=") != NULL
            ? "relay_domains = good.example, bad.example, no.example, "
              "null.example\n"
            : "");
    stand_init(t, text);
    access_set_dns(t->access, dns, NULL);
    stand_set(t, fields);
}

static void test_cases(void **state)
{
    unsigned n_wrong = 0;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct stand t;
        const char *got;

        open_stand(&t, cases[i].settings, cases[i].field);
        got = stand_ask(&t, ACCESS_RCPT);
        if (strcmp(got, cases[i].want) != 0) {
            print_error("%s (%s): \"%s\" instead of \"%s\"\n",
                        cases[i].settings, cases[i].field, got, cases[i].want);
            n_wrong++;
        }
        stand_done(&t);
    }
    assert_int_equal(n_wrong, 0);
}

/* Lists that stand in a row are asked once, and for a transaction only once;
 * what is decided before them spares the questions. */
static void test_questions(void **state)
{
    static const char lists[] =
        CLIENT "permit_mynetworks, reject_rbl_client none.example, "
               "reject_rbl_client nor.example, reject_rhsbl_sender rh.example, "
               "permit, reject_rbl_client not.example\n";
    struct stand t;

    (void)state;
    open_stand(&t, lists, NULL);
    n_calls = 0;
    asked[0] = '\0';
    assert_string_equal(stand_ask(&t, ACCESS_RCPT), "");
    assert_string_equal(asked, "1.2.0.192.none.example/1 "
                               "1.2.0.192.nor.example/1 "
                               "from.example.rh.example/1 ");
    t.s.recipient = SL("ann@example.com");
    assert_string_equal(stand_ask(&t, ACCESS_RCPT), "");
    assert_int_equal(n_calls, 3);
    stand_done(&t);

    open_stand(&t, lists, "addr=127.0.0.1");
    n_calls = 0;
    assert_string_equal(stand_ask(&t, ACCESS_RCPT), "");
    assert_int_equal(n_calls, 0);
    stand_done(&t);
}

static void test_filters(void **state)
{
    static const struct {
        const char *spec;
        const char *good, *bad; /* NULL: malformed */
    } specs[] = {
        { "a.example", "127.0.0.1", NULL },
        { "a.example.", "127.0.0.1", NULL },
        { "a.example=127.0.0.2", "127.0.0.2", "127.0.0.3" },
        { "a.example=127.0.0.[2..11]", "127.0.0.11", "127.0.0.12" },
        { "a.example=127.0.0.[2..2;9]", "127.0.0.9", "127.0.0.8" },
        { "a.example=[0..255].[1;2;3].0.1", "9.2.0.1", "9.4.0.1" },
        { "a.example=", NULL, NULL },
        { "a.example=127.0.0", NULL, NULL },
        { "a.example=127.0.0.256", NULL, NULL },
        { "a.example=127.0.0.[3..2]", NULL, NULL },
        { "a.example=127.0.0.[]", NULL, NULL },
        { "a.example=127.0.0.[1", NULL, NULL },
        { "a.example=127.0.0.[1;]", NULL, NULL },
        { "a.example=127.0.0.1.", NULL, NULL },
        { "a.example=127.0.0.-1", NULL, NULL },
        { "a.example=127..0.1", NULL, NULL },
        { "a..example", NULL, NULL },
        { "=127.0.0.1", NULL, NULL },
        { "", NULL, NULL },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(specs); i++) {
        struct access_dnsxl list;
        uint8_t ip[4];
        bool ok = access_dnsxl_parse(slice_str(specs[i].spec), &list);

        if (ok != (specs[i].good != NULL))
            fail_msg("%s", specs[i].spec);
        if (!ok)
            continue;
        assert_true(slice_eqs(list.domain, "a.example"));
        assert_int_equal(inet_pton(AF_INET, specs[i].good, ip), 1);
        assert_true(access_filter_match(&list.filter, ip));
        if (specs[i].bad == NULL)
            continue;
        assert_int_equal(inet_pton(AF_INET, specs[i].bad, ip), 1);
        assert_false(access_filter_match(&list.filter, ip));
    }
}

/* Without a resolver nothing is refused for good. */
static void test_no_resolver(void **state)
{
    struct stand t;

    (void)state;
    open_stand(&t,
               CLIENT "reject_rbl_client bl.example\n" SENDER
                      "reject_unknown_sender_domain\n",
               NULL);
    access_set_dns(t.access, NULL, NULL);
    assert_string_equal(stand_ask(&t, ACCESS_RCPT),
                        "450 4.1.8 <s@from.example>: Sender address rejected: "
                        "Domain not found");
    stand_done(&t);
}

static int setup(void **state)
{
    (void)state;
    dns = dns_new_fake(invent, NULL);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    dns_free(&dns);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cases),
        cmocka_unit_test(test_questions),
        cmocka_unit_test(test_filters),
        cmocka_unit_test(test_no_resolver),
    };

    return cmocka_run_group_tests_name("names", tests, setup, teardown);
}
