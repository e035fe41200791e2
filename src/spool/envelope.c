#include "spool/envelope.h"

#include "base/codec.h"

/* Attributes of the encoded form; doc/spool.md, "Envelope".  Numbers are never
 * used again. */
enum {
    E_SEQ = 1,
    E_ARRIVAL = 2, /* microseconds */
    E_SENDER = 3,
    E_RCPT = 4, /* nested R_*; repeated */
    E_RET = 5,
    E_ENVID = 6,
    E_FLAGS = 7,
    E_CLIENT_NAME = 8,
    E_CLIENT_ADDR = 9,
    E_CLIENT_PORT = 10,
    E_HELO = 11,
    E_PROTOCOL = 12,
    E_LOGIN = 13,
    E_SERVICE = 14,
    E_MESSAGE_ID = 15,
    E_SIZE = 16,
    E_HEADERS = 17,
    E_FILTER = 18,
    E_REDIRECT = 19,
    E_WARNING = 20,
    E_SETTLES = 21, /* u64 seq, u32 recipient; repeated */
    E_BODY_BYTES = 22,
    E_VERP = 23,
};

/* Inside E_RCPT. */
enum {
    R_ADDR = 1,
    R_ORIG = 2,
    R_ORCPT = 3,
    R_NOTIFY = 4,
};

void envelope_make_id(struct envelope *e)
{
    mail_queue_id_format(e->arrival_usec / 1000000,
                         (uint32_t)(e->arrival_usec % 1000000), e->seq, e->id);
}

static void put_text(struct buf *b, uint16_t tag, slice s)
{
    if (s.n > 0)
        (void)attr_put(b, tag, s);
}

static void put_number(struct buf *b, uint16_t tag, uint64_t v)
{
    if (v != 0)
        (void)attr_put_u64(b, tag, v);
}

static void put_rcpt(struct buf *b, const struct envelope_rcpt *r)
{
    size_t at = b->n;

    /* The length is known only behind it. */
    (void)attr_put(b, E_RCPT | ATTR_MUST, SLICE_NONE);
    (void)attr_put(b, R_ADDR, r->addr);
    put_text(b, R_ORIG, r->orig);
    put_text(b, R_ORCPT, r->orcpt);
    put_number(b, R_NOTIFY, r->notify);
    if (!b->overflow)
        set_u32(b->p + at + 2, (uint32_t)(b->n - at - 6));
}

bool envelope_encode(struct buf *b, const struct envelope *e)
{
    (void)attr_put_u64(b, E_SEQ | ATTR_MUST, e->seq);
    (void)attr_put_u64(b, E_ARRIVAL, (uint64_t)e->arrival_usec);
    (void)attr_put(b, E_SENDER | ATTR_MUST, e->sender);
    for (size_t i = 0; i < e->n_rcpts; i++)
        put_rcpt(b, &e->rcpts[i]);
    put_number(b, E_RET, e->ret);
    put_text(b, E_ENVID, e->envid);
    put_text(b, E_VERP, e->verp);
    put_number(b, E_FLAGS, e->flags);
    put_text(b, E_CLIENT_NAME, e->client_name);
    put_text(b, E_CLIENT_ADDR, e->client_addr);
    put_number(b, E_CLIENT_PORT, e->client_port);
    put_text(b, E_HELO, e->helo);
    put_text(b, E_PROTOCOL, e->protocol);
    put_text(b, E_LOGIN, e->login);
    put_text(b, E_SERVICE, e->service);
    put_text(b, E_MESSAGE_ID, e->message_id);
    put_number(b, E_SIZE, e->size);
    put_text(b, E_HEADERS | ATTR_MUST, e->headers);
    put_text(b, E_FILTER | ATTR_MUST, e->filter);
    put_text(b, E_REDIRECT, e->redirect);
    put_text(b, E_WARNING, e->warning);
    for (size_t i = 0; i < e->n_settles; i++) {
        uint8_t raw[12];

        set_u64(raw, e->settles[i].seq);
        set_u32(raw + 8, e->settles[i].rcpt);
        (void)attr_put(b, E_SETTLES, slice_of(raw, sizeof raw));
    }
    put_number(b, E_BODY_BYTES, e->body_bytes);
    return !b->overflow;
}

/* ---------------------------------------------------------------- decoding */

struct decode {
    struct arena *arena;
    bool copy;
    struct envelope *e;
    struct envelope_settles *settles; /* e->settles, while it is filled */
    size_t rcpts_size;
    size_t settles_size;
};

static bool get_text(const struct decode *d, slice v, slice *out)
{
    if (!d->copy || v.n == 0) {
        *out = v;
        return true;
    }
    *out = slice_dup(d->arena, v);
    return out->p != NULL;
}

static bool get_number(const struct attr *a, uint64_t max, uint64_t *out)
{
    uint64_t v;

    if (!attr_u64(a, &v) || v > max)
        return false;
    *out = v;
    return true;
}

static bool get_rcpt(const struct decode *d, slice in,
                     struct envelope_rcpt *out)
{
    bool has_addr = false;
    struct attr a;
    uint64_t n;
    int r;

