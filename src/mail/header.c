/* Finding and unfolding header fields. */
#include "mail/header.h"

#include "base/base.h"

#include "mail/address.h"
#include "mail/mail_priv.h"

void mail_header_iter_init(struct mail_header_iter *it, slice in,
                           bool keep_junk)
{
    slice line;

    *it = (struct mail_header_iter){ .in = in, .keep_junk = keep_junk };
    line = slice_sub(in, 0, 6);
    if (slice_starts(line, SL("From ")) || slice_starts(line, SL(">From "))) {
        ssize_t lf = slice_chr(in, '\n');
        size_t n = lf < 0 ? in.n : (size_t)lf + 1;

        it->from_line = slice_sub(in, 0, n);
        /* Dovecot reads ">From " as a field without a name; Postfix drops
         * either.  Only new mail loses it. */
        if (!keep_junk)
            it->pos = n;
    }
}

/* Length of the name at the front of the line; 0 when the line is no header.
 * *behind is where the value starts. */
static size_t name_length(slice line, size_t *behind)
{
    size_t n = 0, i;

    while (n < line.n && n <= MAIL_HEADER_NAME_MAX && line.p[n] > 32 &&
           line.p[n] < 127 && line.p[n] != ':')
        n++;
    if (n > MAIL_HEADER_NAME_MAX)
        return 0;
    for (i = n; i < line.n && (line.p[i] == ' ' || line.p[i] == '\t'); i++)
        continue;
    if (n == 0 || i == line.n || line.p[i] != ':')
        return 0;
    *behind = i + 1;
    return n;
}

/* End of the field that starts at `from`: behind its last continuation. */
static size_t field_end(slice in, size_t from)
{
    size_t at = from;

    for (;;) {
        const char *lf = memchr(in.p + at, '\n', in.n - at);

        if (lf == NULL)
            return in.n;
        at = (size_t)(lf - in.p) + 1;
        if (at == in.n || (in.p[at] != ' ' && in.p[at] != '\t'))
            return at;
    }
}

static slice without_line_end(slice s)
{
    if (s.n > 0 && s.p[s.n - 1] == '\n')
        s.n--;
    if (s.n > 0 && s.p[s.n - 1] == '\r')
        s.n--;
    return s;
}

bool mail_header_next(struct mail_header_iter *it, struct mail_field *out)
{
    slice rest = slice_from(it->in, it->pos);
    size_t end, name_n, behind = 0;

    if (it->end != MAIL_HEADER_MORE)
        return false;
    if (rest.n == 0) {
        it->end = MAIL_HEADER_EOF;
        return false;
    }
    if (rest.p[0] == '\n' || slice_starts(rest, SL("\r\n"))) {
        it->end = MAIL_HEADER_BLANK;
        it->pos += rest.p[0] == '\n' ? 1 : 2;
        return false;
    }
    end = field_end(it->in, it->pos);
    out->whole = slice_sub(it->in, it->pos, end - it->pos);
    name_n = name_length(out->whole, &behind);
    if (name_n == 0 && !it->keep_junk) {
        it->end = MAIL_HEADER_JUNK;
        return false;
    }
    out->name = slice_sub(out->whole, 0, name_n);
    out->value = without_line_end(slice_from(out->whole, behind));
    while (out->value.n > 0 &&
           (out->value.p[0] == ' ' || out->value.p[0] == '\t'))
        out->value = slice_from(out->value, 1);
    out->offset = it->pos;
    it->pos = end;
    return true;
}

size_t mail_header_body(const struct mail_header_iter *it)
{
    return it->pos;
}

bool mail_header_find(slice in, const char *name, size_t nth, slice *raw)
{
    struct mail_header_iter it;
    struct mail_field f;

    mail_header_iter_init(&it, in, false);
    while (mail_header_next(&it, &f)) {
        if (!slice_ieqs(f.name, name) || nth-- > 0)
            continue;
        *raw = f.value;
        return true;
    }
    return false;
}

