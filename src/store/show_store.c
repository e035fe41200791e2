/*
 * show_store PATH [NAME ...]: opens the Maildir's account and prints its
 * folders, and of each NAME what its index holds, a line a message:
 *
 *     uid flags keywords internaldate size crlf-size uidl base-name
 *
 * with unique ids by $UIDL_FORMAT.  For tests (test/test_takeover.py).
 */
#include "engine/engine.h"
#include "store/store.h"

#include <stdio.h>

static void note(void *arg, const char *account, const char *text)
{
    (void)arg;
    (void)account;
    (void)fprintf(stderr, "note: %s\n", text);
}

static bool folder(void *arg, const struct store_folder *f)
{
    (void)arg;
    (void)printf("folder %.*s%s%s%s use=%u\n", SLF(f->name),
                 f->exists ? " exists" : "", f->has_children ? " children" : "",
                 f->subscribed ? " subscribed" : "", f->use);
    return true;
}

static void print_row(struct store_mailbox *m, size_t r)
{
    struct buf uidl CLEANUP(buf_done) = { 0 };
    const char *format = getenv("UIDL_FORMAT");
    struct store_row row;
    const char *sep = "";

    if (!store_row_get(m, r, &row))
        return;
    buf_init(&uidl, 1024);
    store_uidl_of_row(m, r, slice_str(format ? format : "%08Xu%08Xv"), &uidl);
    (void)printf("%u %u ", row.uid, row.flags);
    for (unsigned i = 0; i < 64; i++) {
        if (!(row.keywords >> i & 1))
            continue;
        (void)printf("%s%.*s", sep, SLF(store_keyword(m, i)));
        sep = ",";
    }
    (void)printf("%s %" PRId64 " %" PRIu64 " %" PRIu64 " %s %.*s\n",
                 row.keywords ? "" : "-", row.internaldate, row.size,
                 row.crlf_size, buf_cstr(&uidl), SLF(row.base_name));
}

static int show(struct store_account *a, const char *name)
{
    struct store_mailbox *m = NULL;
    struct store_status st;
    struct err err;

    if (store_mailbox_open(a, slice_str(name), 0, &m, &err) < 0 ||
        store_mailbox_sync(m, false, &err) < 0) {
        (void)fprintf(stderr, "%s: %s\n", name, err.log);
        store_mailbox_unref(&m);
        return 1;
    }
    store_mailbox_status(m, &st);
    (void)printf("mailbox %s uidvalidity=%u uidnext=%u messages=%" PRIu64
                 " recent=%u guid=",
                 name, st.uidvalidity, st.uidnext, st.messages,
                 store_mailbox_recent(m, false));
    for (size_t i = 0; i < sizeof st.guid; i++)
        (void)printf("%02x", st.guid[i]);
    (void)printf("\n");
    for (size_t r = 0; r < store_rows(m); r++)
        print_row(m, r);
    store_mailbox_unref(&m);
    return 0;
}

int main(int argc, char **argv)
{
    struct store_config cfg = { .host = "test.example", .note = note };
    struct store_account *a = NULL;
    struct engine *e;
    struct store *s;
    char *location;
    struct err err;
    int rc = 0;

    if (argc < 2)
        return 64;
    e = engine_local_new();
    cfg.engine = e;
    s = store_new(&cfg);
    location = xasprintf("maildir:%s", argv[1]);
    if (store_account_open(s, SL("test"), slice_str(location), true, &a, &err) <
            0 ||
        store_folders(a, folder, NULL, &err) < 0) {
        (void)fprintf(stderr, "%s\n", err.log);
        rc = 1;
    }
    for (int i = 2; i < argc && rc == 0; i++)
        rc = show(a, argv[i]);
    store_account_unref(&a);
    store_free(&s);
    engine_free(&e);
    free(location);
    return rc;
}
