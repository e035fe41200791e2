/* COPY, MOVE and their UID forms: RFC 3501 6.4.7, RFC 4315 (COPYUID), RFC 6851.
 */
#include "imap/imap_priv.h"

enum { COPY_MANY = 100 }; /* then other commands may run beside it */

/* UIDs of the set's messages, ascending; some may be gone by now: *any_gone. */
static size_t choose(struct imap_cmd *c, struct imap_set *set, uint32_t *uids,
                     bool *any_gone)
{
    struct imap_walk w;
    size_t n = 0;

    imap_walk_init(&w, c->s, set, c->is_uid);
    while (imap_walk_next(&w))
        if (store_view_is_gone(w.view, w.row))
            *any_gone = *any_gone || !c->is_uid;
        else
            uids[n++] = w.uid;
    return n;
}

static void copy_uid(struct buf *b, const struct store_mailbox *to,
                     const struct store_copied *pairs, size_t n)
{
    struct imap_set_out set = { 0 };
    struct store_status st;

    store_mailbox_status(to, &st);
    (void)buf_printf(b, "[COPYUID %" PRIu32 " ", st.uidvalidity);
    for (size_t i = 0; i < n; i++)
        imap_set_add(&set, b, pairs[i].from);
    imap_set_flush(&set, b);
    (void)buf_byte(b, ' ');
    set = (struct imap_set_out){ 0 };
    for (size_t i = 0; i < n; i++)
        imap_set_add(&set, b, pairs[i].to);
    imap_set_flush(&set, b);
    (void)buf_puts(b, "] ");
}

/* The originals go once their copies are durable: a crash between the two
 * loses nothing, and store ends what it has interrupted. */
MAY_WAIT static int remove_originals(struct imap_cmd *c, struct store_copy *job,
                                     struct err *err)
{
    if (store_move_end(job, true, err) < 0)
        return -1;
    c->s->n_expunged += job->n_out;
    return imap_durable(c->s, job->from, err);
}

MAY_WAIT static void done(struct imap_cmd *c, struct store_copy *job)
{
    struct imap_session *s = c->s;
    struct buf b CLEANUP(buf_done) = { 0 };
    struct err err;

    buf_init(&b, 1u << 20);
    copy_uid(&b, job->to, job->out, job->n_out);
    if (!(job->flags & STORE_MOVE)) {
        imap_answer_begin(c, IMAP_OK);
        c->text.max = b.n + 100;
        (void)buf_slice(&c->text, buf_view(&b));
        (void)buf_puts(&c->text, "Copy completed.");
        return;
    }
    /* RFC 6851 4.3: before the first EXPUNGE. */
    imap_says(s, "* OK ");
    imap_say(s, buf_view(&b));
    imap_says(s, "Moved UIDs.\r\n");
    if (remove_originals(c, job, &err) < 0)
        imap_fail(c, &err);
    else
        imap_ok(c, NULL, "Move completed.");
}

/* Durable copies, that may be told; of a move the end is to come, if there is
 * anything to move. */
MAY_WAIT static int make_copies(struct imap_session *s, struct store_copy *job,
                                struct err *err)
{
    bool is_move = (job->flags & STORE_MOVE) != 0;
    struct err ignored;
    int rc = 0;

    if (store_copy(job, err) < 0)
        return -1;
    if (job->n_out > 0 &&
        (imap_durable(s, job->to, err) < 0 ||
         store_mailbox_reserve(job->to, IMAP_RESERVE, err) < 0))
        rc = -1;
    if (is_move && (rc < 0 || job->n_out == 0))
        (void)store_move_end(job, false, &ignored);
    return rc;
}

MAY_WAIT static void copy(struct imap_cmd *c, bool is_move)
{
    struct imap_session *s = c->s;
    struct store_mailbox *from = s->selected->view.mailbox;
    struct store_mailbox *to;
    struct store_copied *pairs;
    struct imap_set set;
    bool any_gone = false;
    uint32_t *uids;
    struct store_copy job;
    size_t n;
    struct err err;
    slice name;
    size_t room = store_view_messages(&s->selected->view) + (size_t)1;

    if (!imap_cmd_set(c, &set))
        return;
    if (!imap_sp(&c->in) || !imap_mailbox(&c->in, &name) || !imap_end(&c->in))
        return;
    if (is_move && s->selected->is_read_only) {
        imap_no(c, "READ-ONLY", "Mailbox is read-only.");
        return;
    }
    if (imap_open(s, name, &to, &err) < 0) {
        if (err.class == ERR_PERM && err.sys == ENOENT)
            imap_no(c, "TRYCREATE", "Mailbox doesn't exist.");
        else
            imap_fail(c, &err);
        return;
    }
    uids = arena_alloc(c->arena, room * sizeof *uids);
    n = uids == NULL ? 0 : choose(c, &set, uids, &any_gone);
    if (n > COPY_MANY)
        imap_side_by_side(s);
    pairs = arena_alloc(c->arena, (n + 1) * sizeof *pairs);
    job = (struct store_copy){ .from = from,
                               .to = to,
                               .uids = uids,
                               .n = n,
                               .flags = is_move ? STORE_MOVE : 0,
                               .out = pairs };
    if (uids == NULL || pairs == NULL) {
        imap_no(c, "LIMIT", "Too many messages at once.");
    } else if (any_gone) {
        imap_no(c, "EXPUNGEISSUED",
                "Some of the requested messages no longer exist.");
    } else if (n > 0 && make_copies(s, &job, &err) < 0) {
        imap_fail(c, &err);
    } else if (job.n_out == 0) {
        imap_ok(c, NULL, "No messages found.");
    } else {
        done(c, &job);
    }
    store_mailbox_unref(&to);
}

MAY_WAIT static void cmd_copy(struct imap_cmd *c)
{
    copy(c, false);
}

MAY_WAIT static void cmd_move(struct imap_cmd *c)
{
    copy(c, true);
}

const struct imap_command imap_copy_commands[] = {
    { "COPY", IMAP_SELECTED,
      IMAP_UID | IMAP_BY_SEQ | IMAP_BESIDE | IMAP_READS_FLAGS | IMAP_SETS_BOXES,
      cmd_copy },
    { "MOVE", IMAP_SELECTED, IMAP_UID, cmd_move },
    { 0 },
};
