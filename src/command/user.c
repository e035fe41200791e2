#include "command/command.h"

#include "auth/auth.h"
#include "conf/conf.h"
#include "mail/mail.h"
#include "rt/file.h"
#include "table/table.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sysexits.h>
#include <termios.h>

/*
 * hato user add|passwd|delete|list|hash: the lines of a passwd-file.  The file
 * is replaced in one step, so that nobody reads half of it, and under a lock on
 * its directory, so that two commands do not undo each other.  A password comes
 * from the terminal or from standard input, never from the command line, which
 * every user of the machine can read.
 */
#define FILE_MAX_BYTES (64u << 20)
#define PASSWORD_MAX   1000
#define NAME_MAX_BYTES 255

struct user_args {
    const char *verb;
    const char *name;
    const char *file;
    const char *scheme;
    const char *home, *uid, *gid, *extra;
};

static NO_RETURN void usage(void)
{
    (void)fputs("usage: hato user add NAME [--scheme S] [--home DIR] [--uid N] "
                "[--gid N] [--extra TEXT]\n"
                "       hato user passwd NAME [--scheme S]\n"
                "       hato user delete NAME\n"
                "       hato user list\n"
                "       hato user hash [--scheme S]\n"
                "Each takes --file PATH; else the first passwd-file of passdb, "
                "or of userdb.\n"
                "The password is asked for, or read from standard input.\n",
                stderr);
    exit(EX_USAGE);
}

/* ---- the password */

static void take_line(char *text)
{
    text[strcspn(text, "\n")] = '\0';
}

/* One line without echo; `text` has PASSWORD_MAX + 2 bytes. */
static void ask(const char *prompt, char *text)
{
    struct termios before, quiet;
    bool is_terminal = isatty(STDIN_FILENO) && tcgetattr(0, &before) == 0;

    if (is_terminal) {
        quiet = before;
        quiet.c_lflag &= ~(tcflag_t)ECHO;
        (void)fputs(prompt, stderr);
        (void)tcsetattr(0, TCSAFLUSH, &quiet);
    }
    text[0] = '\0';
    if (fgets(text, PASSWORD_MAX + 2, stdin) == NULL)
        text[0] = '\0';
    if (is_terminal) {
        (void)tcsetattr(0, TCSAFLUSH, &before);
        (void)fputc('\n', stderr);
    }
    if (strlen(text) > PASSWORD_MAX && strchr(text, '\n') == NULL)
        command_die(EX_DATAERR, "the password is too long");
    take_line(text);
}

static void hash_password(const struct user_args *u, struct buf *out)
{
    static char text[PASSWORD_MAX + 2], again[PASSWORD_MAX + 2];
    struct err err;
    int rc;

    (void)setvbuf(stdin, NULL, _IONBF, 0); /* no copy of it in a buffer */
    ask("Password: ", text);
    if (text[0] == '\0')
        command_die(EX_DATAERR, "the password is empty");
    if (isatty(STDIN_FILENO)) {
        ask("Again: ", again);
        if (strcmp(text, again) != 0)
            command_die(EX_DATAERR, "these are two passwords");
    }
    rc = auth_password_hash(u->scheme, slice_str(text), out, &err);
    explicit_bzero(text, sizeof text);
    explicit_bzero(again, sizeof again);
    if (rc < 0)
        command_die(EX_USAGE, "%s", err.log);
    if (slice_chr(buf_view(out), ':') >= 0)
        command_die(EX_DATAERR, "a password with a colon needs a scheme that "
                                "hashes it");
}

/* ---- the file */

struct passwd_file {
    char *path;
    const char *name; /* its last part */
    int dirfd;
    struct stat st;
    struct buf text;
};

/* The first passwd-file of a parameter. */
static char *file_of(const struct conf *c, const char *param)
{
    slice rest = conf_slice(c, NULL, param);
    slice item, type, name, whole;

    while (conf_list_next(&rest, &item))
        if (table_canonical(item, &type, &name, &whole) &&
            slice_eqs(type, "passwd-file"))
            return slice_xstrdup(name);
    return NULL;
}

static char *path_of(const struct user_args *u)
{
    struct conf *c;
    char *path;

    if (u->file != NULL)
        return xstrdup(u->file);
    c = command_conf(NULL, CONF_MAIN_ONLY);
    path = file_of(c, "passdb");
    if (path == NULL)
        path = file_of(c, "userdb");
    conf_unref(&c);
    if (path == NULL)
        command_die(EX_CONFIG, "neither passdb nor userdb names a "
                               "passwd-file: use --file PATH");
    return path;
}

