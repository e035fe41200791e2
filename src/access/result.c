#include "access/access_priv.h"

#include "ipc/event.h"

/* What the right-hand side of an access table means: access(5). */

struct result {
    slice key;  /* what was found */
    slice text; /* behind the action */
    const struct rule *rule;
};

struct action {
    const char *name;
    MAY_WAIT enum verdict (*fn)(struct check *c, const struct result *r);
};

/* ------------------------------------------------------------------ *
 * Enhanced status codes
 */

/* "X.1.Y" speaks of an address: of the sender's, the recipient's, or of none
 * (smtpd_dsn_fix(3)). */
static void status_fix(struct check *c, char *status)
{
    bool is_sender = strcmp(c->reply_class, "Sender address") == 0;
    bool is_rcpt = strcmp(c->reply_class, "Recipient address") == 0;

    if (status[1] != '.' || status[2] != '1' || status[3] != '.' ||
        status[5] != '\0')
        return;
    if (is_sender) {
        if (status[4] == '1' || status[4] == '6')
            status[4] = '0';
        else if (status[4] == '2')
            status[4] = '8';
        else if (status[4] == '3')
            status[4] = '7';
    } else if (is_rcpt) {
        if (status[4] == '8')
            status[4] = '2';
        else if (status[4] == '7')
            status[4] = '3';
    } else {
        status[2] = '0';
        status[4] = '0';
    }
}

bool check_status_take(slice *text, char *out, size_t size)
{
    slice rest = *text;
    slice word;
    unsigned dots = 0;

    if (!slice_token(&rest, " \t", &word) || word.n < 5 || word.n >= size ||
        (word.p[0] != '2' && word.p[0] != '4' && word.p[0] != '5'))
        return false;
    for (size_t i = 0; i < word.n; i++) {
        if (word.p[i] == '.')
            dots++;
        else if (!ascii_isdigit(word.p[i]))
            return false;
    }
    if (dots != 2 || word.p[1] != '.')
        return false;
    (void)slice_copy_to(word, out, size);
    *text = slice_trim(rest);
    return true;
}

static enum verdict refuse(struct check *c, slice text, int code,
                           const char *status)
{
    char own[16];

    (void)snprintf(own, sizeof(own), "%s", status);
    if (check_status_take(&text, own, sizeof(own)))
        own[0] = code >= 500 ? '5' : '4';
    status_fix(c, own);
    if (text.n == 0)
        text = SL("Access denied");
    return check_refuse(c, false, code, own, "<%.*s>: %s rejected: %.*s",
                        SLF(c->reply_name), c->reply_class, SLF(text));
}

/* ------------------------------------------------------------------ *
 * Actions
 */

static enum verdict do_dunno(struct check *c, const struct result *r)
{
    (void)c;
    (void)r;
    return SAYS_DUNNO;
}

static enum verdict do_ok(struct check *c, const struct result *r)
{
    c->grants_relay = r->rule->what != NULL && r->rule->what->grants_relay;
    return SAYS_OK;
}

static enum verdict do_reject(struct check *c, const struct result *r)
{
    return refuse(c, r->text, c->a->map_reject_code, "5.7.1");
}

static enum verdict do_defer(struct check *c, const struct result *r)
{
    return refuse(c, r->text, c->a->map_defer_code, "4.7.1");
}

static void defer_if(struct check *c, struct deferral *d, slice text)
{
    char status[16] = "4.7.0";
    char *reason;

    if (check_status_take(&text, status, sizeof(status)))
        status[0] = '4';
    status_fix(c, status);
    reason = arena_printf(c->s->arena, "%.*s",
                          SLF(text.n > 0 ? text : SL("Service unavailable")));
    if (reason != NULL)
        check_defer_if(c, d, status, reason);
}

static enum verdict do_defer_if_permit(struct check *c, const struct result *r)
{
    defer_if(c, &c->if_permit, r->text);
    return SAYS_DUNNO;
}

static enum verdict do_defer_if_reject(struct check *c, const struct result *r)
{
    defer_if(c, &c->if_reject, r->text);
    return SAYS_DUNNO;
}

