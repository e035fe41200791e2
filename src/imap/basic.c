/* Commands that need no mailbox: RFC 3501 6.1, 6.4.1, RFC 2971, RFC 5161. */
#include "imap/imap_priv.h"

/* After sign-in.  A group of commands that lands adds its words. */
const char imap_capability[] =
    "IMAP4rev1 LITERAL+ SASL-IR ID ENABLE IDLE UNSELECT NAMESPACE CHILDREN "
    "UIDPLUS MOVE SPECIAL-USE CREATE-SPECIAL-USE LIST-EXTENDED LIST-STATUS "
    "STATUS=SIZE APPENDLIMIT MULTIAPPEND CONDSTORE SAVEDATE PREVIEW "
    "ESEARCH WITHIN";

static void cmd_capability(struct imap_cmd *c)
{
    imap_says(c->s, "* CAPABILITY ");
    imap_says(c->s, imap_capability);
    imap_says(c->s, "\r\n");
    imap_ok(c, NULL, "Capability completed.");
}

MAY_WAIT static void cmd_noop(struct imap_cmd *c)
{
    imap_look(c->s);
    imap_ok(c, NULL, "NOOP completed.");
}

MAY_WAIT static void cmd_check(struct imap_cmd *c)
{
    imap_look(c->s);
    imap_ok(c, NULL, "Check completed.");
}

static void cmd_logout(struct imap_cmd *c)
{
    imap_bye(c->s, "Logging out");
    c->s->is_logout = true;
    imap_ok(c, NULL, "Logout completed.");
}

/* ---- ENABLE */

void imap_use_condstore(struct imap_session *s)
{
    struct store_status st;

    if (s->condstore)
        return;
    s->condstore = true;
    if (s->selected == NULL)
        return;
    store_mailbox_status(s->selected->view.mailbox, &st);
    imap_says(s, "* OK [HIGHESTMODSEQ ");
    imap_say_u64(s, st.highestmodseq > 0 ? st.highestmodseq : 1);
    imap_says(s, "] Highest\r\n");
}

static void cmd_enable(struct imap_cmd *c)
{
    bool condstore = false;
    slice word;

    if (!imap_sp(&c->in)) {
        imap_bad(c, "Missing capability.");
        return;
    }
    do {
        if (!imap_atom(&c->in, &word)) {
            imap_bad(c, "Invalid arguments.");
            return;
        }
        condstore = condstore || slice_ieqs(word, "CONDSTORE");
    } while (imap_sp(&c->in));
    if (!imap_end(&c->in)) {
        imap_bad(c, "Invalid arguments.");
        return;
    }
    imap_says(c->s, "* ENABLED");
    imap_says(c->s, condstore ? " CONDSTORE\r\n" : "\r\n");
    if (condstore)
        imap_use_condstore(c->s);
    imap_ok(c, NULL, "Enabled.");
}

/* ---- ID */

static bool is_wanted(slice wanted, slice key)
{
    slice one;

    while (slice_token(&wanted, " ", &one))
        if (slice_eqs(one, "*") || slice_ieq(one, key))
            return true;
    return false;
}

/* key SP value; what imap_id_log names goes to the log. */
static bool take_id_pair(struct imap_cmd *c, slice wanted, struct buf *log)
{
    slice key, value;
    bool is_nil;

    if (!imap_string(&c->in, &key) || !imap_sp(&c->in) ||
        !imap_nstring(&c->in, &value, &is_nil))
        return false;
    if (!is_nil && is_wanted(wanted, key))
        buf_printf(log, "%s%.*s=%.*s", log->n > 0 ? ", " : "",
                   SLF(slice_sub(key, 0, 30)), SLF(slice_sub(value, 0, 200)));
    return true;
}

/* "NIL" or a list of pairs. */
static bool take_id(struct imap_cmd *c, struct buf *log)
{
    slice wanted = conf_slice(c->s->server->parts.conf, NULL, "imap_id_log");
    slice none;
    bool is_nil;
    size_t n = 0;

    if (!imap_eat(&c->in, '('))
        return imap_nstring(&c->in, &none, &is_nil) && is_nil;
    while (!imap_eat(&c->in, ')')) {
        if (n++ > 0 && !imap_sp(&c->in))
            return false;
        if (n > 30 || !take_id_pair(c, wanted, log))
            return false;
    }
    return true;
}

/* imap_id_send: pairs of words, "*" for our own value. */
static void say_id(struct imap_session *s)
{
    slice rest =
        slice_str(conf_str(s->server->parts.conf, NULL, "imap_id_send"));
    slice key, value;
    bool any = false;

    while (slice_token(&rest, " \t", &key) &&
           slice_token(&rest, " \t", &value)) {
        imap_says(s, any ? " " : "* ID (");
        any = true;
        imap_say_string(s, key);
        imap_says(s, " ");
        if (!slice_eqs(value, "*"))
            imap_say_string(s, value);
        else if (slice_ieqs(key, "name"))
            imap_says(s, "\"Hato\"");
        else if (slice_ieqs(key, "version"))
            imap_says(s, "\"" HATO_VERSION "\"");
        else
            imap_says(s, "NIL");
    }
    imap_says(s, any ? ")\r\n" : "* ID NIL\r\n");
}

static void cmd_id(struct imap_cmd *c)
{
    struct imap_session *s = c->s;
    struct buf log CLEANUP(buf_done) = { 0 };

    buf_init(&log, 8192);
    if (!imap_sp(&c->in) || !take_id(c, &log) || !imap_end(&c->in)) {
        imap_bad(c, "Invalid parameters.");
        return;
    }
    if (log.n > 0)
        imap_log(s, EV_INFO, "ID sent: %.*s", SLF(buf_view(&log)));
    say_id(s);
    imap_ok(c, NULL, "ID completed.");
}

/* ---- IDLE, RFC 2177 */

MAY_WAIT static void cmd_idle(struct imap_cmd *c)
{
    struct imap_session *s = c->s;

    if (!imap_end(&c->in)) {
        imap_bad(c, "Invalid arguments.");
        return;
    }
    s->idle_tag = slice_xstrdup(c->tag);
    imap_says(s, "+ idling\r\n");
    imap_look(s);
}

const struct imap_command imap_basic_commands[] = {
    { "CAPABILITY", IMAP_ANY, IMAP_BESIDE, cmd_capability },
    { "NOOP", IMAP_ANY, IMAP_BESIDE, cmd_noop },
    { "CHECK", IMAP_SELECTED, IMAP_BESIDE, cmd_check },
    { "LOGOUT", IMAP_ANY, IMAP_NO_SYNC, cmd_logout },
    { "ENABLE", IMAP_ANY, 0, cmd_enable },
    { "ID", IMAP_ANY, IMAP_BESIDE, cmd_id },
    { "IDLE", IMAP_ANY, 0, cmd_idle },
    { 0 },
};
