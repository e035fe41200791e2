/* Entries of smtp_tls_policy_maps, and Postfix's lists made into what a
 * connection is held to. */
#include "smtp/client/policy.h"

#include "keys/keys.h"
#include "mail/domain.h"

#define NAMES_MAX   32
#define CIPHERS_MAX 8192

/* ---- what a connection is held to */

static int set_ciphers(struct policy_job *j, struct err *err)
{
    const struct client_service *s = j->service;
    struct buf b;
    int rc;

    buf_init(&b, CIPHERS_MAX);
    rc = keys_ciphers(s->client->conf, s->line, j->text.ciphers,
                      j->text.exclude, &b, err);
    if (rc == 0) {
        j->out->how.ciphers = slice_cstr(j->a, buf_view(&b));
        if (b.overflow || j->out->how.ciphers == NULL)
            rc = err_temp(err, "the list of ciphers is too long");
    }
    buf_done(&b);
    return rc;
}

/* A host name, not an address or a path: what may stand in SNI. */
static bool is_dns_name(slice name)
{
    bool has_letter = false;

    for (size_t i = 0; i < name.n; i++) {
        if (name.p[i] == ':' || name.p[i] == '/' || name.p[i] == '[')
            return false;
        has_letter |= ascii_isalpha(name.p[i]);
    }
    return has_letter;
}

int policy_set_strength(struct policy_job *j, struct err *err)
{
    struct tls_connect *how = &j->out->how;
    slice name = j->text.servername;

    if (slice_ieqs(name, "nexthop"))
        name = j->host->nexthop;
    else if (slice_ieqs(name, "hostname"))
        name = j->host->name;
    how->sni = is_dns_name(name) ? name : SLICE_NONE;
    if (keys_versions(j->text.protocols, KEYS_TLS_OLDEST, &how->min_version,
                      &how->max_version, err) < 0)
        return -1;
    return set_ciphers(j, err);
}

/* ---- names */

static int add_name(struct policy_job *j, slice *names, slice name,
                    struct err *err)
{
    struct tls_connect *how = &j->out->how;

    if (name.n == 0)
        return 0;
    if (how->n_names == NAMES_MAX)
        return err_perm(err, "more than %d names of a server", NAMES_MAX);
    names[how->n_names++] = name;
    return 0;
}

int policy_set_names(struct policy_job *j, slice list, struct err *err)
{
    struct tls_connect *how = &j->out->how;
    slice *names = arena_alloc(j->a, sizeof(slice) * NAMES_MAX);
    slice word, name;

    if (names == NULL)
        return err_temp(err, "too many names");
    how->check = TLS_CHECK_NAMES;
    how->names = names;
    how->n_names = 0;
    while (slice_token(&list, ", \t\r\n:", &word)) {
        if (slice_ieqs(word, "hostname"))
            name = j->host->name;
        else if (slice_ieqs(word, "nexthop"))
            name = j->host->nexthop;
        else if (slice_ieqs(word, "dot-nexthop"))
            name =
                slice_str(arena_printf(j->a, ".%.*s", SLF(j->host->nexthop)));
        else
            name = word;
        if (add_name(j, names, name, err) < 0)
            return -1;
    }
    return 0;
}

int policy_set_fingerprints(struct policy_job *j, slice list, struct err *err)
{
    struct tls_connect *how = &j->out->how;
    slice *prints = arena_alloc(j->a, sizeof(slice) * NAMES_MAX);
    slice word;

    if (prints == NULL)
        return err_temp(err, "too many fingerprints");
    how->check = TLS_CHECK_FINGERPRINT;
    how->fingerprints = prints;
    while (slice_token(&list, ", \t\r\n|", &word)) {
        if (how->n_fingerprints == NAMES_MAX)
            return err_perm(err, "more than %d fingerprints", NAMES_MAX);
        prints[how->n_fingerprints++] = word;
    }
    if (how->n_fingerprints == 0)
        return err_perm(err, "no fingerprint is given");
    return 0;
}

/* ---- an entry */

static int add_match(struct policy_job *j, slice value)
{
    bool is_first = j->text.match.n == 0;

    j->text.match =
        slice_str(arena_printf(j->a, "%.*s%s%.*s", SLF(j->text.match),
                               is_first                                 ? ""
                               : j->out->level == TLS_LEVEL_FINGERPRINT ? "|"
                                                                        : ":",
                               SLF(value)));
    return j->text.match.p != NULL ? 0 : -1;
}

/* Several add up. */
static int add_anchor(struct policy_job *j, slice value, struct err *err)
{
    if (j->out->level != TLS_LEVEL_VERIFY && j->out->level != TLS_LEVEL_SECURE)
        return err_perm(err, "attribute \"tafile\" cannot be used at level %s",
                        policy_level_name(j->out->level));
    j->text.tafile = slice_str(
        arena_printf(j->a, "%.*s %.*s", SLF(j->text.tafile), SLF(value)));
    return j->text.tafile.p != NULL ? 0
                                    : err_temp(err, "the names are too long");
}

