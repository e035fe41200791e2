#ifndef CONF_CONF_H
#define CONF_CONF_H

/*
 * conf - main.cf, master.cf and the registry of every parameter.
 *
 * A `struct conf` is an immutable snapshot: the bytes of main.cf and master.cf
 * plus the facts of the system they depend on (host name, interface addresses,
 * list files such as `mydestination = /path`, the first line of /etc/mailname,
 * the port numbers of services).  Everything else is computed from these bytes
 * by pure code, so master reads the files once (conf_load), hands the snapshot
 * to its children as bytes (conf_to_bytes, in a memfd), and a sandboxed child
 * makes the same snapshot of it (conf_from_bytes) without opening a file.
 *
 * Used by master, all commands, and every process for its parameters.
 *
 * A parameter is looked up by name for a service (a line of master.cf) or for
 * none (NULL): the service's `-o name=value` win over main.cf, main.cf over
 * the default, and `$name` in a value is looked up by the same rule.  Results
 * belong to the snapshot and live as long as it.
 *
 * The registry (params.def) declares each parameter once: name, type, default,
 * range, meaning, and its state: honoured, without effect (and why that is
 * harmless), or refused as not yet done; rules per value refine the state.  A
 * default value is always accepted.
 *
 * Invariants: (1) a snapshot never changes once it is made; what a lookup
 * caches can not be seen from outside; (2) a lookup never fails: a value that
 * does not parse has been reported by conf_check(), and a caller who goes on
 * nevertheless gets the default; (3) the same bytes give the same answers in
 * every process; (4) expansion and every list are bounded in depth and size.
 *
 * What blocks: conf_load() and the conf_edit_*() functions read and write
 * files, conf_port() may read the system's services table.  They are for
 * master, commands and tests.  Nothing else waits or opens anything.
 */
#include "base/base.h"

struct conf;

/* ------------------------------------------------------------------ *
 * Diagnostics
 */
enum conf_severity {
    CONF_WARNING,
    CONF_ERROR,
};

struct conf_diag {
    enum conf_severity severity;
    const char *file; /* never NULL; "" when no file is to blame */
    int line;         /* 0 when none */
    const char *text; /* what is wrong, one sentence */
    const char *cure; /* what to write instead; "" when that is plain */
};

/* A list of diagnostics; it owns its texts.  At most CONF_MAX_DIAGS are kept,
 * the numbers go on counting. */
#define CONF_MAX_DIAGS 500

struct conf_diags {
    struct conf_diag *v;
    size_t n;
    size_t n_errors;
    size_t n_warnings;
    size_t size;
    struct arena *arena;
};

void conf_diags_init(struct conf_diags *d);
void conf_diags_done(struct conf_diags *d); /* fine on a zeroed struct */
/* "file:12: error: text (cure)\n" for each, errors and warnings in order. */
void conf_diags_print(const struct conf_diags *d, struct buf *out);
/* Others (master opening tables, `hato check`) add theirs. */
void conf_diags_add(struct conf_diags *d, enum conf_severity severity,
                    const char *file, int line, const char *cure,
                    const char *fmt, ...) PRINTF(6, 7);

/* ------------------------------------------------------------------ *
 * The snapshot
 */

/* The directory to use: `arg` (of -c) if not NULL, else $MAIL_CONFIG, else the
 * built-in /etc/hato.  Never NULL. */
const char *conf_dir_default(const char *arg);

/* Read `dir`/main.cf, `dir`/master.cf and the facts (blocking).  -1 only when a
 * file cannot be read; what is wrong inside is added to `diags` (syntax here,
 * everything else by conf_check()) and a snapshot is made all the same.  A
 * missing master.cf is an error unless `main_only`.  Give back with
 * conf_unref(). */
#define CONF_MAIN_ONLY 1 /* commands that need no services */
int conf_load(const char *dir, unsigned flags, struct conf **out,
              struct conf_diags *diags, struct err *err);

/* For tests and fuzzers: a snapshot of texts, with the neutral facts of an
 * invented host ("hato.example.com", 127.0.0.1/8 and ::1/128).  Never fails;
 * `diags` may be NULL. */
struct conf *conf_from_text(slice main_cf, slice master_cf,
                            struct conf_diags *diags);

/* Serialise; CONF_MAX_BYTES bounds both ways.  conf_from_bytes() fails on
 * damaged bytes only. */
