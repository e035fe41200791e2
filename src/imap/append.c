/* APPEND: RFC 3501 6.3.11, RFC 3502 (MULTIAPPEND), RFC 4315 (APPENDUID), RFC
 * 7888 (LITERAL+), RFC 7889 (APPENDLIMIT). */
#include "imap/mailboxes.h"

#define MESSAGES_MAX 1000 /* of one command */

struct append {
    struct imap_cmd *c;
    struct store_mailbox *to;
    struct store_upload *upload;
    bool is_refused; /* answered; what comes is read and thrown away */
};

uint64_t imap_append_limit(const struct imap_session *s)
{
    return conf_size(s->server->parts.conf, NULL, "message_size_limit");
}

static void refuse(struct append *a, const char *code, const char *text)
{
    if (a->is_refused)
        return;
    a->is_refused = true;
    imap_no(a->c, code, text);
    store_upload_free(&a->upload);
}

static void refuse_err(struct append *a, const struct err *err)
{
    if (a->is_refused)
        return;
    a->is_refused = true;
    if (err->class == ERR_PERM && err->sys == ENOENT)
        imap_no(a->c, "TRYCREATE", "Mailbox doesn't exist.");
    else
        imap_fail(a->c, err);
    store_upload_free(&a->upload);
}

/* ---------------------------------------------------------------- arguments */

/* The mailbox may be a literal itself, which nobody has read yet. */
MAY_WAIT static bool mailbox_argument(struct append *a, slice *name)
{
    struct imap_cmd *c = a->c;
    struct imap_cursor in;
    bool is_plus;
    slice text;
    uint64_t n;
    char *quoted;

    if (!imap_sp(&c->in))
        return false;
    if (!imap_literal_mark(&c->in, &n, &is_plus))
        return imap_mailbox(&c->in, name);
    if (n > NAME_MAX * 4 || !imap_literal_ask(c, is_plus) ||
        !imap_literal_whole(c, n, &text) || !imap_line_rest(c))
        return false;
    quoted = arena_printf(c->arena, "{%" PRIu64 "}\r\n%.*s", n, SLF(text));
    in = (struct imap_cursor){ slice_str(quoted), c->arena };
    return quoted != NULL && imap_mailbox(&in, name) && imap_end(&in);
}

/* [SP flags] [SP date-time] SP literal's mark. */
static bool message_arguments(struct append *a, struct store_upload_message *m,
                              uint64_t *n, bool *is_plus)
{
    struct imap_cmd *c = a->c;
    struct err err;

    *m = (struct store_upload_message){ .internaldate = INT64_MIN };
    if (!imap_sp(&c->in))
        return false;
    if (c->in.rest.n > 0 && c->in.rest.p[0] == '(') {
        if (imap_flag_list(&c->in, false, a->to, &m->flags, &m->keywords,
                           &err) < 0) {
            if (err.class == ERR_NONE)
                return false;
            refuse_err(a, &err);
        }
        if (!imap_sp(&c->in))
            return false;
    }
    if (imap_date_time(&c->in, &m->internaldate) && !imap_sp(&c->in))
        return false;
    return imap_literal_mark(&c->in, n, is_plus);
}

/* ------------------------------------------------------------- the messages */

MAY_WAIT static bool take_bytes(struct append *a, uint64_t left)
{
    struct err err;
    slice piece;

    while (left > 0) {
        if (!imap_literal_next(a->c, &left, &piece))
            return false;
        if (!a->is_refused && store_upload_write(a->upload, piece, &err) < 0)
            refuse_err(a, &err);
        task_yield_if_long();
    }
    return true;
}

/* One message; false: the command is over, or the client gone. */
MAY_WAIT static bool one_message(struct append *a)
{
    uint64_t limit = imap_append_limit(a->c->s);
    struct store_upload_message m;
    struct err err;
    bool is_plus;
    uint64_t n;

    if (!message_arguments(a, &m, &n, &is_plus)) {
        if (!a->is_refused)
            imap_bad(a->c, "Invalid arguments.");
        a->is_refused = true;
        return false;
    }
    if (limit > 0 && n > limit)
        refuse(a, "TOOBIG", "Message is larger than the limit.");
    else if (n == 0)
        refuse(a, NULL, "Can't save a zero byte message.");
    else if (!a->is_refused && store_upload_count(a->upload) >= MESSAGES_MAX)
        refuse(a, "LIMIT", "Too many messages in one command.");
    /* Who waits for our word gets no; who has sent already is read to the end.
     */
    if (a->is_refused && !is_plus)
        return false;
    if (!imap_literal_ask(a->c, is_plus))
        return false;
    if (!a->is_refused && store_upload_begin(a->upload, &m, &err) < 0)
        refuse_err(a, &err);
    return take_bytes(a, n) && imap_line_rest(a->c);
}

MAY_WAIT static void commit(struct append *a)
{
    struct imap_cmd *c = a->c;
    struct imap_set_out set = { 0 };
    size_t n = store_upload_count(a->upload);
    uint32_t *uids = arena_alloc(c->arena, (n + 1) * sizeof *uids);
    struct store_status st;
    struct err err;

    if (uids == NULL) {
        refuse(a, "LIMIT", "Too many messages in one command.");
        return;
    }
    if (store_upload_commit(&a->upload, uids, &err) < 0 ||
        imap_durable(c->s, a->to, &err) < 0 ||
        store_mailbox_reserve(a->to, IMAP_RESERVE, &err) < 0) {
        refuse_err(a, &err);
        return;
    }
    store_mailbox_status(a->to, &st);
    imap_answer_begin(c, IMAP_OK);
    (void)buf_printf(&c->text, "[APPENDUID %" PRIu32 " ", st.uidvalidity);
    for (size_t i = 0; i < n; i++)
        imap_set_add(&set, &c->text, uids[i]);
    imap_set_flush(&set, &c->text);
    (void)buf_puts(&c->text, "] Append completed.");
}

MAY_WAIT static void messages(struct append *a)
{
    do {
        if (!one_message(a))
            return;
    } while (!imap_end(&a->c->in));
    if (!a->is_refused)
        commit(a);
}

MAY_WAIT static void cmd_append(struct imap_cmd *c)
{
    struct append a = { .c = c };
    struct err err;
    slice name;

    if (!mailbox_argument(&a, &name))
        return;
    if (imap_open(c->s, name, &a.to, &err) < 0)
        refuse_err(&a, &err);
    else
        a.upload = store_upload_new(a.to);
    messages(&a);
    store_upload_free(&a.upload);
    store_mailbox_unref(&a.to);
}

const struct imap_command imap_append_commands[] = {
    { "APPEND", IMAP_ANY, IMAP_STREAM, cmd_append },
    { 0 },
};
