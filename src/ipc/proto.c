#include "ipc/proto.h"
#include "base/base.h"
#include "ipc/process.h"

static const char *const ptype_names[PT_N] = {
    [PT_NONE] = "none",
    [PT_MASTER] = "master",
    [PT_LOG] = "log",
    [PT_TABLES] = "tables",
    [PT_TEMPLATE] = "template",
    [PT_BROKER] = "broker",
    [PT_MAILBOX] = "mailbox",
    [PT_QMGR] = "qmgr",
    [PT_LOCAL] = "local",
    [PT_SMTPD] = "smtpd",
    [PT_PIPE] = "pipe",
    [PT_COMMAND] = "command",
    [PT_KEYS] = "keys",
    [PT_AUTH] = "auth",
    [PT_AUTHWORKER] = "authworker",
    [PT_LOGIN] = "login",
    [PT_LMTPD] = "lmtpd",
    [PT_RESOLVER] = "resolver",
    [PT_SMTP] = "smtp",
    [PT_FETCHER] = "fetcher",
    [PT_METRICS] = "metrics",
};

const char *ptype_name(enum ptype t)
{
    return (unsigned)t < PT_N ? ptype_names[t] : "none";
}

enum ptype ptype_of(slice name)
{
    for (unsigned t = PT_MASTER; t < PT_N; t++)
        if (slice_eqs(name, ptype_names[t]))
            return (enum ptype)t;
    return PT_NONE;
}

#define NAME(x) [x] = #x

static const char *const names[] = {
    NAME(MSG_HELLO),
    NAME(MSG_BYE),
    NAME(MASTER_START),
    NAME(MASTER_TABLE),
    NAME(MASTER_TABLES_DONE),
    NAME(MASTER_LISTENER),
    NAME(MASTER_PEER),
    NAME(MASTER_FD),
    NAME(MASTER_RELOAD),
    NAME(MASTER_DRAIN),
    NAME(MASTER_READY),
    NAME(MASTER_CONNECT),
    NAME(MASTER_STATUS),
    NAME(MASTER_FAILED),
    NAME(MASTER_PROBE),
    NAME(MASTER_REOPEN),
    NAME(MASTER_WANT_LOG),
    NAME(CTL_STATUS),
    NAME(CTL_RELOAD),
    NAME(CTL_STOP),
    NAME(CTL_ABORT),
    NAME(CTL_FLUSH),
    NAME(CTL_CONNECT),
    NAME(CTL_PROBE),
    NAME(CTL_LOG),
    NAME(CTL_REOPEN),
    NAME(SPOOL_SEGMENT),
    NAME(SPOOL_FILE),
    NAME(SPOOL_NOTE),
    NAME(SPOOL_SEALED),
    NAME(SPOOL_UNUSED),
    NAME(SPOOL_LIMITS),
    NAME(DELIVER_REQUEST),
    NAME(DELIVER_PARTIAL),
    NAME(VERIFY_ASK),
    NAME(QUEUE_ETRN),
    NAME(DNS_QUERY),
    NAME(FETCH_POLICY),
    NAME(FETCH_COUNT),
    NAME(QUEUE_LIST),
    NAME(QUEUE_ITEM),
    NAME(QUEUE_END),
    NAME(QUEUE_FLUSH),
    NAME(QUEUE_HOLD),
    NAME(QUEUE_RELEASE),
    NAME(QUEUE_DELETE),
    NAME(QUEUE_REQUEUE),
    NAME(QUEUE_CAT),
    NAME(BROKER_DELIVER),
    NAME(BROKER_ASK),
    NAME(BROKER_SYNC),
    NAME(TEMPLATE_FORK),
    NAME(TEMPLATE_EXIT),
    NAME(WORKER_LMTP),
    NAME(WORKER_CHAN),
    NAME(WORKER_RELOAD),
    NAME(WORKER_RETIRE),
    NAME(WORKER_FS),
    NAME(WORKER_IDLE),
    NAME(WORKER_PROBE),
    NAME(WORKER_FORWARD),
    NAME(WORKER_INCLUDE),
    NAME(TABLES_LOOKUP),
    NAME(TABLES_USER),
    NAME(BROKER_SESSION),
    NAME(BROKER_WAKE),
    NAME(BROKER_DROP),
    NAME(LOGIN_PARK),
    NAME(LOGIN_PUSH),
    NAME(LOGIN_END),
    NAME(SESSION_LIST),
    NAME(SESSION_ITEM),
    NAME(SESSION_LIST_END),
    NAME(SESSION_KICK),
    NAME(COMMAND_ASK),
    NAME(WORKER_SESSION),
    NAME(WORKER_WAKE),
    NAME(WORKER_DROP),
    NAME(WORKER_KICK),
    NAME(WORKER_PARK),
    NAME(WORKER_PUSH),
    NAME(WORKER_ENDED),
    NAME(WORKER_KEEP),
    NAME(WORKER_SYNC),
    NAME(WORKER_GENERATION),
    NAME(WORKER_MAILBOX),
    NAME(AUTH_REDEEM),
    NAME(AUTH_USER),
    NAME(AUTH_CHECK),
    NAME(AUTH_TICKET),
    NAME(KEYS_SIGN),
    NAME(KEYS_HAVE),
    NAME(KEYS_TICKETS),
    NAME(KEYS_CHANGED),
};

const char *proto_name(unsigned type)
{
    if (type >= ARRAY_LEN(names) || names[type] == NULL)
        return "?";
    return names[type];
}