#define CONF_MAX_BYTES (16u << 20)
int conf_to_bytes(const struct conf *c, struct buf *out, struct err *err);
int conf_from_bytes(slice bytes, struct conf **out, struct err *err);

struct conf *conf_ref(struct conf *c);
void conf_unref(struct conf **c); /* NULL is fine; *c = NULL */

const char *conf_dir(const struct conf *c); /* where main.cf lies */
/* One line for the panic dump and the status command. */
void conf_dump(const struct conf *c, struct buf *out);

/* Everything that can be found wrong without opening tables: unknown names
 * (with the nearest known one), values out of type or range, values that are
 * refused or warned about, services with unknown commands, directories of
 * Postfix.  True when there is no error.  May look at directories named in the
 * configuration when `look` is set (blocking stat calls). */
bool conf_check(const struct conf *c, bool look, struct conf_diags *diags);

/* ------------------------------------------------------------------ *
 * Services: the lines of master.cf
 */
enum conf_service_type {
    CONF_INET,
    CONF_UNIX,
    CONF_UNIX_DGRAM,
    CONF_FIFO,
    CONF_PASS,
};

struct conf_override { /* -o name=value, -o { name = value } */
    const char *name;
    const char *value; /* unexpanded */
};

#define CONF_MAXPROC_DEFAULT (-1) /* "-" in master.cf */

struct conf_service {
    size_t index; /* conf_service_at() */
    const char
        *name; /* first column: "smtp", "127.0.0.1:submission", "local" */
    enum conf_service_type type;
    bool is_private;
    bool is_unpriv;
    bool is_chroot;
    int wakeup_sec;      /* 0 never */
    bool wakeup_if_used; /* "1000?" */
    int maxproc; /* CONF_MAXPROC_DEFAULT, 0 = no limit, else the number */
    const char *command;     /* "smtpd" */
    const char *const *args; /* words behind the command but for -o's and -v's;
                              * {} taken off; unexpanded; NULL at the end */
    size_t n_args;
    int verbose; /* number of -v */
    const struct conf_override *overrides;
    size_t n_overrides;
    const char *host; /* CONF_INET: "" = as inet_interfaces says */
    uint16_t port;    /* CONF_INET: 0 when the name is unknown (an error of
                       * conf_check()) */
    const char *file;
    int line;
};

size_t conf_service_count(const struct conf *c);
const struct conf_service *conf_service_at(const struct conf *c, size_t index);
/* By name and, when type is not NULL, "inet", "unix", ...; NULL when absent. */
const struct conf_service *conf_service_find(const struct conf *c,
                                             const char *name,
                                             const char *type);
const char *conf_service_type_name(enum conf_service_type type);

/* A port by number or by name: known_tcp_ports, then the system's services
 * table (blocking; only by name).  False when unknown. */
bool conf_port(const struct conf *c, slice name, uint16_t *out);

/* ------------------------------------------------------------------ *
 * Parameters.  `service` may be NULL.  The unset and the empty value are the
 * same thing: "".
 */

/* The value, expanded.  For a name that is neither set nor declared: "" (use
 * conf_is_set() to tell).  A parameter whose type is `raw` (forward_path,
 * luser_relay, mailbox_command, default_rbl_reply ...: its $names belong to
 * the delivery) comes unexpanded; its user expands it with conf_expand(). */
const char *conf_str(const struct conf *c, const struct conf_service *service,
                     const char *name);
slice conf_slice(const struct conf *c, const struct conf_service *service,
                 const char *name);
int64_t conf_int(const struct conf *c, const struct conf_service *service,
                 const char *name);
bool conf_bool(const struct conf *c, const struct conf_service *service,
               const char *name);
/* Seconds, whatever the unit in the file. */
int64_t conf_time(const struct conf *c, const struct conf_service *service,
                  const char *name);
/* Bytes (plain integers in main.cf; 0 often means "no limit", see the
 * parameter). */
uint64_t conf_size(const struct conf *c, const struct conf_service *service,
                   const char *name);

/* Written in main.cf or by the service (even when empty). */
bool conf_is_set(const struct conf *c, const struct conf_service *service,
                 const char *name);
/* As written, or the default's text; NULL when neither set nor declared. */
const char *conf_raw(const struct conf *c, const struct conf_service *service,
                     const char *name);
