#include "access/access_priv.h"

#include "ipc/event.h"
#include "mail/address.h"
#include "mail/domain.h"

/* The restrictions themselves, one function each. */

/* ------------------------------------------------------------------ *
 * Plain words
 */

static enum verdict permit(struct check *c, const struct rule *r)
{
    (void)r;
    c->grants_relay = false;
    return SAYS_OK;
}

static enum verdict dunno(struct check *c, const struct rule *r)
{
    (void)c;
    (void)r;
    return SAYS_DUNNO;
}

static enum verdict reject(struct check *c, const struct rule *r)
{
    (void)r;
    return check_refuse(c, false, c->a->reject_code, "5.7.1",
                        "<%.*s>: %s rejected: Access denied",
                        SLF(c->reply_name), c->reply_class);
}

static enum verdict defer(struct check *c, const struct rule *r)
{
    (void)r;
    return check_refuse(c, false, c->a->defer_code, "4.3.2",
                        "<%.*s>: %s rejected: Try again later",
                        SLF(c->reply_name), c->reply_class);
}

static enum verdict defer_if_permit(struct check *c, const struct rule *r)
{
    (void)r;
    check_defer_if(c, &c->if_permit, "4.7.0", "defer_if_permit requested");
    return SAYS_DUNNO;
}

static enum verdict defer_if_reject(struct check *c, const struct rule *r)
{
    (void)r;
    check_defer_if(c, &c->if_reject, "4.7.0", "defer_if_reject requested");
    return SAYS_DUNNO;
}

static enum verdict reject_unauth_pipelining(struct check *c,
                                             const struct rule *r)
{
    (void)r;
    if (!c->s->has_early_input)
        return SAYS_DUNNO;
    return check_refuse(c, false, 503, "5.5.0",
                        "<%.*s>: %s rejected: Improper use of SMTP command "
                        "pipelining",
                        SLF(c->reply_name), c->reply_class);
}

#define SLEEP_MAX_S 30

MAY_WAIT static enum verdict do_sleep(struct check *c, const struct rule *r)
{
    struct err err;

    (void)c;
    if (r->number == 0 || !task_inside())
        return SAYS_DUNNO;
    if (task_sleep((msec)r->number * 1000, &err) < 0 && err.class == ERR_PEER)
        return SAYS_GONE;
    return SAYS_DUNNO;
}

/* ------------------------------------------------------------------ *
 * Who the client is
 */

MAY_WAIT static enum verdict permit_mynetworks(struct check *c,
                                               const struct rule *r)
{
    struct err err;
    bool ours;

    (void)r;
    if (access_is_mynetworks(c->a, c->s, &ours, &err) < 0)
        return check_trouble(c, c->reply_name, &err);
    c->grants_relay = ours;
    return ours ? SAYS_OK : SAYS_DUNNO;
}

static enum verdict permit_inet_interfaces(struct check *c,
                                           const struct rule *r)
{
    uint8_t ip[16];
    int family;

    (void)r;
    if (!mail_ip_parse(c->s->addr, &family, ip))
        return SAYS_DUNNO;
    for (size_t i = 0; i < c->a->n_own; i++) {
        if (c->a->own[i].is_v6 == (family == 6) &&
            memcmp(c->a->own[i].ip, ip, family == 6 ? 16 : 4) == 0) {
            c->grants_relay = true;
            return SAYS_OK;
        }
    }
    return SAYS_DUNNO;
}

static enum verdict permit_sasl(struct check *c, const struct rule *r)
{
    (void)r;
    c->grants_relay = c->s->sasl_user.n > 0;
    return c->grants_relay ? SAYS_OK : SAYS_DUNNO;
}

/* ------------------------------------------------------------------ *
 * Access tables
 */

/* 0, or -1 with *says; a table in trouble is a fault of ours (451). */
MAY_WAIT static int ask(struct asking *q, slice key, unsigned flags,
                        enum verdict *says)
{
    struct err err;

