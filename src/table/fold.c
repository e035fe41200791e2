#include "table/table_priv.h"

#include <unicase.h>
#include <unistr.h>

/* Case folding of lookup keys: ASCII in place, UTF-8 by full case folding as
 * Postfix does with smtputf8_enable; what is not UTF-8 keeps its bytes. */

static bool is_folded(slice s, bool *has_8bit)
{
    bool folded = true;

    *has_8bit = false;
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] >= 'A' && s.p[i] <= 'Z')
            folded = false;
        if ((unsigned char)s.p[i] >= 0x80)
            *has_8bit = true;
    }
    return folded && !*has_8bit;
}

static slice fold_utf8(struct arena *a, slice key)
{
    const uint8_t *bytes = (const uint8_t *)key.p;
    size_t n = 0;
    uint8_t *folded;
    slice out;

    if (key.n > 4096 || u8_check(bytes, key.n) != NULL)
        return slice_lower(a, key);
    folded = u8_casefold(bytes, key.n, NULL, NULL, NULL, &n);
    if (folded == NULL)
        return slice_lower(a, key);
    out = slice_dup(a, slice_of(folded, n));
    free(folded);
    return out;
}

slice table_fold(struct arena *a, slice key)
{
    bool has_8bit;

    if (is_folded(key, &has_8bit))
        return key;
    return has_8bit ? fold_utf8(a, key) : slice_lower(a, key);
}
