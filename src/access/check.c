#include "access/access_priv.h"

#include "ipc/event.h"

/* The stages of a session, and the evaluation of lists: generic_checks() and
 * smtpd_check_*() of Postfix's smtpd. */

static const char *const stage_names[] = {
    [ACCESS_CONNECT] = "CONNECT", [ACCESS_HELO] = "HELO",
    [ACCESS_MAIL] = "MAIL",       [ACCESS_RCPT] = "RCPT",
    [ACCESS_DATA] = "DATA",       [ACCESS_END_OF_DATA] = "END-OF-MESSAGE",
    [ACCESS_ETRN] = "ETRN",       [ACCESS_VRFY] = "VRFY",
};

/* NOLINTNEXTLINE(misc-no-recursion): ACCESS_RESULT_DEPTH */
enum verdict check_rule(struct check *c, const struct rule *r)
{
    enum verdict says;

    if (r->class == NULL)
        return r->what->fn(c, r);
    if (c->depth >= ACCESS_RESULT_DEPTH) {
        log_warning("restriction class %.*s causes unreasonable recursion",
                    SLF(r->class->name));
        return check_server_error(c);
    }
    c->depth++;
    says = check_rules(c, r->class);
    c->depth--;
    return says;
}

static bool is_warn_if_reject(const struct rule *r)
{
    return r->what != NULL && strcmp(r->what->name, "warn_if_reject") == 0;
}

/* NOLINTNEXTLINE(misc-no-recursion): ACCESS_RESULT_DEPTH */
enum verdict check_rules(struct check *c, const struct rules *r)
{
    unsigned depth = c->depth + 1; /* 0 is "no warning" */
    enum verdict says = SAYS_DUNNO;

    for (size_t i = 0; i < r->n && says == SAYS_DUNNO; i++) {
        if (c->s->effects.discard)
            break;
        if (is_warn_if_reject(&r->v[i])) {
            if (c->warn_depth == 0)
                c->warn_depth = depth;
            continue;
        }
        c->grants_relay = false;
        c->rest = &r->v[i];
        c->n_rest = r->n - i;
        says = check_rule(c, &r->v[i]);
        if (c->warn_depth >= depth)
            c->warn_depth = 0;
        /* Whatever comes, it is "try later". */
        if (c->if_permit.is_active && c->if_reject.is_active)
            break;
    }
    if (c->warn_depth >= depth)
        c->warn_depth = 0;
    return says;
}

/* Evaluate one list about `name`. */
MAY_WAIT static enum verdict run(struct check *c, const struct rules *r,
                                 slice name, const char *reply_class)
{
    c->depth = 0;
    c->warn_depth = 0;
    c->if_reject.is_active = false;
    c->grants_relay = false;
    c->kind = r->kind;
    c->reply_name = name;
    c->reply_class = reply_class;
    return check_rules(c, r);
}

MAY_WAIT static enum verdict run_client(struct check *c)
{
    return run(c, &c->a->client, check_client_text(c->a, c->s), "Client host");
}

MAY_WAIT static enum verdict run_helo(struct check *c)
{
    if (c->s->helo.n == 0)
        return SAYS_DUNNO;
    return run(c, &c->a->helo, c->s->helo, "Helo command");
}

MAY_WAIT static enum verdict run_sender(struct check *c)
{
    enum verdict says;

    if (!c->s->has_sender)
        return SAYS_DUNNO;
    says = run(c, &c->a->sender, c->s->sender, "Sender address");
    if (says == SAYS_REJECT || says == SAYS_GONE)
        return says;
    if (c->a->rejects_unlisted_sender && !c->is_sender_checked &&
        !c->s->effects.discard && c->s->sender.n > 0)
        says = check_unlisted_sender(c);
    return says;
}

static bool is_final(enum verdict says)
{
    return says == SAYS_REJECT || says == SAYS_GONE;
}

