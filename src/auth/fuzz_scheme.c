#include "auth/scheme.h"

#include "auth/auth.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Slow by what is stored, which is the administrator's choice, not a
 * stranger's: those are not what is looked for here. */
static bool is_slow(slice stored)
{
    return slice_ifind(stored, SL("CRYPT")) >= 0 ||
           slice_ifind(stored, SL("ARGON")) >= 0 ||
           slice_chr(stored, '{') != 0 || stored.n > 200 ||
           slice_find(stored, SL("0000")) >= 0;
}

/* The first line is what is stored, the rest a password. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *a = arena_new(65536);
    slice password = slice_of(data, size);
    const struct scheme *s;
    slice stored, value;
    bool fits = false;
    struct err err;

    (void)slice_cut(&password, '\n', &stored);
    if (scheme_of(stored, "PLAIN", a, &s, &value, &err) == 0 &&
        !is_slow(stored) &&
        auth_password_verify(stored, "PLAIN", password, &fits, &err) == 0 &&
        fits && strcmp(s->name, "PLAIN") == 0 &&
        slice_starts(stored, SL("{PLAIN}")))
        CHECK(slice_eq(slice_from(stored, 7), password));
    arena_free(&a);
    return 0;
}
