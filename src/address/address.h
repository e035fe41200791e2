#ifndef ADDRESS_ADDRESS_H
#define ADDRESS_ADDRESS_H

/*
 * address - rewriting and routing of addresses: what Postfix's trivial-rewrite
 * and the address part of its cleanup do, in the same order and with the same
 * tables.
 *
 * smtpd uses it at RCPT (class, existence) and when it accepts a message
 * (rewriting, expansion, headers); qmgr uses address_resolve(); local uses
 * class and rewriting for what aliases name.
 *
 * A `struct address` is compiled for one service (its -o settings) and is
 * immutable; tables behind it may change their data.  Addresses are in
 * internal form (mail/mail.h).
 *
 *     envelope address as the client gave it
 *        -> address_rewrite(): @myorigin, .mydomain, a%b, bang paths
 *        -> canonical maps, masquerading            (address_sender(),
 *        -> bcc maps, virtual alias expansion        address_add_recipient())
 *        -> address_resolve(): transport, nexthop, recipient   (qmgr)
 *
 * Invariants: (1) a lookup that fails is ERR_TEMP, never "no such user" and
 * never "not ours"; (2) expansion is bounded by virtual_alias_recursion_limit,
 * _expansion_limit and _address_length_limit, rewriting of one address by 20
 * steps; (3) the null sender is never rewritten; (4) nothing here changes the
 * class of an address because a table is broken.
 *
 * Every function marked MAY_WAIT may ask the `tables` process.
 */
#include "base/base.h"
#include "conf/conf.h"
#include "table/table.h"

struct map;

struct address;
int address_new(const struct conf *c, const struct conf_service *service,
                struct tables *t, struct address **out, struct err *err);
/* The same with address_verify_transport_maps for transport_maps and so on: the
 * rules by which a probe finds its way. */
int address_new_probe(const struct conf *c, struct tables *t,
                      struct address **out, struct err *err);
void address_free(struct address **a);
/* For mail that leaves: only the table list `param` (smtp_generic_maps)
 * applies, once, to any address; use with address_generic() and, with
 * ADDRESS_LOCAL, address_rewrite_headers(). */
int address_new_generic(const struct conf *c,
                        const struct conf_service *service, struct tables *t,
                        const char *param, struct address **out,
                        struct err *err);
/* An envelope address: *addr changes when the table has it. */
MAY_WAIT int address_generic(const struct address *a, slice *addr,
                             struct arena *arena, struct err *err);

/* ---- trivial rewriting (pure) */
enum address_context {
    ADDRESS_LOCAL,  /* envelope, and headers of local_header_rewrite_clients */
    ADDRESS_REMOTE, /* headers of others: remote_header_rewrite_domain */
};

/* Complete and normalise; gives `addr` itself when nothing changes. */
int address_rewrite(const struct address *a, enum address_context context,
                    slice addr, struct arena *arena, slice *out,
                    struct err *err);

/* ---- domain classes (ADDRESS_CLASS_README) */
enum address_class {
    ADDRESS_CLASS_LOCAL,   /* $mydestination, our own address literals */
    ADDRESS_CLASS_ALIAS,   /* $virtual_alias_domains */
    ADDRESS_CLASS_VIRTUAL, /* $virtual_mailbox_domains */
    ADDRESS_CLASS_RELAY,   /* $relay_domains */
    ADDRESS_CLASS_DEFAULT, /* everything else */
};

MAY_WAIT int address_class(const struct address *a, slice domain,
                           enum address_class *out, struct err *err);
/* mydestination, or a literal of inet_interfaces / proxy_interfaces. */
MAY_WAIT int address_is_local(const struct address *a, slice domain, bool *out,
                              struct err *err);

/* ---- routing */
struct address_route {
    enum address_class class;
    slice transport; /* "local", "virtual", "smtp", "error", ... */
    slice nexthop;   /* domain, [host]:port, or the text of error: */
    slice recipient; /* rewritten once more: user@domain, internal */
    bool is_routed;  /* the local part holds an @, % or ! that is a route:
                      * smtpd refuses such mail from strangers */
    bool is_bad;     /* no usable domain */
};