    if (table_list_lookup(q->r->table, key, flags, q->a, &q->value, &err) ==
        0) {
        q->key = key;
        return 0;
    }
    if (err.class == ERR_PEER) {
        *says = SAYS_GONE;
        return -1;
    }
    log_warning("%s", err.log);
    *says = check_refuse(q->c, true, 451, "4.3.5",
                         "<%.*s>: %s rejected: Server configuration error",
                         SLF(q->c->reply_name), q->c->reply_class);
    return -1;
}

int check_ask_domain(struct asking *q, slice domain, enum verdict *says)
{
    unsigned flags = 0;
    slice name = domain;

    while (name.n > 0) {
        ssize_t dot;

        if (ask(q, name, flags, says) < 0)
            return -1;
        dot = slice_chr(slice_from(name, 1), '.');
        if (q->value.p != NULL || dot < 0)
            return 0;
        name = slice_from(name,
                          (size_t)dot + 1 + (q->c->a->access_parents ? 1 : 0));
        flags = TABLE_FIXED_ONLY;
    }
    return 0;
}

int check_ask_addr(struct asking *q, slice addr, enum verdict *says)
{
    char delimiter = slice_chr(addr, ':') >= 0 ? ':' : '.';
    unsigned flags = 0;
    slice net = addr;

    while (net.n > 0) {
        ssize_t at;

        if (ask(q, net, flags, says) < 0)
            return -1;
        at = slice_rchr(net, delimiter);
        if (q->value.p != NULL || at < 0)
            return 0;
        net = slice_sub(net, 0, (size_t)at);
        flags = TABLE_FIXED_ONLY;
    }
    return 0;
}

MAY_WAIT static int ask_mail(struct asking *q, slice addr, enum verdict *says)
{
    const struct access *a = q->c->a;
    struct table_addr_find how = {
        .strategy =
            TABLE_ADDR_FULL | TABLE_ADDR_NOEXT | TABLE_ADDR_DOMAIN |
            TABLE_ADDR_USER_AT |
            (a->access_parents ? TABLE_ADDR_PARENT_BARE : TABLE_ADDR_PARENT),
        .delimiters = a->delimiters,
    };
    struct address_route route;
    struct err err;

    if (addr.n == 0)
        return ask(q, a->null_key, 0, says);
    /* Postfix asks for the resolved address. */
    if (address_resolve(a->address, q->c->s->sender, addr, q->a, &route, &err) <
        0) {
        *says = check_trouble(q->c, addr, &err);
        return -1;
    }
    q->key = route.recipient;
    if (table_list_find_addr(q->r->table, route.recipient, &how, q->a,
                             &q->value, NULL, &err) == 0)
        return 0;
    if (err.class == ERR_PEER) {
        *says = SAYS_GONE;
        return -1;
    }
    log_warning("%s", err.log);
    *says = check_refuse(q->c, true, 451, "4.3.5",
                         "<%.*s>: %s rejected: Server configuration error",
                         SLF(q->c->reply_name), q->c->reply_class);
    return -1;
}

/* Ask `what` and act on the answer, which speaks of `name`. */
MAY_WAIT static enum verdict by_table(struct check *c, const struct rule *r,
                                      int (*what)(struct asking *q,
                                                  enum verdict *says),
                                      slice name, const char *reply_class)
{
    struct arena *a CLEANUP(arena_free) = arena_new(4u << 20);
    struct asking q = { .c = c, .r = r, .a = a };
    slice saved_name = c->reply_name;
    const char *saved_class = c->reply_class;
    enum verdict says = SAYS_DUNNO;

    c->reply_name = name;
    c->reply_class = reply_class;
    if (what(&q, &says) == 0 && q.value.p != NULL)
        says = check_result(c, r, q.key, q.value);
    c->reply_name = saved_name;
    c->reply_class = saved_class;
    return says;
}

