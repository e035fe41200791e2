#include "mail/charset.h"

#include <iconv.h>

#include "base/base.h"

#include "mail/domain.h"

/*
 * What mail calls a charset, and what iconv shall read it as.  The right side
 * is the larger set of the same family that senders really use: a "gb2312"
 * text holds GBK, a "shift_jis" text holds Microsoft's additions.
 */
static const struct {
    const char *name;
    const char *iconv;
} aliases[] = {
    { "shift_jis", "CP932" },
    { "shift-jis", "CP932" },
    { "sjis", "CP932" },
    { "x-sjis", "CP932" },
    { "ms_kanji", "CP932" },
    { "windows-31j", "CP932" },
    { "cp932", "CP932" },
    { "iso-2022-jp-ms", "ISO-2022-JP-3" },
    { "cp50220", "ISO-2022-JP-3" },
    { "cp50221", "ISO-2022-JP-3" },
    { "euc-jp", "EUC-JP-MS" },
    { "eucjp", "EUC-JP-MS" },
    { "eucjp-ms", "EUC-JP-MS" },
    { "x-euc-jp", "EUC-JP-MS" },
    { "cp51932", "EUC-JP-MS" },
    { "gb2312", "GB18030" },
    { "gb_2312-80", "GB18030" },
    { "euc-cn", "GB18030" },
    { "x-gbk", "GB18030" },
    { "gbk", "GB18030" },
    { "cp936", "GB18030" },
    { "gb18030", "GB18030" },
    { "ks_c_5601-1987", "CP949" },
    { "ks_c_5601", "CP949" },
    { "ksc5601", "CP949" },
    { "ksc_5601", "CP949" },
    { "euc-kr", "CP949" },
    { "cp949", "CP949" },
    { "windows-949", "CP949" },
    { "big5", "BIG5-HKSCS" },
    { "x-big5", "BIG5-HKSCS" },
    { "unicode-1-1-utf-7", "UTF-7" },
    { "unicode-1-1-utf-8", "UTF-8" },
    { "utf8", "UTF-8" },
    { "x-unknown", "" },
    { "unknown", "" },
    { "unknown-8bit", "" },
    { "x-user-defined", "" },
    { "ascii", "" },
    { "us-ascii", "" },
    { "ansi_x3.4-1968", "" },
    { "iso-8859-8-i", "ISO-8859-8" },
    { "iso-8859-8-e", "ISO-8859-8" },
    { "iso8859-1", "CP1252" },
    { "latin1", "CP1252" },
    { "iso-8859-1", "CP1252" },
    { "cp-850", "CP850" },
    { "x-mac-roman", "MACINTOSH" },
    { "macintosh", "MACINTOSH" },
    { "tis-620", "CP874" },
};

static const char *const warm[] = {
    "us-ascii",     "iso-8859-1",   "iso-8859-2",     "iso-8859-3",
    "iso-8859-4",   "iso-8859-5",   "iso-8859-6",     "iso-8859-7",
    "iso-8859-8",   "iso-8859-9",   "iso-8859-10",    "iso-8859-13",
    "iso-8859-14",  "iso-8859-15",  "iso-8859-16",    "windows-1250",
    "windows-1251", "windows-1252", "windows-1253",   "windows-1254",
    "windows-1255", "windows-1256", "windows-1257",   "windows-1258",
    "koi8-r",       "koi8-u",       "iso-2022-jp",    "iso-2022-jp-ms",
    "shift_jis",    "euc-jp",       "gb2312",         "iso-2022-cn",
    "hz-gb-2312",   "big5",         "ks_c_5601-1987", "iso-2022-kr",
    "tis-620",      "utf-7",        "utf-16",
};

#define NAME_SIZE 48

struct converter {
    char name[NAME_SIZE]; /* lower case, as asked */
    iconv_t cd;
    uint64_t used;
};

/* The only state of the room: opened converters, the oldest is closed when the
 * table is full. */
static struct converter converters[MAIL_CHARSET_KEEP];
static uint64_t use_counter;

static bool fold_name(slice charset, char out[static NAME_SIZE])
{
    charset = slice_trim(charset);
    if (charset.n == 0 || charset.n >= NAME_SIZE)
        return false;
    for (size_t i = 0; i < charset.n; i++) {
        char c = ascii_lower(charset.p[i]);

        /* iconv reads '/' as the start of its own options. */
        if (!ascii_isalnum(c) && (c == '\0' || strchr("-_.:+()", c) == NULL))
            return false;
        out[i] = c;
    }
    out[charset.n] = '\0';
    return true;
}

