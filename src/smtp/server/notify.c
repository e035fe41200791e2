#include "smtp/server/server_priv.h"

#include "ipc/event.h"

/*
 * notify_classes: transcripts of sessions that went wrong, to
 * error_notice_recipient.  Whoever wants to hear of policy, protocol or data
 * has every session kept from its beginning; for trouble of our own (the
 * default) a transcript begins with it, so that quiet sessions cost nothing.
 */

#define NOTES_MAX 32768
/* Trouble of our own meets every session: one letter is enough for a while. */
#define OWN_TROUBLE_MS  ((msec)600 * 1000)
#define NOTES_LINE_MAX  500
#define NOTES_RCPTS_MAX 100

enum {
    CLASS_POLICY = 1,
    CLASS_PROTOCOL = 2,
    CLASS_DATA = 4,
    CLASS_RESOURCE = 8,
    CLASS_SOFTWARE = 16,
};

struct smtp_notes {
    struct buf text;
    unsigned errors;
};

unsigned smtp_notify_classes(const struct conf *c,
                             const struct conf_service *line)
{
    static const struct {
        const char *name;
        unsigned bit;
    } names[] = {
        { "policy", CLASS_POLICY },     { "protocol", CLASS_PROTOCOL },
        { "data", CLASS_DATA },         { "resource", CLASS_RESOURCE },
        { "software", CLASS_SOFTWARE },
    };

    slice list = conf_slice(c, line, "notify_classes");
    unsigned bits = 0;
    slice word;

    while (conf_list_next(&list, &word))
        for (size_t i = 0; i < ARRAY_LEN(names); i++)
            if (slice_ieqs(word, names[i].name))
                bits |= names[i].bit;
    return bits;
}

static bool is_kept(const struct smtp *s)
{
    return (s->service->notify &
            (CLASS_POLICY | CLASS_PROTOCOL | CLASS_DATA)) != 0 &&
           !s->service->is_pickup;
}

static void add(struct smtp *s, const char *what, slice line)
{
    struct smtp_notes *n = s->notes;

    if (n == NULL) {
        n = s->notes = xcalloc(1, sizeof(*n));
        buf_init(&n->text, NOTES_MAX);
    }
    if (n->text.n + NOTES_LINE_MAX + 100 > NOTES_MAX)
        return;
    line = slice_rtrim(slice_sub(line, 0, NOTES_LINE_MAX));
    (void)buf_printf(&n->text, " %s ", what);
    for (size_t i = 0; i < line.n; i++) {
        unsigned char c = (unsigned char)line.p[i];

        (void)buf_byte(&n->text, c < ' ' || c > '~' ? '?' : (char)c);
    }
    (void)buf_byte(&n->text, '\n');
}

void smtp_note_in(struct smtp *s, slice line)
{
    if (!is_kept(s))
        return;
    /* What follows may be a password. */
    if (slice_istarts(line, SL("AUTH ")))
        line = SL("AUTH (not shown)");
    add(s, "In: ", line);
}

static unsigned class_of(const struct smtp *s, int code, slice line)
{
    slice status = slice_sub(line, 4, 5);

    if (s->tx != NULL && s->tx->is_content_refusal)
        return CLASS_DATA;
    if (slice_find(line, SL("lookup failure")) >= 0)
        return CLASS_POLICY; /* as Postfix: not a letter for each of many */
    if (slice_eqs(status, "4.3.1") || slice_eqs(status, "4.3.0"))
        return CLASS_RESOURCE;
    if (slice_eqs(status, "4.3.5"))
        return CLASS_SOFTWARE;
    if ((code >= 500 && code <= 504) || code == 555 || code == 421 ||
        slice_eqs(status, "5.5.0") || slice_eqs(status, "5.5.1"))
        return CLASS_PROTOCOL;
    return CLASS_POLICY;
}

void smtp_note_out(struct smtp *s, int code, slice line)
{
    unsigned class = code < 400 ? 0 : class_of(s, code, line);

    if (s->service->is_pickup ||
        (!is_kept(s) && (class & s->service->notify) == 0))
        return;
    add(s, "Out:", line);
    s->notes->errors |= class;
}

void smtp_notes_free(struct smtp *s)
{
    if (s->notes == NULL)
        return;
    buf_done(&s->notes->text);
    free(s->notes);
    s->notes = NULL;
}

/* ------------------------------------------------------------------- sending
 */

struct letter {
    struct smtp *s;
    struct envelope env;
    struct buf headers;
    char message_id[400];
};

