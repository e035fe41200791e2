/*
 * authworker: the only part of sign-in that is root.  Each check runs in a
 * child of its own, so that what PAM's modules leave behind, and the time they
 * take, is nobody else's.
 */
#include "auth/auth_priv.h"

#include "ipc/event.h"
#include "ipc/ipc.h"
#include "rt/proc.h"

#include <fcntl.h>

#define CHECK_MS   50000
#define OUTPUT_MAX 2000

/* The password out of its pipe, whose writer has gone. */
static int read_password(int fd, struct buf *out, struct err *err)
{
    for (;;) {
        char *room = buf_reserve(out, 512);
        ssize_t n = room != NULL ? read(fd, room, 512) : -1;

        if (n == 0)
            return 0;
        if (n < 0)
            return err_temp(err, "the password did not come");
        buf_commit(out, (size_t)n);
    }
}

static void put_part(struct buf *b, slice body, uint16_t tag)
{
    slice v = SLICE_NONE;

    (void)attr_find(body, tag, &v);
    (void)buf_slice(b, v);
    (void)buf_byte(b, '\0');
}

MAY_WAIT static int check(struct msg *m, struct buf *answer, struct err *err)
{
    const char *argv[] = { "hato: authcheck", NULL };
    /* A build with sanitizers is told what its tracer cannot do here. */
    const char *asan = getenv("ASAN_OPTIONS");
    char *options CLEANUP(free_ptr) =
        asan != NULL ? xasprintf("ASAN_OPTIONS=%s", asan) : NULL;
    const char *envp[] = { "PATH=/usr/sbin:/usr/bin:/sbin:/bin", options,
                           NULL };
    struct proc_spec spec = {
        .path = "/proc/self/exe",
        .argv = argv,
        .envp = envp,
        .chdir = "/",
        .uid = (uid_t)-1,
        .gid = (gid_t)-1,
        .new_session = true,
        .die_with_parent = true,
    };
    struct buf in, out;
    int status = -1, rc;
    slice text;

    buf_init(&in, 16384);
    buf_init(&out, OUTPUT_MAX);
    put_part(&in, m->body, AT_KIND);
    put_part(&in, m->body, AT_SERVICE_NAME);
    put_part(&in, m->body, AT_NAME);
    put_part(&in, m->body, AT_REMOTE);
    rc = m->n_fds == 1 ? read_password(m->fds[0], &in, err)
                       : err_perm(err, "no password");
    if (rc == 0)
        rc = proc_run(&spec, buf_view(&in), &out, clock_after(CHECK_MS),
                      &status, err);
    text = slice_trim(buf_view(&out));
    if (rc == 0 &&
        (status != 0 || text.n == 0 || text.p[0] < '0' || text.p[0] > '9'))
        rc = err_temp(err, "a check ended with status %d: %.*s", status,
                      SLF(slice_sub(text, 0, 100)));
    if (rc == 0) {
        (void)attr_put_u64(answer, AT_OUTCOME, (uint64_t)(text.p[0] - '0'));
        (void)attr_put(answer, AT_REASON, slice_trim(slice_from(text, 1)));
    }
    if (in.p != NULL)
        explicit_bzero(in.p, in.size);
    buf_done(&in);
    buf_done(&out);
    return rc;
}

MAY_WAIT static void serve(struct chan *c, struct msg *m, void *arg UNUSED)
{
    struct chan *held = chan_ref(c);
    struct buf answer;
    struct err err;

    buf_init(&answer, 4096);
    if (m->type != AUTH_CHECK) {
        err_perm(&err, "authworker does not answer this");
        chan_fail(held, m->id, &err);
    } else if (check(m, &answer, &err) < 0) {
        log_warning("%s", err.log);
        chan_fail(held, m->id, &err);
    } else {
        chan_answer(held, m->id, buf_view(&answer), NULL, 0);
    }
    chan_unref(&held);
    buf_done(&answer);
}

static void on_close(struct chan *c, void *arg UNUSED)
{
    chan_free(&c);
}

void authworker_serve(int fd, unsigned max)
{
    static struct chan_ops ops = { .serve = serve, .on_close = on_close };

    ops.max_tasks = max;
    (void)chan_new(fd, &ops, NULL);
}
