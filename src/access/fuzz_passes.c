#include "access/access.h"
#include "base/base.h"
#include "base/codec.h"
#include "base/digest.h"

/* The fuzzer's own prototype. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What qmgr reads of its disk: as it comes, and with the checksum set right. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct access_passes *p = NULL;
    struct err err;
    int fd = -1;
    char *copy;

    if (size < 4 || size > 100000)
        return 0;
    if (access_passes_create(&fd, &err) < 0 ||
        access_passes_open(fd, &p, &err) < 0)
        abort();
    (void)access_passes_unpack(p, slice_of(data, size), &err);
    copy = xcalloc(1, size);
    memcpy(copy, data, size);
    set_u32(copy + size - 4, crc32c(0, copy, size - 4));
    if (access_passes_unpack(p, slice_of(copy, size), &err) == 0) {
        struct buf b;

        buf_init(&b, access_passes_bytes());
        CHECK(access_passes_pack(p, &b));
        CHECK(access_passes_unpack(p, buf_view(&b), &err) == 0);
        buf_done(&b);
    }
    free(copy);
    access_passes_close(&p);
    close(fd);
    return 0;
}
