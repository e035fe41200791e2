#include "table/table.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Lines of a passwd-file: the fields lie inside the line. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    slice rest = slice_of(data, size);
    struct table_user u;
    slice line, value;

    while (rest.n > 0) {
        (void)slice_cut(&rest, '\n', &line);
        if (!table_user_parse(line, &u))
            continue;
        CHECK(u.name.n > 0 && u.name.p == line.p);
        CHECK(u.name.n + u.password.n + u.home.n + u.shell.n + u.extra.n <=
              line.n);
        CHECK(slice_chr(u.name, ':') < 0 && slice_chr(u.password, ':') < 0 &&
              slice_chr(u.home, ':') < 0);
        if (table_user_extra(&u, "mail", &value))
            CHECK(value.n < u.extra.n && slice_eq(value, u.mail));
    }
    return 0;
}
