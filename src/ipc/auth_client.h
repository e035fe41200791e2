#ifndef IPC_AUTH_CLIENT_H
#define IPC_AUTH_CLIENT_H

/*
 * The client side of Dovecot's authentication protocol, version 1.2 (Dovecot's
 * design document "auth-protocol"): how smtpd and login have a sign-in checked
 * by `auth`.  One connection carries any number of requests at once; a
 * connection that breaks fails them with ERR_TEMP and is made again.
 *
 *     auth_begin() -> AUTH_CONTINUE -> auth_continue() ... -> OK | FAIL | TEMP
 *
 * Invariants: (1) passwords and challenges are wiped after use and never
 * logged; (2) lines (8 KiB of base64), requests and waits are bounded; (3) a
 * name that comes back was given by auth, not by the client.
 */
#include "base/base.h"
#include "base/clock.h"
#include "ipc/process.h"

#define AUTH_SERVER_RESPONSE_MAX 8192

struct auth_client;
/* Connects when first needed. */
struct auth_client *auth_client_new(struct process *p);
void auth_client_free(struct auth_client **c);
/* SASL mechanisms that auth offers, space-separated ("PLAIN LOGIN
 * SCRAM-SHA-256"); waits for the first connection.  Without `secured`, those
 * that show the password are left out where disable_plaintext_auth says so;
 * without `is_bound`, those that need a channel binding. */
MAY_WAIT int auth_client_mechs(struct auth_client *c, bool secured,
                               bool is_bound, slice *out, struct err *err);

struct auth_params {
    const char *service; /* "smtp", "imap", "pop3" */
    slice mech;          /* any case */
    bool secured;        /* TLS, or a local client */
    bool is_tls;
    slice remote_ip, local_ip;
    uint16_t remote_port, local_port;
    slice session; /* AT_SESSION */
    slice initial; /* decoded initial response; p NULL: none was sent */
    /* Bindings that the client could use, as bytes; empty: none. */
    slice tls_exporter, tls_unique;
    slice client_name; /* HELO, ID: for logs; may be empty */
};

enum auth_result { AUTH_OK, AUTH_CONTINUE, AUTH_FAIL, AUTH_TEMP };

struct auth_answer {
    enum auth_result result;
    struct buf text; /* CONTINUE: the challenge, decoded; FAIL: what to tell
                      * the client, may be empty */
    char code[24];   /* FAIL: "temp_fail", "authz_fail", "user_disabled",
                      * "pass_expired" or "" */
    char user[512];  /* OK: the name that counts; FAIL: for logs, or "" */
    bool has_ticket;
    uint8_t ticket[16]; /* OK, for imap and pop3 */
};

struct auth_request;
/* Begin; *out is the request while the answer is CONTINUE, NULL otherwise. */
MAY_WAIT int auth_begin(struct auth_client *c, const struct auth_params *p,
                        msec deadline, struct auth_request **out,
                        struct auth_answer *answer, struct err *err);
MAY_WAIT int auth_continue(struct auth_request **r, slice response,
                           msec deadline, struct auth_answer *answer,
                           struct err *err);
void auth_abort(struct auth_request **r); /* the client said "*" or is gone */
void auth_answer_done(struct auth_answer *a);

#endif
