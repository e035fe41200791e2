#include "ipc/process.h"

#include <sys/prctl.h>

/* The memory of the arguments, from the first byte of the first. */
static char *title_at;
static size_t title_room;

void process_title_init(int argc, char **argv)
{
    char *end = argc > 0 ? argv[0] : NULL;

    for (int i = 0; i < argc; i++)
        if (argv[i] == end)
            end = argv[i] + strlen(argv[i]) + 1;
    title_at = argc > 0 ? argv[0] : NULL;
    title_room = title_at != NULL ? (size_t)(end - title_at) : 0;
}

void process_title(const char *title)
{
    size_t n = min_size(strlen(title), title_room > 0 ? title_room - 1 : 0);
    char name[16];

    (void)snprintf(name, sizeof name, "%s", title);
    (void)prctl(PR_SET_NAME, name, 0, 0, 0);
    if (title_room == 0)
        return;
    for (size_t i = 0; i < title_room; i++)
        title_at[i] = i < n ? title[i] : '\0';
}
