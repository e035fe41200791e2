/*
 * Commands side by side (RFC 9051 5.5).  While a command takes long, another
 * task, the reader, waits for the client's next ones and runs those that change
 * nothing that a command in flight looks at, and look at nothing that one
 * changes.  What such a task runs may take long as well: then the next reader
 * comes, up to IMAP_LANES_MAX commands at once.
 *
 *     main: command ... long -> imap_side_by_side() ........ ends -> settle
 *                                   |                                  |
 *     reader 1:                     wait, line, command ... end, wait -+
 *     reader 2:                            long -> wait, line, command-+
 *
 * A command that must wait for its turn (SELECT, EXPUNGE, one with a literal,
 * an unknown one ...) stays in the stream: the reader ends, and the session's
 * main task takes it up when all others have ended (imap_lanes_settle).
 *
 * The view of the mailbox stays as it is while more than one is in flight: no
 * news are told, imap_is_alone() says when they may be.  Every lane collects
 * its own output; whoever sent the beginning of an item (a literal in pieces)
 * has the stream until its end.
 *
 * A session without a long command has no lanes and pays for none of this.
 */
#include "imap/imap_priv.h"

struct imap_lanes {
    struct imap_work *main;
    struct imap_work *side[IMAP_LANES_MAX - 1];
    unsigned n;      /* tasks in side[] */
    unsigned n_runs; /* of them with a command in flight */
    struct imap_work *reader;
    struct imap_work *writer; /* has begun an item */
    bool is_blocked;          /* what comes next waits for its turn */
    bool is_settling;         /* main's command has ended */
};

/* ---- what a command claims */

static bool contains(slice text, const char *word)
{
    size_t n = strlen(word);

    for (size_t i = 0; i + n <= text.n; i++)
        if (slice_ieqs(slice_sub(text, i, n), word))
            return true;
    return false;
}

/* BODY[...] and its like without PEEK: \Seen is set.  A field's name may look
 * so as well: then it waits for nothing. */
static bool sets_seen(slice args)
{
    if (contains(args, "BODY["))
        return true;
    for (size_t i = 0; i + 6 <= args.n; i++)
        if (slice_ieqs(slice_sub(args, i, 6), "RFC822")) {
            slice rest = slice_from(args, i + 6);

            if (!slice_istarts(rest, SL(".SIZE")) &&
                !slice_istarts(rest, SL(".HEADER")))
                return true;
        }
    return false;
}

static bool shows_flags(slice args)
{
    static const char *const words[] = { "FLAGS", "ALL",    "FAST",
                                         "FULL",  "MODSEQ", "CHANGEDSINCE" };

    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        if (contains(args, words[i]))
            return true;
    return false;
}

unsigned imap_claims(const struct imap_session *s,
                     const struct imap_command *def, slice args)
{
    unsigned claims = def->flags & IMAP_CLAIMS;

    if (!(claims & IMAP_BESIDE))
        return 0;
    /* Those turn CONDSTORE on, which all responses show from then on. */
    if (!s->condstore &&
        (contains(args, "MODSEQ") || contains(args, "CHANGEDSINCE")))
        return 0;
    if (!(claims & IMAP_FETCHES))
        return claims;
    if (sets_seen(args))
        return claims | IMAP_READS_FLAGS | IMAP_SETS_FLAGS;
    return shows_flags(args) ? claims | IMAP_READS_FLAGS : claims;
}

bool imap_claims_clash(unsigned a, unsigned b)
{
    unsigned sets_a = (a & IMAP_SETS_FLAGS ? IMAP_READS_FLAGS : 0) |
                      (a & IMAP_SETS_BOXES ? IMAP_READS_BOXES : 0);
    unsigned sets_b = (b & IMAP_SETS_FLAGS ? IMAP_READS_FLAGS : 0) |
                      (b & IMAP_SETS_BOXES ? IMAP_READS_BOXES : 0);

    return (sets_a & (b | sets_b)) != 0 || (sets_b & a) != 0;
}

/* ---- who runs */

