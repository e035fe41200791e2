#include "conf/conf_priv.h"

/* One expansion under way. */
struct expander {
    const struct conf *c; /* lookup == NULL: its parameters, recursively */
    const struct conf_service *service;
    conf_lookup_fn *lookup;
    void *ctx;
    const char *filter;
    struct err *err;
    unsigned steps; /* names expanded so far: bounds $y$y$y of $z$z$z of ... */
};

enum relation {
    REL_EQ,
    REL_NE,
    REL_LT,
    REL_LE,
    REL_GE,
    REL_GT,
};

/* What stands behind the name or the comparison in ${...}. */
struct branches {
    char kind; /* 0 none, '?' or ':' */
    slice yes; /* of '?' */
    slice no;  /* of ':' and of '?' with an alternative */
};

static int expand(struct expander *x, slice text, struct buf *out,
                  unsigned depth);

static bool is_name_char(char ch)
{
    return ascii_isalnum(ch) || ch == '_';
}

static slice skip_space(slice s)
{
    size_t i = 0;

    while (i < s.n && ascii_isspace(s.p[i]))
        i++;
    return slice_from(s, i);
}

static size_t name_length(slice s)
{
    size_t i = 0;

    while (i < s.n && is_name_char(s.p[i]))
        i++;
    return i;
}

/* s starts with `open`: its length up to and with the matching `close`, 0 when
 * there is none. */
static size_t balanced_length(slice s, char open, char close)
{
    size_t level = 0;

    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] == open)
            level++;
        else if (s.p[i] == close && --level == 0)
            return i + 1;
    }
    return 0;
}

/* Take "{text}" off *s (behind white space). */
static bool take_braced(slice *s, slice *inside)
{
    slice t = skip_space(*s);
    size_t n;

    if (t.n == 0 || t.p[0] != '{')
        return false;
    n = balanced_length(t, '{', '}');
    if (n == 0)
        return false;
    *inside = slice_sub(t, 1, n - 2);
    *s = slice_from(t, n);
    return true;
}

static bool starts_braced(slice s)
{
    s = skip_space(s);
    return s.n > 0 && s.p[0] == '{';
}

static int syntax(struct expander *x, const char *what, slice at)
{
    return err_perm(x->err, "%s at: \"%.*s\"", what, (int)min_size(at.n, 60),
                    at.n > 0 ? at.p : "");
}

/* The text behind ':', the last part of a condition. */
static int parse_alternative(struct expander *x, slice s, slice *no)
{
    if (!starts_braced(s)) {
        *no = s;
        return 0;
    }
    if (!take_braced(&s, no))
        return syntax(x, "missing '}'", s);
    if (skip_space(s).n > 0)
        return syntax(x, "unexpected input", skip_space(s));
    return 0;
}

static int parse_branches(struct expander *x, slice s, struct branches *b)
{
    slice rest;

    *b = (struct branches){ 0 };
    s = skip_space(s);
    if (s.n == 0)
        return 0;
    b->kind = s.p[0];
    rest = slice_from(s, 1);
    if (b->kind == ':')
        return parse_alternative(x, rest, &b->no);
    if (b->kind != '?')
        return syntax(x, "\"?\" or \":\" expected", s);
    if (!starts_braced(rest)) {
        b->yes = rest;
        return 0;
    }
    if (!take_braced(&rest, &b->yes))
        return syntax(x, "missing '}'", rest);
    rest = skip_space(rest);
    if (rest.n == 0)
        return 0;
    if (rest.p[0] != ':')
        return syntax(x, "\":\" expected", rest);
    return parse_alternative(x, slice_from(rest, 1), &b->no);
}

/* NOLINTNEXTLINE(misc-no-recursion): depth is capped in expand() */
static int expand_branch(struct expander *x, const struct branches *b,
                         bool truth, struct buf *out, unsigned depth)
{
    return expand(x, truth ? b->yes : b->no, out, depth + 1);
}

static bool parse_relation(slice *s, enum relation *rel)
{
    static const struct {
        const char *text;
        enum relation rel;
    } table[] = {
        { "==", REL_EQ }, { "!=", REL_NE }, { "<=", REL_LE },
        { ">=", REL_GE }, { "<", REL_LT },  { ">", REL_GT },
    };

    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        slice op = slice_str(table[i].text);

        if (slice_starts(*s, op)) {
            *s = slice_from(*s, op.n);
            *rel = table[i].rel;
            return true;
        }
    }
    return false;
}

static bool relation_holds(enum relation rel, int cmp)
{
    switch (rel) {
    case REL_EQ:
        return cmp == 0;
    case REL_NE:
        return cmp != 0;
    case REL_LT:
        return cmp < 0;
    case REL_LE:
        return cmp <= 0;
    case REL_GE:
        return cmp >= 0;
    case REL_GT:
        return cmp > 0;
    }
    return false;
}

/* Numbers are compared as numbers, all else as bytes. */
static int compare_values(slice a, slice b)
{
    int64_t m;
    int64_t n;

    if (conf_parse_int(a, &m) && conf_parse_int(b, &n))
        return m < n ? -1 : m > n;
    return slice_cmp(a, b);
}

