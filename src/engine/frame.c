#include "engine/engine_priv.h"

#include "base/codec.h"
#include "base/digest.h"

/* Offsets in a log's header; doc/spool.md, "Engine log". */
enum {
    HEAD_MAGIC = 0,
    HEAD_VERSION = 8,
    HEAD_OLDEST = 10,
    HEAD_BYTES = 12,
    HEAD_FEATURES = 16,
    HEAD_UUID = 24,
    HEAD_NUMBER = 40,
    HEAD_EPOCH = 48,
    HEAD_ZERO = 56,
    HEAD_CRC = 60,
};

static const char magic[4] = { 'H', 'A', 'T', 'O' };

/* Offsets in a record's header. */
enum {
    REC_CRC = 0,
    REC_TYPE = 4,
    REC_FLAGS = 6,
    REC_LENGTH = 8,
    REC_EPOCH = 16,
};

void engine_log_head_encode(uint8_t out[static ENGINE_LOG_HEAD],
                            const struct engine_log_spec *spec, uint64_t epoch)
{
    memset(out, 0, ENGINE_LOG_HEAD);
    memcpy(out + HEAD_MAGIC, magic, sizeof(magic));
    memcpy(out + HEAD_MAGIC + 4, spec->kind, 4);
    set_u16(out + HEAD_VERSION, spec->version);
    set_u16(out + HEAD_OLDEST, spec->oldest);
    set_u32(out + HEAD_BYTES, ENGINE_LOG_HEAD);
    set_u64(out + HEAD_FEATURES, spec->features);
    memcpy(out + HEAD_UUID, spec->uuid, 16);
    set_u64(out + HEAD_NUMBER, spec->number);
    set_u64(out + HEAD_EPOCH, epoch);
    set_u32(out + HEAD_CRC, crc32c(0, out, HEAD_CRC));
}

bool engine_log_head_is_whole(const uint8_t in[static ENGINE_LOG_HEAD])
{
    return memcmp(in, magic, sizeof(magic)) == 0 &&
           get_u32(in + HEAD_CRC) == crc32c(0, in, HEAD_CRC);
}

enum engine_outcome engine_log_head_decode(
    const uint8_t in[static ENGINE_LOG_HEAD],
    const struct engine_log_spec *spec, struct engine_log_info *out,
    struct err *err)
{
    static const uint8_t no_uuid[16];

    if (memcmp(in, magic, sizeof(magic)) != 0 ||
        memcmp(in + 4, spec->kind, 4) != 0) {
        err_temp(err, "%s: is not a file of kind %.4s", spec->name, spec->kind);
        return ENGINE_CHANGED;
    }
    if (get_u32(in + HEAD_CRC) != crc32c(0, in, HEAD_CRC)) {
        err_temp(err, "%s: the file's header is damaged", spec->name);
        return ENGINE_CHANGED;
    }
    if (get_u16(in + HEAD_OLDEST) > spec->version) {
        err_temp(err, "%s: needs a reader of version %u, this is %u",
                 spec->name, get_u16(in + HEAD_OLDEST), spec->version);
        return ENGINE_CHANGED;
    }
    if (get_u32(in + HEAD_BYTES) != ENGINE_LOG_HEAD) {
        err_temp(err, "%s: unknown header size", spec->name);
        return ENGINE_CHANGED;
    }
    if (memcmp(spec->uuid, no_uuid, 16) != 0 &&
        memcmp(spec->uuid, in + HEAD_UUID, 16) != 0) {
        err_temp(err, "%s: belongs to something else (its UUID differs)",
                 spec->name);
        return ENGINE_CHANGED;
    }
    out->version = get_u16(in + HEAD_VERSION);
    out->features = get_u64(in + HEAD_FEATURES);
    memcpy(out->uuid, in + HEAD_UUID, 16);
    out->number = get_u64(in + HEAD_NUMBER);
    out->epoch = get_u64(in + HEAD_EPOCH);
    return ENGINE_OK;
}

uint32_t engine_crc_start(const uint8_t log_head[static ENGINE_LOG_HEAD],
                          uint64_t at)
{
    uint8_t where[8];

    /* The log's identity and the place are part of the sum, so that bytes of
     * another file, or of another place, are never taken for a record. */
    set_u64(where, at);
    return crc32c(crc32c(0, log_head + HEAD_UUID, 24), where, 8);
}

void engine_record_encode(uint8_t out[static ENGINE_RECORD_HEAD],
                          const struct engine_record_head *h, uint32_t crc)
{
    set_u32(out + REC_CRC, crc);
    set_u16(out + REC_TYPE, h->type);
    set_u16(out + REC_FLAGS, h->flags);
    set_u64(out + REC_LENGTH, h->length);
    set_u64(out + REC_EPOCH, h->epoch);
}

bool engine_record_decode(const uint8_t in[static ENGINE_RECORD_HEAD],
                          struct engine_record_head *out, uint32_t *crc_out)
{
    if ((get_u16(in + REC_TYPE) & ~ENGINE_MUST_UNDERSTAND) == 0)
        return false; /* zeroes of the preallocation */
    out->type = get_u16(in + REC_TYPE);
    out->flags = get_u16(in + REC_FLAGS);
    out->length = get_u64(in + REC_LENGTH);
    out->epoch = get_u64(in + REC_EPOCH);
    *crc_out = get_u32(in + REC_CRC);
    return true;
}

uint32_t engine_record_crc(const struct engine_record_head *h,
                           uint32_t payload_crc)
{
    uint8_t head[ENGINE_RECORD_HEAD];

    engine_record_encode(head, h, 0);
    return crc32c(payload_crc, head + REC_TYPE, sizeof head - REC_TYPE);
}
