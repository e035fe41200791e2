/* The client's side: what comes from a broken auth signs nobody in by itself,
 * and every line is taken or ends the connection. */
#include "ipc/auth_client.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct auth_client *c = auth_client_new(NULL);
    struct auth_request r = { .c = c };
    struct auth_answer answer = { .result = AUTH_TEMP };
    struct buf in;
    size_t done = 0;

    loop_init("fuzz", 1);
    buf_init(&answer.text, AUTH_SERVER_RESPONSE_MAX);
    r.answer = &answer;
    imap_put(&c->requests, &r.node, 7);
    buf_init(&in, IN_BYTES);
    while (done < size) {
        size_t step = min_size(size - done, 1000);

        CHECK(buf_put(&in, data + done, step));
        done += step;
        if (!take_lines(c, &in))
            break;
    }
    if (r.has_answer && answer.result == AUTH_OK)
        CHECK(answer.user[0] != '\0');
    CHECK(c->n_mechs <= MECHS_MAX);
    buf_done(&in);
    imap_del(&c->requests, &r.node);
    auth_answer_done(&answer);
    auth_client_free(&c);
    loop_done();
    return 0;
}