    while ((r = attr_next(&in, &a)) == 1) {
        bool ok = true;

        if (a.tag == R_ADDR)
            ok = has_addr = get_text(d, a.v, &out->addr);
        else if (a.tag == R_ORIG)
            ok = get_text(d, a.v, &out->orig);
        else if (a.tag == R_ORCPT)
            ok = get_text(d, a.v, &out->orcpt);
        else if (a.tag == R_NOTIFY)
            ok = get_number(&a, 15, &n) && (out->notify = (uint32_t)n, true);
        else
            ok = !a.must;
        if (!ok)
            return false;
    }
    return r == 0 && has_addr;
}

static bool add_rcpt(struct decode *d, const struct attr *a)
{
    struct envelope *e = d->e;

    if (e->n_rcpts == d->rcpts_size)
        return false; /* counted before: cannot be */
    return get_rcpt(d, a->v, &e->rcpts[e->n_rcpts++]);
}

static bool add_settles(struct decode *d, const struct attr *a)
{
    struct envelope *e = d->e;

    if (a->v.n != 12 || e->n_settles == d->settles_size)
        return false;
    d->settles[e->n_settles].seq = get_u64(a->v.p);
    d->settles[e->n_settles++].rcpt = get_u32(a->v.p + 8);
    return true;
}

static bool decode_number(struct envelope *e, const struct attr *a)
{
    uint64_t n;

    switch (a->tag) {
    case E_SEQ:
        return get_number(a, UINT64_MAX, &e->seq);
    case E_ARRIVAL:
        if (!get_number(a, INT64_MAX, &n))
            return false;
        e->arrival_usec = (int64_t)n;
        return true;
    case E_RET:
        if (!get_number(a, ENV_RET_HDRS, &n))
            return false;
        e->ret = (enum envelope_ret)n;
        return true;
    case E_FLAGS:
        if (!get_number(a, UINT32_MAX, &n))
            return false;
        e->flags = (uint32_t)n;
        return true;
    case E_CLIENT_PORT:
        if (!get_number(a, UINT16_MAX, &n))
            return false;
        e->client_port = (uint16_t)n;
        return true;
    case E_SIZE:
        return get_number(a, INT64_MAX, &e->size);
    default: /* E_BODY_BYTES */
        return get_number(a, INT64_MAX, &e->body_bytes);
    }
}

static slice *text_field(struct envelope *e, uint16_t tag)
{
    switch (tag) {
    case E_SENDER:
        return &e->sender;
    case E_ENVID:
        return &e->envid;
    case E_VERP:
        return &e->verp;
    case E_CLIENT_NAME:
        return &e->client_name;
    case E_CLIENT_ADDR:
        return &e->client_addr;
    case E_HELO:
        return &e->helo;
    case E_PROTOCOL:
        return &e->protocol;
    case E_LOGIN:
        return &e->login;
    case E_SERVICE:
        return &e->service;
    case E_MESSAGE_ID:
        return &e->message_id;
    case E_HEADERS:
        return &e->headers;
    case E_FILTER:
        return &e->filter;
    case E_REDIRECT:
        return &e->redirect;
    case E_WARNING:
        return &e->warning;
    default:
        return NULL;
    }
}

static bool decode_one(struct decode *d, const struct attr *a)
{
    slice *text;

    switch (a->tag) {
    case E_RCPT:
        return add_rcpt(d, a);
    case E_SETTLES:
        return add_settles(d, a);
    case E_SEQ:
    case E_ARRIVAL:
    case E_RET:
    case E_FLAGS:
    case E_CLIENT_PORT:
    case E_SIZE:
    case E_BODY_BYTES:
        return decode_number(d->e, a);
    default:
        text = text_field(d->e, a->tag);
        return text != NULL ? get_text(d, a->v, text) : !a->must;
    }
}

/* Arrays are sized before they are filled, and so bound by what is there. */
static int count_lists(slice in, size_t *n_rcpts, size_t *n_settles)
{
    struct attr a;
    int r;

    *n_rcpts = *n_settles = 0;
    while ((r = attr_next(&in, &a)) == 1) {
        *n_rcpts += a.tag == E_RCPT;
        *n_settles += a.tag == E_SETTLES;
    }
    return r == 0 && *n_rcpts <= ENVELOPE_MAX_RCPTS ? 0 : -1;
}

int envelope_decode(slice in, struct arena *a, bool copy, struct envelope *out,
                    struct err *err)
{
    struct envelope e = { 0 };
    struct decode d = { .arena = a, .copy = copy, .e = &e };
    struct attr at;

    if (in.n > ENVELOPE_MAX_BYTES ||
        count_lists(in, &d.rcpts_size, &d.settles_size) < 0)
        return err_temp(err, "damaged envelope");
    if (d.rcpts_size > 0)
        e.rcpts = arena_alloc(a, d.rcpts_size * sizeof *e.rcpts);
    if (d.settles_size > 0)
        d.settles = arena_alloc(a, d.settles_size * sizeof *d.settles);
    if ((d.rcpts_size > 0 && e.rcpts == NULL) ||
        (d.settles_size > 0 && d.settles == NULL))
        return err_temp(err, "envelope too large for its memory");
    e.settles = d.settles;
    while (attr_next(&in, &at) == 1) {
        if (!decode_one(&d, &at))
            return err_temp(err, "damaged envelope (attribute %u)", at.tag);
    }
    envelope_make_id(&e);
    *out = e;
    return 0;
}
