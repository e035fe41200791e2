#ifndef IPC_PROTO_H
#define IPC_PROTO_H

/*
 * Every internal joint in one place: message types and their attributes.
 * Body format: base/codec.h.  "-> X" is the answer.  A number may be added,
 * never reused; unknown attributes are skipped (must-understand bit aside).
 *
 * Who connects to whom (master's list of joints):
 *     smtpd -> qmgr, tables, keys, auth    local -> broker, tables
 *     qmgr -> local, tables                broker -> template, auth
 *     login -> keys, auth, broker          lmtpd -> keys, tables, broker
 *     auth -> tables, authworker         qmgr -> smtp
 *     smtp -> resolver, tables, keys, fetcher    smtpd -> resolver
 *     fetcher -> resolver, qmgr (its reports are mail)
 *     command -> qmgr, broker, auth, resolver, master (through the control
 * socket, $queue_directory/run/control) smtpd and login speak Dovecot's
 * authentication protocol to auth (ipc/auth_client.h); all else is a channel.
 */

/* ---- attributes: one number space for all internal messages */
enum attr_tag {
    AT_NONE,
    AT_RELEASE = 1,  /* u64 */
    AT_FEATURES = 2, /* u64 bits */
    AT_CLASS = 3,    /* u64 enum err_class, of a failed answer */
    AT_STATUS = 4,   /* enhanced status "4.3.0" */
    AT_TEXT = 5,     /* text for the peer */
    AT_LOGTEXT = 6,
    AT_SERVICE = 7, /* u64: master.cf line index, or (uint64)-1 */
    AT_SLOT = 8,
    AT_NSLOTS = 9,
    AT_ROOT = 10, /* u64 bool: root mode */
    AT_KIND = 11, /* string */
    AT_NAME = 12,
    AT_WHERE = 13,
    AT_PTYPE = 14, /* u64 enum ptype */
    AT_TIME = 15,  /* u64 seconds or milliseconds, as the message says */
    AT_PID = 16,
    AT_FDS = 17, /* names of the descriptors, in order */

    AT_QUEUE_ID = 30,
    AT_SEGMENT = 31, /* u64 segment number */
    AT_OFFSET = 32,  /* u64 offset of the record in the segment */
    AT_LENGTH = 33,
    AT_SEQ = 34,  /* u64 sequence number of the message in the spool */
    AT_HEAD = 35, /* encoded struct envelope (spool/envelope.h) */
    AT_BODY_OFFSET = 36,
    AT_BODY_BYTES = 37,
    AT_SENDER = 40,
    AT_RCPT = 41,       /* nested attributes, one per recipient */
    AT_RCPT_INDEX = 42, /* u64 */
    AT_ADDR = 43,
    AT_ORIG_ADDR = 44, /* as the client gave it ("orig_to") */
    AT_ORCPT = 45,
    AT_NOTIFY = 46,      /* u64 bits of RFC 3461 */
    AT_DELIVERY_ID = 47, /* 16 bytes */
    AT_PATH = 48,        /* the recipient's path through the expansion */
    AT_TRANSPORT = 49,   /* "local", "virtual", ... */
    AT_NEXTHOP = 50,
    AT_OUTCOME = 51, /* u64 enum outcome */
    AT_RELAY = 52,   /* for the log: "local", "virtual", host */
    AT_DIAG = 53,    /* "smtp; 550 ..." or own text */
    AT_DELAYS = 54,  /* 4 x u64 milliseconds */
    AT_ENVID = 55,
    AT_RET = 56,
    AT_FLAGS = 57,
    AT_SIZE = 58,
    AT_ARRIVAL = 59, /* u64 milliseconds since 1970 */
    AT_REASON = 60,
    AT_OWNER = 61, /* owner-alias: sender to use from here on */
    AT_DEPTH = 62,
    AT_EXPANSION = 63, /* nested AT_RCPT list */

