/* LIST and LSUB: RFC 3501 6.3.8 and 6.3.9, RFC 5258 (LIST-EXTENDED), RFC 5819
 * (LIST-STATUS), RFC 6154 (SPECIAL-USE). */
#include "imap/mailboxes.h"

#define PATTERNS_MAX 50
#define PATTERN_MAX  1000
#define FOLDERS_MAX  100000
#define NAME_MAX_8   300 /* a folder is one directory name */

enum {
    SEL_SUBSCRIBED = 1,
    SEL_SPECIAL = 2,
    SEL_RECURSIVE = 4,
    RET_SUBSCRIBED = 8,
    RET_STATUS = 16,
    IS_LSUB = 32,
    IS_EXTENDED = 64, /* some option was given: \NonExistent may be told */
};

struct entry {
    struct store_folder f; /* its name lies in the arena */
    bool subscribed_below;
};

struct listing {
    struct imap_cmd *c;
    unsigned opts;
    unsigned status_items;
    slice patterns[PATTERNS_MAX];
    size_t n_patterns;
    struct entry *v;
    size_t n, room;
    bool overflow;
};

/* ----------------------------------------------------------------- matching */

/* One step of a pattern's character over all places of the name. */
static void step(char p, slice name, bool ignore_case, const uint8_t *from,
                 uint8_t *to)
{
    if (p == '*' || p == '%') {
        to[0] = from[0];
        for (size_t i = 0; i < name.n; i++)
            to[i + 1] =
                from[i + 1] || (to[i] && (p == '*' || name.p[i] != '.'));
        return;
    }
    to[0] = 0;
    for (size_t i = 0; i < name.n; i++) {
        char ch = name.p[i];
        bool same = ch == p ||
                    (ignore_case && i < 5 && ascii_upper(ch) == ascii_upper(p));

        to[i + 1] = from[i] && same;
    }
}

/* Bounded by the product of the lengths, whatever the pattern. */
static bool matches(slice pattern, slice name)
{
    uint8_t rows[2][NAME_MAX_8 + 1];
    bool is_inbox =
        slice_eqs(name, "INBOX") || slice_starts(name, SL("INBOX."));
    unsigned at = 0;

    if (name.n > NAME_MAX_8)
        return false;
    memset(rows[0], 0, name.n + 1);
    rows[0][0] = 1;
    for (size_t i = 0; i < pattern.n; i++, at ^= 1u)
        step(pattern.p[i], name, is_inbox, rows[at], rows[at ^ 1u]);
    return rows[at][name.n] != 0;
}

static bool matches_any(const struct listing *l, slice name)
{
    for (size_t i = 0; i < l->n_patterns; i++)
        if (matches(l->patterns[i], name))
            return true;
    return false;
}

/* ------------------------------------------------------------------ parsing */

/* The pattern as the client meant it: behind its reference. */
static bool add_pattern(struct listing *l, slice reference, slice pattern)
{
    char *text;

    if (l->n_patterns == PATTERNS_MAX || reference.n + pattern.n > PATTERN_MAX)
        return false;
    text = arena_printf(l->c->arena, "%.*s%.*s", SLF(reference), SLF(pattern));
    if (text == NULL)
        return false;
    l->patterns[l->n_patterns++] = slice_str(text);
    return true;
}

static bool patterns(struct listing *l, slice reference, bool *is_empty)
{
    struct imap_cursor *in = &l->c->in;
    slice pattern;

    *is_empty = false;
    if (!imap_eat(in, '(')) {
        if (!imap_list_mailbox(in, &pattern))
            return false;
        *is_empty = pattern.n == 0;
        return add_pattern(l, reference, pattern);
    }
    l->opts |= IS_EXTENDED;
    do {
        if (!imap_list_mailbox(in, &pattern) ||
            !add_pattern(l, reference, pattern))
            return false;
    } while (imap_sp(in));
    return imap_eat(in, ')');
}

static bool select_options(struct listing *l)
{
    struct imap_cursor *in = &l->c->in;
    slice word;

    l->opts |= IS_EXTENDED;
    if (imap_eat(in, ')'))
        return true;
    do {
        if (!imap_atom(in, &word))
            return false;
        if (slice_ieqs(word, "SUBSCRIBED"))
            l->opts |= SEL_SUBSCRIBED;
        else if (slice_ieqs(word, "SPECIAL-USE"))
            l->opts |= SEL_SPECIAL;
        else if (slice_ieqs(word, "RECURSIVEMATCH"))
            l->opts |= SEL_RECURSIVE;
        else if (!slice_ieqs(word, "REMOTE"))
            return false;
    } while (imap_sp(in));
    /* RFC 5258 3.1: RECURSIVEMATCH alone selects nothing. */
    if ((l->opts & SEL_RECURSIVE) &&
        !(l->opts & (SEL_SUBSCRIBED | SEL_SPECIAL)))
        return false;
    return imap_eat(in, ')');
}

