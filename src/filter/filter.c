#include "filter/filter.h"

#include "filter/filter_priv.h"

int filter_new_client(const struct conf *c, const struct conf_service *service,
                      struct tables *t, const char *prefix, struct filter **out,
                      struct err *err)
{
    static const char *const params[FILTER_N] = {
        [FILTER_HEADER] = "header_checks",
        [FILTER_MIME] = "mime_header_checks",
        [FILTER_NESTED] = "nested_header_checks",
        [FILTER_BODY] = "body_checks",
    };
    struct filter *f = xcalloc(1, sizeof *f);

    f->is_client = prefix[0] != '\0';
    f->header_max = (size_t)conf_int(c, service, "header_size_limit");
    f->body_max = conf_size(c, service, "body_checks_size_limit");
    f->nesting_max = (size_t)conf_int(c, service, "mime_nesting_limit");
    if (f->nesting_max > FILTER_NESTING_MAX)
        f->nesting_max = FILTER_NESTING_MAX;
    f->boundary_max =
        (size_t)conf_int(c, service, "mime_boundary_length_limit");
    f->is_mime_off = conf_bool(c, service, "disable_mime_input_processing");
    for (size_t i = 0; i < FILTER_N; i++) {
        char name[60];

        (void)snprintf(name, sizeof name, "%s%s", prefix, params[i]);
        if (table_list_param(t, c, service, name, &f->lists[i], err) < 0) {
            filter_free(&f);
            return -1;
        }
        f->has_work = f->has_work || !table_list_is_empty(f->lists[i]);
    }
    *out = f;
    return 0;
}

int filter_new(const struct conf *c, const struct conf_service *service,
               struct tables *t, struct filter **out, struct err *err)
{
    return filter_new_client(c, service, t, "", out, err);
}

void filter_free(struct filter **fp)
{
    struct filter *f = *fp;

    if (f == NULL)
        return;
    for (size_t i = 0; i < FILTER_N; i++)
        table_list_free(&f->lists[i]);
    free(f);
    *fp = NULL;
}

bool filter_is_idle(const struct filter *f)
{
    return !f->has_work;
}

struct filter_message *filter_begin(const struct filter *f,
                                    const struct filter_context *context,
                                    struct arena *arena)
{
    struct filter_message *m = xcalloc(1, sizeof *m);

    m->filter = f;
    m->context = context;
    m->arena = arena;
    m->scratch = arena_new(4u << 20);
    m->state = FILTER_HEADER;
    buf_init(&m->line, FILTER_LINE_MAX);
    buf_init(&m->header, f->header_max + FILTER_LINE_MAX);
    return m;
}

const struct filter_result *filter_result(const struct filter_message *m)
{
    return &m->result;
}

void filter_end(struct filter_message **mp)
{
    struct filter_message *m = *mp;

    if (m == NULL)
        return;
    for (size_t i = 0; i < m->n_boundaries; i++)
        free(m->boundaries[i]);
    buf_done(&m->line);
    buf_done(&m->header);
    arena_free(&m->scratch);
    free(m->boundary);
    free(m);
    *mp = NULL;
}
