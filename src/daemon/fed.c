#include "daemon/fed.h"

#include "ipc/ipc.h"
#include "table/table.h"

struct tables *fed_tables(void)
{
    static struct tables *tables;

    if (tables == NULL)
        tables = tables_new();
    return tables;
}

void fed_on_table(struct process *p, slice name, int fd, int64_t mtime)
{
    struct err err;

    if (tables_give(fed_tables(), name, fd, mtime, &err) < 0)
        log_error("%s", err.log);
    tables_set_owner(fed_tables(), name, p->table_owner);
}

struct tables *fed_link(struct process *p)
{
    static const struct chan_ops ops = { 0 };

    tables_set_server(fed_tables(), link_new(p, PT_TABLES, &ops, NULL, NULL));
    return fed_tables();
}