    AT_UID = 80,
    AT_GID = 81,
    AT_ACCOUNT = 82, /* account name: what the worker choice hashes */
    AT_USER = 83,
    AT_HOME = 84,
    AT_MAIL = 85,    /* mail_location, expanded */
    AT_FSID = 86,    /* u64 st_dev of the file system */
    AT_CONTENT = 87, /* bytes of a .forward or :include: file */
    AT_COMMAND = 88,
    AT_KEY = 89,
    AT_VALUE = 90,
    AT_TABLE = 91,

    AT_TICKET = 110,  /* 16 bytes: redeemed once, by the broker */
    AT_HANDLE = 111,  /* 16 bytes: names a session to broker and worker */
    AT_SESSION = 112, /* session id for logs, printable, at most 40 bytes */
    AT_REMOTE = 113,  /* the client: "192.0.2.1" */
    AT_LOCAL = 114,   /* our end */
    AT_REMOTE_PORT = 115,
    AT_LOCAL_PORT = 116,
    AT_TAG = 117,    /* tag of the IMAP command that signed in */
    AT_RECORD = 118, /* a parked session, as its protocol's room wrote it */
    AT_KEY_ID = 119, /* SHA-256 of the SubjectPublicKeyInfo, 32 bytes */
    AT_SCHEME = 120, /* u64 TLS SignatureScheme */
    AT_SIGNATURE = 121,
    AT_SERVICE_NAME = 122, /* "imap", "pop3", "smtp", "lmtp" */
    AT_MECH = 123,         /* SASL mechanism, for logs */
    AT_SNI = 124,
    AT_GENERATION = 125, /* u64: grows with each failed sync of a mail file
                          * system */

    AT_RRTYPE = 140, /* u64 DNS type */
    AT_RCODE = 141,  /* u64 enum dns_result (dns/dns.h) */
    AT_TTL = 142,    /* u64 seconds */
    AT_RDATA = 143,  /* one record's data in wire form, names uncompressed */
    AT_URL = 144,
    AT_ID = 145,         /* of a policy: mta-sts' "id" */
    AT_HOP_STATUS = 146, /* "4.4.1": the whole destination failed, not only
                          * these recipients: qmgr's feedback (AT_HOP_TEXT) */
    AT_HOP_TEXT = 147,
    AT_REMOTE_MTA = 148,   /* for DSNs: "dns; mx.example.com" */
    AT_ACTION = 149,       /* u64 enum relayed, of a recipient that was sent */
    AT_LAST_ATTEMPT = 150, /* u64 milliseconds since 1970 */
    AT_VERIFY = 151,       /* u64 enum verify_status */
    AT_CONCURRENCY = 152,  /* u64 */
    AT_POSITIVE = 153,     /* bool: the session was new, and answered: positive
                            * feedback */
    AT_ATTEMPTS = 170,     /* u64 */
};

/* How a delivery of one recipient ended. */
enum outcome {
    OUT_SENT,     /* durable where it is ours to make it so */
    OUT_DEFERRED, /* 4xx: try again */
    OUT_BOUNCED,  /* 5xx */
    OUT_EXPANDED, /* became other recipients: AT_EXPANSION */
    OUT_DISCARDED,
};

/* How far a recipient that was sent is from its mailbox (RFC 3464 2.3.3). */
enum relayed {
    RELAYED_DELIVERED, /* into a mailbox, or by LMTP */
    RELAYED_DSN,       /* to a host that sends reports of success itself */
    RELAYED_NO_DSN,    /* to one that does not: "relayed" */
};

/* FLAGS of DELIVER_REQUEST. */
enum {
    DELIVER_PROBE = 1, /* address verification: ask, send nothing.  There is no
                        * descriptor, BODY_BYTES is 0; answered as usual */
    DELIVER_TRACE = 2, /* log what happens in detail (sendmail -v, -bv) */
};

