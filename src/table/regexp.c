#define PCRE2_CODE_UNIT_WIDTH 8
#include "table/table_priv.h"

#include <pcre2.h>

/*
 * regexp_table(5) and pcre_table(5): rules in order, the first that matches
 * answers; IF and ENDIF; !pattern; $1 in the result.  A rule that is wrong is
 * left out with a warning, as in Postfix.
 *
 * Both kinds run under PCRE2 with a match limit (invariant 6 of table.h), so
 * that a pattern cannot hold the process for long.
 */

#define REGEXP_NESTING 64
#define REGEXP_RULES   200000

enum rule_kind { RULE_MATCH, RULE_IF, RULE_ENDIF };

struct rule {
    enum rule_kind kind;
    bool negated;
    unsigned line;
    unsigned depth;     /* of IFs around it */
    pcre2_code *code;   /* NULL for ENDIF */
    pcre2_code *second; /* regexp: /a/!/b/; always negated */
    slice result;       /* raw */
    unsigned max_sub;   /* highest $n; 0 none */
    bool has_dollar;    /* result must be expanded */
};

struct rules {
    struct rule *v;
    size_t n;
    size_t size;
    struct arena *arena;
    pcre2_match_data *match;
    pcre2_match_context *limits;
};

/* One /pattern/flags as written. */
struct pattern {
    slice text;
    bool negated;
    uint32_t options;
    bool is_extended; /* regexp only */
    bool newline;     /* regexp only */
};

struct reading {
    struct table *t;
    struct rules *rules;
    unsigned line;
    unsigned depth;
    unsigned if_lines[REGEXP_NESTING];
    bool is_pcre;
};

static void warn(struct reading *r, const char *fmt, ...) PRINTF(2, 3);

static void warn(struct reading *r, const char *fmt, ...)
{
    char text[300];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    table_warn(r->t, "%s map %.*s, line %u: %s", r->t->ops->type,
               SLF(r->t->name), r->line, text);
}

static void warn_line(void *ctx, unsigned line, const char *text)
{
    struct reading *r = ctx;

    r->line = line;
    warn(r, "%s", text);
}

/* ------------------------------------------------------------------ *
 * Reading a rule
 */

static bool pcre_option(struct pattern *p, char c)
{
    switch (c) {
    case 'i':
        p->options ^= PCRE2_CASELESS;
        return true;
    case 'm':
        p->options ^= PCRE2_MULTILINE;
        return true;
    case 's':
        p->options ^= PCRE2_DOTALL;
        return true;
    case 'x':
        p->options ^= PCRE2_EXTENDED;
        return true;
    case 'A':
        p->options ^= PCRE2_ANCHORED;
        return true;
    case 'E':
        p->options ^= PCRE2_DOLLAR_ENDONLY;
        return true;
    case 'U':
        p->options ^= PCRE2_UNGREEDY;
        return true;
    case 'X': /* PCRE_EXTRA: what PCRE2 always does */
        return true;
    default:
        return false;
    }
}

static bool regexp_option(struct pattern *p, char c)
{
    switch (c) {
    case 'i':
        p->options ^= PCRE2_CASELESS;
        return true;
    case 'm':
        p->newline = !p->newline;
        return true;
    case 'x':
        p->is_extended = !p->is_extended;
        return true;
    default:
        return false;
    }
}

/* Length of the text up to the closing delimiter, or -1. */
static ssize_t find_delimiter(slice s, char delimiter)
{
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] == '\\')
            i++;
        else if (s.p[i] == delimiter)
            return (ssize_t)i;
    }
    return -1;
}

/* Take `[!]/pattern/flags` off the front of *in; false with a warning. */
static bool pattern_take(struct reading *r, slice *in, struct pattern *p)
{
    char delimiter;
    ssize_t n;

    *p = (struct pattern){ .is_extended = true };
    p->options = r->is_pcre ? PCRE2_CASELESS | PCRE2_DOTALL : PCRE2_CASELESS;
    while (in->n > 0 && (in->p[0] == '!' || ascii_isspace(in->p[0]))) {
        if (in->p[0] == '!')
            p->negated = !p->negated;
        *in = slice_from(*in, 1);
    }
    if (in->n == 0) {
        warn(r, "no regexp: skipping this rule");
        return false;
    }
    delimiter = in->p[0];
    *in = slice_from(*in, 1);
    n = find_delimiter(*in, delimiter);
    if (n < 0) {
        warn(r, "no closing regexp delimiter \"%c\": skipping this rule",
             delimiter);
        return false;
    }
    p->text = slice_sub(*in, 0, (size_t)n);
    *in = slice_from(*in, (size_t)n + 1);
    while (in->n > 0 && !ascii_isspace(in->p[0]) && in->p[0] != '!') {
        char c = in->p[0];

        if (!(r->is_pcre ? pcre_option(p, c) : regexp_option(p, c))) {
            warn(r, "unknown regexp option \"%c\": skipping this rule", c);
            return false;
        }
        *in = slice_from(*in, 1);
    }
    return true;
}

