/*
 * A client's bytes against a whole connection, before sign-in (joe's password
 * is secret) and after it; and, for what is signed in, words of the broker that
 * make no sense.  The first byte chooses protocol and TLS, the second how the
 * input is cut.
 */
#include "login/test_util_login.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static slice input;
static uint8_t first, second;

/* Message types and bodies drawn from the input itself. */
static void say_nonsense(slice part)
{
    static const uint16_t types[] = { LOGIN_PARK, LOGIN_PUSH, LOGIN_END,
                                      BROKER_SESSION };
    struct buf body;

    if (world.broker == NULL || part.n < 2)
        return;
    buf_init(&body, 70000);
    if ((part.p[1] & 1) != 0)
        attr_put(&body, AT_HANDLE, slice_of(world.handle, 16));
    attr_put_u64(&body, AT_OFFSET, (uint8_t)part.p[0]);
    attr_put_u64(&body, AT_LENGTH, (uint8_t)part.p[1] >> 6);
    attr_put_u64(&body, AT_TIME, (uint8_t)part.p[0] & 1);
    attr_put(&body, AT_TEXT, part);
    attr_put(&body, AT_CONTENT, part);
    (void)chan_send(world.broker, types[(uint8_t)part.p[0] % 4],
                    (part.p[1] & 2) != 0 ? part : buf_view(&body), NULL, 0,
                    NULL);
    buf_done(&body);
}

static void play(void)
{
    struct stream *s = world_client(first & 1, (first & 2) != 0);
    size_t step = 1 + second;
    struct err err;

    stream_deadline(s, clock_after(2000));
    for (size_t at = 0; at < input.n; at += step) {
        slice part = slice_sub(input, at, step);

        if (stream_write(s, part, &err) < 0 || stream_flush(s, &err) < 0)
            break;
        if (world.worker_fd >= 0 && (first & 8) != 0)
            close_fd(&world.worker_fd);
        if (world.n_sessions > 0)
            say_nonsense(part);
        for (int i = 0; i < 3; i++)
            task_yield();
        while (stream_fill_now(s))
            stream_consume(s, stream_peek(s).n);
    }
    (void)task_sleep(1, &err); /* auth's answer */
    stream_free(&s);
    close_fd(&world.worker_fd);
    login_close_all(world.login);
    for (int i = 0; i < 2000 && world.login->n_conns > 0; i++)
        (void)task_sleep(1, &err);
    CHECK(world.login->n_conns == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    event_setup(-1, "fuzz");
    first = data[0];
    second = data[1];
    input = slice_of(data + 2, size - 2);
    memset(&world, 0, sizeof world);
    world.offers_tls = (first & 2) != 0; /* it has TLS: STARTTLS is refused */
    in_world("login_trusted_networks = 192.0.2.0/24\n"
             "disable_plaintext_auth = no\n",
             play, (first & 16) != 0 ? second + 1u : 0);
    return 0;
}
