/* The commands of the transaction state (RFC 1939 5, RFC 2449). */
#include "pop3/pop3_priv.h"

/* -------------------------------------------------------------- the mailbox */

/* RFC822.SIZE of a row; of one that somebody else put there it is found by
 * reading the message once. */
static uint64_t size_of(struct pop3_session *s, size_t row, uint32_t uid)
{
    uint64_t size = store_row_crlf_size(s->mailbox, row);
    struct err err;

    if (size == 0 && store_fill(s->mailbox, uid, &err) == 0) {
        row = store_row_at(s->mailbox, uid);
        if (row < store_rows(s->mailbox))
            size = store_row_crlf_size(s->mailbox, row);
    }
    return size;
}

MAY_WAIT static int take_messages(struct pop3_session *s, struct err *err)
{
    size_t rows = store_rows(s->mailbox);
    struct store_status st;

    store_mailbox_status(s->mailbox, &st);
    if (st.messages > POP3_MESSAGES_MAX)
        return err_temp(err, "more than %d messages", POP3_MESSAGES_MAX);
    s->messages = xcalloc((size_t)st.messages + 1, sizeof *s->messages);
    for (size_t row = 0; row < rows && s->n_messages < st.messages; row++) {
        uint32_t uid = store_row_uid(s->mailbox, row);

        if (uid == 0)
            continue;
        s->messages[s->n_messages++] = (struct pop3_message){
            .uid = uid,
            .size = size_of(s, row, uid),
        };
        task_yield_if_long();
    }
    return 0;
}

int pop3_open(struct pop3_session *s, slice user, slice mail, struct err *err)
{
    if (store_account_open(s->server->parts.store, user, mail, true,
                           &s->account, err) < 0 ||
        store_mailbox_open(s->account, SL("INBOX"), STORE_CREATE, &s->mailbox,
                           err) < 0 ||
        store_mailbox_sync(s->mailbox, false, err) < 0 ||
        store_mailbox_reserve(s->mailbox, 1000, err) < 0)
        return -1;
    return take_messages(s, err);
}

size_t pop3_count(const struct pop3_session *s, uint64_t *bytes)
{
    size_t n = 0;

    *bytes = 0;
    for (size_t i = 0; i < s->n_messages; i++)
        if (!s->messages[i].is_deleted) {
            n++;
            *bytes += s->messages[i].size;
        }
    return n;
}

static int tell_seen(struct pop3_session *s, struct err *err)
{
    struct store_change *v;
    size_t n = 0;
    int r = 0;

    if (conf_bool(s->server->parts.conf, NULL, "pop3_no_flag_updates"))
        return 0;
    v = xcalloc(s->n_messages + 1, sizeof *v);
    for (size_t i = 0; i < s->n_messages; i++) {
        const struct pop3_message *m = &s->messages[i];
        size_t row = store_row_at(s->mailbox, m->uid);
        uint32_t flags;

        if (!m->is_seen || m->is_deleted || row >= store_rows(s->mailbox) ||
            store_row_uid(s->mailbox, row) != m->uid)
            continue;
        flags = store_row_flags(s->mailbox, row);
        if (!(flags & STORE_SEEN))
            v[n++] = (struct store_change){
                .uid = m->uid,
                .flags = flags | STORE_SEEN,
                .keywords = store_row_keywords(s->mailbox, row),
            };
    }
    if (n > 0)
        r = store_set_flags(s->mailbox, v, n, NULL, err);
    free(v);
    return r;
}

MAY_WAIT static int make_durable(struct pop3_session *s, struct err *err)
{
    const struct pop3_parts *parts = &s->server->parts;
    struct store_fs v[2];
    size_t n;

    if (parts->sync == NULL)
        return store_mailbox_durable(s->mailbox, err);
    n = store_account_places(s->account, v);
    for (size_t i = 0; i < n; i++)
        if (parts->sync(parts->arg, v[i].fs, v[i].dirfd, err) < 0)
            return -1;
    return 0;
}

int pop3_update(struct pop3_session *s, struct err *err)
{
    uint32_t *uids;
    size_t n = 0;
    int r;

    if (tell_seen(s, err) < 0)
        return -1;
    uids = xcalloc(s->n_messages + 1, sizeof *uids);
    for (size_t i = 0; i < s->n_messages; i++)
        if (s->messages[i].is_deleted)
            uids[n++] = s->messages[i].uid;
    r = n > 0 ? store_expunge(s->mailbox, uids, n, NULL, err) : 0;
    if (r == 0 && n > 0) {
        size_t before = SIZE_MAX;
        size_t left;

        /* What cannot be unlinked stays for later. */
        r = make_durable(s, err);
        while (r == 0 && (left = store_mailbox_tidy(s->mailbox, 256)) > 0 &&
               left < before) {
            before = left;
            task_yield_if_long();
        }
    }
    if (r == 0)
        s->n.deleted = n;
    free(uids);
    return r;
}

