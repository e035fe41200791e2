/* Which commands there are, and the life of one. */
#include "imap/imap_priv.h"

/* A group of commands is a table in a file of its own: imap_priv.h. */
static const struct imap_command *const groups[] = {
    imap_basic_commands,     imap_select_commands, imap_expunge_commands,
    imap_fetch_commands,     imap_store_commands,  imap_copy_commands,
    imap_mailboxes_commands, imap_list_commands,   imap_append_commands,
    imap_search_commands,
};

static const struct imap_command *find(slice name, bool uid)
{
    for (size_t g = 0; g < ARRAY_LEN(groups); g++)
        for (const struct imap_command *d = groups[g]; d->name != NULL; d++)
            if (slice_ieqs(name, d->name))
                return uid && !(d->flags & IMAP_UID) ? NULL : d;
    return NULL;
}

/* ---- answers */

static void answer(struct imap_cmd *c, enum imap_answer what, const char *code,
                   const char *text)
{
    imap_answer_begin(c, what);
    if (code != NULL)
        buf_printf(&c->text, "[%s] ", code);
    buf_puts(&c->text, text);
}

void imap_answer_begin(struct imap_cmd *c, enum imap_answer what)
{
    c->answer = what;
    buf_clear(&c->text);
}

void imap_ok(struct imap_cmd *c, const char *code, const char *text)
{
    answer(c, IMAP_OK, code, text);
}

void imap_no(struct imap_cmd *c, const char *code, const char *text)
{
    answer(c, IMAP_NO, code, text);
}

void imap_bad(struct imap_cmd *c, const char *text)
{
    imap_answer_begin(c, IMAP_BAD);
    buf_printf(&c->text, "Error in IMAP command %.*s: %s", SLF(c->name), text);
}

void imap_fail(struct imap_cmd *c, const struct err *err)
{
    if (err->class == ERR_PEER) {
        c->s->is_broken = true;
        return;
    }
    if (err->class == ERR_TEMP) {
        struct imap_session *s = c->s;

        imap_log(s, EV_WARNING, "%.*s: %s", SLF(c->name), err->log);
        imap_no(c,
                err->sys == ENOSPC || err->sys == EDQUOT ? "OVERQUOTA"
                                                         : "UNAVAILABLE",
                err->peer);
        return;
    }
    switch (err->sys) {
    case ENOENT:
        imap_no(c, "NONEXISTENT", "Mailbox doesn't exist.");
        return;
    case EEXIST:
        imap_no(c, "ALREADYEXISTS", "Mailbox already exists.");
        return;
    default:
        imap_no(c, "CANNOT", err->peer);
    }
}

static void send_answer(struct imap_cmd *c)
{
    static const char *const words[] = { "", " OK ", " NO ", " BAD " };
    struct imap_session *s = c->s;

    if (c->answer == IMAP_NONE)
        return; /* IDLE answers later; others are gone */
    imap_say(s, c->tag);
    imap_says(s, words[c->answer]);
    /* What a client sent may stand in it. */
    for (size_t i = 0; i < c->text.n; i++)
        if ((unsigned char)c->text.p[i] < ' ')
            c->text.p[i] = '?';
    imap_say(s, buf_view(&c->text));
    imap_says(s, "\r\n");
    if (c->answer != IMAP_BAD) {
        s->n_bad = 0;
        return;
    }
    if (++s->n_bad >= IMAP_BAD_MAX && !imap_work(s)->is_side)
        imap_bye(s, "Too many invalid IMAP commands.");
}

/* ---- one command */

static bool is_tag_char(char ch)
{
    unsigned char u = (unsigned char)ch;

    return u > ' ' && u < 0x7f && strchr("(){%*\"\\+", ch) == NULL;
}

static bool parse_tag(struct imap_cmd *c)
{
    slice line = c->in.rest;
    size_t n = 0;

    while (n < line.n && is_tag_char(line.p[n]))
        n++;
    if (n == 0 || n > 128)
        return false;
    c->tag = slice_sub(line, 0, n);
    c->in.rest = slice_from(line, n);
    return imap_sp(&c->in);
}

