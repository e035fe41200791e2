#include "auth/auth_priv.h"

#include "ipc/event.h"
#include "ipc/proto.h"

#include <fcntl.h>

/* Names and passwords against the passdb list. */

#define WORKER_MS        60000
#define SCRAM_ITERATIONS 4096

enum finding {
    FIND_UNKNOWN,
    FIND_WRONG,
    FIND_GOOD,
    FIND_TEMP,
    FIND_DENIED,
};

/* ---- logs, as Dovecot's auth writes them */

static void tell(const struct auth_request *r, enum ev_level level,
                 const char *what, const char *text)
{
    if (level == EV_INFO && !r->config->is_verbose)
        return;
    if (r->session.n > 0)
        event_text(level, "auth", NULL, "%s(%.*s,%.*s,<%.*s>): %s", what,
                   SLF(r->user), SLF(r->remote), SLF(r->session), text);
    else
        event_text(level, "auth", NULL, "%s(%.*s,%.*s): %s", what, SLF(r->user),
                   SLF(r->remote), text);
}

/* ---- hashing: a bounded number at once, off the loop */

struct hash_job {
    slice stored, password;
    const char *scheme;
    bool fits;
    struct err err;
};

static int hash_job(void *arg)
{
    struct hash_job *j = arg;

    return auth_password_verify(j->stored, j->scheme, j->password, &j->fits,
                                &j->err);
}

MAY_WAIT static int hashed(struct auth *a, int (*fn)(void *), void *job,
                           struct err *err)
{
    int rc;

    if (sema_down(&a->hashing, clock_after(AUTH_HASH_WAIT_MS), err) < 0)
        return err_prefix(err, "too many sign-ins at once");
    rc = offload(fn, job);
    sema_up(&a->hashing);
    return rc;
}

/* The stored value that others should look like. */
static void remember_usual(struct auth *a, slice stored)
{
    if (stored.n == 0 || stored.n > SCHEME_VALUE_MAX)
        return;
    buf_clear(&a->usual);
    (void)buf_slice(&a->usual, stored);
}

/* Work as for a user who is there. */
MAY_WAIT static void burn(struct auth_request *r, slice password)
{
    struct hash_job j = { .stored =
                              slice_dup(r->arena, buf_view(&r->auth->usual)),
                          .password = password,
                          .scheme = "CRYPT" };

    (void)hashed(r->auth, hash_job, &j, &j.err);
}

MAY_WAIT static enum finding compare(struct auth_request *r,
                                     const struct passdb *p, slice stored,
                                     slice password)
{
    struct auth *a = r->auth;
    struct hash_job j = { .stored = stored,
                          .password = password,
                          .scheme =
                              p->kind == PASSDB_TABLE ? "PLAIN" : "CRYPT" };
    memo_key key = memo_key_of(a->memo, stored, password);

    if (memo_knows(a->memo, &key))
        return FIND_GOOD;
    if (hashed(a, hash_job, &j, &j.err) < 0) {
        tell(r, EV_ERROR, p->name, j.err.log);
        return FIND_TEMP;
    }
    remember_usual(a, stored);
    if (!j.fits)
        return FIND_WRONG;
    memo_add(a->memo, &key);
    return FIND_GOOD;
}

/* ---- lines of a passwd-file */

/* "key" or "key=value" among the extra fields. */
static bool extra_field(slice extra, const char *name, slice *out)
{
    slice rest = extra;
    slice word, key, value;

    while (slice_token(&rest, " \t", &word)) {
        auth_key(word, &key, &value);
        if (slice_eqs(key, name)) {
            *out = value;
            return true;
        }
    }
    return false;
}

static bool nets_allow(slice nets, slice ip)
{
    slice rest = nets;
    slice net;

    while (slice_token(&rest, ",", &net)) {
        if (slice_eqs(net, "local") && ip.n == 0)
            return true;
        if (ip.n > 0 && table_net_match(net, ip))
            return true;
    }
    return false;
}

/* The password fits: may he? */
static enum finding check_extra(struct auth_request *r, slice extra)
{
    slice value;