MAY_WAIT static int ask_client(struct asking *q, enum verdict *says)
{
    struct access_session *s = q->c->s;

    if (s->name.n > 0 && check_ask_domain(q, s->name, says) < 0)
        return -1;
    if (q->value.p != NULL)
        return 0;
    return check_ask_addr(q, s->addr, says);
}

MAY_WAIT static int ask_reverse_client(struct asking *q, enum verdict *says)
{
    struct access_session *s = q->c->s;

    if (s->reverse_name.n > 0 && check_ask_domain(q, s->reverse_name, says) < 0)
        return -1;
    if (q->value.p != NULL)
        return 0;
    return check_ask_addr(q, s->addr, says);
}

MAY_WAIT static int ask_helo(struct asking *q, enum verdict *says)
{
    return check_ask_domain(q, q->c->s->helo, says);
}

MAY_WAIT static int ask_etrn(struct asking *q, enum verdict *says)
{
    return check_ask_domain(q, q->c->s->etrn, says);
}

MAY_WAIT static int ask_sender(struct asking *q, enum verdict *says)
{
    return ask_mail(q, q->c->s->sender, says);
}

MAY_WAIT static int ask_recipient(struct asking *q, enum verdict *says)
{
    return ask_mail(q, q->c->s->recipient, says);
}

MAY_WAIT static int ask_sasl(struct asking *q, enum verdict *says)
{
    return ask(q, q->c->s->sasl_user, 0, says);
}

MAY_WAIT static enum verdict check_client_access(struct check *c,
                                                 const struct rule *r)
{
    return by_table(c, r, ask_client, check_client_text(c->a, c->s),
                    "Client host");
}

MAY_WAIT static enum verdict check_reverse_client(struct check *c,
                                                  const struct rule *r)
{
    return check_forbid_ok(c, r,
                           by_table(c, r, ask_reverse_client,
                                    c->s->reverse_name,
                                    "Unverified Client host"),
                           c->s->reverse_name);
}

MAY_WAIT static enum verdict check_helo_access(struct check *c,
                                               const struct rule *r)
{
    if (c->s->helo.n == 0)
        return SAYS_DUNNO;
    return by_table(c, r, ask_helo, c->s->helo, "Helo command");
}

MAY_WAIT static enum verdict check_sender_access(struct check *c,
                                                 const struct rule *r)
{
    if (!c->s->has_sender)
        return SAYS_DUNNO;
    return by_table(c, r, ask_sender, c->s->sender, "Sender address");
}

MAY_WAIT static enum verdict check_recipient_access(struct check *c,
                                                    const struct rule *r)
{
    if (c->s->recipient.p == NULL)
        return SAYS_DUNNO;
    return by_table(c, r, ask_recipient, c->s->recipient, "Recipient address");
}

MAY_WAIT static enum verdict check_etrn_access(struct check *c,
                                               const struct rule *r)
{
    if (c->s->etrn.n == 0)
        return SAYS_DUNNO;
    return by_table(c, r, ask_etrn, c->s->etrn, "Etrn command");
}

MAY_WAIT static enum verdict check_sasl_access(struct check *c,
                                               const struct rule *r)
{
    if (c->s->sasl_user.n == 0)
        return SAYS_DUNNO;
    return by_table(c, r, ask_sasl, c->s->sasl_user, "SASL login name");
}

/* ------------------------------------------------------------------ *
 * Names
 */

static slice without_dot(slice name)
{
    if (name.n > 1 && name.p[name.n - 1] == '.')
        name.n--;
    return name;
}

static bool is_hostname(slice name)
{
    uint8_t ip[16];
    int family;

    return name.n > 0 && mail_domain_valid(name) &&
           !mail_ip_parse(name, &family, ip);
}

static enum verdict helo_literal(struct check *c)
{
    uint8_t ip[16];
    int family;

    if (mail_literal_parse(c->s->helo, &family, ip))
        return SAYS_DUNNO;
    return check_refuse(c, false, c->a->bad_name_code, "5.5.2",
                        "<%.*s>: Helo command rejected: invalid ip address",
                        SLF(c->s->helo));
}

