#ifndef LOGIN_LOGIN_PRIV_H
#define LOGIN_LOGIN_PRIV_H

/*
 * The inside of login.  server.c: listeners, limits, the channel to the broker;
 * service.c: settings of a line; conn.c: a connection before sign-in, whatever
 * its protocol; imap.c, pop3.c: the commands; imap_parse.c: pure; signin.c: the
 * exchange with auth and the hand-over; relay.c: bytes between client and
 * worker; parked.c: connections without a worker; say.c: the log.
 *
 * One task at a time works on a connection before sign-in and on a parked one;
 * two (one for each direction) on a relayed one, and only while bytes move.
 */
#include "base/clock.h"
#include "base/map.h"
#include "ipc/auth_client.h"
#include "ipc/ipc.h"
#include "login/login.h"
#include "rt/rt.h"
#include "rt/stream.h"

#define LOGIN_MAGIC MAGIC('L', 'O', 'G', 'N')
#define CONN_MAGIC  MAGIC('L', 'C', 'O', 'N')

#define PRE_INPUT_MAX    8192  /* invariant 2 */
#define PRE_WAITING_MAX  4000  /* connections before sign-in, of a process */
#define PRE_COMMANDS_MAX 1000  /* of a connection */
#define PRE_BAD_MAX      3     /* bad commands in a row, as Dovecot */
#define PRE_ATTEMPTS_MAX 3     /* sign-ins that failed */
#define CONNS_MAX        60000 /* of a process, below its descriptors */
#define HANDLE_BYTES     16
#define PUSHED_MAX       65536  /* for a parked client that does not read */
#define STALL_MS         300000 /* a client takes nothing for so long */
#define FAREWELL_MS      5000

struct conn;
struct pre;

/* What came of a command. */
enum step {
    STEP_END = -1, /* the connection is to be ended: pre->why */
    STEP_NONE,     /* there was no complete one */
    STEP_DONE,
    STEP_GONE, /* signed in: the connection is not ours to touch any more */
};

/* The commands before sign-in of a protocol. */
struct login_protocol {
    const char *name; /* "imap" */
    const char *log;  /* "imap-login" */
    /* Greet a client; inside TLS already in wrapper mode. */
    MAY_WAIT int (*greet)(struct conn *c);
    /* Do the first complete command of pre->in. */
    MAY_WAIT enum step (*step)(struct conn *c);
    /* "* BYE text", "-ERR text". */
    MAY_WAIT int (*bye)(struct conn *c, const char *text);
    /* The answer to a sign-in that came to nothing: `code` is a response code
     * without brackets. */
    MAY_WAIT int (*no)(struct conn *c, const char *code, const char *text);
};

extern const struct login_protocol login_imap, login_pop3;

struct login_net {
    bool is_v6;
    uint8_t bits;
    uint8_t ip[16];
};

#define TRUSTED_MAX 64

struct login_service {
    struct list link;
    struct login *login;
    const struct login_protocol *protocol;
    const struct conf_service *line;
    int index;
    struct keys_service tls;
    slice greeting;
    msec timeout_ms;
    bool is_limited;
    size_t max_conns, n_conns;
    bool plaintext_disabled;
    struct login_net trusted[TRUSTED_MAX];
    size_t n_trusted;
};

/* A text that keeps a parked line open; most connections share one. */
struct keepalive {
    struct map_node node;
    size_t n_users;
    slice text;
    char bytes[];
};

enum conn_state {
    CONN_PRE,     /* before sign-in: pre */
    CONN_RELAYED, /* signed in, a worker has a socket: relay */
    CONN_PARKED,  /* signed in, no socket */
    CONN_WAKING,  /* asking for one */
};

