#ifndef AUTH_AUTH_PRIV_H
#define AUTH_AUTH_PRIV_H

/* What the files of auth share. */
#include "auth/auth.h"
#include "auth/scheme.h"
#include "base/clock.h"
#include "base/digest.h"
#include "base/heap.h"
#include "base/map.h"
#include "conf/conf.h"
#include "ipc/auth_line.h"
#include "rt/rt.h"

#define AUTH_NAME_MAX     255 /* bytes of a name; longer ones are unknown */
#define AUTH_PASSWORD_MAX 4096
#define AUTH_REQUESTS_MAX 8192   /* at once, in all */
#define AUTH_SLEEPERS_MAX 1024   /* that wait for their bad reputation */
#define AUTH_DIALOG_MS    150000 /* a client's answer to a challenge */
#define AUTH_HASH_WAIT_MS 30000
#define AUTH_TICKET_MS    60000
#define AUTH_TICKETS_MAX  16384
#define AUTH_PEERS_MAX    1000
#define AUTH_BATCH_MS     250 /* failures go out together */

/* ---- config.c: what the configuration says, for requests that hold it */
enum passdb_kind {
    PASSDB_FILE,  /* lines of a passwd-file */
    PASSDB_TABLE, /* the value is the password */
    PASSDB_PAM,
    PASSDB_SHADOW,
};

struct passdb {
    enum passdb_kind kind;
    struct table_list *list;
    const char *name; /* in logs: "passwd-file" */
    char service[32]; /* of PAM */
};

#define PASSDBS_MAX 16

enum {
    MECH_PLAIN = 1,
    MECH_LOGIN = 2,
    MECH_SCRAM_1 = 4,
    MECH_SCRAM_256 = 8,
    /* Bound to the channel; of MECH_x, MECH_x << MECH_PLUS. */
    MECH_PLUS = 2,
    MECH_SCRAM_1_PLUS = MECH_SCRAM_1 << MECH_PLUS,
    MECH_SCRAM_256_PLUS = MECH_SCRAM_256 << MECH_PLUS,
    MECH_SCRAM =
        MECH_SCRAM_1 | MECH_SCRAM_256 | MECH_SCRAM_1_PLUS | MECH_SCRAM_256_PLUS,
};

struct auth_config {
    unsigned n_refs;
    struct conf *conf;
    struct users *users;
    struct passdb passdbs[PASSDBS_MAX];
    size_t n_passdbs;
    unsigned mechs;
    slice realm, format;
    bool has_chars;
    uint8_t chars[32];
    bool hides_plaintext;
    bool is_verbose;
    msec failure_delay_ms;
    msec cache_ttl_ms;
    size_t cache_bytes;
};

int auth_config_new(struct conf *conf, struct tables *tables, bool is_root_mode,
                    struct auth_config **out, struct err *err);
struct auth_config *auth_config_ref(struct auth_config *c);
void auth_config_unref(struct auth_config **c);
/* The name to look up for what a client gave: realm, characters, format.
 * SLICE_NONE when it can be nobody's. */
slice auth_config_name(const struct auth_config *c, slice given,
                       struct arena *a);

/* ---- reputation.c */
struct reputation;
struct reputation *reputation_new(size_t max);
void reputation_free(struct reputation **r);
/* How long a try must wait; `account` may be empty. */
msec reputation_delay(struct reputation *r, slice ip, slice account);
/* A try failed; `digest` tells repetitions of the same wrong password. */
void reputation_bad(struct reputation *r, slice ip, slice account,
                    uint64_t digest);
void reputation_good(struct reputation *r, slice ip, slice account);
size_t reputation_count(const struct reputation *r);

/* ---- memo.c: verifications that were good, as keyed digests */
struct memo;
struct memo *memo_new(void);
void memo_free(struct memo **m);
void memo_limit(struct memo *m, size_t bytes, msec ttl_ms);

typedef struct memo_key {
    uint8_t v[32];
} memo_key;

memo_key memo_key_of(const struct memo *m, slice stored, slice password);
bool memo_knows(struct memo *m, const memo_key *k);
void memo_add(struct memo *m, const memo_key *k);
size_t memo_count(const struct memo *m);

/* ---- ticket.c */
struct tickets;
struct tickets *tickets_new(void);
void tickets_free(struct tickets **t);

struct ticket_for {
    slice service, session, remote;
};

/* Give it to the broker, who then redeems it; false: no broker is there. */
bool auth_push_ticket(struct auth *a, const struct ticket_for *whom,
                      const struct user_place *place, uint8_t id[static 16]);
