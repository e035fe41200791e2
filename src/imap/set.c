/* Sequence sets (RFC 3501 9, sequence-set), in and out. */
#include "imap/imap_priv.h"

/* One number or "*". */
static bool member(struct imap_cursor *c, uint32_t max, uint32_t *out)
{
    if (imap_eat(c, '*')) {
        *out = max;
        return true;
    }
    return imap_nz_number32(c, out);
}

static int range_cmp(const void *a, const void *b)
{
    const struct imap_range *x = a;
    const struct imap_range *y = b;

    return x->lo < y->lo ? -1 : x->lo > y->lo;
}

/* Sorted, and what touches made one. */
static void normalize(struct imap_set *s)
{
    size_t n = 0;

    qsort(s->v, s->n, sizeof *s->v, range_cmp);
    for (size_t i = 0; i < s->n; i++) {
        struct imap_range *last = n > 0 ? &s->v[n - 1] : NULL;

        if (last != NULL && s->v[i].lo - 1 <= last->hi) {
            if (s->v[i].hi > last->hi)
                last->hi = s->v[i].hi;
        } else {
            s->v[n++] = s->v[i];
        }
    }
    s->n = n;
}

/* How many members can there be? */
static size_t commas(slice s)
{
    size_t n = 0;

    for (size_t i = 0; i < s.n && s.p[i] != ' '; i++)
        n += s.p[i] == ',';
    return n;
}

bool imap_set_parse(struct imap_cursor *c, uint32_t max, struct imap_set *out)
{
    struct imap_cursor was = *c;
    size_t room = commas(c->rest) + 1;
    struct imap_set s = { 0 };

    s.v = arena_alloc(c->arena, room * sizeof *s.v);
    if (s.v == NULL)
        return false;
    do {
        uint32_t lo, hi;

        if (!member(c, max, &lo))
            goto bad;
        hi = lo;
        if (imap_eat(c, ':') && !member(c, max, &hi))
            goto bad;
        if (lo > hi) {
            uint32_t swap = lo;

            lo = hi;
            hi = swap;
        }
        if (hi == 0)
            continue; /* "*" of an empty mailbox */
        CHECK(s.n < room);
        s.v[s.n++] = (struct imap_range){ lo > 0 ? lo : 1, hi };
    } while (imap_eat(c, ','));
    normalize(&s);
    *out = s;
    return true;
bad:
    *c = was;
    return false;
}

bool imap_set_has(struct imap_set *s, uint32_t n)
{
    size_t lo = 0;
    size_t hi = s->n;

    if (s->at < s->n && n >= s->v[s->at].lo) {
        if (n <= s->v[s->at].hi)
            return true;
        /* The usual walk: at the next one, or between the two. */
        if (s->at + 1 >= s->n || n < s->v[s->at + 1].lo)
            return false;
        lo = s->at + 1;
        if (n <= s->v[lo].hi) {
            s->at = lo;
            return true;
        }
    }
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;

        if (s->v[mid].hi < n)
            lo = mid + 1;
        else
            hi = mid;
    }
    if (lo >= s->n || n < s->v[lo].lo)
        return false;
    s->at = lo;
    return true;
}

uint64_t imap_set_count(const struct imap_set *s, uint32_t max)
{
    uint64_t n = 0;

    for (size_t i = 0; i < s->n && s->v[i].lo <= max; i++)
        n += (uint64_t)(s->v[i].hi < max ? s->v[i].hi : max) - s->v[i].lo + 1;
    return n;
}

void imap_set_flush(struct imap_set_out *o, struct buf *b)
{
    if (o->lo == 0)
        return;
    if (o->any)
        buf_byte(b, ',');
    o->any = true;
    imap_u64(b, o->lo);
    if (o->hi > o->lo) {
        buf_byte(b, ':');
        imap_u64(b, o->hi);
    }
    o->lo = 0;
}

void imap_set_add(struct imap_set_out *o, struct buf *b, uint32_t n)
{
    if (o->lo != 0 && n == o->hi + 1) {
        o->hi = n;
        return;
    }
    imap_set_flush(o, b);
    o->lo = n;
    o->hi = n;
}
