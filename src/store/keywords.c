#include "store/store_priv.h"

#include "rt/file.h"

#include <fcntl.h>
#include <sys/stat.h>

/*
 * Keywords: their names and bits stand in the index.  The first 26 also stand
 * as letters in the files' names, and for other programs' sake their names in
 * dovecot-keywords, which Dovecot may extend as well.
 */

enum {
    LETTERS = 26,
    FILE_BYTES_MAX = 65536,
};

#define KEYWORDS_NEW "dovecot-keywords.new"

size_t store_keywords(const struct store_mailbox *m)
{
    return m->n_keywords;
}

slice store_keyword(const struct store_mailbox *m, size_t i)
{
    return i < m->n_keywords ? slice_str(m->keyword[i]) : SLICE_NONE;
}

static bool is_named(const struct store_mailbox *m, size_t i)
{
    return i < m->n_keywords && m->keyword[i][0] != '\0';
}

static void remember_time(struct store_mailbox *m)
{
    char path[PATH_IN_DIR_MAX];
    struct stat st;

    (void)snprintf(path, sizeof path, "%s" DOVECOT_KEYWORDS, m->dir);
    m->keywords_time = (struct dir_stamp){ 0 };
    if (fstatat(engine_dir_fd(m->account->dir), path, &st, 0) == 0)
        m->keywords_time =
            (struct dir_stamp){ st.st_mtim.tv_sec, st.st_mtim.tv_nsec };
}

/* What is in the index goes into the file; that it is late, or lost, costs
 * another program the names. */
static void write_file(struct store_mailbox *m)
{
    struct engine_dir *dir = m->account->dir;
    struct buf b CLEANUP(buf_done) = { 0 };
    char *from CLEANUP(free_ptr) = xasprintf("%s" KEYWORDS_NEW, m->dir);
    char *to CLEANUP(free_ptr) = xasprintf("%s" DOVECOT_KEYWORDS, m->dir);
    int fd CLEANUP(close_fd) = -1;
    struct err err;

    buf_init(&b, FILE_BYTES_MAX);
    for (size_t i = 0; i < LETTERS; i++)
        if (is_named(m, i))
            buf_printf(&b, "%zu %s\n", i, m->keyword[i]);
    fd = file_openat(engine_dir_fd(dir), from,
                     O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || file_write_all(fd, buf_view(&b), 0) < 0)
        store_note(m->account, "%s: %s", from, strerror(errno));
    else if (engine_rename(dir, from, to, &err) != ENGINE_OK)
        store_note(m->account, "%s: %s", to, err.log);
    remember_time(m);
}

static int put_name(struct store_mailbox *m, size_t bit, slice name,
                    struct err *err)
{
    struct buf b CLEANUP(buf_done) = { 0 };

    buf_init(&b, 512);
    buf_u32(&b, (uint32_t)bit);
    buf_slice(&b, name);
    if (index_append_buf(m, IR_KEYWORD | ENGINE_MUST_UNDERSTAND, buf_view(&b),
                         err) < 0)
        return -1;
    CHECK(keyword_set(m, bit, name));
    return 0;
}

/* A bit that nobody gave a name to, and whose letter no file carries: there a
 * name would come with messages that nobody gave it. */
static size_t free_bit(const struct store_mailbox *m)
{
    uint32_t used = 0;

    if (m->n_keywords < LETTERS)
        for (size_t r = 0; r < rows_count(m); r++)
            used |= ROW_FIELD(m, r, letters) >> 6;
    for (size_t i = 0; i < N_KEYWORDS; i++)
        if (!is_named(m, i) && (i >= LETTERS || !(used >> i & 1)))
            return i;
    return N_KEYWORDS;
}

int store_keyword_bit(struct store_mailbox *m, slice name, unsigned *out,
                      struct err *err)
{
    size_t bit;

    for (size_t i = 0; i < m->n_keywords; i++) {
        if (slice_ieqs(name, m->keyword[i])) {
            *out = (unsigned)i;
            return 0;
        }
    }
    if (!takeover_keyword_ok(name))
        return err_set(err, ERR_PERM, "5.5.4", "bad keyword");
    keywords_learn(m);
    bit = free_bit(m);
    if (bit >= N_KEYWORDS)
        return err_set(err, ERR_PERM, "5.3.5", "too many keywords");
    if (put_name(m, bit, name, err) < 0)
        return -1;
    if (bit < LETTERS)
        write_file(m);
    *out = (unsigned)bit;
    return 0;
}

void keywords_learn(struct store_mailbox *m)
{
    struct dir_stamp was = m->keywords_time;
    struct buf b CLEANUP(buf_done) = { 0 };
    struct takeover *t;
    char path[PATH_IN_DIR_MAX];
    struct err err;

    remember_time(m);
    if ((m->keywords_time.sec == was.sec &&
         m->keywords_time.nsec == was.nsec) ||
        m->keywords_time.sec == 0)
        return;
    buf_init(&b, FILE_BYTES_MAX);
    (void)snprintf(path, sizeof path, "%s" DOVECOT_KEYWORDS, m->dir);
    if (file_read(engine_dir_fd(m->account->dir), path, &b, &err) < 0)
        return;
    t = takeover_new();
    takeover_keywords(t, buf_view(&b));
    for (size_t i = 0; i < LETTERS; i++)
        if (t->keyword[i] && !is_named(m, i) &&
            put_name(m, i, slice_str(t->keyword[i]), &err) < 0)
            store_note(m->account, "%s: %s", path, err.log);
    takeover_free(&t);
}
