#include "address/address_priv.h"

/* Compiling the parameters of a service. */

static unsigned classes_of(const struct address *a, const char *param)
{
    static const struct {
        const char *word;
        unsigned class;
    } words[] = {
        { "envelope_sender", IN_ENVELOPE_SENDER },
        { "envelope_recipient", IN_ENVELOPE_RCPT },
        { "header_sender", IN_HEADER_SENDER },
        { "header_recipient", IN_HEADER_RCPT },
    };

    slice rest = conf_slice(a->conf, a->service, param);
    unsigned classes = 0;
    slice word;

    while (conf_list_next(&rest, &word)) {
        for (size_t i = 0; i < ARRAY_LEN(words); i++) {
            if (slice_ieqs(word, words[i].word))
                classes |= words[i].class;
        }
    }
    return classes;
}

static int maps_init(struct address *a, struct maps *m, const char *param,
                     const char *classes, struct err *err)
{
    m->param = param;
    m->classes = classes != NULL ? classes_of(a, classes) : 0;
    return table_list_param(a->tables, a->conf, a->service, param, &m->list,
                            err);
}

static int match_init(struct address *a, struct table_match **m,
                      const char *param, struct err *err)
{
    return table_match_new(a->tables, a->conf, a->service, param, m, err);
}

static slice text_of(const struct address *a, const char *param)
{
    return conf_slice(a->conf, a->service, param);
}

static bool flag_of(const struct address *a, const char *param)
{
    return conf_bool(a->conf, a->service, param);
}

static bool has_word(const struct address *a, const char *param,
                     const char *want)
{
    slice rest = text_of(a, param);
    slice word;

    while (conf_list_next(&rest, &word)) {
        if (slice_ieqs(word, want))
            return true;
    }
    return false;
}

static void rewriting_init(struct address *a)
{
    a->myorigin = text_of(a, "myorigin");
    a->mydomain = text_of(a, "mydomain");
    a->myhostname = text_of(a, "myhostname");
    a->remote_domain = text_of(a, "remote_header_rewrite_domain");
    a->delimiters = text_of(a, "recipient_delimiter");
    a->empty_recipient = text_of(a, "empty_address_recipient");
    a->append_at_myorigin = flag_of(a, "append_at_myorigin");
    a->append_dot_mydomain = flag_of(a, "append_dot_mydomain");
    a->percent_hack = flag_of(a, "allow_percent_hack");
    a->swap_bangpath = flag_of(a, "swap_bangpath");
    a->resolve_dequoted = flag_of(a, "resolve_dequoted_address");
    a->resolve_null_domain = flag_of(a, "resolve_null_domain");
    a->resolve_numeric_domain = flag_of(a, "resolve_numeric_domain");
    a->propagates_canonical =
        has_word(a, "propagate_unmatched_extensions", "canonical");
    a->propagates_virtual =
        has_word(a, "propagate_unmatched_extensions", "virtual");
}

static int masquerade_init(struct address *a, struct err *err)
{
    slice rest = text_of(a, "masquerade_domains");
    slice word;

    a->masquerade = ARENA_ARRAY(a->arena, struct masquerade, rest.n / 2 + 1);
    while (conf_list_next(&rest, &word)) {
        struct masquerade *m = &a->masquerade[a->n_masquerade++];

        m->truncate = true;
        while (slice_starts(word, SL("!"))) {
            m->truncate = !m->truncate;
            word = slice_from(word, 1);
        }
        m->domain = word;
    }
    a->masquerade_classes = classes_of(a, "masquerade_classes");
    return match_init(a, &a->masquerade_exceptions, "masquerade_exceptions",
                      err);
}

