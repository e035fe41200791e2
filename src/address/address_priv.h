#ifndef ADDRESS_ADDRESS_PRIV_H
#define ADDRESS_ADDRESS_PRIV_H

/* What the files of the address room share: the compiled settings. */
#include "address/address.h"
#include "base/base.h"
#include "mail/address.h"
#include "mail/domain.h"

#define ADDRESS_STEPS   20 /* rewriting and resolving of one address */
#define ADDRESS_MAP     10 /* canonical mapping of one address (MAX_RECURSION) */
#define ADDRESS_BYTES   8192 /* no address grows beyond */
#define ADDRESS_OWN_MAX 1024

/* *_classes */
enum {
    IN_ENVELOPE_SENDER = 1,
    IN_ENVELOPE_RCPT = 2,
    IN_HEADER_SENDER = 4,
    IN_HEADER_RCPT = 8,
};

struct maps {
    struct table_list *list; /* NULL: empty */
    const char *param;
    unsigned classes;
    unsigned flags; /* TABLE_NO_REGSUB */
};

struct masquerade {
    slice domain;
    bool truncate; /* no "!" in front */
};

struct address {
    uint32_t magic;
    struct conf *conf;
    const struct conf_service *service;
    struct arena *arena;
    /* ---- rewriting */
    slice myorigin;
    slice mydomain;
    slice myhostname;
    slice remote_domain; /* remote_header_rewrite_domain */
    slice delimiters;
    slice empty_recipient; /* empty_address_recipient */
    bool append_at_myorigin;
    bool append_dot_mydomain;
    bool percent_hack;
    bool swap_bangpath;
    bool resolve_dequoted;
    bool resolve_null_domain;
    bool resolve_numeric_domain;
    bool propagates_canonical;
    bool propagates_virtual;
    /* ---- mapping of a message's addresses */
    bool keeps_original; /* enable_original_recipient */
    bool is_generic;     /* address_new_generic(): one step of mapping */
    bool maps_off;       /* receive_override_options = no_address_mappings */
    struct maps sender_canonical, recipient_canonical, canonical;
    struct maps virtual_alias;
    struct maps sender_bcc, recipient_bcc;
    slice always_bcc;
    struct masquerade *masquerade;
    size_t n_masquerade;
    unsigned masquerade_classes;
    struct table_match *masquerade_exceptions;
    int64_t recursion_limit, expansion_limit, length_limit;
    /* ---- classes and routes */
    struct table_match *mydestination, *virtual_alias_domains,
        *virtual_mailbox_domains, *relay_domains;
    struct conf_addr *own;
    size_t n_own;
    struct maps transport, relocated, sender_transport, sender_relayhost;
    bool transport_parents;
    bool is_probe;                                /* address_new_probe() */
    slice null_relayhost_key, null_transport_key; /* empty_address_* */
    slice local_transport, virtual_transport, relay_transport,
        default_transport, relayhost;
    /* ---- existence */
    struct maps local_rcpt, virtual_mailbox, relay_rcpt, userdb;
    bool show_table; /* show_user_unknown_table_name */
    int local_code, alias_code, mailbox_code, relay_code;
    /* ---- headers */
    slice rewrite_clients; /* local_header_rewrite_clients */
    struct table_match *mynetworks;
    struct tables *tables;
};

#define ADDRESS_MAGIC MAGIC('A', 'D', 'D', 'R')

/* ---- map.c */
/* mail_addr_find(3) with the default strategy. */
MAY_WAIT int address_find(const struct address *a, const struct maps *m,
                          slice addr, struct arena *arena, slice *value,
                          slice *ext, struct err *err);
/* mail_addr_map(3): the addresses that `addr` becomes; n 0: not in the map. */
MAY_WAIT int address_map(const struct address *a, const struct maps *m,
                         slice addr, bool propagates, struct arena *arena,
                         slice **out, size_t *n_out, struct err *err);
/* Replace one address by another until nothing changes (cleanup_map11). */
MAY_WAIT int address_map_one(const struct address *a, const struct maps *m,
                             bool propagates, slice *addr, struct arena *arena,
                             struct err *err);
/* masquerade_domains; false when nothing changes. */
MAY_WAIT int address_masquerade(const struct address *a, slice *addr,
                                struct arena *arena, struct err *err);
/* Canonical maps and masquerading for one place (IN_...). */
MAY_WAIT int address_canonical(const struct address *a, unsigned where,
                               slice *addr, struct arena *arena,
                               struct err *err);

/* ---- a few slices put together in the arena; SLICE_NONE when it is full. */
slice address_join(struct arena *arena, slice x, slice y, slice z);

#endif
