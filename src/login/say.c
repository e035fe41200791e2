/* The log, in Dovecot's words: fail2ban and others read them. */
#include "login/login_priv.h"

/* A name that a client chose must not look like the fields behind it. */
static void put_user(struct buf *out, slice user)
{
    slice shown = slice_sub(user, 0, 200);

    buf_puts(out, "user=<");
    for (size_t i = 0; i < shown.n; i++) {
        char c = shown.p[i];
        bool is_bad = (unsigned char)c < ' ' || c == '<' || c == '>' ||
                      c == '\x7f' || (shown.n < user.n && i + 1 == shown.n);

        buf_byte(out, is_bad ? '?' : c);
    }
    buf_byte(out, '>');
}

/* login_log_format_elements' default: user=<%u> method=%m rip=%r lip=%l
 * mpid=%e %c session=<%{session}> */
static void put_fields(struct buf *out, const struct conn *c, slice user,
                       uint64_t pid)
{
    const struct pre *p = c->pre;

    put_user(out, user);
    if (p->mech[0] != '\0' && (user.n > 0 || pid != 0))
        buf_printf(out, ", method=%s", p->mech);
    buf_printf(out, ", rip=%s, lip=%s", p->remote, p->local);
    if (pid != 0)
        buf_printf(out, ", mpid=%" PRIu64, pid);
    if (p->is_tls)
        buf_puts(out, p->is_mute ? ", TLS handshaking" : ", TLS");
    else if (conn_is_secured(c))
        buf_puts(out, ", secured");
    buf_printf(out, ", session=<%s>", p->session);
}

void say_signed_in(const struct conn *c, slice user, uint64_t pid)
{
    struct buf b;

    buf_init(&b, 2000);
    buf_puts(&b, "Login: ");
    put_fields(&b, c, user, pid);
    event_text(EV_INFO, c->service->protocol->log, NULL, "%s", buf_cstr(&b));
    buf_done(&b);
}

static void put_why(struct buf *out, const struct conn *c)
{
    const struct pre *p = c->pre;
    long long secs = (long long)((loop_now() - p->since) / 1000);

    if (p->tried_plaintext && p->n_attempts == 0)
        buf_puts(out, " (tried to use disallowed plaintext auth)");
    else if (p->n_good > 0)
        buf_printf(out, " (internal failure, %u successful auths)", p->n_good);
    else if (p->n_attempts == 0)
        buf_printf(out, " (no auth attempts in %lld secs)", secs);
    else if (p->is_aborted && p->n_attempts == 1)
        buf_puts(out, " (aborted authentication)");
    else
        buf_printf(out, " (auth failed, %u attempts in %lld secs)",
                   p->n_attempts, secs);
}

void say_ended(const struct conn *c)
{
    const struct pre *p = c->pre;
    struct buf b;

    buf_init(&b, 2000);
    buf_puts(&b, p->why != NULL ? p->why : "Disconnected: Connection closed");
    put_why(&b, c);
    buf_puts(&b, ": ");
    put_fields(&b, c, buf_view(&p->user), 0);
    event_text(EV_INFO, c->service->protocol->log, NULL, "%s", buf_cstr(&b));
    buf_done(&b);
}

void say_trouble(const struct conn *c, enum ev_level level, const char *text)
{
    struct buf b;

    buf_init(&b, 2000);
    buf_printf(&b, "%s: ", text);
    put_fields(&b, c, buf_view(&c->pre->user), 0);
    event_text(level, c->service->protocol->log, NULL, "%s", buf_cstr(&b));
    buf_done(&b);
}
