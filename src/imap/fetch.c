/* FETCH, RFC 3501 6.4.5: over the messages, and what the index knows of them.
 */
#include "imap/fetch.h"

#include "base/digest.h"
#include "mail/mime.h"

/* ---- items out of the index: no file is touched, nothing waits */

/* A cached string; made when the message has none yet. */
static bool cached(struct fetch *f, size_t row, enum store_cached what,
                   slice *out)
{
    struct store_view *v = &f->s->selected->view;
    struct store_row r;
    struct err err;

    if (store_cached_view(v->mailbox, row, what, out))
        return true;
    store_view_get(v, row, &r);
    if (store_view_is_gone(v, row) || r.cache_version == MAIL_MIME_VERSION)
        return false;
    return store_fill(v->mailbox, r.uid, &err) == 0 &&
           store_cached_view(v->mailbox, row, what, out);
}

/* The same out of the file: the strings of a few monsters are too long for the
 * index. */
MAY_WAIT static bool say_live(struct fetch *f, size_t row, const char *name,
                              bool (*put)(struct buf *b,
                                          const struct mail_part *root))
{
    struct fetch_message m;
    struct err err;
    bool ok = fetch_open(f, row, &m, &err) > 0 && fetch_tree(&m);

    if (ok) {
        imap_says(f->s, name);
        imap_says(f->s, " (");
        ok = put(imap_out(f->s), m.root);
        imap_says(f->s, ")");
    }
    fetch_close(&m);
    return ok;
}

static bool say_size(struct fetch *f, size_t row)
{
    struct store_view *v = &f->s->selected->view;
    uint64_t n = store_row_crlf_size(v->mailbox, row);
    struct err err;

    if (n == 0 && !store_view_is_gone(v, row) &&
        store_fill(v->mailbox, store_row_uid(v->mailbox, row), &err) == 0)
        n = store_row_crlf_size(v->mailbox, row);
    imap_says(f->s, "RFC822.SIZE ");
    imap_say_u64(f->s, n);
    return true;
}

static bool put_plain(struct buf *out, slice v)
{
    return buf_slice(out, v);
}

static const struct {
    enum fetch_item item;
    enum store_cached what;
    const char *name;
    bool (*put)(struct buf *out, slice cached);
    bool (*live)(struct buf *out, const struct mail_part *root);
} strings[] = {
    { FETCH_ENVELOPE, STORE_ENVELOPE, "ENVELOPE", put_plain,
      mail_imap_envelope },
    { FETCH_BODY, STORE_BODYSTRUCTURE, "BODY", imap_body_of_structure,
      mail_imap_body },
    { FETCH_STRUCTURE, STORE_BODYSTRUCTURE, "BODYSTRUCTURE", put_plain,
      mail_imap_bodystructure },
};

MAY_WAIT static bool say_string(struct fetch *f, size_t row, size_t i)
{
    struct buf *out = imap_out(f->s);
    size_t was = out->n;
    slice v;

    if (cached(f, row, strings[i].what, &v)) {
        imap_says(f->s, strings[i].name);
        imap_says(f->s, " (");
        if (strings[i].put(out, v)) {
            imap_says(f->s, ")");
            return true;
        }
        out->n = was;
    }
    return say_live(f, row, strings[i].name, strings[i].live);
}

static void say_id(struct fetch *f, const char *name, const uint8_t *id)
{
    static const uint8_t none[16];

    imap_says(f->s, name);
    if (memcmp(id, none, sizeof none) == 0) {
        imap_says(f->s, " NIL");
        return;
    }
    imap_says(f->s, " (");
    (void)hex_put(imap_out(f->s), slice_of(id, 16));
    imap_says(f->s, ")");
}

static void say_preview(struct fetch *f, size_t row)
{
    slice v;

    imap_says(f->s, "PREVIEW ");
    if (cached(f, row, STORE_PREVIEW, &v))
        imap_say_string(f->s, v);
    else
        imap_says(f->s, "NIL");
}

