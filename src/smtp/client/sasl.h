#ifndef SMTP_CLIENT_SASL_H
#define SMTP_CLIENT_SASL_H

/*
 * Signing in to a server (RFC 4954): as whom (sasl_login.c), and how (sasl.c).
 *
 *     client_login_new() of a transport's settings, once
 *     per connection, when EHLO offered AUTH, client_login_do(), which is
 *         client_login_find() -> found? -> client_login_mechs()
 *         -> client_sasl_new() -> AUTH mech [line] -> 334 challenge
 *         -> client_sasl_step() ... -> 235 and client_sasl_is_done()
 *
 * Invariants: (1) a password is sent in the clear (PLAIN, LOGIN, XOAUTH2,
 * OAUTHBEARER) only where the properties of this kind of connection allow it;
 * (2) a server that must prove that it knows us (SCRAM) has done so before
 * client_sasl_is_done() is true; (3) what the server sends is bounded and never
 * printed unquoted; (4) names and passwords are wiped when they are freed.
 */
#include "base/base.h"
#include "conf/conf.h"
#include "table/table.h"

/* RFC 4954 4: a line of the dialogue has at most this many bytes. */
#define CLIENT_SASL_LINE_MAX 12288

/* ---- sasl.c */
struct client_sasl_wish {
    slice mechs; /* those that may be used, separated by blanks */
    slice user, password;
    slice host;     /* of the server, for mechanisms that bind to it */
    slice security; /* properties, smtp_sasl_security_options .. */
};

struct client_sasl;
/* dlopen of GNU SASL, before the sandbox. */
CHECKED int client_sasl_setup(struct err *err);
/* Choose a mechanism.  ERR_PERM: none is left (its text says why). */
CHECKED int client_sasl_new(const struct client_sasl_wish *w,
                            struct client_sasl **out, struct err *err);
void client_sasl_free(struct client_sasl **s); /* wipes */
const char *client_sasl_mech(const struct client_sasl *s);
/* The next base64 line to send for a server's challenge (base64, "" at first).
 * *has_line false with the first call: no initial response.  ERR_PERM: the
 * server's challenge is wrong, or it did not prove that it knows us. */
CHECKED int client_sasl_step(struct client_sasl *s, slice challenge,
                             bool *has_line, struct buf *line, struct err *err);
/* After 235: has the server proved what the mechanism demands (SCRAM)? */
bool client_sasl_is_done(const struct client_sasl *s);

/* ---- sasl_login.c */
/* smtp_sasl_* (or lmtp_sasl_*) of one transport. */
struct client_login;
/* `prefix`: "smtp" or "lmtp".  NULL in *out when smtp_sasl_auth_enable is no.
 */
CHECKED int client_login_new(struct tables *t, const struct conf *c,
                             const struct conf_service *service,
                             const char *prefix, struct client_login **out,
                             struct err *err);
void client_login_free(struct client_login **l);

enum client_login_level {
    CLIENT_LOGIN_CLEAR,
    CLIENT_LOGIN_TLS,
    CLIENT_LOGIN_VERIFIED, /* TLS with a certificate that was matched */
};

struct client_login_ask {
    slice sender; /* of the message; "" for none */
    slice host;   /* of the server, as DNS calls it */
    slice dest;   /* nexthop as configured: "[host]:port", "domain" */
    slice mechs;  /* as AUTH of EHLO offered them; "" when it did not */
    enum client_login_level level;
};

struct client_credentials {
    bool found;
    slice user, password; /* in the arena, which is wiped by _wipe */
};

/* By sender (smtp_sender_dependent_authentication), then host, then dest.
 * ERR_TEMP: a table failed. */
MAY_WAIT int client_login_find(struct client_login *l,
                               const struct client_login_ask *ask,
                               struct arena *a, struct client_credentials *out,
                               struct err *err);
void client_credentials_wipe(struct client_credentials *c);
/* The offered mechanisms that smtp_sasl_mechanism_filter lets through, each
 * once. */
MAY_WAIT int client_login_mechs(struct client_login *l, slice offered,
                                struct arena *a, slice *out, struct err *err);
slice client_login_security(const struct client_login *l,
                            enum client_login_level level);
bool client_login_soft_bounce(const struct client_login *l);
/* May connections be shared between senders?  Not with
 * smtp_sender_dependent_authentication. */
bool client_login_by_sender(const struct client_login *l);

/* The dialogue.  say() sends a line and gives the answer: its code, enhanced
 * status ("" without) and the text behind the code (with the status), which is
 * the challenge for 334; slices live until the next call.  -1 of it ends all
 * with its err. */
struct client_sasl_reply {
    int code;
    slice status;
    slice text;
};

struct client_sasl_talk {
    MAY_WAIT int (*say)(void *arg, slice line, struct client_sasl_reply *out,
                        struct err *err);
    void *arg;
};

enum client_login_result {
    CLIENT_LOGIN_STRANGER, /* no name for this server, or it offers no AUTH:
                            * go on without */
    CLIENT_LOGIN_OK,
    CLIENT_LOGIN_FAILED, /* this host will not do: err has class, status and
                          * the text of the deferral or bounce */
    CLIENT_LOGIN_BROKEN, /* as FAILED, and the connection is out of step */
};

/* All of it.  `namaddr`: "host[addr]:port" for texts.  0 with *result; -1 only
 * when say() failed, with its err. */
MAY_WAIT int client_login_do(struct client_login *l,
                             const struct client_login_ask *ask,
                             const char *namaddr,
                             const struct client_sasl_talk *talk,
                             enum client_login_result *result, struct err *err);

#endif
