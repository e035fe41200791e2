#include "table/table_priv.h"

/* Lines of passwd, and Dovecot's passwd-file: name:password:uid:gid:gecos:
 * home:shell:extra; fields may be missing at the end. */

static bool id_parse(slice text, uint32_t *out, bool *has)
{
    uint64_t n;

    *has = false;
    if (text.n == 0)
        return true;
    if (!slice_u64(text, &n) || n >= UINT32_MAX)
        return false;
    *out = (uint32_t)n;
    *has = true;
    return true;
}

bool table_user_parse(slice line, struct table_user *out)
{
    struct table_user u = { .uid = (uid_t)-1, .gid = (gid_t)-1 };
    slice rest = line;
    slice field[7] = { SLICE_NONE };
    size_t n = 0;

    while (n < ARRAY_LEN(field) && slice_cut(&rest, ':', &field[n]))
        n++;
    if (n < ARRAY_LEN(field))
        rest = SLICE_NONE; /* the last one has no colon behind it */
    u.name = field[0];
    u.password = field[1];
    if (u.name.n == 0 || !id_parse(field[2], &u.uid, &u.has_uid) ||
        !id_parse(field[3], &u.gid, &u.has_gid))
        return false;
    u.home = field[5];
    u.shell = field[6];
    u.extra = slice_trim(rest);
    if (!table_user_extra(&u, "mail", &u.mail))
        u.mail = SLICE_NONE;
    *out = u;
    return true;
}

bool table_user_extra(const struct table_user *u, const char *name, slice *out)
{
    slice rest = u->extra;
    slice word;

    while (slice_token(&rest, " \t", &word)) {
        slice value = word;
        slice key;

        if (!slice_cut(&value, '=', &key))
            continue;
        if (slice_starts(key, SL("userdb_")))
            key = slice_from(key, 7);
        if (slice_eqs(key, name)) {
            *out = value;
            return true;
        }
    }
    return false;
}

/* ---- passwd-file:/path in the process that holds it */

static void passwd_file_line(struct table *t, struct pairs *p, slice line,
                             unsigned number)
{
    struct arena *a CLEANUP(arena_free) = arena_new(64u << 10);
    struct table_user u;
    slice key;

    line = slice_trim(line);
    if (line.n == 0 || line.p[0] == '#')
        return;
    if (memchr(line.p, 0, line.n) != NULL || !table_user_parse(line, &u)) {
        table_warn(t,
                   "%.*s, line %u: not a line of a passwd-file -- ignoring "
                   "this line",
                   SLF(t->name), number);
        return;
    }
    key = table_fold(a, u.name);
    if (key.p != NULL && !pairs_add(p, key, line))
        table_warn(t, "%.*s, line %u: duplicate entry: \"%.*s\"", SLF(t->name),
                   number, SLF(slice_sub(u.name, 0, 100)));
}

static int passwd_file_load(struct table *t, slice text, void **out,
                            struct err *err)
{
    struct pairs *p = pairs_new();
    slice rest = text;
    unsigned number = 0;
    slice line;

    (void)err;
    while (rest.n > 0) {
        slice_cut(&rest, '\n', &line);
        passwd_file_line(t, p, line, ++number);
    }
    *out = p;
    return 0;
}

const struct table_ops table_ops_passwd_file = {
    .type = "passwd-file",
    .kind = TABLE_SERVED,
    .is_fixed = true,
    .folds = true,
    .load = passwd_file_load,
    .lookup = served_lookup,
    .free = pairs_free,
};

int tables_system_user(struct tables *t, slice name, struct arena *a,
                       struct table_user *out, bool *found, struct err *err)
{
    slice line;

    if (table_lookup(t, SL("unix:passwd.byname"), name, TABLE_NO_FOLD, a, &line,
                     err) < 0)
        return -1;
    *found = line.p != NULL && table_user_parse(line, out);
    return 0;
}

int tables_system_uid(struct tables *t, uid_t uid, struct arena *a,
                      struct table_user *out, bool *found, struct err *err)
{
    char number[24];
    slice line;

    (void)snprintf(number, sizeof number, "%lu", (unsigned long)uid);
    if (table_lookup(t, SL("unix:passwd.byuid"), slice_str(number),
                     TABLE_NO_FOLD, a, &line, err) < 0)
        return -1;
    *found = line.p != NULL && table_user_parse(line, out);
    return 0;
}

/* NOLINTNEXTLINE(readability-function-size): question, place, two answers */
int tables_user_matches(struct tables *t, struct table_match *m, uid_t uid,
                        struct arena *a, slice *name, bool *out,
                        struct err *err)
{
    struct table_user u;
    bool found;

    if (tables_system_uid(t, uid, a, &u, &found, err) < 0)
        return -1;
    *name = found ? u.name : SL("unknown");
    return table_match_string(m, *name, out, err);
}
