#ifndef IPC_PROCESS_H
#define IPC_PROCESS_H

/*
 * A child's life under master.
 *
 * master starts `hato` again with argv[0] "hato: <type>" and descriptors
 *     0-2 /dev/null (2: master's standard error)   3 the control channel
 *     4 the event socket to `log` (or -1 for log itself)   5 shared client
 *     counters (memfd, see access/)   6 trace descriptor (crash-test build)
 * and sends MASTER_START with the configuration.  The rest comes as messages:
 * listeners, table descriptors, connections from other processes.  A process
 * reaches another one by process_connect(): master makes a socket pair, gives
 * one end to each, and refuses joints that are not in its list.
 *
 *     process_main -> on_start (open, then sandbox) -> ready -> serving
 *          -> on_drain (stop accepting, finish) -> process_exit
 *
 * When the control channel closes, master is gone: drain and exit.
 * Reload: smtpd, local, tables and later login are replaced (the new one gets
 * the listeners, the old one drains); qmgr, broker, log and the mailbox
 * workers get the new configuration in place (on_reload).
 */
#include "base/base.h"
#include "conf/conf.h"
#include "ipc/chan.h"

enum ptype {
    PT_NONE,
    PT_MASTER,
    PT_LOG,
    PT_TABLES,
    PT_TEMPLATE,
    PT_BROKER,
    PT_MAILBOX, /* started by template */
    PT_QMGR,
    PT_LOCAL,
    PT_SMTPD,
    PT_PIPE,
    PT_KEYS,       /* private keys: signs only */
    PT_AUTH,       /* sign-in */
    PT_AUTHWORKER, /* PAM and shadow, as root, one check at a time */
    PT_LOGIN,      /* IMAP and POP3 before sign-in, TLS of sessions */
    PT_LMTPD,      /* LMTP for other programs */
    PT_RESOLVER,   /* DNS; started when first asked, as the two below */
    PT_SMTP,       /* mail to other hosts: SMTP and LMTP clients */
    PT_FETCHER,    /* HTTPS: MTA-STS policies, TLS reports */
    PT_COMMAND,    /* a command-line tool that talks to a process */
    PT_METRICS,    /* numbers for Prometheus, over HTTP */
    PT_N
};

const char *ptype_name(enum ptype t); /* "smtpd" */
enum ptype ptype_of(slice name);      /* PT_NONE when unknown */

/* A listener as master hands it down. */
struct process_listener {
    int fd;          /* the process owns it */
    int service;     /* index of the master.cf line in the conf; -1: internal */
    char kind[16];   /* "smtpd", "pickup", "control" */
    char where[128]; /* as bound, for messages */
};

struct process;

struct process_ops {
    enum ptype type;
    /* Configuration is there; tables named by `conf` follow before on_start is
     * called.  Open what needs rights, then sandbox_enter().  In a task. */
    MAY_WAIT int (*on_start)(struct process *p, struct err *err);
    void (*on_listener)(struct process *p, const struct process_listener *l);
    /* Another process connected.  Create a channel on fd with your ops. */
    void (*on_peer)(struct process *p, enum ptype from, int fd);
    /* on_table and on_fd may be called before on_start (the configuration is
     * there), on_listener and on_peer only after it.
     * A (new version of a) table's data: name as written in the configuration
     * ("hash:/etc/aliases"); fd is owned.  mtime of the source for messages. */
    void (*on_table)(struct process *p, slice name, int fd, int64_t mtime);
    /* A root-only file or another named descriptor ("maillog"); owned. */
    void (*on_fd)(struct process *p, slice name, int fd);
    MAY_WAIT void (*on_reload)(struct process *p, struct conf *conf);
    /* Stop accepting, chan_bye() to every channel that others opened, and call
     * process_exit() when all is done.  NULL: exit at once.  Comes once more
     * for each further word to stop (is_stopping is set then). */
    void (*on_drain)(struct process *p);
    void (*on_status)(struct process *p, struct buf *out); /* text lines */
};

