#include "daemon/frame.h"

#include "ipc/ipc.h"
#include "keys/keys.h"

/* How long a start waits for the process `keys`. */
#define KEYS_MS 5000

void frame_on_idle(void *process)
{
    process_exit(process, 0);
}

struct keyring *frame_keyring(struct process *p)
{
    static struct keyring *keyring;

    if (keyring == NULL)
        keyring = keyring_new(p);
    return keyring;
}

void frame_on_fd(struct process *p, slice name, int fd)
{
    keyring_on_fd(frame_keyring(p), name, fd);
}

void frame_keyring_wait(struct process *p)
{
    keyring_wait(frame_keyring(p), clock_after(KEYS_MS));
}
