/*
 * tafile= in smtp_tls_policy_maps.  The process has no files once its sandbox
 * is closed, so what the tables' texts name is read before, whatever line it
 * stands in: a name that comes later, or from a server, is not known.
 */
#include "smtp/client/policy.h"

#include "conf/conf.h"

#include <fcntl.h>

#define FILES_MAX 200
#define TEXT_MAX  ((size_t)64 << 20) /* of a table */
#define FILE_MAX  ((size_t)4 << 20)

struct anchor_file {
    struct list link;
    char *path;
    struct buf pem; /* empty: it could not be read */
};

static struct anchor_file *find(const struct client_tls *t, slice path)
{
    list_each(it, &t->anchors) {
        struct anchor_file *f = CONTAINER_OF(it, struct anchor_file, link);

        if (slice_eqs(path, f->path))
            return f;
    }
    return NULL;
}

static void warn(const struct client_tls *t, const char *path, const char *why)
{
    event_text(EV_WARNING, t->service->log_name, NULL, "%s: tafile=%s: %s",
               client_param(t->service, "tls_policy_maps"), path, why);
}

static void add(struct client_tls *t, slice path)
{
    struct tls_anchors *parsed = NULL;
    struct anchor_file *f;
    struct err err;

    if (path.n == 0 || find(t, path) != NULL || t->n_anchors == FILES_MAX)
        return;
    t->n_anchors++;
    f = xcalloc(1, sizeof *f);
    f->path = slice_xstrdup(path);
    buf_init(&f->pem, FILE_MAX);
    list_push(&t->anchors, &f->link);
    if (policy_read_file(AT_FDCWD, f->path, &f->pem, &err) < 0 ||
        tls_anchors_new(buf_view(&f->pem), &parsed, &err) < 0) {
        warn(t, f->path, err.log);
        buf_clear(&f->pem);
    }
    tls_anchors_free(&parsed);
}

static void add_all(struct client_tls *t, slice text)
{
    slice word, name;

    while (slice_token(&text, ", \t\r\n{}", &word))
        if (slice_cut(&word, '=', &name) && slice_ieqs(name, "tafile"))
            add(t, word);
}

static void on_leaf(void *arg, slice type, slice name, slice whole UNUSED)
{
    struct client_tls *t = arg;
    enum table_kind kind = table_kind(type);
    char *path CLEANUP(free_ptr) = slice_xstrdup(name);
    struct buf text;
    struct err err;

    if (kind == TABLE_CONF)
        add_all(t, name);
    if (kind != TABLE_BUILT && kind != TABLE_SOURCE)
        return;
    buf_init(&text, TEXT_MAX);
    /* What there is to say of a table that is not there, others say. */
    if (policy_read_file(AT_FDCWD, path, &text, &err) == 0)
        add_all(t, buf_view(&text));
    buf_done(&text);
}

void policy_anchors_read(struct client_tls *t)
{
    slice list = client_str(t->service, "tls_policy_maps"), item;

    while (conf_list_next(&list, &item))
        table_each_leaf(item, on_leaf, t);
}

void policy_anchors_forget(struct client_tls *t)
{
    struct list *it;

    while ((it = list_pop(&t->anchors)) != NULL) {
        struct anchor_file *f = CONTAINER_OF(it, struct anchor_file, link);

        buf_done(&f->pem);
        free(f->path);
        free(f);
    }
}

static void drop(void *arg)
{
    struct tls_anchors *a = arg;

    tls_anchors_free(&a);
}

int policy_set_anchors(struct policy_job *j, struct err *err)
{
    slice list = j->text.tafile, path;
    struct tls_anchors *a = NULL;
    struct buf pem;
    int rc = 0;

    if (list.n == 0)
        return 0;
    buf_init(&pem, 2 * FILE_MAX);
    while (rc == 0 && slice_token(&list, " ", &path)) {
        const struct anchor_file *f = find(j->tls, path);

        if (f == NULL)
            rc = err_perm(err,
                          "tafile=%.*s was not there when Hato started "
                          "(hato reload)",
                          SLF(path));
        else if (f->pem.n == 0)
            rc = err_perm(err, "tafile=%.*s cannot be used", SLF(path));
        else if (!buf_slice(&pem, buf_view(&f->pem)))
            rc = err_perm(err, "the files of trust anchors are too long");
    }
    if (rc == 0)
        rc = tls_anchors_new(buf_view(&pem), &a, err);
    buf_done(&pem);
    if (rc < 0)
        return -1;
    j->out->how.anchors = a;
    arena_defer(j->a, drop, a);
    return 0;
}
