#include "store/test_util.h"

#include "rt/file.h"
#include "rt/rt.h"

#include <fcntl.h>
#include <sys/stat.h>

static const char letter[] = "From: a@example.net\n"
                             "Subject: one\n"
                             "\n"
                             "From here on\n"
                             ">From there\n"
                             "Fro\n"
                             "Fromage\n"
                             "x From y";

static void read_all(const char *path, struct buf *out)
{
    struct err err;

    buf_init(out, 1 << 22);
    if (file_read(AT_FDCWD, path, out, &err) < 0)
        fail_msg("%s", err.log);
}

static struct store_append an_append(const char *path)
{
    return (struct store_append){
        .path = path,
        .return_path = SL("from@example.net"),
        .envelope_from = SL("from@example.net"),
        .delivered_to = SL("to@example.org"),
        .body = SL(letter),
        .body_fd = -1,
        .host = "mail.example.org",
        .locks = STORE_LOCK_FCNTL | STORE_LOCK_DOTLOCK | STORE_LOCK_FLOCK,
        .lock_tries = 1,
    };
}

static void test_mbox(void **state)
{
    struct bench b;
    struct store_append a;
    struct buf text;
    slice rest;
    struct stat st;
    struct err err;

    (void)state;
    bench_open(&b);
    a = an_append(bench_path(&b, "box"));
    assert_int_equal(store_append(&a, &err), 0);
    assert_true(a.fs != 0);
    read_all(a.path, &text);
    rest = buf_view(&text);
    assert_true(slice_starts(rest, SL("From from@example.net ")));
    rest = slice_from(rest, (size_t)slice_chr(rest, '\n') + 1);
    assert_true(slice_eqs(rest, "Return-Path: <from@example.net>\n"
                                "Delivered-To: to@example.org\n"
                                "From: a@example.net\n"
                                "Subject: one\n"
                                "\n"
                                ">From here on\n"
                                ">From there\n"
                                "Fro\n"
                                "Fromage\n"
                                "x From y\n\n"));
    buf_done(&text);
    assert_int_equal(stat(bench_path(&b, "box.lock"), &st), -1);
    assert_int_equal(stat(a.path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    a.fsync = true;
    assert_int_equal(store_append(&a, &err), 0);
    a.max_bytes = 100;
    assert_int_equal(store_append(&a, &err), -1);
    assert_int_equal(err.class, ERR_PERM);
    assert_string_equal(err.status, "5.2.2");
    bench_close(&b);
}

/* The same from a descriptor, whose pieces end in the middle of a "From ". */
static void test_mbox_pieces(void **state)
{
    struct bench b;
    struct store_append a;
    struct buf body, text;
    size_t quoted = 0;
    struct err err;
    int fd;

    (void)state;
    bench_open(&b);
    buf_init(&body, 1 << 22);
    buf_puts(&body, "Subject: x\n\n");
    while (body.n < 300000)
        buf_puts(&body, "From a\n");
    fd = open(bench_path(&b, "in"), O_RDWR | O_CREAT, 0600);
    assert_int_equal(write(fd, "junk", 4), 4);
    assert_int_equal(write(fd, body.p, body.n), body.n);
    a = an_append(bench_path(&b, "box"));
    a.body = SLICE_NONE;
    a.body_fd = fd;
    a.body_at = 4;
    a.body_bytes = body.n;
    assert_int_equal(store_append(&a, &err), 0);
    read_all(a.path, &text);
    for (slice s = buf_view(&text); s.n > 0;) {
        slice line;

        slice_cut(&s, '\n', &line);
        quoted += slice_eqs(line, ">From a");
        assert_false(slice_eqs(line, "From a"));
    }
    assert_int_equal(quoted, (body.n - 12) / 7);
    close_fd(&fd);
    buf_done(&body);
    buf_done(&text);
    bench_close(&b);
}

static void test_mbox_trouble(void **state)
{
    struct bench b;
    struct store_append a;
    struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
    struct err err;
    struct stat st;
    pid_t pid;
    int fd, status, pipes[2];
    char c;

    (void)state;
    bench_open(&b);
    bench_shell(&b, "mkdir dir; echo x > two; ln two three; ln -s two sym;"
                    "echo x > locked.lock; echo y > held");
    a = an_append(bench_path(&b, "dir"));
    assert_int_equal(store_append(&a, &err), -1);
    a = an_append(bench_path(&b, "two"));
    assert_int_equal(store_append(&a, &err), -1);
    assert_int_equal(err.class, ERR_PERM);
    a = an_append(bench_path(&b, "sym"));
    assert_int_equal(store_append(&a, &err), -1);
    a = an_append(bench_path(&b, "locked"));
    assert_int_equal(store_append(&a, &err), -1);
    assert_int_equal(err.class, ERR_TEMP);
    assert_int_equal(stat(bench_path(&b, "locked.lock"), &st), 0);
    bench_shell(&b, "touch -d '1 hour ago' locked.lock");
    a = an_append(bench_path(&b, "locked"));
    assert_int_equal(store_append(&a, &err), -1); /* removed, next time free */
    assert_int_equal(store_append(&a, &err), 0);

    /* Another process has it locked. */
    assert_int_equal(pipe(pipes), 0);
    pid = fork();
    if (pid == 0) {
        fd = open(bench_path(&b, "held"), O_RDWR);
        (void)fcntl(fd, F_SETLK, &l);
        (void)!write(pipes[1], "x", 1);
        (void)pause();
        _exit(0);
    }
    assert_int_equal(read(pipes[0], &c, 1), 1);
    a = an_append(bench_path(&b, "held"));
    assert_int_equal(store_append(&a, &err), -1);
    assert_int_equal(err.class, ERR_TEMP);
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(store_append(&a, &err), 0);
    a = an_append("/dev/null");
    a.locks = STORE_LOCK_FCNTL;
    assert_int_equal(store_append(&a, &err), 0);
    a = an_append("/dev/full");
    a.locks = 0;
    assert_int_equal(store_append(&a, &err), -1);
    assert_int_equal(err.class, ERR_TEMP);
    (void)close(pipes[0]);
    (void)close(pipes[1]);
    bench_close(&b);
}

static void test_maildir(void **state)
{
    struct bench b;
    struct store_append a;
    struct buf text;
    char path[512];
    struct err err;

    (void)state;
    bench_open(&b);
    a = an_append(bench_path(&b, "home/anna/Mail/"));
    a.fsync = true;
    assert_int_equal(store_append(&a, &err), 0);
    assert_int_equal(store_append(&a, &err), 0);
    assert_int_equal(bench_files(&b, "home/anna/Mail/new"), 2);
    assert_int_equal(bench_files(&b, "home/anna/Mail/tmp"), 0);
    (void)snprintf(path, sizeof path, "%snew/%s", a.path, a.file);
    read_all(path, &text);
    assert_true(slice_starts(buf_view(&text),
                             SL("Return-Path: <from@example.net>\n"
                                "Delivered-To: to@example.org\nFrom: a@")));
    assert_true(slice_ends(buf_view(&text), SL("\nx From y")));
    buf_done(&text);
    bench_close(&b);
}

/* Two tasks at one mbox wait for each other. */
static struct store_append two[2];
static unsigned n_done;

static void append_task(void *arg)
{
    struct err err;

    assert_int_equal(store_append(arg, &err), 0);
    n_done++;
}

static void test_mbox_tasks(void **state)
{
    struct bench b;
    struct buf text;
    char path[300];

    (void)state;
    bench_open(&b);
    loop_init("test", 2);
    (void)snprintf(path, sizeof path, "%s", bench_path(&b, "box"));
    for (int i = 0; i < 2; i++) {
        two[i] = an_append(path);
        two[i].fsync = true;
        two[i].lock_tries = 50;
        two[i].lock_delay = 20;
        (void)task_spawn("append", append_task, &two[i]);
    }
    loop_run_until_idle();
    assert_int_equal(n_done, 2);
    read_all(path, &text);
    assert_int_equal(text.n % 2, 0);
    assert_memory_equal(text.p, text.p + text.n / 2, 20);
    buf_done(&text);
    loop_done();
    bench_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mbox),         cmocka_unit_test(test_mbox_pieces),
        cmocka_unit_test(test_mbox_trouble), cmocka_unit_test(test_maildir),
        cmocka_unit_test(test_mbox_tasks),
    };

    return cmocka_run_group_tests_name("store-append", tests, NULL, NULL);
}