/* ----------------------------------------------------------------- answers */

MAY_WAIT static int say(struct pop3_session *s, const char *line)
{
    struct err err;

    return stream_puts(s->stream, line, &err);
}

/* What went wrong with one message or with the whole. */
MAY_WAIT static int say_err(struct pop3_session *s, const struct err *why)
{
    struct err err;

    if (why->class == ERR_PEER)
        return -1;
    if (why->class == ERR_PERM)
        return stream_printf(s->stream, &err, "-ERR %s\r\n", why->peer);
    event_text(EV_ERROR, "pop3", NULL, "pop3(%s)<%d><%s>: %s", s->user,
               (int)getpid(), s->session_id, why->log);
    return say(s, "-ERR [SYS/TEMP] Internal error occurred. Refer to server "
                  "log for more information.\r\n");
}

/* The message of a number; NULL after an answer, *r its result. */
MAY_WAIT static struct pop3_message *message_of(struct pop3_session *s,
                                                slice word, int *r)
{
    uint64_t n;
    struct err err;

    if (!slice_u64(word, &n)) {
        *r = stream_printf(s->stream, &err,
                           "-ERR Invalid message number: %.*s\r\n",
                           SLF(slice_sub(word, 0, 40)));
        return NULL;
    }
    if (n == 0 || n > s->n_messages) {
        *r = stream_printf(s->stream, &err,
                           "-ERR There's no message %" PRIu64 ".\r\n", n);
        return NULL;
    }
    if (s->messages[n - 1].is_deleted) {
        *r = say(s, "-ERR Message is deleted.\r\n");
        return NULL;
    }
    return &s->messages[n - 1];
}

/* ---------------------------------------------------------------- commands */

MAY_WAIT static int cmd_capa(struct pop3_session *s, UNUSED slice args)
{
    return say(s, "+OK\r\nCAPA\r\nTOP\r\nUIDL\r\nRESP-CODES\r\nPIPELINING\r\n"
                  "AUTH-RESP-CODE\r\n.\r\n");
}

MAY_WAIT static int cmd_dele(struct pop3_session *s, slice args)
{
    int r;
    struct pop3_message *m = message_of(s, args, &r);

    if (m == NULL)
        return r;
    m->is_deleted = true;
    return say(s, "+OK Marked to be deleted.\r\n");
}

MAY_WAIT static int cmd_list(struct pop3_session *s, slice args)
{
    struct err err;
    uint64_t bytes;
    size_t n = pop3_count(s, &bytes);
    int r = 0;

    if (args.n > 0) {
        const struct pop3_message *m = message_of(s, args, &r);

        if (m == NULL)
            return r;
        return stream_printf(s->stream, &err, "+OK %zu %" PRIu64 "\r\n",
                             (size_t)(m - s->messages) + 1, m->size);
    }
    r = stream_printf(s->stream, &err, "+OK %zu messages:\r\n", n);
    for (size_t i = 0; r == 0 && i < s->n_messages; i++) {
        const struct pop3_message *m = &s->messages[i];

        if (!m->is_deleted)
            r = stream_printf(s->stream, &err, "%zu %" PRIu64 "\r\n", i + 1,
                              m->size);
        task_yield_if_long();
    }
    return r < 0 ? -1 : say(s, ".\r\n");
}

MAY_WAIT static int cmd_noop(struct pop3_session *s, UNUSED slice args)
{
    return say(s, "+OK\r\n");
}

MAY_WAIT static int cmd_quit(struct pop3_session *s, UNUSED slice args)
{
    struct err err;
    size_t n = 0;

    s->is_closing = true;
    for (size_t i = 0; i < s->n_messages; i++)
        n += s->messages[i].is_deleted;
    if (pop3_update(s, &err) < 0) {
        if (err.class == ERR_PEER)
            return -1;
        event_text(EV_ERROR, "pop3", NULL, "pop3(%s)<%d><%s>: %s", s->user,
                   (int)getpid(), s->session_id, err.log);
        return say(s, n > 0 ? "-ERR [SYS/TEMP] Logging out, messages not "
                              "deleted.\r\n"
                            : "+OK Logging out.\r\n");
    }
    return say(s, n > 0 ? "+OK Logging out, messages deleted.\r\n"
                        : "+OK Logging out.\r\n");
}

