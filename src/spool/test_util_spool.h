#ifndef SPOOL_TEST_UTIL_SPOOL_H
#define SPOOL_TEST_UTIL_SPOOL_H

/* What the room's tests share: a directory in memory, a spool in it, mails. */
#include "base/test_util.h"
#include "rt/file.h"
#include "rt/rt.h"
#include "spool/owner_priv.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

static char test_dir[64];

static inline void make_test_dir(void)
{
    (void)snprintf(test_dir, sizeof test_dir, "%s/hato-spool-XXXXXX",
                   access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    assert_non_null(mkdtemp(test_dir));
}

/* Remove `dir` and what is in it, two levels deep. */
static inline void remove_dir(const char *dir, int depth)
{
    DIR *d = opendir(dir);

    if (d == NULL)
        return;
    for (struct dirent *e = readdir(d); e != NULL; e = readdir(d)) {
        char *path CLEANUP(free_ptr) = xasprintf("%s/%s", dir, e->d_name);

        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        if (unlink(path) < 0 && depth < 3)
            remove_dir(path, depth + 1);
    }
    (void)closedir(d);
    (void)rmdir(dir);
}

static inline void copy_file(const char *from, const char *to)
{
    struct buf b;
    struct err err;
    int fd;

    buf_init(&b, 1u << 30);
    assert_int_equal(file_read(AT_FDCWD, from, &b, &err), 0);
    fd = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_true(write(fd, b.p, b.n) == (ssize_t)b.n);
    (void)close(fd);
    buf_done(&b);
}

/* What a crash leaves, were everything written on the disk. */
static inline void copy_dir(const char *from, const char *to, int depth)
{
    DIR *d = opendir(from);

    assert_non_null(d);
    (void)mkdir(to, 0700);
    for (struct dirent *e = readdir(d); e != NULL; e = readdir(d)) {
        char *a CLEANUP(free_ptr) = xasprintf("%s/%s", from, e->d_name);
        char *b CLEANUP(free_ptr) = xasprintf("%s/%s", to, e->d_name);
        struct stat st;

        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        assert_int_equal(stat(a, &st), 0);
        if (S_ISDIR(st.st_mode) && depth < 3)
            copy_dir(a, b, depth + 1);
        else
            copy_file(a, b);
    }
    (void)closedir(d);
}

/* A queue that only looks. */
struct watch_queue {
    unsigned n_messages; /* told of */
    unsigned n_settled;
    unsigned n_last;
    unsigned n_trouble;
    bool is_loud;
    uint64_t last_seq;
};

static inline void queue_on_message(struct spool *s, struct spool_message *m,
                                    const struct envelope *e, void *arg)
{
    struct watch_queue *q = arg;

    (void)s;
    (void)e;
    q->n_messages++;
    q->last_seq = spool_message_seq(m);
}

static inline void queue_on_settled(struct spool *s, struct spool_message *m,
                                    uint32_t rcpt, bool is_last, void *arg)
{
    struct watch_queue *q = arg;

    (void)s;
    (void)m;
    (void)rcpt;
    q->n_settled++;
    q->n_last += is_last;
}

static inline void queue_on_trouble(struct spool *s, const char *text,
                                    void *arg)
{
    struct watch_queue *q = arg;

    (void)s;
    q->n_trouble++;
    if (q->is_loud)
        print_message("trouble: %s\n", text);
}

static const struct spool_ops queue_ops = { queue_on_message, queue_on_settled,
                                            queue_on_trouble };

static inline struct spool_conf small_conf(const char *dir)
{
    return (struct spool_conf){ .dir = dir,
                                .segment_bytes = 256u << 10,
                                .journal_bytes = 64u << 10,
                                .straggler_age_ms = 1 };
}

static inline struct spool *open_spool(const char *dir, struct watch_queue *q)
{
    struct spool_conf conf = small_conf(dir);
    struct spool *s = NULL;
    struct err err;

    if (spool_open(&conf, &queue_ops, q, &s, &err) < 0)
        fail_msg("%s", err.log);
    return s;
}

static inline struct envelope mail_to(struct envelope_rcpt *rcpts, size_t n)
{
    return (struct envelope){ .sender = SL("sender@example.org"),
                              .rcpts = rcpts,
                              .n_rcpts = n,
                              .protocol = SL("ESMTP"),
                              .headers = SL("Received: by test\n") };
}

/* Commit a mail of `size` bytes of `fill` to n recipients; its number. */
static inline uint64_t put_mail(struct spool_writer *w, size_t n, char fill,
                                size_t size)
{
    struct envelope_rcpt rcpts[3] = { { .addr = SL("a@example.org") },
                                      { .addr = SL("b@example.org"),
                                        .orig = SL("bb@example.org"),
                                        .notify = ENV_NOTIFY_FAILURE },
                                      { .addr = SL("c@example.org") } };
    struct envelope e = mail_to(rcpts, n);
    struct spool_draft *d = NULL;
    struct err err;
    char *body CLEANUP(free_ptr) = xmalloc(size + 1);

    memset(body, fill, size);
    assert_int_equal(spool_draft_open(w, 0, &d, &err), 0);
    for (size_t at = 0; at < size; at += 10000)
        assert_int_equal(
            spool_draft_write(d, slice_sub(slice_of(body, size), at, 10000),
                              &err),
            0);
    if (spool_draft_commit(&d, &e, &err) < 0)
        fail_msg("%s", err.log);
    assert_null(d);
    assert_true(mail_queue_id_valid(slice_str(e.id)));
    return e.seq;
}

/* The message is there, its body is `size` times `fill`. */
static inline void check_body(struct spool *s, uint64_t seq, char fill,
                              size_t size)
{
    struct spool_message *m = spool_find(s, seq);
    struct err err;
    uint64_t at;
    uint64_t n;
    char *body CLEANUP(free_ptr) = xmalloc(size + 1);
    int fd;

    assert_non_null(m);
    assert_int_equal(spool_read_fd(s, m, &fd, &at, &n, &err), 0);
    assert_int_equal(n, size);
    assert_true(pread(fd, body, size, (off_t)at) == (ssize_t)size);
    for (size_t i = 0; i < size; i++) {
        if (body[i] != fill)
            fail_msg("byte %zu of %zu differs", i, size);
    }
}

static inline size_t count_files(const char *dir, const char *prefix)
{
    char *path CLEANUP(free_ptr) = xasprintf("%s/segments", dir);
    DIR *d = opendir(path);
    size_t n = 0;

    assert_non_null(d);
    for (struct dirent *e = readdir(d); e != NULL; e = readdir(d))
        n += strncmp(e->d_name, prefix, strlen(prefix)) == 0;
    (void)closedir(d);
    return n;
}

static inline void in_task(task_fn *fn, void *arg)
{
    (void)task_spawn("test", fn, arg);
    loop_run_until_idle();
}

/* Run `static void name_task(void *arg)` in a task, in a fresh directory. */
#define SPOOL_TEST(name)                                                       \
 static void test_##name(void **state)                                         \
 {                                                                             \
  (void)state;                                                                 \
  make_test_dir();                                                             \
  loop_init("test", 2);                                                        \
  in_task(name##_task, NULL);                                                  \
  loop_done();                                                                 \
  remove_dir(test_dir, 0);                                                     \
 }

#endif