/* What a parked connection is made of, with its stream: keep it small. */
struct conn {
    uint32_t magic;
    unsigned char state; /* enum conn_state */
    bool is_ended : 1;   /* the broker has forgotten the handle */
    bool has_handle : 1;
    bool is_busy : 1;  /* parked or waking: a task is at it */
    bool is_armed : 1; /* client was parked, and no task has come of it yet */
    bool must_close : 1;
    unsigned keepalive_s;
    struct list link;     /* login.conns */
    struct map_node node; /* login.handles */
    struct login_service *service;
    struct stream *client;
    struct pre *pre;
    struct relay *relay;
    struct keepalive *keepalive;
    struct buf *pushed; /* bytes for a parked client, NULL: none */
    uint8_t handle[HANDLE_BYTES];
};

/* An address with connections before sign-in. */
struct client {
    struct map_node node; /* of login.clients */
    uint8_t ip[16];
    size_t n;
    bool is_told; /* the log knows that there are too many */
};

struct pre {
    struct client *from; /* NULL: not counted */
    struct list link;    /* login.waiting, oldest first */
    struct conn *conn;
    char remote[64], local[64];
    uint16_t remote_port, local_port;
    char session[24];
    msec since;
    struct buf in;   /* not done yet, at most PRE_INPUT_MAX */
    size_t in_use;   /* bytes of the command that is worked on */
    size_t asked;    /* a literal before here was asked for already */
    const char *why; /* of the log */
    char why_text[200];
    unsigned n_commands, n_bad, n_attempts, n_refused, n_good;
    bool is_tls, is_local, is_trusted;
    bool is_mute;   /* TLS did not come about: nothing can be said */
    bool is_kicked; /* too many wait: this one goes */
    bool has_user;  /* POP3's USER was heard */
    bool tried_plaintext;
    bool is_aborted;
    struct task *handshake;       /* of TLS */
    struct auth_request *request; /* SASL goes on */
    char mech[24];
    struct buf user; /* the last one that was tried, or POP3's USER */
    char tag[64];    /* of the command that is worked on */
    char client_name[64];
};

struct login {
    uint32_t magic;
    struct login_parts parts;
    struct conf *conf;
    struct auth_client *auth;
    struct link *broker;
    struct map handles, keepalives, clients;
    size_t client_max; /* waiting ones of an address; 0: no limit */
    struct list services, listeners, conns, waiting;
    size_t n_conns, n_waiting, n_parked, n_relayed;
    uint64_t n_accepted, n_signed_in, n_wakes;
    /* LOGIN_PARK of a session whose BROKER_SESSION answer is on its way to its
     * task: offers of the newest few. */
    struct msg *early[8];
    size_t n_early;
    bool is_draining, is_stopping;
    struct timer drain_timer;
    void (*on_idle)(void *arg);
    void *on_idle_arg;
};

/* ---- server.c */
struct login_service *login_service_at(struct login *g, int index);
void login_service_limit(struct login_service *s);
/* A message for the broker about this handle, without answer. */
void login_tell_broker(struct conn *c, uint16_t type);
/* LOGIN_PARK may have been here before the session was. */
void login_early_offer(struct conn *c);
/* A connection ended: was it the last one that a drain waited for? */
void login_was_freed(struct login *g);
/* One more connection of an address before sign-in; false: too many. */
bool login_client_up(struct login_service *s, const struct peer_addr *peer,
                     struct client **out);
void login_client_down(struct login *g, struct client **c);
/* A connection that is there already (tests). */
struct conn *login_adopt(struct login_service *s, int fd,
                         const struct peer_addr *peer);

/* ---- service.c */
int login_service_new(struct login *g, const struct conf_service *line,
                      struct login_service **out, struct err *err);
void login_service_free(struct login_service **s);
bool login_is_trusted(const struct login_service *s,
                      const struct peer_addr *peer);

/* ---- conn.c */
struct conn *conn_start(struct login_service *s, int fd,
                        const struct peer_addr *peer);