void ticket_give(struct tickets *t, const struct ticket_for *whom,
                 const struct user_place *place, uint8_t id[static 16]);
/* Once; the place's slices lie in the arena. */
int ticket_redeem(struct tickets *t, slice id, const struct ticket_for *whom,
                  struct arena *a, struct user_place *out, struct err *err);
size_t tickets_count(struct tickets *t);

/* ---- the whole */
struct auth {
    uint32_t magic;
    struct process *p;
    struct tables *tables;
    struct auth_config *config;
    struct link *worker; /* NULL: neither PAM nor shadow */
    struct reputation *reputation;
    struct memo *memo;
    struct tickets *tickets;
    struct sema hashing;
    uint8_t secret[32]; /* salts of those who are not there */
    struct buf usual;   /* a stored password, as most are */
    struct list peers;
    struct list channels;
    struct list listeners;
    size_t n_peers, n_requests, n_sleepers;
    uint64_t n_good, n_bad, n_temp, n_connections;
    struct heap delayed; /* failures that wait for their time */
    struct timer batch;
    bool is_draining;
    void (*on_idle)(void *arg);
    void *on_idle_arg;
};

#define AUTH_MAGIC MAGIC('A', 'U', 'T', 'H')

void auth_tell_idle(struct auth *a);

/* ---- peer.c: one connection of the line protocol */
struct auth_peer;
struct auth_request;
void auth_peer_new(struct auth *a, enum ptype from, int fd);
void auth_peer_close(struct auth_peer *p);
/* Send a line; `text` is wiped. */
void auth_peer_say(struct auth_peer *p, struct buf *text);
struct imap *auth_peer_requests(struct auth_peer *p);
bool auth_peer_gives_tickets(const struct auth_peer *p);

/* ---- request.c */
struct sasl;

enum auth_verdict {
    VERDICT_GOOD,
    VERDICT_WRONG, /* or unknown: nobody may tell */
    VERDICT_TEMP,
    VERDICT_DENIED, /* the password fits, but the account may not */
};

struct auth_request {
    struct imap_node node; /* in the peer, by id */
    struct heap_node due;  /* in auth.delayed */
    struct auth *auth;
    struct auth_peer *peer; /* NULL: gone, or cancelled */
    struct auth_config *config;
    struct arena *arena;
    struct sasl *sasl;
    struct timer dialog;
    msec arrived;
    bool is_running;
    bool is_failed;
    bool is_dialog; /* waits for CONT */
    bool sent_final;
    slice mech, service, remote, local, session;
    slice tls_exporter, tls_unique; /* bindings, base64; "": none */
    bool is_secured;
    struct buf input; /* what the client said; wiped */
    /* the outcome */
    slice user; /* the name that counts */
    enum auth_verdict verdict;
    slice reason;
    const char *code;
};

/* AUTH, CONT and CANCEL of a peer; false: not this protocol. */
bool auth_request_begin(struct auth_peer *p, struct auth *a, slice rest);
bool auth_request_continue(struct auth_peer *p, slice rest);
bool auth_request_cancel(struct auth_peer *p, slice rest);
/* The peer is gone. */
void auth_request_orphan(struct auth_request *r);

/* ---- verify.c */
/* Check a name and password; sets verdict, user, reason. */
MAY_WAIT void auth_verify_plain(struct auth_request *r, slice name,
                                slice password);
/* SCRAM: the keys of a name; invented ones when there is none (is_real says
 * so, for the end). */
MAY_WAIT int auth_verify_scram_keys(struct auth_request *r,
                                    const struct scheme *s, slice name,
                                    struct scram *out, bool *is_real,
                                    struct err *err);
/* SCRAM ended; the client knew the password or did not. */
void auth_verify_scram_end(struct auth_request *r, bool is_good);

/* ---- sasl.c: the mechanisms */
enum sasl_step { SASL_MORE, SASL_DONE, SASL_BROKEN };

bool sasl_load(void); /* GNU SASL, before the sandbox; false: no SCRAM */
unsigned sasl_find(slice name); /* MECH_ bit, 0 when unknown */
struct sasl *sasl_new(unsigned mech);
void sasl_free(struct sasl **s);
/* One step with the client's bytes; the challenge or the last word comes in
 * `out`.  SASL_DONE: r->verdict is set. */
MAY_WAIT enum sasl_step sasl_step(struct sasl *s, struct auth_request *r,
                                  slice in, struct buf *out);
void sasl_mechs(unsigned offered, struct buf *out); /* MECH lines */

#endif
