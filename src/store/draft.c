#include "store/store_priv.h"

#include "mail/mime.h"
#include "rt/rt.h"

#include <sys/stat.h>

enum {
    MEMORY_MAX = 256 << 10,
    MIME_CAP = 4 << 20,
    STRING_MAX = 200 << 10, /* longer ones are not kept */
    READ_CHUNK = 64 << 10,
    PREVIEW_FRONT = 1536,
};

/* ---- what the index keeps of a message ---- */

/* At most `max` bytes of the body's front. */
static slice preview_bytes(const struct mail_part *part, slice from, int fd,
                           struct buf *b, size_t max)
{
    uint64_t at = part->offset + part->header.stored;
    size_t n = min_size((size_t)part->body.stored, max);
    char *p;
    ssize_t got;

    if (from.n > 0)
        return slice_sub(from, at, n);
    buf_clear(b);
    p = buf_reserve(b, n);
    got = p ? pread(fd, p, n, (off_t)at) : -1;
    return slice_of(p, got > 0 ? (size_t)got : 0);
}

/* A little of the body nearly always suffices, and is quickly read. */
static bool put_preview(struct buf *out, const struct mail_part *part,
                        slice from, int fd)
{
    struct buf b CLEANUP(buf_done) = { 0 };
    struct buf body CLEANUP(buf_done) = { 0 };
    bool ok;

    buf_init(&b, STRING_MAX);
    buf_init(&body, MAIL_PREVIEW_READ);
    ok = mail_preview_text(&b, part,
                           preview_bytes(part, from, fd, &body, PREVIEW_FRONT));
    if (part->body.stored > PREVIEW_FRONT &&
        b.n < (size_t)MAIL_PREVIEW_CHARS * 4) {
        size_t chars = 0;

        for (size_t i = 0; i < b.n; i++)
            chars += ((uint8_t)b.p[i] & 0xc0) != 0x80;
        if (!ok || chars + 8 < MAIL_PREVIEW_CHARS) {
            buf_clear(&b);
            ok = mail_preview_text(&b, part,
                                   preview_bytes(part, from, fd, &body,
                                                 MAIL_PREVIEW_READ));
        }
    }
    return ok && attr_put(out, STORE_PREVIEW, buf_view(&b));
}

bool tree_strings(const struct mail_part *root, slice from, int fd,
                  struct buf *out)
{
    const struct mail_part *part = mail_preview_part(root);
    struct buf b CLEANUP(buf_done) = { 0 };

    buf_init(&b, STRING_MAX);
    if (mail_imap_envelope(&b, root))
        attr_put(out, STORE_ENVELOPE, buf_view(&b));
    buf_clear(&b);
    if (mail_imap_bodystructure(&b, root))
        attr_put(out, STORE_BODYSTRUCTURE, buf_view(&b));
    if (part)
        (void)put_preview(out, part, from, fd);
    return !out->overflow;
}