static void say_ids(struct fetch *f, size_t row, const char **space)
{
    struct store_row r;

    store_view_get(&f->s->selected->view, row, &r);
    if (f->items & FETCH_EMAILID) {
        imap_says(f->s, *space);
        say_id(f, "EMAILID", r.emailid);
        *space = " ";
    }
    if (f->items & FETCH_THREADID) {
        imap_says(f->s, *space);
        say_id(f, "THREADID", r.threadid);
        *space = " ";
    }
    if (f->items & FETCH_SAVEDATE) {
        imap_says(f->s, *space);
        imap_says(f->s, "SAVEDATE ");
        imap_say_date_time(f->s, r.savedate);
        *space = " ";
    }
}

MAY_WAIT static bool say_strings(struct fetch *f, size_t row,
                                 const char **space)
{
    for (size_t i = 0; i < ARRAY_LEN(strings); i++) {
        if (!(f->items & strings[i].item))
            continue;
        imap_says(f->s, *space);
        if (!say_string(f, row, i))
            return false;
        *space = " ";
    }
    if (f->items & FETCH_PREVIEW) {
        imap_says(f->s, *space);
        say_preview(f, row);
        *space = " ";
    }
    return true;
}

static void say_flags(struct fetch *f, const struct imap_walk *w)
{
    const struct imap_selected *sel = f->s->selected;
    const struct store_mailbox *m = sel->view.mailbox;

    imap_says(f->s, "FLAGS (");
    imap_say_flags(f->s, m, store_row_flags(m, w->row),
                   store_row_keywords(m, w->row), w->uid >= sel->recent_from);
    imap_says(f->s, ")");
}

/* False: something is damaged or gone, and what was begun is to be cut. */
MAY_WAIT static bool say_items(struct fetch *f, const struct imap_walk *w,
                               bool more_flags)
{
    struct imap_session *s = f->s;
    const struct store_mailbox *m = s->selected->view.mailbox;
    const char *space = "";

    if (f->items & FETCH_UID) {
        imap_says(s, "UID ");
        imap_say_u64(s, w->uid);
        space = " ";
    }
    if ((f->items & FETCH_FLAGS) || more_flags) {
        imap_says(s, space);
        say_flags(f, w);
        space = " ";
    }
    if ((f->items & FETCH_MODSEQ) || (more_flags && s->condstore)) {
        imap_says(s, space);
        imap_says(s, "MODSEQ (");
        imap_say_u64(s, store_row_modseq(m, w->row));
        imap_says(s, ")");
        space = " ";
    }
    if (f->items & FETCH_DATE) {
        imap_says(s, space);
        imap_says(s, "INTERNALDATE ");
        imap_say_date_time(s, store_row_internaldate(m, w->row));
        space = " ";
    }
    if (f->items & FETCH_SIZE) {
        imap_says(s, space);
        (void)say_size(f, w->row);
        space = " ";
    }
    if (f->items & (FETCH_EMAILID | FETCH_THREADID | FETCH_SAVEDATE))
        say_ids(f, w->row, &space);
    return say_strings(f, w->row, &space);
}

/* ---- messages */

static void say_head(struct fetch *f, const struct imap_walk *w)
{
    imap_says(f->s, "* ");
    imap_say_u64(f->s, w->seq);
    imap_says(f->s, " FETCH (");
}

/* Sections, too.  -1: err; 0: done or the session is over. */
MAY_WAIT static int one_with_file(struct fetch *f, const struct imap_walk *w,
                                  bool more_flags, struct err *err)
{
    struct buf *out = imap_out(f->s);
    struct fetch_message m;
    size_t was = out->n;
    size_t inner;
    int there = fetch_open(f, w->row, &m, err);

    if (there <= 0) {
        f->some_gone = f->some_gone || there == 0;
        return there;
    }
    say_head(f, w);
    inner = out->n;
    if (!say_items(f, w, more_flags)) {
        out->n = was;
        f->some_gone = true;
        fetch_close(&m);
        return 0;
    }
    imap_work(f->s)->in_item = true;
    for (const struct fetch_section *sec = f->sections; sec != NULL;
         sec = sec->next) {
        if (out->n > inner || sec != f->sections)
            imap_says(f->s, " ");
        if (!fetch_send(&m, sec))
            break;
    }
    imap_says(f->s, ")\r\n");
    imap_work(f->s)->in_item = false;
    fetch_close(&m);
    return 0;
}

