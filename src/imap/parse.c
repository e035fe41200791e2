/* The words of commands (RFC 3501 9), and names in modified UTF-7 (5.1.3). */
#include "imap/imap_priv.h"

#include "mail/date.h"
#include "mail/domain.h"

bool imap_eat(struct imap_cursor *c, char ch)
{
    if (c->rest.n == 0 || c->rest.p[0] != ch)
        return false;
    c->rest = slice_from(c->rest, 1);
    return true;
}

bool imap_eat_word(struct imap_cursor *c, const char *word)
{
    slice w = slice_str(word);

    if (!slice_istarts(c->rest, w))
        return false;
    c->rest = slice_from(c->rest, w.n);
    return true;
}

bool imap_sp(struct imap_cursor *c)
{
    if (!imap_eat(c, ' '))
        return false;
    while (imap_eat(c, ' '))
        ;
    return true;
}

bool imap_end(const struct imap_cursor *c)
{
    return c->rest.n == 0;
}

static bool is_atom_char(char ch)
{
    unsigned char u = (unsigned char)ch;

    return u > 0x20 && u != 0x7f && strchr("(){%*\"\\]", ch) == NULL;
}

static bool is_astring_char(char ch)
{
    return is_atom_char(ch) || ch == ']';
}

static bool is_list_char(char ch)
{
    return is_astring_char(ch) || ch == '%' || ch == '*';
}

static bool take(struct imap_cursor *c, bool (*is)(char), slice *out)
{
    size_t n = 0;

    while (n < c->rest.n && is(c->rest.p[n]))
        n++;
    if (n == 0)
        return false;
    *out = slice_sub(c->rest, 0, n);
    c->rest = slice_from(c->rest, n);
    return true;
}

bool imap_atom(struct imap_cursor *c, slice *out)
{
    return take(c, is_atom_char, out);
}

/* Backslashes off. */
static bool unquote(struct arena *arena, slice in, slice *out)
{
    char *p = arena_alloc(arena, in.n);
    size_t n = 0;

    if (p == NULL)
        return false;
    for (size_t i = 0; i < in.n; i++) {
        if (in.p[i] == '\\')
            i++;
        p[n++] = in.p[i];
    }
    *out = slice_of(p, n);
    return true;
}

static bool quoted(struct imap_cursor *c, slice *out)
{
    bool has_escape = false;
    size_t i = 1;

    while (i < c->rest.n && c->rest.p[i] != '"') {
        char ch = c->rest.p[i];

        if (ch == '\\') {
            has_escape = true;
            ch = ++i < c->rest.n ? c->rest.p[i] : '\0';
        }
        if (ch == '\r' || ch == '\n' || ch == '\0')
            return false;
        i++;
    }
    if (i >= c->rest.n)
        return false;
    if (has_escape && !unquote(c->arena, slice_sub(c->rest, 1, i - 1), out))
        return false;
    if (!has_escape)
        *out = slice_sub(c->rest, 1, i - 1);
    c->rest = slice_from(c->rest, i + 1);
    return true;
}

/* "{n}" or "{n+}" at the front; how many bytes it takes, or 0. */
static size_t literal_head(slice s, uint64_t *n, bool *is_plus)
{
    ssize_t end = slice_chr(s, '}');
    slice digits;

    if (s.n == 0 || s.p[0] != '{' || end < 2 || end > 22)
        return 0;
    digits = slice_sub(s, 1, (size_t)end - 1);
    *is_plus = slice_ends(digits, SL("+"));
    if (*is_plus)
        digits.n--;
    return slice_u64(digits, n) ? (size_t)end + 1 : 0;
}

static bool literal(struct imap_cursor *c, slice *out)
{
    uint64_t n;
    bool is_plus;
    size_t head = literal_head(c->rest, &n, &is_plus);
    slice rest = slice_from(c->rest, head);

    if (head == 0)
        return false;
    if (slice_starts(rest, SL("\r\n")))
        rest = slice_from(rest, 2);
    else if (slice_starts(rest, SL("\n")))
        rest = slice_from(rest, 1);
    else
        return false;
    if (rest.n < n)
        return false;
    *out = slice_sub(rest, 0, (size_t)n);
    c->rest = slice_from(rest, (size_t)n);
    return true;
}

bool imap_string(struct imap_cursor *c, slice *out)
{
    if (c->rest.n == 0)
        return false;
    return c->rest.p[0] == '"' ? quoted(c, out) : literal(c, out);
}

bool imap_astring(struct imap_cursor *c, slice *out)
{
    return imap_string(c, out) || take(c, is_astring_char, out);
}

bool imap_nstring(struct imap_cursor *c, slice *out, bool *is_nil)
{
    struct imap_cursor was = *c;

    *is_nil = false;
    if (imap_string(c, out))
        return true;
    if (imap_atom(c, out) && slice_ieqs(*out, "NIL")) {
        *out = SLICE_NONE;
        *is_nil = true;
        return true;
    }
    *c = was;
    return false;
}

bool imap_number(struct imap_cursor *c, uint64_t *out)
{
    size_t n = 0;
    uint64_t v;

    while (n < c->rest.n && ascii_isdigit(c->rest.p[n]))
        n++;
    if (!slice_u64(slice_sub(c->rest, 0, n), &v) || v > INT64_MAX)
        return false;
    *out = v;
    c->rest = slice_from(c->rest, n);
    return true;
}

bool imap_nz_number32(struct imap_cursor *c, uint32_t *out)
{
    struct imap_cursor was = *c;
    uint64_t v;

    if (imap_number(c, &v) && v > 0 && v <= UINT32_MAX) {
        *out = (uint32_t)v;
        return true;
    }
    *c = was;
    return false;
}

