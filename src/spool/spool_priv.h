#ifndef SPOOL_SPOOL_PRIV_H
#define SPOOL_SPOOL_PRIV_H

/* Shared by the files of the room: formats, and the owner's structs. */
#include "base/map.h"
#include "engine/engine.h"
#include "rt/rt.h"
#include "spool/spool.h"

/* ---- records of segments; doc/spool.md, "Segments" */
#define SEG_TYPE_MESSAGE (1u | ENGINE_MUST_UNDERSTAND)
#define SEG_TRAILER      16
#define SEG_PLACES       (1u << 20) /* messages of one segment; seq = n*this+i */
#define SEG_FIRST        ENGINE_LOG_HEAD

enum segment_kind {
    SEGMENT_PLAIN,
    SEGMENT_OWN,  /* one big message */
    SEGMENT_BULK, /* stragglers of other segments; never scanned */
};

/* Bytes around body and envelope in the file. */
#define SEG_OVERHEAD (ENGINE_RECORD_HEAD + SEG_TRAILER)

struct seg_trailer {
    uint64_t body_bytes;
    uint32_t envelope_bytes;
};

void seg_trailer_put(uint8_t out[static SEG_TRAILER],
                     const struct seg_trailer *t);
/* False when it does not fit a payload of that length. */
bool seg_trailer_get(const uint8_t in[static SEG_TRAILER], uint64_t payload,
                     struct seg_trailer *out);
struct engine_log_spec seg_spec(const char *name, enum segment_kind kind,
                                uint64_t number, const uint8_t *uuid);
/* Name of a segment's file below the spool; 48 bytes are enough. */
#define SEG_NAME_SIZE 48
void seg_name(char out[static SEG_NAME_SIZE], enum segment_kind kind,
              uint64_t number);
/* Hexadecimal digits to the end; false on anything else. */
bool hex_u64(const char *digits, uint64_t *out);
bool seg_name_parse(const char *entry, enum segment_kind *kind,
                    uint64_t *number);

/* One message found by reading a segment. */
struct seg_found {
    uint64_t at;
    uint64_t length; /* of the record with its header */
    uint64_t body_bytes;
    uint32_t envelope_bytes;
    size_t envelope_at; /* in seg_scan.envelopes */
};

/* Reading a segment from an offset; runs in a pool thread. */
struct seg_scan {
    int fd;
    enum segment_kind kind;
    uint64_t from;
    uint64_t limit;  /* records must end below; UINT64_MAX: no limit */
    bool sync_first; /* the writer is gone: make what is there durable */
    /* results */
    struct seg_found *found;
    size_t n_found;
    size_t found_size;
    struct buf envelopes;
    uint64_t end;
    bool is_torn;
    bool sync_failed;
    struct err err;
};

void seg_scan_init(struct seg_scan *s);
void seg_scan_done(struct seg_scan *s);
int seg_scan_run(void *arg); /* a seg_scan, for offload; 0 or -1 with err */

#endif