/* The name, "UID" in front of it as well. */
static void parse_name(struct imap_cmd *c)
{
    struct imap_cursor was;
    slice second;

    if (!imap_atom(&c->in, &c->name)) {
        imap_bad(c, "Missing command.");
        return;
    }
    was = c->in;
    if (slice_ieqs(c->name, "UID") && imap_sp(&c->in) &&
        imap_atom(&c->in, &second)) {
        c->is_uid = true;
        c->def = find(second, true);
        c->name =
            slice_of(c->name.p, (size_t)(second.p - c->name.p) + second.n);
    } else {
        c->in = was;
        c->def = find(c->name, false);
    }
    if (c->def == NULL)
        imap_bad(c, "Unknown command.");
}

static bool is_allowed(struct imap_cmd *c)
{
    bool selected = c->s->selected != NULL;

    if (c->def->states & (selected ? IMAP_SELECTED : IMAP_AUTH))
        return true;
    if (selected)
        imap_bad(c, "Command not allowed now.");
    else
        imap_bad(c, "No mailbox selected.");
    return false;
}

/* What went while the session was packed is told before anything counts
 * messages; where that may not be said, nothing can be done by number. */
static bool tell_missing(struct imap_cmd *c)
{
    struct imap_selected *sel = c->s->selected;

    if (sel == NULL || sel->missing.n == 0)
        return true;
    if ((c->def->flags & IMAP_BY_SEQ) && !c->is_uid) {
        imap_no(c, "EXPUNGEISSUED", "Messages were expunged meanwhile.");
        return false;
    }
    imap_tell_missing(c->s);
    return true;
}

MAY_WAIT static void news(struct imap_cmd *c)
{
    unsigned flags = c->def != NULL ? c->def->flags : 0;

    if (c->s->selected == NULL || c->no_sync || c->answer == IMAP_BAD ||
        (flags & IMAP_NO_SYNC) || c->s->is_closing)
        return;
    /* RFC 9051 7.5.2 */
    if (imap_is_alone(c->s))
        (void)imap_sync(c->s, c->is_uid || !(flags & IMAP_BY_SEQ));
}

unsigned imap_command_claims(const struct imap_session *s, slice line)
{
    struct imap_cmd c = { .in = { .rest = line } };

    if (!parse_tag(&c))
        return 0;
    parse_name(&c);
    if (c.def == NULL ||
        !(c.def->states & (s->selected != NULL ? IMAP_SELECTED : IMAP_AUTH)))
        return 0;
    return imap_claims(s, c.def, c.in.rest);
}

void imap_command_run(struct imap_session *s)
{
    struct imap_work *w = imap_work(s);
    struct imap_cmd c = { .s = s };

    c.arena = arena_new(IMAP_ARENA_MAX);
    c.in = (struct imap_cursor){ buf_view(&w->line), c.arena };
    buf_init(&c.text, 4096);
    s->active_at = loop_now();
    if (!parse_tag(&c)) {
        c.tag = SL("*");
        c.name = SL("received by server");
        imap_answer_begin(&c, IMAP_BAD);
        buf_puts(&c.text, "Error in IMAP command received by server.");
    } else {
        /* A streamed command reads further lines over this one. */
        c.tag = slice_dup(c.arena, c.tag);
        c.in.rest = slice_dup(c.arena, c.in.rest);
        parse_name(&c);
        c.args = c.in.rest;
        w->cmd = &c;
    }
    if (c.answer == IMAP_NONE && is_allowed(&c) && tell_missing(&c)) {
        c.def->fn(&c);
        if (c.answer == IMAP_NONE && s->idle_tag == NULL && !s->is_broken &&
            !s->is_closing)
            imap_bad(&c, "Invalid arguments.");
    }
    if (!s->is_broken) {
        news(&c);
        send_answer(&c);
    }
    w->cmd = NULL;
    buf_done(&c.text);
    arena_free(&c.arena);
}