static void on_id(struct envelope *e, void *arg)
{
    struct letter *l = arg;
    const struct smtp_service *v = l->s->service;
    char date[40];

    clock_rfc5322(e->arrival_usec / 1000000, date);
    (void)snprintf(l->message_id, sizeof l->message_id, "<%s@%.300s>", e->id,
                   v->myhostname);
    buf_clear(&l->headers);
    (void)buf_printf(&l->headers,
                     "Received: by %s (%s)\n\tid %s; %s\nDate: %s\n"
                     "Message-Id: %s\n",
                     v->myhostname, v->mail_name, e->id, date, date,
                     l->message_id);
    e->headers = buf_view(&l->headers);
    e->message_id = slice_str(l->message_id);
}

/* Who gets it, aliases expanded. */
MAY_WAIT static int set_rcpts(struct letter *l, slice to, struct arena *a,
                              struct err *err)
{
    const struct address *rules = l->s->service->address;
    struct address_list list;
    slice full;

    address_list_init(&list, a);
    if (address_rewrite(rules, ADDRESS_LOCAL, to, a, &full, err) < 0 ||
        address_add_recipient(rules, &list, full, SLICE_NONE, 0, err) < 0)
        return -1;
    if (list.n == 0 || list.n > NOTES_RCPTS_MAX)
        return err_temp(err, "a notice to %.*s has %zu recipients", SLF(to),
                        list.n);
    l->env.rcpts = ARENA_ARRAY(a, struct envelope_rcpt, list.n);
    for (size_t i = 0; i < list.n; i++)
        l->env.rcpts[l->env.n_rcpts++].addr = list.v[i].addr;
    return 0;
}

static void put_letter(const struct smtp *s, slice to, struct buf *b)
{
    const struct smtp_service *v = s->service;

    (void)buf_printf(b,
                     "From: MAILER-DAEMON@%s (Mail Delivery System)\n"
                     "To: %.*s (Postmaster)\n"
                     "Subject: %s SMTP server: errors from %s\n"
                     "Auto-Submitted: auto-generated\n\n"
                     "Transcript of session follows.\n\n",
                     conf_str(v->conf, v->line, "myorigin"), SLF(to),
                     v->mail_name, s->client);
    (void)buf_slice(b, buf_view(&s->notes->text));
    (void)buf_puts(b, "\nFor other details, see the local mail logfile\n");
}

MAY_WAIT static int send_letter(struct letter *l, struct arena *a, slice body,
                                struct err *err)
{
    const struct smtp_service *v = l->s->service;
    struct spool_draft *d = NULL;
    slice to = conf_slice(v->conf, v->line, "error_notice_recipient");

    l->env = (struct envelope){
        .sender = slice_str(arena_printf(
            a, "%s@%s", conf_str(v->conf, NULL, "double_bounce_sender"),
            conf_str(v->conf, NULL, "myorigin"))),
        .flags = ENV_NOTICE,
        .client_name = SL("localhost"),
        .service = SL("smtpd"),
        .on_id = on_id,
        .on_id_arg = l,
    };
    if (set_rcpts(l, to, a, err) < 0 ||
        spool_draft_open(v->server->parts.spool, 0, &d, err) < 0)
        return -1;
    if (spool_draft_write(d, body, err) < 0 ||
        spool_draft_commit(&d, &l->env, err) < 0) {
        spool_draft_abort(&d);
        return -1;
    }
    return 0;
}

static bool is_wanted(unsigned errors)
{
    static msec told;

    if ((errors & ~(unsigned)(CLASS_RESOURCE | CLASS_SOFTWARE)) != 0)
        return true;
    if (errors == 0 || (told != 0 && clock_mono() - told < OWN_TROUBLE_MS))
        return false;
    told = clock_mono();
    return true;
}

void smtp_notes_send(struct smtp *s)
{
    struct letter l = { .s = s };
    struct arena *a;
    struct err err;
    struct buf body;

    if (s->notes == NULL || s->service->server->is_draining ||
        !is_wanted(s->notes->errors & s->service->notify))
        return;
    a = arena_new(4u << 20);
    buf_init(&l.headers, 8192);
    buf_init(&body, (size_t)NOTES_MAX * 2);
    put_letter(s,
               conf_slice(s->service->conf, s->service->line,
                          "error_notice_recipient"),
               &body);
    if (send_letter(&l, a, buf_view(&body), &err) < 0)
        event_text(EV_WARNING, s->service->tag, NULL,
                   "a transcript for the postmaster is lost: %s", err.log);
    buf_done(&body);
    buf_done(&l.headers);
    arena_free(&a);
}
