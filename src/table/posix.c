#include "table/table_priv.h"

/*
 * POSIX regular expressions (as glibc's regcomp() reads them) in PCRE2's
 * language, so that regexp: tables run under PCRE2's limits.  The subset that
 * means something else in PCRE2 is rewritten: brackets, where \ is an ordinary
 * byte; escapes; {,n}; repeated repetition; and basic expressions as a whole.
 * What regcomp() refuses is refused.
 *
 * DEBT: POSIX's leftmost-longest rule is not followed for alternatives; it can
 * only be seen in what $1 .. $9 hold.
 */

#define POSIX_DEPTH 250

struct posix {
    slice in;
    size_t at;
    struct buf *out;
    bool is_extended;
    bool newline; /* REG_NEWLINE */
    bool icase;
    /* Which groups are complete, so that \n may name them: bit n.  Each
     * alternative starts with what was complete in front of all of them. */
    unsigned closed;
    unsigned closed_before[POSIX_DEPTH + 1];
    unsigned closed_inside[POSIX_DEPTH + 1];
    unsigned n_groups;
    unsigned numbers[POSIX_DEPTH];
    bool can_repeat; /* an atom stands before */
    bool was_repeat; /* .. and was repeated already */
    size_t atom;     /* where it starts in out */
    size_t groups[POSIX_DEPTH];
    unsigned depth;
    const char *why;
};

static bool fail(struct posix *p, const char *why)
{
    p->why = why;
    return false;
}

static bool has(const struct posix *p, size_t ahead)
{
    return p->at + ahead < p->in.n;
}

static char at(const struct posix *p, size_t ahead)
{
    return has(p, ahead) ? p->in.p[p->at + ahead] : '\0';
}

static void atom_begin(struct posix *p)
{
    p->atom = p->out->n;
    p->can_repeat = true;
    p->was_repeat = false;
}

static void no_atom(struct posix *p)
{
    p->can_repeat = false;
    p->was_repeat = false;
}

static void put_literal(struct posix *p, char c)
{
    atom_begin(p);
    if (c == '\0' || c == '\n' || c == '\r' || (unsigned char)c >= 0x80 ||
        ascii_isspace(c))
        buf_printf(p->out, "\\x%02x", (unsigned char)c);
    else if (ascii_isalnum(c))
        buf_byte(p->out, c);
    else
        buf_printf(p->out, "\\%c", c);
}

/* [.x.], [=x=], [:class:] inside a bracket, `at` on the inner [. */
static bool bracket_class(struct posix *p)
{
    char kind = at(p, 1);
    char end[2] = { kind, ']' };
    slice rest = slice_from(p->in, p->at + 2);
    ssize_t n = slice_find(rest, slice_of(end, 2));

    if (n < 0)
        return fail(p, "Unmatched [, [^, [:, [., or [=");
    if (kind == ':') {
        buf_printf(p->out, "[:%.*s:]", (int)n, rest.p);
    } else if (n == 1) {
        buf_printf(p->out, "\\x%02x", (unsigned char)rest.p[0]);
    } else {
        return fail(p, "Invalid collation character");
    }
    p->at += (size_t)n + 4;
    return true;
}

static bool bracket(struct posix *p)
{
    bool is_first = true;

    atom_begin(p);
    buf_byte(p->out, '[');
    p->at++;
    if (at(p, 0) == '^') {
        buf_puts(p->out, p->newline ? "^\\n" : "^");
        p->at++;
    }
    while (has(p, 0)) {
        char c = at(p, 0);

        if (c == ']' && !is_first) {
            buf_byte(p->out, ']');
            p->at++;
            return true;
        }
        is_first = false;
        if (c == '[' &&
            (at(p, 1) == ':' || at(p, 1) == '.' || at(p, 1) == '=')) {
            if (!bracket_class(p))
                return false;
            continue;
        }
        if (c == '-')
            buf_byte(p->out, '-');
        else if (ascii_isalnum(c))
            buf_byte(p->out, c);
        else
            buf_printf(p->out, "\\x%02x", (unsigned char)c);
        p->at++;
    }
    return fail(p, "Unmatched [, [^, [:, [., or [=");
}