static bool regexp_translate(struct reading *r, struct pattern *p,
                             struct buf *out)
{
    const char *why = "";
    unsigned flags = 0;

    if (p->is_extended)
        flags |= POSIX_EXTENDED;
    if (p->newline)
        flags |= POSIX_NEWLINE;
    if ((p->options & PCRE2_CASELESS) != 0)
        flags |= POSIX_ICASE;
    if (!posix_to_pcre(p->text, flags, out, &why)) {
        warn(r, "error in regexp \"%.*s\": %s: skipping this rule",
             SLF(slice_sub(p->text, 0, 100)), why);
        return false;
    }
    /* $ is the very end for POSIX, and . takes a newline, unless REG_NEWLINE.
     */
    p->options |=
        p->newline ? PCRE2_MULTILINE : PCRE2_DOTALL | PCRE2_DOLLAR_ENDONLY;
    return true;
}

static pcre2_code *pattern_compile(struct reading *r, struct pattern *p)
{
    struct buf posix CLEANUP(buf_done);
    slice text = p->text;
    PCRE2_SIZE where;
    pcre2_code *code;
    int code_error;

    buf_init(&posix, 1u << 20);
    if (!r->is_pcre) {
        if (!regexp_translate(r, p, &posix))
            return NULL;
        text = buf_view(&posix);
    }
    code = pcre2_compile((PCRE2_SPTR)(text.n > 0 ? text.p : ""), text.n,
                         p->options | PCRE2_NEVER_BACKSLASH_C, &code_error,
                         &where, NULL);
    if (code == NULL) {
        char message[160];

        (void)pcre2_get_error_message(code_error, (PCRE2_UCHAR *)message,
                                      sizeof(message));
        warn(r, "error in regex at offset %zu: %s: skipping this rule", where,
             message);
    }
    return code;
}

/* Next piece of a result: a literal (name.n 0) or a $name.  1 got one, 0 the
 * end, -1 bad syntax (mac_parse(3)). */
static int result_next(slice *in, slice *literal, slice *name)
{
    size_t n = 0;
    char close;
    ssize_t end;

    *literal = SLICE_NONE;
    *name = SLICE_NONE;
    if (in->n == 0)
        return 0;
    while (n < in->n && in->p[n] != '$')
        n++;
    if (n > 0) {
        *literal = slice_sub(*in, 0, n);
        *in = slice_from(*in, n);
        return 1;
    }
    if (in->n < 2)
        return -1;
    if (in->p[1] == '$') {
        *literal = slice_sub(*in, 0, 1);
        *in = slice_from(*in, 2);
        return 1;
    }
    if (in->p[1] == '{' || in->p[1] == '(') {
        close = in->p[1] == '{' ? '}' : ')';
        end = slice_chr(*in, close);
        if (end < 0)
            return -1;
        *name = slice_sub(*in, 2, (size_t)end - 2);
        *in = slice_from(*in, (size_t)end + 1);
        return name->n > 0 ? 1 : -1;
    }
    for (n = 1; n < in->n && (ascii_isalnum(in->p[n]) || in->p[n] == '_'); n++)
        ;
    *name = slice_sub(*in, 1, n - 1);
    *in = slice_from(*in, n);
    return name->n > 0 ? 1 : -1;
}

static bool result_scan(struct reading *r, struct rule *rule)
{
    slice rest = rule->result;
    slice literal;
    slice name;
    int rc;

    while ((rc = result_next(&rest, &literal, &name)) > 0) {
        uint64_t index;

        rule->has_dollar = true;
        if (name.n == 0)
            continue;
        if (!slice_u64(name, &index)) {
            warn(r, "non-numeric replacement index \"%.*s\"", SLF(name));
            rc = -1;
            break;
        }
        if (index < 1 || index > 65535) {
            warn(r, "out of range replacement index \"%.*s\"", SLF(name));
            rc = -1;
            break;
        }
        if (index > rule->max_sub)
            rule->max_sub = (unsigned)index;
    }
    if (rc < 0)
        warn(r, "bad replacement syntax: skipping this rule");
    return rc == 0;
}

static void rule_free(struct rule *rule)
{
    pcre2_code_free(rule->code);
    pcre2_code_free(rule->second);
}

static bool rule_add(struct reading *r, struct rule *rule)
{
    struct rules *rules = r->rules;

    if (rules->n == REGEXP_RULES) {
        warn(r, "too many rules: skipping this rule");
        return false;
    }
    if (rules->n == rules->size) {
        rules->size = rules->size == 0 ? 16 : rules->size * 2;
        rules->v = xrealloc(rules->v, rules->size * sizeof(struct rule));
    }
    rule->line = r->line;
    rule->depth = r->depth;
    rules->v[rules->n++] = *rule;
    return true;
}