static enum verdict reject_invalid_helo(struct check *c, const struct rule *r)
{
    slice helo = c->s->helo;

    (void)r;
    if (helo.n == 0)
        return SAYS_DUNNO;
    if (helo.p[0] == '[')
        return helo_literal(c);
    if (is_hostname(without_dot(helo)))
        return SAYS_DUNNO;
    return check_refuse(c, false, c->a->bad_name_code, "5.5.2",
                        "<%.*s>: Helo command rejected: Invalid name",
                        SLF(helo));
}

static enum verdict reject_non_fqdn_helo(struct check *c, const struct rule *r)
{
    slice helo = c->s->helo;

    (void)r;
    if (helo.n == 0)
        return SAYS_DUNNO;
    if (helo.p[0] == '[')
        return helo_literal(c);
    if (is_hostname(without_dot(helo)) &&
        slice_chr(without_dot(helo), '.') >= 0)
        return SAYS_DUNNO;
    return check_refuse(c, false, c->a->non_fqdn_code, "5.5.2",
                        "<%.*s>: Helo command rejected: need fully-qualified "
                        "hostname",
                        SLF(helo));
}

static enum verdict non_fqdn_address(struct check *c, slice addr,
                                     const char *reply_class)
{
    slice local;
    slice domain;

    if (!mail_addr_split(addr, &local, &domain))
        domain = SLICE_NONE;
    domain = without_dot(domain);
    if (domain.n > 1 && domain.p[0] == '[' && domain.p[domain.n - 1] == ']')
        return SAYS_DUNNO;
    if (is_hostname(domain) && slice_chr(domain, '.') >= 0)
        return SAYS_DUNNO;
    return check_refuse(c, false, c->a->non_fqdn_code, "5.5.2",
                        "<%.*s>: %s rejected: need fully-qualified address",
                        SLF(addr), reply_class);
}

static enum verdict reject_non_fqdn_sender(struct check *c,
                                           const struct rule *r)
{
    (void)r;
    if (!c->s->has_sender || c->s->sender.n == 0)
        return SAYS_DUNNO;
    return non_fqdn_address(c, c->s->sender, "Sender address");
}

static enum verdict reject_non_fqdn_rcpt(struct check *c, const struct rule *r)
{
    (void)r;
    /* RFC 5321 4.5.1: postmaster is taken without a domain. */
    if (c->s->recipient.n == 0 || slice_ieqs(c->s->recipient, "postmaster"))
        return SAYS_DUNNO;
    return non_fqdn_address(c, c->s->recipient, "Recipient address");
}

/* ------------------------------------------------------------------ *
 * Recipients and senders
 */

enum verdict check_auth_destination(struct check *c)
{
    struct arena *a CLEANUP(arena_free) = arena_new(1u << 20);
    struct address_route route;
    struct err err;

    if (c->s->recipient.p == NULL)
        return SAYS_DUNNO;
    if (address_resolve(c->a->address, c->s->sender, c->s->recipient, a, &route,
                        &err) < 0)
        return check_trouble(c, c->s->recipient, &err);
    if (route.is_routed && !c->a->allows_routes)
        return SAYS_DUNNO;
    return route.class == ADDRESS_CLASS_DEFAULT ? SAYS_DUNNO : SAYS_OK;
}

enum verdict check_unauth_destination(struct check *c, int code,
                                      const char *status)
{
    enum verdict says = check_auth_destination(c);

    if (says == SAYS_OK || c->s->recipient.p == NULL)
        return SAYS_DUNNO;
    if (says != SAYS_DUNNO)
        return says;
    return check_refuse(c, false, code, status, "<%.*s>: Relay access denied",
                        SLF(c->s->recipient));
}

MAY_WAIT static enum verdict permit_auth_destination(struct check *c,
                                                     const struct rule *r)
{
    (void)r;
    return check_auth_destination(c);
}