/* Those of one word. */
static bool set_attribute(struct policy_job *j, slice name, slice value)
{
    if (slice_ieqs(name, "protocols"))
        j->text.protocols = value;
    else if (slice_ieqs(name, "ciphers"))
        j->text.ciphers = value;
    else if (slice_ieqs(name, "exclude"))
        j->text.exclude = slice_str(
            arena_printf(j->a, "%.*s,%.*s", SLF(j->text.exclude), SLF(value)));
    else if (slice_ieqs(name, "servername"))
        j->text.servername = value;
    else
        return slice_ieqs(name, "connection_reuse");
    return true;
}

static int one_attribute(struct policy_job *j, slice name, slice value,
                         struct err *err)
{
    if (value.n == 0)
        return err_perm(err, "attribute \"%.*s\" has no value", SLF(name));
    if (slice_ieqs(name, "match"))
        return add_match(j, value) == 0
                   ? 0
                   : err_temp(err, "the names are too long");
    if (slice_ieqs(name, "tafile"))
        return add_anchor(j, value, err);
    if (!set_attribute(j, name, value))
        return err_perm(err, "attribute \"%.*s\" cannot be used here",
                        SLF(name));
    return 0;
}

/* "secure match=example.com:.example.com ciphers=high". */
static int parse_entry(struct policy_job *j, slice value, struct err *err)
{
    slice word;

    if (!slice_token(&value, ", \t\r\n", &word) ||
        !policy_level(word, &j->out->level))
        return err_perm(err, "\"%.*s\" is no level of TLS", SLF(word));
    j->text = j->out->level <= TLS_LEVEL_MAY ? j->tls->may : j->tls->must;
    j->text.servername = j->tls->servername;
    while (slice_token(&value, ", \t\r\n", &word)) {
        slice name;

        if (!slice_cut(&word, '=', &name))
            return err_perm(err, "\"%.*s\" is no attribute=value", SLF(name));
        if (j->out->level == TLS_LEVEL_NONE)
            continue;
        if (one_attribute(j, name, word, err) < 0)
            return -1;
    }
    return 0;
}

/* As Postfix: the whole next hop; of a plain domain its parents as well, as
 * ".parent". */
int policy_map_find(struct policy_job *j, bool *found, struct err *err)
{
    slice key = slice_lower(j->a, j->nexthop);
    bool is_domain = slice_chr(key, '[') < 0 && slice_chr(key, ':') < 0;
    slice value;

    *found = false;
    while (j->tls->maps != NULL && key.n > 0) {
        ssize_t dot;

        if (table_list_lookup(j->tls->maps, key, 0, j->a, &value, err) < 0)
            return -1;
        if (value.p != NULL) {
            *found = true;
            return parse_entry(j, value, err);
        }
        dot = is_domain ? slice_chr(slice_from(key, 1), '.') : -1;
        if (dot < 0)
            return 0;
        key = slice_from(key, (size_t)dot + 1);
    }
    return 0;
}

/* ---- smtp_tls_per_site */

/* *level: NONE, MAY .. of what was found so far, -1 nothing.  NONE wins over
 * MAY, else the stronger one. */
static int take_site(slice value, int *level)
{
    if (slice_ieqs(value, "NONE")) {
        if (*level <= TLS_LEVEL_MAY)
            *level = TLS_LEVEL_NONE;
    } else if (slice_ieqs(value, "MAY")) {
        if (*level < TLS_LEVEL_NONE)
            *level = TLS_LEVEL_MAY;
    } else if (slice_ieqs(value, "MUST_NOPEERMATCH")) {
        if (*level < TLS_LEVEL_ENCRYPT)
            *level = TLS_LEVEL_ENCRYPT;
    } else if (slice_ieqs(value, "MUST")) {
        *level = TLS_LEVEL_VERIFY;
    } else {
        return -1;
    }
    return 0;
}

/* As Postfix: a MAY for many does not weaken what main.cf says. */
int policy_site_find(struct policy_job *j, bool *found, struct err *err)
{
    const slice keys[] = { slice_lower(j->a, j->nexthop),
                           slice_lower(j->a, j->host->name) };
    int level = -1;
    slice value;

    *found = false;
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        if (keys[i].n == 0 || (i > 0 && slice_eq(keys[0], keys[i])))
            continue;
        if (table_list_lookup(j->tls->per_site, keys[i], 0, j->a, &value, err) <
            0)
            return -1;
        if (value.p != NULL && take_site(slice_trim(value), &level) < 0)
            return err_perm(err,
                            "\"%.*s\" is none of NONE, MAY, "
                            "MUST_NOPEERMATCH and MUST",
                            SLF(value));
    }
    if (level < 0 || (level == TLS_LEVEL_MAY && j->tls->level > TLS_LEVEL_MAY))
        return 0;
    *found = true;
    j->out->level = (enum tls_level)level;
    j->text = level <= TLS_LEVEL_MAY ? j->tls->may : j->tls->must;
    j->text.servername = j->tls->servername;
    return 0;
}
