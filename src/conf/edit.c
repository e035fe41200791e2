/* Changing main.cf in place, keeping comments and order. */
#include "conf/conf_priv.h"
#include <fcntl.h>
#include <sys/stat.h>

/* One pass over the physical lines. */
struct editor {
    enum conf_edit how;
    slice name;
    slice value;
    struct buf *out;
    size_t n_found; /* definitions of the name so far */
    size_t n_total; /* in the whole text */
    bool inside;    /* of a definition of the name: continuations are meant */
};

static bool is_comment(slice line)
{
    slice t = slice_trim(line);

    return t.n == 0 || t.p[0] == '#';
}

static bool defines(slice line, slice name)
{
    slice n;
    slice v;

    return line.n > 0 && !ascii_isspace(line.p[0]) && !is_comment(line) &&
           conf_split_nameval(slice_trim(line), &n, &v) == NULL &&
           slice_eq(n, name);
}

static size_t count_definitions(slice text, slice name)
{
    size_t n = 0;
    slice line;

    while (text.n > 0) {
        slice_cut(&text, '\n', &line);
        n += defines(line, name);
    }
    return n;
}

static void put_definition(struct editor *e)
{
    buf_slice(e->out, e->name);
    buf_puts(e->out, " = ");
    buf_slice(e->out, e->value);
    buf_byte(e->out, '\n');
}

/* A line of the definition itself, its first or a continuation. */
static void edit_own_line(struct editor *e, slice line, bool is_first)
{
    switch (e->how) {
    case CONF_EDIT_SET:
        if (is_first && e->n_found == e->n_total)
            put_definition(e);
        break;
    case CONF_EDIT_COMMENT_OUT:
        buf_byte(e->out, '#');
        buf_slice(e->out, line);
        buf_byte(e->out, '\n');
        break;
    case CONF_EDIT_REMOVE:
        break;
    }
}

static void edit_line(struct editor *e, slice line)
{
    if (defines(line, e->name)) {
        e->inside = true;
        e->n_found++;
        edit_own_line(e, line, true);
        return;
    }
    if (!is_comment(line)) {
        if (e->inside && ascii_isspace(line.p[0])) {
            edit_own_line(e, line, false);
            return;
        }
        e->inside = false;
    }
    buf_slice(e->out, line);
    buf_byte(e->out, '\n');
}

static int check_request(enum conf_edit how, slice name, slice value,
                         struct err *err)
{
    for (size_t i = 0; i < name.n; i++)
        if (!ascii_isalnum(name.p[i]) && name.p[i] != '_' && name.p[i] != '-')
            return err_perm(err, "\"%.*s\" is no name of a parameter",
                            (int)min_size(name.n, 100), name.p);
    if (name.n == 0)
        return err_perm(err, "missing name of a parameter");
    if (how == CONF_EDIT_SET &&
        (slice_chr(value, '\n') >= 0 || slice_chr(value, '\0') >= 0))
        return err_perm(err, "the value of %.*s holds a line end or NUL",
                        SLF(name));
    return 0;
}

int conf_edit_text(slice main_cf, enum conf_edit how, slice name, slice value,
                   struct buf *out, struct err *err)
{
    struct editor e = {
        .how = how, .name = name, .value = slice_trim(value), .out = out
    };
    slice line;

    if (check_request(how, name, value, err) < 0)
        return -1;
    e.n_total = count_definitions(main_cf, name);
    while (main_cf.n > 0) {
        slice_cut(&main_cf, '\n', &line);
        edit_line(&e, line);
    }
    if (how == CONF_EDIT_SET && e.n_total == 0)
        put_definition(&e);
    if (out->overflow)
        return err_perm(err, "main.cf gets too long");
    return 0;
}

static int write_all(int fd, slice s)
{
    while (s.n > 0) {
        ssize_t n = write(fd, s.p, s.n);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return -1;
        s = slice_from(s, (size_t)n);
    }
    return 0;
}

/* Written beside it, synced and renamed over it, with its owner and mode. */
static int replace_file(const char *path, slice text, struct err *err)
{
    char *tmp CLEANUP(free_ptr) = xasprintf("%s.tmp", path);
    int fd CLEANUP(close_fd) = -1;
    struct stat st;

    if (stat(path, &st) < 0)
        return err_sys(err, "stat %s", path);
    unlink(tmp);
    fd = open(tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_sys(err, "create %s", tmp);
    /* An ordinary user cannot give a file away; the mode counts. */
    if (geteuid() == 0 && fchown(fd, st.st_uid, st.st_gid) < 0)
        return err_sys(err, "chown %s", tmp);
    if (fchmod(fd, st.st_mode & 07777) < 0 || write_all(fd, text) < 0 ||
        fsync(fd) < 0 || rename(tmp, path) < 0) {
        err_sys(err, "write %s", tmp);
        unlink(tmp);
        return -1;
    }
    return 0;
}

int conf_edit_file(const char *dir, enum conf_edit how, slice name, slice value,
                   struct err *err)
{
    char *path CLEANUP(free_ptr) = xasprintf("%s/main.cf", dir);
    struct buf old;
    struct buf new;
    int rc = -1;

    buf_init(&old, CONF_MAX_TEXT);
    buf_init(&new, CONF_MAX_TEXT);
    if (conf_read_file(path, &old, err) == 0 &&
        conf_edit_text(buf_view(&old), how, name, value, &new, err) == 0)
        rc = replace_file(path, buf_view(&new), err);
    buf_done(&old);
    buf_done(&new);
    return rc;
}
