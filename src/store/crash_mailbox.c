/*
 * For the crash tests: crash_mailbox LOCATION opens the INBOX of an account as
 * a worker would after a new start, and prints "uidnext UIDVALIDITY UIDNEXT",
 * then "UID DELIVERY-ID FILE" of each message.
 */
#include "engine/engine.h"
#include "store/store.h"

#include <stdio.h>

static void show(struct store_mailbox *m)
{
    struct store_status s;
    struct store_row row;

    store_mailbox_status(m, &s);
    (void)printf("uidnext %u %u\n", (unsigned)s.uidvalidity,
                 (unsigned)s.uidnext);
    for (size_t i = 0; i < store_rows(m); i++) {
        if (!store_row_get(m, i, &row))
            continue;
        (void)printf("%u ", (unsigned)row.uid);
        for (size_t k = 0; k < sizeof row.delivery_id; k++)
            (void)printf("%02x", row.delivery_id[k]);
        (void)printf(" %.*s\n", SLF(row.base_name));
    }
}

static void note(void *arg, const char *account, const char *text)
{
    (void)arg;
    (void)fprintf(stderr, "%s: %s\n", account, text);
}

int main(int argc, char **argv)
{
    struct engine *e = engine_local_new();
    struct store_config cfg = { .engine = e, .host = "crash", .note = note };
    struct store *s = store_new(&cfg);
    struct store_account *a = NULL;
    struct store_mailbox *m = NULL;
    struct err err = { 0 };
    int status = 0;

    if (argc != 2) {
        (void)fprintf(stderr, "usage: crash_mailbox maildir:PATH\n");
        return 2;
    }
    if (store_account_open(s, SL("crash"), slice_str(argv[1]), false, &a,
                           &err) < 0 ||
        store_mailbox_open(a, SL("INBOX"), 0, &m, &err) < 0 ||
        store_mailbox_sync(m, true, &err) < 0) {
        (void)fprintf(stderr, "%s: %s\n", argv[1], err.log);
        status = 1;
    } else {
        show(m);
    }
    store_mailbox_unref(&m);
    store_account_unref(&a);
    store_free(&s);
    engine_free(&e);
    return status;
}
