/*
 * One request by libcurl, driven by our loop.
 *
 * Each has a multi handle of its own, so that nothing is kept: no connection,
 * no address, no cookie.  The addresses come from our resolver and are handed
 * over with CURLOPT_RESOLVE; libcurl, which would ask with a thread and files
 * of its own, never gets a name that it has no address for.
 */
#include "fetch/fetch_priv.h"
#include "fetch/libs.h"

#define HEAD_MAX   ((size_t)32 << 10)
#define CONNECT_MS 30000L

#define curl fetch_curl

struct call {
    const struct http_request *r;
    struct http_answer *out;
    CURL *easy;
    CURLM *multi;
    struct curl_slist *resolve, *fields;
    struct buf url;
    struct list watches;
    struct timer timer;
    struct task *task;
    size_t head; /* bytes of header fields so far */
    bool is_done, is_over;
    CURLcode result;
    char why[CURL_ERROR_SIZE];
};

struct watch {
    struct list link;
    struct call *call;
    curl_socket_t fd;
    struct fd_watch *ready;
};

/* ---- the address of what is wanted; pure */

/* Letters, digits, '-', '_' and '.': what has no meaning in a URL. */
static bool is_host(slice s)
{
    for (size_t i = 0; i < s.n; i++)
        if (!ascii_isalnum(s.p[i]) && slice_chr(SL("-_."), s.p[i]) < 0)
            return false;
    return s.n > 0 && s.n <= 253;
}

bool http_url(slice host, uint16_t port, slice path, struct buf *out)
{
    if (!is_host(host) || !slice_starts(path, SL("/")))
        return false;
    for (size_t i = 0; i < path.n; i++)
        if (path.p[i] <= ' ' || path.p[i] >= 0x7f || path.p[i] == '#')
            return false;
    return buf_printf(out, "https://%.*s:%u%.*s", SLF(host), port, SLF(path));
}

/* ---- what libcurl calls */

static size_t on_field(char *p UNUSED, size_t size, size_t n, void *arg)
{
    struct call *c = arg;

    c->head += size * n;
    return c->head <= HEAD_MAX ? size * n : 0;
}

static size_t on_body(char *p, size_t size, size_t n, void *arg)
{
    struct call *c = arg;

    return buf_put(&c->out->body, p, size * n) ? size * n : 0;
}

static void step(struct call *c, curl_socket_t fd, int events);

static void on_ready(void *arg, int events)
{
    struct watch *w = arg; /* may be gone after the step */

    step(w->call, w->fd,
         (events & WATCH_READ ? CURL_CSELECT_IN : 0) |
             (events & WATCH_WRITE ? CURL_CSELECT_OUT : 0));
}

static void on_time(struct timer *t)
{
    step(CONTAINER_OF(t, struct call, timer), CURL_SOCKET_TIMEOUT, 0);
}

static void watch_free(struct watch *w)
{
    fd_watch_free(&w->ready);
    list_remove(&w->link);
    free(w);
}

static int on_socket(CURL *easy UNUSED, curl_socket_t fd, int what, void *arg,
                     void *socket_arg)
{
    struct call *c = arg;
    struct watch *w = socket_arg;

    if (c->is_over)
        return 0;
    if (what == CURL_POLL_REMOVE) {
        if (w != NULL)
            watch_free(w);
        (void)curl.multi_assign(c->multi, fd, NULL);
        return 0;
    }
    if (w == NULL) {
        w = xcalloc(1, sizeof *w);
        w->call = c;
        w->fd = fd;
        list_push(&c->watches, &w->link);
        (void)curl.multi_assign(c->multi, fd, w);
    }
    fd_watch_free(&w->ready);
    if (what & CURL_POLL_INOUT)
        w->ready = fd_watch_new(fd,
                                (what & CURL_POLL_IN ? WATCH_READ : 0) |
                                    (what & CURL_POLL_OUT ? WATCH_WRITE : 0),
                                on_ready, w);
    return 0;
}

/* ---- a step, on the loop's own stack */

static void finish(struct call *c, CURLcode result)
{
    c->is_done = true;
    c->result = result;
    timer_cancel(&c->timer);
    task_wake(c->task);
}

