#include "ipc/socketmap.h"

bool socketmap_put(struct buf *b, slice s)
{
    buf_printf(b, "%zu:", s.n);
    buf_slice(b, s);
    return buf_byte(b, ',');
}

int socketmap_get(slice *in, slice *out)
{
    ssize_t colon = slice_chr(slice_sub(*in, 0, 7), ':');
    uint64_t n;
    slice digits, rest;

    if (colon < 0 && in->n < 7) {
        for (size_t i = 0; i < in->n; i++)
            if (!ascii_isdigit(in->p[i]))
                return -1;
        return 0;
    }
    if (colon <= 0)
        return -1;
    digits = slice_sub(*in, 0, (size_t)colon);
    if (!slice_u64(digits, &n) || n > SOCKETMAP_MAX ||
        (digits.n > 1 && digits.p[0] == '0'))
        return -1;
    rest = slice_from(*in, (size_t)colon + 1);
    if (rest.n < n + 1)
        return 0;
    if (rest.p[n] != ',')
        return -1;
    *out = slice_sub(rest, 0, (size_t)n);
    *in = slice_from(rest, (size_t)n + 1);
    return 1;
}

bool socketmap_request(slice s, slice *name, slice *key)
{
    slice head;

    if (!slice_cut(&s, ' ', &head) || head.n == 0)
        return false;
    *name = head;
    *key = s;
    return true;
}

bool socketmap_answer_parse(slice s, enum socketmap_answer *what, slice *value)
{
    static const struct {
        const char *word;
        enum socketmap_answer what;
    } words[] = { { "OK", SM_OK },
                  { "NOTFOUND", SM_NOTFOUND },
                  { "TEMP", SM_TEMP },
                  { "TIMEOUT", SM_TIMEOUT },
                  { "PERM", SM_PERM } };

    slice head;

    slice_cut(&s, ' ', &head);
    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        if (slice_eqs(head, words[i].word)) {
            *what = words[i].what;
            *value = s;
            return true;
        }
    return false;
}