/* A result with more groups than the pattern has, or none at all to take. */
static bool groups_fit(struct reading *r, const struct rule *rule)
{
    uint32_t n_groups = 0;

    if (rule->max_sub == 0)
        return true;
    if (rule->negated) {
        warn(r, "$number found in negative match replacement text: skipping "
                "this rule");
        return false;
    }
    (void)pcre2_pattern_info(rule->code, PCRE2_INFO_CAPTURECOUNT, &n_groups);
    if (rule->max_sub > n_groups) {
        warn(r, "out of range replacement index \"%u\": skipping this rule",
             rule->max_sub);
        return false;
    }
    return true;
}

static void read_match(struct reading *r, slice text)
{
    struct rule rule = { .kind = RULE_MATCH };
    struct pattern first;
    struct pattern second;
    bool has_second = false;
    bool ok;

    if (!pattern_take(r, &text, &first))
        return;
    rule.negated = first.negated;
    if (!r->is_pcre && text.n > 0 && text.p[0] == '!') {
        warn(r, "/pattern1/!/pattern2/ goes away, use \"if !/pattern2/ ... "
                "/pattern1/ ... endif\" instead");
        if (!pattern_take(r, &text, &second))
            return;
        has_second = true;
    } else if (text.n > 0 && !ascii_isspace(text.p[0])) {
        warn(r, "unknown regexp option \"%c\": skipping this rule", text.p[0]);
        return;
    }
    rule.result = slice_trim(text);
    if (rule.result.n == 0)
        warn(r, "no replacement text: using empty string");
    rule.result = slice_dup(r->rules->arena, rule.result);
    if (!result_scan(r, &rule))
        return;
    rule.code = pattern_compile(r, &first);
    if (rule.code == NULL)
        return;
    ok = groups_fit(r, &rule);
    if (ok && has_second) {
        rule.second = pattern_compile(r, &second);
        ok = rule.second != NULL;
    }
    if (!ok || !rule_add(r, &rule))
        rule_free(&rule);
}

static void read_if(struct reading *r, slice text)
{
    struct rule rule = { .kind = RULE_IF };
    struct pattern p;

    text = slice_trim(text);
    if (!pattern_take(r, &text, &p))
        return;
    text = slice_trim(text);
    if (text.n > 0) {
        warn(r, "ignoring extra text after IF statement: \"%.*s\"",
             SLF(slice_sub(text, 0, 100)));
        warn(r, "do not prepend whitespace to statements between IF and ENDIF");
    }
    if (r->depth == REGEXP_NESTING) {
        warn(r, "IFs nested too deep: skipping this rule");
        return;
    }
    rule.negated = p.negated;
    rule.code = pattern_compile(r, &p);
    if (rule.code == NULL)
        return;
    if (!rule_add(r, &rule)) {
        rule_free(&rule);
        return;
    }
    r->if_lines[r->depth++] = r->line;
}

static void read_endif(struct reading *r, slice text)
{
    struct rule rule = { .kind = RULE_ENDIF };

    text = slice_trim(text);
    if (r->depth == 0) {
        warn(r, "ignoring ENDIF without matching IF");
        return;
    }
    if (text.n > 0)
        warn(r, "ignoring extra text after ENDIF: \"%.*s\"",
             SLF(slice_sub(text, 0, 100)));
    r->depth--;
    (void)rule_add(r, &rule);
}

static bool is_word(slice text, const char *word, size_t n)
{
    return text.n >= n && slice_ieqs(slice_sub(text, 0, n), word) &&
           (text.n == n || !ascii_isalnum(text.p[n]));
}

static void read_line(struct reading *r, slice text)
{
    if (!ascii_isalnum(text.p[0]))
        read_match(r, text);
    else if (is_word(text, "if", 2))
        read_if(r, slice_from(text, 2));
    else if (is_word(text, "endif", 5))
        read_endif(r, slice_from(text, 5));
    else
        warn(r, "ignoring unrecognized request");
}

static void rules_free(void *data)
{
    struct rules *rules = data;

    for (size_t i = 0; i < rules->n; i++)
        rule_free(&rules->v[i]);
    free(rules->v);
    arena_free(&rules->arena);
    pcre2_match_data_free(rules->match);
    pcre2_match_context_free(rules->limits);
    free(rules);
}