/* The lists of the stages before, with smtpd_delay_reject. */
MAY_WAIT static enum verdict run_delayed(struct check *c)
{
    enum verdict says = run_client(c);

    if (!is_final(says))
        says = run_helo(c);
    if (!is_final(says))
        says = run_sender(c);
    return says;
}

/* ------------------------------------------------------------------ *
 * RCPT
 */

/* Invariant 1: whatever the lists said. */
MAY_WAIT static enum verdict safety_net(struct check *c, bool is_granted)
{
    enum verdict says;

    if (is_granted || c->s->effects.discard)
        return SAYS_DUNNO;
    says = check_auth_destination(c);
    if (says == SAYS_OK || is_final(says))
        return says == SAYS_OK ? SAYS_DUNNO : says;
    log_warning("no restriction list decided about relaying to %.*s for "
                "%.*s: refused",
                SLF(c->s->recipient), SLF(check_client_text(c->a, c->s)));
    return check_refuse(c, false, c->a->relay_code, "5.7.1",
                        "<%.*s>: Relay access denied", SLF(c->s->recipient));
}

/* smtpd_relay_restrictions and smtpd_recipient_restrictions, in their order;
 * *granted tells whether one of them let a stranger's mail through. */
MAY_WAIT static enum verdict run_rcpt_lists(struct check *c, bool *granted)
{
    const struct access *a = c->a;
    const struct rules *lists[2] = { &a->relay, &a->recipient };
    enum verdict says = SAYS_DUNNO;

    if (!a->relay_first) {
        lists[0] = &a->recipient;
        lists[1] = &a->relay;
    }
    *granted = false;
    for (int i = 0; i < 2; i++) {
        says = run(c, lists[i], c->s->recipient, "Recipient address");
        if (is_final(says))
            return says;
        /* Without relay restrictions, the recipient restrictions decide. */
        if (says == SAYS_OK && c->grants_relay &&
            (lists[i] == &a->relay || a->relay.n == 0))
            *granted = true;
    }
    return says;
}

MAY_WAIT static enum verdict check_rcpt(struct check *c)
{
    enum verdict says = SAYS_DUNNO;
    bool granted = false;

    if (check_is_probe_sender(c)) {
        says = safety_net(c, false);
        return is_final(says) ? says : SAYS_OK;
    }
    if (c->a->delay_reject)
        says = run_delayed(c);
    if (!is_final(says))
        says = run_rcpt_lists(c, &granted);
    if (is_final(says))
        return says;
    c->reply_name = c->s->recipient;
    c->reply_class = "Recipient address";
    if (c->a->rejects_unlisted_rcpt && !c->is_rcpt_checked &&
        !c->s->effects.discard) {
        says = check_unlisted_rcpt(c);
        if (is_final(says))
            return says;
    }
    says = safety_net(c, granted);
    return is_final(says) ? says : SAYS_OK;
}

/* ------------------------------------------------------------------ *
 * Other stages
 */

MAY_WAIT static enum verdict check_etrn(struct check *c)
{
    enum verdict says = SAYS_DUNNO;

    if (c->a->delay_reject) {
        says = run_client(c);
        if (!is_final(says))
            says = run_helo(c);
    }
    if (is_final(says))
        return says;
    return run(c, &c->a->etrn, c->s->etrn, "Etrn command");
}

MAY_WAIT static enum verdict check_data(struct check *c, const struct rules *r,
                                        const char *what,
                                        const char *reply_class)
{
    enum verdict says;
    slice rcpt = c->s->recipient;

    /* With several recipients none of them is the one in question. */
    if (c->s->n_recipients != 1)
        c->s->recipient = SLICE_NONE;
    says = run(c, r, slice_str(what), reply_class);
    c->s->recipient = rcpt;
    return says;
}

