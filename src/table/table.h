#ifndef TABLE_TABLE_H
#define TABLE_TABLE_H

/*
 * table - everything that looks something up: `type:name`, alone and in lists.
 *
 * A `struct tables` is the set of one process.  It is fed in one of two ways:
 * a daemon gives it each descriptor that master hands down (tables_give(),
 * from process_ops.on_table) and the link to the `tables` process
 * (tables_set_server()); a command, a test, and the `tables` process itself
 * let it open files where they lie (tables_set_direct()).  From the set come
 * *lists* ("hash:/a, regexp:/b": the first that has the key answers) and
 * *match lists* (mydestination, mynetworks: patterns, files, tables, !).
 *
 *     tables_new -> tables_give | tables_set_direct, tables_set_server
 *         -> table_list_new -> table_list_lookup *  -> free
 *
 * How a type is provided (table_kind()):
 *     TABLE_BUILT   hash btree dbm lmdb cdb: Postfix's source text, indexed as
 *                   one immutable cdb file in $data_directory/tables by a
 *                   short-lived child of master (build functions below)
 *     TABLE_SOURCE  texthash regexp pcre cidr: the source is handed down and
 *                   parsed by whoever uses it
 *     TABLE_CONF    inline static randmap unionmap pipemap fail environ
 *     TABLE_SERVED  unix passwd-file socketmap tcp: asked of `tables`
 *
 * Invariants: (1) "not found" is said only when a table was asked and did not
 * have the key; a table that is gone, broken or never came is ERR_TEMP with its
 * name in the log text, and stops its list; (2) a handle (list, match) stays
 * valid when a table's data are replaced; the next lookup sees the new data;
 * (3) what a lookup gives lies in the caller's arena; (4) keys of fixed-string
 * tables are case-folded (UTF-8 as well), keys of regexp, pcre, socketmap and
 * tcp are not; (5) nested tables (unionmap, pipemap) go TABLE_DEPTH deep;
 * (6) no stored rule or key can run a regular expression beyond PCRE2's match
 * limits: that is ERR_TEMP too.
 *
 * What waits: lookups that reach `tables` (to their deadline, 10 s).  Reading
 * sources and building block; they are for start, commands and children made
 * for it.  Nothing here writes anything but the file that is built.
 */
#include "base/base.h"
#include "conf/conf.h"

struct chan;
struct chan_ops;
struct link;
struct msg;
struct stat;

#define TABLE_DEPTH      4
#define TABLE_SOURCE_MAX (64u << 20) /* bytes of a regexp, cidr, .. file */
#define TABLE_BUILD_MAX  (1u << 30)  /* bytes of a source that is built */
#define TABLE_VALUE_MAX  (1u << 20)

/* ------------------------------------------------------------------ *
 * Types
 */
enum table_kind {
    TABLE_UNKNOWN, /* no such type */
    TABLE_NOT_YET, /* a type of Postfix that Hato has not (ldap, mysql ...) */
    TABLE_BUILT,
    TABLE_SOURCE,
    TABLE_CONF,
    TABLE_SERVED,
};
enum table_kind table_kind(slice type);
/* A served type whose file master also hands to the `tables` process
 * (passwd-file). */
bool table_is_served_file(slice type);

/* The name under which a table is kept and handed down: "type:name" without
 * "proxy:" or "debug:" in front, blanks trimmed.  False when it is no table. */
bool table_canonical(slice spec, slice *type, slice *name, slice *whole);

/* Each table that `spec` needs data for: itself, or what unionmap and pipemap
 * hold inside.  For master, on top of conf_each_table(). */
typedef void table_leaf_fn(void *ctx, slice type, slice name, slice whole);
void table_each_leaf(slice spec, table_leaf_fn *fn, void *ctx);

/* ------------------------------------------------------------------ *
 * The set of a process
 */
struct tables;
struct tables *tables_new(void);
void tables_free(struct tables **t); /* lists and matches must be gone */

/* A new version of a table's data; fd is taken over and closed.  `name` as in
 * the configuration.  On failure the table answers ERR_TEMP from now on, unless
 * it had data before: then it keeps them. */
int tables_give(struct tables *t, slice name, int fd, int64_t mtime,
                struct err *err);
/* Who owns the table's source: table_list_lookup_owned(). */
void tables_set_owner(struct tables *t, slice name, uid_t owner);
/* Ask served tables over this link (to PT_TABLES).  Not owned. */
void tables_set_server(struct tables *t, struct link *server);
/* Open what is asked for where it lies (blocking, at the first use): sources
 * by their path; built ones in `data_dir`/tables or, when they are missing or
 * older than the source (or data_dir is NULL), by reading the source; served
 * ones in this process. */
