/*
 * "hato: authcheck": one question, as root, outside any sandbox of ours.  It
 * reads "kind NUL service NUL name NUL remote NUL password" and writes one
 * line: "0" good, "1 why" wrong, "2 why" unknown, "3 why" may not, "9 why"
 * trouble.  libpam is loaded only here.
 */
#include "auth/auth.h"

#include <crypt.h>
#include <dlfcn.h>
#include <pwd.h>
#include <security/pam_appl.h>
#include <shadow.h>
#include <time.h>

enum {
    CHECK_GOOD,
    CHECK_WRONG,
    CHECK_UNKNOWN,
    CHECK_DENIED,
    CHECK_TROUBLE = 9
};

struct question {
    const char *kind, *service, *name, *remote, *password;
};

static int say(int outcome, const char *what, const char *why)
{
    (void)printf("%d %s%s\n", outcome, what, why);
    return fflush(stdout) == 0 ? 0 : 1;
}

/* ---- PAM */

struct pam {
    void *lib;
    int (*start)(const char *, const char *, const struct pam_conv *,
                 pam_handle_t **);
    int (*authenticate)(pam_handle_t *, int);
    int (*acct_mgmt)(pam_handle_t *, int);
    int (*set_item)(pam_handle_t *, int, const void *);
    int (*end)(pam_handle_t *, int);
    const char *(*strerror)(pam_handle_t *, int);
};

static bool load(struct pam *p)
{
    const struct {
        const char *name;
        void *at;
    } functions[] = {
        { "pam_start", &p->start },
        { "pam_end", &p->end },
        { "pam_set_item", &p->set_item },
        { "pam_strerror", &p->strerror },
        { "pam_acct_mgmt", &p->acct_mgmt },
        { "pam_authenticate", &p->authenticate },
    };

    p->lib = dlopen("libpam.so.0", RTLD_NOW | RTLD_GLOBAL);
    for (size_t i = 0; p->lib != NULL && i < ARRAY_LEN(functions); i++) {
        void *f = dlsym(p->lib, functions[i].name);

        if (f == NULL)
            return false;
        memcpy(functions[i].at, &f, sizeof f);
    }
    return p->lib != NULL;
}

/* Whatever is asked without echo is the password. */
static int converse(int n, const struct pam_message **questions,
                    struct pam_response **answers, void *data)
{
    const struct question *q = data;
    struct pam_response *r;

    if (n <= 0 || n > PAM_MAX_NUM_MSG)
        return PAM_CONV_ERR;
    r = calloc((size_t)n, sizeof *r);
    if (r == NULL)
        return PAM_BUF_ERR;
    for (int i = 0; i < n; i++) {
        int style = questions[i]->msg_style;

        if (style == PAM_PROMPT_ECHO_OFF)
            r[i].resp = strdup(q->password);
        else if (style == PAM_PROMPT_ECHO_ON)
            r[i].resp = strdup(q->name);
    }
    *answers = r;
    return PAM_SUCCESS;
}

static int outcome_of(int rc)
{
    switch (rc) {
    case PAM_SUCCESS:
        return CHECK_GOOD;
    case PAM_USER_UNKNOWN:
        return CHECK_UNKNOWN;
    case PAM_AUTH_ERR:
    case PAM_MAXTRIES:
    case PAM_CRED_INSUFFICIENT:
    case PAM_PERM_DENIED:
        return CHECK_WRONG;
    case PAM_ACCT_EXPIRED:
    case PAM_NEW_AUTHTOK_REQD:
    case PAM_AUTHTOK_EXPIRED:
    case PAM_CRED_EXPIRED:
        return CHECK_DENIED;
    default:
        return CHECK_TROUBLE;
    }
}

/* Hato's own rules, or Dovecot's where only they are there. */
static const char *service_of(const struct question *q)
{
    if (q->service[0] != '\0')
        return q->service;
    if (access("/etc/pam.d/hato", R_OK) < 0 &&
        access("/etc/pam.d/dovecot", R_OK) == 0)
        return "dovecot";
    return "hato";
}