static void log_action(struct check *c, const char *what, const char *verb,
                       slice text)
{
    char *line =
        arena_printf(c->s->arena, "<%.*s>: %s %s%.*s", SLF(c->reply_name),
                     c->reply_class, verb, SLF(text));

    if (line != NULL)
        check_log(c, what, slice_str(line));
}

static slice text_or(slice text, const char *otherwise)
{
    return text.n > 0 ? text : slice_str(otherwise);
}

static enum verdict do_warn(struct check *c, const struct result *r)
{
    log_action(c, "warn", "", text_or(r->text, "triggers WARN action"));
    return SAYS_DUNNO;
}

static enum verdict do_info(struct check *c, const struct result *r)
{
    log_action(c, "info", "", text_or(r->text, "triggers INFO action"));
    return SAYS_DUNNO;
}

static enum verdict do_hold(struct check *c, const struct result *r)
{
    struct access_effects *e = &c->s->effects;

    log_action(c, "hold", "", text_or(r->text, "triggers HOLD action"));
    e->hold = true;
    if (r->text.n > 0)
        e->hold_text = slice_dup(c->s->arena, r->text);
    return SAYS_DUNNO;
}

static enum verdict do_discard(struct check *c, const struct result *r)
{
    log_action(c, "discard", "", text_or(r->text, "triggers DISCARD action"));
    c->s->effects.discard = true;
    /* Thrown away, so it is relayed nowhere. */
    c->grants_relay = true;
    return SAYS_OK;
}

static void warn_entry(const struct result *r, const char *what)
{
    log_warning("access table %.*s entry \"%.*s\" %s", SLF(r->rule->spec),
                SLF(r->key), what);
}

static enum verdict do_filter(struct check *c, const struct result *r)
{
    if (r->text.n == 0) {
        warn_entry(r, "has FILTER entry without value");
    } else if (slice_chr(r->text, ':') < 0) {
        warn_entry(r, "requires transport:destination");
    } else {
        log_action(c, "filter", "triggers FILTER ", r->text);
        c->s->effects.filter = slice_dup(c->s->arena, r->text);
    }
    return SAYS_DUNNO;
}

static enum verdict do_redirect(struct check *c, const struct result *r)
{
    if (slice_chr(r->text, '@') < 0) {
        warn_entry(r, "requires user@domain target");
        return SAYS_DUNNO;
    }
    log_action(c, "redirect", "triggers REDIRECT ", r->text);
    c->s->effects.redirect = slice_dup(c->s->arena, r->text);
    return SAYS_DUNNO;
}

/* One more in a list of the effects; false when the arena is full. */
static bool append(struct arena *a, slice **v, size_t *n, slice text)
{
    slice *bigger;

    if (*n >= 1000)
        return false;
    bigger = arena_alloc(a, (*n + 1) * sizeof(slice));
    text = slice_dup(a, text);
    if (bigger == NULL || text.p == NULL)
        return false;
    if (*n > 0)
        memcpy(bigger, *v, *n * sizeof(slice));
    bigger[*n] = text;
    *v = bigger;
    (*n)++;
    return true;
}

static enum verdict do_bcc(struct check *c, const struct result *r)
{
    struct access_effects *e = &c->s->effects;

    if (slice_chr(r->text, '@') < 0) {
        warn_entry(r, "requires user@domain target");
        return SAYS_DUNNO;
    }
    log_action(c, "bcc", "triggers BCC ", r->text);
    if (!append(c->s->arena, &e->bcc, &e->n_bcc, r->text))
        return check_server_error(c);
    return SAYS_DUNNO;
}

static enum verdict do_prepend(struct check *c, const struct result *r)
{
    struct access_effects *e = &c->s->effects;

    if (strcmp(c->where, "END-OF-MESSAGE") == 0) {
        log_warning("access table %.*s: action PREPEND must be used before "
                    "END-OF-MESSAGE",
                    SLF(r->rule->spec));
        return SAYS_DUNNO;
    }
    if (slice_chr(r->text, ':') <= 0) {
        warn_entry(r, "requires header: text");
        return SAYS_DUNNO;
    }
    log_action(c, "prepend", "triggers PREPEND ", r->text);
    if (!append(c->s->arena, &e->prepend, &e->n_prepend, r->text))
        return check_server_error(c);
    return SAYS_DUNNO;
}