void tables_set_direct(struct tables *t, const char *data_dir);
/* Says that `whole` is in postalias format ("name: value"); needed in direct
 * mode only. */
void tables_set_alias_format(struct tables *t, slice whole);
/* Where complaints about sources go ("/etc/x, line 3: ..."); default:
 * log_warning(). */
void tables_on_warning(struct tables *t,
                       void (*fn)(void *ctx, const char *text), void *ctx);
void tables_dump(struct tables *t, struct buf *out);

/* Ask one table by its spec.  As table_list_lookup(). */
MAY_WAIT int table_lookup(struct tables *t, slice spec, slice key,
                          unsigned flags, struct arena *a, slice *value,
                          struct err *err);

/* ------------------------------------------------------------------ *
 * Lists
 */
enum {
    TABLE_FIXED_ONLY = 1, /* pass over pattern tables (regexp, pcre, cidr ...):
                           * for partial keys such as "@domain" */
    TABLE_NO_REGSUB = 2,  /* pass over pattern rules with $1 in the result */
    TABLE_NO_FOLD = 4,    /* postmap -f */
};

struct table_list;
/* Compile a list; unknown types are ERR_PERM.  Free before the set. */
int table_list_new(struct tables *t, slice specs, struct table_list **out,
                   struct err *err);
/* The list that is the value of a parameter. */
int table_list_param(struct tables *t, const struct conf *c,
                     const struct conf_service *service, const char *param,
                     struct table_list **out, struct err *err);
void table_list_free(struct table_list **l);
bool table_list_is_empty(const struct table_list *l); /* NULL is empty */
/* 0 with *value (p never NULL) when found, 0 with SLICE_NONE when not. */
MAY_WAIT int table_list_lookup(struct table_list *l, slice key, unsigned flags,
                               struct arena *a, slice *value, struct err *err);

/* The same; *owner: of the source of the table that has it, -1 when that is not
 * known. */
MAY_WAIT int table_list_lookup_owned(struct table_list *l, slice key,
                                     struct arena *a, slice *value,
                                     uid_t *owner, struct err *err);

/* Lookup of an address in Postfix's order (mail_addr_find(3)): the external
 * form user+ext@domain, user@domain, then, for a domain that is ours
 * (`is_local` says so), user+ext and user, then @domain.  `strategy` chooses.
 * *ext gets the extension (with its delimiter) that did not match, for
 * propagation. */
enum {
    TABLE_ADDR_FULL = 1,          /* user+ext@domain */
    TABLE_ADDR_NOEXT = 2,         /* user@domain */
    TABLE_ADDR_LOCAL = 4,         /* user+ext, user when the domain is local */
    TABLE_ADDR_USER_AT = 8,       /* user@ (access tables) */
    TABLE_ADDR_DOMAIN = 16,       /* domain */
    TABLE_ADDR_PARENT = 32,       /* .parent, or parent as with domains */
    TABLE_ADDR_AT_DOMAIN = 64,    /* @domain */
    TABLE_ADDR_PARENT_BARE = 128, /* parent domain written without the dot */
    TABLE_ADDR_DEFAULT = 1 | 2 | 4 | 64,
};

struct table_addr_find {
    unsigned strategy;
    slice delimiters; /* recipient_delimiter */
    bool is_local;    /* domain is $myorigin, in $mydestination, or ours */
    unsigned flags;   /* TABLE_NO_REGSUB ... */
};

MAY_WAIT int table_list_find_addr(struct table_list *l, slice internal,
                                  const struct table_addr_find *how,
                                  struct arena *a, slice *value, slice *ext,
                                  struct err *err);

/* ------------------------------------------------------------------ *
 * Match lists (conf_match_list())
 */
struct table_match;
/* `param`'s list.  parent_domain_matches_subdomains decides for this name
 * whether "domain" also matches below it. */
int table_match_new(struct tables *t, const struct conf *c,
                    const struct conf_service *service, const char *param,
                    struct table_match **out, struct err *err);
void table_match_free(struct table_match **m);
/* Whole string, without regard to case (mydestination, virtual_*_domains). */
MAY_WAIT int table_match_string(struct table_match *m, slice s, bool *out,
                                struct err *err);
/* Domain or (".domain", parents) below it (relay_domains ...). */
MAY_WAIT int table_match_domain(struct table_match *m, slice domain, bool *out,
                                struct err *err);
/* Client: host name ("unknown" never matches) and address text, against names,
 * net/mask patterns and tables (mynetworks, *_event_limit_exceptions ...). */
MAY_WAIT int table_match_client(struct table_match *m, slice name, slice ip,
                                bool *out, struct err *err);
/* "10.0.0.0/8", "[2001:db8::]/32", "1.2.3.4": does it match `ip`? */
bool table_net_match(slice pattern, slice ip);