bool imap_literal_mark(struct imap_cursor *c, uint64_t *n, bool *is_plus)
{
    size_t head = literal_head(c->rest, n, is_plus);

    if (head == 0 || head != c->rest.n)
        return false;
    c->rest = SLICE_NONE;
    return true;
}

bool imap_line_literal(slice line, uint64_t *n, bool *is_plus)
{
    ssize_t at = slice_rchr(line, '{');

    return at >= 0 && slice_ends(line, SL("}")) &&
           literal_head(slice_from(line, (size_t)at), n, is_plus) ==
               line.n - (size_t)at;
}

/* ---- mailbox names */

static slice mailbox_name(struct arena *arena, slice in)
{
    struct buf b CLEANUP(buf_done) = { 0 };
    slice out;

    if (slice_ieqs(in, "INBOX"))
        return SL("INBOX");
    if (slice_chr(in, '&') < 0)
        return in;
    buf_init(&b, in.n * 4 + 16);
    if (!imap_utf7_to_utf8(&b, in))
        return in;
    out = slice_dup(arena, buf_view(&b));
    return out.p != NULL ? out : in;
}

bool imap_mailbox(struct imap_cursor *c, slice *out)
{
    slice name;

    if (!imap_astring(c, &name))
        return false;
    *out = mailbox_name(c->arena, name);
    return true;
}

bool imap_list_mailbox(struct imap_cursor *c, slice *out)
{
    slice name;

    if (!imap_string(c, &name) && !take(c, is_list_char, &name))
        return false;
    *out = mailbox_name(c->arena, name);
    return true;
}

/* ---- flags */

static const struct {
    const char *name;
    uint32_t flag;
} system_flags[] = {
    { "\\Seen", STORE_SEEN },
    { "\\Answered", STORE_ANSWERED },
    { "\\Flagged", STORE_FLAGGED },
    { "\\Deleted", STORE_DELETED },
    { "\\Draft", STORE_DRAFT },
    { "$Forwarded", STORE_PASSED },
    { "\\Recent", 0 },
};

bool imap_flag(struct imap_cursor *c, uint32_t *flags, slice *keyword)
{
    struct imap_cursor was = *c;
    bool is_system = imap_eat(c, '\\');
    slice word;

    *keyword = SLICE_NONE;
    if (!imap_atom(c, &word)) {
        *c = was;
        return false;
    }
    if (is_system)
        word = (slice){ word.p - 1, word.n + 1 };
    for (size_t i = 0; i < ARRAY_LEN(system_flags); i++) {
        if (slice_ieqs(word, system_flags[i].name)) {
            *flags |= system_flags[i].flag;
            return true;
        }
    }
    if (is_system) {
        *c = was;
        return false;
    }
    *keyword = word;
    return true;
}

static int one_flag(struct imap_cursor *c, struct store_mailbox *m,
                    uint32_t *flags, uint64_t *keywords, struct err *err)
{
    slice word;
    unsigned bit;

    if (!imap_flag(c, flags, &word)) {
        err->class = ERR_NONE;
        return -1;
    }
    if (word.n == 0 || m == NULL)
        return 0;
    if (store_keyword_bit(m, word, &bit, err) == 0)
        *keywords |= UINT64_C(1) << bit;
    else if (err->class != ERR_PERM)
        return -1;
    return 0;
}

int imap_flag_list(struct imap_cursor *c, bool bare, struct store_mailbox *m,
                   uint32_t *flags, uint64_t *keywords, struct err *err)
{
    bool in_list = imap_eat(c, '(');

    err->class = ERR_NONE;
    *flags = 0;
    *keywords = 0;
    if (in_list && imap_eat(c, ')'))
        return 0;
    if (!in_list && !bare)
        return -1;
    do {
        if (one_flag(c, m, flags, keywords, err) < 0)
            return -1;
    } while (imap_sp(c) && !(in_list && c->rest.n > 0 && c->rest.p[0] == ')'));
    return in_list && !imap_eat(c, ')') ? -1 : 0;
}

/* ---- dates */

bool imap_date_time(struct imap_cursor *c, int64_t *out)
{
    struct imap_cursor was = *c;
    slice text;
    int zone;

    if (c->rest.n > 0 && c->rest.p[0] == '"' && imap_string(c, &text) &&
        mail_date_imap_parse(text, out, &zone))
        return true;
    *c = was;
    return false;
}

static bool month_of(slice s, int *out)
{
    static const char names[] = "janfebmaraprmayjunjulaugsepoctnovdec";

    for (int i = 0; i < 12; i++) {
        if (slice_ieq(s, slice_of(names + (size_t)3 * (size_t)i, 3))) {
            *out = i + 1;
            return true;
        }
    }
    return false;
}

static bool date_text(slice s, int64_t *days)
{
    static const int lengths[] = { 31, 29, 31, 30, 31, 30,
                                   31, 31, 30, 31, 30, 31 };
    struct civil day = { .hour = 0 };
    uint64_t d, y;
    slice part;

    if (!slice_cut(&s, '-', &part) || !slice_u64(slice_trim(part), &d) ||
        d < 1 || !slice_cut(&s, '-', &part) || !month_of(part, &day.month) ||
        s.n != 4 || !slice_u64(s, &y) || y < 1)
        return false;
    if (d > (uint64_t)lengths[day.month - 1])
        return false;
    day.day = (int)d;
    day.year = (int)y;
    *days = clock_from_civil(&day);
    /* Days before 1970 as well. */
    *days = (*days - (*days < 0 ? 86399 : 0)) / 86400;
    return true;
}

bool imap_date(struct imap_cursor *c, int64_t *days_out)
{
    struct imap_cursor was = *c;
    slice text;

    if (imap_astring(c, &text) && date_text(text, days_out))
        return true;
    *c = was;
    return false;
}
