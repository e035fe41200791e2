/* The lmtpd lines of master.cf and their listeners. */
#include "lmtpd/lmtpd_priv.h"

static struct lmtpd_line *find_line(struct lmtpd *d, int index)
{
    list_each(it, &d->lines) {
        struct lmtpd_line *l = CONTAINER_OF(it, struct lmtpd_line, link);

        if ((int)l->service->index == index)
            return l;
    }
    return NULL;
}

static int add_line(struct lmtpd *d, const struct conf_service *service,
                    struct err *err)
{
    struct lmtpd_line *l = xcalloc(1, sizeof *l);
    slice bare = conf_slice(d->conf, service, "smtpd_forbid_bare_newline");

    l->server = d;
    l->service = service;
    l->rcpt_max = (size_t)conf_int(d->conf, service, "smtpd_recipient_limit");
    l->message_max = conf_size(d->conf, service, "message_size_limit");
    l->timeout = conf_time(d->conf, service, "smtpd_timeout") * 1000;
    l->bare_lf = slice_ieqs(bare, "reject") ? MAIL_BARE_LF_REJECT
                                            : MAIL_BARE_LF_NORMALIZE;
    l->tls = keys_service_of(d->conf, service);
    /* maxproc is shared by the processes. */
    l->max_sessions = LMTPD_SESSIONS;
    if (service->maxproc > 0) {
        size_t n =
            d->parts.process->n_slots > 0 ? d->parts.process->n_slots : 1;

        l->max_sessions = ((size_t)service->maxproc + n - 1) / n;
    }
    list_push(&d->lines, &l->link);
    return table_match_new(d->parts.tables, d->conf, service, "mynetworks",
                           &l->trusted, err);
}

int lmtpd_new(const struct lmtpd_parts *parts, struct lmtpd **out,
              struct err *err)
{
    static const struct chan_ops ops = { 0 };
    struct lmtpd *d = xcalloc(1, sizeof *d);

    d->parts = *parts;
    d->conf = conf_ref(parts->process->conf);
    d->host = conf_str(d->conf, NULL, "myhostname");
    list_init(&d->lines);
    list_init(&d->listeners);
    list_init(&d->sessions);
    for (size_t i = 0; i < conf_service_count(d->conf); i++) {
        const struct conf_service *s = conf_service_at(d->conf, i);

        if (strcmp(s->command, "lmtpd") == 0 && add_line(d, s, err) < 0)
            return -1;
    }
    d->broker = link_new(parts->process, PT_BROKER, &ops, d, NULL);
    d->syncs = lmtp_syncs_new(d->broker, true);
    d->workers = lmtp_workers_new(d->broker, d->syncs);
    *out = d;
    return users_new(d->conf, parts->tables, parts->process->is_root_mode,
                     &d->users, err);
}

void lmtpd_line_count(struct lmtpd_line *line, int change)
{
    line->n_sessions += (size_t)change;
    list_each(it, &line->server->listeners) {
        struct lmtpd_listener *l =
            CONTAINER_OF(it, struct lmtpd_listener, link);

        if (l->line != line)
            continue;
        if (line->n_sessions >= line->max_sessions)
            listener_pause(l->listener);
        else
            listener_resume(l->listener);
    }
}

static void on_accept(int fd, const struct peer_addr *peer, void *arg)
{
    lmtpd_session_start(arg, fd, peer);
}

int lmtpd_listen(struct lmtpd *d, const struct process_listener *l,
                 struct err *err)
{
    struct lmtpd_line *line = find_line(d, l->service);
    struct lmtpd_listener *v;

    if (line == NULL) {
        close(l->fd);
        return err_perm(err, "no lmtpd line %d for listener %s", l->service,
                        l->where);
    }
    v = xcalloc(1, sizeof *v);
    v->line = line;
    v->fd = l->fd;
    v->listener = listener_new(l->fd, on_accept, line);
    list_push(&d->listeners, &v->link);
    return 0;
}

static void close_listeners(struct lmtpd *d)
{
    struct list *it;

    while ((it = list_pop(&d->listeners)) != NULL) {
        struct lmtpd_listener *l =
            CONTAINER_OF(it, struct lmtpd_listener, link);

        listener_free(&l->listener);
        close(l->fd);
        free(l);
    }
}

void lmtpd_drain(struct lmtpd *d, void (*on_idle)(void *arg), void *arg)
{
    close_listeners(d);
    d->is_draining = true;
    d->on_idle = on_idle;
    d->on_idle_arg = arg;
    if (d->n_sessions == 0)
        on_idle(arg);
}

void lmtpd_close_all(struct lmtpd *d)
{
    close_listeners(d);
    list_each(it, &d->sessions) {
        struct lmtpd_session *s = CONTAINER_OF(it, struct lmtpd_session, link);

        s->is_ending = true;
        stream_kick(s->stream);
    }
}

void lmtpd_dump(const struct lmtpd *d, struct buf *out)
{
    (void)buf_printf(out,
                     "sessions %zu, messages %" PRIu64 ", delivered %" PRIu64
                     ", %zu bytes under way%s\n",
                     d->n_sessions, d->n_messages, d->n_delivered, d->memory,
                     d->is_draining ? ", draining" : "");
    lmtp_workers_dump(d->workers, out);
}

void lmtpd_free(struct lmtpd **dp)
{
    struct lmtpd *d = *dp;
    struct list *it;

    if (d == NULL)
        return;
    CHECK(d->n_sessions == 0);
    close_listeners(d);
    while ((it = list_pop(&d->lines)) != NULL) {
        struct lmtpd_line *l = CONTAINER_OF(it, struct lmtpd_line, link);

        table_match_free(&l->trusted);
        free(l);
    }
    users_free(&d->users);
    link_free(&d->broker);
    conf_unref(&d->conf);
    free(d);
    *dp = NULL;
}