/* ------------------------------------------------------------------ *
 * Users
 */
struct table_user {
    slice name;
    uid_t uid;
    gid_t gid;
    bool has_uid;
    bool has_gid;
    slice home;
    slice shell;
    slice password; /* with its {SCHEME}; "" none */
    slice mail;     /* userdb_mail of a passwd-file: a mail_location; "" none */
    slice extra;    /* the rest, raw */
};

/* A line of passwd-file: or unix:passwd.byname:
 * user:password:uid:gid:gecos:home:shell:extra.  False when malformed. */
bool table_user_parse(slice line, struct table_user *out);
/* userdb_NAME=value (or NAME=value) of the extra fields. */
bool table_user_extra(const struct table_user *u, const char *name, slice *out);
/* getpwuid(); *found false when nobody has it. */
MAY_WAIT int tables_system_uid(struct tables *t, uid_t uid, struct arena *a,
                               struct table_user *out, bool *found,
                               struct err *err);
/* getpwnam() through `tables` (or here, in direct mode): *found false when
 * there is no such user.  Slices lie in `a`. */
MAY_WAIT int tables_system_user(struct tables *t, slice name, struct arena *a,
                                struct table_user *out, bool *found,
                                struct err *err);

/* Is the user with this uid in a list of users (authorized_submit_users)?
 * *name, in `a`: the login name, "unknown" without one, as in Postfix. */
MAY_WAIT int tables_user_matches(struct tables *t, struct table_match *m,
                                 uid_t uid, struct arena *a, slice *name,
                                 bool *out, struct err *err);

/* ------------------------------------------------------------------ *
 * Building and reading as a whole (master's child, postmap, postalias)
 */
enum table_format {
    TABLE_POSTMAP,   /* key white-space value */
    TABLE_POSTALIAS, /* name: value */
};
/* TABLE_POSTALIAS for alias_maps and alias_database. */
enum table_format table_format_of(const char *param);
/* The file's name in $data_directory/tables for a source ("aliases-<16
 * hex>.cdb"; NUL-terminated). */
#define TABLE_FILE_NAME 96
void table_built_name(slice source_path, enum table_format format,
                      char out[static TABLE_FILE_NAME]);

typedef void table_warn_fn(void *ctx, const char *text);

/* Index the source into `out_fd` (an empty file, synced before the return).
 * Blocking.  Duplicates, lines that are none and the like go to `warn` as
 * Postfix words them; ERR_TEMP only when reading or writing fails. */
struct table_build {
    int source_fd;
    const char *source_name; /* for messages */
    enum table_format format;
    table_warn_fn *warn;
    void *warn_ctx;
    bool no_fold;      /* -f */
    bool dup_is_ok;    /* -r: later entries win silently */
    bool dup_is_first; /* -w: the first wins silently */
};

int table_build(const struct table_build *b, int out_fd, size_t *n_out,
                struct err *err);
/* The same by temporary file and rename in directory `dirfd`. */
int table_build_file(const struct table_build *b, int dirfd, const char *name,
                     mode_t mode, struct err *err);
/* Was `built_fd` made from the source as it is now (mtime, size, inode, and
 * this release's format)? */
bool table_built_is_fresh(int built_fd, const struct stat *source);

/* Every key and value (postmap -s); ERR_PERM for types that have no list. */
typedef int table_each_fn(void *ctx, slice key, slice value, struct err *err);
int table_each(struct tables *t, slice spec, table_each_fn *fn, void *ctx,
               struct err *err);

/* ------------------------------------------------------------------ *
 * The `tables` process
 */
struct table_server;
/* Serves lookups of `local` (a set in direct mode or fed by on_table; not
 * owned) and of the system's users, with a bounded cache of answers and misses
 * for NSS. */
struct table_server *table_server_new(struct tables *local);
void table_server_free(struct table_server **s);
/* For chan_new(fd, table_server_ops(), server). */
const struct chan_ops *table_server_ops(void);

/* One question; what only passdb names, and the passwords of a passwd-file, are
 * for auth alone; what only smtp_sasl_password_maps names, for smtp. */
enum table_asker { TABLE_ASKER_OTHER, TABLE_ASKER_AUTH, TABLE_ASKER_SMTP };

MAY_WAIT void table_server_answer(struct table_server *s, struct chan *c,
                                  struct msg *m, enum table_asker from);
/* For whom a table is that this parameter names. */
enum table_asker table_asker_of(const char *param);
/* Which tables may be asked: those of the configuration (others: ERR_PERM). */
void table_server_set_conf(struct table_server *s, const struct conf *c);
void table_server_dump(const struct table_server *s, struct buf *out);

#endif
