/* What a segment's file looks like, and reading it. */
#include "spool/spool_priv.h"

#include "base/codec.h"
#include "base/digest.h"
#include "rt/file.h"
#include <sys/stat.h>

#define SCAN_ENVELOPES_MAX (1u << 30)
#define OWN_CHUNK          (256u << 10)

void seg_trailer_put(uint8_t out[static SEG_TRAILER],
                     const struct seg_trailer *t)
{
    set_u64(out, t->body_bytes);
    set_u32(out + 8, t->envelope_bytes);
    set_u32(out + 12, 0);
}

bool seg_trailer_get(const uint8_t in[static SEG_TRAILER], uint64_t payload,
                     struct seg_trailer *out)
{
    uint64_t sum;

    out->body_bytes = get_u64(in);
    out->envelope_bytes = get_u32(in + 8);
    return get_u32(in + 12) == 0 && out->envelope_bytes <= ENVELOPE_MAX_BYTES &&
           ADD_OK(out->body_bytes, (uint64_t)out->envelope_bytes + SEG_TRAILER,
                  &sum) &&
           sum == payload;
}

static const char *const seg_prefix[] = { "plain-", "own-", "bulk-" };

struct engine_log_spec seg_spec(const char *name, enum segment_kind kind,
                                uint64_t number, const uint8_t *uuid)
{
    static const char kinds[][5] = { "SEGM", "SOWN", "SBLK" };
    struct engine_log_spec spec = { .name = name,
                                    .version = 1,
                                    .oldest = 1,
                                    .number = number,
                                    .self_sync = true };

    memcpy(spec.kind, kinds[kind], sizeof spec.kind);
    if (uuid != NULL)
        memcpy(spec.uuid, uuid, sizeof spec.uuid);
    return spec;
}

void seg_name(char out[static SEG_NAME_SIZE], enum segment_kind kind,
              uint64_t number)
{
    (void)snprintf(out, SEG_NAME_SIZE, "segments/%s%012" PRIx64,
                   seg_prefix[kind], number);
}

bool hex_u64(const char *digits, uint64_t *out)
{
    uint64_t v = 0;

    if (digits[0] == '\0')
        return false;
    for (const char *p = digits; *p != '\0'; p++) {
        bool is_digit = ascii_isdigit(*p);

        if ((!is_digit && (*p < 'a' || *p > 'f')) || v >> 60 != 0)
            return false;
        v = v << 4 | (uint64_t)(is_digit ? *p - '0' : *p - 'a' + 10);
    }
    *out = v;
    return true;
}

bool seg_name_parse(const char *entry, enum segment_kind *kind,
                    uint64_t *number)
{
    for (size_t k = 0; k < ARRAY_LEN(seg_prefix); k++) {
        size_t n = strlen(seg_prefix[k]);

        if (strncmp(entry, seg_prefix[k], n) == 0) {
            *kind = (enum segment_kind)k;
            return hex_u64(entry + n, number) && *number >> 44 == 0;
        }
    }
    return false;
}

/* ---------------------------------------------------------------- scanning */

void seg_scan_init(struct seg_scan *s)
{
    memset(s, 0, sizeof *s);
    s->fd = -1;
    s->limit = UINT64_MAX;
    buf_init(&s->envelopes, SCAN_ENVELOPES_MAX);
}

void seg_scan_done(struct seg_scan *s)
{
    free(s->found);
    s->found = NULL;
    s->n_found = 0;
    buf_done(&s->envelopes);
}

static struct seg_found *scan_add(struct seg_scan *s)
{
    if (s->n_found == s->found_size) {
        s->found_size = s->found_size == 0 ? 16 : s->found_size * 2;
        s->found = xrealloc(s->found, s->found_size * sizeof *s->found);
    }
    return &s->found[s->n_found++];
}

static bool scan_keep(struct seg_scan *s, uint64_t at, uint64_t payload,
                      const struct seg_trailer *t, slice envelope)
{
    struct seg_found f = { .at = at,
                           .length = ENGINE_RECORD_HEAD + payload,
                           .body_bytes = t->body_bytes,
                           .envelope_bytes = t->envelope_bytes,
                           .envelope_at = s->envelopes.n };

    if (!buf_slice(&s->envelopes, envelope))
        return false;
    *scan_add(s) = f;
    return true;
}

