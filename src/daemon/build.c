/* "hato: build FORMAT SOURCE-NAME": descriptor 3 is the source, 4 the empty
 * index.  Started by master with the uid of the source's owner. */
#include "base/clock.h"
#include "daemon/daemon.h"
#include "ipc/ipc.h"
#include "table/table.h"

enum { SOURCE_FD = 3, INDEX_FD = 4, EVENT_FD = 5 };

static void warn(void *ctx UNUSED, const char *text)
{
    log_warning("%s", text);
}

int daemon_build(int argc, char **argv)
{
    struct table_build b = { .source_fd = SOURCE_FD, .warn = warn };
    struct err err;
    size_t n;

    if (argc != 3)
        return 64;
    clock_setup();
    event_setup(EVENT_FD, "postmap");
    b.format = argv[1][0] == 'a' ? TABLE_POSTALIAS : TABLE_POSTMAP;
    b.source_name = argv[2];
    if (table_build(&b, INDEX_FD, &n, &err) < 0) {
        log_error("%s", err.log);
        return 1;
    }
    return 0;
}