    if (extra_field(extra, "allow_nets", &value) &&
        !nets_allow(value, r->remote)) {
        tell(r, EV_INFO, "allow_nets", "check failed: IP not in allowed nets");
        return FIND_WRONG;
    }
    if (extra_field(extra, "nologin", &value)) {
        r->code = "user_disabled";
        if (extra_field(extra, "reason", &value))
            r->reason = slice_dup(r->arena, value);
        return FIND_DENIED;
    }
    if (extra_field(extra, "proxy", &value) ||
        extra_field(extra, "proxy_maybe", &value)) {
        tell(r, EV_ERROR, "passwd-file", "proxying is not done yet");
        return FIND_TEMP;
    }
    if (extra_field(extra, "user", &value) && value.n > 0)
        r->user = slice_dup(r->arena, value);
    return FIND_GOOD;
}

struct stored {
    slice password;
    slice extra;
};

/* What the table has for this name. */
MAY_WAIT static enum finding look_up(struct auth_request *r,
                                     const struct passdb *p, struct stored *out)
{
    struct table_user u;
    struct err err;
    slice value;

    *out = (struct stored){ SLICE_NONE, SLICE_NONE };
    if (table_list_lookup(p->list, r->user, 0, r->arena, &value, &err) < 0) {
        tell(r, EV_ERROR, p->name, err.log);
        return FIND_TEMP;
    }
    if (value.p == NULL)
        return FIND_UNKNOWN;
    if (p->kind == PASSDB_TABLE) {
        out->password = slice_trim(value);
        return FIND_GOOD;
    }
    if (!table_user_parse(value, &u)) {
        tell(r, EV_ERROR, p->name, "malformed line");
        return FIND_TEMP;
    }
    out->password = u.password;
    out->extra = u.extra;
    return FIND_GOOD;
}

MAY_WAIT static enum finding by_table(struct auth_request *r,
                                      const struct passdb *p, slice password)
{
    enum finding f;
    struct stored s;
    slice none;

    f = look_up(r, p, &s);
    if (f != FIND_GOOD)
        return f;
    if (s.password.n > 0)
        f = compare(r, p, s.password, password);
    else if (!extra_field(s.extra, "nopassword", &none))
        return FIND_WRONG;
    return f == FIND_GOOD ? check_extra(r, s.extra) : f;
}

/* ---- authworker */

/* The password goes through a pipe of its own, so that no buffer of a channel
 * keeps it. */
static int password_pipe(slice password, int *fd_out, struct err *err)
{
    int fds[2];
    ssize_t n;

    if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0)
        return err_sys(err, "make a pipe");
    n = password.n == 0 ? 0 : write(fds[1], password.p, password.n);
    close(fds[1]);
    if (n < 0 || (size_t)n != password.n) {
        close(fds[0]);
        return err_temp(err, "a password of %zu bytes", password.n);
    }
    *fd_out = fds[0];
    return 0;
}

MAY_WAIT static int ask_worker(struct auth_request *r, const struct passdb *p,
                               slice password, struct msg *answer,
                               struct err *err)
{
    int fd CLEANUP(close_fd) = -1;
    struct buf b;
    int rc;

    if (r->auth->worker == NULL)
        return err_temp(err, "authworker is not running: restart");
    if (password_pipe(password, &fd, err) < 0)
        return -1;
    buf_init(&b, 4096);
    (void)attr_put_str(&b, AT_KIND, p->kind == PASSDB_PAM ? "pam" : "shadow");
    (void)attr_put_str(&b, AT_SERVICE_NAME, p->service);
    (void)attr_put(&b, AT_NAME, r->user);
    (void)attr_put(&b, AT_REMOTE, r->remote);
    rc = link_call(r->auth->worker, AUTH_CHECK, buf_view(&b), &fd, 1,
                   clock_after(WORKER_MS), answer, err);
    buf_done(&b);
    return rc;
}

