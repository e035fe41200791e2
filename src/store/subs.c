#include "store/store_priv.h"

#include "rt/file.h"

/*
 * Subscriptions: Dovecot's file in the Maildir, one storage name (modified
 * UTF-7) a line.  Version 1 is just that; version 2 begins with "V\t2" and an
 * empty line and has levels divided by TABs, with \001 before what is escaped.
 * Where there is none, Courier's is read ("INBOX.a.b").
 */

#define SUBS_FILE    "subscriptions"
#define COURIER_FILE "courierimapsubscribed"

enum {
    SUBS_BYTES = 4 << 20,
    SUBS_NAMES = 20000,
};

void subs_done(struct subs *s)
{
    for (size_t i = 0; i < s->n; i++)
        free(s->name[i]);
    free(s->name);
    *s = (struct subs){ 0 };
}

static void subs_add(struct subs *s, slice raw)
{
    if (raw.n == 0 || raw.n > MAILBOX_DIR_MAX || s->n >= SUBS_NAMES ||
        slice_find(raw, slice_of("", 1)) >= 0)
        return;
    if (s->n == s->size) {
        s->size = s->size ? s->size * 2 : 16;
        s->name = xrealloc(s->name, s->size * sizeof *s->name);
    }
    s->name[s->n++] = slice_xstrdup(raw);
}

/* A line of version 2: levels between TABs, \001 t for a TAB in one, \001 1,
 * \001 n, \001 r, \001 0 for other bytes. */
static void line_v2(struct subs *s, slice line)
{
    static const char codes[][2] = {
        { '1', '\001' }, { 't', '\t' }, { 'n', '\n' }, { 'r', '\r' }
    };
    struct buf b CLEANUP(buf_done) = { 0 };

    buf_init(&b, MAILBOX_DIR_MAX);
    for (size_t i = 0; i < line.n; i++) {
        char c = line.p[i];

        if (c == '\t') {
            c = '.';
        } else if (c == '\001' && i + 1 < line.n) {
            i++;
            c = '\0'; /* no name has what is not in the table */
            for (size_t k = 0; k < ARRAY_LEN(codes); k++)
                if (codes[k][0] == line.p[i])
                    c = codes[k][1];
        }
        buf_byte(&b, c);
    }
    if (!b.overflow)
        subs_add(s, buf_view(&b));
}

void subs_parse(struct subs *s, slice text)
{
    slice line;

    s->version = 1;
    while (text.n > 0 && s->n < SUBS_NAMES) {
        slice_cut(&text, '\n', &line);
        if (slice_ends(line, SL("\r")))
            line.n--;
        if (s->n == 0 && slice_starts(line, SL("V\t"))) {
            s->version = 2;
            continue;
        }
        if (s->version == 1)
            subs_add(s, line);
        else
            line_v2(s, line);
    }
}

void subs_parse_courier(struct subs *s, slice text)
{
    slice line;

    s->version = 2;
    while (text.n > 0 && s->n < SUBS_NAMES) {
        slice_cut(&text, '\n', &line);
        line = slice_trim(line);
        if (slice_istarts(line, SL("INBOX.")))
            line = slice_from(line, 6);
        subs_add(s, line);
    }
}

void subs_print(const struct subs *s, struct buf *out)
{
    if (s->version != 1)
        buf_puts(out, "V\t2\n\n");
    for (size_t i = 0; i < s->n; i++) {
        for (const char *p = s->name[i]; *p; p++) {
            if (s->version != 1 && *p == '.')
                buf_byte(out, '\t');
            else if (s->version != 1 && *p == '\001')
                buf_puts(out, "\0011");
            else
                buf_byte(out, *p);
        }
        buf_byte(out, '\n');
    }
}

int subs_load(struct store_account *a, struct subs *out, struct err *err)
{
    struct buf b CLEANUP(buf_done) = { 0 };
    int fd = engine_dir_fd(a->dir);
    struct err why;

    *out = (struct subs){ .version = 2 };
    buf_init(&b, SUBS_BYTES);
    if (file_read(fd, SUBS_FILE, &b, &why) == 0) {
        subs_parse(out, buf_view(&b));
        return 0;
    }
    if (why.sys != ENOENT)
        return err_temp(err, "subscriptions of %s: %s", a->user, why.log);
    buf_clear(&b);
    if (file_read(fd, COURIER_FILE, &b, &why) == 0)
        subs_parse_courier(out, buf_view(&b));
    return 0;
}

bool subs_has(const struct subs *s, const char *raw)
{
    for (size_t i = 0; i < s->n; i++)
        if (strcmp(s->name[i], raw) == 0)
            return true;
    return false;
}

int store_subscribe(struct store_account *a, slice name, bool on,
                    struct err *err)
{
    struct subs s CLEANUP(subs_done) = { 0 };
    struct buf b CLEANUP(buf_done) = { 0 };
    char dir[MAILBOX_DIR_MAX + 1];
    const char *raw = "INBOX";
    bool was;

    CHECK_OBJ(a, ACCOUNT_MAGIC);
    if (mailbox_dir_of(name, dir, err) < 0 || subs_load(a, &s, err) < 0)
        return -1;
    if (dir[0] != '\0')
        raw = dir + 1;
    was = subs_has(&s, raw);
    if (was == on)
        return 0;
    if (on && s.n >= SUBS_NAMES)
        return mailbox_refuse(err, ENOSPC, "Too many subscriptions");
    if (on)
        subs_add(&s, slice_str(raw));
    for (size_t i = 0; !on && i < s.n; i++) {
        if (strcmp(s.name[i], raw) != 0)
            continue;
        free(s.name[i]);
        memmove(&s.name[i], &s.name[i + 1], (s.n - i - 1) * sizeof *s.name);
        s.n--;
        i--;
    }
    buf_init(&b, SUBS_BYTES);
    subs_print(&s, &b);
    if (b.overflow)
        return mailbox_refuse(err, ENOSPC, "Too many subscriptions");
    if (file_replace(engine_dir_fd(a->dir), SUBS_FILE, buf_view(&b), 0600,
                     err) < 0)
        return err_prefix(err, "subscriptions of %s", a->user);
    return 0;
}
