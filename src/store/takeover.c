#include "store/store_priv.h"

#include "rt/file.h"

/*
 * A Maildir that another server has served: its numbers, read once, when we
 * have no index of the mailbox and never had one.
 *
 *   dovecot-uidlist       version 1 and 3: UIDVALIDITY, UIDNEXT, GUID, and of
 *                         each message UID, base name, W size, P unique id
 *   dovecot-keywords      names of the letters a to z
 *   courierimapuiddb      as dovecot-uidlist version 1
 *   courierimapkeywords/  ":list" and a file for each message changed since
 *   courierpop3dsizelist  sizes and unique ids that pop3d has shown
 *
 * All of it is read and nothing written.  What is damaged is passed over: a
 * message without a number gets a new one.
 */

enum {
    TEXT_MAX = 512 << 20,
    ENTRIES_MAX = 20000000,
    LETTERS = 26,
    UIDL_KEEP_MAX = 255,
};

#define COURIER_KEYWORDS "courierimapkeywords"

void takeover_free(struct takeover **tp)
{
    struct takeover *t = *tp;

    if (!t)
        return;
    for (size_t i = 0; i < ARRAY_LEN(t->text); i++)
        buf_done(&t->text[i]);
    for (size_t i = 0; i < N_KEYWORDS; i++)
        free(t->keyword[i]);
    free(t->list);
    free(t->table);
    free(t);
    *tp = NULL;
}

struct takeover *takeover_new(void)
{
    struct takeover *t = xcalloc(1, sizeof *t);

    for (size_t i = 0; i < ARRAY_LEN(t->text); i++)
        buf_init(&t->text[i], TEXT_MAX);
    return t;
}

/* ---- entries by base name ---- */

static void table_grow(struct takeover *t)
{
    size_t n = t->n_table ? t->n_table * 2 : 256;

    free(t->table);
    t->table = xcalloc(n, sizeof *t->table);
    t->n_table = n;
    for (size_t i = 0; i < t->n; i++) {
        size_t at = slice_hash(t->list[i].base) & (n - 1);

        while (t->table[at])
            at = (at + 1) & (n - 1);
        t->table[at] = (uint32_t)(i + 1);
    }
}

struct takeover_entry *takeover_find(const struct takeover *t, slice base)
{
    size_t at;

    if (t->n_table == 0)
        return NULL;
    at = slice_hash(base) & (t->n_table - 1);
    while (t->table[at]) {
        struct takeover_entry *e = &t->list[t->table[at] - 1];

        if (slice_eq(e->base, base))
            return e;
        at = (at + 1) & (t->n_table - 1);
    }
    return NULL;
}

/* The entry of a file, without what stands behind ':'; NULL for no name. */
static struct takeover_entry *entry_of(struct takeover *t, slice file)
{
    ssize_t colon = slice_chr(file, ':');
    slice base = colon >= 0 ? slice_sub(file, 0, (size_t)colon) : file;
    struct takeover_entry *e = takeover_find(t, base);
    size_t at;

    if (e || base.n == 0 || base.n > FILE_NAME_MAX || t->n >= ENTRIES_MAX)
        return e;
    if ((t->n + 1) * 2 > t->n_table)
        table_grow(t);
    if (t->n == t->size) {
        t->size = t->size ? t->size * 2 : 64;
        t->list = xrealloc(t->list, t->size * sizeof *t->list);
    }
    at = slice_hash(base) & (t->n_table - 1);
    while (t->table[at])
        at = (at + 1) & (t->n_table - 1);
    t->list[t->n++] = (struct takeover_entry){ .base = base };
    t->table[at] = (uint32_t)t->n;
    return &t->list[t->n - 1];
}

static bool number_u32(slice s, uint32_t *out)
{
    uint64_t v;

    if (!slice_u64(s, &v) || v == 0 || v >= UINT32_MAX)
        return false;
    *out = (uint32_t)v;
    return true;
}

static void set_uid(struct takeover *t, struct takeover_entry *e, uint32_t uid)
{
    e->uid = uid;
    if (uid >= t->uidnext)
        t->uidnext = uid + 1;
}

/* ---- dovecot-uidlist, courierimapuiddb ---- */

/* "V<uidvalidity> N<next UID> G<guid>" of version 3. */
static bool head_v3(struct takeover *t, slice rest)
{
    slice tok;

    while (slice_token(&rest, " ", &tok)) {
        slice v = slice_from(tok, 1);

        if (tok.p[0] == 'V' && !number_u32(v, &t->uidvalidity))
            return false;
        if (tok.p[0] == 'N' && !number_u32(v, &t->uidnext))
            return false;
        if (tok.p[0] == 'G')
            t->has_guid = hex_get(v, t->guid, ID_BYTES);
    }
    return t->uidvalidity != 0;
}

static bool head_v1(struct takeover *t, slice rest)
{
    slice validity, next;

    return slice_token(&rest, " ", &validity) &&
           slice_token(&rest, " ", &next) &&
           number_u32(validity, &t->uidvalidity) &&
           number_u32(next, &t->uidnext);
}

