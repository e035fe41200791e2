/* A new configuration, all of it or nothing. */
#include "keys/keys.h"
#include "master/master_priv.h"

#define READY_MS    30000
#define IN_PLACE_MS 20000

static bool is_replaced(enum ptype t)
{
    return t == PT_SMTPD || t == PT_LOCAL || t == PT_TABLES || t == PT_LMTPD ||
           t == PT_LOGIN || t == PT_SMTP || t == PT_RESOLVER ||
           t == PT_FETCHER || t == PT_METRICS;
}

static int load(struct master *m, struct conf **out, struct buf *text,
                struct err *err)
{
    struct conf_diags diags;
    struct conf *c = NULL;
    int rc;

    conf_diags_init(&diags);
    rc = conf_load(conf_dir(m->conf), 0, &c, &diags, err);
    if (rc == 0) {
        (void)conf_check(c, true, &diags);
        keys_check(c, &diags);
        if (diags.n_errors > 0)
            rc = err_perm(err, "the configuration has errors; the running one "
                               "stays in use");
    }
    conf_diags_print(&diags, text);
    conf_diags_done(&diags);
    if (rc < 0)
        conf_unref(&c);
    else
        *out = c;
    return rc;
}

/* What a reload cannot change.  Others that need a restart keep their old
 * effect until then; say so. */
static int compare(struct master *m, const struct conf *c, struct buf *text,
                   struct err *err)
{
    static const char *const fixed[] = { "queue_directory", "data_directory",
                                         "mail_owner" };

    for (size_t i = 0; i < ARRAY_LEN(fixed); i++)
        if (strcmp(conf_str(m->conf, NULL, fixed[i]),
                   conf_str(c, NULL, fixed[i])) != 0)
            return err_perm(err, "a reload cannot change %s: stop and start",
                            fixed[i]);
    for (size_t i = 0; i < conf_param_count(); i++) {
        const struct conf_param *p = conf_param_at(i);

        if (!p->is_reloadable && strcmp(conf_str(m->conf, NULL, p->name),
                                        conf_str(c, NULL, p->name)) != 0)
            buf_printf(text, "warning: %s changes at the next start only\n",
                       p->name);
    }
    return 0;
}

/* -------------------------------------------------------------- replacement */

static int start_next(struct master *m, int conf_fd, struct err *err)
{
    list_each(it, &m->slots) {
        struct slot *s = CONTAINER_OF(it, struct slot, link);

        s->is_awaited =
            s->is_wanted &&
            (s->current == NULL ? !s->is_lazy : is_replaced(s->type));
        if (s->is_awaited && child_start(s, conf_fd, &s->next, err) < 0)
            return -1;
    }
    return 0;
}

/* -1: one ended before it was ready; 0: not all yet; 1: all are. */
static int look_at_next(struct master *m)
{
    list_each(it, &m->slots) {
        struct slot *s = CONTAINER_OF(it, struct slot, link);

        if (!s->is_awaited)
            continue;
        if (s->next == NULL)
            return -1;
        if (s->next->state != CHILD_READY)
            return 0;
    }
    return 1;
}

MAY_WAIT static int wait_next(struct master *m, struct err *err)
{
    msec deadline = clock_after(READY_MS);
    int got;

    while ((got = look_at_next(m)) == 0)
        if (waitq_wait(&m->changed, deadline, err) < 0)
            return err_prefix(err, "the new processes do not become ready");
    if (got < 0)
        return err_temp(err, "%s",
                        m->trouble[0] != '\0'
                            ? m->trouble
                            : "a new process ended at its start");
    return 0;
}

static void drop_next(struct master *m)
{
    list_each(it, &m->slots) {
        struct slot *s = CONTAINER_OF(it, struct slot, link);

        if (s->next != NULL)
            child_drain(s->next, true);
        s->next = NULL;
    }
}

/* The new ones accept from the same listeners already; nothing is refused. */
static void switch_over(struct master *m)
{
    list_each(it, &m->slots) {
        struct slot *s = CONTAINER_OF(it, struct slot, link);
        struct child *old = s->current;

        if (s->next == NULL && s->is_wanted)
            continue;
        s->current = s->next;
        s->next = NULL;
        if (old != NULL)
            child_drain(old, false);
    }
}

/* ------------------------------------------------------------------ in place
 */

MAY_WAIT static void reload_in_place(struct master *m, struct buf *text)
{
    static const enum ptype order[] = { PT_LOG, PT_TEMPLATE, PT_BROKER, PT_QMGR,
                                        PT_AUTH };
    struct msg answer;
    struct err err;

    for (size_t i = 0; i < ARRAY_LEN(order); i++) {
        struct child *c = child_of(m, order[i]);
        struct chan *ch;

        if (c == NULL || c->state == CHILD_DRAINING)
            continue; /* it comes back with the new configuration */
        sources_give(m, c);
        child_give_templates(c);
        ch = chan_ref(c->chan);
        if (chan_call(ch, MASTER_RELOAD, SLICE_NONE, &m->conf_fd, 1,
                      clock_after(IN_PLACE_MS), &answer, &err) == 0)
            msg_free(&answer);
        else
            buf_printf(text, "warning: %s did not take the configuration: %s\n",
                       ptype_name(order[i]), err.log);
        chan_unref(&ch);
    }
}

static void adopt(struct master *m, struct conf *c, int conf_fd)
{
    conf_unref(&m->conf);
    m->conf = c;
    close_fd(&m->conf_fd);
    m->conf_fd = conf_fd;
}

/* Everything that may fail, before anything is changed. */
MAY_WAIT static int prepare(struct master *m, const struct conf *c,
                            int *conf_fd, struct err *err)
{
    slots_mark(m, c);
    if (place_users(m, c, err) < 0 || ports_open(m, c, err) < 0 ||
        sources_load(m, c, err) < 0 || master_conf_fd(c, conf_fd, err) < 0)
        return -1;
    if (start_next(m, *conf_fd, err) < 0 || wait_next(m, err) < 0) {
        drop_next(m);
        close_fd(conf_fd);
        return -1;
    }
    return 0;
}

int master_reload(struct master *m, struct buf *text, struct err *err)
{
    struct conf *c = NULL;
    int conf_fd = -1, rc;

    if (load(m, &c, text, err) < 0)
        return -1;
    m->trouble[0] = '\0';
    m->is_reloading = true;
    rc = compare(m, c, text, err);
    if (rc == 0)
        rc = prepare(m, c, &conf_fd, err);
    if (rc == 0) {
        adopt(m, c, conf_fd);
        switch_over(m);
        reload_in_place(m, text);
    } else {
        slots_mark(m, m->conf);
        conf_unref(&c);
    }
    ports_settle(m, rc == 0);
    sources_settle(m, rc == 0);
    sources_watch(m);
    m->is_reloading = false;
    if (rc < 0)
        log_error("reload: %s", err->log);
    else
        log_info("reload -- version %s, configuration %s", HATO_VERSION,
                 conf_dir(m->conf));
    return rc;
}
