/*
 * BODY out of the cached BODYSTRUCTURE (RFC 3501 7.4.2): the same without
 * extension data.  The string is our own, but it comes from a file: nothing is
 * taken for granted.
 */
#include "imap/fetch.h"

#include "mail/mime.h"

/* Length of a quoted string, literal or atom at the front; 0: none. */
static size_t string_length(slice in)
{
    size_t n = 0;

    if (in.n == 0)
        return 0;
    if (in.p[0] == '"') {
        for (n = 1; n < in.n && in.p[n] != '"'; n++)
            n += in.p[n] == '\\';
        return n < in.n ? n + 1 : 0;
    }
    if (in.p[0] == '{') {
        ssize_t end = slice_find(in, SL("}\r\n"));
        uint64_t size;

        if (end < 0 || !slice_u64(slice_sub(in, 1, (size_t)end - 1), &size) ||
            size > in.n - (size_t)end - 3)
            return 0;
        return (size_t)end + 3 + (size_t)size;
    }
    while (n < in.n && in.p[n] != ' ' && in.p[n] != '(' && in.p[n] != ')')
        n++;
    return n;
}

/* Length of what stands at the front, a parenthesised list as a whole. */
static size_t thing_length(slice in)
{
    size_t depth = 0;
    size_t at = 0;

    do {
        size_t n;

        if (at >= in.n)
            return 0;
        if (in.p[at] == '(') {
            depth++;
            at++;
            continue;
        }
        if (in.p[at] == ')') {
            if (depth == 0)
                return 0;
            depth--;
            at++;
            continue;
        }
        if (in.p[at] == ' ') {
            if (depth == 0)
                return 0;
            at++;
            continue;
        }
        n = string_length(slice_from(in, at));
        if (n == 0)
            return 0;
        at += n;
    } while (depth > 0);
    return at;
}

static bool copy_thing(slice *in, struct buf *out, slice *thing)
{
    size_t n = thing_length(*in);

    *thing = slice_sub(*in, 0, n);
    buf_slice(out, *thing);
    *in = slice_from(*in, n);
    return n > 0;
}

/* A space and the next thing, `n` times. */
static bool copy_more(slice *in, struct buf *out, unsigned n)
{
    slice thing;

    while (n-- > 0) {
        if (!slice_starts(*in, SL(" ")))
            return false;
        *in = slice_from(*in, 1);
        buf_byte(out, ' ');
        if (!copy_thing(in, out, &thing))
            return false;
    }
    return true;
}

/* The rest of a list at the end of which we are not interested. */
static bool skip_to_end(slice *in)
{
    while (in->n > 0 && in->p[0] != ')') {
        size_t n = in->p[0] == ' ' ? 1 : thing_length(*in);

        if (n == 0)
            return false;
        *in = slice_from(*in, n);
    }
    return true;
}

/* Parts hold parts: one_part() bounds the depth.
 * NOLINTBEGIN(misc-no-recursion) */

static bool one_part(slice *in, struct buf *out, unsigned depth);

/* "(" part ")" */
static bool inner_part(slice *in, struct buf *out, unsigned depth)
{
    if (!slice_starts(*in, SL("(")))
        return false;
    *in = slice_from(*in, 1);
    buf_byte(out, '(');
    if (!one_part(in, out, depth + 1) || !slice_starts(*in, SL(")")))
        return false;
    *in = slice_from(*in, 1);
    buf_byte(out, ')');
    return true;
}

static bool single_part(slice *in, struct buf *out, unsigned depth)
{
    slice type, subtype;
    bool is_message;

    if (!copy_thing(in, out, &type) || !slice_starts(*in, SL(" ")))
        return false;
    *in = slice_from(*in, 1);
    buf_byte(out, ' ');
    if (!copy_thing(in, out, &subtype) || !copy_more(in, out, 5))
        return false;
    if (slice_ieqs(type, "\"text\""))
        return copy_more(in, out, 1);
    is_message =
        slice_ieqs(type, "\"message\"") && slice_ieqs(subtype, "\"rfc822\"");
    if (!is_message || !slice_starts(*in, SL(" (")))
        return true;
    if (!copy_more(in, out, 1) || !slice_starts(*in, SL(" (")))
        return false;
    *in = slice_from(*in, 1);
    buf_byte(out, ' ');
    return inner_part(in, out, depth) && copy_more(in, out, 1);
}

/* Behind a part's "(", up to its ")". */
static bool one_part(slice *in, struct buf *out, unsigned depth)
{
    if (depth > MAIL_MIME_DEPTH + 2)
        return false;
    if (slice_starts(*in, SL("("))) {
        while (slice_starts(*in, SL("(")))
            if (!inner_part(in, out, depth))
                return false;
        if (!copy_more(in, out, 1))
            return false;
    } else if (!single_part(in, out, depth)) {
        return false;
    }
    return skip_to_end(in);
}

/* NOLINTEND(misc-no-recursion) */

bool imap_body_of_structure(struct buf *out, slice structure)
{
    size_t was = out->n;

    if (one_part(&structure, out, 0) && structure.n == 0)
        return true;
    out->n = was;
    return false;
}
