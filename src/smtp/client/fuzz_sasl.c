/* What a server may say while we sign in: any bytes, in any turn.  The first
 * byte chooses the mechanism, a newline ends a challenge. */
#include "base/digest.h"
#include "smtp/client/sasl.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const mechs[] = { "PLAIN",       "LOGIN",         "CRAM-MD5",
                                     "SCRAM-SHA-1", "SCRAM-SHA-256", "XOAUTH2",
                                     "OAUTHBEARER" };

static void talk(struct client_sasl *s, slice rest)
{
    struct buf line, challenge;
    bool has_line;
    struct err err;
    slice one;
    int rc;

    buf_init(&line, 20000);
    buf_init(&challenge, 40000);
    rc = client_sasl_step(s, SLICE_NONE, &has_line, &line, &err);
    for (int i = 0; rc == 0 && rest.n > 0 && i < 10; i++) {
        (void)slice_cut(&rest, '\n', &one);
        buf_clear(&line);
        buf_clear(&challenge);
        /* Mostly well encoded, or nothing would get any further. */
        if (one.n > 0 && one.p[0] == '!')
            (void)buf_slice(&challenge, one);
        else
            (void)base64_put(&challenge, one);
        rc = client_sasl_step(s, buf_view(&challenge), &has_line, &line, &err);
        if (rc == 0)
            CHECK(line.n <= CLIENT_SASL_LINE_MAX);
    }
    (void)client_sasl_is_done(s);
    buf_done(&line);
    buf_done(&challenge);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct client_sasl_wish w = { .user = SL("tomo"),
                                  .password = SL("secret"),
                                  .host = SL("mx.example.com"),
                                  .security = SL("noanonymous") };
    struct client_sasl *s = NULL;
    struct err err;

    if (size == 0 || client_sasl_setup(&err) < 0)
        return 0;
    w.mechs = slice_str(mechs[data[0] % ARRAY_LEN(mechs)]);
    if (client_sasl_new(&w, &s, &err) < 0)
        return 0;
    talk(s, slice_of(data + 1, size - 1));
    client_sasl_free(&s);
    return 0;
}
