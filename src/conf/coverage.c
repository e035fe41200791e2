/* How much of Postfix's parameters is there, counted from the registry. */
#include "conf/conf_priv.h"

static void count(const struct conf_param *p, struct conf_coverage *out)
{
    if (p->is_ours) {
        out->n_ours++;
        return;
    }
    out->n_names++;
    switch (p->state) {
    case CONF_HONOURED:
        out->n_honoured++;
        break;
    case CONF_NO_EFFECT:
        out->n_no_effect++;
        break;
    case CONF_REFUSED:
        out->n_refused++;
        break;
    }
}

void conf_coverage(struct conf_coverage *out)
{
    struct conf_coverage v = { 0 };

    for (size_t i = 0; i < conf_param_count(); i++)
        count(conf_param_at(i), &v);
    for (size_t i = 0; i < conf_family_count(); i++)
        count(conf_family_at(i), &v);
    CHECK(v.n_names > 0);
    v.percent = (unsigned)(100 * (v.n_honoured + v.n_no_effect) / v.n_names);
    *out = v;
}

void conf_coverage_print(struct buf *out)
{
    struct conf_coverage v;

    conf_coverage(&v);
    buf_printf(out,
               "parameters of Postfix 3.7: %zu\n"
               "  honoured:               %zu\n"
               "  without effect:         %zu\n"
               "  refused as not done:    %zu\n"
               "honoured or rightly without effect: %u%%\n"
               "further parameters: %zu\n",
               v.n_names, v.n_honoured, v.n_no_effect, v.n_refused, v.percent,
               v.n_ours);
}
