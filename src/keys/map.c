/* tls_server_sni_maps: a name that a client may ask for, and its files. */
#include "keys/keys_priv.h"

/* Those that are text, or are made of a text that lies beside them. */
bool keys_map_type_ok(slice type)
{
    static const char *const types[] = { "hash", "btree", "dbm",
                                         "lmdb", "cdb",   "texthash" };

    for (size_t i = 0; i < ARRAY_LEN(types); i++)
        if (slice_eqs(type, types[i]))
            return true;
    return slice_eqs(type, "inline");
}

/* "name white-space files"; a line that starts with white space goes on with
 * the one before, comments start with #. */
void keys_map_each(slice text, keys_map_fn *fn, void *arg)
{
    struct buf line;
    slice rest = text, physical;

    buf_init(&line, 65536);
    while (rest.n > 0 || line.n > 0) {
        slice all, name;

        if (rest.n > 0) {
            slice_cut(&rest, '\n', &physical);
            if (slice_trim(physical).n > 0 &&
                slice_trim(physical).p[0] != '#') {
                (void)buf_slice(&line, physical);
                (void)buf_byte(&line, ' ');
            }
            if (rest.n > 0 && (ascii_isspace(rest.p[0]) || rest.p[0] == '#'))
                continue;
        }
        all = buf_view(&line);
        if (!line.overflow && slice_token(&all, " \t\r", &name) &&
            slice_trim(all).n > 0)
            fn(arg, name, slice_trim(all));
        buf_clear(&line);
    }
    buf_done(&line);
}

/* "{ name = files }, { ... }" or "name = file, name = file". */
void keys_inline_each(slice inside, keys_map_fn *fn, void *arg)
{
    slice rest = conf_list_unbrace(inside), item;

    while (conf_list_next(&rest, &item)) {
        slice name;
        slice files = conf_list_unbrace(item);

        if (slice_cut(&files, '=', &name))
            fn(arg, slice_trim(name), slice_trim(files));
    }
}

void keys_each_map(const struct conf *c, const struct conf_service *s,
                   void (*fn)(void *arg, slice path, slice inside), void *arg)
{
    slice list = conf_slice(c, s, "tls_server_sni_maps");
    slice item, type, name;

    while (conf_list_next(&list, &item)) {
        if (!conf_split_table(item, &type, &name) || !keys_map_type_ok(type))
            continue;
        if (slice_eqs(type, "inline"))
            fn(arg, SLICE_NONE, name);
        else
            fn(arg, name, SLICE_NONE);
    }
}