static int mapping_init(struct address *a, struct err *err)
{
    a->maps_off =
        has_word(a, "receive_override_options", "no_address_mappings");
    a->keeps_original = flag_of(a, "enable_original_recipient");
    a->always_bcc = text_of(a, "always_bcc");
    a->recursion_limit =
        conf_int(a->conf, a->service, "virtual_alias_recursion_limit");
    a->expansion_limit =
        conf_int(a->conf, a->service, "virtual_alias_expansion_limit");
    a->length_limit =
        conf_int(a->conf, a->service, "virtual_alias_address_length_limit");
    if (maps_init(a, &a->sender_canonical, "sender_canonical_maps",
                  "sender_canonical_classes", err) < 0 ||
        maps_init(a, &a->recipient_canonical, "recipient_canonical_maps",
                  "recipient_canonical_classes", err) < 0 ||
        maps_init(a, &a->canonical, "canonical_maps", "canonical_classes",
                  err) < 0 ||
        maps_init(a, &a->virtual_alias, "virtual_alias_maps", NULL, err) < 0 ||
        maps_init(a, &a->sender_bcc, "sender_bcc_maps", NULL, err) < 0 ||
        maps_init(a, &a->recipient_bcc, "recipient_bcc_maps", NULL, err) < 0)
        return -1;
    return masquerade_init(a, err);
}

static void own_init(struct address *a)
{
    a->own = ARENA_ARRAY(a->arena, struct conf_addr, ADDRESS_OWN_MAX);
    a->n_own = conf_own_addrs(a->conf, true, a->own, ADDRESS_OWN_MAX);
}

/* A probe may go another way than mail. */
static const char *way_of(const struct address *a, const char *param)
{
    static const struct {
        const char *mail;
        const char *probe;
    } names[] = {
        { "local_transport", "address_verify_local_transport" },
        { "virtual_transport", "address_verify_virtual_transport" },
        { "relay_transport", "address_verify_relay_transport" },
        { "default_transport", "address_verify_default_transport" },
        { "relayhost", "address_verify_relayhost" },
        { "transport_maps", "address_verify_transport_maps" },
        { "sender_dependent_default_transport_maps",
          "address_verify_sender_dependent_default_transport_maps" },
        { "sender_dependent_relayhost_maps",
          "address_verify_sender_dependent_relayhost_maps" },
    };

    for (size_t i = 0; a->is_probe && i < ARRAY_LEN(names); i++)
        if (strcmp(names[i].mail, param) == 0)
            return names[i].probe;
    return param;
}

static int routes_init(struct address *a, struct err *err)
{
    own_init(a);
    a->local_transport = text_of(a, way_of(a, "local_transport"));
    a->virtual_transport = text_of(a, way_of(a, "virtual_transport"));
    a->null_relayhost_key =
        text_of(a, "empty_address_relayhost_maps_lookup_key");
    a->null_transport_key =
        text_of(a, "empty_address_default_transport_maps_lookup_key");
    a->relay_transport = text_of(a, way_of(a, "relay_transport"));
    a->default_transport = text_of(a, way_of(a, "default_transport"));
    a->relayhost = text_of(a, way_of(a, "relayhost"));
    a->transport_parents =
        has_word(a, "parent_domain_matches_subdomains", "transport_maps");
    if (match_init(a, &a->mydestination, "mydestination", err) < 0 ||
        match_init(a, &a->virtual_alias_domains, "virtual_alias_domains", err) <
            0 ||
        match_init(a, &a->virtual_mailbox_domains, "virtual_mailbox_domains",
                   err) < 0 ||
        match_init(a, &a->relay_domains, "relay_domains", err) < 0)
        return -1;
    if (maps_init(a, &a->transport, way_of(a, "transport_maps"), NULL, err) <
            0 ||
        maps_init(a, &a->relocated, "relocated_maps", NULL, err) < 0 ||
        maps_init(a, &a->sender_transport,
                  way_of(a, "sender_dependent_default_transport_maps"), NULL,
                  err) < 0 ||
        maps_init(a, &a->sender_relayhost,
                  way_of(a, "sender_dependent_relayhost_maps"), NULL, err) < 0)
        return -1;
    /* transport(5): $1 in these would let a stranger choose a command. */
    a->transport.flags = TABLE_NO_REGSUB;
    a->sender_transport.flags = TABLE_NO_REGSUB;
    a->sender_relayhost.flags = TABLE_NO_REGSUB;
    return 0;
}

