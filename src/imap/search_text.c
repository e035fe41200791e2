/* Words in messages: ENVELOPE from the index where that is enough, else the
 * file, its parts decoded to UTF-8 and folded. */
#include "imap/search.h"

#include "ipc/event.h"
#include "mail/mail.h"
#include "rt/file.h"

#include <unicase.h>
#include <uninorm.h>

#define PIECE      (256u << 10)
#define PART_MAX   (32u << 20) /* decoded and folded bytes of one part */
#define TREE_MAX   (8u << 20)
#define SHORT_TEXT (64u << 10)

/* ------------------------------------------------------------------- folding
 */

static size_t ascii_run(slice in)
{
    size_t n = 0;

    while (n < in.n && (unsigned char)in.p[n] < 0x80)
        n++;
    return n;
}

static size_t other_run(slice in)
{
    size_t n = 0;

    while (n < in.n && (unsigned char)in.p[n] >= 0x80)
        n++;
    return n;
}

/* Decomposed, so that where a run ends makes no difference. */
static void fold_other(struct buf *out, slice in)
{
    size_t n = 0;
    uint8_t *folded =
        u8_casefold((const uint8_t *)in.p, in.n, NULL, UNINORM_NFKD, NULL, &n);

    if (folded == NULL)
        (void)buf_slice(out, in); /* it is no UTF-8: as it is */
    else
        (void)buf_put(out, folded, n);
    free(folded);
}

void search_fold(struct buf *out, slice in)
{
    while (in.n > 0) {
        size_t n = ascii_run(in);
        char *to = buf_reserve(out, n);

        if (to == NULL)
            return;
        for (size_t i = 0; i < n; i++)
            to[i] = ascii_lower(in.p[i]);
        buf_commit(out, n);
        in = slice_from(in, n);
        n = other_run(in);
        if (n > 0)
            fold_other(out, slice_sub(in, 0, n));
        in = slice_from(in, n);
    }
}

static bool holds(struct search_message *m, slice utf8, slice what)
{
    if (what.n == 0)
        return true;
    if (m->folded.max == 0)
        buf_init(&m->folded, PART_MAX);
    buf_clear(&m->folded);
    search_fold(&m->folded, utf8);
    return m->folded.n >= what.n &&
           memmem(m->folded.p, m->folded.n, what.p, what.n) != NULL;
}

/* ------------------------------------------------------------------ ENVELOPE
 */

/* Past one value in parentheses: lists of addresses. */
static bool skip_list(struct imap_cursor *in)
{
    unsigned depth = 0;
    slice word;
    bool is_nil;

    do {
        if (imap_eat(in, '('))
            depth++;
        else if (imap_eat(in, ')'))
            depth--;
        else if (!imap_sp(in) && !imap_nstring(in, &word, &is_nil))
            return false;
    } while (depth > 0);
    return true;
}

static bool cut_envelope(struct search_message *m, slice text)
{
    struct imap_cursor in = { text, m->arena };

    (void)imap_eat(&in, '(');
    for (unsigned i = 0; i < ENV_FIELDS; i++) {
        slice start = in.rest;
        slice word;
        bool is_nil = false;

        if (i > 0 && imap_sp(&in))
            start = in.rest;
        if (start.n > 0 && start.p[0] == '(') {
            if (!skip_list(&in))
                return false;
            m->envelope[i] = slice_sub(start, 0, start.n - in.rest.n);
        } else if (imap_nstring(&in, &word, &is_nil)) {
            m->envelope[i] = is_nil ? SLICE_NONE : word;
            if (!is_nil && word.p == NULL)
                m->envelope[i] = SL("");
        } else {
            return false;
        }
    }
    return true;
}

/* Which the file gives, when it is not in the index yet. */
MAY_WAIT static bool load_envelope(struct search_message *m)
{
    struct store_row row;
    struct err err;
    slice text;

    if (m->has_envelope)
        return !m->is_unreadable;
    m->has_envelope = true;
    if (m->arena == NULL)
        m->arena = arena_new(TREE_MAX);
    if (!store_row_get(m->m, m->row, &row) ||
        ((row.cache_version != MAIL_MIME_VERSION ||
          !store_cached_view(m->m, m->row, STORE_ENVELOPE, &text)) &&
         (store_fill(m->m, m->uid, &err) < 0 ||
          !store_cached_view(m->m, m->row, STORE_ENVELOPE, &text)))) {
        m->is_unreadable = true;
        return false;
    }
    /* The view of the index ends with the next wait. */
    text = slice_dup(m->arena, text);
    m->is_unreadable = text.p == NULL || !cut_envelope(m, text);
    return !m->is_unreadable;
}

/* "((name adl mailbox host)...)" as people write it. */
static void put_addresses(struct search_message *m, slice list)
{
    struct imap_cursor in = { list, m->arena };
    struct buf *b = &m->text;

    if (!imap_eat(&in, '('))
        return;
    while (imap_eat(&in, '(')) {
        slice part[4] = { { NULL, 0 } };
        bool is_nil;

        for (int i = 0; i < 4; i++)
            if ((i > 0 && !imap_sp(&in)) ||
                !imap_nstring(&in, &part[i], &is_nil))
                return;
        if (!imap_eat(&in, ')'))
            return;
        (void)mail_words_decode(b, part[0]);
        (void)buf_puts(b, " <");
        (void)buf_slice(b, part[2]);
        if (part[3].n > 0) {
            (void)buf_byte(b, '@');
            (void)buf_slice(b, part[3]);
        }
        (void)buf_puts(b, ">, ");
    }
}

static void begin_text(struct search_message *m)
{
    if (m->text.max == 0)
        buf_init(&m->text, PART_MAX);
    buf_clear(&m->text);
}