struct process {
    const struct process_ops *ops;
    struct conf *conf; /* current snapshot */
    int service;       /* master.cf line it serves, or -1 */
    unsigned slot;     /* 0..n-1 among its type */
    unsigned n_slots;
    bool is_root_mode; /* master runs as root: uids differ */
    bool is_draining;
    bool is_stopping;  /* draining because the whole server stops: end idle
                        * sessions too */
    uid_t table_owner; /* while on_table() runs: of the table's source; -1 */
    uid_t uid;         /* to become in process_sandbox(); -1: stay */
    gid_t gid;
    char empty_root[256]; /* "" when there is none */
    int counters_fd;      /* shared memory of client counters */
    int conf_fd;          /* `conf` as bytes, to hand on */
    struct chan *master;
    void *data; /* the process's own */
};

/* sandbox_enter() with this process's uid and empty root (used when no paths
 * are given).  Paths that do not exist are passed over.  The order in on_start:
 * settings, open, sandbox. */
int process_sandbox(struct process *p, unsigned allow,
                    const char *const *read_paths,
                    const char *const *write_paths, struct err *err);
/* The configuration in a memfd, as master hands it down. */
int process_read_conf(int fd, struct conf **out, struct err *err);

/* What ps shows: main() gives its arguments once, whose memory then holds the
 * title. */
void process_title_init(int argc, char **argv);
void process_title(const char *title);

/* Runs the whole life; returns the exit status for main(). */
int process_main(const struct process_ops *ops);
/* Tell master that this process serves; done by itself after on_start. */
void process_ready(struct process *p);
/* Leave the loop and end with `status` after the channels were flushed. */
void process_exit(struct process *p, int status);
/* A channel's socket to the first process of `to`.  Retries until the deadline
 * while that process starts. */
MAY_WAIT int process_connect(struct process *p, enum ptype to, msec deadline,
                             int *fd_out, struct err *err);
/* The same for number `slot` of its type. */
MAY_WAIT int process_connect_slot(struct process *p, enum ptype to,
                                  unsigned slot, msec deadline, int *fd_out,
                                  struct err *err);
/* More processors than these are not counted. */
#define PROCESS_CORES_MAX 64
/* How many smtpd, and how many smtp, master runs: one for every two
 * processors. */
unsigned process_n_smtp(void);

/* Try what a sandbox should refuse; a line "what=refused|allowed (errno)" for
 * each.  Builds for development only; others say that they cannot. */
void process_probe(struct buf *out);
/* And, in login and smtpd: files that are others', connections to every other
 * process, and forged requests to the broker and keys; a line "what: open",
 * "answered" or "refused" for each. */
MAY_WAIT void process_probe_joints(struct process *p, struct buf *out);

/* A link: a channel to another process that reconnects by itself.  Calls wait
 * (to the deadline) for a connection; on_up is called after each connect,
 * before the calls go out, e.g. to announce state; ops->on_close when it broke.
 * When the peer says chan_bye() the link takes a new channel and the old one
 * ends when its last call is answered.  `ops` get the link's `arg`. */
struct link;
struct link *link_new(struct process *p, enum ptype to,
                      const struct chan_ops *ops, void *arg,
                      void (*on_up)(struct link *l, void *arg));
/* To the process of number `slot` of its type, and lazy: it connects at the
 * first call, and after a break at the next one, so a process that nobody needs
 * is not started. */
struct link *link_new_lazy(struct process *p, enum ptype to, unsigned slot,
                           const struct chan_ops *ops, void *arg,
                           void (*on_up)(struct link *l, void *arg));
MAY_WAIT int link_call(struct link *l, uint16_t type, slice body,
                       const int *fds, size_t n_fds, msec deadline,
                       struct msg *answer_out, struct err *err);
int link_send(struct link *l, uint16_t type, slice body, const int *fds,
              size_t n_fds, struct err *err);
struct chan *link_chan(struct link *l); /* NULL while down */
void link_free(struct link **l);

#endif
