#include "mail/probe.h"

#include "base/base.h"

bool mail_probe_sender(slice name, slice origin, uint64_t epoch,
                       struct buf *out)
{
    static const char digits[] = "0123456789bcdfghjklmnpqrstvwxyz";
    ssize_t at = slice_rchr(name, '@');
    slice local = at < 0 ? name : slice_sub(name, 0, (size_t)at);
    slice domain = at < 0 ? origin : slice_from(name, (size_t)at + 1);
    char number[16];
    size_t n = 0;

    if (name.n == 0 || slice_eqs(name, "<>"))
        return true;
    (void)buf_slice(out, local);
    for (; epoch > 0 && n < sizeof(number); epoch /= 31)
        number[n++] = digits[epoch % 31];
    while (n > 0)
        (void)buf_byte(out, number[--n]);
    (void)buf_byte(out, '@');
    (void)buf_slice(out, domain);
    return !out->overflow;
}

bool mail_probe_is_sender(slice addr, slice name, slice origin, uint64_t epoch)
{
    struct buf b;
    bool is_it = false;
    uint64_t first = epoch > 0 ? epoch - 1 : 0;

    buf_init(&b, 2048);
    for (uint64_t e = first; !is_it && e <= epoch + (epoch > 0 ? 1 : 0); e++) {
        buf_clear(&b);
        is_it = mail_probe_sender(name, origin, e, &b) && b.n > 0 &&
                slice_ieq(addr, buf_view(&b));
    }
    buf_done(&b);
    return is_it;
}