static int existence_init(struct address *a, struct err *err)
{
    a->show_table = flag_of(a, "show_user_unknown_table_name");
    a->local_code = (int)conf_int(a->conf, a->service,
                                  "unknown_local_recipient_reject_code");
    a->alias_code =
        (int)conf_int(a->conf, a->service, "unknown_virtual_alias_reject_code");
    a->mailbox_code = (int)conf_int(a->conf, a->service,
                                    "unknown_virtual_mailbox_reject_code");
    a->relay_code = (int)conf_int(a->conf, a->service,
                                  "unknown_relay_recipient_reject_code");
    if (maps_init(a, &a->local_rcpt, "local_recipient_maps", NULL, err) < 0 ||
        maps_init(a, &a->virtual_mailbox, "virtual_mailbox_maps", NULL, err) <
            0 ||
        maps_init(a, &a->relay_rcpt, "relay_recipient_maps", NULL, err) < 0 ||
        maps_init(a, &a->userdb, "userdb", NULL, err) < 0)
        return -1;
    a->rewrite_clients = text_of(a, "local_header_rewrite_clients");
    return match_init(a, &a->mynetworks, "mynetworks", err);
}

static int compile(const struct conf *c, const struct conf_service *service,
                   struct tables *t, bool is_probe, struct address **out,
                   struct err *err)
{
    struct address *a = xcalloc(1, sizeof(*a));

    a->magic = ADDRESS_MAGIC;
    memcpy(&a->conf, &c,
           sizeof(void *)); /* a reference changes only the count */
    (void)conf_ref(a->conf);
    a->service = service;
    a->is_probe = is_probe;
    a->tables = t;
    a->arena = arena_new(16u << 20);
    rewriting_init(a);
    if (mapping_init(a, err) < 0 || routes_init(a, err) < 0 ||
        existence_init(a, err) < 0) {
        address_free(&a);
        return -1;
    }
    *out = a;
    return 0;
}

int address_new(const struct conf *c, const struct conf_service *service,
                struct tables *t, struct address **out, struct err *err)
{
    return compile(c, service, t, false, out, err);
}

int address_new_probe(const struct conf *c, struct tables *t,
                      struct address **out, struct err *err)
{
    return compile(c, NULL, t, true, out, err);
}

int address_new_generic(const struct conf *c,
                        const struct conf_service *service, struct tables *t,
                        const char *param, struct address **out,
                        struct err *err)
{
    struct address *a;

    if (address_new(c, service, t, &a, err) < 0)
        return -1;
    table_list_free(&a->canonical.list);
    if (maps_init(a, &a->canonical, param, NULL, err) < 0) {
        address_free(&a);
        return -1;
    }
    a->is_generic = true;
    a->maps_off = false;
    a->canonical.classes = IN_ENVELOPE_SENDER | IN_ENVELOPE_RCPT |
                           IN_HEADER_SENDER | IN_HEADER_RCPT;
    a->sender_canonical.classes = 0;
    a->recipient_canonical.classes = 0;
    a->masquerade_classes = 0;
    a->propagates_canonical =
        has_word(a, "propagate_unmatched_extensions", "generic");
    /* What came in complete is not completed again. */
    a->append_at_myorigin = false;
    a->append_dot_mydomain = false;
    a->percent_hack = false;
    a->swap_bangpath = false;
    *out = a;
    return 0;
}

void address_free(struct address **ap)
{
    struct address *a = *ap;

    if (a == NULL)
        return;
    CHECK_OBJ(a, ADDRESS_MAGIC);
    struct maps *const maps[] = {
        &a->sender_canonical, &a->recipient_canonical,
        &a->canonical,        &a->virtual_alias,
        &a->sender_bcc,       &a->recipient_bcc,
        &a->transport,        &a->relocated,
        &a->sender_transport, &a->sender_relayhost,
        &a->local_rcpt,       &a->virtual_mailbox,
        &a->relay_rcpt,       &a->userdb,
    };
    for (size_t i = 0; i < ARRAY_LEN(maps); i++)
        table_list_free(&maps[i]->list);
    table_match_free(&a->masquerade_exceptions);
    table_match_free(&a->mydestination);
    table_match_free(&a->virtual_alias_domains);
    table_match_free(&a->virtual_mailbox_domains);
    table_match_free(&a->relay_domains);
    table_match_free(&a->mynetworks);
    arena_free(&a->arena);
    conf_unref(&a->conf);
    a->magic = 0;
    free(a);
    *ap = NULL;
}