/* What address verification knows (verify(8)). */
enum verify_status {
    VERIFY_OK,
    VERIFY_DEFER, /* the probe was deferred */
    VERIFY_BOUNCE,
    VERIFY_TODO,     /* asked for, no answer yet */
    VERIFY_OVERLOAD, /* address_verify_pending_request_limit */
};

/* Every joint. */
enum {
    MSG_HELLO = 1, /* RELEASE FEATURES, both ways, first */
    MSG_BYE = 2,   /* no new calls here, please (chan_bye) */
};

/* ---- master <-> child (descriptor 3) */
enum {
    MASTER_START = 10, /* m->c PTYPE SERVICE SLOT NSLOTS ROOT UID GID WHERE
                        * (empty root); fd: conf memfd */
    MASTER_TABLE = 11, /* m->c NAME TIME UID(the source's owner); fd */
    MASTER_TABLES_DONE = 12, /* m->c all tables of the start were sent */
    MASTER_LISTENER = 13,    /* m->c SERVICE KIND WHERE; fd */
    MASTER_PEER = 14,        /* m->c PTYPE; fd: somebody connected to you */
    MASTER_FD = 15,          /* m->c NAME; fd */
    MASTER_RELOAD = 16,      /* m->c; fd: conf memfd -> empty */
    MASTER_DRAIN = 17,       /* m->c FLAGS (1: the whole server stops) */
    MASTER_READY = 18,       /* c->m */
    MASTER_CONNECT = 19,     /* c->m PTYPE -> ; fd */
    MASTER_STATUS = 20,      /* m->c -> TEXT; metrics->m -> TEXT of all */
    MASTER_FAILED = 21,      /* c->m LOGTEXT: start failed, exiting */
    MASTER_PROBE = 22,       /* m->c -> TEXT: try what the sandbox must refuse
                              * (test builds only) */
    MASTER_REOPEN = 23,      /* m->log; fd: the log file, opened anew */
    MASTER_WANT_LOG = 24,    /* log->m: open the log file anew, please */
};

/* ---- control socket: commands -> master ($queue_directory/run/control, mode
 * 0600 of the owner) */
enum {
    CTL_STATUS = 30, /* -> TEXT */
    CTL_RELOAD = 31, /* -> TEXT (new configuration is live) or failed */
    CTL_STOP = 32,   /* -> after everything ended */
    CTL_ABORT = 33,
    CTL_FLUSH = 34,
    CTL_CONNECT = 35, /* PTYPE -> ; fd: a channel to that process (qmgr) */
    CTL_LOG = 38,     /* NAME(tag) KIND(priority) TEXT(lines) */
    CTL_PROBE = 36,   /* PTYPE -> TEXT (test builds only) */
    CTL_REOPEN = 37,  /* open the log file anew; NAME: rename the old one */
};

/* ---- smtpd (or qmgr itself) -> qmgr: the spool */
enum {
    SPOOL_SEGMENT = 40, /* -> SEGMENT OFFSET(start) LENGTH; fd: a preallocated
                         * segment for this process alone, locked */
    SPOOL_FILE = 41,    /* SIZE(how many) -> SEGMENT* OFFSET; fds: own files for
                         * big messages, one for each SEGMENT */
    SPOOL_NOTE = 42,   /* SEGMENT OFFSET LENGTH SEQ HEAD BODY_OFFSET BODY_BYTES:
                        * a message is committed; no answer */
    SPOOL_SEALED = 43, /* SEGMENT LENGTH REASON: full, or a sync failed */
    SPOOL_UNUSED = 44, /* SEGMENT: own file not needed any more */
    SPOOL_LIMITS = 45, /* -> FLAGS(1: willing to take mail) */
    SPOOL_ANNOUNCE = 46, /* SEGMENT LENGTH: held by this writer and durable up
                          * to LENGTH; after a connect, before notes */
};

