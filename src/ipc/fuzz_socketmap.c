#include "ipc/socketmap.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    slice in = slice_of(data, size), one, name, value;
    enum socketmap_answer what;

    while (socketmap_get(&in, &one) == 1) {
        CHECK(one.n <= SOCKETMAP_MAX);
        (void)socketmap_request(one, &name, &value);
        (void)socketmap_answer_parse(one, &what, &value);
    }
    return 0;
}
