/* Development: what a process that was broken into could ask of others. */
#include "ipc/process.h"

#ifdef HATO_PROBE

# include "ipc/proto.h"
# include "rt/rt.h"

# include <fcntl.h>

# define JOINT_MS 400
# define ASK_MS   5000

/* Anybody's business, as if somebody knew the names. */
static void forge(struct buf *body)
{
    static const char forged[] = "0123456789abcdef";

    buf_init(body, 4096);
    attr_put_u64(body, AT_UID, 65534);
    attr_put_u64(body, AT_GID, 65534);
    attr_put_str(body, AT_ACCOUNT, "anna@example.org");
    attr_put_str(body, AT_USER, "anna@example.org");
    attr_put_str(body, AT_TICKET, forged);
    attr_put_str(body, AT_HANDLE, forged);
    attr_put_str(body, AT_SERVICE_NAME, "imap");
    attr_put_str(body, AT_REMOTE, "127.0.0.1");
    attr_put_str(body, AT_SESSION, "forged");
    attr_put_str(body, AT_NAME, "anna@example.org");
    attr_put_u64(body, AT_FLAGS, 1);
    attr_put(body, AT_KEY_ID, SL("0123456789abcdef0123456789abcdef"));
    attr_put_u64(body, AT_SCHEME, 0x0403);
    attr_put_str(body, AT_CONTENT, "sign this");
}

MAY_WAIT static void ask(struct chan *c, uint16_t type, struct buf *out)
{
    struct msg answer;
    struct buf body;
    struct err err;

    forge(&body);
    if (chan_call(c, type, buf_view(&body), NULL, 0, clock_after(ASK_MS),
                  &answer, &err) < 0) {
        buf_printf(out, "%s: refused\n", proto_name(type));
    } else {
        buf_printf(out, "%s: answered\n", proto_name(type));
        msg_free(&answer);
    }
    buf_done(&body);
}

MAY_WAIT static void joint(struct process *p, enum ptype to, struct buf *out)
{
    static const struct chan_ops ops = { 0 };
    static const uint16_t of_broker[] = {
        BROKER_DELIVER, BROKER_ASK,   BROKER_SESSION, BROKER_WAKE,
        SESSION_LIST,   SESSION_KICK, COMMAND_ASK,
    };
    struct chan *c;
    struct err err;
    int fd;

    if (process_connect(p, to, clock_after(JOINT_MS), &fd, &err) < 0) {
        buf_printf(out, "joint %s: refused\n", ptype_name(to));
        return;
    }
    buf_printf(out, "joint %s: open\n", ptype_name(to));
    if (to != PT_BROKER && to != PT_KEYS) {
        close(fd);
        return;
    }
    c = chan_new(fd, &ops, NULL);
    if (to == PT_KEYS)
        ask(c, KEYS_SIGN, out);
    for (size_t i = 0; to == PT_BROKER && i < ARRAY_LEN(of_broker); i++)
        ask(c, of_broker[i], out);
    chan_free(&c);
}

static void try_file(const char *path, struct buf *out)
{
    int fd;

    if (path[0] != '/')
        return;
    fd = open(path, O_RDONLY | O_CLOEXEC);
    buf_printf(out, "file %s: %s\n", path, fd >= 0 ? "open" : "refused");
    if (fd >= 0)
        close(fd);
}

void process_probe_joints(struct process *p, struct buf *out)
{
    const char *passdb = conf_str(p->conf, NULL, "passdb");
    const char *colon = strchr(passdb, ':');

    try_file(conf_str(p->conf, NULL, "smtpd_tls_key_file"), out);
    try_file(conf_str(p->conf, NULL, "virtual_mailbox_base"), out);
    try_file(conf_str(p->conf, NULL, "queue_directory"), out);
    if (colon != NULL)
        try_file(colon + 1, out);
    if (p->ops->type != PT_LOGIN && p->ops->type != PT_SMTPD)
        return;
    for (unsigned to = PT_MASTER; to < PT_COMMAND; to++)
        joint(p, (enum ptype)to, out);
}

#else

void process_probe_joints(struct process *p UNUSED, struct buf *out UNUSED)
{
}

#endif