static int by_pam(const struct question *q)
{
    struct pam_conv conv = { .conv = converse };
    const char *step = "pam_start() failed: ";
    struct pam p = { .lib = NULL };
    pam_handle_t *h = NULL;
    char why[400];
    int rc;

    memcpy(&conv.appdata_ptr, &q, sizeof(void *)); /* PAM knows no const */
    if (!load(&p))
        return say(CHECK_TROUBLE,
                   "libpam.so.0 cannot be loaded: ", "install libpam0g");
    rc = p.start(service_of(q), q->name, &conv, &h);
    if (rc == PAM_SUCCESS && q->remote[0] != '\0')
        (void)p.set_item(h, PAM_RHOST, q->remote);
    if (rc == PAM_SUCCESS) {
        (void)p.set_item(h, PAM_TTY, "dovecot");
        (void)p.set_item(h, PAM_RUSER, q->name);
        step = "pam_authenticate() failed: ";
        rc = p.authenticate(h, PAM_DISALLOW_NULL_AUTHTOK | PAM_SILENT);
    }
    if (rc == PAM_SUCCESS) {
        step = "pam_acct_mgmt() failed: ";
        rc = p.acct_mgmt(h, PAM_DISALLOW_NULL_AUTHTOK | PAM_SILENT);
    }
    (void)snprintf(why, sizeof why, "%s%s", p.strerror(h, rc),
                   rc == PAM_AUTH_ERR ? " (Password mismatch?)" : "");
    if (h != NULL)
        (void)p.end(h, rc);
    return say(outcome_of(rc), rc == PAM_SUCCESS ? "" : step,
               rc == PAM_SUCCESS ? "" : why);
}

/* ---- shadow */

static int by_shadow(const struct question *q)
{
    const struct spwd *sp = getspnam(q->name);
    time_t today = time(NULL) / 86400;
    bool fits = false;
    char *stored;
    struct err err;

    if (sp == NULL)
        return say(CHECK_UNKNOWN, "", "");
    stored = xstrdup(sp->sp_pwdp != NULL ? sp->sp_pwdp : "");
    if (stored[0] != '\0' &&
        auth_password_verify(slice_str(stored), "CRYPT", slice_str(q->password),
                             &fits, &err) < 0)
        return say(CHECK_TROUBLE, "", err.log);
    free(stored);
    if (!fits)
        return say(CHECK_WRONG, "", "");
    if (sp->sp_expire >= 0 && today >= sp->sp_expire)
        return say(CHECK_DENIED, "", "the account has expired");
    return say(CHECK_GOOD, "", "");
}

/* ---- the question */

static bool read_all(char *text, size_t size, size_t *n_out)
{
    size_t n = 0;

    for (;;) {
        ssize_t got = read(STDIN_FILENO, text + n, size - 1 - n);

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0 || n + (size_t)got >= size - 1)
            return false;
        if (got == 0)
            break;
        n += (size_t)got;
    }
    text[n] = '\0';
    *n_out = n;
    return true;
}

int authworker_check(void)
{
    static char text[16384];
    const char *parts[5];
    size_t n, at = 0;
    struct question q;
    int rc;

    if (!read_all(text, sizeof text, &n))
        return say(CHECK_TROUBLE, "the question is too long", "");
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        if (at > n)
            return say(CHECK_TROUBLE, "the question is damaged", "");
        parts[i] = text + at;
        at += strlen(text + at) + 1;
    }
    q = (struct question){ parts[0], parts[1], parts[2], parts[3], parts[4] };
    if (at != n + 1) /* NUL in a password: nobody's */
        rc = say(CHECK_WRONG, "", "");
    else if (strcmp(q.kind, "pam") == 0)
        rc = by_pam(&q);
    else
        rc = by_shadow(&q);
    explicit_bzero(text, sizeof text);
    return rc;
}