static void step(struct call *c, curl_socket_t fd, int events)
{
    int n = 0;
    long ms = -1;
    const CURLMsg *m;

    if (c->is_done)
        return;
    if (curl.multi_socket_action(c->multi, fd, events, &n) != CURLM_OK) {
        finish(c, CURLE_FAILED_INIT);
        return;
    }
    while ((m = curl.multi_info_read(c->multi, &n)) != NULL)
        if (m->msg == CURLMSG_DONE) {
            finish(c, m->data.result);
            return;
        }
    /* Asked for each time: libcurl tells of changes only, and our clock may be
     * a test's. */
    if (curl.multi_timeout(c->multi, &ms) == CURLM_OK && ms >= 0)
        timer_set(&c->timer, clock_after(ms > 0 ? ms : 1), on_time);
    else
        timer_cancel(&c->timer);
}

/* ---- setting up */

#define SET(c, option, value)                                                  \
 (curl.easy_setopt((c)->easy, CURLOPT_##option, (value)) == CURLE_OK)

static bool set_place(struct call *c)
{
    const struct http_request *r = c->r;
    struct buf b;
    bool ok;

    if (!http_url(r->host, r->port, r->path, &c->url))
        return false;
    buf_init(&b, 4096);
    (void)buf_printf(&b, "%.*s:%u:", SLF(r->host), r->port);
    for (size_t i = 0; i < r->n_addrs; i++) {
        bool is_v6 = slice_chr(r->addrs[i], ':') >= 0;

        (void)buf_printf(&b, is_v6 ? "%s[%.*s]" : "%s%.*s", i > 0 ? "," : "",
                         SLF(r->addrs[i]));
    }
    ok = !b.overflow;
    if (ok)
        c->resolve = curl.slist_append(NULL, buf_cstr(&b));
    buf_done(&b);
    return ok && c->resolve != NULL && SET(c, RESOLVE, c->resolve) &&
           SET(c, URL, buf_cstr(&c->url));
}

/* https to that host only; nothing of the environment or of a home. */
static bool set_bounds(struct call *c)
{
    struct curl_blob roots = { .data = c->r->roots->p,
                               .len = c->r->roots->n,
                               .flags = CURL_BLOB_NOCOPY };
    msec left = c->r->deadline - clock_mono();

    return SET(c, PROTOCOLS_STR, "https") && SET(c, FOLLOWLOCATION, 0L) &&
           SET(c, PROXY, "") && SET(c, NOPROXY, "*") &&
           SET(c, NETRC, (long)CURL_NETRC_IGNORED) && SET(c, NOSIGNAL, 1L) &&
           SET(c, SSL_VERIFYPEER, 1L) && SET(c, SSL_VERIFYHOST, 2L) &&
           SET(c, CAPATH, NULL) && SET(c, CAINFO, NULL) &&
           SET(c, CAINFO_BLOB, &roots) &&
           SET(c, SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2) &&
           SET(c, SSL_SESSIONID_CACHE, 0L) &&
           SET(c, HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1) &&
           SET(c, TIMEOUT_MS, (long)(left > 0 ? left : 1)) &&
           SET(c, CONNECTTIMEOUT_MS, CONNECT_MS) &&
           SET(c, MAXFILESIZE_LARGE, (curl_off_t)c->out->body.max);
}

static bool set_callbacks(struct call *c)
{
    return SET(c, ERRORBUFFER, c->why) &&
           SET(c, USERAGENT, "Hato/" HATO_VERSION) &&
           SET(c, HEADERFUNCTION, on_field) && SET(c, HEADERDATA, c) &&
           SET(c, WRITEFUNCTION, on_body) && SET(c, WRITEDATA, c) &&
           curl.multi_setopt(c->multi, CURLMOPT_SOCKETFUNCTION, on_socket) ==
               CURLM_OK &&
           curl.multi_setopt(c->multi, CURLMOPT_SOCKETDATA, c) == CURLM_OK;
}

static bool set_body(struct call *c)
{
    const struct http_request *r = c->r;
    char *type CLEANUP(free_ptr) = NULL;

    if (r->body.n == 0)
        return true;
    type = xasprintf("Content-Type: %.*s", SLF(r->content_type));
    c->fields = curl.slist_append(NULL, type);
    /* No wait for a word that many servers do not give. */
    return c->fields != NULL &&
           curl.slist_append(c->fields, "Expect:") != NULL &&
           SET(c, HTTPHEADER, c->fields) && SET(c, POST, 1L) &&
           SET(c, POSTFIELDS, r->body.p) &&
           SET(c, POSTFIELDSIZE_LARGE, (curl_off_t)r->body.n);
}

static int prepare(struct call *c, struct err *err)
{
    if (c->r->roots->n == 0)
        return err_temp(err, "there are no authorities to trust");
    if (c->r->n_addrs == 0)
        return err_temp(err, "%.*s has no address", SLF(c->r->host));
    c->easy = curl.easy_init();
    c->multi = curl.multi_init();
    if (c->easy == NULL || c->multi == NULL)
        return err_temp(err, "libcurl: no memory");
    if (!set_place(c))
        return err_perm(err, "%.*s: no address of HTTPS", SLF(c->r->host));
    if (!set_bounds(c) || !set_callbacks(c) || !set_body(c) ||
        curl.multi_add_handle(c->multi, c->easy) != CURLM_OK)
        return err_temp(err, "libcurl refuses what it must keep to");
    return 0;
}

/* The watches first, as long as the descriptors are open. */
static void call_free(struct call *c)
{
    c->is_over = true;
    timer_cancel(&c->timer);
    for (struct list *it = list_pop(&c->watches); it != NULL;
         it = list_pop(&c->watches))
        watch_free(CONTAINER_OF(it, struct watch, link));
    if (c->multi != NULL && c->easy != NULL)
        (void)curl.multi_remove_handle(c->multi, c->easy);
    if (c->easy != NULL)
        curl.easy_cleanup(c->easy);
    if (c->multi != NULL)
        (void)curl.multi_cleanup(c->multi);
    curl.slist_free_all(c->resolve);
    curl.slist_free_all(c->fields);
    buf_done(&c->url);
    free(c);
}

/* ---- the answer */

/* RFC 8461 3.2: text/plain; who says nothing is believed. */
static bool is_text(struct call *c)
{
    const char *type = NULL;
    slice all, word;

    if (curl.easy_getinfo(c->easy, CURLINFO_CONTENT_TYPE, &type) != CURLE_OK ||
        type == NULL)
        return true;
    all = slice_str(type);
    (void)slice_cut(&all, ';', &word);
    return slice_ieqs(slice_trim(word), "text/plain");
}

static int judge(struct call *c, struct err *err)
{
    long status = 0;

    if (c->head > HEAD_MAX)
        return err_perm(err, "the answer's header is too long");
    if (c->out->body.overflow || c->result == CURLE_FILESIZE_EXCEEDED)
        return err_perm(err, "the answer is longer than %zu bytes",
                        c->out->body.max);
    if (c->result == CURLE_PEER_FAILED_VERIFICATION)
        return err_set(err, ERR_PERM, "4.7.5", "%s", c->why);
    if (c->result != CURLE_OK)
        return err_temp(err, "%s",
                        c->why[0] != '\0' ? c->why
                                          : curl.easy_strerror(c->result));
    (void)curl.easy_getinfo(c->easy, CURLINFO_RESPONSE_CODE, &status);
    c->out->status = (int)status;
    c->out->is_text = is_text(c);
    return 0;
}

int http_ask(const struct http_request *r, struct http_answer *out,
             struct err *err)
{
    struct call *c = xcalloc(1, sizeof *c);
    int rc;

    c->r = r;
    c->out = out;
    c->task = task_self();
    list_init(&c->watches);
    buf_init(&c->url, 4096);
    rc = prepare(c, err);
    if (rc == 0)
        timer_set(&c->timer, clock_mono(), on_time);
    while (rc == 0 && !c->is_done)
        rc = task_wait(r->deadline, err);
    if (rc == 0)
        rc = judge(c, err);
    call_free(c);
    return rc;
}