struct imap_work *imap_lane(const struct imap_session *s)
{
    const struct imap_lanes *l = s->work->lanes;
    const struct task *self = task_self();

    for (unsigned i = 0; i < l->n; i++)
        if (l->side[i]->task == self)
            return l->side[i];
    return s->work;
}

/* What others said of the view and did not send yet counts as well. */
bool imap_is_alone(const struct imap_session *s)
{
    const struct imap_lanes *l = s->work->lanes;
    const struct imap_work *w = imap_work(s);

    if (l == NULL)
        return true;
    for (unsigned i = 0; i < l->n; i++)
        if (l->side[i] != w && (l->side[i]->claims | l->side[i]->out.n) != 0)
            return false;
    return w == s->work || (s->work->claims | s->work->out.n) == 0;
}

static bool is_over(const struct imap_session *s)
{
    return s->is_closing || s->is_broken || s->is_kicked;
}

static bool may_run(const struct imap_lanes *l, unsigned claims)
{
    if (claims == 0 || imap_claims_clash(claims, l->main->claims))
        return false;
    for (unsigned i = 0; i < l->n; i++)
        if (imap_claims_clash(claims, l->side[i]->claims))
            return false;
    return true;
}

/* ---- the stream: who may write */

bool imap_turn_take(struct imap_session *s)
{
    struct imap_lanes *l = s->work->lanes;
    struct imap_work *w = imap_work(s);
    struct err err;

    if (l == NULL || l->writer == w)
        return true;
    if (l->writer == NULL) {
        l->writer = w;
        return true;
    }
    w->wants_turn = true;
    while (l->writer != w)
        if (task_wait(MSEC_NEVER, &err) < 0) {
            w->wants_turn = false;
            if (l->writer == w)
                imap_turn_give(s);
            return false;
        }
    return true;
}

static bool hand_to(struct imap_lanes *l, struct imap_work *w)
{
    if (!w->wants_turn)
        return false;
    w->wants_turn = false;
    l->writer = w;
    task_wake(w->task);
    return true;
}

void imap_turn_give(struct imap_session *s)
{
    struct imap_lanes *l = s->work->lanes;
    struct imap_work *w = imap_work(s);

    if (l == NULL || l->writer != w)
        return;
    l->writer = NULL;
    if (w != l->main && hand_to(l, l->main))
        return;
    for (unsigned i = 0; i < l->n; i++)
        if (l->side[i] != w && hand_to(l, l->side[i]))
            return;
}

bool imap_turn_is_ours(struct imap_session *s)
{
    return s->work->lanes != NULL && s->work->lanes->writer == imap_work(s);
}

/* ---- a side */

struct side {
    struct imap_work work; /* first */
    struct imap_session *session;
};

/* The next command, when it may run now; its line goes into w->line. */
static bool take_line(struct imap_session *s, struct imap_work *w, slice line)
{
    unsigned claims;
    uint64_t literal;
    bool is_plus;
    size_t whole = line.n;

    if (slice_ends(line, SL("\n")))
        line.n--;
    if (slice_ends(line, SL("\r")))
        line.n--;
    if (imap_line_literal(line, &literal, &is_plus))
        return false;
    claims = imap_command_claims(s, line);
    if (!may_run(s->work->lanes, claims))
        return false;
    buf_clear(&w->line);
    if (!buf_slice(&w->line, line))
        return false;
    w->claims = claims;
    imap_input_consume(s, whole);
    return true;
}

/* Wait for a command that may run beside the others.  False: this reader is
 * not needed any more, or what comes has to wait. */
MAY_WAIT static bool next_command(struct imap_session *s, struct imap_work *w)
{
    struct imap_lanes *l = s->work->lanes;

    for (;;) {
        slice line;

        if (is_over(s) || task_is_cancelled())
            return false;
        switch (imap_input_line(s, &line)) {
        case 1:
            if (take_line(s, w, line))
                return true;
            l->is_blocked = true;
            return false;
        case 0:
            break;
        default: /* too long: main says so */
            l->is_blocked = true;
            return false;
        }
        if ((w->out.n > 0 || l->writer == NULL) && !imap_flush(s))
            return false;
        if (!imap_input_wait(s)) {
            l->is_blocked = true;
            return false;
        }
    }
}