static void repeat_put(struct posix *p, slice quantifier)
{
    if (p->was_repeat) {
        /* a+* : PCRE2 would take the second one for "possessive" or "lazy". */
        slice tail = slice_from(buf_view(p->out), p->atom);
        char *copy = slice_xstrdup(tail);
        size_t n = tail.n;

        p->out->n = p->atom;
        buf_puts(p->out, "(?:");
        buf_put(p->out, copy, n);
        buf_byte(p->out, ')');
        free(copy);
    }
    buf_slice(p->out, quantifier);
    p->was_repeat = true;
}

/* Basic expressions know no a** and no a*\{2\}. */
static bool may_repeat_again(const struct posix *p)
{
    return p->is_extended || !p->was_repeat;
}

/* RE_DUP_MAX */
static bool is_count(slice s)
{
    uint64_t value;

    return slice_u64(s, &value) && value <= 32767;
}

/* {n}, {n,}, {n,m}, {,m}; `at` behind the brace. */
static bool interval(struct posix *p)
{
    slice rest = slice_from(p->in, p->at);
    slice close = p->is_extended ? SL("}") : SL("\\}");
    ssize_t n = slice_find(rest, close);
    slice high;
    slice low;
    bool has_comma;
    char text[40];

    if (!p->can_repeat || !may_repeat_again(p))
        return fail(p, "Invalid preceding regular expression");
    if (n < 0)
        return fail(p, "Unmatched \\{");
    high = slice_sub(rest, 0, (size_t)n);
    p->at += (size_t)n + close.n;
    has_comma = slice_cut(&high, ',', &low);
    if (has_comma && low.n == 0)
        low = SL("0");
    if (!is_count(low) || (high.n > 0 && !is_count(high)))
        return fail(p, "Invalid content of \\{\\}");
    (void)snprintf(text, sizeof(text), "{%.*s%s%.*s}", SLF(low),
                   has_comma ? "," : "", SLF(high));
    repeat_put(p, slice_str(text));
    return true;
}

static bool group_open(struct posix *p)
{
    if (p->depth == POSIX_DEPTH)
        return fail(p, "Regular expression too big");
    p->groups[p->depth] = p->out->n;
    p->numbers[p->depth++] = ++p->n_groups;
    p->closed_before[p->depth] = p->closed;
    p->closed_inside[p->depth] = 0;
    buf_byte(p->out, '(');
    no_atom(p);
    return true;
}

static void group_close(struct posix *p)
{
    buf_byte(p->out, ')');
    p->closed |= p->closed_inside[p->depth];
    p->atom = p->groups[--p->depth];
    if (p->numbers[p->depth] <= 9)
        p->closed |= 1u << p->numbers[p->depth];
    p->can_repeat = true;
    p->was_repeat = false;
}

/* GNU's escapes that both kinds have; false when `c` is none of them. */
static bool gnu_escape(struct posix *p, char c)
{
    static const struct {
        char c;
        bool is_atom;
        const char *pcre;
    } known[] = {
        { 'w', true, "\\w" },         { 'W', true, "\\W" },
        { 's', true, "\\s" },         { 'S', true, "\\S" },
        { 'b', false, "\\b" },        { 'B', false, "\\B" },
        { '<', false, "\\b(?=\\w)" }, { '>', false, "\\b(?<=\\w)" },
        { '`', false, "\\A" },        { '\'', false, "\\z" },
    };

    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        if (known[i].c != c)
            continue;
        if (known[i].is_atom)
            atom_begin(p);
        else
            no_atom(p);
        buf_puts(p->out, known[i].pcre);
        return true;
    }
    return false;
}

static bool back_reference(struct posix *p, char c)
{
    if ((p->closed >> (c - '0') & 1) == 0)
        return fail(p, "Invalid back reference");
    atom_begin(p);
    buf_printf(p->out, "(?:\\%c)", c);
    return true;
}

/* An escape that means nothing special is the character itself; but glibc
 * never finds a lower-case letter that is escaped when case is ignored. */
static void escaped_literal(struct posix *p, char c)
{
    if (!p->icase || c < 'a' || c > 'z') {
        put_literal(p, c);
        return;
    }
    atom_begin(p);
    buf_puts(p->out, "(?!)");
}

