#include "ipc/auth_client.h"

#include "base/digest.h"
#include "base/map.h"
#include "ipc/auth_line.h"
#include "ipc/event.h"
#include "rt/rt.h"

#include <strings.h>

/*
 * One task reads the connection and wakes who waits for the answer; one writes
 * what was collected, as long as there is something.  Both buffers are our own,
 * not a stream's, since they hold passwords and must be wiped.
 */
#define IN_BYTES       ((size_t)2 * AUTH_LINE_MAX)
#define OUT_MAX_BYTES  (4u << 20)
#define REQUESTS_MAX   20000
#define MECHS_MAX      32
#define CONNECT_MAX_MS 10000

struct mech {
    char name[32];
    bool is_plaintext;
    bool is_private;
    bool is_bound; /* to the channel */
};

struct auth_client {
    struct process *p;
    int fd; /* -1: none */
    bool is_ready, is_freed, is_connecting;
    bool is_reading, is_writing, is_readable;
    struct task *reader; /* while is_reading */
    struct fd_watch *watch;
    uint32_t epoch; /* which connection this is */
    uint32_t next_id;
    struct mech mechs[MECHS_MAX];
    size_t n_mechs;
    struct imap requests;
    struct waitq changed; /* ready, or the connection failed */
    struct buf out;
    char shown[512]; /* what auth_client_mechs() gives */
};

struct auth_request {
    struct imap_node node;
    struct auth_client *c;
    struct task *waiter;
    struct auth_answer *answer; /* of the wait that is under way */
    bool has_answer;
    bool is_broken; /* its connection is gone */
    bool is_over;   /* auth has ended it by itself */
};

static void wipe(struct buf *b)
{
    if (b->p != NULL)
        explicit_bzero(b->p, b->size);
    buf_clear(b);
}

void auth_answer_done(struct auth_answer *a)
{
    wipe(&a->text);
    buf_done(&a->text);
    explicit_bzero(a->ticket, sizeof a->ticket);
}

/* ---- the connection */

static void maybe_gone(struct auth_client *c)
{
    if (!c->is_freed || c->is_reading || c->is_writing || c->is_connecting)
        return;
    imap_done(&c->requests);
    wipe(&c->out);
    buf_done(&c->out);
    free(c);
}

/* The connection is no more: who waits learns it. */
static void drop(struct auth_client *c)
{
    size_t pos = 0;
    struct imap_node *n = NULL;

    fd_watch_free(&c->watch);
    close_fd(&c->fd);
    c->is_ready = false;
    c->epoch++;
    if (c->is_reading && c->reader != NULL)
        task_wake(c->reader);
    wipe(&c->out);
    while ((n = imap_next(&c->requests, &pos, n)) != NULL) {
        struct auth_request *r = CONTAINER_OF(n, struct auth_request, node);

        r->is_broken = true;
        if (r->waiter != NULL)
            task_wake(r->waiter);
    }
    waitq_wake_all(&c->changed);
}

MAY_WAIT static void write_task(void *arg)
{
    struct auth_client *c = arg;
    uint32_t epoch = c->epoch;

    while (c->epoch == epoch && c->out.n > 0) {
        ssize_t n = write(c->fd, c->out.p, c->out.n);

        if (n > 0) {
            explicit_bzero(c->out.p, (size_t)n);
            buf_consume(&c->out, (size_t)n);
        } else if ((errno != EAGAIN && errno != EINTR) ||
                   (errno == EAGAIN &&
                    fd_wait(c->fd, WATCH_WRITE, clock_after(30000), NULL) < 0 &&
                    c->epoch == epoch)) {
            drop(c);
        }
    }
    if (c->out.n == 0)
        wipe(&c->out);
    c->is_writing = false;
    maybe_gone(c);
}

static void kick_writer(struct auth_client *c)
{
    if (c->is_writing || c->out.n == 0 || c->fd < 0)
        return;
    c->is_writing = true;
    task_spawn("auth-write", write_task, c);
}

/* ---- what the server says */

static bool on_version(struct auth_client *c, slice rest)
{
    slice major;

    (void)c;
    return auth_field(&rest, &major) && slice_eqs(major, "1");
}