static void file_begin(const struct user_args *u, struct passwd_file *f)
{
    char *slash;
    struct err err;

    f->path = path_of(u);
    slash = strrchr(f->path, '/');
    f->name = slash != NULL ? slash + 1 : f->path;
    if (slash != NULL)
        *slash = '\0';
    f->dirfd = open(slash == NULL      ? "."
                    : slash == f->path ? "/"
                                       : f->path,
                    O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (slash != NULL)
        *slash = '/';
    if (f->dirfd < 0 || flock(f->dirfd, LOCK_EX) < 0)
        command_die(EX_NOINPUT, "open the directory of %s: %s", f->path,
                    strerror(errno));
    buf_init(&f->text, FILE_MAX_BYTES);
    if (fstatat(f->dirfd, f->name, &f->st, AT_SYMLINK_NOFOLLOW) < 0)
        command_die(EX_NOINPUT, "%s: %s", f->path, strerror(errno));
    if (!S_ISREG(f->st.st_mode))
        command_die(EX_NOINPUT,
                    "%s is not a file (nor a link's target; name "
                    "the file itself)",
                    f->path);
    if (file_read(f->dirfd, f->name, &f->text, &err) < 0)
        command_die(EX_NOINPUT, "%s: %s", f->path, err.log);
}

static void file_done(struct passwd_file *f)
{
    if (f->text.p != NULL)
        explicit_bzero(f->text.p, f->text.size);
    buf_done(&f->text);
    close_fd(&f->dirfd);
    free(f->path);
}

/* Replace it, with the owner and mode that it had. */
static void file_write(struct passwd_file *f, const struct buf *text)
{
    struct err err;

    if (text->overflow)
        command_die(EX_DATAERR, "%s would be too long", f->path);
    if (file_replace(f->dirfd, f->name, buf_view(text), f->st.st_mode & 0777,
                     &err) < 0)
        command_die(EX_CANTCREAT, "%s: %s", f->path, err.log);
    if ((f->st.st_uid != geteuid() || f->st.st_gid != getegid()) &&
        fchownat(f->dirfd, f->name, f->st.st_uid, f->st.st_gid,
                 AT_SYMLINK_NOFOLLOW) < 0)
        command_warn("warning: %s has another owner now: %s", f->path,
                     strerror(errno));
}

/* Is this the line of `name`?  Names are compared as the table does. */
static bool is_line_of(slice line, slice name)
{
    slice rest = slice_trim(line);
    slice first;

    (void)slice_cut(&rest, ':', &first);
    return first.n > 0 && first.p[0] != '#' && slice_ieq(first, name);
}

static bool has_user(const struct passwd_file *f, slice name)
{
    slice rest = buf_view(&f->text);
    slice line;

    while (rest.n > 0) {
        (void)slice_cut(&rest, '\n', &line);
        if (is_line_of(line, name))
            return true;
    }
    return false;
}

static void check_name(const char *name)
{
    size_t n = strlen(name);
    bool ok = n > 0 && n <= NAME_MAX_BYTES && name[0] != '#' &&
              name[0] != '.' && name[0] != '-' && strstr(name, "@.") == NULL;

    for (size_t i = 0; ok && i < n; i++)
        ok = (unsigned char)name[i] > ' ' && name[i] != 127 &&
             strchr(":/\\\"", name[i]) == NULL;
    if (!ok)
        command_die(EX_DATAERR, "that is no name for a user");
}

static void check_field(const char *what, const char *text)
{
    if (text != NULL && strpbrk(text, ":\n\r") != NULL)
        command_die(EX_DATAERR, "%s may not hold a colon or a line end", what);
}

/* ---- the verbs */

static int user_add(const struct user_args *u)
{
    struct passwd_file f;
    struct buf hash, out;
    uint64_t n;

    check_name(u->name);
    check_field("--home", u->home);
    if ((u->uid != NULL && !slice_u64(slice_str(u->uid), &n)) ||
        (u->gid != NULL && !slice_u64(slice_str(u->gid), &n)))
        command_die(EX_USAGE, "--uid and --gid are numbers");
    if (u->extra != NULL && strpbrk(u->extra, "\n\r") != NULL)
        command_die(EX_DATAERR, "--extra may not hold a line end");
    buf_init(&hash, 4096);
    hash_password(u, &hash);
    file_begin(u, &f);
    if (has_user(&f, slice_str(u->name)))
        command_die(EX_DATAERR,
                    "%s is there already (hato user passwd changes "
                    "the password)",
                    u->name);
    buf_init(&out, FILE_MAX_BYTES);
    (void)buf_slice(&out, buf_view(&f.text));
    if (out.n > 0 && out.p[out.n - 1] != '\n')
        (void)buf_byte(&out, '\n');
    (void)buf_printf(&out, "%s:%.*s:%s:%s::%s::%s\n", u->name,
                     SLF(buf_view(&hash)), u->uid != NULL ? u->uid : "",
                     u->gid != NULL ? u->gid : "",
                     u->home != NULL ? u->home : "",
                     u->extra != NULL ? u->extra : "");
    file_write(&f, &out);
    (void)printf("%s was added to %s\n", u->name, f.path);
    buf_done(&hash);
    buf_done(&out);
    file_done(&f);
    return 0;
}

static void put_with_hash(struct buf *out, slice line, slice hash)
{
    slice tail = line;
    slice user, old;

    (void)slice_cut(&tail, ':', &user);
    (void)buf_printf(out, "%.*s:%.*s", SLF(user), SLF(hash));
    if (slice_cut(&tail, ':', &old))
        (void)buf_printf(out, ":%.*s", SLF(tail));
}

/* The file with the user's lines changed: the password, or away (hash NULL). */
static void rewrite(slice text, slice name, const struct buf *hash,
                    struct buf *out)
{
    slice line;

    while (text.n > 0) {
        bool has_end = slice_cut(&text, '\n', &line);
        bool is_his = is_line_of(line, name);

        if (is_his && hash == NULL)
            continue;
        if (is_his)
            put_with_hash(out, line, buf_view(hash));
        else
            (void)buf_slice(out, line);
        if (has_end)
            (void)buf_byte(out, '\n');
    }
}

static int user_change(const struct user_args *u, bool is_delete)
{
    slice name = slice_str(u->name);
    struct passwd_file f;
    struct buf hash, out;

    buf_init(&hash, 4096);
    if (!is_delete)
        hash_password(u, &hash);
    file_begin(u, &f);
    if (!has_user(&f, name))
        command_die(EX_NOUSER, "%s is not in %s", u->name, f.path);
    buf_init(&out, FILE_MAX_BYTES);
    rewrite(buf_view(&f.text), name, is_delete ? NULL : &hash, &out);
    file_write(&f, &out);
    (void)printf(is_delete ? "%s was taken out of %s; the mail stays\n"
                           : "%s has a new password in %s\n",
                 u->name, f.path);
    buf_done(&hash);
    buf_done(&out);
    file_done(&f);
    return 0;
}

static int user_passwd(const struct user_args *u)
{
    return user_change(u, false);
}

static int user_delete(const struct user_args *u)
{
    return user_change(u, true);
}

static int user_list(const struct user_args *u)
{
    struct passwd_file f;
    slice rest, line, name;

    file_begin(u, &f);
    rest = buf_view(&f.text);
    while (rest.n > 0) {
        (void)slice_cut(&rest, '\n', &line);
        line = slice_trim(line);
        if (line.n == 0 || line.p[0] == '#')
            continue;
        (void)slice_cut(&line, ':', &name);
        command_print_text(name);
        (void)putchar('\n');
    }
    command_flush();
    file_done(&f);
    return 0;
}

static int user_hash(const struct user_args *u)
{
    struct buf hash;

    buf_init(&hash, 4096);
    hash_password(u, &hash);
    (void)buf_byte(&hash, '\n');
    command_print(&hash, stdout);
    command_flush();
    buf_done(&hash);
    return 0;
}

static const struct {
    const char *name;
    int (*run)(const struct user_args *u);
    bool has_name;
} verbs[] = {
    { "add", user_add, true },       { "passwd", user_passwd, true },
    { "delete", user_delete, true }, { "list", user_list, false },
    { "hash", user_hash, false },
};

static bool take_option(struct user_args *u, const char *name,
                        const char *value)
{
    const struct {
        const char *name;
        const char **at;
    } options[] = {
        { "--file", &u->file }, { "--scheme", &u->scheme },
        { "--home", &u->home }, { "--uid", &u->uid },
        { "--gid", &u->gid },   { "--extra", &u->extra },
    };

    for (size_t i = 0; value != NULL && i < ARRAY_LEN(options); i++)
        if (strcmp(name, options[i].name) == 0) {
            *options[i].at = value;
            return true;
        }
    return false;
}

int command_user(int argc, char **argv)
{
    struct user_args u = { .scheme = "SHA512-CRYPT" };

    for (int i = 1; i < argc; i++) {
        if (argv[i][0] == '-') {
            if (!take_option(&u, argv[i], i + 1 < argc ? argv[i + 1] : NULL))
                usage();
            i++;
        } else if (u.verb == NULL) {
            u.verb = argv[i];
        } else if (u.name == NULL) {
            u.name = argv[i];
        } else {
            usage();
        }
    }
    for (size_t i = 0; u.verb != NULL && i < ARRAY_LEN(verbs); i++)
        if (strcmp(u.verb, verbs[i].name) == 0 &&
            verbs[i].has_name == (u.name != NULL))
            return verbs[i].run(&u);
    usage();
}