static void alternative(struct posix *p)
{
    buf_byte(p->out, '|');
    p->closed_inside[p->depth] |= p->closed;
    p->closed = p->closed_before[p->depth];
    no_atom(p);
}

static bool repeat(struct posix *p, char c)
{
    if (!p->can_repeat || (c == '*' && !may_repeat_again(p)))
        return fail(p, "Invalid preceding regular expression");
    repeat_put(p, slice_of(&c, 1));
    return true;
}

/* An escape of a basic expression; `at` behind it. */
static bool basic_escape(struct posix *p, char c)
{
    if (c == '(')
        return group_open(p);
    if (c == ')') {
        if (p->depth == 0)
            return fail(p, "Unmatched ) or \\)");
        group_close(p);
    } else if (c == '{') {
        return interval(p);
    } else if (c == '|') {
        alternative(p);
    } else if ((c == '+' || c == '?') && p->can_repeat) {
        return repeat(p, c);
    } else if (c >= '1' && c <= '9') {
        return back_reference(p, c);
    } else if (!gnu_escape(p, c)) {
        escaped_literal(p, c);
    }
    return true;
}

static bool escape(struct posix *p)
{
    char c = at(p, 1);

    if (!has(p, 1))
        return fail(p, "Trailing backslash");
    p->at += 2;
    if (!p->is_extended)
        return basic_escape(p, c);
    if (c >= '1' && c <= '9')
        return back_reference(p, c);
    if (!gnu_escape(p, c))
        escaped_literal(p, c);
    return true;
}

/* Is ^ an anchor here in a basic expression: at the start, behind \( or \|? */
static bool basic_is_start(const struct posix *p)
{
    slice before = slice_sub(p->in, 0, p->at);

    return before.n == 0 || slice_ends(before, SL("\\(")) ||
           slice_ends(before, SL("\\|"));
}

static bool basic_is_end(const struct posix *p)
{
    slice after = slice_from(p->in, p->at + 1);

    return after.n == 0 || slice_starts(after, SL("\\)")) ||
           slice_starts(after, SL("\\|"));
}

static bool basic_step(struct posix *p, char c)
{
    if (c == '^' && basic_is_start(p)) {
        buf_byte(p->out, '^');
        no_atom(p);
    } else if (c == '$' && basic_is_end(p)) {
        buf_byte(p->out, '$');
        no_atom(p);
    } else if (c == '*' && p->can_repeat) {
        p->at++;
        return repeat(p, c);
    } else {
        put_literal(p, c);
    }
    p->at++;
    return true;
}

static bool extended_step(struct posix *p, char c)
{
    p->at++;
    switch (c) {
    case '(':
        return group_open(p);
    case ')':
        if (p->depth > 0)
            group_close(p);
        else
            put_literal(p, c);
        return true;
    case '|':
        alternative(p);
        return true;
    case '^':
    case '$':
        buf_byte(p->out, c);
        no_atom(p);
        return true;
    case '*':
    case '+':
    case '?':
        return repeat(p, c);
    case '{':
        return interval(p);
    default:
        put_literal(p, c);
        return true;
    }
}

static bool step(struct posix *p)
{
    char c = at(p, 0);

    if (c == '\\')
        return escape(p);
    if (c == '[')
        return bracket(p);
    if (c == '.') {
        atom_begin(p);
        buf_byte(p->out, '.');
        p->at++;
        return true;
    }
    return p->is_extended ? extended_step(p, c) : basic_step(p, c);
}

bool posix_to_pcre(slice pattern, unsigned flags, struct buf *out,
                   const char **why)
{
    struct posix *p = xcalloc(1, sizeof(*p));
    bool ok = true;

    p->in = pattern;
    p->out = out;
    p->is_extended = (flags & POSIX_EXTENDED) != 0;
    p->newline = (flags & POSIX_NEWLINE) != 0;
    p->icase = (flags & POSIX_ICASE) != 0;
    while (ok && p->at < pattern.n)
        ok = step(p);
    if (ok && p->depth > 0)
        ok = fail(p, "Unmatched ( or \\(");
    if (ok && out->overflow)
        ok = fail(p, "Regular expression too big");
    if (!ok)
        *why = p->why;
    free(p);
    return ok;
}