static bool on_mech(struct auth_client *c, slice rest)
{
    struct mech *m = &c->mechs[c->n_mechs];
    slice field;

    if (c->n_mechs == MECHS_MAX)
        return true;
    *m = (struct mech){ .is_plaintext = false };
    if (!auth_field(&rest, &field) ||
        !slice_copy_to(field, m->name, sizeof m->name))
        return true; /* a name as long as that is none of ours */
    while (auth_field(&rest, &field)) {
        m->is_plaintext |= slice_eqs(field, "plaintext");
        m->is_private |= slice_eqs(field, "private");
        m->is_bound |= slice_eqs(field, "channel-binding");
    }
    c->n_mechs++;
    return true;
}

static bool on_done(struct auth_client *c, slice rest UNUSED)
{
    c->is_ready = true;
    waitq_wake_all(&c->changed);
    return true;
}

static struct auth_request *request_of(struct auth_client *c, slice *rest)
{
    struct imap_node *n = NULL;
    slice field;
    uint64_t id;

    if (auth_field(rest, &field) && slice_u64(field, &id))
        n = imap_get(&c->requests, id);
    return n != NULL ? CONTAINER_OF(n, struct auth_request, node) : NULL;
}

/* An end that nobody waits for: the dialogue took too long.  True when the line
 * says nothing to this request. */
static bool is_unasked(struct auth_request *r)
{
    if (r == NULL)
        return true;
    if (r->answer == NULL)
        r->is_over = true;
    return r->answer == NULL || r->has_answer;
}

static void answered(struct auth_request *r, enum auth_result result)
{
    r->answer->result = result;
    r->has_answer = true;
    if (r->waiter != NULL)
        task_wake(r->waiter);
}

static bool on_cont(struct auth_client *c, slice rest)
{
    struct auth_request *r = request_of(c, &rest);
    slice data = SLICE_NONE;

    if (r == NULL || r->answer == NULL || r->has_answer)
        return true; /* aborted, or not asked for */
    (void)auth_field(&rest, &data);
    buf_clear(&r->answer->text);
    if (!base64_get(&r->answer->text, data))
        return false;
    answered(r, AUTH_CONTINUE);
    return true;
}

static void take_user(struct auth_answer *a, slice value)
{
    if (!slice_copy_to(value, a->user, sizeof a->user))
        a->user[0] = '\0';
}

static bool on_ok(struct auth_client *c, slice rest)
{
    struct auth_request *r = request_of(c, &rest);
    struct arena *a CLEANUP(arena_free) = NULL;
    slice field, key, value;

    if (is_unasked(r))
        return true;
    a = arena_new((size_t)AUTH_LINE_MAX * 2);
    while (auth_field(&rest, &field)) {
        auth_key(field, &key, &value);
        if (slice_eqs(key, "user"))
            take_user(r->answer, auth_unescape(a, value));
        else if (slice_eqs(key, "ticket"))
            r->answer->has_ticket =
                hex_get(value, r->answer->ticket, sizeof r->answer->ticket);
        else if (slice_eqs(key, "resp")) {
            buf_clear(&r->answer->text);
            (void)base64_get(&r->answer->text, value);
        }
    }
    if (r->answer->user[0] == '\0')
        return false; /* nobody is not somebody */
    answered(r, AUTH_OK);
    return true;
}

static bool on_fail(struct auth_client *c, slice rest)
{
    struct auth_request *r = request_of(c, &rest);
    struct arena *a CLEANUP(arena_free) = NULL;
    enum auth_result result = AUTH_FAIL;
    slice field, key, value;

    if (is_unasked(r))
        return true;
    a = arena_new((size_t)AUTH_LINE_MAX * 2);
    buf_clear(&r->answer->text);
    while (auth_field(&rest, &field)) {
        auth_key(field, &key, &value);
        if (slice_eqs(key, "user"))
            take_user(r->answer, auth_unescape(a, value));
        else if (slice_eqs(key, "reason"))
            (void)buf_slice(&r->answer->text, auth_unescape(a, value));
        else if (slice_eqs(key, "code"))
            (void)slice_copy_to(value, r->answer->code, sizeof r->answer->code);
        else if (slice_eqs(key, "temp"))
            result = AUTH_TEMP;
        else if (slice_eqs(key, "authz"))
            (void)slice_copy_to(SL("authz_fail"), r->answer->code,
                                sizeof r->answer->code);
        else if (slice_eqs(key, "user_disabled") ||
                 slice_eqs(key, "pass_expired"))
            (void)slice_copy_to(key, r->answer->code, sizeof r->answer->code);
    }
    if (strcmp(r->answer->code, "temp_fail") == 0)
        result = AUTH_TEMP;
    answered(r, result);
    return true;
}