MAY_WAIT static bool in_envelope(struct search_message *m,
                                 const struct search_key *k)
{
    slice field;

    if (!load_envelope(m))
        return false;
    field = m->envelope[k->field];
    if (field.p == NULL)
        return false;
    begin_text(m);
    if (k->field >= ENV_FROM && k->field <= ENV_BCC)
        put_addresses(m, field);
    else
        (void)mail_words_decode(&m->text, field);
    return holds(m, buf_view(&m->text), k->text);
}

/* RFC 3501: "disregarding time and timezone". */
MAY_WAIT static bool by_sent_date(struct search_message *m,
                                  const struct search_key *k)
{
    int64_t seconds, day;
    int zone;

    if (!load_envelope(m) || m->envelope[ENV_DATE].p == NULL ||
        !mail_date_parse(m->envelope[ENV_DATE], &seconds, &zone))
        return false;
    seconds += (int64_t)zone * 60;
    day = (seconds - (seconds < 0 ? 86399 : 0)) / 86400;
    return day >= k->from && day < k->to;
}

/* ------------------------------------------------------------------ the file
 */

MAY_WAIT static bool load_bytes(struct search_message *m)
{
    struct err err;
    ssize_t n = 0;
    int fd;

    if (m->has_bytes)
        return m->bytes.n > 0;
    m->has_bytes = true;
    if (m->bytes.max == 0)
        buf_init(&m->bytes, SEARCH_READ_MAX + PIECE);
    buf_clear(&m->bytes);
    if (store_open_body(m->m, m->uid, &fd, &err) < 0)
        return false;
    do {
        char *to = buf_reserve(&m->bytes, PIECE);

        n = to == NULL ? 0 : file_pread_wait(fd, to, PIECE, m->bytes.n);
        if (n > 0)
            buf_commit(&m->bytes, (size_t)n);
    } while (n > 0 && m->bytes.n < SEARCH_READ_MAX);
    close(fd);
    return m->bytes.n > 0;
}

static bool in_header(struct search_message *m, slice bytes,
                      const struct search_key *k)
{
    struct mail_header_iter it;
    struct mail_field f;

    mail_header_iter_init(&it, bytes, true);
    while (mail_header_next(&it, &f)) {
        if (k->kind == SEARCH_HEADER && !slice_ieq(f.name, k->name))
            continue;
        begin_text(m);
        if (k->kind != SEARCH_HEADER) {
            (void)buf_slice(&m->text, f.name);
            (void)buf_puts(&m->text, ": ");
        }
        (void)mail_words_decode(&m->text, f.value);
        if (holds(m, buf_view(&m->text), k->text))
            return true;
    }
    return false;
}

static bool in_part(struct search_message *m, const struct mail_part *part,
                    slice body, const struct search_key *k)
{
    struct buf decoded CLEANUP(buf_done) = { 0 };
    slice charset = SL("us-ascii");

    buf_init(&decoded, body.n + 1024);
    (void)mail_decode_body(&decoded, part->encoding, body);
    (void)mail_value_param(m->arena, &part->type, "charset", &charset);
    begin_text(m);
    (void)mail_charset_to_utf8(&m->text, charset, buf_view(&decoded));
    return holds(m, buf_view(&m->text), k->text);
}

static const struct mail_part *after(const struct mail_part *p)
{
    if (p->child != NULL)
        return p->child;
    while (p->next == NULL && p->parent != NULL)
        p = p->parent;
    return p->next;
}

/* All parts of text; for TEXT the headers of all parts too. */
MAY_WAIT static bool in_parts(struct search_message *m,
                              const struct search_key *k)
{
    slice all = buf_view(&m->bytes);
    const struct mail_part *root;

    if (m->arena == NULL)
        m->arena = arena_new(TREE_MAX);
    root = mail_mime_parse(m->arena, all);
    for (const struct mail_part *p = root; p != NULL; p = after(p)) {
        slice header =
            slice_sub(all, (size_t)p->offset, (size_t)p->header.stored);
        slice body = slice_sub(all, (size_t)(p->offset + p->header.stored),
                               (size_t)p->body.stored);

        if ((k->kind == SEARCH_TEXT || p->parent != NULL) &&
            (k->kind == SEARCH_TEXT ||
             (p->parent != NULL && p->parent->is_message)) &&
            in_header(m, header, k))
            return true;
        if (p->child == NULL && !p->is_multipart &&
            (p->is_text || !p->has_type) && in_part(m, p, body, k))
            return true;
        imap_pause(m->s);
    }
    return false;
}

bool search_text(struct search_message *m, const struct search_key *k)
{
    switch ((unsigned)k->kind) {
    case SEARCH_ENVELOPE:
        return in_envelope(m, k);
    case SEARCH_SENTDATE:
        return by_sent_date(m, k);
    case SEARCH_HEADER:
        return load_bytes(m) && in_header(m, buf_view(&m->bytes), k);
    default:
        return load_bytes(m) && in_parts(m, k);
    }
}

static void release(struct buf *b)
{
    if (b->size > SHORT_TEXT)
        buf_done(b);
    else
        buf_clear(b);
}

void search_message_done(struct search_message *m)
{
    if (m->arena != NULL)
        arena_reset(m->arena);
    m->has_envelope = m->has_bytes = m->is_unreadable = false;
    memset(m->envelope, 0, sizeof m->envelope);
    release(&m->bytes);
    release(&m->text);
    release(&m->folded);
}

void search_message_free(struct search_message *m)
{
    arena_free(&m->arena);
    buf_done(&m->bytes);
    buf_done(&m->text);
    buf_done(&m->folded);
}