MAY_WAIT static enum finding by_worker(struct auth_request *r,
                                       const struct passdb *p, slice password)
{
    static const enum finding outcomes[] = { FIND_GOOD, FIND_WRONG,
                                             FIND_UNKNOWN, FIND_DENIED };
    enum finding f = FIND_TEMP;
    struct msg answer = { 0 };
    struct err err;
    uint64_t n;
    slice text = SLICE_NONE;

    if (slice_chr(r->user, '\0') >= 0 ||
        ask_worker(r, p, password, &answer, &err) < 0) {
        tell(r, EV_ERROR, p->name, err.log);
        return FIND_TEMP;
    }
    n = attr_u64_or(answer.body, AT_OUTCOME, 99);
    if (n < ARRAY_LEN(outcomes))
        f = outcomes[n];
    if (attr_find(answer.body, AT_REASON, &text) && text.n > 0) {
        char *shown = slice_cstr(r->arena, text);

        tell(r, f == FIND_TEMP ? EV_ERROR : EV_INFO, p->name,
             shown != NULL ? shown : "?");
    }
    if (f == FIND_DENIED)
        r->code = "pass_expired";
    msg_free(&answer);
    return f;
}

/* ---- the list */

static void tell_finding(const struct auth_request *r, const struct passdb *p,
                         enum finding f)
{
    if (p->kind == PASSDB_PAM)
        return; /* has its own words */
    if (f == FIND_UNKNOWN)
        tell(r, EV_INFO, p->name, "unknown user");
    else if (f == FIND_WRONG)
        tell(r, EV_INFO, p->name, "Password mismatch");
}

MAY_WAIT static enum finding ask_all(struct auth_request *r, slice password)
{
    struct auth_config *c = r->config;
    enum finding best = FIND_UNKNOWN;

    for (size_t i = 0; i < c->n_passdbs; i++) {
        const struct passdb *p = &c->passdbs[i];
        enum finding f = p->kind == PASSDB_FILE || p->kind == PASSDB_TABLE
                             ? by_table(r, p, password)
                             : by_worker(r, p, password);

        tell_finding(r, p, f);
        if (f == FIND_GOOD || f == FIND_DENIED)
            return f;
        /* Trouble outweighs "wrong": another time it may be right. */
        if (f == FIND_TEMP || (f == FIND_WRONG && best == FIND_UNKNOWN))
            best = f;
    }
    return best;
}

/* Wait as long as this client, network and account must.  False: too many
 * wait already. */
MAY_WAIT static bool do_penance(struct auth_request *r)
{
    struct auth *a = r->auth;
    msec ms = reputation_delay(a->reputation, r->remote, r->user);
    int rc;

    if (ms <= 0)
        return true;
    if (a->n_sleepers >= AUTH_SLEEPERS_MAX)
        return false;
    a->n_sleepers++;
    rc = task_sleep(ms, NULL);
    a->n_sleepers--;
    r->arrived = loop_now();
    return rc == 0;
}

static uint64_t digest_of(const struct auth *a, slice name, slice password)
{
    memo_key k = memo_key_of(a->memo, name, password);

    return get_u64(k.v);
}

static void settle(struct auth_request *r, enum finding f, slice password)
{
    static const enum auth_verdict verdicts[] = {
        [FIND_UNKNOWN] = VERDICT_WRONG, [FIND_WRONG] = VERDICT_WRONG,
        [FIND_GOOD] = VERDICT_GOOD,     [FIND_TEMP] = VERDICT_TEMP,
        [FIND_DENIED] = VERDICT_DENIED,
    };

    r->verdict = verdicts[f];
    if (f == FIND_GOOD)
        reputation_good(r->auth->reputation, r->remote, r->user);
    else if (r->verdict == VERDICT_WRONG)
        reputation_bad(r->auth->reputation, r->remote, r->user,
                       digest_of(r->auth, r->user, password));
}

void auth_verify_plain(struct auth_request *r, slice name, slice password)
{
    enum finding f = FIND_UNKNOWN;

    r->user = auth_config_name(r->config, name, r->arena);
    if (!do_penance(r)) {
        r->verdict = VERDICT_TEMP;
        return;
    }
    if (r->user.n > 0 && password.n <= AUTH_PASSWORD_MAX)
        f = ask_all(r, password);
    else
        tell(r, EV_INFO, "auth", "Invalid username or password syntax");
    if (f == FIND_UNKNOWN)
        burn(r, slice_sub(password, 0, AUTH_PASSWORD_MAX));
    settle(r, f, password);
}

