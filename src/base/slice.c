#include "base/slice.h"

#include "base/base.h"

static bool bytes_ieq(const char *a, const char *b, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (ascii_lower(a[i]) != ascii_lower(b[i]))
            return false;
    }
    return true;
}

static bool bytes_eq(const char *a, const char *b, size_t n)
{
    return n == 0 || memcmp(a, b, n) == 0;
}

bool slice_ieq(slice a, slice b)
{
    return a.n == b.n && bytes_ieq(a.p, b.p, a.n);
}

bool slice_ieqs(slice a, const char *s)
{
    return slice_ieq(a, slice_str(s));
}

int slice_cmp(slice a, slice b)
{
    size_t n = min_size(a.n, b.n);
    int order = n > 0 ? memcmp(a.p, b.p, n) : 0;

    if (order != 0)
        return order;
    return (a.n > b.n) - (a.n < b.n);
}

bool slice_starts(slice s, slice prefix)
{
    return s.n >= prefix.n && bytes_eq(s.p, prefix.p, prefix.n);
}

bool slice_istarts(slice s, slice prefix)
{
    return s.n >= prefix.n && bytes_ieq(s.p, prefix.p, prefix.n);
}

bool slice_ends(slice s, slice suffix)
{
    return s.n >= suffix.n && slice_eq(slice_from(s, s.n - suffix.n), suffix);
}

bool slice_iends(slice s, slice suffix)
{
    return s.n >= suffix.n && slice_ieq(slice_from(s, s.n - suffix.n), suffix);
}

ssize_t slice_rchr(slice s, char c)
{
    const char *at = s.n > 0 ? memrchr(s.p, c, s.n) : NULL;

    return at != NULL ? at - s.p : -1;
}

ssize_t slice_find(slice s, slice needle)
{
    const char *at;

    if (needle.n == 0)
        return 0;
    if (s.n < needle.n)
        return -1;
    at = memmem(s.p, s.n, needle.p, needle.n);
    return at != NULL ? at - s.p : -1;
}

ssize_t slice_ifind(slice s, slice needle)
{
    for (size_t i = 0; i + needle.n <= s.n; i++) {
        if (needle.n == 0 || bytes_ieq(s.p + i, needle.p, needle.n))
            return (ssize_t)i;
    }
    return -1;
}

slice slice_rtrim(slice s)
{
    while (s.n > 0 && ascii_isspace(s.p[s.n - 1]))
        s.n--;
    return s;
}

slice slice_trim(slice s)
{
    while (s.n > 0 && ascii_isspace(s.p[0]))
        s = slice_from(s, 1);
    return slice_rtrim(s);
}

bool slice_cut(slice *s, char c, slice *head)
{
    slice all = *s;
    ssize_t at = slice_chr(all, c);

    if (at < 0) {
        *head = all;
        *s = slice_from(all, all.n);
        return false;
    }
    *head = slice_sub(all, 0, (size_t)at);
    *s = slice_from(all, (size_t)at + 1);
    return true;
}

/* strchr() would find the NUL that ends `seps`; a NUL byte separates nothing.
 */
static bool is_one_of(char c, const char *seps)
{
    return c != '\0' && strchr(seps, c) != NULL;
}

bool slice_token(slice *s, const char *seps, slice *tok)
{
    size_t from = 0;
    size_t to;

    while (from < s->n && is_one_of(s->p[from], seps))
        from++;
    if (from == s->n) {
        *s = slice_from(*s, s->n);
        return false;
    }
    to = from;
    while (to < s->n && !is_one_of(s->p[to], seps))
        to++;
    *tok = slice_sub(*s, from, to - from);
    *s = slice_from(*s, to);
    return true;
}

bool slice_u64(slice s, uint64_t *out)
{
    uint64_t v = 0;

    if (s.n == 0)
        return false;
    for (size_t i = 0; i < s.n; i++) {
        if (!ascii_isdigit(s.p[i]) || !MUL_OK(v, (uint64_t)10, &v) ||
            !ADD_OK(v, (uint64_t)(s.p[i] - '0'), &v))
            return false;
    }
    *out = v;
    return true;
}

bool slice_i64(slice s, int64_t *out)
{
    bool is_negative = s.n > 0 && s.p[0] == '-';
    uint64_t v;

    if (!slice_u64(is_negative ? slice_from(s, 1) : s, &v))
        return false;
    if (v > (uint64_t)INT64_MAX + (is_negative ? 1 : 0))
        return false;
    *out = is_negative ? (int64_t)(0 - v) : (int64_t)v;
    return true;
}

slice slice_dup(struct arena *a, slice s)
{
    char *p = s.n < SIZE_MAX ? arena_alloc(a, s.n + 1) : NULL;

    if (p == NULL)
        return SLICE_NONE;
    if (s.n > 0)
        memcpy(p, s.p, s.n);
    return (slice){ p, s.n };
}

slice slice_lower(struct arena *a, slice s)
{
    char *p = s.n < SIZE_MAX ? arena_alloc(a, s.n + 1) : NULL;

    if (p == NULL)
        return SLICE_NONE;
    for (size_t i = 0; i < s.n; i++)
        p[i] = ascii_lower(s.p[i]);
    return (slice){ p, s.n };
}

char *slice_cstr(struct arena *a, slice s)
{
    char *p;

    if (slice_chr(s, '\0') >= 0 || s.n == SIZE_MAX)
        return NULL;
    p = arena_alloc(a, s.n + 1);
    if (p != NULL && s.n > 0)
        memcpy(p, s.p, s.n);
    return p;
}

char *slice_xstrdup(slice s)
{
    char *p = xmalloc(s.n + 1);

    if (s.n > 0)
        memcpy(p, s.p, s.n);
    p[s.n] = '\0';
    return p;
}

bool slice_copy_to(slice s, char *dst, size_t size)
{
    if (s.n >= size || slice_chr(s, '\0') >= 0)
        return false;
    if (s.n > 0)
        memcpy(dst, s.p, s.n);
    dst[s.n] = '\0';
    return true;
}
