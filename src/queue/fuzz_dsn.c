/* A report about foreign texts: whatever they hold, they make no line of their
 * own in the parts that programs read. */
#include "queue/queue_priv.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t count(slice in, slice what)
{
    size_t n = 0;
    ssize_t at;

    while ((at = slice_find(in, what)) >= 0) {
        n++;
        in = slice_from(in, (size_t)at + what.n);
    }
    return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    slice in = slice_of(data + (size > 0), size - (size > 0));
    unsigned bits = size > 0 ? data[0] : 0;
    slice f[7] = { { NULL, 0 } };
    struct dsn_rcpt r = { .status = SL("5.1.1"), .action = "failed" };
    struct dsn d = { .kind = (enum dsn_kind)(bits % 3),
                     .is_utf8 = (bits & 4) != 0,
                     .is_8bit = (bits & 8) != 0,
                     .is_headers_only = (bits & 16) != 0,
                     .is_postmaster_copy = (bits & 32) != 0,
                     .hostname = SL("h.example"),
                     .origin = SL("o.example"),
                     .mail_name = SL("Hato"),
                     .queue_id = SL("4jX1tF1kJ3z7t7J"),
                     .boundary = "XX",
                     .rcpts = &r,
                     .n_rcpts = 1 };
    struct buf b;

    for (size_t i = 0; i < ARRAY_LEN(f) && in.n > 0; i++)
        (void)slice_cut(&in, '|', &f[i]);
    r.addr = f[0];
    r.orig = f[1];
    r.orcpt = f[2];
    r.diag = f[3];
    d.to = f[4];
    d.sender = f[5];
    d.envid = f[6];
    buf_init(&b, 1 << 20);
    if (dsn_put_front(&b, &d) && dsn_put_back(&b, &d)) {
        CHECK(count(buf_view(&b), SL("\nAction: ")) == 1);
        CHECK(count(buf_view(&b), SL("\nStatus: ")) == 1);
        CHECK(count(buf_view(&b), SL("\nFinal-Recipient: ")) == 1);
        CHECK(count(buf_view(&b), SL("\nReporting-MTA: ")) == 1);
        CHECK(count(buf_view(&b), SL("\n--XX\n")) == 3);
        CHECK(count(buf_view(&b), SL("\nSubject: ")) == 1);
    }
    buf_done(&b);
    return 0;
}
