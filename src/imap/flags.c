/* STORE, RFC 3501 6.4.6, with UNCHANGEDSINCE, RFC 7162 3.1.3. */
#include "imap/imap_priv.h"

static void nothing_gone(void *arg UNUSED, uint32_t seq UNUSED,
                         uint32_t uid UNUSED)
{
}

static void nothing_new(void *arg UNUSED, uint32_t n UNUSED,
                        size_t first UNUSED)
{
}

static void nothing_changed(void *arg UNUSED, size_t row UNUSED,
                            uint32_t seq UNUSED)
{
}

int imap_change_flags(struct imap_session *s, const struct store_change *v,
                      size_t n, struct err *err)
{
    static const struct store_view_ops silent = { nothing_gone, nothing_new,
                                                  nothing_changed };
    struct imap_selected *sel = s->selected;

    imap_sync_flags(s);
    if (store_set_flags(sel->view.mailbox, v, n, NULL, err) < 0)
        return -1;
    store_view_sync(&sel->view, STORE_VIEW_FLAGS, &silent, s);
    return 0;
}

enum how { REPLACE, ADD, REMOVE };

struct store_cmd {
    struct imap_cmd *c;
    enum how how;
    bool is_silent;
    bool has_since;
    uint64_t since; /* UNCHANGEDSINCE */
    uint32_t flags;
    uint64_t keywords;
    struct buf changes; /* of struct store_change */
    struct buf modified;
    bool some_gone;
};

/* "FLAGS", "+FLAGS.SILENT" ... */
static bool what(struct store_cmd *st)
{
    struct imap_cursor *in = &st->c->in;

    if (imap_eat(in, '+'))
        st->how = ADD;
    else if (imap_eat(in, '-'))
        st->how = REMOVE;
    if (!imap_eat_word(in, "FLAGS"))
        return false;
    st->is_silent = imap_eat_word(in, ".SILENT");
    return imap_sp(in);
}

/* "(UNCHANGEDSINCE 5) " */
static bool modifiers(struct store_cmd *st)
{
    struct imap_cursor *in = &st->c->in;
    slice name;

    if (!imap_eat(in, '('))
        return true;
    do {
        if (!imap_atom(in, &name) || !slice_ieqs(name, "UNCHANGEDSINCE") ||
            !imap_sp(in) || !imap_number(in, &st->since))
            return false;
        st->has_since = true;
    } while (imap_sp(in));
    return imap_eat(in, ')') && imap_sp(in);
}

static struct store_change changed(const struct store_cmd *st,
                                   const struct store_mailbox *m, size_t row,
                                   uint32_t uid)
{
    struct store_change ch = { uid, store_row_flags(m, row),
                               store_row_keywords(m, row) };

    switch (st->how) {
    case REPLACE:
        ch.flags = st->flags;
        ch.keywords = st->keywords;
        break;
    case ADD:
        ch.flags |= st->flags;
        ch.keywords |= st->keywords;
        break;
    case REMOVE:
        ch.flags &= ~st->flags;
        ch.keywords &= ~st->keywords;
        break;
    }
    return ch;
}

/* What is to change; nothing here waits, so all is of one moment. */
static void collect(struct store_cmd *st, struct imap_set *set)
{
    struct imap_session *s = st->c->s;
    const struct store_mailbox *m = s->selected->view.mailbox;
    struct imap_set_out failed = { 0 };
    struct imap_walk w;

    imap_walk_init(&w, s, set, st->c->is_uid);
    while (imap_walk_next(&w)) {
        struct store_change ch = changed(st, m, w.row, w.uid);

        if (store_view_is_gone(w.view, w.row)) {
            st->some_gone = true;
            continue;
        }
        if (st->has_since && store_row_modseq(m, w.row) > st->since) {
            imap_set_add(&failed, &st->modified, st->c->is_uid ? w.uid : w.seq);
            continue;
        }
        buf_put(&st->changes, &ch, sizeof ch);
    }
    imap_set_flush(&failed, &st->modified);
}

