/*
 * What an alias, a .forward or an :include: file names.  The first byte chooses
 * which of them it is; :include: files hold the same text.  Whatever comes, an
 * address that the text wrote is never special, every special one can be read
 * back, and a user's keep the user's uid.
 */
#include "local/fake_workers.h"

#include <fcntl.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static slice input;

int lmtp_worker_ask(struct lmtp_workers *w, const struct lmtp_place *place,
                    uint16_t type, slice body, struct msg *answer,
                    struct err *err)
{
    struct buf b;
    slice path;

    (void)w;
    CHECK(type == WORKER_INCLUDE && place->uid == 4711);
    if (!attr_find(body, AT_PATH, &path) || path.p[0] != '/')
        return err_temp(err, "no such file");
    memset(answer, 0, sizeof *answer);
    buf_init(&b, 1u << 20);
    (void)attr_put(&b, AT_CONTENT, input);
    answer->heap = b.p;
    answer->body = buf_view(&b);
    return 0;
}

static void check_other(slice other, bool is_forward)
{
    struct lmtp_place place = { 0 };
    slice mailbox;

    CHECK(other.n > 0 && slice_chr(other, '\n') < 0);
    if (other.p[0] == '\001') {
        CHECK(local_is_special(other) &&
              local_special_parse(other, &mailbox, &place));
        if (mailbox.n == 0)
            CHECK(place.uid == 4711 && place.gid == 815 &&
                  place.by_command_worker == !is_forward &&
                  slice_eqs(place.user, "u"));
        return;
    }
    for (size_t i = 0; i < other.n; i++)
        CHECK((unsigned char)other.p[i] >= ' ');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct process process;
    static struct local local;
    struct local_job j = { .local = &local };
    struct local_rcpt r = { .addr = SL("a@example.com") };
    struct local_source src = { .uid = 4711,
                                .gid = 815,
                                .user = SL("u"),
                                .home = SL("/home/u"),
                                .domain = SL("example.com") };
    struct err err;

    if (size == 0)
        return 0;
    if (local.p == NULL) {
        event_setup(open("/dev/null", O_WRONLY | O_CLOEXEC), "fuzz");
        process.conf = conf_from_text(
            SL("myorigin = example.com\n"
               "allow_mail_to_commands = alias, forward, include\n"
               "allow_mail_to_files = alias, forward, include\n"),
            SLICE_NONE, NULL);
        local.tables = tables_new();
        tables_set_direct(local.tables, NULL);
        CHECK(address_new(process.conf, NULL, local.tables, &local.address,
                          &err) == 0);
        local.p = &process;
    }
    j.arena = arena_new(8u << 20);
    input = slice_of(data + 1, size - 1);
    src.is_forward = (data[0] & 1) != 0;
    if (local_expand(&j, &r, &src, input, 0, &err) == 0)
        for (size_t i = 0; i < r.n_others; i++)
            check_other(r.others[i], src.is_forward);
    CHECK(r.n_others <= LOCAL_EXPANSION_MAX);
    arena_free(&j.arena);
    return 0;
}