MAY_WAIT int address_resolve(const struct address *a, slice sender, slice addr,
                             struct arena *arena, struct address_route *out,
                             struct err *err);

/* ---- existence: reject_unlisted_recipient, _sender */
struct address_answer {
    bool exists;
    enum address_class class;
    /* When it does not exist: what Postfix says behind "rejected: ", e.g. "User
     * unknown in local recipient table" or "User has moved to x@y", the
     * reply's code and its enhanced status. */
    slice why;
    slice status;
    int code;
    bool is_retry; /* the retry: transport: try later, whatever the code */
};

MAY_WAIT int address_recipient_exists(const struct address *a, slice addr,
                                      struct arena *arena,
                                      struct address_answer *out,
                                      struct err *err);
/* The same question about a sender (reject_unlisted_sender). */
MAY_WAIT int address_sender_exists(const struct address *a, slice addr,
                                   struct arena *arena,
                                   struct address_answer *out, struct err *err);
/* An entry of sender_login_maps and the like: "a, b@c" taken apart, each
 * completed with @myorigin .. as an address of our own.  NULL at a limit. */
slice *address_list_parse(const struct address *a, slice text,
                          struct arena *arena, size_t *n_out);

/* ---- a message's envelope */
struct address_rcpt {
    slice addr;  /* where it goes */
    slice orig;  /* as the client gave it, rewritten only trivially */
    slice orcpt; /* of the client (RFC 3461), or "" */
    unsigned notify;
    bool is_bcc; /* from a bcc map: NOTIFY=NEVER, no orcpt */
};

struct address_list {
    struct arena *arena;
    struct address_rcpt *v;
    size_t n;
    size_t size;
    struct map *seen; /* duplicates are dropped; made at the first one */
};

void address_list_init(struct address_list *l, struct arena *arena);

/* sender_canonical_maps, canonical_maps, masquerading; the bcc of
 * sender_bcc_maps and always_bcc are added to `l` by address_add_bcc(). */
MAY_WAIT int address_sender(const struct address *a, slice sender,
                            struct arena *arena, slice *out, struct err *err);
/* Rewrite (canonical, masquerade), expand (virtual_alias_maps) and append;
 * recipient_bcc_maps too.  ERR_TEMP "4.6.0" when a limit is exceeded, as
 * Postfix's "message not accepted, try again later". */
MAY_WAIT int address_add_recipient(const struct address *a,
                                   struct address_list *l, slice rcpt,
                                   slice orcpt, unsigned notify,
                                   struct err *err);
/* always_bcc and sender_bcc_maps; call once, with the rewritten sender, when
 * all recipients are there. */
MAY_WAIT int address_add_bcc(const struct address *a, struct address_list *l,
                             slice sender, struct err *err);
/* One more recipient by name (BCC action of access and filter). */
MAY_WAIT int address_add_extra(const struct address *a, struct address_list *l,
                               slice rcpt, struct err *err);

/* ---- headers */
/* Is this client in local_header_rewrite_clients (networks, names,
 * permit_inet_interfaces, permit_mynetworks, permit_sasl_authenticated)? */
MAY_WAIT int address_rewrites_headers_of(const struct address *a, slice name,
                                         slice ip, bool is_authenticated,
                                         bool *out, struct err *err);
/* Rewrite the address headers (From Sender Reply-To To Cc Bcc ..., Resent-*) of
 * the header block `in` (ends with its blank line or at the end) into `out`;
 * bytes of all other fields, and of fields that do not change, stay as they
 * are.  `context` ADDRESS_REMOTE without remote_header_rewrite_domain does
 * nothing.  LF line ends. */
MAY_WAIT int address_rewrite_headers(const struct address *a,
                                     enum address_context context, slice in,
                                     struct buf *out, struct err *err);
/* Whether address_rewrite_headers() could change anything at all. */
bool address_has_header_work(const struct address *a,
                             enum address_context context);

#endif