static const struct {
    const char *name;
    bool (*fn)(struct auth_client *c, slice rest);
} lines[] = {
    { "OK", on_ok },           { "FAIL", on_fail }, { "CONT", on_cont },
    { "VERSION", on_version }, { "MECH", on_mech }, { "DONE", on_done },
};

/* False: what came is not this protocol. */
static bool on_line(struct auth_client *c, slice line)
{
    slice rest = line;
    slice word;

    if (!auth_field(&rest, &word))
        return true;
    for (size_t i = 0; i < ARRAY_LEN(lines); i++)
        if (slice_eqs(word, lines[i].name))
            return lines[i].fn(c, rest);
    return true; /* SPID, CUID, COOKIE, and what comes later */
}

static bool take_lines(struct auth_client *c, struct buf *in)
{
    slice rest = buf_view(in);
    size_t used = 0;
    slice line;

    while (slice_cut(&rest, '\n', &line)) {
        used += line.n + 1;
        if (!on_line(c, line))
            return false;
    }
    explicit_bzero(in->p, used);
    buf_consume(in, used);
    return in->n < AUTH_LINE_MAX;
}

static void on_readable(void *arg, int events UNUSED)
{
    struct auth_client *c = arg;

    c->is_readable = true;
    task_wake(c->reader);
}

MAY_WAIT static void read_task(void *arg)
{
    struct auth_client *c = arg;
    uint32_t epoch = c->epoch;
    struct buf in;

    buf_init(&in, IN_BYTES);
    c->reader = task_self();
    c->is_readable = false;
    if (c->fd >= 0)
        c->watch = fd_watch_new(c->fd, WATCH_READ, on_readable, c);
    while (c->fd >= 0 && c->epoch == epoch) {
        char *p;
        ssize_t n;

        if (!c->is_readable && task_wait(MSEC_NEVER, NULL) == 0)
            continue;
        if (c->epoch != epoch)
            break;
        p = buf_reserve(&in, AUTH_LINE_MAX);
        n = read(c->fd, p, AUTH_LINE_MAX);
        c->is_readable = false; /* the watch says it again if there is more */
        if (n > 0) {
            buf_commit(&in, (size_t)n);
            if (!take_lines(c, &in)) {
                log_warning("auth: a line that is not of its protocol");
                drop(c);
            }
        } else if (n == 0 || (errno != EAGAIN && errno != EINTR) ||
                   task_is_cancelled()) {
            drop(c);
        }
    }
    wipe(&in);
    buf_done(&in);
    c->is_reading = false;
    c->reader = NULL;
    waitq_wake_all(&c->changed);
    maybe_gone(c);
}

MAY_WAIT static void connect_task(void *arg)
{
    struct auth_client *c = arg;
    struct err err;
    int fd = -1;
    int rc =
        process_connect(c->p, PT_AUTH, clock_after(CONNECT_MAX_MS), &fd, &err);

    c->is_connecting = false;
    if (rc < 0 || c->is_freed) {
        close_fd(&fd);
        if (!c->is_freed)
            waitq_wake_all(&c->changed);
        maybe_gone(c);
        return;
    }
    c->fd = fd;
    c->n_mechs = 0;
    c->is_reading = true;
    (void)buf_printf(&c->out, "VERSION\t1\t2\nCPID\t%d\n", (int)getpid());
    kick_writer(c);
    task_spawn("auth-read", read_task, c);
}

