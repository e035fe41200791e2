#include "ipc/chan_priv.h"
#include "ipc/proto.h"

int frame_parse(slice in, struct frame *out)
{
    uint32_t n;

    if (in.n < FRAME_HEADER)
        return 0;
    n = get_u32(in.p);
    if (n > CHAN_MAX_BYTES || (uint8_t)in.p[7] > CHAN_MAX_FDS)
        return -1;
    if (in.n - FRAME_HEADER < n)
        return 0;
    out->type = get_u16(in.p + 4);
    out->flags = (uint8_t)in.p[6];
    out->n_fds = (uint8_t)in.p[7];
    out->id = get_u32(in.p + 8);
    out->body = slice_of(in.p + FRAME_HEADER, n);
    out->size = FRAME_HEADER + n;
    return 1;
}

void frame_header(char dst[static FRAME_HEADER], const struct frame *f)
{
    set_u32(dst, (uint32_t)f->body.n);
    set_u16(dst + 4, f->type);
    dst[6] = (char)f->flags;
    dst[7] = (char)f->n_fds;
    set_u32(dst + 8, f->id);
}

void frame_put(struct buf *b, const struct frame *f)
{
    char head[FRAME_HEADER];

    frame_header(head, f);
    buf_put(b, head, sizeof head);
    buf_slice(b, f->body);
}

void frame_put_hello(struct buf *b)
{
    struct buf body;
    struct frame f = { .type = MSG_HELLO };

    buf_init(&body, 64);
    attr_put_u64(&body, AT_RELEASE, CHAN_RELEASE);
    attr_put_u64(&body, AT_FEATURES, CHAN_FEATURES);
    f.body = buf_view(&body);
    frame_put(b, &f);
    buf_done(&body);
}

bool frame_hello_ok(const struct frame *f, uint64_t *features_out)
{
    uint64_t release;

    if (f->type != MSG_HELLO || !attr_find_u64(f->body, AT_RELEASE, &release) ||
        release + 1 < CHAN_RELEASE || release > CHAN_RELEASE + 1)
        return false;
    *features_out = attr_u64_or(f->body, AT_FEATURES, 0);
    return true;
}

void frame_put_err(struct buf *b, const struct err *why)
{
    attr_put_u64(b, AT_CLASS, (uint64_t)why->class);
    attr_put_str(b, AT_STATUS, why->status);
    attr_put_str(b, AT_TEXT, why->peer);
    attr_put_str(b, AT_LOGTEXT, why->log);
}

int frame_get_err(slice body, struct err *err)
{
    slice status = SLICE_NONE, text = SLICE_NONE, log = SLICE_NONE;
    uint64_t class = attr_u64_or(body, AT_CLASS, ERR_TEMP);
    char code[8] = "";

    attr_find(body, AT_STATUS, &status);
    attr_find(body, AT_TEXT, &text);
    attr_find(body, AT_LOGTEXT, &log);
    if (!slice_copy_to(status, code, sizeof code))
        code[0] = '\0';
    err_set(err, class == ERR_PERM ? ERR_PERM : ERR_TEMP, code, "%.*s",
            SLF(text));
    if (log.n > 0)
        err_log(err, "%.*s", SLF(log));
    return -1;
}

struct msg *msg_take(struct msg *m)
{
    struct msg *copy = xcalloc(1, sizeof *copy);

    *copy = *m;
    if (m->heap == NULL && m->body.n > 0) {
        copy->heap = xmalloc(m->body.n);
        memcpy(copy->heap, m->body.p, m->body.n);
        copy->body.p = copy->heap;
    }
    m->heap = NULL;
    m->n_fds = 0;
    return copy;
}

void msg_free(struct msg *m)
{
    for (size_t i = 0; i < m->n_fds; i++)
        if (m->fds[i] >= 0)
            close(m->fds[i]);
    m->n_fds = 0;
    free(m->heap);
    m->heap = NULL;
    m->body = SLICE_NONE;
}

void msg_delete(struct msg **m)
{
    if (*m == NULL)
        return;
    msg_free(*m);
    free(*m);
    *m = NULL;
}