MAY_WAIT static enum verdict reject_unauth_destination(struct check *c,
                                                       const struct rule *r)
{
    (void)r;
    return check_unauth_destination(c, c->a->relay_code, "5.7.1");
}

MAY_WAIT static enum verdict defer_unauth_destination(struct check *c,
                                                      const struct rule *r)
{
    int code = c->a->relay_code;

    (void)r;
    return check_unauth_destination(c, code >= 500 ? code - 100 : code,
                                    "4.7.1");
}

MAY_WAIT static enum verdict unlisted(struct check *c, slice addr,
                                      bool is_sender)
{
    struct arena *a CLEANUP(arena_free) = arena_new(4u << 20);
    const char *class = is_sender ? "Sender address" : "Recipient address";
    struct address_answer answer;
    struct err err;
    char status[16];
    int rc;

    rc = is_sender
             ? address_sender_exists(c->a->address, addr, a, &answer, &err)
             : address_recipient_exists(c->a->address, addr, a, &answer, &err);
    if (rc < 0)
        return check_trouble(c, addr, &err);
    if (answer.exists)
        return SAYS_DUNNO;
    if (!slice_copy_to(answer.status, status, sizeof(status)))
        (void)snprintf(status, sizeof(status), "5.1.1");
    if (is_sender && strcmp(status, "5.1.1") == 0)
        status[4] = '0';
    return check_refuse(c, false, answer.code, status,
                        "<%.*s>: %s rejected: %.*s", SLF(addr), class,
                        SLF(answer.why));
}

enum verdict check_unlisted_rcpt(struct check *c)
{
    c->is_rcpt_checked = true;
    if (c->s->recipient.p == NULL)
        return SAYS_DUNNO;
    return unlisted(c, c->s->recipient, false);
}

enum verdict check_unlisted_sender(struct check *c)
{
    c->is_sender_checked = true;
    if (!c->s->has_sender || c->s->sender.n == 0)
        return SAYS_DUNNO;
    return unlisted(c, c->s->sender, true);
}

MAY_WAIT static enum verdict reject_unlisted_rcpt(struct check *c,
                                                  const struct rule *r)
{
    (void)r;
    return check_unlisted_rcpt(c);
}

MAY_WAIT static enum verdict reject_unlisted_sender(struct check *c,
                                                    const struct rule *r)
{
    (void)r;
    return check_unlisted_sender(c);
}

static enum verdict reject_multi_rcpt_bounce(struct check *c,
                                             const struct rule *r)
{
    /* At RCPT the recipient in question is not counted yet. */
    size_t most = strcmp(c->where, "RCPT") == 0 ? 0 : 1;

    (void)r;
    if (!c->s->has_sender || c->s->sender.n > 0 || c->s->n_recipients <= most)
        return SAYS_DUNNO;
    return check_refuse(c, false, c->a->multi_rcpt_code, "5.5.3",
                        "<%.*s>: %s rejected: Multi-recipient bounce",
                        SLF(c->reply_name), c->reply_class);
}

/* ------------------------------------------------------------------ *
 * smtpd_sender_login_maps
 */

/* The logins that own the sender address; *owners.p NULL: nobody does. */
MAY_WAIT static enum verdict sender_owners(struct check *c, struct arena *a,
                                           slice *owners)
{
    struct table_addr_find how = { .strategy = TABLE_ADDR_DEFAULT,
                                   .delimiters = c->a->delimiters };
    struct address_route route;
    struct err err;

    *owners = SLICE_NONE;
    if (!c->s->has_sender || c->s->sender.n == 0 ||
        table_list_is_empty(c->a->sender_login))
        return SAYS_DUNNO;
    if (address_resolve(c->a->address, SLICE_NONE, c->s->sender, a, &route,
                        &err) < 0)
        return check_trouble(c, c->s->sender, &err);
    how.is_local = route.class == ADDRESS_CLASS_LOCAL;
    if (table_list_find_addr(c->a->sender_login, route.recipient, &how, a,
                             owners, NULL, &err) < 0)
        return check_trouble(c, c->s->sender, &err);
    return SAYS_DUNNO;
}