/* Free all of it; the handle is given up by the caller. */
void conn_free(struct conn *c);
/* Signed in: what belonged to the time before is freed. */
void conn_leave_pre(struct conn *c);
/* The oldest connection before sign-in goes: there are too many. */
void conn_end_oldest(struct login *g);
/* The server stops: end one before sign-in. */
void conn_close(struct conn *c);
/* TLS before the first greeting, or after STARTTLS.  -1: pre->why. */
MAY_WAIT int conn_start_tls(struct conn *c);
/* May a password be shown here? */
bool conn_is_secured(const struct conn *c);
/* NULL: TLS is not to be had. */
struct tls_context *conn_tls_context(const struct conn *c);
/* -1 when the client is gone. */
MAY_WAIT int conn_puts(struct conn *c, const char *text);
MAY_WAIT int conn_printf(struct conn *c, const char *fmt, ...) PRINTF(2, 3);
/* An answer to what the client should not have said: after a few the line is
 * ended. */
MAY_WAIT enum step conn_bad(struct conn *c, const char *line);
/* Offered to this client: "PLAIN LOGIN"; "" while auth cannot be asked. */
MAY_WAIT slice conn_mechs(struct conn *c);
/* The client's address and session id, said by a proxy that we trust. */
void conn_set_remote(struct conn *c, slice ip, slice port);
void conn_set_session(struct conn *c, slice id);

/* ---- imap_parse.c: pure */
enum imap_found {
    IMAP_NONE,    /* not complete */
    IMAP_LITERAL, /* "+ OK" lets the client go on */
    IMAP_COMMAND,
    IMAP_TOO_LONG, /* a literal that is not wanted; it has not been sent */
    IMAP_FLOOD,    /* ... and it is on its way all the same (LITERAL+) */
};

/* The extent *n of the first command in `in`, at most `max`; of IMAP_LITERAL
 * where the literal begins, if not before `asked`; of IMAP_TOO_LONG and _FLOOD
 * of the line that announces it.  RFC 3501 2.2, 4.3; RFC 7888. */
enum imap_found login_imap_extent(slice in, size_t asked, size_t max,
                                  size_t *n);

enum imap_token {
    IMAP_END,
    IMAP_ATOM,
    IMAP_STRING,
    IMAP_OPEN,
    IMAP_CLOSE,
    IMAP_WRONG,
};

/* A command as login_imap_extent() found it. */
struct imap_words {
    char *p;
    size_t n;
};

/* Cut the next token off; strings are unescaped where they stand. */
enum imap_token login_imap_token(struct imap_words *w, slice *out);

/* ---- signin.c */
/* SASL: begin with an initial response (p NULL: none came). */
MAY_WAIT enum step signin_begin(struct conn *c, slice mech, slice initial);
/* A line of the client in an exchange: base64, or "*". */
MAY_WAIT enum step signin_continue(struct conn *c, slice line);
/* LOGIN, USER and PASS. */
MAY_WAIT enum step signin_plain(struct conn *c, slice user, slice password);
/* Must a sign-in that shows its password wait for TLS?  Then it is answered
 * and *refused. */
MAY_WAIT enum step signin_refuse(struct conn *c, slice mech, bool *refused);

/* ---- relay.c */
/* `input` of the client has come already.  The worker's socket is fd. */
void relay_start(struct conn *c, int fd);
void relay_offer(struct conn *c, slice park); /* LOGIN_PARK */
MAY_WAIT void relay_client_event(struct conn *c, enum stream_why why);
void relay_free(struct relay **r);

/* ---- parked.c */
/* Register the client of a signed-in connection. */
void parked_arm(struct conn *c, msec deadline);
void parked_begin(struct conn *c);
void parked_push(struct conn *c, slice bytes);
void parked_end(struct conn *c, slice last_words);
/* The server stops. */
void parked_close(struct conn *c);
void parked_forget(struct conn *c); /* free what parking took */
void parked_keepalive_set(struct conn *c, unsigned seconds, slice text);
void parked_keepalive_drop(struct conn *c);

/* ---- say.c */
void say_signed_in(const struct conn *c, slice user, uint64_t pid);
void say_ended(const struct conn *c);
/* A protocol's failure, with the client's data behind it. */
void say_trouble(const struct conn *c, enum ev_level level, const char *text);

#endif
