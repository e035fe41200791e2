/*
 * An IMAP session over standard input and output, signed in already, on the
 * Maildir named by the first argument: for tests that compare it with another
 * server's, for measuring, and for a look by hand.
 */
#include "imap/imap_priv.h"

#include "engine/engine.h"
#include "mail/mail.h"

static struct imap_server *server;
static struct timer poll_timer;

static void look(struct timer *t)
{
    if (imap_sessions(server) == 0)
        loop_stop();
    else
        timer_set(t, clock_after(20), look);
}

int main(int argc, char **argv)
{
    struct imap_start start = { .user = SL("pipe"), .session = SL("pipe") };
    struct store_config cfg = { .host = "localhost", .instance = 1 };
    struct imap_parts parts = { 0 };
    char *location;

    if (argc != 2)
        return 64;
    location = xasprintf("maildir:%s", argv[1]);
    start.mail = slice_str(location);
    mail_charset_setup();
    loop_init("imap_pipe", 2);
    cfg.engine = engine_local_new();
    parts.store = store_new(&cfg);
    parts.conf = conf_from_text(SLICE_NONE, SLICE_NONE, NULL);
    server = imap_server_new(&parts);
    imap_session_begin(imap_session_new(server, &start, stream_from_fds(0, 1)),
                       SLICE_NONE);
    timer_set(&poll_timer, clock_after(20), look);
    loop_run();
    free(location);
    return 0;
}
