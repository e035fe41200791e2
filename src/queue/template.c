#include "base/base.h"

#include "ipc/event.h"
#include "mail/mail.h"
#include "queue/queue_priv.h"

/*
 * bounce_template_file, Postfix's bounce(5): texts of reports.  The file is
 * read at start and reload; what cannot be used leaves the texts that are built
 * in.
 *
 *     failure_template = <<EOF
 *     Charset: us-ascii
 *     From: MAILER-DAEMON (Mail Delivery System)
 *     Subject: Undelivered Mail Returned to Sender
 *     Postmaster-Subject: Postmaster Copy: Undelivered Mail
 *
 *     This is the mail system at host $myhostname.
 *     EOF
 */

#define BODY_MAX 65536

static const struct {
    const char *name;
    enum dsn_kind kind;
    bool has_copies; /* Postmaster-Subject */
} kinds[] = {
    { "failure_template", DSN_FAILURE, true },
    { "delay_template", DSN_DELAY, true },
    { "success_template", DSN_SUCCESS, false },
    { "verify_template", DSN_VERIFY, false },
};

struct template
{
    char *charset, *from, *subject, *copy_subject;
    char *body; /* with $names */
};

struct templates {
    struct template v[ARRAY_LEN(kinds)];
};

static void template_done(struct template *t)
{
    free(t->charset);
    free(t->from);
    free(t->subject);
    free(t->copy_subject);
    free(t->body);
    *t = (struct template){ .body = NULL };
}

void templates_free(struct templates **tp)
{
    struct templates *t = *tp;

    if (t == NULL)
        return;
    *tp = NULL;
    for (size_t i = 0; i < ARRAY_LEN(t->v); i++)
        template_done(&t->v[i]);
    free(t);
}

static bool next_line(slice *in, slice *line)
{
    if (in->n == 0)
        return false;
    (void)slice_cut(in, '\n', line);
    if (line->n > 0 && line->p[line->n - 1] == '\r')
        line->n--;
    return true;
}

static void replace(char **to, slice text)
{
    free(*to);
    *to = slice_xstrdup(text);
}

/* One header field of a template. */
static int take_field(struct template *t, size_t kind, slice line,
                      struct err *err)
{
    slice rest = line;
    slice name;
    slice value;

    if (!slice_cut(&rest, ':', &name))
        return err_perm(err, "%s: \"%.*s\" is no header field",
                        kinds[kind].name, SLF(line));
    value = slice_trim(rest);
    if (slice_ieqs(name, "Charset"))
        replace(&t->charset, value);
    else if (slice_ieqs(name, "From"))
        replace(&t->from, value);
    else if (slice_ieqs(name, "Subject"))
        replace(&t->subject, value);
    else if (slice_ieqs(name, "Postmaster-Subject") && kinds[kind].has_copies)
        replace(&t->copy_subject, value);
    else
        return err_perm(err, "%s: unknown header field \"%.*s\"",
                        kinds[kind].name, SLF(name));
    return 0;
}

/* Header and body of a template, up to the line `end`. */
static int read_lines(struct template *t, size_t kind, slice end, slice *in,
                      struct buf *body, struct err *err)
{
    bool in_body = false;
    slice line;

    while (next_line(in, &line)) {
        if (slice_eq(line, end))
            return in_body ? 0 : err_perm(err, "%s: no text", kinds[kind].name);
        if (in_body)
            (void)buf_printf(body, "%.*s\n", SLF(line));
        else if (line.n == 0)
            in_body = true;
        else if (take_field(t, kind, line, err) < 0)
            return -1;
    }
    return err_perm(err, "%s: the line \"%.*s\" is missing", kinds[kind].name,
                    SLF(end));
}

static int check_body(const struct template *t, size_t kind,
                      const struct buf *body, struct err *err)
{
    bool is_ascii =
        t->charset == NULL || strcasecmp(t->charset, "us-ascii") == 0;

    if (body->overflow)
        return err_perm(err, "%s: too much text", kinds[kind].name);
    if (is_ascii && !mail_is_ascii(buf_view(body)))
        return err_perm(err, "%s: 8-bit text in us-ascii", kinds[kind].name);
    return 0;
}

static int take_template(struct template *t, size_t kind, slice end, slice *in,
                         struct err *err)
{
    struct buf body;
    int rc;

    template_done(t);
    buf_init(&body, BODY_MAX);
    rc = read_lines(t, kind, end, in, &body, err);
    if (rc == 0)
        rc = check_body(t, kind, &body, err);
    if (rc == 0)
        t->body = slice_xstrdup(buf_view(&body));
    else
        template_done(t);
    buf_done(&body);
    return rc;
}

/* "name = <<END". */
static int take_start(struct templates *t, slice line, slice *in,
                      struct err *err)
{
    slice value = line;
    slice name;

    if (!slice_cut(&value, '=', &name))
        return err_perm(err, "\"%.*s\": = is missing", SLF(line));
    name = slice_trim(name);
    value = slice_trim(value);
    if (!slice_starts(value, SL("<<")) || value.n < 3)
        return err_perm(err, "%.*s: <<EOF is missing", SLF(name));
    value = slice_trim(slice_from(value, 2));
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
        if (slice_eqs(name, kinds[i].name))
            return take_template(&t->v[i], i, value, in, err);
    return err_perm(err, "unknown template \"%.*s\"", SLF(name));
}

