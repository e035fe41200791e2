#include "store/store_priv.h"

/*
 * POP3's unique ids, as pop3_uidl_format says: Dovecot's variables with their
 * modifiers, "%08Xu": a width (0: padded with zeroes), X hexadecimal in small
 * letters, U and L capital and small letters.
 */

enum {
    /* RFC 1939 7 says 70, but file names are longer, and a client that has
     * seen one by %f from another server must find it again. */
    UIDL_MAX = FILE_NAME_MAX,
    FORMAT_MAX = 128,
};

struct variable {
    char name;
    unsigned width;
    bool zero, hex, upper, lower;
};

/* One variable behind its '%'; moves *f behind it. */
static bool variable_next(slice *f, struct variable *out)
{
    struct variable v = { 0 };
    size_t i = 0;

    if (i < f->n && f->p[i] == '0') {
        v.zero = true;
        i++;
    }
    for (; i < f->n && ascii_isdigit(f->p[i]); i++) {
        v.width = v.width * 10 + (unsigned)(f->p[i] - '0');
        if (v.width > 70)
            return false;
    }
    for (; i < f->n; i++) {
        char c = f->p[i];

        if (c != 'X' && c != 'U' && c != 'L')
            break;
        /* They work one behind the other. */
        v.hex = v.hex || c == 'X';
        v.upper = c == 'U';
        v.lower = c == 'L';
    }
    if (i >= f->n)
        return false;
    v.name = f->p[i];
    *f = slice_from(*f, i + 1);
    *out = v;
    return true;
}

bool store_uidl_format_ok(slice format, struct err *err)
{
    bool has_uid = false;
    slice rest = format;
    struct variable v;

    if (format.n > FORMAT_MAX) {
        err_perm(err, "pop3_uidl_format is too long");
        return false;
    }
    while (rest.n > 0) {
        char c = rest.p[0];

        rest = slice_from(rest, 1);
        if (c <= ' ' || c > '~') {
            err_perm(err, "pop3_uidl_format: only printable characters");
            return false;
        }
        if (c != '%')
            continue;
        if (rest.n > 0 && rest.p[0] == '%') {
            rest = slice_from(rest, 1);
            continue;
        }
        if (!variable_next(&rest, &v) || v.name == '\0' ||
            !strchr("uvfg", v.name)) {
            err_perm(err, "pop3_uidl_format: only %%u, %%v, %%f and %%g are "
                          "known");
            return false;
        }
        has_uid = has_uid || v.name != 'v';
    }
    if (!has_uid)
        err_perm(err, "pop3_uidl_format: it must have %%u, %%f or %%g");
    return has_uid;
}

static void put_number(struct buf *b, const struct variable *v, uint32_t n)
{
    char text[80];
    int width = v->zero ? (int)v->width : 0;

    if (v->hex)
        (void)snprintf(text, sizeof text, "%0*" PRIx32, width, n);
    else
        (void)snprintf(text, sizeof text, "%0*" PRIu32, width, n);
    /* Without the zero a width cuts off what is too long, as Dovecot's does. */
    if (!v->zero && v->width > 0 && v->width < strlen(text))
        text[v->width] = '\0';
    buf_puts(b, text);
}

static void put_variable(struct buf *b, const struct variable *v,
                         const struct store_uidl *u)
{
    size_t from = b->n;

    if (v->name == 'u')
        put_number(b, v, u->uid);
    else if (v->name == 'v')
        put_number(b, v, u->uidvalidity);
    else
        buf_slice(b, v->width > 0 && !v->zero
                         ? slice_sub(u->base_name, 0, v->width)
                         : u->base_name);
    for (size_t i = from; i < b->n; i++) {
        if (v->upper)
            b->p[i] = ascii_upper(b->p[i]);
        if (v->lower)
            b->p[i] = ascii_lower(b->p[i]);
    }
}

static void put_clean(struct buf *out, slice id)
{
    for (size_t i = 0; i < id.n && i < UIDL_MAX; i++)
        buf_byte(out, id.p[i] > ' ' && id.p[i] <= '~' ? id.p[i] : '_');
    if (id.n == 0)
        buf_byte(out, '_');
}

void store_uidl_put(struct buf *out, slice format, const struct store_uidl *u)
{
    struct buf b CLEANUP(buf_done) = { 0 };
    slice rest = format;
    struct variable v;

    buf_init(&b, 2048);
    while (rest.n > 0) {
        char c = rest.p[0];

        rest = slice_from(rest, 1);
        if (c == '%' && slice_starts(rest, SL("%")))
            rest = slice_from(rest, 1);
        else if (c == '%' && variable_next(&rest, &v)) {
            put_variable(&b, &v, u);
            continue;
        }
        buf_byte(&b, c);
    }
    put_clean(out, buf_view(&b));
}

void store_uidl_of_row(struct store_mailbox *m, size_t row, slice format,
                       struct buf *out)
{
    struct store_uidl u = { .uid = ROW_FIELD(m, row, uid),
                            .uidvalidity = m->uidvalidity,
                            .base_name = row_name(m, row) };
    slice kept;

    if ((ROW_FIELD(m, row, state) & ROW_UIDL) &&
        store_cached_view(m, row, STORE_POP3_UIDL, &kept))
        put_clean(out, kept);
    else
        store_uidl_put(out, format, &u);
}
