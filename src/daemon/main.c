/* The one executable: a process of the server when master started it
 * ("hato: smtpd"), else a command. */
#include "base/base.h"
#include "command/command.h"
#include "daemon/daemon.h"
#include "ipc/process.h"

#include <fcntl.h>

static const struct {
    const char *title;
    int (*run)(void);
} processes[] = {
    { "hato: log", daemon_log },
    { "hato: tables", daemon_tables },
    { "hato: template", daemon_template },
    { "hato: broker", daemon_broker },
    { "hato: qmgr", daemon_qmgr },
    { "hato: local", daemon_local },
    { "hato: smtpd", daemon_smtpd },
    { "hato: smtp", daemon_smtp },
    { "hato: auth", daemon_auth },
    { "hato: authworker", daemon_authworker },
    { "hato: authcheck", daemon_authcheck },
    { "hato: lmtpd", daemon_lmtpd },
    { "hato: keys", daemon_keys },
    { "hato: login", daemon_login },
    { "hato: resolver", daemon_resolver },
    { "hato: fetcher", daemon_fetcher },
    { "hato: metrics", daemon_metrics },
};

/* mail(1) calls sendmail with standard output closed: what is opened next must
 * not become it. */
static bool open_standard(void)
{
    int fd;

    do {
        fd = open("/dev/null", O_RDWR);
    } while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd > STDERR_FILENO)
        close(fd);
    return fd >= 0;
}

int main(int argc, char **argv)
{
    if (argc < 1)
        return 64;
    if (!open_standard())
        return 71; /* EX_OSERR */
    process_title_init(argc, argv);
    for (size_t i = 0; i < ARRAY_LEN(processes); i++)
        if (strcmp(argv[0], processes[i].title) == 0)
            return processes[i].run();
    if (strcmp(argv[0], "hato: build") == 0)
        return daemon_build(argc, argv);
    return command_main(argc, argv);
}