/* ---- qmgr -> local, smtp (and later pipe): deliveries */
enum {
    /* QUEUE_ID SEQ SENDER ARRIVAL SIZE BODY_OFFSET BODY_BYTES HEAD TRANSPORT
     * NEXTHOP [FLAGS] DELAYS{2: before active, in qmgr} RCPT*{RCPT_INDEX ADDR
     * ORIG_ADDR ORCPT NOTIFY DELIVERY_ID PATH DEPTH}; fd: the segment or file,
     * read-only.  The message is HEAD's headers and the body.
     * -> [HOP_STATUS HOP_TEXT] [POSITIVE] RCPT*{RCPT_INDEX OUTCOME STATUS DIAG
     * [REASON] RELAY [REMOTE_MTA ACTION LAST_ATTEMPT] [EXPANSION OWNER]} (may
     * be long: chan_answer_big()).  DIAG of smtp is "smtp; 550 5.1.1 ..." when
     * another host said it, else our own words; REASON is the log's text, "host
     * mx[192.0.2.1] said: 550 5.1.1 ... (in reply to RCPT TO command)": what
     * people read in mailq and reports. */
    DELIVER_REQUEST = 60,
    /* local -> qmgr before the answer: same attributes, some recipients are
     * settled already (so that a crash repeats less).  No answer. */
    DELIVER_PARTIAL = 61,
};

/* ---- smtpd -> qmgr, on the channel of SPOOL_* */
enum {
    /* ADDR SENDER -> VERIFY [STATUS TEXT]: what address verification knows; an
     * address that is not known, or too old, is probed meanwhile. */
    VERIFY_ASK = 70,
    /* NAME(domain, "[addr]" or "@domain" with its subdomains; ETRN's argument)
     * -> FLAGS(0: flushed, 1: nothing waits, 2: not a fast_flush_domain) */
    QUEUE_ETRN = 71,
};

/* ---- anyone -> resolver */
enum {
    /* NAME(without final dot) RRTYPE FLAGS(dns/dns.h) -> RCODE FLAGS NAME(
     * canonical) TTL TEXT(why it failed) RDATA* */
    DNS_QUERY = 210,
};

/* ---- smtp -> fetcher */
enum {
    /* NAME(domain) ID(of its record; "": there is none, what is kept) ->
     * CONTENT(the policy file; "": there is none) */
    FETCH_POLICY = 220,
    /* What smtp saw of TLS, for the daily reports of RFC 8460: NAME(policy
     * domain) KIND("sts", "tlsa", "no-policy-found") CONTENT(the policy's
     * lines) REMOTE(MX host) ADDR(its address) LOCAL REASON(result type, ""
     * for success) DIAG SIZE(sessions) -> empty */
    FETCH_COUNT = 221,
};

/* ---- command -> qmgr */
enum {
    QUEUE_LIST = 80, /* [KIND*] FLAGS(1: with TRANSPORT and NEXTHOP) -> many
                      * QUEUE_ITEM frames, then QUEUE_END */
    QUEUE_ITEM = 81, /* QUEUE_ID SENDER SIZE ARRIVAL KIND(incoming, active,
                      * deferred, hold) TIME(next try, ms) ATTEMPTS TEXT(why it
                      * waits) REASON RCPT*{ADDR REASON STATUS [TRANSPORT
                      * NEXTHOP]} */
    QUEUE_END = 82,
    QUEUE_FLUSH = 83, /* NAME (site, "" all) or QUEUE_ID */
    QUEUE_HOLD = 84,  /* QUEUE_ID or "ALL" -> SIZE: how many */
    QUEUE_RELEASE = 85,
    QUEUE_DELETE = 86,
    QUEUE_REQUEUE = 87,
    QUEUE_CAT = 88, /* QUEUE_ID -> HEAD BODY_OFFSET BODY_BYTES; fd */
};

