/*
 * DATA: the end stands where a plain search finds CRLF.CRLF, in pieces as
 * whole; what is stored comes back from mail_dot_stuff() unchanged.
 */
#include "mail/mail.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Index behind the first CRLF.CRLF, the start counting as behind a CRLF. */
static ssize_t true_end(slice in)
{
    ssize_t at;

    if (slice_starts(in, SL(".\r\n")))
        return 3;
    at = slice_find(in, SL("\r\n.\r\n"));
    return at < 0 ? -1 : at + 5;
}

static void run(slice in, size_t step, const struct mail_dot_options *opt,
                struct buf *out, size_t *taken)
{
    struct mail_dot d;
    size_t at = 0;

    mail_dot_init(&d, opt);
    while (at < in.n && !d.done) {
        slice piece = slice_sub(in, at, step);
        size_t n = piece.n;

        mail_dot_feed(&d, &piece, out);
        at += n - piece.n;
    }
    *taken = d.done ? at : (size_t)-1;
    if (!d.done)
        mail_dot_finish(&d, out);
    CHECK(d.n_out == out->n);
    CHECK(out->n == 0 || out->p[out->n - 1] == '\n');
}

static void round_trip(slice stored)
{
    struct mail_dot_options opt = { .stuffed = true };
    struct buf wire, back;
    bool start = true;
    size_t taken;

    buf_init(&wire, 1 << 20);
    buf_init(&back, 1 << 20);
    mail_dot_stuff(&wire, stored, true, &start);
    buf_puts(&wire, ".\r\n");
    run(buf_view(&wire), wire.n, &opt, &back, &taken);
    CHECK(taken == wire.n);
    CHECK(slice_eq(buf_view(&back), stored));
    buf_done(&wire);
    buf_done(&back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mail_dot_options opt = { .stuffed = true };
    struct buf whole, pieces;
    size_t taken, taken_pieces;
    slice in;

    if (size < 2 || size > 65536)
        return 0;
    opt.stray_cr_to_space = data[0] & 1;
    opt.from_line = (enum mail_from_line)((data[0] >> 1) % 3);
    opt.bare_lf = (enum mail_bare_lf)((data[0] >> 3) % 3);
    in = slice_of(data + 1, size - 1);
    buf_init(&whole, 1 << 20);
    buf_init(&pieces, 1 << 20);
    run(in, in.n, &opt, &whole, &taken);
    run(in, (size_t)(data[0] >> 4) + 1, &opt, &pieces, &taken_pieces);
    CHECK(slice_eq(buf_view(&whole), buf_view(&pieces)));
    CHECK(taken == taken_pieces && taken == (size_t)true_end(in));
    if (opt.stray_cr_to_space && whole.n > 0 && whole.p[0] != ' ' &&
        whole.p[0] != '\t')
        round_trip(buf_view(&whole));
    buf_done(&whole);
    buf_done(&pieces);
    return 0;
}