/* "3.6" or "3.6.1" as one number. */
static bool parse_level(slice s, uint64_t *out)
{
    uint64_t level = 0;
    uint64_t part;
    unsigned parts = 0;
    slice head;

    s = slice_trim(s);
    while (s.n > 0 && parts < 3) {
        slice_cut(&s, '.', &head);
        if (!slice_u64(head, &part) || part > 99999)
            return false;
        level = level * 100000 + part;
        parts++;
    }
    if (parts == 0 || s.n > 0)
        return false;
    for (; parts < 3; parts++)
        level *= 100000;
    *out = level;
    return true;
}

bool conf_level_compare(slice a, slice b, int *cmp)
{
    uint64_t m;
    uint64_t n;

    if (!parse_level(a, &m) || !parse_level(b, &n))
        return false;
    *cmp = m < n ? -1 : m > n;
    return true;
}

struct comparison {
    slice left;
    slice right;
    enum relation rel;
    bool is_level;
};

static int parse_comparison(struct expander *x, slice *s, struct comparison *k)
{
    size_t n;

    if (!take_braced(s, &k->left))
        return syntax(x, "missing '}'", *s);
    *s = skip_space(*s);
    if (!parse_relation(s, &k->rel))
        return syntax(x, "one of == != < <= > >= expected", *s);
    n = name_length(*s);
    k->is_level = slice_eqs(slice_sub(*s, 0, n), "level");
    if (n > 0 && !k->is_level)
        return syntax(x, "bad operator suffix", *s);
    *s = slice_from(*s, n);
    if (!take_braced(s, &k->right))
        return syntax(x, "\"{\" expected", *s);
    return 0;
}

/* NOLINTNEXTLINE(misc-no-recursion): depth is capped in expand() */
static int evaluate(struct expander *x, const struct comparison *k, bool *truth,
                    unsigned depth)
{
    struct buf left;
    struct buf right;
    int cmp = 0;
    int rc = -1;

    buf_init(&left, CONF_MAX_VALUE);
    buf_init(&right, CONF_MAX_VALUE);
    if (expand(x, k->left, &left, depth + 1) < 0 ||
        expand(x, k->right, &right, depth + 1) < 0)
        goto out;
    if (!k->is_level)
        cmp = compare_values(buf_view(&left), buf_view(&right));
    else if (!conf_level_compare(buf_view(&left), buf_view(&right), &cmp)) {
        err_perm(x->err,
                 "malformed compatibility level: \"%.40s\" or \"%.40s\"",
                 buf_cstr(&left), buf_cstr(&right));
        goto out;
    }
    *truth = relation_holds(k->rel, cmp);
    rc = 0;
out:
    buf_done(&left);
    buf_done(&right);
    return rc;
}

/* ${{a} op {b} ...} */
/* NOLINTNEXTLINE(misc-no-recursion): depth is capped in expand() */
static int expand_comparison(struct expander *x, slice s, struct buf *out,
                             unsigned depth)
{
    struct comparison k;
    struct branches b;
    bool truth = false;

    if (parse_comparison(x, &s, &k) < 0 || parse_branches(x, s, &b) < 0 ||
        evaluate(x, &k, &truth, depth) < 0)
        return -1;
    if (b.kind != 0)
        return expand_branch(x, &b, truth, out, depth);
    if (truth)
        buf_puts(out, "true");
    return 0;
}

static void put_filtered(const char *filter, slice value, struct buf *out)
{
    if (filter == NULL) {
        buf_slice(out, value);
        return;
    }
    for (size_t i = 0; i < value.n; i++) {
        char ch = value.p[i];

        buf_byte(out, ch != '\0' && strchr(filter, ch) != NULL ? ch : '_');
    }
}

/* The value of a name of the delivery: final. */
/* NOLINTNEXTLINE(misc-no-recursion): depth is capped in expand() */
static int put_foreign(struct expander *x, slice name, const struct branches *b,
                       struct buf *out, unsigned depth)
{
    struct buf value;
    int rc = 0;

    buf_init(&value, CONF_MAX_VALUE);
    if (!x->lookup(x->ctx, name, &value))
        buf_clear(&value);
    if (b->kind != 0)
        rc = expand_branch(x, b, value.n > 0, out, depth);
    else
        put_filtered(x->filter, buf_view(&value), out);
    if (value.overflow)
        rc = err_perm(x->err, "the value of %.*s is too long", SLF(name));
    buf_done(&value);
    return rc;
}

/* The value of a parameter.  A condition looks at its text before expansion,
 * as Postfix does. */
/* NOLINTNEXTLINE(misc-no-recursion): depth is capped in expand() */
static int put_parameter(struct expander *x, slice name,
                         const struct branches *b, struct buf *out,
                         unsigned depth)
{
    struct buf scratch;
    const char *raw;
    int rc;

    buf_init(&scratch, CONF_MAX_VALUE);
    raw = conf_raw_into(x->c, x->service, name, &scratch);
    if (raw == NULL)
        raw = "";
    if (b->kind != 0)
        rc = expand_branch(x, b, raw[0] != '\0', out, depth);
    else
        rc = expand(x, slice_str(raw), out, depth + 1);
    buf_done(&scratch);
    return rc;
}