bool file_strings(int fd, struct buf *out, uint64_t *crlf_size_out)
{
    struct arena *a = arena_new(MIME_CAP);
    struct mail_mime *mime = mail_mime_new(a);
    char *chunk CLEANUP(free_ptr) = xmalloc(READ_CHUNK);
    const struct mail_part *root;
    off_t at = 0;
    ssize_t n;
    bool ok;

    for (;;) {
        n = pread(fd, chunk, READ_CHUNK, at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        mail_mime_feed(mime, slice_of(chunk, (size_t)n));
        at += n;
    }
    root = mail_mime_finish(mime);
    *crlf_size_out = mail_part_virtual_size(root);
    ok = n == 0 && tree_strings(root, SLICE_NONE, fd, out);
    arena_free(&a);
    return ok;
}

bool file_crc(int fd, uint32_t *out)
{
    char *chunk CLEANUP(free_ptr) = xmalloc(READ_CHUNK);
    uint32_t crc = 0;
    off_t at = 0;
    ssize_t n;

    for (;;) {
        n = pread(fd, chunk, READ_CHUNK, at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        crc = crc32c(crc, chunk, (size_t)n);
        at += n;
    }
    if (n == 0)
        *out = crc;
    return n == 0;
}

/* What the file does not say stays as it is. */
static void keep_others(struct store_mailbox *m, uint32_t uid, struct buf *b)
{
    static const enum store_cached keep[] = { STORE_DELIVERED_TO,
                                              STORE_X_ORIGINAL_TO,
                                              STORE_POP3_UIDL };

    size_t r = row_find(m, uid);
    slice v;

    for (size_t i = 0; r < rows_count(m) && i < ARRAY_LEN(keep); i++)
        if (store_cached_view(m, r, keep[i], &v))
            attr_put(b, (uint16_t)keep[i], v);
}

int store_fill(struct store_mailbox *m, uint32_t uid, struct err *err)
{
    struct buf b CLEANUP(buf_done) = { 0 };
    int fd CLEANUP(close_fd) = -1;
    struct iovec v;
    uint64_t crlf, at;

    if (store_open_body(m, uid, &fd, err) < 0)
        return -1;
    buf_init(&b, ENGINE_RECORD_MAX - 64);
    buf_u32(&b, uid);
    buf_u32(&b, MAIL_MIME_VERSION);
    buf_u64(&b, 0);
    if (!file_strings(fd, &b, &crlf))
        return err_sys(err, "read UID %u of %s", uid, m->name);
    set_u64(b.p + 8, crlf);
    keep_others(m, uid, &b);
    v = (struct iovec){ b.p, b.n };
    if (index_append(m, IR_CACHE, &v, 1, &at, err) < 0)
        return -1;
    (void)index_apply(m, IR_CACHE, buf_view(&b), at);
    return 0;
}

/* ---- a message on its way in ---- */

/* The lines that delivery puts on top, in Postfix's order.  With more
 * recipients than one, what differs among them stands in the index alone. */
static void put_prefix(struct store_draft *d, const struct store_message *msg)
{
    struct buf b CLEANUP(buf_done) = { 0 };
    const struct store_rcpt *only = d->n_rcpts == 1 ? d->rcpts : NULL;

    buf_init(&b, 16384);
    buf_puts(&b, "Return-Path: <");
    buf_slice(&b, msg->return_path);
    buf_puts(&b, ">\n");
    if (only && only->orig_to.n > 0) {
        buf_puts(&b, "X-Original-To: ");
        buf_slice(&b, only->orig_to);
        buf_byte(&b, '\n');
    }
    if (only && only->delivered_to.n > 0) {
        buf_puts(&b, "Delivered-To: ");
        buf_slice(&b, only->delivered_to);
        buf_byte(&b, '\n');
    }
    /* An address cannot hold a line end that would end the header here. */
    for (size_t i = 0; i < b.n; i++)
        if (b.p[i] == '\r' || b.p[i] == '\0')
            b.p[i] = ' ';
    buf_slice(&d->mem, buf_view(&b));
    d->size = b.n;
    d->crc = crc32c(0, b.p, b.n);
    mail_mime_feed(d->mime, buf_view(&b));
}

struct store_draft *store_draft_new(struct store *s,
                                    const struct store_message *msg,
                                    struct store_rcpt *rcpts, size_t n)
{
    struct store_draft *d = xcalloc(1, sizeof *d);

    CHECK_OBJ(s, STORE_MAGIC);
    CHECK(n > 0);
    d->magic = DRAFT_MAGIC;
    d->store = s;
    d->rcpts = rcpts;
    d->n_rcpts = n;
    d->arrival_usec =
        msg->arrival_usec > 0 ? msg->arrival_usec : clock_wall_usec();
    d->arena = arena_new(MIME_CAP);
    d->mime = mail_mime_new(d->arena);
    buf_init(&d->mem, MEMORY_MAX + 16384);
    buf_init(&d->strings, ENGINE_RECORD_MAX - 32768);
    put_prefix(d, msg);
    if (msg->size_hint > 0 && msg->size_hint <= MEMORY_MAX)
        (void)buf_reserve(&d->mem, (size_t)msg->size_hint);
    for (size_t i = 0; i < n; i++) {
        rcpts[i].failed = rcpts[i].duplicate = rcpts[i].durable = false;
        rcpts[i].uid = 0;
        rcpts[i].fs = 0;
        rcpts[i].file[0] = '\0';
    }
    return d;
}

/* The first account that opens takes the file; its INBOX is opened before, as
 * recovery empties tmp/. */
static int spill_open(struct store_draft *d, struct err *err)
{
    struct name_parts parts = { .usec = d->arrival_usec,
                                .host = d->store->host };
    char base[FILE_NAME_MAX + 1];
    enum engine_outcome o;

    random_bytes(parts.id, sizeof parts.id);
    base_name_make(base, sizeof base, &parts);
    (void)snprintf(d->spill_tmp, sizeof d->spill_tmp, "tmp/%s", base);
    for (size_t i = 0; i < d->n_rcpts; i++) {
        struct store_rcpt *r = &d->rcpts[i];
        struct store_account *a = NULL;
        struct store_mailbox *inbox;

        if (store_account_open(d->store, r->user, r->location, true, &a, err) ==
                0 &&
            mailbox_get(a, SL("INBOX"), STORE_CREATE, &inbox, err) == 0) {
            o = engine_put_open(a->dir, d->spill_tmp, 0600, &d->spill, err);
            if (o == ENGINE_OK) {
                d->spill_account = a;
                return 0;
            }
            (void)store_fail(o, err, "deliver to", a->user);
        }
        store_account_unref(&a);
    }
    return -1;
}

int draft_flush(struct store_draft *d, struct err *err)
{
    struct iovec v = { d->mem.p, d->mem.n };
    enum engine_outcome o;

    CHECK(d->spill != NULL);
    if (d->mem.n == 0)
        return 0;
    o = engine_put_write(d->spill, &v, 1, err);
    if (o != ENGINE_OK) {
        engine_put_abort(&d->spill);
        return store_fail(o, err, "deliver to", d->spill_account->user);
    }
    buf_clear(&d->mem);
    return 0;
}

int store_draft_write(struct store_draft *d, slice bytes, struct err *err)
{
    CHECK_OBJ(d, DRAFT_MAGIC);
    mail_mime_feed(d->mime, bytes);
    d->crc = crc32c(d->crc, bytes.p, bytes.n);
    d->size += bytes.n;
    while (bytes.n > 0) {
        size_t room = d->mem.n < MEMORY_MAX ? MEMORY_MAX - d->mem.n : 0;
        size_t n = min_size(room, bytes.n);

        if (n == 0) {
            if (!d->spill && (d->spill_account || spill_open(d, err) < 0))
                return d->spill_account
                           ? err_temp(err, "an earlier write has failed")
                           : -1;
            if (draft_flush(d, err) < 0)
                return -1;
            continue;
        }
        buf_put(&d->mem, bytes.p, n);
        bytes = slice_from(bytes, n);
    }
    return 0;
}

uint64_t store_draft_size(const struct store_draft *d)
{
    return d->size;
}

void store_draft_free(struct store_draft **dp)
{
    struct store_draft *d = *dp;

    if (!d)
        return;
    CHECK_OBJ(d, DRAFT_MAGIC);
    engine_put_abort(&d->spill);
    store_account_unref(&d->spill_account);
    arena_free(&d->arena);
    buf_done(&d->mem);
    buf_done(&d->strings);
    d->magic = 0;
    free(d);
    *dp = NULL;
}