MAY_WAIT static void run_one(struct imap_session *s, struct imap_work *w)
{
    struct imap_lanes *l = s->work->lanes;

    l->reader = NULL;
    l->n_runs++;
    imap_command_run(s);
    l->n_runs--;
    w->claims = 0;
    l->is_blocked = false; /* what waited for this one may go now */
}

static void leave(struct imap_session *s, struct imap_work *w)
{
    struct imap_lanes *l = s->work->lanes;
    unsigned i = 0;

    imap_turn_give(s);
    if (l->reader == w)
        l->reader = NULL;
    while (l->side[i] != w)
        i++;
    l->side[i] = l->side[--l->n];
    buf_done(&w->line);
    buf_done(&w->out);
    if (l->is_settling && l->n == 0) /* once: a wake is remembered */
        task_wake(l->main->task);
    free(CONTAINER_OF(w, struct side, work));
}

MAY_WAIT static void side_task(void *arg)
{
    struct side *side = arg;
    struct imap_session *s = side->session;
    struct imap_work *w = &side->work;
    struct imap_lanes *l = s->work->lanes;

    while (next_command(s, w)) {
        run_one(s, w);
        if (l->is_settling && l->n_runs == 0) {
            if (l->reader != NULL)
                task_cancel(l->reader->task);
            break;
        }
        if (l->reader != NULL)
            break;
        l->reader = w;
    }
    w->in_item = false;
    (void)imap_flush(s);
    leave(s, w);
}

static void lanes_begin(struct imap_session *s)
{
    struct imap_work *w = s->work;

    w->lanes = xcalloc(1, sizeof *w->lanes);
    w->lanes->main = w;
    w->lanes->writer = w->in_item ? w : NULL;
}

void imap_side_by_side(struct imap_session *s)
{
    struct imap_lanes *l = s->work->lanes;
    struct imap_work *w = imap_work(s);
    struct side *side;

    if (s->stream == NULL || w->cmd == NULL || is_over(s))
        return;
    if (w->claims == 0 && w->cmd->def != NULL)
        w->claims = imap_claims(s, w->cmd->def, w->cmd->args);
    if (w->claims == 0)
        return;
    if (l != NULL &&
        (l->reader != NULL || l->is_blocked || l->n == ARRAY_LEN(l->side)))
        return;
    if (l == NULL && stream_eof(s->stream) && !imap_has_input(s))
        return;
    if (l == NULL) {
        (void)imap_flush(s); /* what ended before is answered now */
        lanes_begin(s);
        l = s->work->lanes;
    }
    side = xcalloc(1, sizeof *side);
    side->session = s;
    buf_init(&side->work.line, s->server->line_max + 2);
    buf_init(&side->work.out, IMAP_OUT_MAX);
    side->work.is_side = true;
    l->side[l->n++] = &side->work;
    l->reader = &side->work;
    side->work.task = task_spawn("imap-side", side_task, side);
}

static void cancel_sides(struct imap_lanes *l)
{
    for (unsigned i = 0; i < l->n; i++)
        task_cancel(l->side[i]->task);
}

void imap_lanes_settle(struct imap_session *s)
{
    struct imap_lanes *l = s->work->lanes;
    bool was_cancelled = false;
    struct err err;

    if (l == NULL)
        return;
    (void)imap_flush(s);
    imap_turn_give(s);
    l->is_settling = true;
    while (l->n > 0) {
        if (s->is_kicked || s->is_broken)
            cancel_sides(l);
        else if (l->n_runs == 0 && l->reader != NULL)
            task_cancel(l->reader->task);
        if (task_wait(MSEC_NEVER, &err) < 0) {
            was_cancelled = true;
            task_uncancel();
        }
    }
    s->work->lanes = NULL;
    free(l);
    if (was_cancelled)
        task_cancel(task_self());
}