/* The inside of ${...} or $(...), or a bare name. */
/* NOLINTNEXTLINE(misc-no-recursion): depth is capped in expand() */
static int expand_reference(struct expander *x, slice inside, struct buf *out,
                            unsigned depth)
{
    struct branches b;
    slice s = skip_space(inside);
    slice name;
    size_t n;

    if (++x->steps > CONF_MAX_STEPS)
        return err_perm(x->err, "more than %d names to expand", CONF_MAX_STEPS);
    if (starts_braced(s))
        return expand_comparison(x, s, out, depth);
    n = name_length(s);
    if (s.n == 0)
        return err_perm(x->err, "empty name in ${}");
    if (n == 0)
        return syntax(x, "name syntax error", s);
    name = slice_sub(s, 0, n);
    s = skip_space(slice_from(s, n));
    if (s.n > 0 && s.p[0] != '?' && s.p[0] != ':')
        return syntax(x, "name syntax error", s);
    if (parse_branches(x, s, &b) < 0)
        return -1;
    if (x->lookup != NULL)
        return put_foreign(x, name, &b, out, depth);
    return put_parameter(x, name, &b, out, depth);
}

/* s stands behind a '$': the inside of the reference and what it takes up;
 * NULL, or what is wrong. */
static const char *parse_dollar(slice s, slice *inside, size_t *taken)
{
    size_t n;

    if (s.n > 0 && (s.p[0] == '{' || s.p[0] == '(')) {
        n = balanced_length(s, s.p[0], s.p[0] == '{' ? '}' : ')');
        if (n == 0)
            return "truncated ${ reference";
        *inside = slice_sub(s, 1, n - 2);
        *taken = n;
        return NULL;
    }
    n = name_length(s);
    if (n == 0)
        return "empty name behind $ (write $$ for a dollar)";
    *inside = slice_sub(s, 0, n);
    *taken = n;
    return NULL;
}

/* NOLINTNEXTLINE(misc-no-recursion): depth is capped */
static int expand(struct expander *x, slice text, struct buf *out,
                  unsigned depth)
{
    if (depth > CONF_MAX_DEPTH)
        return err_perm(x->err,
                        "more than %d names and braces in each other: "
                        "does \"%.*s\" name itself?",
                        CONF_MAX_DEPTH, (int)min_size(text.n, 60),
                        text.n > 0 ? text.p : "");
    while (text.n > 0) {
        ssize_t at = slice_chr(text, '$');
        const char *wrong;
        slice inside;
        size_t taken;

        if (at < 0) {
            buf_slice(out, text);
            break;
        }
        buf_slice(out, slice_sub(text, 0, (size_t)at));
        text = slice_from(text, (size_t)at + 1);
        if (text.n > 0 && text.p[0] == '$') {
            buf_byte(out, '$');
            text = slice_from(text, 1);
            continue;
        }
        wrong = parse_dollar(text, &inside, &taken);
        if (wrong != NULL)
            return syntax(x, wrong, text);
        if (expand_reference(x, inside, out, depth) < 0)
            return -1;
        text = slice_from(text, taken);
    }
    if (out->overflow)
        return err_perm(x->err, "the expanded value is longer than %u bytes",
                        CONF_MAX_VALUE);
    return 0;
}

int conf_expand(const struct conf *c, const struct conf_service *service,
                slice text, struct buf *out, struct err *err)
{
    struct expander x = { .c = c, .service = service, .err = err };

    return expand(&x, text, out, 0);
}

int conf_expand_with(slice text, conf_lookup_fn *lookup, void *ctx,
                     struct buf *out, struct err *err)
{
    struct expander x = { .lookup = lookup, .ctx = ctx, .err = err };

    return expand(&x, text, out, 0);
}

int conf_expand_filtered(slice text, conf_lookup_fn *lookup, void *ctx,
                         const char *filter, struct buf *out, struct err *err)
{
    struct expander x = {
        .lookup = lookup, .ctx = ctx, .filter = filter, .err = err
    };

    return expand(&x, text, out, 0);
}

/* Every name behind a $ or ${ or $(, wherever it stands. */
void conf_each_reference(slice text, conf_ref_fn *fn, void *ctx)
{
    for (size_t i = 0; i + 1 < text.n; i++) {
        slice s;
        size_t n;

        if (text.p[i] != '$')
            continue;
        if (text.p[i + 1] == '$') {
            i++;
            continue;
        }
        s = slice_from(text, i + 1);
        if (s.n > 0 && (s.p[0] == '{' || s.p[0] == '('))
            s = skip_space(slice_from(s, 1));
        n = name_length(s);
        if (n > 0)
            fn(ctx, slice_sub(s, 0, n));
    }
}
