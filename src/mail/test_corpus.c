/*
 * Every message of the mail corpus through the room: nothing may crash, sizes
 * must add up, and cutting the input anywhere must change nothing.  HATO_CORPUS
 * names the directory; without it the test is skipped.
 *
 *     test_mail_corpus --dump FILE...    prints what is derived of each, for
 *                                        comparison with other programs
 */
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "mail/mail.h"

#define SKIP        77
#define MESSAGE_MAX (64u << 20)
#define PATH_SIZE   1024

static size_t n_messages;
static int failures;

static bool read_file(const char *path, struct buf *out)
{
    int fd CLEANUP(close_fd) = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n;

    if (fd < 0)
        return false;
    buf_clear(out);
    for (;;) {
        char *p = buf_reserve(out, 65536);

        if (p == NULL)
            return false;
        n = read(fd, p, 65536);
        if (n <= 0)
            return n == 0;
        buf_commit(out, (size_t)n);
    }
}

static void derive(struct buf *out, const struct mail_part *root, slice message)
{
    mail_imap_envelope(out, root);
    buf_byte(out, '\t');
    mail_imap_body(out, root);
    buf_byte(out, '\t');
    mail_imap_bodystructure(out, root);
    buf_printf(out, "\t%zu\t%" PRIu64 "\t", message.n,
               mail_part_virtual_size(root));
    mail_preview(out, root, message);
}

static void expect(bool ok, const char *path, const char *what)
{
    if (ok)
        return;
    (void)fprintf(stderr, "%s: %s\n", path, what);
    failures++;
}

/* Fed in pieces of odd sizes, the message gives the same tree. */
static void check_pieces(const char *path, slice message, slice whole)
{
    struct arena *a = arena_new(MESSAGE_MAX);
    struct mail_mime *m = mail_mime_new(a);
    struct buf out CLEANUP(buf_done) = { 0 };
    size_t step = 1;

    buf_init(&out, MESSAGE_MAX);
    for (size_t at = 0; at < message.n; at += step, step = step * 7 % 61 + 1)
        mail_mime_feed(m, slice_sub(message, at, step));
    derive(&out, mail_mime_finish(m), message);
    expect(slice_eq(buf_view(&out), whole), path, "pieces differ");
    arena_free(&a);
}

/* DATA and back. */
static void check_dot(const char *path, slice message)
{
    static const struct mail_dot_options opt = { .stuffed = true };
    struct buf wire CLEANUP(buf_done) = { 0 }, out CLEANUP(buf_done) = { 0 };
    struct mail_dot d;
    bool start = true;
    slice in;

    if (slice_chr(message, '\r') >= 0 || message.n == 0 ||
        message.p[message.n - 1] != '\n' || message.p[0] == ' ' ||
        message.p[0] == '\t')
        return;
    buf_init(&wire, MESSAGE_MAX);
    buf_init(&out, MESSAGE_MAX);
    mail_dot_stuff(&wire, message, true, &start);
    buf_puts(&wire, ".\r\nQUIT\r\n");
    mail_dot_init(&d, &opt);
    in = buf_view(&wire);
    mail_dot_feed(&d, &in, &out);
    expect(d.done && slice_eqs(in, "QUIT\r\n"), path, "DATA's end was missed");
    expect(slice_eq(buf_view(&out), message), path, "DATA changed bytes");
}

static void check_header(const char *path, slice message)
{
    struct buf text CLEANUP(buf_done) = { 0 };
    struct mail_header_iter it;
    struct mail_field f;
    size_t at = 0;

    buf_init(&text, MESSAGE_MAX);
    mail_header_iter_init(&it, message, true);
    while (mail_header_next(&it, &f)) {
        expect(f.offset == at, path, "fields leave a gap");
        at = f.offset + f.whole.n;
        buf_clear(&text);
        mail_words_decode(&text, f.value);
        expect(mail_utf8_valid(buf_view(&text)), path, "no UTF-8 from words");
    }
}

static void check_message(const char *path, slice message, bool dump)
{
    struct arena *a = arena_new(MESSAGE_MAX);
    const struct mail_part *root = mail_mime_parse(a, message);
    struct buf out CLEANUP(buf_done) = { 0 };

    buf_init(&out, MESSAGE_MAX);
    derive(&out, root, message);
    if (dump) {
        char date[40] = "-";
        int64_t sec;
        int zone;

        if (root->envelope != NULL &&
            mail_date_parse(root->envelope->date, &sec, &zone))
            mail_date_format(sec, zone, date);
        printf("%s\t%.*s\t%s\n", path, (int)out.n, out.p, date);
    } else {
        expect(!out.overflow, path, "too long");
        expect(root->header.stored + root->body.stored == message.n, path,
               "sizes do not add up");
        check_pieces(path, message, buf_view(&out));
        check_dot(path, message);
        check_header(path, message);
    }
    n_messages++;
    arena_free(&a);
}

static void check_file(const char *path, bool dump)
{
    struct buf message CLEANUP(buf_done) = { 0 };

    buf_init(&message, MESSAGE_MAX);
    if (read_file(path, &message))
        check_message(path, buf_view(&message), dump);
    else
        expect(false, path, "cannot be read");
}

/* The corpus is a few levels deep. */
static void check_tree(const char *dir,
                       int depth) /* NOLINT(misc-no-recursion) */
{
    DIR *d = opendir(dir);
    struct dirent *e;
    char path[PATH_SIZE];

    if (d == NULL || depth == 0) {
        if (d != NULL)
            (void)closedir(d);
        return;
    }
    while ((e = readdir(d)) != NULL) {
        struct stat st;

        if (e->d_name[0] == '.' ||
            snprintf(path, sizeof path, "%s/%s", dir, e->d_name) >=
                (int)sizeof path ||
            stat(path, &st) < 0)
            continue;
        if (S_ISDIR(st.st_mode))
            check_tree(path, depth - 1);
        else
            check_file(path, false);
    }
    (void)closedir(d);
}

int main(int argc, char **argv)
{
    const char *corpus = getenv("HATO_CORPUS");

    if (argc > 2 && strcmp(argv[1], "--dump") == 0) {
        for (int i = 2; i < argc; i++)
            check_file(argv[i], true);
        return failures > 0;
    }
    if (corpus == NULL) {
        printf("skipped: HATO_CORPUS is not set\n");
        return SKIP;
    }
    check_tree(corpus, 6);
    printf("%zu messages, %d failures\n", n_messages, failures);
    return failures > 0 || n_messages == 0;
}