/* Where it is set: line 0 and "" when it has its default. */
void conf_where(const struct conf *c, const struct conf_service *service,
                const char *name, const char **file, int *line);

/* Per-destination families: "<transport>_destination_concurrency_limit" where
 * set, else the default_ one (or the registry's, e.g. local's 2).  `suffix`
 * starts behind the transport's name: "_destination_concurrency_limit". */
int64_t conf_transport_int(const struct conf *c, const char *transport,
                           const char *suffix);
int64_t conf_transport_time(const struct conf *c, const char *transport,
                            const char *suffix);

/* myhostname, mydomain and myorigin have defaults that are computed; mynetworks
 * without a value comes from mynetworks_style and the interfaces.  conf_str()
 * gives all of them ready. */

/* conf_compat(c, 3, 6): compatibility_level is at least 3.6. */
bool conf_compat(const struct conf *c, int major, int minor);

/* ------------------------------------------------------------------ *
 * The language, for those who must apply it themselves
 */

/* Expand `text` ($x ${x} $(x) ${x?a} ${x:b} ${x?{a}:{b}} ${{a} op {b} ? {c} :
 * {d}}, $$ is a dollar) into out.  `lookup` gives the value of a name, already
 * a final text, or false when it is not set; with lookup NULL the parameters
 * of `c` and `service`, recursively.  ERR_PERM on a syntax error or when too
 * deep or too long. */
typedef bool conf_lookup_fn(void *ctx, slice name, struct buf *out);
int conf_expand(const struct conf *c, const struct conf_service *service,
                slice text, struct buf *out, struct err *err);
int conf_expand_with(slice text, conf_lookup_fn *lookup, void *ctx,
                     struct buf *out, struct err *err);
/* As above, but of what lookup gives, every byte not in `filter` becomes '_'
 * (command_expansion_filter and its like). */
int conf_expand_filtered(slice text, conf_lookup_fn *lookup, void *ctx,
                         const char *filter, struct buf *out, struct err *err);

/* Next element of a list separated by commas and white space; a { } group is
 * one element and comes with its braces.  False at the end.  Moves *rest. */
bool conf_list_next(slice *rest, slice *item);
/* An element with outer { } taken off and trimmed, else as it is. */
slice conf_list_unbrace(slice item);

/* A match list (mydestination, mynetworks, relay_domains, ...): files named by
 * /path are read into it, "!" is negation, type:name is a table. */
struct conf_item {
    bool negated;
    bool is_table; /* text is "type:name" */
    slice text;    /* without the "!" */
};

struct conf_items {
    const struct conf_item *v;
    size_t n;
};
struct conf_items conf_match_list(const struct conf *c,
                                  const struct conf_service *service,
                                  const char *name);

/* "type:name" with a known type (hash, lmdb, btree, texthash, inline, static,
 * regexp, pcre, cidr, unix, proxy, ldap, ... ): true and its two parts.  A
 * "proxy:" in front is passed over.  */
bool conf_split_table(slice text, slice *type, slice *name);

/* ------------------------------------------------------------------ *
 * Addresses of this machine, from the snapshot's facts
 */
struct conf_addr {
    bool is_v6;
    uint8_t bits;   /* length of the network's prefix; 32 or 128 when unknown */
    uint8_t ip[16]; /* 4 bytes used for IPv4 */
};

/* The addresses to bind for an inet service: its host, else inet_interfaces
 * ("all" gives the wildcards), of the protocols in inet_protocols.  Returns
 * the number written, at most max. */
size_t conf_listen_addrs(const struct conf *c,
                         const struct conf_service *service,
                         struct conf_addr *out, size_t max);
/* The machine's own addresses as inet_interfaces limits them, and those of
 * proxy_interfaces when with_proxy is set: what user@[address] is local for. */
size_t conf_own_addrs(const struct conf *c, bool with_proxy,
                      struct conf_addr *out, size_t max);

/* ------------------------------------------------------------------ *
 * Tables
 */
struct conf_table_ref {
    slice type;        /* "hash" */
    slice name;        /* "/etc/aliases", "{ a = b }", "all" ... */
    const char *param; /* the parameter that names it */
    const struct conf_service *service; /* NULL: main.cf */
    const char *file;                   /* where it stands */
    int line;
};

