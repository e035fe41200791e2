#ifndef TABLE_TABLE_PRIV_H
#define TABLE_TABLE_PRIV_H

/*
 * What the files of the table room share: one table of the set, the operations
 * of a type, and the readers of Postfix's source syntaxes.
 */
#include "base/base.h"
#include "base/clock.h"
#include "base/map.h"
#include "table/table.h"

#define TABLE_ASK_MS    10000  /* deadline of a question to `tables` */
#define TABLE_MATCH_MAX 200000 /* PCRE2 match limit, one subject */
#define CACHE_CLIENT_MS 1000   /* answers of `tables` kept by its clients */
#define CACHE_HIT_MS    30000  /* answers of NSS kept by `tables` */
#define CACHE_MISS_MS   5000
#define CACHE_ENTRIES   8192

struct table;

/* Operations of a type.  lookup may wait for served types only, and then reads
 * nothing of `data` after the wait. */
struct table_ops {
    const char *type;
    enum table_kind kind;
    bool is_fixed; /* DICT_FLAG_FIXED: takes part in partial lookups */
    bool folds;    /* keys are case-folded first */
    /* TABLE_CONF: make t->data of t->name.  TABLE_SOURCE: of the text. */
    int (*load)(struct table *t, slice text, void **out, struct err *err);
    MAY_WAIT int (*lookup)(struct table *t, slice key, unsigned flags,
                           struct arena *a, slice *value, struct err *err);
    int (*each)(struct table *t, table_each_fn *fn, void *ctx, struct err *err);
    void (*free)(void *data);
};

struct table {
    struct map_node node; /* key: whole */
    struct tables *set;
    const struct table_ops *ops;
    char *whole; /* "hash:/etc/aliases" */
    slice type;
    slice name;
    void *data;
    int64_t mtime;
    uid_t owner; /* of the source; -1: not known */
    bool is_fixed;
    bool is_alias_format;
    bool was_tried; /* direct mode: opening failed, `trouble` says why */
    unsigned depth;
    char trouble[240];
};

struct tables {
    uint32_t magic;
    struct map by_name;
    struct link *server;
    bool is_direct;
    char *data_dir; /* or NULL */
    void (*warn)(void *ctx, const char *text);
    void *warn_ctx;
    struct map cache; /* of served lookups */
    struct list cache_order;
};

#define TABLES_MAGIC MAGIC('T', 'B', 'L', 'S')

/* ---- set.c */
const struct table_ops *table_ops_of(slice type);
/* Get or make the entry; ERR_PERM for an unknown type. */
int tables_entry(struct tables *t, slice spec, unsigned depth,
                 struct table **out, struct err *err);
/* One table, key as the caller has it. */
MAY_WAIT int table_ask(struct table *t, slice key, unsigned flags,
                       struct arena *a, slice *value, struct err *err);
void table_warn(struct table *t, const char *fmt, ...) PRINTF(2, 3);

/* ---- fold.c: case folding of keys; the slice itself when it is lower case
 * already.  SLICE_NONE when the arena is full. */
slice table_fold(struct arena *a, slice key);

/* ---- source.c: Postfix's logical lines.  Comments, blank lines and
 * continuations are dealt with; `text` is valid until the next call. */
struct source {
    slice rest;
    unsigned n_lines;
    struct buf joined;
    void (*warn)(void *ctx, unsigned line, const char *text);
    void *ctx;
};

void source_init(struct source *s, slice bytes);
void source_done(struct source *s);
bool source_next(struct source *s, slice *text, unsigned *line);
/* "key value" / "name: value" of a logical line: NULL, or what is wrong with
 * it (a literal).  The key of an alias is unquoted into `a`. */
const char *source_split_map(slice line, slice *key, slice *value);
const char *source_split_alias(struct arena *a, slice line, slice *key,
                               slice *value);

/* ---- the types */
extern const struct table_ops table_ops_texthash, table_ops_inline;
extern const struct table_ops table_ops_static, table_ops_fail,
    table_ops_environ, table_ops_randmap, table_ops_unionmap, table_ops_pipemap;
extern const struct table_ops table_ops_regexp, table_ops_pcre;
extern const struct table_ops table_ops_cidr;
extern const struct table_ops table_ops_unix, table_ops_passwd_file,
    table_ops_socketmap, table_ops_tcp;
/* pairs.c: an in-memory map of text pairs. */
struct pairs;
struct pairs *pairs_new(void);
void pairs_free(void *p);
/* False when the key is there already. */
bool pairs_add(struct pairs *p, slice key, slice value);
bool pairs_find(struct pairs *p, slice key, slice *value);

/* built.c: data made of a descriptor (not kept). */
int built_load(struct table *t, int fd, void **out, struct err *err);
int built_lookup(struct table *t, slice key, unsigned flags, struct arena *a,
                 slice *value, struct err *err);
int built_each(struct table *t, table_each_fn *fn, void *ctx, struct err *err);
void built_unload(void *data);
/* A file in memory to build into. */
int built_memfd(struct err *err);

/* The first record of a built file tells what it was made of. */
#define BUILT_META    "\0hato"
#define BUILT_VERSION 1

enum built_tag {
    BUILT_TAG_VERSION = 1,
    BUILT_TAG_MTIME = 2, /* nanoseconds */
    BUILT_TAG_SIZE = 3,
    BUILT_TAG_INODE = 4,
    BUILT_TAG_FORMAT = 5,
};

/* posix.c: a POSIX regular expression in PCRE2's language.  False with *why
 * when it is none. */
enum {
    POSIX_EXTENDED = 1,
    POSIX_NEWLINE = 2, /* REG_NEWLINE */
    POSIX_ICASE = 4,
};

bool posix_to_pcre(slice pattern, unsigned flags, struct buf *out,
                   const char **why);

/* What is wrong with a net/mask pattern (a literal or in `why`), or NULL. */
const char *table_net_check(slice pattern, char *why, size_t why_size);

/* cache.c: answers and misses of served tables, bounded and short-lived.
 * cache_get: true when known; *value as a lookup gives it. */
bool cache_get(struct tables *t, const struct table *of, slice key,
               struct arena *a, slice *value);
void cache_put(struct tables *t, const struct table *of, slice key, slice value,
               msec ttl_ms);
void cache_clear(struct tables *t);

/* served.c: a question to the `tables` process, or (direct mode) here. */
MAY_WAIT int served_lookup(struct table *t, slice key, unsigned flags,
                           struct arena *a, slice *value, struct err *err);
/* nss.c: a line of passwd or group; blocking work goes through offload(). */
MAY_WAIT int nss_lookup(struct table *t, slice key, struct arena *a,
                        slice *value, struct err *err);
/* remote.c: socketmap and tcp servers, spoken to by `tables` itself. */
MAY_WAIT int remote_lookup(struct table *t, slice key, struct arena *a,
                           slice *value, struct err *err);
void remote_free(void *data);

#endif
