#include "table/table_priv.h"

#include "base/digest.h"
#include "ipc/socketmap.h"
#include "rt/rt.h"
#include "rt/stream.h"

/* socketmap_table(5) and tcp_table(5) servers: one connection per table, kept
 * open, one question at a time; a question on a stale connection is asked once
 * more on a fresh one. */

#define REMOTE_MS       10000
#define REMOTE_LINE_MAX 4096

struct remote {
    struct stream *s;
    struct sema one;
};

void remote_free(void *data)
{
    struct remote *r = data;

    stream_free(&r->s);
    free(r);
}

/* "inet:localhost:1234" -> "inet:127.0.0.1:1234": there is no resolver here. */
static slice numeric(struct arena *a, slice where)
{
    char *text;

    if (!slice_starts(where, SL("inet:localhost:")))
        return where;
    text = arena_printf(a, "inet:127.0.0.1:%.*s", SLF(slice_from(where, 15)));
    return text != NULL ? slice_str(text) : where;
}

MAY_WAIT static int remote_open(struct table *t, struct remote *r, slice where,
                                msec deadline, struct err *err)
{
    int fd;

    if (r->s != NULL)
        return 0;
    if (socket_connect(where, deadline, &fd, err) < 0)
        return err_prefix(err, "table %s", t->whole);
    r->s = stream_from_fd(fd);
    stream_limits(r->s, SOCKETMAP_MAX + 64, SOCKETMAP_MAX + 64);
    return 0;
}

/* ---- socketmap */

static int sm_answer(struct table *t, slice text, struct arena *a, slice *value,
                     struct err *err)
{
    enum socketmap_answer what;
    slice found;

    if (!socketmap_answer_parse(text, &what, &found))
        return err_temp(err, "table %s: malformed answer", t->whole);
    if (what == SM_NOTFOUND) {
        *value = SLICE_NONE;
        return 0;
    }
    if (what != SM_OK)
        return err_temp(err, "table %s: %.*s", t->whole,
                        SLF(slice_sub(found, 0, 100)));
    *value = slice_dup(a, found);
    if (value->p == NULL)
        return err_temp(err, "table %s: no memory for the value", t->whole);
    return 0;
}

MAY_WAIT static int sm_ask(struct table *t, struct remote *r, slice key,
                           struct arena *a, slice *value, struct err *err)
{
    struct buf request CLEANUP(buf_done);
    struct buf framed CLEANUP(buf_done);
    ssize_t colon = slice_rchr(t->name, ':');

    buf_init(&request, SOCKETMAP_MAX);
    buf_init(&framed, SOCKETMAP_MAX + 64);
    buf_slice(&request, slice_from(t->name, (size_t)(colon + 1)));
    buf_byte(&request, ' ');
    buf_slice(&request, key);
    if (request.overflow || !socketmap_put(&framed, buf_view(&request)))
        return err_temp(err, "table %s: key too long", t->whole);
    if (stream_write(r->s, buf_view(&framed), err) < 0 ||
        stream_flush(r->s, err) < 0)
        return -1;
    for (;;) {
        slice in = stream_peek(r->s);
        size_t before = in.n;
        slice text;
        int rc = socketmap_get(&in, &text);

        if (rc < 0)
            return err_temp(err, "table %s: malformed answer", t->whole);
        if (rc > 0) {
            rc = sm_answer(t, text, a, value, err);
            stream_consume(r->s, before - in.n);
            return rc;
        }
        if (stream_fill(r->s, err) < 0)
            return -1;
        if (stream_eof(r->s))
            return err_peer(err, "table %s: connection closed", t->whole);
    }
}

/* ---- tcp */

static void percent_put(struct buf *b, slice s)
{
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];

        if (c <= ' ' || c == '%' || c >= 127)
            buf_printf(b, "%%%02x", c);
        else
            buf_byte(b, s.p[i]);
    }
}

