#include "filter/filter_priv.h"

#include "ipc/event.h"

struct action {
    const char *name;
    void (*run)(struct filter_message *m, slice text, slice arg,
                enum filter_verdict *verdict, struct buf *out);
    bool is_logged; /* in words of its own; else not at all */
    const char *word;
};

/* "reject: header Subject: x from unknown[..]; from=<> to=<> proto= helo=: why"
 */
static void log_action(const struct filter_message *m, const char *word,
                       slice text, slice why)
{
    const struct filter_context *c = m->context;
    const char *what = m->state == FILTER_BODY ? "body" : "header";
    struct buf b;

    buf_init(&b, 4096);
    (void)buf_printf(&b, "%s: %s %.*s from %.*s; from=<%.*s> to=<%.*s>", word,
                     what, SLF(slice_sub(text, 0, 200)), SLF(c->client),
                     SLF(c->sender), SLF(c->recipient));
    if (c->protocol.n > 0)
        (void)buf_printf(&b, " proto=%.*s", SLF(c->protocol));
    if (c->helo.n > 0)
        (void)buf_printf(&b, " helo=<%.*s>", SLF(c->helo));
    if (why.n > 0)
        (void)buf_printf(&b, ": %.*s", SLF(why));
    event_text(EV_INFO, c->service != NULL ? c->service : "cleanup",
               c->queue_id, "%s", buf_cstr(&b));
    buf_done(&b);
}

/* "5.7.1 text" to its parts; without a code the default stays. */
static void split_status(slice arg, slice *status, slice *text)
{
    slice rest = arg;
    slice word;

    *text = arg;
    if (slice_token(&rest, " \t", &word) && word.n >= 5 && word.n <= 7 &&
        (word.p[0] == '4' || word.p[0] == '5') && word.p[1] == '.') {
        *status = word;
        *text = slice_trim(rest);
    }
}

static void do_reject(struct filter_message *m, slice text UNUSED, slice arg,
                      enum filter_verdict *v UNUSED, struct buf *out UNUSED)
{
    m->result.reject = true;
    m->result.status = SL("5.7.1");
    split_status(arg, &m->result.status, &m->result.text);
    if (m->result.text.n == 0)
        m->result.text = SL("message content rejected");
    m->stopped = true;
}

static void do_discard(struct filter_message *m, slice text UNUSED,
                       slice arg UNUSED, enum filter_verdict *v UNUSED,
                       struct buf *out UNUSED)
{
    m->result.discard = true;
    m->stopped = true;
}

static void do_pass(struct filter_message *m, slice text UNUSED,
                    slice arg UNUSED, enum filter_verdict *v UNUSED,
                    struct buf *out UNUSED)
{
    m->result.pass = true;
    m->stopped = true;
}

static void do_hold(struct filter_message *m, slice text UNUSED,
                    slice arg UNUSED, enum filter_verdict *v UNUSED,
                    struct buf *out UNUSED)
{
    m->result.hold = true;
}

static void do_redirect(struct filter_message *m, slice text UNUSED, slice arg,
                        enum filter_verdict *v UNUSED, struct buf *out UNUSED)
{
    if (slice_chr(arg, '@') < 0)
        log_warning("bad REDIRECT target \"%.*s\" in header or body checks",
                    SLF(arg));
    else
        m->result.redirect = arg;
}

static void do_filter(struct filter_message *m, slice text UNUSED, slice arg,
                      enum filter_verdict *v UNUSED, struct buf *out UNUSED)
{
    if (slice_chr(arg, ':') < 0)
        log_warning("bad FILTER command \"%.*s\" in header or body checks: "
                    "it needs transport:destination",
                    SLF(arg));
    else
        m->result.filter = arg;
}

static void do_bcc(struct filter_message *m, slice text UNUSED, slice arg,
                   enum filter_verdict *v UNUSED, struct buf *out UNUSED)
{
    slice *all = arena_alloc(m->arena, (m->result.n_bcc + 1) * sizeof *all);

    if (all == NULL || m->result.n_bcc >= 100)
        return;
    for (size_t i = 0; i < m->result.n_bcc; i++)
        all[i] = m->result.bcc[i];
    all[m->result.n_bcc++] = arg;
    m->result.bcc = all;
}

