/* The words of restriction lists, and what can be said of them at load. */
#include "conf/conf_priv.h"

#define FORWARD "Postfix has it only in builds for testing"

static const struct conf_restriction words[] = {
    { "check_address_map", CONF_ARG_TABLE, CONF_OK, "" },
    { "check_ccert_access", CONF_ARG_TABLE, CONF_OK, "" },
    { "check_client_a_access", CONF_ARG_TABLE, CONF_OK, "" },
    { "check_client_access", CONF_ARG_TABLE, CONF_OK, "" },
    { "check_client_mx_access", CONF_ARG_TABLE, CONF_OK, "" },
    { "check_client_ns_access", CONF_ARG_TABLE, CONF_OK, "" },
    { "check_etrn_access", CONF_ARG_TABLE, CONF_OK, "" },
    { "check_helo_a_access", CONF_ARG_TABLE, CONF_OK, "" },
    { "check_helo_access", CONF_ARG_TABLE, CONF_OK, "" },
    { "check_helo_mx_access", CONF_ARG_TABLE, CONF_OK, "" },
    { "check_helo_ns_access", CONF_ARG_TABLE, CONF_OK, "" },
    { "check_policy_service", CONF_ARG_WORD, CONF_REFUSE,
      "policy servers are not asked yet" },
    { "check_recipient_a_access", CONF_ARG_TABLE, CONF_OK, "" },
    { "check_recipient_access", CONF_ARG_TABLE, CONF_OK, "" },
    { "check_recipient_mx_access", CONF_ARG_TABLE, CONF_OK, "" },
    { "check_recipient_ns_access", CONF_ARG_TABLE, CONF_OK, "" },
    { "check_reverse_client_hostname_a_access", CONF_ARG_TABLE, CONF_OK, "" },
    { "check_reverse_client_hostname_access", CONF_ARG_TABLE, CONF_OK, "" },
    { "check_reverse_client_hostname_mx_access", CONF_ARG_TABLE, CONF_OK, "" },
    { "check_reverse_client_hostname_ns_access", CONF_ARG_TABLE, CONF_OK, "" },
    { "check_sasl_access", CONF_ARG_TABLE, CONF_OK, "" },
    { "check_sender_a_access", CONF_ARG_TABLE, CONF_OK, "" },
    { "check_sender_access", CONF_ARG_TABLE, CONF_OK, "" },
    { "check_sender_mx_access", CONF_ARG_TABLE, CONF_OK, "" },
    { "check_sender_ns_access", CONF_ARG_TABLE, CONF_OK, "" },
    { "defer", CONF_ARG_NONE, CONF_OK, "" },
    { "defer_if_permit", CONF_ARG_NONE, CONF_OK, "" },
    { "defer_if_reject", CONF_ARG_NONE, CONF_OK, "" },
    { "defer_unauth_destination", CONF_ARG_NONE, CONF_OK, "" },
    { "permit", CONF_ARG_NONE, CONF_OK, "" },
    { "permit_auth_destination", CONF_ARG_NONE, CONF_OK, "" },
    { "permit_dnswl_client", CONF_ARG_WORD, CONF_OK, "" },
    { "permit_inet_interfaces", CONF_ARG_NONE, CONF_OK, "" },
    { "permit_mx_backup", CONF_ARG_NONE, CONF_OK, "" },
    { "permit_mynetworks", CONF_ARG_NONE, CONF_OK, "" },
    { "permit_rhswl_client", CONF_ARG_WORD, CONF_OK, "" },
    { "permit_sasl_authenticated", CONF_ARG_NONE, CONF_OK, "" },
    { "permit_tls_all_clientcerts", CONF_ARG_NONE, CONF_OK, "" },
    { "permit_tls_clientcerts", CONF_ARG_NONE, CONF_OK, "" },
    { "reject", CONF_ARG_NONE, CONF_OK, "" },
    { "reject_authenticated_sender_login_mismatch", CONF_ARG_NONE, CONF_OK,
      "" },
    { "reject_invalid_helo_hostname", CONF_ARG_NONE, CONF_OK, "" },
    { "reject_invalid_hostname", CONF_ARG_NONE, CONF_OK, "" },
    { "reject_known_sender_login_mismatch", CONF_ARG_NONE, CONF_OK, "" },
    { "reject_maps_rbl", CONF_ARG_NONE, CONF_OK, "" },
    { "reject_multi_recipient_bounce", CONF_ARG_NONE, CONF_OK, "" },
    { "reject_non_fqdn_helo_hostname", CONF_ARG_NONE, CONF_OK, "" },
    { "reject_non_fqdn_hostname", CONF_ARG_NONE, CONF_OK, "" },
    { "reject_non_fqdn_recipient", CONF_ARG_NONE, CONF_OK, "" },
    { "reject_non_fqdn_sender", CONF_ARG_NONE, CONF_OK, "" },
    { "reject_plaintext_session", CONF_ARG_NONE, CONF_OK, "" },
    { "reject_rbl_client", CONF_ARG_WORD, CONF_OK, "" },
    { "reject_rhsbl_client", CONF_ARG_WORD, CONF_OK, "" },
    { "reject_rhsbl_helo", CONF_ARG_WORD, CONF_OK, "" },
    { "reject_rhsbl_recipient", CONF_ARG_WORD, CONF_OK, "" },
    { "reject_rhsbl_reverse_client", CONF_ARG_WORD, CONF_OK, "" },
    { "reject_rhsbl_sender", CONF_ARG_WORD, CONF_OK, "" },
    { "reject_sender_login_mismatch", CONF_ARG_NONE, CONF_OK, "" },
    { "reject_unauth_destination", CONF_ARG_NONE, CONF_OK, "" },
    { "reject_unauth_pipelining", CONF_ARG_NONE, CONF_OK, "" },
    { "reject_unauthenticated_sender_login_mismatch", CONF_ARG_NONE, CONF_OK,
      "" },
    { "reject_unknown_address", CONF_ARG_NONE, CONF_OK, "" },
    { "reject_unknown_client", CONF_ARG_NONE, CONF_OK, "" },
    { "reject_unknown_client_hostname", CONF_ARG_NONE, CONF_OK, "" },
    { "reject_unknown_forward_client_hostname", CONF_ARG_NONE, CONF_REFUSE,
      FORWARD },
    { "reject_unknown_helo_hostname", CONF_ARG_NONE, CONF_OK, "" },
    { "reject_unknown_hostname", CONF_ARG_NONE, CONF_OK, "" },
    { "reject_unknown_recipient_domain", CONF_ARG_NONE, CONF_OK, "" },
    { "reject_unknown_reverse_client_hostname", CONF_ARG_NONE, CONF_OK, "" },
    { "reject_unknown_sender_domain", CONF_ARG_NONE, CONF_OK, "" },
    { "reject_unlisted_recipient", CONF_ARG_NONE, CONF_OK, "" },
    { "reject_unlisted_sender", CONF_ARG_NONE, CONF_OK, "" },
    { "reject_unverified_recipient", CONF_ARG_NONE, CONF_OK, "" },
    { "reject_unverified_sender", CONF_ARG_NONE, CONF_OK, "" },
    { "sleep", CONF_ARG_NUMBER, CONF_OK, "" },
    { "warn_if_reject", CONF_ARG_NONE, CONF_OK, "" },
};