MAY_WAIT static int cmd_retr(struct pop3_session *s, slice args)
{
    struct err err;
    int r;
    struct pop3_message *m = message_of(s, args, &r);

    if (m == NULL)
        return r;
    return pop3_send(s, m, POP3_WHOLE, &err) < 0 ? say_err(s, &err) : 0;
}

MAY_WAIT static int cmd_rset(struct pop3_session *s, UNUSED slice args)
{
    for (size_t i = 0; i < s->n_messages; i++) {
        s->messages[i].is_deleted = false;
        s->messages[i].is_seen = false;
    }
    return say(s, "+OK\r\n");
}

MAY_WAIT static int cmd_stat(struct pop3_session *s, UNUSED slice args)
{
    struct err err;
    uint64_t bytes;
    size_t n = pop3_count(s, &bytes);

    return stream_printf(s->stream, &err, "+OK %zu %" PRIu64 "\r\n", n, bytes);
}

MAY_WAIT static int cmd_top(struct pop3_session *s, slice args)
{
    struct pop3_message *m;
    struct err err;
    uint64_t lines;
    slice word = SLICE_NONE;
    int r;

    (void)slice_token(&args, " ", &word);
    m = message_of(s, word, &r);
    if (m == NULL)
        return r;
    if (!slice_u64(slice_trim(args), &lines) || lines > INT64_MAX)
        return say(s, "-ERR Invalid number of lines.\r\n");
    return pop3_send(s, m, (int64_t)lines, &err) < 0 ? say_err(s, &err) : 0;
}

MAY_WAIT static int uidl_line(struct pop3_session *s, struct buf *b, size_t i,
                              const char *front)
{
    struct err err;

    buf_clear(b);
    (void)buf_printf(b, "%s%zu ", front, i + 1);
    if (pop3_uidl(s, &s->messages[i], b, &err) < 0) {
        /* Somebody else removed it: its number stays, its id does not. */
        buf_clear(b);
        (void)buf_printf(b, "%s%zu gone-%" PRIu32, front, i + 1,
                         s->messages[i].uid);
    }
    (void)buf_puts(b, "\r\n");
    return stream_write(s->stream, buf_view(b), &err);
}

MAY_WAIT static int cmd_uidl(struct pop3_session *s, slice args)
{
    struct buf b;
    int r = 0;

    buf_init(&b, 512);
    if (args.n > 0) {
        const struct pop3_message *m = message_of(s, args, &r);

        if (m != NULL)
            r = uidl_line(s, &b, (size_t)(m - s->messages), "+OK ");
        buf_done(&b);
        return r;
    }
    r = say(s, "+OK\r\n");
    for (size_t i = 0; r == 0 && i < s->n_messages; i++) {
        if (!s->messages[i].is_deleted)
            r = uidl_line(s, &b, i, "");
        task_yield_if_long();
    }
    buf_done(&b);
    return r < 0 ? -1 : say(s, ".\r\n");
}

static const struct {
    const char *name;
    MAY_WAIT int (*fn)(struct pop3_session *s, slice args);
} commands[] = {
    { "CAPA", cmd_capa }, { "DELE", cmd_dele }, { "LIST", cmd_list },
    { "NOOP", cmd_noop }, { "QUIT", cmd_quit }, { "RETR", cmd_retr },
    { "RSET", cmd_rset }, { "STAT", cmd_stat }, { "TOP", cmd_top },
    { "UIDL", cmd_uidl },
};

int pop3_command(struct pop3_session *s, slice line)
{
    slice args = slice_rtrim(line);
    struct err err;
    slice verb;

    if (!slice_cut(&args, ' ', &verb))
        args = SLICE_NONE;
    for (size_t i = 0; i < ARRAY_LEN(commands); i++)
        if (slice_ieqs(verb, commands[i].name))
            return commands[i].fn(s, slice_trim(args));
    for (size_t i = 0; i < verb.n; i++)
        if ((unsigned char)verb.p[i] < ' ' || (unsigned char)verb.p[i] > '~')
            return say(s, "-ERR Unknown command.\r\n");
    return stream_printf(s->stream, &err, "-ERR Unknown command: %.*s\r\n",
                         SLF(slice_sub(verb, 0, 40)));
}
