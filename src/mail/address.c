/* The forms of one address. */
#include "mail/address.h"

#include "base/base.h"

#include "mail/mail_priv.h"

bool mail_addr_split(slice internal, slice *local, slice *domain)
{
    ssize_t at = slice_rchr(internal, '@');

    if (at < 0) {
        *local = internal;
        *domain = SLICE_NONE;
        return false;
    }
    *local = slice_sub(internal, 0, (size_t)at);
    *domain = slice_from(internal, (size_t)at + 1);
    return true;
}

/* RFC 5321 4.1.2 Dot-string, bytes above 127 included. */
static bool is_dot_string(slice s)
{
    bool after_dot = true;

    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] == '.') {
            if (after_dot)
                return false;
            after_dot = true;
        } else if (lex_is_atext(s.p[i])) {
            after_dot = false;
        } else {
            return false;
        }
    }
    return !after_dot;
}

static bool put_quoted(struct buf *b, slice s)
{
    buf_byte(b, '"');
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];

        /* A bare line end must not reach the wire; quoting keeps the rest. */
        if (c == '"' || c == '\\' || c == '\r' || c == '\n')
            buf_byte(b, '\\');
        buf_byte(b, c);
    }
    return buf_byte(b, '"');
}

bool mail_local_quote(struct buf *b, slice local)
{
    if (is_dot_string(local))
        return buf_slice(b, local);
    return put_quoted(b, local);
}

bool mail_addr_quote(struct buf *b, slice internal)
{
    slice local, domain;
    bool has_domain;

    if (internal.n == 0)
        return !b->overflow; /* the null address has no parts */
    has_domain = mail_addr_split(internal, &local, &domain);
    mail_local_quote(b, local);
    if (has_domain) {
        buf_byte(b, '@');
        buf_slice(b, domain);
    }
    return !b->overflow;
}

bool mail_addr_unquote(struct buf *b, slice external)
{
    bool quoted = false;

    for (size_t i = 0; i < external.n; i++) {
        char c = external.p[i];

        if (c == '"') {
            quoted = !quoted;
            continue;
        }
        if (c == '\\' && i + 1 < external.n)
            c = external.p[++i];
        buf_byte(b, c);
    }
    return !b->overflow;
}

slice mail_addr_fold(struct arena *a, slice internal, bool fold_local)
{
    slice copy, local, domain;
    char *p;

    if (fold_local)
        return slice_lower(a, internal);
    copy = slice_dup(a, internal);
    if (copy.p == NULL || !mail_addr_split(copy, &local, &domain))
        return copy;
    p = (char *)arena_alloc(a, copy.n + 1);
    if (p == NULL)
        return SLICE_NONE;
    memcpy(p, copy.p, copy.n);
    for (size_t i = local.n; i < copy.n; i++)
        p[i] = ascii_lower(p[i]);
    return slice_of(p, copy.n);
}

bool mail_local_split(slice local, slice delims, bool owner_request_special,
                      slice *user, slice *ext)
{
    if (delims.n == 0 || slice_ieqs(local, "postmaster") ||
        slice_ieqs(local, "mailer-daemon") ||
        slice_ieqs(local, "double-bounce"))
        return false;
    if (owner_request_special && slice_chr(delims, '-') >= 0 &&
        (slice_istarts(local, SL("owner-")) ||
         (local.n > 8 && slice_iends(local, SL("-request")))))
        return false;
    for (size_t i = 0; i < local.n; i++) {
        if (slice_chr(delims, local.p[i]) < 0)
            continue;
        if (i == 0)
            return false; /* never to an empty user */
        *user = slice_sub(local, 0, i);
        *ext = slice_from(local, i + 1);
        return true;
    }
    return false;
}