static const char *iconv_name(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(aliases); i++) {
        if (strcmp(aliases[i].name, name) == 0)
            return aliases[i].iconv;
    }
    return name;
}

static struct converter *oldest(void)
{
    struct converter *best = &converters[0];

    for (size_t i = 0; i < ARRAY_LEN(converters); i++) {
        if (converters[i].used < best->used)
            best = &converters[i];
    }
    return best;
}

/* NULL when iconv does not know it.  `name` is folded. */
static struct converter *open_converter(const char *name)
{
    struct converter *c;
    iconv_t cd;

    for (size_t i = 0; i < ARRAY_LEN(converters); i++) {
        c = &converters[i];
        if (c->used > 0 && strcmp(c->name, name) == 0) {
            c->used = ++use_counter;
            return c;
        }
    }
    cd = iconv_open("UTF-8", iconv_name(name));
    if (cd == (iconv_t)-1) /* NOLINT(performance-no-int-to-ptr): iconv's way to
                              say no */
        return NULL;
    c = oldest();
    if (c->used > 0)
        (void)iconv_close(c->cd);
    (void)slice_copy_to(slice_str(name), c->name, sizeof c->name);
    c->cd = cd;
    c->used = ++use_counter;
    return c;
}

void mail_charset_setup(void)
{
    for (size_t i = 0; i < ARRAY_LEN(warm); i++)
        (void)mail_charset_known(slice_str(warm[i]));
}

/* UTF-8 and what is read as if it were: no converter is needed. */
static bool is_utf8_like(const char *name)
{
    const char *target = iconv_name(name);

    return target[0] == '\0' || strcmp(target, "UTF-8") == 0 ||
           strcmp(target, "utf-8") == 0;
}

bool mail_charset_known(slice charset)
{
    char name[NAME_SIZE];

    if (charset.n == 0)
        return true;
    if (!fold_name(charset, name))
        return false;
    return is_utf8_like(name) || open_converter(name) != NULL;
}

bool mail_utf8_clean(struct buf *b, slice in)
{
    size_t start = 0, i = 0;

    while (i < in.n) {
        size_t len;

        if ((unsigned char)in.p[i] < 0x80) {
            i++;
            continue;
        }
        len = mail_utf8_len(slice_from(in, i));
        if (len > 0) {
            i += len;
            continue;
        }
        buf_put(b, in.p + start, i - start);
        buf_puts(b, "\xEF\xBF\xBD");
        /* One replacement for a run of stray bytes reads best. */
        while (i < in.n && mail_utf8_len(slice_from(in, i)) == 0)
            i++;
        start = i;
    }
    if (in.n > start)
        buf_put(b, in.p + start, in.n - start);
    return !b->overflow;
}

#define CHUNK 1024

/* One iconv call's worth; a bad byte is replaced and passed over. */
static void convert_step(struct buf *b, iconv_t cd, char **in, size_t *n_in)
{
    char out[CHUNK];
    char *to = out;
    size_t room = sizeof out;
    size_t r = iconv(cd, in, n_in, &to, &room);
    int why = errno;

    buf_put(b, out, sizeof out - room);
    if (r != (size_t)-1 || why == E2BIG)
        return;
    /* EILSEQ, or EINVAL: the input ends inside a character. */
    buf_puts(b, "\xEF\xBF\xBD");
    if (*n_in > 0) {
        (*in)++;
        (*n_in)--;
    }
}

bool mail_charset_to_utf8(struct buf *b, slice charset, slice in)
{
    char name[NAME_SIZE];
    struct converter *c;
    char *p, *copy;
    size_t n = in.n;

    if (charset.n == 0)
        return mail_utf8_clean(b, in);
    if (!fold_name(charset, name)) {
        mail_utf8_clean(b, in);
        return false;
    }
    if (is_utf8_like(name))
        return mail_utf8_clean(b, in);
    c = open_converter(name);
    if (c == NULL) {
        mail_utf8_clean(b, in);
        return false;
    }
    /* iconv's prototype lacks const; a copy keeps the promise for it. */
    copy = p = slice_xstrdup(in);
    (void)iconv(c->cd, NULL, NULL, NULL, NULL);
    while (n > 0 && !b->overflow)
        convert_step(b, c->cd, &p, &n);
    free(copy);
    return !b->overflow;
}
