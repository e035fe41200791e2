#include "mail/date.h"

#include "base/base.h"

#include "base/clock.h"
#include "mail/mail_priv.h"

static const char *const months[] = {
    "Jan", "Feb", "Mar", "Apr", "May", "Jun",
    "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"
};
static const char *const days[] = { "Sun", "Mon", "Tue", "Wed",
                                    "Thu", "Fri", "Sat" };

/* RFC 5322 4.3, and the European ones that are seen in mail. */
static const struct {
    const char *name;
    int minutes;
} zones[] = {
    { "UT", 0 },      { "UTC", 0 },     { "GMT", 0 },    { "Z", 0 },
    { "EST", -300 },  { "EDT", -240 },  { "CST", -360 }, { "CDT", -300 },
    { "MST", -420 },  { "MDT", -360 },  { "PST", -480 }, { "PDT", -420 },
    { "AKST", -540 }, { "AKDT", -480 }, { "HST", -600 }, { "AST", -240 },
    { "ADT", -180 },  { "NST", -210 },  { "NDT", -150 }, { "WET", 0 },
    { "WEST", 60 },   { "BST", 60 },    { "CET", 60 },   { "CEST", 120 },
    { "MET", 60 },    { "MEST", 120 },  { "MEZ", 60 },   { "MESZ", 120 },
    { "EET", 120 },   { "EEST", 180 },  { "MSK", 180 },  { "MSD", 240 },
    { "IST", 330 },   { "SGT", 480 },   { "HKT", 480 },  { "KST", 540 },
    { "JST", 540 },   { "NZST", 720 },  { "NZDT", 780 },
};

/* Digits at the reader, at most max_digits; false when there are none. */
static bool get_number(struct lex *l, unsigned max_digits, int *out,
                       unsigned *n_digits)
{
    unsigned n = 0;
    int v = 0;

    while (l->p < l->end && ascii_isdigit(*l->p) && n < max_digits) {
        v = v * 10 + (*l->p++ - '0');
        n++;
    }
    if (n == 0 || (l->p < l->end && ascii_isdigit(*l->p)))
        return false;
    *out = v;
    *n_digits = n;
    return true;
}

static slice get_word(struct lex *l)
{
    const char *start = l->p;

    while (l->p < l->end && ascii_isalpha(*l->p))
        l->p++;
    return slice_of(start, (size_t)(l->p - start));
}

static int month_number(slice word)
{
    for (size_t i = 0; i < ARRAY_LEN(months); i++) {
        if (word.n >= 3 && slice_ieqs(slice_sub(word, 0, 3), months[i]))
            return (int)i + 1;
    }
    return 0;
}

/* "Sat," or "Sat" in front; any word will do. */
static bool skip_weekday(struct lex *l)
{
    if (lex_at_end(l) || !ascii_isalpha(*l->p))
        return !lex_at_end(l);
    (void)get_word(l);
    if (lex_skip(l) != LEX_MORE)
        return false;
    if (*l->p == '.') {
        l->p++;
        if (lex_skip(l) != LEX_MORE)
            return false;
    }
    if (*l->p == ',') {
        l->p++;
        return lex_skip(l) == LEX_MORE;
    }
    return true;
}

static bool get_day(struct lex *l, struct civil *c)
{
    unsigned n;

    if (!get_number(l, 2, &c->day, &n) || c->day < 1 || c->day > 31)
        return false;
    if (lex_is(l, '-')) {
        l->p++;
        return true;
    }
    return lex_skip(l) == LEX_MORE;
}

static bool get_month_year(struct lex *l, struct civil *c)
{
    unsigned n;

    c->month = month_number(get_word(l));
    if (c->month == 0)
        return false;
    if (lex_is(l, '.') || lex_is(l, '-'))
        l->p++;
    if (lex_skip(l) != LEX_MORE || !get_number(l, 4, &c->year, &n))
        return false;
    /* RFC 5322 4.3: two digits below 50 are this century, three count from
     * 1900. */
    if (n == 2)
        c->year += c->year < 50 ? 2000 : 1900;
    else if (n == 3)
        c->year += 1900;
    return n > 1 && c->year >= 1900;
}

/* ":" or "." between the parts of a time. */
static bool get_colon(struct lex *l)
{
    if (lex_skip(l) != LEX_MORE || (*l->p != ':' && *l->p != '.'))
        return false;
    l->p++;
    return lex_skip(l) == LEX_MORE;
}

static bool get_time(struct lex *l, struct civil *c)
{
    unsigned n;
    const char *start;

    if (!get_number(l, 2, &c->hour, &n) || c->hour > 23 || !get_colon(l) ||
        !get_number(l, 2, &c->min, &n) || c->min > 59)
        return false;
    start = l->p;
    c->sec = 0;
    if (!get_colon(l)) {
        l->p = start;
        return true;
    }
    if (!get_number(l, 2, &c->sec, &n) || c->sec > 60)
        return false;
    if (c->sec == 60)
        c->sec = 59; /* the leap second has no number of its own */
    return true;
}

