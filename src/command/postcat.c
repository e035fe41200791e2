#include "command/queue_priv.h"

#include "spool/envelope.h"

#include <sysexits.h>

/* postcat(1): -q ID [-b] [-e] [-h]; what a queued message holds. */

struct options {
    const char *id;
    bool body, envelope, header;
};

static void print_time(const char *name, int64_t usec)
{
    char text[40];

    clock_rfc5322(usec / 1000000, text);
    printf("%s: %s\n", name, text);
}

static void print_named(const char *name, slice value)
{
    printf("%s", name);
    command_print_text(value);
    (void)putchar('\n');
}

static void print_envelope(const struct envelope *e)
{
    printf("*** ENVELOPE RECORDS %s ***\n", e->id);
    printf("message_size: %" PRIu64 "\n", e->size);
    print_time("message_arrival_time", e->arrival_usec);
    print_named("sender: ", e->sender);
    print_named("named_attribute: client_name=", e->client_name);
    print_named("named_attribute: client_address=", e->client_addr);
    print_named("named_attribute: protocol_name=", e->protocol);
    print_named("named_attribute: helo_name=", e->helo);
    for (size_t i = 0; i < e->n_rcpts; i++) {
        const struct envelope_rcpt *r = &e->rcpts[i];

        print_named("original_recipient: ", r->orig.n > 0 ? r->orig : r->addr);
        print_named("recipient: ", r->addr);
    }
}

/* Header and body parts of the message's own bytes. */
static void print_message(const struct options *o, const struct envelope *e,
                          int fd, uint64_t at, uint64_t bytes)
{
    bool in_header = true;
    bool at_start = true;
    char piece[512];

    if (o->header)
        printf("%.*s", SLF(e->headers));
    while (bytes > 0) {
        ssize_t n =
            pread(fd, piece, min_size(sizeof piece, (size_t)bytes), (off_t)at);

        if (n <= 0)
            command_die(EX_IOERR, "read the message: %s", strerror(errno));
        for (ssize_t i = 0; i < n; i++) {
            if (in_header && at_start && piece[i] == '\n') {
                in_header = false;
                if (o->header && o->body)
                    putchar('\n');
                continue;
            }
            at_start = piece[i] == '\n';
            if (in_header ? o->header : o->body)
                putchar(piece[i]);
        }
        at += (uint64_t)n;
        bytes -= (uint64_t)n;
    }
}

MAY_WAIT static void run(void *arg)
{
    const struct options *o = arg;
    struct command_queue q = { 0 };
    struct arena *a = arena_new(64u << 20);
    struct envelope e;
    struct msg answer;
    struct buf b;
    struct err err;
    slice head;

    command_queue_open(&q);
    buf_init(&b, 256);
    (void)attr_put_str(&b, AT_QUEUE_ID, o->id);
    if (chan_call(q.chan, QUEUE_CAT, buf_view(&b), NULL, 0,
                  clock_after(COMMAND_QUEUE_MS), &answer, &err) < 0)
        command_die(EX_NOINPUT, "open queue file %s: %s", o->id, err.log);
    if (!attr_find(answer.body, AT_HEAD, &head) || answer.n_fds < 1 ||
        envelope_decode(head, a, false, &e, &err) < 0)
        command_die(EX_DATAERR, "%s: the answer is damaged", o->id);
    if (o->envelope)
        print_envelope(&e);
    if (o->header || o->body) {
        if (o->envelope)
            printf("*** MESSAGE CONTENTS %s ***\n", e.id);
        print_message(o, &e, answer.fds[0],
                      attr_u64_or(answer.body, AT_BODY_OFFSET, 0),
                      attr_u64_or(answer.body, AT_BODY_BYTES, 0));
    }
    if (o->envelope)
        printf("*** MESSAGE FILE END %s ***\n", e.id);
    msg_free(&answer);
    buf_done(&b);
    arena_free(&a);
    chan_free(&q.chan);
}

int command_postcat(int argc, char **argv)
{
    struct options o = { 0 };
    int c;

    optind = 1;
    while ((c = getopt(argc, argv, "bc:dehoqv")) != -1) {
        if (c == 'c')
            (void)setenv("MAIL_CONFIG", optarg, 1);
        else if (c == 'b')
            o.body = true;
        else if (c == 'e')
            o.envelope = true;
        else if (c == 'h')
            o.header = true;
        else if (c == '?')
            command_die(EX_USAGE, "usage: postcat [-c config_dir] [-beh] -q "
                                  "queueid");
    }
    if (!o.body && !o.envelope && !o.header)
        o.body = o.envelope = o.header = true;
    if (optind >= argc)
        command_die(EX_USAGE, "which queue id?");
    for (int i = optind; i < argc; i++) {
        o.id = argv[i];
        command_run_task(run, &o);
    }
    command_flush();
    return 0;
}