/* ---- SCRAM */

struct scram_job {
    const struct scheme *scheme;
    slice password;
    struct scram *scram;
    struct err err;
};

static int scram_job(void *arg)
{
    struct scram_job *j = arg;

    return scram_compute(j->scheme, j->password, j->scram, &j->err);
}

/* The salt that this name has always, whether it is somebody's or not. */
static slice own_salt(const struct auth_request *r, slice name)
{
    uint8_t out[32];
    slice low = slice_lower(r->arena, slice_sub(name, 0, AUTH_NAME_MAX));

    hmac_sha256(slice_of(r->auth->secret, sizeof r->auth->secret), low, out);
    return slice_dup(r->arena, slice_of(out, 16));
}

/* One passdb: good when it has keys, or a password to make them of. */
MAY_WAIT static enum finding scram_look(struct auth_request *r,
                                        const struct passdb *p,
                                        const struct scheme *s, slice *plain,
                                        struct scram *out)
{
    const struct scheme *stored_as;
    enum finding f;
    struct stored s_out;
    struct err err;
    slice value;

    if (p->kind != PASSDB_FILE && p->kind != PASSDB_TABLE)
        return FIND_UNKNOWN;
    f = look_up(r, p, &s_out);
    if (f != FIND_GOOD)
        return f;
    if (s_out.password.n == 0)
        return FIND_UNKNOWN;
    if (scheme_of(s_out.password, p->kind == PASSDB_TABLE ? "PLAIN" : "CRYPT",
                  r->arena, &stored_as, &value, &err) < 0) {
        tell(r, EV_ERROR, p->name, err.log);
        return FIND_TEMP;
    }
    if (stored_as == s) {
        if (scram_parse(s, value, r->arena, out, &err) < 0) {
            tell(r, EV_ERROR, p->name, err.log);
            return FIND_TEMP;
        }
        *plain = SLICE_NONE;
    } else if (stored_as == scheme_find(SL("PLAIN")) ||
               slice_istarts(slice_str(stored_as->name), SL("CLEAR"))) {
        *plain = value;
    } else {
        tell(r, EV_INFO, p->name, "the stored password is not for SCRAM");
        return FIND_UNKNOWN;
    }
    return check_extra(r, s_out.extra);
}

int auth_verify_scram_keys(struct auth_request *r, const struct scheme *s,
                           slice name, struct scram *out, bool *is_real,
                           struct err *err)
{
    struct scram_job j = { .scheme = s, .scram = out };
    enum finding f = FIND_UNKNOWN;
    uint8_t random[16];
    slice plain = SLICE_NONE;

    r->user = auth_config_name(r->config, name, r->arena);
    if (!do_penance(r))
        return err_temp(err, "too many sign-ins wait");
    for (size_t i = 0; r->user.n > 0 && i < r->config->n_passdbs; i++) {
        f = scram_look(r, &r->config->passdbs[i], s, &plain, out);
        if (f == FIND_TEMP)
            return err_temp(err, "passdb failed");
        if (f != FIND_UNKNOWN)
            break;
    }
    *is_real = f == FIND_GOOD;
    if (f == FIND_GOOD && plain.p == NULL)
        return 0;
    random_bytes(random, sizeof random);
    *out = (struct scram){ .iterations = SCRAM_ITERATIONS,
                           .salt = own_salt(r, name) };
    j.password = *is_real ? plain : slice_of(random, sizeof random);
    return hashed(r->auth, scram_job, &j, err);
}

void auth_verify_scram_end(struct auth_request *r, bool is_good)
{
    uint64_t now[1] = { random_u64() };

    if (!is_good)
        tell(r, EV_INFO, "scram", "Password mismatch");
    settle(r, is_good ? FIND_GOOD : FIND_WRONG, slice_of(now, sizeof now));
}