static int zone_by_name(slice word)
{
    for (size_t i = 0; i < ARRAY_LEN(zones); i++) {
        if (slice_ieqs(word, zones[i].name))
            return zones[i].minutes;
    }
    /* RFC 5322 4.3: military zones and unknown ones count as -0000. */
    return 0;
}

static int get_zone(struct lex *l)
{
    int v = 0;
    unsigned n;
    char sign;

    if (lex_skip(l) != LEX_MORE)
        return 0;
    if (*l->p != '+' && *l->p != '-')
        return zone_by_name(get_word(l));
    sign = *l->p++;
    if (!get_number(l, 4, &v, &n) || n != 4 || v % 100 > 59)
        return 0;
    v = v / 100 * 60 + v % 100;
    return sign == '-' ? -v : v;
}

bool mail_date_parse(slice s, int64_t *unix_out, int *zone_min_out)
{
    struct civil c = { .year = 0 };
    struct lex l;

    lex_init(&l, s, NULL);
    if (lex_skip(&l) != LEX_MORE || !skip_weekday(&l) || !get_day(&l, &c) ||
        !get_month_year(&l, &c))
        return false;
    if (lex_skip(&l) != LEX_MORE || !get_time(&l, &c))
        return false;
    c.offset_min = get_zone(&l);
    *unix_out = clock_from_civil(&c);
    *zone_min_out = c.offset_min;
    return true;
}

static void in_zone(int64_t unix_sec, int zone_min, struct civil *c)
{
    /* Beyond these the year would not fit four digits. */
    if (unix_sec < -2208988800)
        unix_sec = -2208988800;
    if (unix_sec > 253402300799 - 86400)
        unix_sec = 253402300799 - 86400;
    if (zone_min < -1439 || zone_min > 1439)
        zone_min = 0;
    clock_utc(unix_sec + (int64_t)zone_min * 60, c);
    c->offset_min = zone_min;
}

void mail_date_format(int64_t unix_sec, int zone_min, char out[static 40])
{
    struct civil c;
    int zone;

    in_zone(unix_sec, zone_min, &c);
    zone = c.offset_min < 0 ? -c.offset_min : c.offset_min;
    (void)snprintf(out, 40, "%s, %d %s %04d %02d:%02d:%02d %c%02d%02d",
                   days[c.wday % 7], c.day, months[(c.month + 11) % 12], c.year,
                   c.hour, c.min, c.sec, c.offset_min < 0 ? '-' : '+',
                   zone / 60, zone % 60);
}

void mail_date_imap(int64_t unix_sec, int zone_min, char out[static 32])
{
    struct civil c;
    int zone;

    in_zone(unix_sec, zone_min, &c);
    zone = c.offset_min < 0 ? -c.offset_min : c.offset_min;
    (void)snprintf(out, 32, "%2d-%s-%04d %02d:%02d:%02d %c%02d%02d",
                   c.day % 100, months[(c.month + 11) % 12], c.year % 10000,
                   c.hour % 100, c.min % 100, c.sec % 100,
                   c.offset_min < 0 ? '-' : '+', zone / 60 % 100, zone % 60);
}

bool mail_date_imap_parse(slice s, int64_t *unix_out, int *zone_min_out)
{
    struct civil c = { .year = 0 };
    struct lex l;
    unsigned n;

    lex_init(&l, s, NULL);
    if (lex_is(&l, ' '))
        l.p++;
    if (!get_number(&l, 2, &c.day, &n) || c.day < 1 || c.day > 31 ||
        !lex_is(&l, '-'))
        return false;
    l.p++;
    c.month = month_number(get_word(&l));
    if (c.month == 0 || !lex_is(&l, '-'))
        return false;
    l.p++;
    if (!get_number(&l, 4, &c.year, &n) || n != 4 || !lex_is(&l, ' '))
        return false;
    l.p++;
    if (!get_time(&l, &c) || !lex_is(&l, ' '))
        return false;
    c.offset_min = get_zone(&l);
    if (!lex_at_end(&l))
        return false;
    *unix_out = clock_from_civil(&c);
    *zone_min_out = c.offset_min;
    return true;
}

void mail_date_mbox(const struct civil *when, char out[static 32])
{
    (void)snprintf(out, 32, "%s %s %2d %02d:%02d:%02d %04d",
                   days[when->wday % 7], months[(when->month + 11) % 12],
                   when->day % 100, when->hour % 100, when->min % 100,
                   when->sec % 100, when->year % 10000);
}
