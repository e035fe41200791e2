#include "table/table_priv.h"

#include "rt/rt.h"

#include <grp.h>
#include <pwd.h>

/* unix:passwd.byname, unix:passwd.byuid and unix:group.byname: the system's
 * users, asked on a pool thread, since NSS may wait for the network. */

#define NSS_BYTES    ((size_t)256 << 10)
#define NSS_NAME_MAX 256

struct nss_question {
    char name[NSS_NAME_MAX];
    bool is_group;
    bool is_uid; /* the name is a number: */
    uint64_t uid;
    char *space;
    char *line; /* the answer; NULL: there is none */
    int error;
};

static void ask_passwd(struct nss_question *q)
{
    struct passwd pw;
    struct passwd *found = NULL;

    if (q->is_uid)
        q->error = getpwuid_r((uid_t)q->uid, &pw, q->space, NSS_BYTES, &found);
    else
        q->error = getpwnam_r(q->name, &pw, q->space, NSS_BYTES, &found);
    if (found != NULL)
        q->line = xasprintf("%s:%s:%ld:%ld:%s:%s:%s", pw.pw_name, pw.pw_passwd,
                            (long)pw.pw_uid, (long)pw.pw_gid, pw.pw_gecos,
                            pw.pw_dir, pw.pw_shell);
}

static void ask_group(struct nss_question *q)
{
    struct group gr;
    struct group *found = NULL;
    struct buf members CLEANUP(buf_done);

    buf_init(&members, 2 * NSS_BYTES);
    q->error = getgrnam_r(q->name, &gr, q->space, NSS_BYTES, &found);
    if (found == NULL)
        return;
    for (char **m = gr.gr_mem; m != NULL && *m != NULL; m++)
        buf_printf(&members, "%s%s", members.n > 0 ? "," : "", *m);
    q->line = xasprintf("%s:%s:%ld:%s", gr.gr_name, gr.gr_passwd,
                        (long)gr.gr_gid, buf_cstr(&members));
}

static int nss_run(void *arg)
{
    struct nss_question *q = arg;

    q->space = xmalloc(NSS_BYTES);
    if (q->is_group)
        ask_group(q);
    else
        ask_passwd(q);
    free(q->space);
    q->space = NULL;
    return 0;
}

/* POSIX leaves the errno of "no such entry" open; these mean just that. */
static bool is_trouble(int error)
{
    return error != 0 && error != ENOENT && error != ESRCH && error != EBADF &&
           error != EPERM;
}

int nss_lookup(struct table *t, slice key, struct arena *a, slice *value,
               struct err *err)
{
    struct nss_question *q;
    int rc = 0;
    uint64_t uid = 0;
    bool is_uid = slice_eqs(t->name, "passwd.byuid");

    if (!is_uid && !slice_eqs(t->name, "passwd.byname") &&
        !slice_eqs(t->name, "group.byname"))
        return err_temp(err, "unknown table: %s", t->whole);
    *value = SLICE_NONE;
    if (key.n >= NSS_NAME_MAX ||
        (is_uid && (!slice_u64(key, &uid) || uid > UINT32_MAX)))
        return 0;
    q = xcalloc(1, sizeof(*q));
    q->is_group = slice_eqs(t->name, "group.byname");
    q->is_uid = is_uid;
    q->uid = uid;
    (void)slice_copy_to(key, q->name, sizeof(q->name));
    (void)offload(nss_run, q);
    if (q->line != NULL) {
        *value = slice_dup(a, slice_str(q->line));
        if (value->p == NULL)
            rc = err_temp(err, "%s: no memory for the value", t->whole);
    } else if (is_trouble(q->error)) {
        errno = q->error;
        rc = err_sys(err, "lookup of %s in %s", q->name, t->whole);
    }
    free(q->line);
    free(q);
    return rc;
}
