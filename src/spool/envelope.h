#ifndef SPOOL_ENVELOPE_H
#define SPOOL_ENVELOPE_H

/*
 * The envelope: all that the queue knows of a message besides its body.  It is
 * the *head* of a message's record in a segment and the AT_HEAD of SPOOL_NOTE
 * and DELIVER_REQUEST.  The message that gets delivered is `headers` followed
 * by the body (both with LF line ends).  Pure: no input or output.
 *
 * Addresses are in the internal (unquoted) form; an empty sender is <>.
 */
#include "base/base.h"
#include "mail/queue_id.h"

/* RFC 3461 4.1; 0: none given. */
enum {
    ENV_NOTIFY_NEVER = 1,
    ENV_NOTIFY_SUCCESS = 2,
    ENV_NOTIFY_FAILURE = 4,
    ENV_NOTIFY_DELAY = 8,
};

enum envelope_ret { ENV_RET_NONE, ENV_RET_FULL, ENV_RET_HDRS };

/* envelope.flags */
enum {
    ENV_8BITMIME = 1,
    ENV_SMTPUTF8 = 2,
    ENV_REQUIRETLS = 4,
    ENV_HOLD = 8,        /* a HOLD action: starts on hold */
    ENV_BOUNCE = 16,     /* a DSN of our own (sender is <>) */
    ENV_NOTICE = 32,     /* a notice to postmaster of our own */
    ENV_DISCARD = 64,    /* a DISCARD action: settle without delivery */
    ENV_8BIT_BODY = 128, /* the body holds bytes above 127 */
    ENV_TRACE = 256,     /* sendmail -v: report the first attempt */
    ENV_VERIFY = 512,    /* sendmail -bv: probe, report, deliver nothing */
};

#define ENVELOPE_MAX_BYTES (4u << 20) /* encoded */
#define ENVELOPE_MAX_RCPTS 50000

struct envelope_rcpt {
    slice addr;      /* to deliver to */
    slice orig;      /* as the client gave it; empty: same as addr */
    slice orcpt;     /* RFC 3461 ORCPT, decoded "rfc822;a@b"; empty: none */
    uint32_t notify; /* ENV_NOTIFY_* */
};

/* A recipient of another message that the existence of this one settles: a
 * bounce and the outcome that caused it become durable in one step. */
struct envelope_settles {
    uint64_t seq;
    uint32_t rcpt; /* index */
};

struct envelope {
    char id[MAIL_QUEUE_ID_SIZE]; /* queue id; set by commit and by decode */
    uint64_t seq;                /* set by commit */
    int64_t arrival_usec;        /* since 1970; 0: commit takes the time now */
    slice sender;
    struct envelope_rcpt *rcpts;
    size_t n_rcpts;
    enum envelope_ret ret;
    slice envid; /* decoded */
    slice verp;  /* two delimiters: a sender for each recipient; empty: none */
    uint32_t flags;
    /* For the log and for tables. */
    slice client_name; /* "unknown" */
    slice client_addr; /* "192.0.2.1" */
    uint16_t client_port;
    slice helo;
    slice protocol;   /* "ESMTP" */
    slice login;      /* SASL login or local user name */
    slice service;    /* "smtpd", "pickup", "bounce" */
    slice message_id; /* of the header, for the log */
    uint64_t size;    /* of headers and body; set by commit */
    slice headers;    /* final prepended header fields, LF line ends */
    slice filter;     /* FILTER action: transport:destination */
    slice redirect;   /* REDIRECT action, for the record */
    slice warning;    /* text of WARN/HOLD actions, for postcat */
    const struct envelope_settles *settles;
    size_t n_settles;
    uint64_t body_bytes; /* set by commit */
    /* Called by spool_draft_commit() once id, seq and arrival_usec are set and
     * before the record is made, to fill `headers` (Received holds the id).
     * Called again with another id in the rare case that the record does
     * not fit into what is left of the segment.  Must not wait.  Not encoded;
     * NULL: none. */
    void (*on_id)(struct envelope *e, void *arg);
    void *on_id_arg;
};

static inline int64_t envelope_arrival_ms(const struct envelope *e)
{
    return e->arrival_usec / 1000;
}

/* e->id from e->arrival_usec and e->seq. */
void envelope_make_id(struct envelope *e);
/* The sequence number's value stands at this offset of the encoded form. */
#define ENVELOPE_SEQ_AT 6
/* Append the encoded form.  False when b overflows. */
bool envelope_encode(struct buf *b, const struct envelope *e);
/* Decode; slices and arrays in *out live in the arena (bytes are copied when
 * copy is set, else the slices point into `in`).  -1 (ERR_TEMP): damaged, or
 * holds something that must be understood and is not, or the arena's cap. */
int envelope_decode(slice in, struct arena *a, bool copy, struct envelope *out,
                    struct err *err);

#endif