static bool percent_get(struct buf *b, slice s)
{
    for (size_t i = 0; i < s.n; i++) {
        uint8_t c;

        if (s.p[i] != '%') {
            buf_byte(b, s.p[i]);
            continue;
        }
        if (i + 2 >= s.n || !hex_get(slice_sub(s, i + 1, 2), &c, 1))
            return false;
        buf_byte(b, (char)c);
        i += 2;
    }
    return !b->overflow;
}

static int tcp_answer(struct table *t, slice line, struct arena *a,
                      slice *value, struct err *err)
{
    struct buf text CLEANUP(buf_done);
    slice rest = slice_rtrim(line);
    slice code = slice_sub(rest, 0, 3);

    buf_init(&text, REMOTE_LINE_MAX);
    if (rest.n < 4 || rest.p[3] != ' ' ||
        !percent_get(&text, slice_from(rest, 4)))
        return err_temp(err, "table %s: malformed answer", t->whole);
    if (slice_eqs(code, "500")) {
        *value = SLICE_NONE;
        return 0;
    }
    if (!slice_eqs(code, "200"))
        return err_temp(err, "table %s: %s", t->whole, buf_cstr(&text));
    *value = slice_dup(a, buf_view(&text));
    if (value->p == NULL)
        return err_temp(err, "table %s: no memory for the value", t->whole);
    return 0;
}

MAY_WAIT static int tcp_ask(struct table *t, struct remote *r, slice key,
                            struct arena *a, slice *value, struct err *err)
{
    struct buf request CLEANUP(buf_done);
    slice line;

    buf_init(&request, REMOTE_LINE_MAX);
    buf_puts(&request, "get ");
    percent_put(&request, key);
    if (!buf_byte(&request, '\n'))
        return err_temp(err, "table %s: key too long", t->whole);
    if (stream_write(r->s, buf_view(&request), err) < 0 ||
        stream_flush(r->s, err) < 0 ||
        stream_line(r->s, REMOTE_LINE_MAX, &line, err) < 0)
        return -1;
    return tcp_answer(t, line, a, value, err);
}

/* ---- both */

MAY_WAIT static int remote_ask(struct table *t, struct remote *r, slice key,
                               struct arena *a, slice *value, struct err *err)
{
    bool is_tcp = slice_eqs(t->type, "tcp");
    ssize_t colon = slice_rchr(t->name, ':');
    msec deadline = clock_after(REMOTE_MS);
    slice where = t->name;
    int rc = -1;

    if (is_tcp) {
        char *text = arena_printf(a, "inet:%.*s", SLF(t->name));

        where = text != NULL ? slice_str(text) : t->name;
    } else if (colon > 0) {
        where = slice_sub(t->name, 0, (size_t)colon);
    }
    where = numeric(a, where);
    for (int tries = 0; tries < 2 && rc < 0; tries++) {
        bool was_open = r->s != NULL;

        if (remote_open(t, r, where, deadline, err) < 0)
            return -1;
        stream_deadline(r->s, deadline);
        rc = is_tcp ? tcp_ask(t, r, key, a, value, err)
                    : sm_ask(t, r, key, a, value, err);
        if (rc < 0)
            stream_free(&r->s);
        if (!was_open || task_is_cancelled())
            break;
    }
    return rc;
}

int remote_lookup(struct table *t, slice key, struct arena *a, slice *value,
                  struct err *err)
{
    struct remote *r = t->data;
    int rc;

    if (r == NULL) {
        r = xcalloc(1, sizeof(*r));
        sema_init(&r->one, 1);
        t->data = r;
    }
    if (sema_down(&r->one, clock_after(REMOTE_MS), err) < 0)
        return err_prefix(err, "table %s", t->whole);
    rc = remote_ask(t, r, key, a, value, err);
    sema_up(&r->one);
    /* A server that hung up is our trouble, not the client's end. */
    if (rc < 0 && !task_is_cancelled())
        err->class = ERR_TEMP;
    return rc;
}