int templates_parse(slice in, struct templates **out, struct err *err)
{
    struct templates *t = xcalloc(1, sizeof(*t));
    slice line;

    while (next_line(&in, &line)) {
        line = slice_trim(line);
        if (line.n == 0 || line.p[0] == '#')
            continue;
        if (take_start(t, line, &in, err) < 0) {
            templates_free(&t);
            return -1;
        }
    }
    *out = t;
    return 0;
}

/* ------------------------------------------------------------------ expansion
 */

/* "delay_warning_time_hours": a time in the unit behind its name. */
static bool put_time(const struct conf *c, slice name, struct buf *out)
{
    static const struct {
        const char *suffix;
        int64_t seconds;
    } units[] = {
        { "_seconds", 1 },  { "_minutes", 60 },   { "_hours", 3600 },
        { "_days", 86400 }, { "_weeks", 604800 },
    };

    static const char *const times[] = {
        "delay_warning_time",    "maximal_queue_lifetime",
        "bounce_queue_lifetime", "minimal_backoff_time",
        "maximal_backoff_time",  "queue_run_delay",
    };

    for (size_t i = 0; i < ARRAY_LEN(units); i++) {
        slice base;

        if (!slice_ends(name, slice_str(units[i].suffix)))
            continue;
        base = slice_sub(name, 0, name.n - strlen(units[i].suffix));
        for (size_t k = 0; k < ARRAY_LEN(times); k++)
            if (slice_eqs(base, times[k]))
                return buf_printf(out, "%" PRId64,
                                  conf_time(c, NULL, times[k]) /
                                      units[i].seconds);
    }
    return false;
}

static bool lookup(void *ctx, slice name, struct buf *out)
{
    const struct conf *c = ctx;
    char text[128];

    if (put_time(c, name, out))
        return true;
    return slice_copy_to(name, text, sizeof(text)) &&
           buf_puts(out, conf_str(c, NULL, text));
}

static const char *text_of(struct arena *a, const char *s)
{
    return s != NULL ? arena_printf(a, "%s", s) : NULL;
}

bool templates_use(const struct templates *t, struct conf *c, struct dsn *d,
                   struct arena *a)
{
    const struct template *one = NULL;
    struct buf body;
    struct err err;

    for (size_t i = 0; t != NULL && i < ARRAY_LEN(kinds); i++)
        if (kinds[i].kind == d->kind && t->v[i].body != NULL)
            one = &t->v[i];
    if (one == NULL)
        return false;
    buf_init(&body, (size_t)BODY_MAX * 2);
    if (conf_expand_with(slice_str(one->body), lookup, c, &body, &err) < 0) {
        log_warning("bounce_template_file: %s", err.log);
        buf_done(&body);
        return false;
    }
    d->text = slice_dup(a, buf_view(&body));
    /* Copies: a reload may bring others while the report is written. */
    d->charset = text_of(a, one->charset);
    d->from = text_of(a, one->from);
    d->subject = text_of(a, one->subject);
    d->copy_subject = text_of(a, one->copy_subject);
    buf_done(&body);
    return true;
}

static void put_template(const struct template *t, size_t kind, struct buf *out)
{
    enum dsn_kind k = kinds[kind].kind;

    (void)buf_printf(out, "%s = <<EOF\nCharset: %s\nFrom: %s\nSubject: %s\n",
                     kinds[kind].name,
                     t->charset != NULL ? t->charset : "us-ascii",
                     t->from != NULL ? t->from
                                     : "MAILER-DAEMON (Mail Delivery System)",
                     t->subject != NULL ? t->subject : dsn_subject(k, false));
    if (kinds[kind].has_copies)
        (void)buf_printf(out, "Postmaster-Subject: %s\n",
                         t->copy_subject != NULL ? t->copy_subject
                                                 : dsn_subject(k, true));
    (void)buf_printf(out, "\n%sEOF\n", t->body != NULL ? t->body : dsn_text(k));
}

static int put_expanded(const struct template *t, size_t kind, struct conf *c,
                        struct buf *out, struct err *err)
{
    slice name = slice_str(kinds[kind].name);

    (void)buf_printf(out, "expanded_%.*s_text = <<EOF\n",
                     SLF(slice_sub(name, 0, (size_t)slice_chr(name, '_'))));
    if (conf_expand_with(
            slice_str(t->body != NULL ? t->body : dsn_text(kinds[kind].kind)),
            lookup, c, out, err) < 0)
        return err_prefix(err, "%s", kinds[kind].name);
    (void)buf_puts(out, "EOF\n");
    return 0;
}

int queue_show_templates(struct conf *c, slice text, bool is_expanded,
                         struct buf *out, struct err *err)
{
    static const struct template none;
    struct templates *t = NULL;
    int rc = 0;

    if (text.n > 0 && templates_parse(text, &t, err) < 0)
        return -1;
    for (size_t i = 0; i < ARRAY_LEN(kinds) && rc == 0; i++) {
        const struct template *one = t != NULL ? &t->v[i] : &none;

        if (i > 0)
            (void)buf_byte(out, '\n');
        if (is_expanded)
            rc = put_expanded(one, i, c, out, err);
        else
            put_template(one, i, out);
    }
    templates_free(&t);
    return rc;
}

void queue_set_templates(struct queue *q, slice text)
{
    struct templates *t = NULL;
    struct err err;

    if (text.n > 0 && templates_parse(text, &t, &err) < 0)
        log_warning("bounce_template_file: %s; built-in texts are used",
                    err.log);
    templates_free(&q->templates);
    q->templates = t;
}