MAY_WAIT static enum verdict run_stage(struct check *c, enum access_stage stage)
{
    bool now = !c->a->delay_reject;

    switch (stage) {
    case ACCESS_CONNECT:
        return now ? run_client(c) : SAYS_DUNNO;
    case ACCESS_HELO:
        return now ? run_helo(c) : SAYS_DUNNO;
    case ACCESS_MAIL:
        return now ? run_sender(c) : SAYS_DUNNO;
    case ACCESS_RCPT:
    case ACCESS_VRFY:
        return check_rcpt(c);
    case ACCESS_DATA:
        return check_data(c, &c->a->data, "DATA", "Data command");
    case ACCESS_END_OF_DATA:
        return check_data(c, &c->a->end_of_data, "END-OF-MESSAGE",
                          "End-of-data");
    case ACCESS_ETRN:
        return check_etrn(c);
    }
    return SAYS_DUNNO;
}

/* DEFER_IF_PERMIT of an earlier stage holds until that stage comes again. */
static void deferral_load(struct check *c, enum access_stage stage)
{
    struct access_session *s = c->s;

    if (s->deferred[0] != '\0' && stage <= ACCESS_MAIL &&
        stage <= s->deferred_stage)
        s->deferred[0] = '\0';
    if (s->deferred[0] == '\0')
        return;
    c->if_permit.is_active = true;
    c->if_permit.line = slice_dup(s->arena, slice_str(s->deferred));
}

static void deferral_save(struct check *c, enum access_stage stage)
{
    struct access_session *s = c->s;

    if (!c->if_permit.is_active || stage > ACCESS_MAIL ||
        s->deferred[0] != '\0')
        return;
    (void)snprintf(s->deferred, sizeof(s->deferred), "%.*s",
                   SLF(c->if_permit.line));
    s->deferred_stage = (unsigned char)stage;
}

/* Permitted, but something earlier could not be asked: say that instead. */
static enum verdict apply_if_permit(struct check *c, enum access_stage stage)
{
    slice rest = c->if_permit.line;
    slice code;
    slice status;
    uint64_t number;
    char text[8];

    if (!c->if_permit.is_active || c->s->effects.discard ||
        (stage != ACCESS_RCPT && stage != ACCESS_VRFY && stage != ACCESS_DATA &&
         stage != ACCESS_END_OF_DATA && stage != ACCESS_ETRN))
        return SAYS_OK;
    slice_cut(&rest, ' ', &code);
    slice_cut(&rest, ' ', &status);
    if (!slice_copy_to(status, text, sizeof(text)))
        (void)snprintf(text, sizeof(text), "4.7.0");
    if (!slice_u64(code, &number))
        number = 450;
    return check_refuse(c, false, (int)number, text, "%.*s", SLF(rest));
}

int access_check(const struct access *a, struct access_session *s,
                 enum access_stage stage, struct access_reply *out,
                 struct err *err)
{
    struct check c = { .a = a, .s = s, .where = stage_names[stage] };
    enum verdict says;

    CHECK_OBJ(a, ACCESS_MAGIC);
    CHECK(s->arena != NULL);
    deferral_load(&c, stage);
    says = run_stage(&c, stage);
    if (!is_final(says))
        says = apply_if_permit(&c, stage);
    deferral_save(&c, stage);
    if (says == SAYS_GONE)
        return err_peer(err, "cancelled");
    *out = (struct access_reply){ .ok = says != SAYS_REJECT };
    if (says == SAYS_REJECT) {
        out->code = c.code;
        out->line = c.line;
        out->disconnect = c.code == 421 || c.code == 521;
    }
    return 0;
}

void access_reset(struct access_session *s)
{
    s->effects = (struct access_effects){ .discard = false };
}

int access_is_mynetworks(const struct access *a, const struct access_session *s,
                         bool *out, struct err *err)
{
    CHECK_OBJ(a, ACCESS_MAGIC);
    return table_match_client(a->mynetworks, s->name, s->addr, out, err);
}
