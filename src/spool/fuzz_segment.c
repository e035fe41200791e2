/* Any bytes as a segment or an own file: reading ends, and stays in bounds. */
#include "spool/spool_priv.h"

#include "base/digest.h"

#include <sys/mman.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Give the first record of the input a sum that is right, so that what is
 * inside is looked at. */
static void mend(uint8_t *file, size_t n)
{
    struct engine_log_spec spec = seg_spec("x", SEGMENT_PLAIN, 1, NULL);
    uint8_t *rec = file + ENGINE_LOG_HEAD;
    struct engine_record_head h;
    uint32_t crc;

    engine_log_head_encode(file, &spec, 1);
    h = (struct engine_record_head){ .type = SEG_TYPE_MESSAGE,
                                     .length = n - ENGINE_LOG_HEAD -
                                               ENGINE_RECORD_HEAD };
    crc = engine_crc_start(file, ENGINE_LOG_HEAD);
    crc = crc32c(crc, rec + ENGINE_RECORD_HEAD, (size_t)h.length);
    engine_record_encode(rec, &h, engine_record_crc(&h, crc));
}

static void scan(const uint8_t *data, size_t size, enum segment_kind kind)
{
    struct seg_scan s;
    int fd = memfd_create("segment", MFD_CLOEXEC);

    CHECK(fd >= 0);
    CHECK(write(fd, data, size) == (ssize_t)size);
    seg_scan_init(&s);
    s.fd = fd;
    s.kind = kind;
    s.from = SEG_FIRST;
    (void)seg_scan_run(&s);
    for (size_t i = 0; i < s.n_found; i++)
        CHECK(s.found[i].at + s.found[i].length <= size &&
              s.found[i].envelope_at + s.found[i].envelope_bytes <=
                  s.envelopes.n);
    seg_scan_done(&s);
    close_fd(&fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *copy;

    scan(data, size, SEGMENT_PLAIN);
    scan(data, size, SEGMENT_OWN);
    if (size < ENGINE_LOG_HEAD + ENGINE_RECORD_HEAD + SEG_TRAILER)
        return 0;
    copy = xmalloc(size);
    memcpy(copy, data, size);
    mend(copy, size);
    scan(copy, size, SEGMENT_PLAIN);
    scan(copy, size, SEGMENT_OWN);
    free(copy);
    return 0;
}