MAY_WAIT static void one_from_index(struct fetch *f, const struct imap_walk *w)
{
    struct buf *out = imap_out(f->s);
    size_t was = out->n;

    say_head(f, w);
    if (say_items(f, w, false)) {
        buf_put(out, ")\r\n", 3);
        return;
    }
    out->n = was;
    f->some_gone = true;
}

static bool is_wanted(const struct fetch *f, size_t row)
{
    const struct store_mailbox *m = f->s->selected->view.mailbox;

    return !f->has_since || store_row_modseq(m, row) > f->since;
}

/* Mark the next messages \Seen, as far as they are not: each then has its flags
 * told with it.  Bit i of the result: the i-th of them was changed. */
MAY_WAIT static uint32_t mark_seen(struct fetch *f, struct imap_walk ahead,
                                   struct err *err)
{
    const struct store_mailbox *m = f->s->selected->view.mailbox;
    struct store_change v[FETCH_SEEN_CHUNK];
    uint32_t changed = 0;
    unsigned n = 0;

    for (unsigned i = 0; i < FETCH_SEEN_CHUNK && imap_walk_next(&ahead);) {
        uint32_t flags = store_row_flags(m, ahead.row);

        if (!is_wanted(f, ahead.row))
            continue;
        if (!(flags & STORE_SEEN) &&
            !store_view_is_gone(ahead.view, ahead.row)) {
            v[n++] = (struct store_change){
                .uid = ahead.uid,
                .flags = flags | STORE_SEEN,
                .keywords = store_row_keywords(m, ahead.row),
            };
            changed |= UINT32_C(1) << i;
        }
        i++;
    }
    /* Reading goes on where this cannot be written (a full disk). */
    if (n > 0 && imap_change_flags(f->s, v, n, err) < 0)
        return 0;
    return changed;
}

MAY_WAIT static int walk(struct fetch *f, struct imap_set *set, struct err *err)
{
    struct imap_session *s = f->s;
    struct imap_walk w;
    uint32_t seen = 0;
    unsigned i = 0;

    imap_walk_init(&w, s, set, f->c->is_uid);
    for (;;) {
        struct imap_walk was = w;

        if (!imap_walk_next(&w))
            return 0;
        if (!is_wanted(f, w.row))
            continue;
        if (f->sets_seen && i % FETCH_SEEN_CHUNK == 0)
            seen = mark_seen(f, was, err);
        s->n_fetched++;
        if (f->sections == NULL)
            one_from_index(f, &w);
        else if (one_with_file(f, &w, seen >> i % FETCH_SEEN_CHUNK & 1, err) <
                 0)
            return -1;
        i++;
        if (!imap_room(s))
            return 0;
    }
}

MAY_WAIT static void cmd_fetch(struct imap_cmd *c)
{
    struct fetch f = { .c = c, .s = c->s };
    struct imap_set set;
    struct err err;
    int rc;

    if (!imap_cmd_set(c, &set))
        return;
    if (!imap_sp(&c->in)) {
        imap_bad(c, "Missing parameters.");
        return;
    }
    if (!fetch_parse(&f))
        return;
    if (c->s->selected->is_read_only)
        f.sets_seen = false;
    if (f.items & FETCH_FLAGS)
        imap_tell_keywords(c->s);
    rc = walk(&f, &set, &err);
    free(f.piece);
    if (rc < 0)
        imap_fail(c, &err);
    else if (f.some_gone && !c->is_uid) /* unknown UIDs are no error */
        imap_no(c, "EXPUNGEISSUED",
                "Some messages were already expunged or cannot be read.");
    else
        imap_ok(c, NULL, "Fetch completed.");
}

const struct imap_command imap_fetch_commands[] = {
    { "FETCH", IMAP_SELECTED,
      IMAP_UID | IMAP_BY_SEQ | IMAP_BESIDE | IMAP_FETCHES, cmd_fetch },
    { 0 },
};
