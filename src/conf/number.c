#include "conf/conf_priv.h"

bool conf_parse_bool(slice text, bool *out)
{
    if (slice_ieqs(text, "yes"))
        *out = true;
    else if (slice_ieqs(text, "no"))
        *out = false;
    else
        return false;
    return true;
}

bool conf_parse_int(slice text, int64_t *out)
{
    text = slice_trim(text);
    if (text.n > 1 && text.p[0] == '-') {
        uint64_t u;

        if (!slice_u64(slice_from(text, 1), &u) || u > INT64_MAX)
            return false;
        *out = -(int64_t)u;
        return true;
    }
    return slice_i64(text, out);
}

static int64_t unit_seconds(char unit)
{
    switch (unit) {
    case 's':
        return 1;
    case 'm':
        return 60;
    case 'h':
        return 3600;
    case 'd':
        return 86400;
    case 'w':
        return 604800;
    default:
        return 0;
    }
}

bool conf_parse_time(slice text, char unit, int64_t *seconds)
{
    int64_t n;
    int64_t each;
    int64_t result;

    text = slice_trim(text);
    if (text.n == 0)
        return false;
    if (!ascii_isdigit(text.p[text.n - 1])) {
        unit = ascii_lower(text.p[text.n - 1]);
        text = slice_sub(text, 0, text.n - 1);
    }
    each = unit_seconds(unit);
    if (each == 0 || !slice_i64(text, &n) || n < 0)
        return false;
    if (!MUL_OK(n, each, &result) || result > INT32_MAX)
        return false;
    *seconds = result;
    return true;
}