typedef void conf_table_fn(void *ctx, const struct conf_table_ref *ref);
/* Each table named by any table-valued parameter, match list or restriction
 * list (check_*_access and restriction classes too), of main.cf and of each
 * service's overrides.  A table named twice comes twice. */
void conf_each_table(const struct conf *c, conf_table_fn *fn, void *ctx);

/* ------------------------------------------------------------------ *
 * The registry
 */
enum conf_type {
    CONF_T_STRING,
    CONF_T_RAW, /* a string that its user expands */
    CONF_T_BOOL,
    CONF_T_INT,
    CONF_T_SIZE, /* a count of bytes, up to 63 bits */
    CONF_T_TIME,
    CONF_T_ENUM,   /* one word of `values` */
    CONF_T_LIST,   /* words */
    CONF_T_MATCH,  /* match list: patterns, files, tables, ! */
    CONF_T_TABLES, /* type:name ... */
    CONF_T_RESTRICTIONS,
    CONF_T_PATH,
};

enum conf_state {
    CONF_HONOURED,  /* works, and a test names it */
    CONF_NO_EFFECT, /* accepted; `note` says why that is harmless */
    CONF_REFUSED,   /* not done yet: only the default is accepted, or what the
                     * rules allow */
};

struct conf_param {
    const char *name;
    enum conf_type type;
    enum conf_state state;
    bool is_reloadable; /* else: needs a restart */
    bool is_ours;       /* not a name of Postfix */
    char unit;          /* of CONF_T_TIME: s m h d w; else 0 */
    int64_t min;        /* of numbers; INT64_MIN and INT64_MAX: none */
    int64_t max;
    const char *def;     /* text of the default */
    const char *values;  /* of CONF_T_ENUM: "a b c"; else "" */
    const char *rules;   /* per value, see params.def; "" */
    const char *meaning; /* one line */
    const char *note;    /* the reason of the state; "" */
};

size_t conf_param_count(void);
const struct conf_param *conf_param_at(size_t i);     /* in order of names */
const struct conf_param *conf_param_find(slice name); /* declared, or NULL */
/* The nearest declared name, or NULL when none is near. */
const char *conf_param_nearest(const struct conf *c, slice name);

struct conf_coverage {
    size_t n_names; /* of Postfix */
    size_t n_honoured;
    size_t n_no_effect;
    size_t n_refused;
    size_t n_ours;    /* further parameters, not counted above */
    unsigned percent; /* honoured or rightly without effect */
};

void conf_coverage(struct conf_coverage *out);
void conf_coverage_print(struct buf *out); /* for hato check --coverage */

/* ------------------------------------------------------------------ *
 * For the postconf command
 */
#define CONF_PRINT_DEFAULTS 1u  /* -d: defaults instead of values */
#define CONF_PRINT_CHANGED  2u  /* -n: only what main.cf sets */
#define CONF_PRINT_EXPANDED 4u  /* -x */
#define CONF_PRINT_NO_NAME  8u  /* -h */
#define CONF_PRINT_FOLD     16u /* -f */
#define CONF_PRINT_NO_VALUE 32u /* -H */
/* "name = value\n" for `name`, or for all when name is NULL.  ERR_PERM when
 * the name is not known. */
int conf_print(const struct conf *c, const char *name, unsigned flags,
               struct buf *out, struct err *err);
/* -M: lines of master.cf; `pattern` is name or name/type, NULL for all. */
int conf_print_services(const struct conf *c, const char *pattern,
                        unsigned flags, struct buf *out, struct err *err);
/* -P: "name/type/param = value". */
int conf_print_overrides(const struct conf *c, const char *pattern,
                         unsigned flags, struct buf *out, struct err *err);

/* Edit the text of main.cf, keeping comments and order (pure).  set replaces
 * the last definition and removes others, or appends; comment_out puts # in
 * front of each line of a definition; remove deletes it. */
enum conf_edit {
    CONF_EDIT_SET,         /* -e name=value */
    CONF_EDIT_COMMENT_OUT, /* -# name */
    CONF_EDIT_REMOVE,      /* -X name */
};

int conf_edit_text(slice main_cf, enum conf_edit how, slice name, slice value,
                   struct buf *out, struct err *err);
/* The same for dir/main.cf, replaced in one step (blocking). */
int conf_edit_file(const char *dir, enum conf_edit how, slice name, slice value,
                   struct err *err);

#endif
