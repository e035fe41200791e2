#include "conf/conf.h"

#define DIAG_ARENA (4u << 20)

void conf_diags_init(struct conf_diags *d)
{
    *d = (struct conf_diags){ .arena = arena_new(DIAG_ARENA) };
}

void conf_diags_done(struct conf_diags *d)
{
    free(d->v);
    arena_free(&d->arena);
    *d = (struct conf_diags){ 0 };
}

static const char *keep(struct conf_diags *d, const char *text)
{
    const char *copy = slice_cstr(d->arena, slice_str(text));

    return copy != NULL ? copy : "";
}

static bool is_repeated(const struct conf_diags *d, const struct conf_diag *n)
{
    for (size_t i = 0; i < d->n; i++)
        if (d->v[i].line == n->line && d->v[i].severity == n->severity &&
            strcmp(d->v[i].file, n->file) == 0 &&
            strcmp(d->v[i].text, n->text) == 0)
            return true;
    return false;
}

void conf_diags_add(struct conf_diags *d, enum conf_severity severity,
                    const char *file, int line, const char *cure,
                    const char *fmt, ...)
{
    struct conf_diag g = { .severity = severity, .line = line };
    struct buf text;
    va_list ap;

    buf_init(&text, 4096);
    va_start(ap, fmt);
    buf_vprintf(&text, fmt, ap);
    va_end(ap);
    g.file = file != NULL ? file : "";
    g.text = buf_cstr(&text);
    g.cure = cure != NULL ? cure : "";
    if (!is_repeated(d, &g)) {
        if (severity == CONF_ERROR)
            d->n_errors++;
        else
            d->n_warnings++;
        if (d->n < CONF_MAX_DIAGS) {
            if (d->n == d->size) {
                d->size = d->size > 0 ? 2 * d->size : 16;
                d->v = xrealloc(d->v, d->size * sizeof(d->v[0]));
            }
            g.file = keep(d, g.file);
            g.text = keep(d, g.text);
            g.cure = keep(d, g.cure);
            d->v[d->n++] = g;
        }
    }
    buf_done(&text);
}

void conf_diags_print(const struct conf_diags *d, struct buf *out)
{
    for (size_t i = 0; i < d->n; i++) {
        const struct conf_diag *g = &d->v[i];

        if (g->file[0] != '\0')
            buf_puts(out, g->file);
        if (g->file[0] != '\0' && g->line > 0)
            buf_printf(out, ":%d", g->line);
        buf_printf(out, "%s%s: %s", g->file[0] != '\0' ? ": " : "",
                   g->severity == CONF_ERROR ? "error" : "warning", g->text);
        if (g->cure[0] != '\0')
            buf_printf(out, " (%s)", g->cure);
        buf_byte(out, '\n');
    }
    if (d->n_errors + d->n_warnings > d->n)
        buf_printf(out, "... and %zu more\n",
                   d->n_errors + d->n_warnings - d->n);
}
