#include "local/local_priv.h"

/*
 *     \001 U user@domain                      a mailbox, no more expansion
 *     \001 C|F \001 uid \001 gid \001 w \001 user \001 home \001 argument
 *
 * w: 1 when a command worker (default_privs) runs it, else the user's own.
 */
#define MARK '\001'

bool local_is_special(slice addr)
{
    return addr.n > 2 && addr.p[0] == MARK;
}

slice local_special_mailbox(struct arena *a, slice user, slice domain)
{
    return slice_str(
        arena_printf(a, "%cU%.*s@%.*s", MARK, SLF(user), SLF(domain)));
}

slice local_special_target(struct arena *a, enum lmtp_kind kind,
                           const struct local_source *src, slice arg)
{
    /* A line end would look like the next step of a recipient's path. */
    if (slice_chr(arg, MARK) >= 0 || slice_chr(src->home, MARK) >= 0 ||
        slice_chr(arg, '\n') >= 0 || arg.n > 4000)
        return SLICE_NONE;
    return slice_str(
        arena_printf(a, "%c%c%c%" PRIu64 "%c%" PRIu64 "%c%d%c%.*s%c%.*s%c%.*s",
                     MARK, kind == LMTP_COMMAND ? 'C' : 'F', MARK, src->uid,
                     MARK, src->gid, MARK, src->is_forward ? 0 : 1, MARK,
                     SLF(src->user), MARK, SLF(src->home), MARK, SLF(arg)));
}

bool local_special_parse(slice addr, slice *mailbox, struct lmtp_place *place)
{
    slice rest = slice_from(addr, 2);
    slice empty, uid, gid, by;
    char kind = addr.p[1];

    *mailbox = SLICE_NONE;
    if (kind == 'U') {
        *mailbox = rest;
        return true;
    }
    if ((kind != 'C' && kind != 'F') || !slice_cut(&rest, MARK, &empty) ||
        !slice_cut(&rest, MARK, &uid) || !slice_cut(&rest, MARK, &gid) ||
        !slice_cut(&rest, MARK, &by) || !slice_cut(&rest, MARK, &place->user) ||
        !slice_cut(&rest, MARK, &place->home))
        return false;
    place->arg = rest;
    place->kind = kind == 'C' ? LMTP_COMMAND : LMTP_FILE;
    place->account = place->user;
    place->by_command_worker = slice_eqs(by, "1");
    return slice_u64(uid, &place->uid) && slice_u64(gid, &place->gid);
}
