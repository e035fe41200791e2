#include "store/test_util.h"

#include "rt/file.h"

#include <dirent.h>
#include <ftw.h>
#include <sys/stat.h>
#include <sys/wait.h>

static void on_note(void *arg, const char *account, const char *text)
{
    struct bench *b = arg;

    (void)account;
    (void)text;
    b->n_notes++;
    if (getenv("TEST_NOTES"))
        (void)fprintf(stderr, "note: %s: %s\n", account, text);
}

void bench_open(struct bench *b)
{
    const char *base = getenv("TMPDIR");

    *b = (struct bench){ 0 };
    if (!base || strlen(base) > 40)
        base = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    (void)snprintf(b->dir, sizeof b->dir, "%s/hato-store-XXXXXX", base);
    assert_non_null(mkdtemp(b->dir));
    b->engine = engine_local_new();
    b->cfg = (struct store_config){ .engine = b->engine,
                                    .host = "mail.example.org",
                                    .instance = 1,
                                    .note = on_note,
                                    .note_arg = b };
    b->store = store_new(&b->cfg);
}

void bench_restart(struct bench *b)
{
    store_free(&b->store);
    b->cfg.instance++;
    b->store = store_new(&b->cfg);
}

static int remove_entry(const char *path, const struct stat *st, int flag,
                        struct FTW *ftw)
{
    (void)st;
    (void)flag;
    (void)ftw;
    return remove(path);
}

void bench_close(struct bench *b)
{
    store_free(&b->store);
    engine_free(&b->engine);
    (void)nftw(b->dir, remove_entry, 32, FTW_DEPTH | FTW_PHYS);
}

slice bench_location(const struct bench *b, const char *user)
{
    static char text[256];

    (void)snprintf(text, sizeof text, "maildir:%s/%s", b->dir, user);
    return slice_str(text);
}

const char *bench_path(const struct bench *b, const char *rest)
{
    static char text[4][512];
    static unsigned at;
    char *p = text[at++ % 4];

    (void)snprintf(p, sizeof text[0], "%s/%s", b->dir, rest);
    return p;
}

void bench_id(uint8_t id[static 16], uint64_t n)
{
    uint8_t digest[32];

    sha256_of(slice_of(&n, sizeof n), digest);
    memcpy(id, digest, 16);
}

const struct store_rcpt *bench_deliver(struct bench *b, const char *user,
                                       uint64_t n, const char *text)
{
    struct store_message msg = { .return_path = SL("from@example.net") };
    static struct store_rcpt r;
    struct store_draft *d;
    struct err err;

    r = (struct store_rcpt){ .user = slice_str(user),
                             .location = bench_location(b, user),
                             .has_id = true,
                             .delivered_to = SL("to@example.org"),
                             .orig_to = SL("To@example.org") };
    bench_id(r.id, n);
    d = store_draft_new(b->store, &msg, &r, 1);
    assert_int_equal(store_draft_write(d, slice_str(text), &err), 0);
    store_deliver(&d);
    if (r.failed && getenv("TEST_NOTES"))
        (void)fprintf(stderr, "failed: %s\n", r.err.log);
    return &r;
}

struct store_mailbox *bench_mailbox(struct bench *b, const char *user,
                                    const char *name)
{
    struct store_account *a;
    struct store_mailbox *m = NULL;
    struct err err;

    if (store_account_open(b->store, slice_str(user), bench_location(b, user),
                           true, &a, &err) < 0)
        fail_msg("%s", err.log);
    if (store_mailbox_open(a, slice_str(name), STORE_CREATE, &m, &err) < 0)
        fail_msg("%s", err.log);
    store_account_unref(&a);
    return m;
}

size_t bench_files(const struct bench *b, const char *dir)
{
    DIR *d = opendir(bench_path(b, dir));
    size_t n = 0;

    if (!d)
        return 0;
    for (struct dirent *e = readdir(d); e; e = readdir(d))
        n += e->d_name[0] != '.';
    (void)closedir(d);
    return n;
}

void bench_shell(const struct bench *b, const char *fmt, ...)
{
    char cmd[1024];
    va_list ap;
    pid_t pid;
    int status;

    va_start(ap, fmt);
    /* NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): it is started */
    (void)vsnprintf(cmd, sizeof cmd, fmt, ap);
    va_end(ap);
    pid = fork();
    if (pid == 0) {
        if (chdir(b->dir) == 0)
            (void)execl("/bin/sh", "sh", "-c", cmd, (char *)NULL);
        _exit(127);
    }
    assert_true(waitpid(pid, &status, 0) == pid);
    assert_int_equal(status, 0);
}