/* Wait for a connection whose greeting is complete. */
MAY_WAIT static int ready(struct auth_client *c, msec deadline, struct err *err)
{
    while (!c->is_ready) {
        /* The reader of the last connection must have gone. */
        if (c->fd < 0 && !c->is_connecting && !c->is_reading &&
            !c->is_writing) {
            c->is_connecting = true;
            task_spawn("auth-connect", connect_task, c);
        }
        if (waitq_wait(&c->changed, deadline, err) < 0)
            return err_prefix(err, "no connection to auth");
    }
    return 0;
}

struct auth_client *auth_client_new(struct process *p)
{
    struct auth_client *c = xcalloc(1, sizeof *c);

    c->p = p;
    c->fd = -1;
    c->next_id = 1;
    imap_init(&c->requests);
    waitq_init(&c->changed);
    buf_init(&c->out, OUT_MAX_BYTES);
    return c;
}

void auth_client_free(struct auth_client **pc)
{
    struct auth_client *c = *pc;

    *pc = NULL;
    if (c == NULL)
        return;
    CHECK(c->requests.n == 0);
    c->is_freed = true;
    drop(c);
    maybe_gone(c);
}

int auth_client_mechs(struct auth_client *c, bool secured, bool is_bound,
                      slice *out, struct err *err)
{
    bool hide =
        !secured && conf_bool(c->p->conf, NULL, "disable_plaintext_auth");
    size_t n = 0;

    if (ready(c, clock_after(CONNECT_MAX_MS), err) < 0)
        return -1;
    c->shown[0] = '\0';
    for (size_t i = 0; i < c->n_mechs; i++) {
        const struct mech *m = &c->mechs[i];
        int got;

        if (m->is_private || (hide && m->is_plaintext) ||
            (m->is_bound && !is_bound))
            continue;
        got = snprintf(c->shown + n, sizeof c->shown - n, "%s%s",
                       n > 0 ? " " : "", m->name);
        if (got < 0 || (size_t)got >= sizeof c->shown - n)
            break;
        n += (size_t)got;
    }
    *out = (slice){ c->shown, n };
    return 0;
}

/* ---- requests */

static void put_param(struct buf *b, const char *key, slice value)
{
    if (value.n == 0)
        return;
    (void)buf_printf(b, "\t%s=", key);
    (void)auth_escape(b, value);
}

static void put_bytes(struct buf *b, const char *key, slice value)
{
    if (value.n == 0)
        return;
    (void)buf_printf(b, "\t%s=", key);
    (void)base64_put(b, value);
}

static void put_request(struct buf *b, uint64_t id, const struct auth_params *p)
{
    (void)buf_printf(b, "AUTH\t%" PRIu64 "\t", id);
    (void)auth_escape(b, p->mech);
    (void)buf_printf(b, "\tservice=%s\tnologin", p->service);
    if (p->secured || p->is_tls)
        (void)buf_puts(b, p->is_tls ? "\tsecured=tls" : "\tsecured");
    put_param(b, "lip", p->local_ip);
    put_param(b, "rip", p->remote_ip);
    if (p->local_port != 0)
        (void)buf_printf(b, "\tlport=%u", p->local_port);
    if (p->remote_port != 0)
        (void)buf_printf(b, "\trport=%u", p->remote_port);
    put_param(b, "session", p->session);
    put_param(b, "client_name", slice_sub(p->client_name, 0, 255));
    put_bytes(b, "tls-exporter", p->tls_exporter);
    put_bytes(b, "tls-unique", p->tls_unique);
    if (p->initial.p != NULL) {
        (void)buf_puts(b, "\tresp=");
        (void)base64_put(b, p->initial);
    }
    (void)buf_byte(b, '\n');
}

static int put_line(struct auth_client *c, struct buf *line, struct err *err)
{
    int rc = 0;

    if (line->overflow || !buf_slice(&c->out, buf_view(line)))
        rc = err_temp(err,
                      line->overflow ? "a sign-in longer than %d bytes"
                                     : "auth does not take more than %d bytes",
                      line->overflow ? AUTH_LINE_MAX : (int)OUT_MAX_BYTES);
    else
        kick_writer(c);
    wipe(line);
    buf_done(line);
    return rc;
}