/* ---- local, lmtpd -> broker */
enum {
    /* deliver(account): UID GID USER ACCOUNT KIND("mailbox", "command")
     * -> NSLOTS GENERATION; fd: a socket to the worker of that uid that speaks
     * LMTP with the extension XHATO (doc/lmtp-xhato.md), non-blocking.  Never
     * yields a readable session.  The same worker serves every account of this
     * uid and gid whose name has the same CRC-32C modulo NSLOTS. */
    BROKER_DELIVER = 100,
    /* As above, but the socket is a channel for the WORKER_* questions. */
    BROKER_ASK = 101,
    /* FSID GENERATION(as known before what shall be durable was written) ->
     * GENERATION LOGTEXT(it failed): answered once everything visible before
     * the call is durable. */
    BROKER_SYNC = 102,
};

/* ---- login -> broker: sessions.  A session is one signed-in connection; its
 * handle is drawn by the broker, known to this login and to the worker, and
 * good for that login's channel alone. */
enum {
    /* TICKET SERVICE_NAME SESSION REMOTE REMOTE_PORT LOCAL LOCAL_PORT FLAGS(1:
     * TLS) TAG CONTENT(bytes the client sent behind the sign-in); fd: the
     * client's socket, when there is no TLS.
     * -> HANDLE USER PID; fd, with TLS: a socket to the worker, bytes both
     * ways. The worker answers the client (greets, with TAG, the capabilities).
     */
    BROKER_SESSION = 103,
    /* HANDLE: the client of a parked session sends.  -> ; fd: a new socket to
     * the worker.  What was pushed before has arrived before this answer. */
    BROKER_WAKE = 104,
    /* HANDLE: the client of a session with TLS is gone.  No answer; unknown
     * handles are nothing. */
    BROKER_DROP = 105,
    /* broker -> login: HANDLE OFFSET(bytes that the worker has read on the
     * session's present socket, without CONTENT) LENGTH(bytes that it has
     * written to it) TIME(seconds between TEXTs, 0: none) TEXT(to keep the line
     * open).  The worker has nothing to do.  When login has given it exactly
     * OFFSET bytes it gives it no more, relays the LENGTH bytes, closes the
     * socket and holds the connection alone: the worker sees the end of its
     * input.  Otherwise it ignores this: the worker sees the bytes that are on
     * their way and goes on.  Until it sees one or the other, the worker writes
     * nothing and keeps its news. */
    LOGIN_PARK = 106,
    LOGIN_PUSH = 107, /* HANDLE CONTENT: bytes for a parked client */
    LOGIN_END = 108,  /* HANDLE TEXT(last words, may be empty): close it */
};

/* ---- command -> broker: who is signed in */
enum {
    SESSION_LIST = 110, /* -> many SESSION_ITEM, SESSION_LIST_END, answer */
    SESSION_ITEM = 111, /* USER SERVICE_NAME REMOTE SESSION TIME(since, s 1970)
                         * FLAGS(1 TLS, 2 parked) UID */
    SESSION_LIST_END = 112,
    SESSION_KICK = 113, /* USER [REMOTE] -> SIZE: how many were ended */
    /* A question of a command to an account's worker: UID GID USER ACCOUNT ->
     * ; fd: as BROKER_ASK.  Only for root and the owner of the server. */
    COMMAND_ASK = 114,
};

/* ---- broker -> auth */
enum {
    /* TICKET SERVICE_NAME SESSION REMOTE -> USER ACCOUNT UID GID HOME MAIL.
     * Each ticket once; what it was given for must match. */
    AUTH_REDEEM = 190,
    /* command -> auth: NAME -> USER ACCOUNT UID GID HOME MAIL, or empty */
    AUTH_USER = 191,
    /* auth -> authworker: SERVICE_NAME NAME VALUE(password) REMOTE KIND("pam",
     * "shadow") -> OUTCOME(0 good, 1 wrong, 2 unknown) REASON */
    AUTH_CHECK = 192,
    /* auth -> broker, by itself: a ticket with what AUTH_REDEEM would say of
     * it: TICKET SERVICE_NAME SESSION REMOTE USER ACCOUNT UID GID HOME MAIL.
     * From then on the broker alone redeems it. */
    AUTH_TICKET = 193,
};

