/* The shape of IMAP commands before sign-in: no input or output. */
#include "login/login_priv.h"

/* "{123}" or "{123+}" at the end of a line; false: there is none. */
static bool literal_of(slice line, uint64_t *size, bool *is_plus)
{
    slice digits;
    ssize_t open;

    if (line.n < 3 || line.p[line.n - 1] != '}')
        return false;
    open = slice_rchr(line, '{');
    if (open < 0)
        return false;
    digits = slice_sub(line, (size_t)open + 1, line.n - (size_t)open - 2);
    *is_plus = digits.n > 0 && digits.p[digits.n - 1] == '+';
    if (*is_plus)
        digits.n--;
    if (digits.n > 0 && digits.n <= 32 && !slice_u64(digits, size)) {
        for (size_t i = 0; i < digits.n; i++)
            if (!ascii_isdigit(digits.p[i]))
                return false;
        *size = UINT64_MAX; /* more than a number holds */
        return true;
    }
    return digits.n > 0 && digits.n <= 32;
}

static slice without_cr(slice line)
{
    if (line.n > 0 && line.p[line.n - 1] == '\r')
        line.n--;
    return line;
}

enum imap_found login_imap_extent(slice in, size_t asked, size_t max, size_t *n)
{
    size_t pos = 0;

    for (;;) {
        slice rest = slice_from(in, pos);
        ssize_t lf = slice_chr(rest, '\n');
        bool is_plus = false;
        uint64_t size = 0;

        if (lf < 0)
            return IMAP_NONE;
        *n = pos + (size_t)lf + 1;
        if (!literal_of(without_cr(slice_sub(rest, 0, (size_t)lf)), &size,
                        &is_plus))
            return *n > max ? IMAP_FLOOD : IMAP_COMMAND;
        if (*n > max || size > max - *n)
            return is_plus ? IMAP_FLOOD : IMAP_TOO_LONG;
        if (!is_plus && *n > asked)
            return IMAP_LITERAL;
        pos = *n + (size_t)size;
        if (pos > in.n)
            return IMAP_NONE;
    }
}

static void skip(struct imap_words *w, size_t n)
{
    w->p += n;
    w->n -= n;
}

static enum imap_token quoted(struct imap_words *w, slice *out)
{
    size_t from = 1, to = 0;
    char *p = w->p;

    while (from < w->n && p[from] != '"') {
        char c = p[from];

        if (c == '\\' && from + 1 < w->n)
            c = p[++from];
        if (c == '\r' || c == '\n' || c == '\0')
            return IMAP_WRONG;
        /* What was read is not read again: it may be written over. */
        p[to++] = c;
        from++;
    }
    if (from >= w->n)
        return IMAP_WRONG;
    *out = slice_of(p, to);
    skip(w, from + 1);
    return IMAP_STRING;
}

static enum imap_token literal(struct imap_words *w, slice *out)
{
    slice all = slice_of(w->p, w->n);
    ssize_t lf = slice_chr(all, '\n');
    bool is_plus;
    uint64_t size;
    size_t from;

    if (lf < 0 ||
        !literal_of(without_cr(slice_sub(all, 0, (size_t)lf)), &size,
                    &is_plus) ||
        slice_rchr(slice_sub(all, 0, (size_t)lf), '{') != 0)
        return IMAP_WRONG;
    from = (size_t)lf + 1;
    if (size > w->n - from)
        return IMAP_WRONG;
    *out = slice_sub(all, from, (size_t)size);
    if (out->n > 0 && memchr(out->p, '\0', out->n) != NULL)
        return IMAP_WRONG; /* RFC 3501 9: CHAR8 has no NUL */
    skip(w, from + (size_t)size);
    return IMAP_STRING;
}

static bool is_atom_char(char c)
{
    return (unsigned char)c > ' ' && c != '(' && c != ')' && c != '{' &&
           c != '"' && c != '\x7f';
}

enum imap_token login_imap_token(struct imap_words *w, slice *out)
{
    size_t n = 0;

    *out = SLICE_NONE;
    while (w->n > 0 && *w->p == ' ')
        skip(w, 1);
    if (w->n == 0 || *w->p == '\n' ||
        (*w->p == '\r' && w->n > 1 && w->p[1] == '\n'))
        return IMAP_END;
    if (*w->p == '(' || *w->p == ')') {
        skip(w, 1);
        return w->p[-1] == '(' ? IMAP_OPEN : IMAP_CLOSE;
    }
    if (*w->p == '"')
        return quoted(w, out);
    if (*w->p == '{')
        return literal(w, out);
    while (n < w->n && is_atom_char(w->p[n]))
        n++;
    if (n == 0)
        return IMAP_WRONG;
    *out = slice_of(w->p, n);
    skip(w, n);
    return IMAP_ATOM;
}