/* "<uid> [W<size>] [P<unique id>] ... :<file>" */
static void line_v3(struct takeover *t, slice line)
{
    struct takeover_entry one = { 0 };
    struct takeover_entry *e;
    slice tok, file = SLICE_NONE;

    if (!slice_token(&line, " ", &tok) || !number_u32(tok, &one.uid))
        return;
    for (;;) {
        while (line.n > 0 && line.p[0] == ' ')
            line = slice_from(line, 1);
        if (slice_starts(line, SL(":"))) { /* the file, which may be empty */
            file = slice_from(line, 1);
            break;
        }
        if (!slice_token(&line, " ", &tok))
            break;
        if (tok.p[0] == 'W')
            (void)slice_u64(slice_from(tok, 1), &one.crlf_size);
        else if (tok.p[0] == 'P' && tok.n <= UIDL_KEEP_MAX + 1)
            one.uidl = slice_from(tok, 1);
    }
    e = entry_of(t, file);
    if (!e)
        return;
    e->crlf_size = one.crlf_size;
    e->uidl = one.uidl;
    set_uid(t, e, one.uid);
}

static void line_v1(struct takeover *t, slice line)
{
    struct takeover_entry *e;
    uint32_t uid;
    slice tok;

    if (!slice_cut(&line, ' ', &tok) || !number_u32(tok, &uid))
        return;
    e = entry_of(t, line);
    if (e)
        set_uid(t, e, uid);
}

bool takeover_uidlist(struct takeover *t, slice text)
{
    slice line, tok;
    bool v3;

    slice_cut(&text, '\n', &line);
    line = slice_rtrim(line);
    if (!slice_token(&line, " ", &tok))
        return false;
    v3 = slice_eqs(tok, "3");
    if (!v3 && !slice_eqs(tok, "1"))
        return false;
    if (!(v3 ? head_v3(t, line) : head_v1(t, line))) {
        t->uidvalidity = t->uidnext = 0;
        return false;
    }
    /* The last line may be half written. */
    while (slice_cut(&text, '\n', &line)) {
        line = slice_rtrim(line);
        if (v3)
            line_v3(t, line);
        else
            line_v1(t, line);
    }
    return true;
}

/* ---- keywords ---- */

bool takeover_keyword_ok(slice name)
{
    if (name.n == 0 || name.n > 255 || name.p[0] == '\\')
        return false;
    for (size_t i = 0; i < name.n; i++)
        if (name.p[i] <= ' ' || name.p[i] > '~' ||
            strchr("(){%*\"\\]", name.p[i]))
            return false;
    return true;
}

/* "<number> <name>" a line, 0 for the letter a. */
void takeover_keywords(struct takeover *t, slice text)
{
    slice line, tok;
    uint64_t i;

    while (text.n > 0) {
        slice_cut(&text, '\n', &line);
        line = slice_rtrim(line);
        if (!slice_cut(&line, ' ', &tok) || !slice_u64(tok, &i) ||
            i >= LETTERS || !takeover_keyword_ok(line) || t->keyword[i])
            continue;
        t->keyword[i] = slice_xstrdup(line);
    }
}

/* The bit of a keyword's name; N_KEYWORDS when there is no room. */
static unsigned bit_of(struct takeover *t, slice name)
{
    for (unsigned i = 0; i < N_KEYWORDS; i++) {
        if (!t->keyword[i]) {
            t->keyword[i] = slice_xstrdup(name);
            return i;
        }
        if (slice_ieqs(name, t->keyword[i]))
            return i;
    }
    return N_KEYWORDS;
}

/* Names up to an empty line, then "<file>:<number> <number> ..." */
void takeover_courier_keywords(struct takeover *t, slice text)
{
    unsigned bits[256];
    size_t n = 0;
    slice line, file, tok;
    uint64_t i;

    while (slice_cut(&text, '\n', &line)) {
        line = slice_rtrim(line);
        if (line.n == 0)
            break;
        if (n < ARRAY_LEN(bits))
            bits[n++] =
                takeover_keyword_ok(line) ? bit_of(t, line) : N_KEYWORDS;
    }
    while (text.n > 0) {
        struct takeover_entry *e;

        slice_cut(&text, '\n', &line);
        if (!slice_cut(&line, ':', &file))
            continue;
        e = entry_of(t, file);
        while (e && slice_token(&line, " \r", &tok))
            if (slice_u64(tok, &i) && i < n && bits[i] < N_KEYWORDS)
                e->keywords |= UINT64_C(1) << bits[i];
    }
}

/* A message's own file: its keywords' names, one a line. */
void takeover_courier_message(struct takeover *t, slice file, slice text)
{
    struct takeover_entry *e = entry_of(t, file);
    slice line;

    if (!e)
        return;
    e->keywords = 0;
    while (text.n > 0) {
        unsigned bit;

        slice_cut(&text, '\n', &line);
        line = slice_rtrim(line);
        bit = takeover_keyword_ok(line) ? bit_of(t, line) : N_KEYWORDS;
        if (bit < N_KEYWORDS)
            e->keywords |= UINT64_C(1) << bit;
    }
}

