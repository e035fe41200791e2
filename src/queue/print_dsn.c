/* Prints a report to be parsed by test_dsn.py: print_dsn KIND [utf8]. */
#include "queue/queue_priv.h"

static const struct dsn_rcpt rcpts[] = {
    { .addr = { "u@example.com", 13 },
      .status = { "5.1.1", 5 },
      .diag = { "unknown user: \"u\"", 17 },
      .action = "failed" },
    { .addr = { "john doe@example.com", 20 },
      .orig = { "all@example.com", 15 },
      .orcpt = { "rfc822;All@example.com", 22 },
      .status = { "4.4.1", 5 },
      .diag = { "smtp; 451 4.4.1 a text that is longer than one line can "
                "be, and has to be wrapped somewhere behind column seventy\n"
                "Injected: no",
                126 },
      .action = "delayed" },
    { .addr = { "\xc3\xa4@example.com", 14 },
      .status = { "2.0.0", 5 },
      .action = "delivered" },
};

int main(int argc, char **argv)
{
    slice kind = slice_str(argc > 1 ? argv[1] : "failure");
    struct dsn d = {
        .kind = slice_eqs(kind, "delay")     ? DSN_DELAY
                : slice_eqs(kind, "success") ? DSN_SUCCESS
                                             : DSN_FAILURE,
        .is_postmaster_copy = slice_eqs(kind, "copy"),
        .is_utf8 = argc > 2,
        .is_8bit = argc > 2,
        .is_headers_only = slice_eqs(kind, "delay"),
        .hostname = SL("mx.example.com"),
        .origin = SL("example.com"),
        .mail_name = SL("Hato"),
        .to = SL("a b@example.org"),
        .queue_id = SL("4jX1tF1kJ3z7t7J"),
        .sender = SL("a b@example.org"),
        .envid = SL("QQ314159"),
        .boundary = "4jX1tF1kJ3z7t7J.1/mx.example.com",
        .arrival = 1000000000000,
        .retry_until = 1000432000000,
        .delay_warning = 14400000,
        .lifetime = 432000000,
        .rcpts = rcpts,
        .n_rcpts = ARRAY_LEN(rcpts),
    };
    struct buf b;

    buf_init(&b, 1 << 20);
    CHECK(dsn_put_front(&b, &d));
    (void)buf_puts(&b, d.is_headers_only
                           ? "Subject: original\n"
                           : "Subject: original\n\noriginal body\n");
    CHECK(dsn_put_back(&b, &d));
    (void)fwrite(b.p, 1, b.n, stdout);
    buf_done(&b);
    return 0;
}