const struct conf_restriction *conf_restriction_find(slice name)
{
    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        if (slice_ieqs(name, words[i].name))
            return &words[i];
    return NULL;
}

/* Is name one of smtpd_restriction_classes? */
static bool is_class(const struct conf_check *k, const struct conf_service *s,
                     slice name)
{
    slice list = conf_slice(k->c, s, "smtpd_restriction_classes");
    slice w;

    while (conf_list_next(&list, &w))
        if (slice_eq(w, name))
            return true;
    return false;
}

/* Where a restriction list stands, for the diagnostics. */
struct where {
    struct conf_check *k;
    const struct conf_service *s;
    const char *param;
    const char *file;
    int line;
};

static const char *nearest_word(slice name, size_t *distance)
{
    const char *best = NULL;

    *distance = SIZE_MAX;
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        size_t d = conf_edit_distance(name, slice_str(words[i].name), 8);

        if (d < *distance) {
            *distance = d;
            best = words[i].name;
        }
    }
    return best;
}

static void unknown_word(const struct where *w, slice word)
{
    size_t distance;
    const char *near = nearest_word(word, &distance);
    char cure[120] = "";

    if (near != NULL && distance <= max_size(2, word.n / 4))
        (void)snprintf(cure, sizeof(cure), "did you mean %s?", near);
    conf_diags_add(w->k->d, CONF_ERROR, w->file, w->line, cure,
                   "%s: unknown restriction \"%.*s\"", w->param,
                   (int)min_size(word.n, 100), word.p);
}

static void check_argument(const struct where *w,
                           const struct conf_restriction *r, slice *rest)
{
    slice arg;
    slice type;
    slice name;
    int64_t n;

    if (r->arg == CONF_ARG_NONE)
        return;
    if (!conf_list_next(rest, &arg)) {
        conf_diags_add(w->k->d, CONF_ERROR, w->file, w->line, "",
                       "%s: %s needs an argument", w->param, r->name);
        return;
    }
    if (r->arg == CONF_ARG_TABLE && !conf_split_table(arg, &type, &name))
        conf_diags_add(w->k->d, CONF_ERROR, w->file, w->line, "write type:name",
                       "%s: %s wants a table, not \"%.*s\"", w->param, r->name,
                       (int)min_size(arg.n, 100), arg.p);
    if (r->arg == CONF_ARG_NUMBER && !conf_parse_int(arg, &n))
        conf_diags_add(w->k->d, CONF_ERROR, w->file, w->line, "",
                       "%s: %s wants a number, not \"%.*s\"", w->param, r->name,
                       (int)min_size(arg.n, 100), arg.p);
}

static void check_word(const struct where *w, slice word, slice *rest)
{
    const struct conf_restriction *r = conf_restriction_find(word);
    slice type;
    slice name;

    if (r != NULL) {
        if (r->verdict != CONF_OK)
            conf_diags_add(w->k->d,
                           r->verdict == CONF_WARN ? CONF_WARNING : CONF_ERROR,
                           w->file, w->line,
                           r->verdict == CONF_WARN ? "" : "take it out",
                           "%s: %s: %s", w->param, r->name, r->why);
        check_argument(w, r, rest);
        return;
    }
    if (is_class(w->k, w->s, word) || conf_split_table(word, &type, &name))
        return;
    unknown_word(w, word);
}

/* NOLINTNEXTLINE(misc-no-recursion): braces, at most CONF_MAX_NESTED deep */
static void check_list(const struct where *w, slice list, unsigned depth)
{
    slice word;

    while (conf_list_next(&list, &word)) {
        slice inside = conf_list_unbrace(word);

        /* { check_client_access hash:/x } and check_policy_service { ... } */
        if (inside.n != word.n && depth < CONF_MAX_NESTED)
            check_list(w, inside, depth + 1);
        else
            check_word(w, word, &list);
    }
}

void conf_check_restrictions(struct conf_check *k, const struct conf_service *s,
                             const char *name, const char *file, int line)
{
    struct where w = {
        .k = k, .s = s, .param = name, .file = file, .line = line
    };

    check_list(&w, conf_slice(k->c, s, name), 0);
}
