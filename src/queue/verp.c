#include "base/base.h"

#include "queue/queue_priv.h"

/*
 * Variable envelope return paths: list@here becomes list+user=there@here for
 * the recipient user@there, so that a bounce says whom it is about.  The
 * recipient is shown as the sender wrote it.
 */

static void split(slice addr, slice *local, slice *domain)
{
    ssize_t at = slice_rchr(addr, '@');

    *local = at < 0 ? addr : slice_sub(addr, 0, (size_t)at);
    *domain = at < 0 ? SLICE_NONE : slice_from(addr, (size_t)at + 1);
}

bool verp_put(struct buf *b, slice sender, slice rcpt, slice delimiters)
{
    slice list;
    slice origin;
    slice user;
    slice there;

    split(sender, &list, &origin);
    split(rcpt, &user, &there);
    (void)buf_slice(b, list);
    (void)buf_byte(b, delimiters.p[0]);
    (void)buf_slice(b, user);
    if (there.n > 0) {
        (void)buf_byte(b, delimiters.p[1]);
        (void)buf_slice(b, there);
    }
    if (origin.n > 0) {
        (void)buf_byte(b, '@');
        (void)buf_slice(b, origin);
    }
    return !b->overflow;
}

void verp_set(struct active *a, struct qrcpt *r)
{
    struct buf b CLEANUP(buf_done);

    buf_init(&b, 4096);
    if (a->env.verp.n != 2 || a->env.sender.n == 0)
        return;
    if (r->parent < a->n)
        r->verp = a->v[r->parent].verp; /* what an alias became */
    else if (verp_put(&b, a->env.sender, r->orig.n > 0 ? r->orig : r->addr,
                      a->env.verp))
        r->verp = active_dup(a, buf_view(&b));
}