static int rules_load(struct table *t, slice text, void **out, struct err *err)
{
    struct reading *r = xcalloc(1, sizeof(*r));
    struct rules *rules = xcalloc(1, sizeof(*rules));
    struct source s;
    unsigned line;
    slice logical;

    (void)err;
    r->t = t;
    r->rules = rules;
    r->is_pcre = slice_eqs(t->type, "pcre");
    rules->arena = arena_new((size_t)2 * TABLE_SOURCE_MAX);
    source_init(&s, text);
    s.warn = warn_line;
    s.ctx = r;
    while (source_next(&s, &logical, &line)) {
        r->line = line;
        read_line(r, slice_trim(logical));
    }
    source_done(&s);
    while (r->depth > 0) {
        r->line = r->if_lines[--r->depth];
        warn(r, "IF has no matching ENDIF");
    }
    free(r);
    rules->match = pcre2_match_data_create(100, NULL);
    rules->limits = pcre2_match_context_create(NULL);
    CHECK(rules->match != NULL && rules->limits != NULL);
    (void)pcre2_set_match_limit(rules->limits, TABLE_MATCH_MAX);
    (void)pcre2_set_heap_limit(rules->limits, 64u << 10);
    *out = rules;
    return 0;
}

/* ------------------------------------------------------------------ *
 * Lookup
 */

/* 1 matches, 0 does not, -1 trouble. */
static int code_match(const struct table *t, const struct rules *rules,
                      const struct rule *rule, const pcre2_code *code,
                      slice key, struct err *err)
{
    int rc = pcre2_match(code, (PCRE2_SPTR)key.p, key.n, 0, 0, rules->match,
                         rules->limits);
    char message[120];

    if (rc >= 0)
        return 1;
    if (rc == PCRE2_ERROR_NOMATCH)
        return 0;
    (void)pcre2_get_error_message(rc, (PCRE2_UCHAR *)message, sizeof(message));
    return err_temp(err, "%s map %.*s, line %u: %s", t->ops->type, SLF(t->name),
                    rule->line, message);
}

static int rule_match(const struct table *t, const struct rules *rules,
                      const struct rule *rule, slice key, struct err *err)
{
    int rc = code_match(t, rules, rule, rule->code, key, err);

    if (rc < 0)
        return -1;
    if ((rc == 1) == rule->negated)
        return 0;
    if (rule->second == NULL)
        return 1;
    rc = code_match(t, rules, rule, rule->second, key, err);
    if (rc != 0)
        return rc < 0 ? -1 : 0;
    /* The second one has overwritten the groups. */
    return code_match(t, rules, rule, rule->code, key, err);
}

static int rule_expand(struct table *t, const struct rule *rule, slice key,
                       struct arena *a, slice *value, struct err *err)
{
    const struct rules *rules = t->data;
    const PCRE2_SIZE *at = pcre2_get_ovector_pointer(rules->match);
    uint32_t n_pairs = pcre2_get_ovector_count(rules->match);
    struct buf out CLEANUP(buf_done);
    slice rest = rule->result;
    slice literal;
    slice name;

    buf_init(&out, TABLE_VALUE_MAX);
    while (result_next(&rest, &literal, &name) > 0) {
        uint64_t i = 0;

        buf_slice(&out, literal);
        if (name.n == 0 || !slice_u64(name, &i) || i >= n_pairs ||
            at[2 * i] == PCRE2_UNSET)
            continue;
        buf_put(&out, key.p + at[2 * i], at[2 * i + 1] - at[2 * i]);
    }
    if (out.overflow)
        return err_temp(err, "%s: value too long", t->whole);
    *value = slice_dup(a, buf_view(&out));
    if (value->p == NULL)
        return err_temp(err, "%s: no memory for the value", t->whole);
    return 0;
}

static int rules_lookup(struct table *t, slice key, unsigned flags,
                        struct arena *a, slice *value, struct err *err)
{
    const struct rules *rules = t->data;
    unsigned depth = 0; /* of IFs that hold */

    *value = SLICE_NONE;
    for (size_t i = 0; i < rules->n; i++) {
        const struct rule *rule = &rules->v[i];
        int rc;

        if (rule->depth > depth)
            continue; /* inside an IF that does not hold */
        if (rule->kind == RULE_ENDIF) {
            depth = rule->depth;
            continue;
        }
        depth = rule->depth;
        if (rule->max_sub > 0 && (flags & TABLE_NO_REGSUB) != 0)
            continue;
        rc = rule_match(t, rules, rule, key, err);
        if (rc < 0)
            return -1;
        if (rc == 0)
            continue;
        if (rule->kind == RULE_MATCH)
            return rule_expand(t, rule, key, a, value, err);
        depth = rule->depth + 1;
    }
    return 0;
}

const struct table_ops table_ops_regexp = {
    .type = "regexp",
    .kind = TABLE_SOURCE,
    .load = rules_load,
    .lookup = rules_lookup,
    .free = rules_free,
};

const struct table_ops table_ops_pcre = {
    .type = "pcre",
    .kind = TABLE_SOURCE,
    .load = rules_load,
    .lookup = rules_lookup,
    .free = rules_free,
};
