#ifndef DAEMON_DAEMON_H
#define DAEMON_DAEMON_H

/*
 * daemon - one short file per process: it puts rooms together and has no logic
 * of its own.  The order is the same everywhere: settings, open what needs
 * rights, sandbox (the row of the process in doc/design.md section 1), serve.
 *
 * Each function runs the life of its process and returns its exit status.
 */

int daemon_log(void);
int daemon_tables(void);
int daemon_template(void);
int daemon_broker(void);
int daemon_qmgr(void);
int daemon_local(void);
int daemon_smtpd(void);
int daemon_smtp(void);
int daemon_keys(void);
int daemon_auth(void);
int daemon_authworker(void);
/* "hato: authcheck": one password, for authworker. */
int daemon_authcheck(void);
int daemon_login(void);
int daemon_lmtpd(void);
int daemon_resolver(void);
int daemon_fetcher(void);
int daemon_metrics(void);
/* "hato: build": index one table, as the owner of its source. */
int daemon_build(int argc, char **argv);

struct worker_ops;
/* What a mailbox worker serves; template hands it to those it forks. */
extern const struct worker_ops daemon_mailbox_ops;

#endif