/* Flags of all that were named: those that did not change as well. */
MAY_WAIT static void tell(struct store_cmd *st)
{
    struct imap_session *s = st->c->s;
    struct store_view *v = &s->selected->view;
    const struct store_change *ch = (const void *)st->changes.p;
    size_t n = st->changes.n / sizeof *ch;

    for (size_t i = 0; i < n; i++) {
        size_t row = store_view_by_uid(v, ch[i].uid);

        if (row >= v->rows || store_view_is_gone(v, row))
            continue;
        if (!st->is_silent)
            imap_tell_flags(s, row, store_view_seq(v, row), st->c->is_uid);
        else if (st->has_since || s->condstore)
            imap_tell_modseq(s, row, store_view_seq(v, row), st->c->is_uid);
        if (!imap_room(s))
            return;
    }
}

static void answer(struct store_cmd *st)
{
    struct imap_cmd *c = st->c;

    if (st->some_gone && !c->is_uid) {
        imap_no(c, "EXPUNGEISSUED",
                "Some messages have been expunged already.");
        return;
    }
    imap_answer_begin(c, IMAP_OK);
    if (st->modified.n > 0)
        buf_printf(&c->text, "[MODIFIED %.*s] Conditional store failed.",
                   SLF(buf_view(&st->modified)));
    else
        buf_puts(&c->text, "Store completed.");
}

MAY_WAIT static void change(struct store_cmd *st, struct imap_set *set)
{
    struct imap_cmd *c = st->c;
    struct store_mailbox *m = c->s->selected->view.mailbox;
    const struct store_change *ch;
    struct err err;
    size_t n;

    if (st->has_since)
        imap_use_condstore(c->s);
    /* What others changed is told first, and is what +FLAGS adds to. */
    imap_sync_flags(c->s);
    collect(st, set);
    ch = (const void *)st->changes.p;
    n = st->changes.n / sizeof *ch;
    if (st->changes.overflow || st->modified.overflow) {
        imap_no(c, "LIMIT", "Too many messages at once.");
        return;
    }
    if (n > 0 && imap_change_flags(c->s, ch, n, &err) < 0) {
        imap_fail(c, &err);
        return;
    }
    imap_tell_keywords(c->s);
    /* First durable, then told: a MODSEQ is never taken back. */
    if (n > 0 && imap_durable(c->s, m, &err) < 0) {
        imap_fail(c, &err);
        return;
    }
    tell(st);
    answer(st);
}

MAY_WAIT static void cmd_store(struct imap_cmd *c)
{
    struct store_cmd st = { .c = c, .how = REPLACE };
    struct imap_set set;
    struct err err;

    if (!imap_cmd_set(c, &set))
        return;
    if (!imap_sp(&c->in) || !modifiers(&st) || !what(&st)) {
        imap_bad(c, "Missing arguments.");
        return;
    }
    if (c->s->selected->is_read_only) {
        imap_no(c, "READ-ONLY", "Mailbox is read-only.");
        return;
    }
    if (imap_flag_list(&c->in, true, c->s->selected->view.mailbox, &st.flags,
                       &st.keywords, &err) < 0) {
        if (err.class == ERR_NONE)
            imap_bad(c, "Invalid arguments.");
        else
            imap_fail(c, &err);
        return;
    }
    if (!imap_end(&c->in)) {
        imap_bad(c, "Invalid arguments.");
        return;
    }
    buf_init(&st.changes, (size_t)1 << 28);
    buf_init(&st.modified, (size_t)1 << 24);
    change(&st, &set);
    buf_done(&st.changes);
    buf_done(&st.modified);
}

const struct imap_command imap_store_commands[] = {
    { "STORE", IMAP_SELECTED,
      IMAP_UID | IMAP_BY_SEQ | IMAP_BESIDE | IMAP_READS_FLAGS | IMAP_SETS_FLAGS,
      cmd_store },
    { 0 },
};
