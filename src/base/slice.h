#ifndef BASE_SLICE_H
#define BASE_SLICE_H

/*
 * A slice is a view of bytes that somebody else owns.  It is never assumed to
 * end with NUL and may hold any byte.  {NULL, 0} is the empty slice.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/types.h>

struct arena;

typedef struct slice {
    const char *p;
    size_t n;
} slice;

/* SL("text") for literals, slice_str() for C strings (NULL gives empty). */
#define SL(lit)    ((slice){ (lit), sizeof(lit) - 1 })
#define SLICE_NONE ((slice){ NULL, 0 })
/* For printf: "%.*s", SLF(s) */
#define SLF(s) (int)((s).n > 1 << 20 ? 1 << 20 : (s).n), (s).p ? (s).p : ""

/* What stands in each line of every parser is inline. */
static inline slice slice_str(const char *s)
{
    return (slice){ s, s != NULL ? strlen(s) : 0 };
}

static inline slice slice_of(const void *p, size_t n)
{
    return (slice){ (const char *)p, n };
}

static inline bool slice_eq(slice a, slice b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

bool slice_ieq(slice a, slice b); /* ASCII case-insensitive */

static inline bool slice_eqs(slice a, const char *s)
{
    return slice_eq(a, slice_str(s));
}

bool slice_ieqs(slice a, const char *s);
int slice_cmp(slice a, slice b); /* as memcmp, shorter first */
bool slice_starts(slice s, slice prefix);
bool slice_istarts(slice s, slice prefix);
bool slice_ends(slice s, slice suffix);
bool slice_iends(slice s, slice suffix);

/* The part from `from` (clamped), at most `n` bytes (clamped). */
static inline slice slice_sub(slice s, size_t from, size_t n)
{
    if (from > s.n)
        from = s.n;
    if (s.p == NULL)
        return SLICE_NONE;
    return (slice){ s.p + from, n < s.n - from ? n : s.n - from };
}

static inline slice slice_from(slice s, size_t from)
{
    return slice_sub(s, from, SIZE_MAX);
}

/* Index of the first/last `c`, or -1. */
static inline ssize_t slice_chr(slice s, char c)
{
    const char *at =
        s.n > 0 ? (const char *)memchr(s.p, (unsigned char)c, s.n) : NULL;

    return at != NULL ? at - s.p : -1;
}

ssize_t slice_rchr(slice s, char c);
/* Index of `needle`, or -1; slice_istr ignores ASCII case. */
ssize_t slice_find(slice s, slice needle);
ssize_t slice_ifind(slice s, slice needle);

/* Without white space (space, tab, CR, LF, VT, FF) at both ends / the end. */
slice slice_trim(slice s);
slice slice_rtrim(slice s);

/* Cut off what stands before the first `c` into *head and move *s behind it;
 * false, with *head the whole and *s empty, when there is no `c`. */
bool slice_cut(slice *s, char c, slice *head);

/* Next token of *s: bytes not in `seps` (a C string), runs of separators
 * skipped.  False at the end. */
bool slice_token(slice *s, const char *seps, slice *tok);

/* Decimal, whole slice, no sign; false on anything else or overflow. */
bool slice_u64(slice s, uint64_t *out);
bool slice_i64(slice s, int64_t *out);

/* Lower-case ASCII copy / plain copy in the arena (NUL-terminated as well).
 * NULL slice when the arena's cap is reached (see arena.h). */
slice slice_dup(struct arena *a, slice s);
slice slice_lower(struct arena *a, slice s);
/* NUL-terminated copy in the arena; NULL at the cap, or when s holds NUL. */
char *slice_cstr(struct arena *a, slice s);
/* NUL-terminated heap copy; the caller frees. */
char *slice_xstrdup(slice s);
/* NUL-terminated copy into dst; false when it does not fit or holds NUL. */
bool slice_copy_to(slice s, char *dst, size_t size);

uint64_t slice_hash(slice s);  /* seeded once per process (SipHash class) */
uint64_t slice_ihash(slice s); /* ASCII case-insensitive */

/* ASCII only, whatever the locale. */
static inline char ascii_lower(char c)
{
    if (c >= 'A' && c <= 'Z')
        return (char)(c | 0x20);
    return c;
}

static inline char ascii_upper(char c)
{
    if (c >= 'a' && c <= 'z')
        return (char)(c & ~0x20);
    return c;
}

static inline bool ascii_isdigit(char c)
{
    return c >= '0' && c <= '9';
}

static inline bool ascii_isalpha(char c)
{
    return (c | 0x20) >= 'a' && (c | 0x20) <= 'z';
}

static inline bool ascii_isalnum(char c)
{
    return ascii_isdigit(c) || ascii_isalpha(c);
}

static inline bool ascii_isspace(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

#endif
