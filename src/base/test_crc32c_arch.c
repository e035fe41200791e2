/* The processor's CRC instruction against the tables, without cmocka, so that
 * it also runs as a foreign architecture's program under qemu-user. */
#include "base/base.h"

#include "base/base_priv.h"
#include "base/digest.h"

int main(void)
{
    static unsigned char v[1000];

    for (size_t i = 0; i < sizeof(v); i++)
        v[i] = (unsigned char)(i * 7 ^ i >> 3);
    for (size_t n = 0; n < 900; n++) {
        const unsigned char *p = v + n % 13;

        CHECK(crc32c(5, p, n) == crc32c_by_table(5, p, n));
    }
    CHECK(crc32c(0, "123456789", 9) == 0xe3069283);
    return 0;
}