/* ---- courierpop3dsizelist ---- */

/* "<file> <size> <uid>:<uidvalidity>"; the id that was shown is made of the
 * last two, or is the file's name. */
void takeover_courier_sizes(struct takeover *t, slice text)
{
    slice line, file, size, uid, validity;

    while (slice_cut(&text, '\n', &line)) {
        struct takeover_entry *e;

        line = slice_rtrim(line);
        if (slice_starts(line, SL("/")) || !slice_token(&line, " ", &file) ||
            !slice_token(&line, " ", &size))
            continue;
        e = entry_of(t, file);
        if (!e)
            continue;
        (void)slice_u64(size, &e->crlf_size);
        e->uidl_is_name = true;
        if (!slice_token(&line, " ", &validity) ||
            !slice_cut(&validity, ':', &uid) ||
            !number_u32(uid, &e->pop3_uid) ||
            !number_u32(validity, &e->pop3_validity))
            continue;
        e->uidl_is_name = false;
    }
}

bool takeover_uidl(const struct takeover_entry *e, struct buf *out)
{
    if (e->uidl.n > 0)
        return buf_slice(out, e->uidl);
    if (e->pop3_uid > 0)
        return buf_printf(out, "UID%u-%u", e->pop3_uid, e->pop3_validity);
    if (e->uidl_is_name)
        return buf_slice(out, e->base);
    return false;
}

/* ---- reading what is there ---- */

static bool read_text(struct store_mailbox *m, const char *name, struct buf *b)
{
    char path[PATH_IN_DIR_MAX];
    struct err err;

    (void)snprintf(path, sizeof path, "%s%s", m->dir, name);
    buf_clear(b);
    if (file_read(engine_dir_fd(m->account->dir), path, b, &err) == 0)
        return true;
    if (err.sys != ENOENT && err.sys != ENOTDIR)
        store_note(m->account, "%s is not taken over: %s", path, err.log);
    return false;
}

struct keyword_files {
    struct store_mailbox *m;
    struct takeover *t;
};

static bool on_keyword_file(const char *entry, void *arg)
{
    struct keyword_files *k = arg;
    struct buf b CLEANUP(buf_done) = { 0 };
    char path[FILE_NAME_MAX + 64];

    if (entry[0] == '.' || entry[0] == ':' ||
        !takeover_find(k->t, slice_str(entry)))
        return true;
    buf_init(&b, 65536);
    (void)snprintf(path, sizeof path, COURIER_KEYWORDS "/%s", entry);
    if (read_text(k->m, path, &b))
        takeover_courier_message(k->t, slice_str(entry), buf_view(&b));
    return true;
}

static void read_courier(struct store_mailbox *m, struct takeover *t)
{
    struct keyword_files k = { m, t };
    char path[PATH_IN_DIR_MAX];
    struct err err;

    if (read_text(m, COURIER_KEYWORDS "/:list", &t->text[1]))
        takeover_courier_keywords(t, buf_view(&t->text[1]));
    (void)snprintf(path, sizeof path, "%s" COURIER_KEYWORDS, m->dir);
    (void)engine_list(m->account->dir, path, on_keyword_file, &k, &err);
}

struct takeover *takeover_read(struct store_mailbox *m)
{
    struct takeover *t = takeover_new();
    bool known = false;

    if (read_text(m, "dovecot-uidlist", &t->text[0])) {
        known = takeover_uidlist(t, buf_view(&t->text[0]));
        if (!known)
            store_note(m->account,
                       "dovecot-uidlist of %s is damaged: new "
                       "UIDs",
                       m->name);
    } else if (read_text(m, "courierimapuiddb", &t->text[0])) {
        known = takeover_uidlist(t, buf_view(&t->text[0]));
        if (known)
            read_courier(m, t);
    }
    if (read_text(m, DOVECOT_KEYWORDS, &t->text[2])) {
        takeover_keywords(t, buf_view(&t->text[2]));
        known = true;
    }
    if (m->is_inbox && read_text(m, "courierpop3dsizelist", &t->text[3])) {
        takeover_courier_sizes(t, buf_view(&t->text[3]));
        known = true;
    }
    if (!known)
        takeover_free(&t);
    return t;
}

/* The last UIDVALIDITY that Dovecot gave in this account, in hexadecimal. */
uint32_t takeover_last_uidvalidity(struct store_account *a)
{
    struct buf b CLEANUP(buf_done) = { 0 };
    uint8_t v[4];
    struct err err;

    buf_init(&b, 64);
    if (file_read(engine_dir_fd(a->dir), "dovecot-uidvalidity", &b, &err) < 0 ||
        !hex_get(slice_rtrim(buf_view(&b)), v, sizeof v))
        return 0;
    return (uint32_t)v[0] << 24 | (uint32_t)v[1] << 16 | (uint32_t)v[2] << 8 |
           v[3];
}