static int scan_records(struct seg_scan *s, struct engine_reader *r)
{
    struct engine_record rec;
    struct seg_trailer t;
    int got;

    engine_reader_seek(r, s->from);
    while ((got = engine_reader_next(r, &rec, &s->err)) == 1) {
        size_t n = rec.payload.n;

        if (rec.next > s->limit)
            break;
        if (rec.type == (SEG_TYPE_MESSAGE & ~ENGINE_MUST_UNDERSTAND) &&
            n >= SEG_TRAILER &&
            seg_trailer_get((const uint8_t *)rec.payload.p + n - SEG_TRAILER, n,
                            &t)) {
            slice envelope =
                slice_sub(rec.payload, (size_t)t.body_bytes, t.envelope_bytes);

            if (!scan_keep(s, rec.at, n, &t, envelope))
                return err_temp(&s->err, "too many messages in one segment");
        }
        s->end = rec.next;
    }
    s->is_torn = got == 0 && engine_reader_torn(r);
    return got < 0 ? -1 : 0;
}

static int read_at(int fd, void *p, size_t n, uint64_t at)
{
    char *to = p;

    while (n > 0) {
        ssize_t got = pread(fd, to, n, (off_t)at);

        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return -1;
        to += got;
        at += (uint64_t)got;
        n -= (size_t)got;
    }
    return 0;
}

/* An own file may be larger than memory likes: its sum is made in pieces. */
static bool own_crc_ok(const struct seg_scan *s, const uint8_t *log_head,
                       const struct engine_record_head *h, uint32_t want)
{
    uint32_t crc = engine_crc_start(log_head, SEG_FIRST);
    char *chunk CLEANUP(free_ptr) = xmalloc(OWN_CHUNK);

    for (uint64_t at = 0; at < h->length;) {
        size_t n = min_size(OWN_CHUNK, (size_t)(h->length - at));

        if (read_at(s->fd, chunk, n, SEG_FIRST + ENGINE_RECORD_HEAD + at) < 0)
            return false;
        crc = crc32c(crc, chunk, n);
        at += n;
    }
    return engine_record_crc(h, crc) == want;
}

/* The one record of an own file; a file without a whole one was never
 * committed. */
static int scan_own(struct seg_scan *s)
{
    uint8_t head[ENGINE_LOG_HEAD + ENGINE_RECORD_HEAD];
    uint8_t raw[SEG_TRAILER];
    struct engine_record_head h;
    struct seg_trailer t;
    struct stat st;
    char *envelope CLEANUP(free_ptr) = NULL;
    uint32_t crc;
    uint64_t payload_at = sizeof head;

    s->end = SEG_FIRST;
    if (fstat(s->fd, &st) < 0)
        return err_sys(&s->err, "fstat an own file");
    if (read_at(s->fd, head, sizeof head, 0) < 0 ||
        !engine_record_decode(head + ENGINE_LOG_HEAD, &h, &crc))
        return 0;
    if (h.type != SEG_TYPE_MESSAGE || h.length < SEG_TRAILER ||
        h.length > (uint64_t)st.st_size ||
        payload_at + h.length > (uint64_t)st.st_size)
        return 0;
    if (read_at(s->fd, raw, sizeof raw, payload_at + h.length - SEG_TRAILER) <
            0 ||
        !seg_trailer_get(raw, h.length, &t) || !own_crc_ok(s, head, &h, crc)) {
        s->is_torn = true;
        return 0;
    }
    envelope = xmalloc(t.envelope_bytes + 1);
    if (read_at(s->fd, envelope, t.envelope_bytes, payload_at + t.body_bytes) <
        0)
        return err_sys(&s->err, "read an own file");
    if (!scan_keep(s, SEG_FIRST, h.length, &t,
                   slice_of(envelope, t.envelope_bytes)))
        return err_temp(&s->err, "envelope too large");
    s->end = payload_at + h.length;
    return 0;
}

int seg_scan_run(void *arg)
{
    struct seg_scan *s = arg;
    struct engine_log_spec spec = seg_spec("segment", s->kind, 0, NULL);
    struct engine_reader *r = NULL;
    int result;

    s->end = s->from;
    if (s->sync_first && file_fdatasync(s->fd) < 0)
        s->sync_failed = true;
    if (engine_log_is_blank(s->fd))
        return 0;
    if (s->kind == SEGMENT_OWN) {
        if (s->from > SEG_FIRST)
            return 0;
        return scan_own(s);
    }
    if (engine_reader_fd(s->fd, &spec, &r, NULL, &s->err) != ENGINE_OK)
        return -1;
    result = scan_records(s, r);
    engine_reader_free(&r);
    return result;
}