/* ---- smtpd, login, lmtpd -> keys */
enum {
    /* KEY_ID SCHEME CONTENT(what is to be signed) -> SIGNATURE */
    KEYS_SIGN = 200,
    KEYS_HAVE = 201, /* -> KEY_ID*: keys that are loaded */
    /* keys -> users, also by itself after each rotation: NAME(16 bytes)
     * CONTENT(32 bytes AES, 32 bytes HMAC) TIME(good until) pairs, the newest
     * first: session tickets are opened and made by who speaks TLS */
    KEYS_TICKETS = 202,
    KEYS_CHANGED = 203, /* keys -> users: ask KEYS_HAVE again */
};

/* ---- broker -> template */
enum {
    TEMPLATE_FORK = 120, /* UID GID KIND; fd: worker's control channel -> PID */
    TEMPLATE_EXIT = 121, /* template -> broker: PID STATUS */
};

/* ---- broker -> mailbox worker (its control channel) */
enum {
    WORKER_LMTP = 140,   /* fd: serve LMTP with XHATO on it */
    WORKER_CHAN = 141,   /* fd: serve WORKER_FORWARD ... on it */
    WORKER_RELOAD = 142, /* fd: conf */
    WORKER_RETIRE = 143, /* finish and exit */
    WORKER_FS = 144,    /* worker -> broker: FSID; fd: a directory for syncfs */
    WORKER_IDLE = 145,  /* worker -> broker: nothing to do since a while; the
                         * broker says WORKER_RETIRE, or has work by now */
    WORKER_PROBE = 146, /* -> TEXT, as MASTER_PROBE */
    /* HANDLE SERVICE_NAME USER HOME MAIL SESSION REMOTE REMOTE_PORT LOCAL
     * LOCAL_PORT FLAGS TAG CONTENT; fd: the client or login's socket */
    WORKER_SESSION = 147,
    /* HANDLE [RECORD and all of WORKER_SESSION: the worker does not know it
     * yet]; fd -> empty, when what was pushed before has been sent */
    WORKER_WAKE = 148,
    WORKER_DROP = 149,  /* HANDLE: the client is gone */
    WORKER_KICK = 150,  /* HANDLE TEXT: end it, say why */
    WORKER_PARK = 151,  /* w->b: as LOGIN_PARK; FLAGS 1: a plain socket that the
                         * worker keeps (only for SESSION_LIST) */
    WORKER_PUSH = 152,  /* w->b: as LOGIN_PUSH */
    WORKER_ENDED = 153, /* w->b HANDLE [TEXT]: over */
    /* w->b HANDLE RECORD; fd: inotify descriptor of its mailbox, or none: the
     * worker leaves, keep this until the client or a change calls */
    WORKER_KEEP = 154,
    WORKER_SYNC = 155,       /* w->b: FSID GENERATION, as BROKER_SYNC */
    WORKER_GENERATION = 156, /* b->w GENERATION, first of all */
};

/* ---- local -> mailbox worker (a WORKER_CHAN channel) */
enum {
    WORKER_FORWARD = 160, /* USER HOME PATH* (forward_path, expanded) -> CONTENT
                           * NAME of the first that exists, or empty: none */
    WORKER_INCLUDE = 161, /* PATH -> CONTENT */
    /* command -> worker: NAME("list", "status", "check", "rebuild") USER HOME
     * MAIL PATH(mailbox, "" all) -> TEXT */
    WORKER_MAILBOX = 162,
};

/* ---- anyone -> tables */
enum {
    TABLES_LOOKUP = 180, /* TABLE KEY -> VALUE, or no VALUE: not found */
    TABLES_USER = 181,   /* NAME -> UID GID HOME USER (getpwnam), or empty */
};

/* For messages and traces: "DELIVER_REQUEST", or "?" when unknown. */
const char *proto_name(unsigned type);

#endif
