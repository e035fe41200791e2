#ifndef MASTER_MASTER_PRIV_H
#define MASTER_MASTER_PRIV_H

#include "base/clock.h"
#include "base/list.h"
#include "ipc/ipc.h"
#include "master/master.h"
#include "rt/rt.h"

#include <sys/stat.h>

#define SLOTS_MAX 64

enum child_state { CHILD_STARTING, CHILD_READY, CHILD_DRAINING };

struct master;
struct slot;

struct child {
    struct list link; /* in master.children */
    struct master *m;
    struct slot *slot;
    enum ptype type;
    pid_t pid;
    struct chan *chan;
    enum child_state state;
    msec started_at;
};

struct slot {
    struct list link;
    struct master *m;
    enum ptype type;
    unsigned index;
    struct child *current;
    struct child *next; /* of a reload, until it is READY */
    bool is_wanted;     /* by the configuration; else it stays empty */
    bool is_lazy;       /* started when somebody asks for it */
    bool is_awaited;    /* a reload waits for `next` */
    msec back_off;
    struct timer restart;
};

/* Where a set of sockets is bound; one for each smtpd slot, or one for all. */
struct port {
    struct list link;
    char where[128];
    char kind[16];
    int service;
    int fds[SLOTS_MAX];
    size_t n_fds;
    bool is_wanted; /* by the configuration that is being loaded */
};

/* A table whose data master hands down. */
struct source {
    struct list link;
    struct master *m;
    char *whole; /* "hash:/etc/aliases" */
    char *path;
    bool is_built;
    bool is_alias;
    bool is_passwords; /* a passwd-file: for tables and auth alone */
    bool for_passdb;   /* named there: for auth */
    bool for_smtp;     /* by smtp_sasl_password_maps: for smtp */
    bool for_others;   /* named elsewhere */
    bool is_wanted;
    bool is_set; /* named in a file, not by a default */
    bool is_busy;
    bool is_missing;     /* said so already */
    int fd;              /* what is handed down, -1 none */
    struct stat seen;    /* of the source, as fd holds it */
    struct stat pending; /* a change that may still go on */
};

struct identity {
    uid_t uid;
    gid_t gid;
};

enum master_state { MASTER_STARTING, MASTER_RUNNING, MASTER_STOPPING };

struct master {
    struct conf *conf;
    int conf_fd;
    enum master_state state;
    bool is_root;
    bool is_foreground;
    char *exe;
    char *empty_root;
    struct identity ids[PT_N];
    int lock_fd;
    int events_rx, events_tx;
    int counters_fd;
    int passes_fd; /* of postscreen's tests */
    int trace_fd;
    int stderr_rx, stderr_tx;
    struct fd_watch *stderr_watch;
    int log_fd; /* -1: there is none */
    bool is_syslog;
    int report_fd; /* to the waiting parent; -1 in the foreground or when told
                    */
    int dirs_inotify;
    struct fd_watch *dirs_watch;
    struct timer look; /* at the sources of tables */
    msec started_at;
    unsigned n_login; /* login_process_count, or one for two processors */
    /* Half of that: a message costs as much behind smtpd as in it, and one
     * process that has all of them shares more syncs and wakes among them. */
    unsigned n_smtpd;
    struct list slots;
    struct list children;
    struct list ports;
    struct list sources;
    struct list keyfiles; /* keyfiles.c */
    struct listener *control;
    int control_fd;
    struct waitq changed;  /* a child became ready or ended */
    struct sema admin;     /* invariant 5 */
    unsigned n_died[PT_N]; /* by themselves */
    bool is_reloading;     /* what died waits with its return */
    char trouble[512];     /* the first failure of the start or reload */
    int status;
};

/* Hand a descriptor on: a CLEANUP(close_fd) variable lets it be. */
static inline int take_fd(int *fd)
{
    int taken = *fd;

    *fd = -1;
    return taken;
}

/* start.c */
void master_trouble(struct master *m, const char *fmt, ...) PRINTF(2, 3);
/* A memfd with the configuration. */
int master_conf_fd(const struct conf *c, int *fd_out, struct err *err);

/* place.c: users, directories, lock */
int place_users(struct master *m, const struct conf *c, struct err *err);
int place_dirs(struct master *m, const struct conf *c, struct err *err);
int place_lock(struct master *m, const struct conf *c, struct err *err);
int place_log(struct master *m, const struct conf *c, struct err *err);
int place_reopen_log(struct master *m, slice old_name, struct err *err);

/* ports.c */
/* Open what `c` wants and is not open; nothing is closed yet. */
int ports_open(struct master *m, const struct conf *c, struct err *err);
/* After a reload: close what is not wanted; after a failed one: what was opened
 * for it. */
void ports_settle(struct master *m, bool is_new_conf);
/* Close what is not wanted. */
void ports_drop(struct master *m);
void ports_give(struct master *m, struct child *c);

/* sources.c */
MAY_WAIT int sources_load(struct master *m, const struct conf *c,
                          struct err *err);
void sources_settle(struct master *m, bool is_new_conf);
void sources_give(struct master *m, struct child *c);
void sources_watch(struct master *m);
/* build.c: index s->path into the file that s->fd then is. */
MAY_WAIT int source_build(struct master *m, struct source *s, int source_fd,
                          const struct stat *st, int *fd_out, struct err *err);

/* slots.c */
/* Slots for what `c` wants; those it does not want stay and are not filled. */
void slots_mark(struct master *m, const struct conf *c);
/* Is it started when somebody asks for it only? */
bool slot_is_lazy(enum ptype type);
bool slots_has_command(const struct conf *c, const char *command);

/* keyfiles.c: certificates and keys.  Called by sources.c, at the same times.
 */
int keyfiles_load(struct master *m, const struct conf *c, struct err *err);
void keyfiles_settle(struct master *m, bool is_new_conf);
void keyfiles_give(struct master *m, struct child *c);
void keyfiles_look(struct master *m, bool is_final);
void keyfiles_each_path(struct master *m,
                        void (*fn)(struct master *m, const char *path));

/* child.c */
void child_give_fd(struct child *c, const char *name, int fd);
/* bounce_template_file, to qmgr. */
void child_give_templates(struct child *c);
/* Start a child of the slot with what m has now; conf_fd as given. */
int child_start(struct slot *s, int conf_fd, struct child **out,
                struct err *err);
void child_drain(struct child *c, bool is_stop);
struct child *child_of(struct master *m, enum ptype type);
bool joint_allowed(enum ptype from, enum ptype to);
/* A socket to the process `to`, announced as coming from `from`. */
int child_connect(struct master *m, enum ptype from, enum ptype to, int *fd_out,
                  struct err *err);

struct child_address {
    enum ptype type;
    unsigned slot;
};

/* The same for one of several; a lazy one is started, which fails with
 * ERR_TEMP until it is ready. */
int child_connect_to(struct master *m, enum ptype from,
                     const struct child_address *to_whom, int *fd_out,
                     struct err *err);

/* reload.c, stop.c */
MAY_WAIT int master_reload(struct master *m, struct buf *text, struct err *err);
MAY_WAIT void master_stop(struct master *m);
MAY_WAIT void master_abort(struct master *m);

/* control.c */
int control_open(struct master *m, struct err *err);
void control_close(struct master *m);
/* Answer call `id` with the text of the status command. */
void control_answer_status(struct master *m, struct chan *c, uint32_t id);

#endif
