/* qmgr: the spool, the schedule, and who is told of what fails. */
#include "daemon/daemon.h"
#include "daemon/fed.h"
#include "daemon/qmgr_ops.h"
#include "daemon/qmgr_passes.h"
#include "ipc/ipc.h"
#include "rt/file.h"
#include "rt/sandbox.h"

#include <fcntl.h>

/* How long jobs on the way may take when the process ends: less than master
 * waits (src/master/stop.c). */
#define DRAIN_MS 8000

static struct queue *queue;

/* A process that writes to the spool: smtpd. */
struct writer {
    struct list link;
    struct chan *chan;
    struct spool_peer *peer;
};

static struct list writers;

static void writer_free(struct writer *w)
{
    list_remove(&w->link);
    spool_peer_gone(&w->peer);
    chan_free(&w->chan);
    free(w);
}

struct etrn {
    struct chan *chan;
    struct msg *m;
};

static MAY_WAIT void etrn_task(void *arg)
{
    struct etrn *e = arg;

    if (queue != NULL)
        queue_etrn(queue, e->chan, e->m);
    msg_delete(&e->m);
    chan_unref(&e->chan);
    free(e);
}

static void writer_msg(struct chan *c, struct msg *m, void *arg)
{
    struct writer *w = arg;
    struct etrn *e;

    if (m->type == VERIFY_ASK && queue != NULL) {
        queue_verify(queue, c, m);
        return;
    }
    if (m->type != QUEUE_ETRN) {
        spool_serve(w->peer, m);
        return;
    }
    e = xcalloc(1, sizeof *e);
    e->chan = chan_ref(c);
    e->m = msg_take(m);
    (void)task_spawn("qmgr-etrn", etrn_task, e);
}

static void writer_close(struct chan *c, void *arg)
{
    (void)c;
    writer_free(arg);
}

static MAY_WAIT void command_serve(struct chan *c, struct msg *m, void *arg)
{
    (void)arg;
    if (queue != NULL)
        queue_serve(queue, c, m);
}

static void command_close(struct chan *c, void *arg)
{
    (void)arg;
    chan_free(&c);
}

static void on_peer(struct process *p, enum ptype from, int fd)
{
    static const struct chan_ops writer_ops = { .on_msg = writer_msg,
                                                .on_close = writer_close };
    static const struct chan_ops command_ops = { .serve = command_serve,
                                                 .max_tasks = 16,
                                                 .on_close = command_close };
    struct writer *w;

    if (p->is_draining) {
        close(fd);
        return;
    }
    if (from != PT_SMTPD && from != PT_FETCHER) {
        (void)chan_new(fd, &command_ops, NULL);
        return;
    }
    w = xcalloc(1, sizeof(*w));
    w->chan = chan_new(fd, &writer_ops, w);
    w->peer = spool_peer_new(queue_spool(queue), w->chan);
    list_push(&writers, &w->link);
}

/* bounce_template_file, opened by master at each start and reload: this process
 * may not open it. */
static int templates_fd = -1;

static void on_fd(struct process *p, slice name, int fd)
{
    if (!slice_eqs(name, "templates")) {
        qmgr_passes_on_fd(p, name, fd);
        return;
    }
    close_fd(&templates_fd);
    templates_fd = fd;
}

static void set_templates(const struct conf *c)
{
    const char *path = conf_str(c, NULL, "bounce_template_file");
    struct buf text CLEANUP(buf_done);
    struct err err;

    buf_init(&text, 1u << 20);
    if (*path != '\0' && templates_fd >= 0 &&
        file_read_fd(templates_fd, &text, &err) < 0) {
        log_warning("bounce_template_file: %s; built-in texts are used",
                    err.log);
        buf_clear(&text);
    }
    close_fd(&templates_fd);
    queue_set_templates(queue, buf_view(&text));
}

static MAY_WAIT int on_start(struct process *p, struct err *err)
{
    static char spool[1024];
    static const char *const paths[] = { spool, NULL };
    struct spool_conf conf = { .dir = spool };

    (void)snprintf(spool, sizeof spool, "%s/spool",
                   conf_str(p->conf, NULL, "queue_directory"));
    conf.min_free_bytes = conf_size(p->conf, NULL, "queue_minfree");
    list_init(&writers);
    if (qmgr_rules_set(p->conf, err) < 0 || qmgr_users_set(p->conf, err) < 0 ||
        process_sandbox(p, SANDBOX_OPEN | SANDBOX_WRITE, paths, paths, err) < 0)
        return -1;
    queue = queue_new(p->conf, &qmgr_queue_ops, NULL);
    set_templates(p->conf);
    qmgr_users_open(queue);
    qmgr_links(p, queue);
    qmgr_passes_open(p->conf, spool);
    return queue_open(queue, &conf, err);
}

static void on_reload(struct process *p, struct conf *conf)
{
    struct err err;

    (void)p;
    if (qmgr_rules_set(conf, &err) < 0)
        log_error("the new configuration is not used for routing: %s", err.log);
    if (qmgr_users_set(conf, &err) < 0)
        log_error("%s", err.log);
    spool_set_min_free(queue_spool(queue),
                       conf_size(conf, NULL, "queue_minfree"));
    queue_set_conf(queue, conf);
    set_templates(conf);
    qmgr_passes_set(conf);
}

static void on_listener(struct process *p, const struct process_listener *l)
{
    if (p->is_draining)
        close(l->fd);
    else
        qmgr_users_listen(l);
}

static MAY_WAIT void drain_task(void *arg)
{
    qmgr_users_deafen();
    queue_stop(queue, clock_after(DRAIN_MS));
    qmgr_users_close();
    qmgr_links_free();
    list_each_safe(it, tmp, &writers)
        writer_free(CONTAINER_OF(it, struct writer, link));
    queue_close(&queue);
    qmgr_passes_close();
    process_exit(arg, 0);
}

/* The word may come again: to stop while a restart drains, and by SIGTERM from
 * a master that waited long enough.  One task closes the queue. */
static void on_drain(struct process *p)
{
    static bool has_begun;

    if (!has_begun)
        (void)task_spawn("qmgr-drain", drain_task, p);
    else if (queue != NULL)
        queue_hurry(queue);
    has_begun = true;
}

static void on_status(struct process *p, struct buf *out)
{
    (void)p;
    if (queue != NULL)
        queue_status(queue, out);
}

int daemon_qmgr(void)
{
    static const struct process_ops ops = {
        .type = PT_QMGR,
        .on_start = on_start,
        .on_table = fed_on_table,
        .on_fd = on_fd,
        .on_listener = on_listener,
        .on_peer = on_peer,
        .on_reload = on_reload,
        .on_drain = on_drain,
        .on_status = on_status,
    };

    return process_main(&ops);
}
