/* Policies of MTA-STS as text (RFC 8461 3). */
#include "fetch/fetch.h"

#define AGE_MAX 31557600 /* RFC 8461 3.2: a year */
#define ID_MAX  32

static bool is_mx_pattern(slice s)
{
    if (slice_starts(s, SL("*.")))
        s = slice_from(s, 2);
    if (s.n == 0 || s.n > 253 || s.p[0] == '.')
        return false;
    for (size_t i = 0; i < s.n; i++)
        if (!ascii_isalnum(s.p[i]) && s.p[i] != '-' && s.p[i] != '.' &&
            s.p[i] != '_')
            return false;
    return true;
}

static bool parse_mode(slice value, enum sts_mode *out)
{
    if (slice_eqs(value, "enforce"))
        *out = STS_ENFORCE;
    else if (slice_eqs(value, "testing"))
        *out = STS_TESTING;
    else if (slice_eqs(value, "none"))
        *out = STS_NONE;
    else
        return false;
    return true;
}

struct seen {
    bool version, mode, age;
};

static bool parse_age(slice value, uint64_t *out)
{
    if (value.n > 10 || !slice_u64(value, out))
        return false;
    if (*out > AGE_MAX)
        *out = AGE_MAX;
    return true;
}

static bool add_mx(slice value, struct sts_policy *out)
{
    if (!is_mx_pattern(value))
        return false;
    if (out->n_mx < FETCH_MX_MAX)
        out->mx[out->n_mx++] = value;
    return true;
}

/* RFC 8461 3.2: of a key that comes twice, but for mx, the first counts; keys
 * that are not known are passed over. */
static bool one_line(slice name, slice value, struct seen *seen,
                     struct sts_policy *out)
{
    bool is_first = false;

    if (slice_eqs(name, "mx"))
        return add_mx(value, out);
    if (slice_eqs(name, "version")) {
        is_first = !seen->version;
        seen->version = true;
        return !is_first || slice_eqs(value, "STSv1");
    }
    if (slice_eqs(name, "mode")) {
        is_first = !seen->mode;
        seen->mode = true;
        return !is_first || parse_mode(value, &out->mode);
    }
    if (slice_eqs(name, "max_age")) {
        is_first = !seen->age;
        seen->age = true;
        return !is_first || parse_age(value, &out->max_age);
    }
    return true;
}

bool sts_parse(slice text, struct sts_policy *out)
{
    struct seen seen = { 0 };
    slice line;

    *out = (struct sts_policy){ 0 };
    if (text.n > FETCH_MAX_BYTES)
        return false;
    while (text.n > 0) {
        slice name;

        (void)slice_cut(&text, '\n', &line);
        line = slice_trim(line);
        if (line.n == 0)
            continue;
        if (!slice_cut(&line, ':', &name) ||
            !one_line(slice_trim(name), slice_trim(line), &seen, out))
            return false;
    }
    return seen.version && seen.mode && seen.age &&
           (out->mode == STS_NONE || out->n_mx > 0);
}

static bool is_id(slice s)
{
    if (s.n == 0 || s.n > ID_MAX)
        return false;
    for (size_t i = 0; i < s.n; i++)
        if (!ascii_isalnum(s.p[i]))
            return false;
    return true;
}

bool sts_parse_record(slice txt, slice *id)
{
    slice field, name;

    (void)slice_cut(&txt, ';', &field);
    if (!slice_eqs(slice_rtrim(field), "v=STSv1"))
        return false;
    while (txt.n > 0) {
        (void)slice_cut(&txt, ';', &field);
        field = slice_trim(field);
        if (!slice_cut(&field, '=', &name) ||
            !slice_eqs(slice_trim(name), "id"))
            continue;
        *id = slice_trim(field);
        return is_id(*id);
    }
    return false;
}

bool sts_mx_matches(slice pattern, slice host)
{
    ssize_t dot;

    if (slice_ends(host, SL(".")))
        host.n--;
    if (!slice_starts(pattern, SL("*.")))
        return slice_ieq(pattern, host);
    dot = slice_chr(host, '.');
    return dot > 0 &&
           slice_ieq(slice_from(pattern, 1), slice_from(host, (size_t)dot));
}