static bool return_options(struct listing *l)
{
    struct imap_cursor *in = &l->c->in;
    slice word;

    if (!imap_eat_word(in, "RETURN") || !imap_sp(in) || !imap_eat(in, '('))
        return false;
    l->opts |= IS_EXTENDED;
    if (imap_eat(in, ')'))
        return true;
    do {
        if (!imap_atom(in, &word))
            return false;
        if (slice_ieqs(word, "SUBSCRIBED"))
            l->opts |= RET_SUBSCRIBED;
        else if (slice_ieqs(word, "STATUS")) {
            l->opts |= RET_STATUS;
            if (!imap_sp(in) || !imap_status_items(in, &l->status_items))
                return false;
        } else if (!slice_ieqs(word, "CHILDREN") &&
                   !slice_ieqs(word, "SPECIAL-USE"))
            return false;
    } while (imap_sp(in));
    return imap_eat(in, ')');
}

/* True when the arguments are fine; *is_empty: LIST "" "". */
static bool parse(struct listing *l, bool *is_empty)
{
    struct imap_cursor *in = &l->c->in;
    bool is_lsub = (l->opts & IS_LSUB) != 0;
    slice reference;

    if (!imap_sp(in))
        return false;
    if (!is_lsub && imap_eat(in, '(') && (!select_options(l) || !imap_sp(in)))
        return false;
    if (!imap_mailbox(in, &reference) || !imap_sp(in) ||
        !patterns(l, reference, is_empty))
        return false;
    if (!is_lsub && imap_sp(in) && !return_options(l))
        return false;
    return imap_end(in);
}

/* --------------------------------------------------------------- collecting */

static bool collect(void *arg, const struct store_folder *f)
{
    struct listing *l = arg;
    struct entry *e;

    if (l->n == l->room) {
        size_t room = l->room == 0 ? 64 : l->room * 2;
        struct entry *v = room > (size_t)FOLDERS_MAX * 2
                              ? NULL
                              : arena_alloc(l->c->arena, room * sizeof *v);

        if (v == NULL) {
            l->overflow = true;
            return false;
        }
        if (l->n > 0)
            memcpy(v, l->v, l->n * sizeof *v);
        l->v = v;
        l->room = room;
    }
    e = &l->v[l->n++];
    *e = (struct entry){ .f = *f };
    e->f.name = slice_dup(l->c->arena, f->name);
    if (e->f.name.p == NULL) {
        l->overflow = true;
        l->n--;
    }
    return !l->overflow;
}

static bool is_below(slice name, slice parent)
{
    return name.n > parent.n && name.p[parent.n] == '.' &&
           slice_starts(name, parent);
}

/* Names are sorted so that what is below a name follows it, but other names
 * may stand between ("a", "a-b", "a.c"): those share its beginning. */
static void mark_parents(struct listing *l)
{
    for (size_t i = 0; i < l->n; i++) {
        struct entry *e = &l->v[i];

        for (size_t k = i + 1;
             k < l->n && slice_starts(l->v[k].f.name, e->f.name) &&
             !e->subscribed_below;
             k++)
            e->subscribed_below =
                l->v[k].f.subscribed && is_below(l->v[k].f.name, e->f.name);
    }
}

/* ----------------------------------------------------------------- answers */

static void attribute(struct imap_session *s, const char *name,
                      const char **space)
{
    imap_says(s, *space);
    imap_says(s, name);
    *space = " ";
}

