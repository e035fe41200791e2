/* The template: forks workers, reads nothing else. */
#include "broker/broker.h"
#include "daemon/daemon.h"

int daemon_template(void)
{
    return template_main(&daemon_mailbox_ops);
}