size_t mail_header_count(slice in, const char *name)
{
    struct mail_header_iter it;
    struct mail_field f;
    size_t n = 0;

    mail_header_iter_init(&it, in, false);
    while (mail_header_next(&it, &f))
        n += slice_ieqs(f.name, name);
    return n;
}

size_t mail_header_hops(slice in)
{
    return mail_header_count(in, "Received");
}

bool mail_header_delivered_to(slice in, slice address)
{
    struct mail_header_iter it;
    struct mail_field f;
    struct buf plain CLEANUP(buf_done) = { 0 };
    bool found = false;

    buf_init(&plain, (size_t)2 * MAIL_ADDRESS_MAX);
    mail_header_iter_init(&it, in, false);
    while (!found && mail_header_next(&it, &f)) {
        if (!slice_ieqs(f.name, "Delivered-To"))
            continue;
        buf_clear(&plain);
        mail_addr_unquote(&plain, slice_trim(f.value));
        found = slice_ieq(buf_view(&plain), address);
    }
    return found;
}

bool mail_header_unfold(struct buf *b, slice raw)
{
    for (size_t i = 0; i < raw.n; i++) {
        char c = raw.p[i];
        size_t skip = 0;

        if (c == '\n')
            skip = 1;
        else if (c == '\r' && i + 1 < raw.n && raw.p[i + 1] == '\n')
            skip = 2;
        if (skip == 0) {
            buf_byte(b, c == '\r' ? ' ' : c);
            continue;
        }
        i += skip - 1;
        /* A line end that no white space follows would join two words. */
        if (i + 1 < raw.n && raw.p[i + 1] != ' ' && raw.p[i + 1] != '\t')
            buf_byte(b, ' ');
    }
    return !b->overflow;
}

bool mail_header_name_valid(slice name)
{
    if (name.n == 0 || name.n > MAIL_HEADER_NAME_MAX)
        return false;
    for (size_t i = 0; i < name.n; i++) {
        if (name.p[i] <= 32 || name.p[i] >= 127 || name.p[i] == ':')
            return false;
    }
    return true;
}

#define FOLD_COLUMN 78

bool mail_header_put(struct buf *b, const char *name, slice value)
{
    size_t col = strlen(name) + 1;

    buf_puts(b, name);
    buf_byte(b, ':');
    for (size_t i = 0; i < value.n;) {
        size_t word = i;

        /* A chunk is white space and the word behind it. */
        while (word < value.n && ascii_isspace(value.p[word]))
            word++;
        size_t end = word;
        while (end < value.n && !ascii_isspace(value.p[end]))
            end++;
        if (end == word)
            break; /* white space at the end */
        if (i > 0 && col + 1 + (end - word) > FOLD_COLUMN) {
            buf_byte(b, '\n');
            col = 0;
        }
        buf_byte(b, ' ');
        buf_put(b, value.p + word, end - word);
        col += 1 + (end - word);
        i = end;
    }
    return buf_byte(b, '\n');
}

void mail_head_init(struct mail_head *h, size_t max_bytes)
{
    *h = (struct mail_head){ .max = max_bytes };
    buf_init(&h->bytes, max_bytes);
}

void mail_head_done(struct mail_head *h)
{
    buf_done(&h->bytes);
}

/* A complete line stands at line_start: does the header end before or with
 * it?  An end before it gives the line back to the caller's input. */
static bool line_is_blank(slice line)
{
    return slice_eqs(line, "\n") || slice_eqs(line, "\r\n");
}

void mail_head_feed(struct mail_head *h, slice *in)
{
    while (!h->done && in->n > 0) {
        ssize_t lf = slice_chr(*in, '\n');
        size_t take = lf < 0 ? in->n : (size_t)lf + 1;

        if (take > h->max - h->bytes.n) {
            h->truncated = true;
            h->done = true;
            return;
        }
        buf_put(&h->bytes, in->p, take);
        *in = slice_from(*in, take);
        if (lf < 0)
            return;
        h->done = line_is_blank(slice_from(buf_view(&h->bytes), h->line_start));
        h->line_start = h->bytes.n;
    }
}
