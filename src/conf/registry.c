/* The registry: params.def, made into a table by tools/gen-params. */
#include "conf/conf_priv.h"

static const struct conf_param params[] = {
#include "params_table.h"
};

/* "<transport>" is in front of these names. */
static const struct conf_param families[] = {
#include "families_table.h"
};

size_t conf_param_count(void)
{
    return ARRAY_LEN(params);
}

const struct conf_param *conf_param_at(size_t i)
{
    CHECK(i < ARRAY_LEN(params));
    return &params[i];
}

const struct conf_param *conf_param_find(slice name)
{
    size_t low = 0;
    size_t high = ARRAY_LEN(params);

    while (low < high) {
        size_t mid = low + (high - low) / 2;
        int cmp = slice_cmp(name, slice_str(params[mid].name));

        if (cmp == 0)
            return &params[mid];
        if (cmp < 0)
            high = mid;
        else
            low = mid + 1;
    }
    return NULL;
}

size_t conf_family_count(void)
{
    return ARRAY_LEN(families);
}

const struct conf_param *conf_family_at(size_t i)
{
    CHECK(i < ARRAY_LEN(families));
    return &families[i];
}

const struct conf_param *conf_family_find(slice name, size_t *prefix_len)
{
    const struct conf_param *best = NULL;
    size_t best_n = 0;

    for (size_t i = 0; i < ARRAY_LEN(families); i++) {
        slice suffix = slice_str(families[i].name);

        /* The longest suffix: _transport_rate_delay, not _rate_delay. */
        if (suffix.n > best_n && suffix.n < name.n &&
            slice_ends(name, suffix)) {
            best = &families[i];
            best_n = suffix.n;
        }
    }
    if (best != NULL)
        *prefix_len = name.n - best_n;
    return best;
}