static void do_drop(struct filter_message *m UNUSED, slice text UNUSED,
                    slice arg UNUSED, enum filter_verdict *verdict,
                    struct buf *out UNUSED)
{
    *verdict = FILTER_DROP;
}

static void do_replace(struct filter_message *m UNUSED, slice text UNUSED,
                       slice arg, enum filter_verdict *verdict, struct buf *out)
{
    if (arg.n == 0)
        return;
    (void)buf_slice(out, arg);
    (void)buf_byte(out, '\n');
    *verdict = FILTER_REPLACED;
}

static void do_prepend(struct filter_message *m UNUSED, slice text, slice arg,
                       enum filter_verdict *verdict, struct buf *out)
{
    if (arg.n == 0)
        return;
    (void)buf_slice(out, arg);
    (void)buf_byte(out, '\n');
    (void)buf_slice(out, text);
    (void)buf_byte(out, '\n');
    *verdict = FILTER_REPLACED;
}

static void do_nothing(struct filter_message *m UNUSED, slice text UNUSED,
                       slice arg UNUSED, enum filter_verdict *v UNUSED,
                       struct buf *out UNUSED)
{
}

/* header_checks(5), ACTIONS. */
static const struct action actions[] = {
    { "REJECT", do_reject, true, "reject" },
    { "DISCARD", do_discard, true, "discard" },
    { "HOLD", do_hold, true, "hold" },
    { "REDIRECT", do_redirect, true, "redirect" },
    { "FILTER", do_filter, true, "filter" },
    { "BCC", do_bcc, true, "bcc" },
    { "WARN", do_nothing, true, "warning" },
    { "INFO", do_nothing, true, "info" },
    { "IGNORE", do_drop, false, "" },
    { "STRIP", do_drop, true, "strip" },
    { "REPLACE", do_replace, true, "replace" },
    { "PREPEND", do_prepend, true, "prepend" },
    { "PASS", do_pass, true, "pass" },
    { "DUNNO", do_nothing, false, "" },
    { "OK", do_nothing, false, "" },
};

static const struct action *action_find(slice word)
{
    for (size_t i = 0; i < ARRAY_LEN(actions); i++) {
        if (slice_ieqs(word, actions[i].name))
            return &actions[i];
    }
    return NULL;
}

/* Too late for it when mail leaves. */
static bool decides_fate(const struct action *a)
{
    return a->run == do_reject || a->run == do_discard || a->run == do_hold ||
           a->run == do_redirect || a->run == do_filter || a->run == do_bcc ||
           a->run == do_pass;
}

/* The action that a result begins with; NULL, and told, when there is none that
 * may be done here. */
static const struct action *action_for(const struct filter_message *m,
                                       slice word)
{
    const struct action *action = action_find(word);

    if (action == NULL)
        log_warning("unknown command in header or body checks: %.*s",
                    SLF(word));
    else if (m->filter->is_client && decides_fate(action))
        log_warning("unsupported command in header or body checks of mail that "
                    "leaves: %.*s",
                    SLF(word));
    else
        return action;
    return NULL;
}

int filter_ask(struct filter_message *m, enum filter_class class, slice text,
               enum filter_verdict *verdict, struct buf *out, struct err *err)
{
    struct table_list *list = m->filter->lists[class];
    const struct action *action;
    slice value = SLICE_NONE;
    slice word;

    *verdict = FILTER_KEEP;
    if (m->stopped || table_list_is_empty(list))
        return 0;
    arena_reset(m->scratch);
    if (table_list_lookup(list, text, 0, m->scratch, &value, err) < 0)
        return -1;
    if (value.p == NULL)
        return 0;
    value = slice_trim(slice_dup(m->arena, value)); /* results keep parts */
    if (!slice_token(&value, " \t", &word))
        return 0;
    value = slice_trim(value);
    action = action_for(m, word);
    if (action == NULL)
        return 0;
    action->run(m, text, value, verdict, out);
    if (action->run == do_reject) /* as the client reads it */
        value =
            slice_str(arena_printf(m->scratch, "%.*s %.*s",
                                   SLF(m->result.status), SLF(m->result.text)));
    if (action->is_logged)
        log_action(m, action->word, text, value);
    return 0;
}
