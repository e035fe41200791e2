#include "engine/engine_priv.h"

#include "base/codec.h"
#include "base/digest.h"
#include <fcntl.h>
#include <sys/stat.h>

#define READER_CHUNK (256u << 10)
#define TYPE_SEAL    0x7fff

struct engine_reader {
    int fd;
    bool owns_fd;
    bool torn;
    bool sealed;
    uint8_t head[ENGINE_LOG_HEAD];
    uint64_t size; /* of the file, as last seen */
    uint64_t at;   /* of the next record */
    char *data;    /* window over the file */
    size_t data_size;
    uint64_t data_at;
    size_t data_n;
};

/* Make [at, at + n) visible in the window; NULL at the end of the file or on
 * trouble (errno, 0 at the end). */
static const char *reader_need(struct engine_reader *r, uint64_t at, size_t n)
{
    size_t want = max_size(n, READER_CHUNK);
    ssize_t got;

    if (at >= r->data_at && at - r->data_at <= r->data_n &&
        r->data_n - (at - r->data_at) >= n)
        return r->data + (at - r->data_at);
    if (want > r->data_size) {
        r->data = xrealloc(r->data, want);
        r->data_size = want;
    }
    r->data_at = at;
    r->data_n = 0;
    while (r->data_n < n) {
        got = pread(r->fd, r->data + r->data_n, want - r->data_n,
                    (off_t)(at + r->data_n));
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0) {
            if (got == 0)
                errno = 0;
            return NULL;
        }
        r->data_n += (size_t)got;
    }
    return r->data;
}

/* Is there anything but zeroes? */
static bool has_bytes(const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (p[i] != 0)
            return true;
    }
    return false;
}

bool engine_log_is_blank(int fd)
{
    char head[ENGINE_LOG_HEAD + ENGINE_RECORD_HEAD] = { 0 };
    const uint8_t *h = (const uint8_t *)head;
    ssize_t n = pread(fd, head, sizeof head, 0);

    if (n < 0 || has_bytes(head + ENGINE_LOG_HEAD, ENGINE_RECORD_HEAD))
        return false;
    return n < ENGINE_LOG_HEAD || !engine_log_head_is_whole(h);
}

static enum engine_outcome reader_start(int fd, bool owns_fd,
                                        const struct engine_log_spec *spec,
                                        struct engine_reader **out,
                                        struct engine_log_info *info,
                                        struct err *err)
{
    struct engine_reader *r = xcalloc(1, sizeof *r);
    struct engine_log_info local;
    enum engine_outcome o;
    const char *head;

    r->fd = fd;
    r->owns_fd = owns_fd;
    r->at = ENGINE_LOG_HEAD;
    head = reader_need(r, 0, ENGINE_LOG_HEAD);
    if (head == NULL) {
        if (errno == 0) {
            err_temp(err, "%s: the file has no header", spec->name);
            o = ENGINE_CHANGED;
        } else {
            o = engine_fail(err, "read %s", spec->name);
        }
        engine_reader_free(&r);
        return o;
    }
    memcpy(r->head, head, ENGINE_LOG_HEAD);
    o = engine_log_head_decode(r->head, spec, info != NULL ? info : &local,
                               err);
    if (o != ENGINE_OK) {
        engine_reader_free(&r);
        return o;
    }
    *out = r;
    return ENGINE_OK;
}

enum engine_outcome engine_reader_open(struct engine_dir *d,
                                       const struct engine_log_spec *spec,
                                       struct engine_reader **out,
                                       struct engine_log_info *info,
                                       struct err *err)
{
    enum engine_outcome o = engine_name_check(spec->name, err);
    int fd;

    if (o != ENGINE_OK)
        return o;
    fd = openat(d->fd, spec->name, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return engine_fail(err, "open %s", spec->name);
    return reader_start(fd, true, spec, out, info, err);
}

enum engine_outcome engine_reader_fd(int fd, const struct engine_log_spec *spec,
                                     struct engine_reader **out,
                                     struct engine_log_info *info,
                                     struct err *err)
{
    return reader_start(fd, false, spec, out, info, err);
}

void engine_reader_seek(struct engine_reader *r, uint64_t at)
{
    r->at = at;
    r->torn = false;
    r->sealed = false;
    r->data_n = 0; /* the file may have grown or changed */
}

static int reader_stop(struct engine_reader *r, bool torn)
{
    r->torn = torn;
    return 0;
}

int engine_reader_next(struct engine_reader *r, struct engine_record *out,
                       struct err *err)
{
    struct engine_record_head h;
    const char *p;
    struct stat st;
    uint32_t crc;

    errno = 0;
    p = reader_need(r, r->at, ENGINE_RECORD_HEAD);
    if (p == NULL) {
        if (errno != 0)
            return err_sys(err, "read a log at %" PRIu64, r->at);
        return reader_stop(r, false);
    }
    if (!engine_record_decode((const uint8_t *)p, &h, &crc))
        return reader_stop(r, has_bytes(p, ENGINE_RECORD_HEAD));
    if (fstat(r->fd, &st) < 0)
        return err_sys(err, "fstat a log");
    /* The length is not yet trusted: hold it against the file first. */
    if (h.length > (uint64_t)st.st_size ||
        r->at + ENGINE_RECORD_HEAD + h.length > (uint64_t)st.st_size)
        return reader_stop(r, true);
    p = reader_need(r, r->at, ENGINE_RECORD_HEAD + (size_t)h.length);
    if (p == NULL) {
        if (errno != 0)
            return err_sys(err, "read a log at %" PRIu64, r->at);
        return reader_stop(r, true);
    }
    p += ENGINE_RECORD_HEAD;
    if (crc != engine_record_crc(&h, crc32c(engine_crc_start(r->head, r->at), p,
                                            (size_t)h.length)))
        return reader_stop(r, true);
    out->type = h.type & (uint16_t)~ENGINE_MUST_UNDERSTAND;
    out->must = (h.type & ENGINE_MUST_UNDERSTAND) != 0;
    out->epoch = h.epoch;
    out->at = r->at;
    out->payload = slice_of(p, (size_t)h.length);
    if (out->type == TYPE_SEAL) {
        r->sealed = true;
        return reader_stop(r, false);
    }
    r->at += ENGINE_RECORD_HEAD + h.length;
    out->next = r->at;
    return 1;
}

uint64_t engine_reader_end(const struct engine_reader *r)
{
    return r->at;
}

bool engine_reader_torn(const struct engine_reader *r)
{
    return r->torn;
}

bool engine_reader_sealed(const struct engine_reader *r)
{
    return r->sealed;
}

void engine_reader_free(struct engine_reader **rp)
{
    struct engine_reader *r = *rp;

    if (r == NULL)
        return;
    if (r->owns_fd)
        close_fd(&r->fd);
    free(r->data);
    free(r);
    *rp = NULL;
}
