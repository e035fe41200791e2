#include "ipc/auth_line.h"

static const struct {
    char byte, letter;
} escapes[] = {
    { '\0', '0' }, { '\001', '1' }, { '\t', 't' }, { '\r', 'r' }, { '\n', 'n' },
};

bool auth_escape(struct buf *b, slice s)
{
    for (size_t i = 0; i < s.n; i++) {
        size_t e = 0;

        while (e < ARRAY_LEN(escapes) && escapes[e].byte != s.p[i])
            e++;
        if (e == ARRAY_LEN(escapes)) {
            (void)buf_byte(b, s.p[i]);
        } else {
            (void)buf_byte(b, '\001');
            (void)buf_byte(b, escapes[e].letter);
        }
    }
    return !b->overflow;
}

slice auth_unescape(struct arena *a, slice field)
{
    char *out = arena_alloc(a, field.n + 1);
    size_t n = 0;

    if (out == NULL)
        return SLICE_NONE;
    for (size_t i = 0; i < field.n; i++) {
        size_t e = 0;

        if (field.p[i] != '\001') {
            out[n++] = field.p[i];
            continue;
        }
        if (++i == field.n)
            return SLICE_NONE;
        while (e < ARRAY_LEN(escapes) && escapes[e].letter != field.p[i])
            e++;
        if (e == ARRAY_LEN(escapes))
            return SLICE_NONE;
        out[n++] = escapes[e].byte;
    }
    return (slice){ out, n };
}

bool auth_field(slice *rest, slice *field)
{
    if (rest->p == NULL)
        return false;
    if (!slice_cut(rest, '\t', field))
        *rest = SLICE_NONE;
    return true;
}

void auth_key(slice field, slice *key, slice *value)
{
    *value = field;
    if (!slice_cut(value, '=', key))
        *value = SLICE_NONE;
    else if (value->p == NULL)
        *value = SL("");
}