static bool is_owner(slice owners, slice login)
{
    slice word;

    while (slice_token(&owners, ", \t\r\n", &word)) {
        if (slice_ieq(word, login))
            return true;
    }
    return false;
}

MAY_WAIT static enum verdict auth_mismatch(struct check *c, bool only_known)
{
    struct arena *a CLEANUP(arena_free) = arena_new(1u << 20);
    slice owners;
    enum verdict says;

    if (c->s->sasl_user.n == 0)
        return SAYS_DUNNO;
    says = sender_owners(c, a, &owners);
    if (says != SAYS_DUNNO || !c->s->has_sender || c->s->sender.n == 0 ||
        (only_known && owners.p == NULL) || is_owner(owners, c->s->sasl_user))
        return says;
    return check_refuse(c, false, 553, "5.7.1",
                        "<%.*s>: Sender address rejected: not owned by user "
                        "%.*s",
                        SLF(c->s->sender), SLF(c->s->sasl_user));
}

MAY_WAIT static enum verdict unauth_mismatch(struct check *c)
{
    struct arena *a CLEANUP(arena_free) = arena_new(1u << 20);
    slice owners;
    enum verdict says;

    if (c->s->sasl_user.n > 0)
        return SAYS_DUNNO;
    says = sender_owners(c, a, &owners);
    if (says != SAYS_DUNNO || owners.p == NULL)
        return says;
    return check_refuse(c, false, 553, "5.7.1",
                        "<%.*s>: Sender address rejected: not logged in",
                        SLF(c->s->sender));
}

MAY_WAIT static enum verdict reject_auth_mismatch(struct check *c,
                                                  const struct rule *r)
{
    (void)r;
    return auth_mismatch(c, false);
}

MAY_WAIT static enum verdict reject_unauth_mismatch(struct check *c,
                                                    const struct rule *r)
{
    (void)r;
    return unauth_mismatch(c);
}

MAY_WAIT static enum verdict reject_mismatch(struct check *c,
                                             const struct rule *r)
{
    enum verdict says = unauth_mismatch(c);

    (void)r;
    return says != SAYS_DUNNO ? says : auth_mismatch(c, false);
}

MAY_WAIT static enum verdict reject_known_mismatch(struct check *c,
                                                   const struct rule *r)
{
    (void)r;
    return c->s->sasl_user.n > 0 ? auth_mismatch(c, true) : unauth_mismatch(c);
}

/* ------------------------------------------------------------------ *
 * The table of words
 */

