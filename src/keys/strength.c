/* Postfix's lists of versions and ciphers, of servers and clients. */
#include "keys/keys.h"

/* ---- versions */

/* TLS's own numbers (RFC 8446 4.1.2); SSLv2 and SSLv3 are not there any more.
 */
static int version_of(slice name)
{
    static const struct {
        const char *name;
        int number;
    } versions[] = {
        { "SSLv2", 0x0200 },   { "SSLv3", 0x0300 },   { "TLSv1", 0x0301 },
        { "TLSv1.0", 0x0301 }, { "TLSv1.1", 0x0302 }, { "TLSv1.2", 0x0303 },
        { "TLSv1.3", 0x0304 },
    };

    for (size_t i = 0; i < ARRAY_LEN(versions); i++)
        if (slice_ieqs(name, versions[i].name))
            return versions[i].number;
    return 0;
}

enum { OLDEST = KEYS_TLS_OLDEST, NEWEST = 0x0304 };

struct versions {
    unsigned with, without; /* a bit each; bit 8: one that is not there */
    int low, high;
};

static int one_version(struct versions *v, slice word, struct err *err)
{
    bool is_range =
        slice_starts(word, SL(">=")) || slice_starts(word, SL("<="));
    bool is_not = word.p[0] == '!';
    size_t skip = is_range ? 2 : is_not ? 1 : 0;
    int number = version_of(slice_trim(slice_from(word, skip)));
    unsigned bit = number >= OLDEST ? 1u << (number - OLDEST) : 1u << 8;

    if (number == 0)
        return err_perm(err, "\"%.*s\" is no version of TLS", SLF(word));
    if (is_range && word.p[0] == '>')
        v->low = number > v->low ? number : v->low;
    else if (is_range)
        v->high = number < v->high ? number : v->high;
    else if (is_not)
        v->without |= bit;
    else
        v->with |= bit;
    return 0;
}

int keys_versions(slice list, int oldest, int *min, int *max, struct err *err)
{
    struct versions v = { .low = OLDEST, .high = NEWEST };
    slice word;

    *min = *max = -1;
    while (slice_token(&list, ", \t\r\n:;", &word))
        if (one_version(&v, word, err) < 0)
            return -1;
    *min = *max = 0;
    for (unsigned i = 0; i <= NEWEST - OLDEST; i++) {
        int n = OLDEST + (int)i;
        unsigned bit = 1u << i;

        if (n < v.low || n > v.high || n < oldest || (v.without & bit) ||
            (v.with != 0 && !(v.with & bit)))
            continue;
        *min = *min == 0 ? n : *min;
        *max = n;
    }
    return *min != 0 ? 0 : err_perm(err, "no version of TLS is left");
}

/* ---- ciphers */

static int put_exclusions(struct buf *b, slice list, struct err *err)
{
    slice word;

    while (slice_token(&list, ", \t\r\n:", &word)) {
        if (slice_chr(word, '!') >= 0 || slice_chr(word, '@') >= 0)
            return err_perm(err, "\"%.*s\" cannot be excluded", SLF(word));
        (void)buf_printf(b, ":!%.*s", SLF(word));
    }
    return 0;
}

static int put_grade(const struct conf *c, const struct conf_service *s,
                     slice grade, struct buf *out, struct err *err)
{
    static const char *const grades[] = { "high", "medium", "low", "export",
                                          "null" };

    for (size_t i = 0; i < ARRAY_LEN(grades); i++) {
        char name[64];

        if (!slice_ieqs(grade, grades[i]))
            continue;
        (void)snprintf(name, sizeof name, "tls_%s_cipherlist", grades[i]);
        (void)buf_slice(out, conf_slice(c, s, name));
        return 0;
    }
    return err_perm(err, "\"%.*s\" is no grade of ciphers", SLF(grade));
}

int keys_ciphers(const struct conf *c, const struct conf_service *s,
                 slice grade, slice exclude, struct buf *out, struct err *err)
{
    return put_grade(c, s, grade, out, err) < 0
               ? -1
               : put_exclusions(out, exclude, err);
}
