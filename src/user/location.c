#include "user/user_priv.h"

#include "mail/mail.h"

struct location {
    slice user; /* whole: "tomo@sample.com" or "tomo" */
    slice home;
};

/* %u %n %d %h of mail_location (Dovecot's variables). */
static bool put_letter(const struct location *l, char c, struct buf *b)
{
    slice local = l->user;
    slice domain = SLICE_NONE;

    (void)mail_addr_split(l->user, &local, &domain);
    switch (c) {
    case 'u':
        return buf_slice(b, l->user);
    case 'n':
        return buf_slice(b, local);
    case 'd':
        return buf_slice(b, domain);
    case 'h':
        return l->home.n > 0 && buf_slice(b, l->home);
    case '%':
        return buf_byte(b, '%');
    default:
        return false;
    }
}

bool user_is_safe(slice name)
{
    for (size_t i = 0; i < name.n; i++)
        if (name.p[i] == '/' || (unsigned char)name.p[i] < ' ' ||
            name.p[i] == 127)
            return false;
    return name.n > 0 && name.n <= USER_NAME_MAX && name.p[0] != '.' &&
           slice_find(name, SL("@.")) < 0;
}

int user_expand_location(struct arena *a, slice text, slice user, slice home,
                         slice *out, struct err *err)
{
    struct location l = { user, home };
    bool ok = user_is_safe(user);
    struct buf b;

    buf_init(&b, 4096);
    for (size_t i = 0; ok && i < text.n; i++) {
        char c = text.p[i];
        bool at_start = i == 0 || text.p[i - 1] == ':' || text.p[i - 1] == '=';

        if (c == '~' && at_start && (i + 1 == text.n || text.p[i + 1] == '/'))
            ok = home.n > 0 && buf_slice(&b, home);
        else if (c == '%' && i + 1 < text.n)
            ok = put_letter(&l, text.p[++i], &b);
        else
            ok = buf_byte(&b, c);
    }
    ok = ok && !b.overflow;
    if (ok)
        *out = slice_dup(a, buf_view(&b));
    buf_done(&b);
    if (!ok)
        return err_temp(err,
                        "mail_location \"%.*s\" has no place for \"%.*s\" "
                        "(unsafe name, or it needs a home directory)",
                        SLF(text), SLF(slice_sub(user, 0, 100)));
    return 0;
}