static void request_gone(struct auth_request **pr)
{
    struct auth_request *r = *pr;

    *pr = NULL;
    imap_del(&r->c->requests, &r->node);
    free(r);
}

/* Wait for the next answer.  The request ends with it unless it is CONTINUE. */
MAY_WAIT static int await(struct auth_request **pr, msec deadline,
                          struct auth_answer *answer, struct err *err)
{
    struct auth_request *r = *pr;
    int rc = 0;

    r->waiter = task_self();
    while (rc == 0 && !r->has_answer && !r->is_broken)
        rc = task_wait(deadline, err);
    r->waiter = NULL;
    r->answer = NULL;
    if (rc == 0 && !r->has_answer)
        rc = err_temp(err, "the connection to auth broke");
    else if (rc == 0 && answer->result == AUTH_CONTINUE)
        return 0;
    else if (rc < 0 && !r->is_broken)
        auth_abort(pr);
    if (*pr != NULL)
        request_gone(pr);
    return rc;
}

static void answer_init(struct auth_answer *a)
{
    *a = (struct auth_answer){ .result = AUTH_TEMP };
    buf_init(&a->text, AUTH_SERVER_RESPONSE_MAX);
}

/* One try; *is_broken: the connection went away before the first answer. */
MAY_WAIT static int begin_once(struct auth_client *c,
                               const struct auth_params *p, msec deadline,
                               struct auth_request **out,
                               struct auth_answer *answer, struct err *err)
{
    struct auth_request *r;
    struct buf line;

    if (ready(c, deadline, err) < 0)
        return -1;
    if (c->requests.n >= REQUESTS_MAX)
        return err_temp(err, "too many sign-ins at once");
    r = xcalloc(1, sizeof *r);
    r->c = c;
    r->answer = answer;
    c->next_id = c->next_id == INT32_MAX ? 1 : c->next_id + 1;
    while (imap_get(&c->requests, c->next_id) != NULL)
        c->next_id++;
    imap_put(&c->requests, &r->node, c->next_id);
    buf_init(&line, AUTH_LINE_MAX);
    put_request(&line, r->node.key, p);
    if (put_line(c, &line, err) < 0) {
        request_gone(&r);
        return -1;
    }
    if (await(&r, deadline, answer, err) < 0)
        return -1;
    *out = r;
    return 0;
}

int auth_begin(struct auth_client *c, const struct auth_params *p,
               msec deadline, struct auth_request **out,
               struct auth_answer *answer, struct err *err)
{
    *out = NULL;
    /* auth may have been replaced just now: nothing was answered, so the
     * request may be made again. */
    for (int try = 0;; try++) {
        uint32_t epoch = c->epoch;

        answer_init(answer);
        if (begin_once(c, p, deadline, out, answer, err) == 0)
            return 0;
        auth_answer_done(answer);
        if (try > 0 || epoch == c->epoch || err->class != ERR_TEMP)
            return -1;
    }
}

int auth_continue(struct auth_request **pr, slice response, msec deadline,
                  struct auth_answer *answer, struct err *err)
{
    struct auth_request *r = *pr;
    struct buf line;

    answer_init(answer);
    if (r->is_broken || r->is_over) {
        err_temp(err, r->is_over ? "the sign-in took too long"
                                 : "the connection to auth broke");
        request_gone(pr);
        auth_answer_done(answer);
        return -1;
    }
    r->answer = answer;
    r->has_answer = false;
    buf_init(&line, AUTH_LINE_MAX);
    (void)buf_printf(&line, "CONT\t%" PRIu64 "\t", r->node.key);
    (void)base64_put(&line, response);
    (void)buf_byte(&line, '\n');
    if (put_line(r->c, &line, err) < 0)
        auth_abort(pr);
    else if (await(pr, deadline, answer, err) == 0)
        return 0;
    auth_answer_done(answer);
    return -1;
}

void auth_abort(struct auth_request **pr)
{
    struct auth_request *r = *pr;

    if (r == NULL)
        return;
    if (!r->is_broken && !r->is_over && r->c->fd >= 0) {
        (void)buf_printf(&r->c->out, "CANCEL\t%" PRIu64 "\n", r->node.key);
        kick_writer(r->c);
    }
    request_gone(pr);
}