static const struct action actions[] = {
    { "REJECT", do_reject },
    { "DEFER", do_defer },
    { "OK", do_ok },
    { "permit", do_ok },
    { "DUNNO", do_dunno },
    { "HOLD", do_hold },
    { "DISCARD", do_discard },
    { "WARN", do_warn },
    { "INFO", do_info },
    { "FILTER", do_filter },
    { "REDIRECT", do_redirect },
    { "PREPEND", do_prepend },
    { "BCC", do_bcc },
    { "DEFER_IF_PERMIT", do_defer_if_permit },
    { "DEFER_IF_REJECT", do_defer_if_reject },
};

/* ------------------------------------------------------------------ *
 * Restriction names as the result
 */

/* One word of a result: a restriction without argument, or a class. */
static bool word_find(struct check *c, const struct result *r, slice word,
                      struct rule *out)
{
    struct map_node *n;

    *out = (struct rule){ .what = restriction_find(word) };
    if (out->what != NULL && out->what->arg == ARG_NONE)
        return true;
    if (out->what != NULL) {
        log_warning("access table %.*s entry \"%.*s\": %.*s needs an argument",
                    SLF(r->rule->spec), SLF(r->key), SLF(word));
        return false;
    }
    n = map_get(c->a->classes, word);
    if (n == NULL) {
        log_warning("unknown smtpd restriction: \"%.*s\"", SLF(word));
        return false;
    }
    out->class = CONTAINER_OF(n, struct rules, node);
    return true;
}

/* NOLINTNEXTLINE(misc-no-recursion): ACCESS_RESULT_DEPTH */
MAY_WAIT static enum verdict do_words(struct check *c, const struct result *r,
                                      slice value)
{
    enum verdict says = SAYS_DUNNO;
    slice rest = value;
    struct rule one;
    slice word;

    if (slice_chr(value, ':') >= 0) {
        log_warning("access table %.*s has entry with lookup table: %.*s",
                    SLF(r->rule->spec), SLF(value));
        log_warning("do not specify lookup tables inside SMTPD access maps");
        log_warning("define a restriction class and specify its name instead.");
        return check_server_error(c);
    }
    if (c->depth >= ACCESS_RESULT_DEPTH) {
        log_warning("access table %.*s entry %.*s causes unreasonable "
                    "recursion",
                    SLF(r->rule->spec), SLF(r->key));
        return check_server_error(c);
    }
    while (says == SAYS_DUNNO && conf_list_next(&rest, &word))
        says = word_find(c, r, word, &one) ? check_rule(c, &one)
                                           : check_server_error(c);
    return says;
}

static bool all_digits(slice s)
{
    for (size_t i = 0; i < s.n; i++) {
        if (!ascii_isdigit(s.p[i]))
            return false;
    }
    return s.n > 0;
}

/* NOLINTNEXTLINE(misc-no-recursion): ACCESS_RESULT_DEPTH */
enum verdict check_result(struct check *c, const struct rule *r, slice key,
                          slice value)
{
    struct result result = { .key = key, .rule = r };
    slice rest = slice_trim(value);
    slice word;
    enum verdict says;
    uint64_t code;

    value = rest;
    if (!slice_token(&rest, " \t", &word)) {
        log_warning("access table %.*s entry %.*s has empty value",
                    SLF(r->spec), SLF(key));
        return SAYS_OK;
    }
    result.text = slice_trim(rest);
    for (size_t i = 0; i < ARRAY_LEN(actions); i++) {
        if (slice_ieqs(word, actions[i].name))
            return actions[i].fn(c, &result);
    }
    /* All digits: time stamps of pop-before-smtp and the like mean OK. */
    if (all_digits(value))
        return do_ok(c, &result);
    if (word.n == 3 && slice_u64(word, &code) && code >= 400 && code <= 599)
        return refuse(c, result.text, (int)code,
                      code >= 500 ? "5.7.1" : "4.7.1");
    c->depth++;
    says = do_words(c, &result, value);
    c->depth--;
    return says;
}