static void say_entry(struct listing *l, const struct entry *e, bool is_implied)
{
    struct imap_session *s = l->c->s;
    const struct store_folder *f = &e->f;
    const char *space = "";
    const char *name;
    unsigned use;

    imap_says(s, l->opts & IS_LSUB ? "* LSUB (" : "* LIST (");
    if (is_implied)
        attribute(s, "\\Noselect", &space);
    else if (!f->exists)
        attribute(s, l->opts & IS_EXTENDED ? "\\NonExistent" : "\\Noselect",
                  &space);
    if (!(l->opts & IS_LSUB)) {
        attribute(s, f->has_children ? "\\HasChildren" : "\\HasNoChildren",
                  &space);
        if (f->subscribed && (l->opts & (RET_SUBSCRIBED | SEL_SUBSCRIBED)))
            attribute(s, "\\Subscribed", &space);
        for (size_t i = 0; (name = imap_use_name(i, &use)) != NULL; i++)
            if (f->exists && (f->use & use))
                attribute(s, name, &space);
    }
    imap_says(s, ") \".\" ");
    imap_say_mailbox(s, f->name);
    if ((l->opts & SEL_RECURSIVE) && (l->opts & SEL_SUBSCRIBED) &&
        e->subscribed_below)
        imap_says(s, " (\"CHILDINFO\" (\"SUBSCRIBED\"))");
    imap_says(s, "\r\n");
}

/* Is it to be told?  *is_implied: only as a level above others (LSUB). */
static bool is_chosen(const struct listing *l, const struct entry *e,
                      bool *is_implied)
{
    const struct store_folder *f = &e->f;

    *is_implied = false;
    if (l->opts & IS_LSUB) {
        *is_implied = !f->subscribed;
        return f->subscribed || e->subscribed_below;
    }
    if ((l->opts & SEL_SPECIAL) && (f->use == 0 || !f->exists))
        return false;
    if (l->opts & SEL_SUBSCRIBED)
        return f->subscribed ||
               ((l->opts & SEL_RECURSIVE) && e->subscribed_below);
    return f->exists || f->has_children;
}

/* LSUB shows a level that is not subscribed only where a pattern with % ends
 * there (RFC 3501 6.3.9). */
static bool ends_in_percent(const struct listing *l)
{
    for (size_t i = 0; i < l->n_patterns; i++)
        if (slice_chr(l->patterns[i], '%') >= 0)
            return true;
    return false;
}

MAY_WAIT static void say_all(struct listing *l)
{
    struct imap_session *s = l->c->s;
    bool percent = ends_in_percent(l);
    struct err err;

    for (size_t i = 0; i < l->n; i++) {
        const struct entry *e = &l->v[i];
        bool is_implied;

        if (!is_chosen(l, e, &is_implied) || (is_implied && !percent) ||
            !matches_any(l, e->f.name))
            continue;
        say_entry(l, e, is_implied);
        /* One that cannot be read now has no STATUS (RFC 5819 2). */
        if ((l->opts & RET_STATUS) && e->f.exists &&
            imap_say_status(s, e->f.name, l->status_items, &err) < 0)
            imap_log(s, EV_WARNING, "STATUS: %s", err.log);
        if (!imap_room(s))
            return;
    }
}

MAY_WAIT static void run(struct imap_cmd *c, unsigned opts)
{
    struct listing *l = arena_alloc(c->arena, sizeof *l);
    bool is_empty;
    struct err err;

    if (l == NULL)
        return;
    l->c = c;
    l->opts = opts;
    if (!parse(l, &is_empty))
        return;
    if (l->status_items & IMAP_ST_MODSEQ)
        imap_use_condstore(c->s);
    if (is_empty && !(opts & IS_LSUB)) {
        imap_says(c->s, "* LIST (\\Noselect) \".\" \"\"\r\n");
        imap_ok(c, NULL, "List completed.");
        return;
    }
    if (imap_account(c->s, &err) < 0 ||
        store_folders(c->s->account, collect, l, &err) < 0) {
        imap_fail(c, &err);
        return;
    }
    if (l->overflow) {
        imap_no(c, "LIMIT", "Too many mailboxes.");
        return;
    }
    if (l->opts & (IS_LSUB | SEL_RECURSIVE))
        mark_parents(l);
    say_all(l);
    imap_ok(c, NULL, opts & IS_LSUB ? "Lsub completed." : "List completed.");
}

MAY_WAIT static void cmd_list(struct imap_cmd *c)
{
    run(c, 0);
}

MAY_WAIT static void cmd_lsub(struct imap_cmd *c)
{
    run(c, IS_LSUB);
}

const struct imap_command imap_list_commands[] = {
    { "LIST", IMAP_ANY, IMAP_BESIDE | IMAP_READS_BOXES | IMAP_READS_FLAGS,
      cmd_list },
    { "LSUB", IMAP_ANY, IMAP_BESIDE | IMAP_READS_BOXES, cmd_lsub },
    { 0 },
};