static const struct restriction restrictions[] = {
    { "warn_if_reject", dunno, ARG_NONE, false },
    { "permit", permit, ARG_NONE, false },
    { "reject", reject, ARG_NONE, false },
    { "defer", defer, ARG_NONE, false },
    { "defer_if_permit", defer_if_permit, ARG_NONE, false },
    { "defer_if_reject", defer_if_reject, ARG_NONE, false },
    { "sleep", do_sleep, ARG_NUMBER, false },
    { "reject_unauth_pipelining", reject_unauth_pipelining, ARG_NONE, false },
    { "permit_mynetworks", permit_mynetworks, ARG_NONE, true },
    { "permit_inet_interfaces", permit_inet_interfaces, ARG_NONE, true },
    { "permit_sasl_authenticated", permit_sasl, ARG_NONE, true },
    { "permit_tls_clientcerts", check_permit_clientcerts, ARG_NONE, true },
    { "permit_tls_all_clientcerts", check_permit_all_clientcerts, ARG_NONE,
      true },
    { "check_ccert_access", check_ccert_access, ARG_TABLE, true },
    { "reject_plaintext_session", check_reject_plaintext, ARG_NONE, false },
    { "check_client_access", check_client_access, ARG_TABLE, true },
    { "check_reverse_client_hostname_access", check_reverse_client, ARG_TABLE,
      false },
    { "check_helo_access", check_helo_access, ARG_TABLE, false },
    { "check_sender_access", check_sender_access, ARG_TABLE, false },
    { "check_recipient_access", check_recipient_access, ARG_TABLE, false },
    { "check_etrn_access", check_etrn_access, ARG_TABLE, false },
    { "check_sasl_access", check_sasl_access, ARG_TABLE, true },
    { "reject_invalid_helo_hostname", reject_invalid_helo, ARG_NONE, false },
    { "reject_invalid_hostname", reject_invalid_helo, ARG_NONE, false },
    { "reject_non_fqdn_helo_hostname", reject_non_fqdn_helo, ARG_NONE, false },
    { "reject_non_fqdn_hostname", reject_non_fqdn_helo, ARG_NONE, false },
    { "reject_non_fqdn_sender", reject_non_fqdn_sender, ARG_NONE, false },
    { "reject_non_fqdn_recipient", reject_non_fqdn_rcpt, ARG_NONE, false },
    { "permit_auth_destination", permit_auth_destination, ARG_NONE, false },
    { "reject_unauth_destination", reject_unauth_destination, ARG_NONE, false },
    { "defer_unauth_destination", defer_unauth_destination, ARG_NONE, false },
    { "reject_unlisted_recipient", reject_unlisted_rcpt, ARG_NONE, false },
    { "check_recipient_maps", reject_unlisted_rcpt, ARG_NONE, false },
    { "reject_unlisted_sender", reject_unlisted_sender, ARG_NONE, false },
    { "reject_unverified_recipient", check_unverified_recipient, ARG_NONE,
      false },
    { "reject_unverified_sender", check_unverified_sender, ARG_NONE, false },
    { "reject_multi_recipient_bounce", reject_multi_rcpt_bounce, ARG_NONE,
      false },
    { "reject_sender_login_mismatch", reject_mismatch, ARG_NONE, false },
    { "reject_known_sender_login_mismatch", reject_known_mismatch, ARG_NONE,
      false },
    { "reject_authenticated_sender_login_mismatch", reject_auth_mismatch,
      ARG_NONE, false },
    { "reject_unauthenticated_sender_login_mismatch", reject_unauth_mismatch,
      ARG_NONE, false },
};

/* type:name in a class: what it means depends on the list that runs. */
static enum verdict bare_table(struct check *c, const struct rule *r)
{
    struct rule one = *r;

    one.what = restriction_default(c->kind);
    if (one.what == NULL) {
        log_warning("%.*s: need a restriction such as check_client_access in "
                    "front of it",
                    SLF(r->spec));
        return check_server_error(c);
    }
    return one.what->fn(c, &one);
}

const struct restriction restriction_bare = { "", bare_table, ARG_TABLE,
                                              false };

const struct restriction *restriction_find(slice name)
{
    for (size_t i = 0; i < ARRAY_LEN(restrictions); i++) {
        if (slice_ieqs(name, restrictions[i].name))
            return &restrictions[i];
    }
    for (size_t i = 0; i < n_dns_restrictions; i++) {
        if (slice_ieqs(name, dns_restrictions[i].name))
            return &dns_restrictions[i];
    }
    return NULL;
}

const struct restriction *restriction_default(enum list_kind kind)
{
    static const char *const names[] = {
        [LIST_CLIENT] = "check_client_access",
        [LIST_HELO] = "check_helo_access",
        [LIST_SENDER] = "check_sender_access",
        [LIST_RECIPIENT] = "check_recipient_access",
        [LIST_DATA] = NULL,
        [LIST_ETRN] = "check_etrn_access",
        [LIST_CLASS] = NULL,
    };

    return names[kind] == NULL ? NULL
                               : restriction_find(slice_str(names[kind]));
}
