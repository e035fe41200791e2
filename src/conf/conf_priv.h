#ifndef CONF_CONF_PRIV_H
#define CONF_CONF_PRIV_H

/* What the files of this room share; no other room includes it. */
#include "base/map.h"
#include "conf/conf.h"

#define CONF_MAGIC        MAGIC('C', 'O', 'N', 'F')
#define CONF_MAX_TEXT     (4u << 20)   /* one file */
#define CONF_MAX_VALUE    (256u << 10) /* one expanded value */
#define CONF_MAX_DEPTH    50           /* of $name in $name, and of braces */
#define CONF_MAX_STEPS    20000        /* names expanded for one value */
#define CONF_MAX_NESTED   10           /* list files naming list files */
#define CONF_MAX_ARENA    (1u << 30)
#define CONF_MAX_IFADDRS  1000
#define CONF_MAX_SERVICES 2000

/* One definition in main.cf; the last one of a name is in conf.main. */
struct conf_entry {
    struct map_node node;
    const char *name;
    const char *value; /* as written, trimmed at both ends */
    int line;
    size_t order; /* of first appearance, for printing */
};

/* A file read because a value names it: list files, /etc/mailname. */
struct conf_file {
    struct map_node node;
    const char *path;
    slice text;
    const char *trouble; /* NULL when it was read */
};

/* Addresses of a host name that inet_interfaces or a service names. */
struct conf_host {
    struct map_node node;
    const char *name;
    struct conf_addr *v;
    size_t n;
};

/* Port of a service name, as the system's table said. */
struct conf_portname {
    struct map_node node;
    const char *name;
    uint16_t port;
};

struct conf_cached {
    struct map_node node;
    const char *value;
    slice text;
    struct conf_items items;
    bool has_items;
};

struct conf {
    uint32_t magic;
    unsigned refs;
    struct arena *arena;
    const char *dir;
    const char *main_path;   /* dir/main.cf */
    const char *master_path; /* dir/master.cf */
    slice main_text;
    slice master_text;

    struct map *main;            /* struct conf_entry */
    struct conf_entry **entries; /* in order of appearance */
    size_t n_entries;
    struct conf_service *services;
    size_t n_services;

    /* facts */
    const char *hostname;
    struct conf_addr *ifaddrs;
    size_t n_ifaddrs;
    struct map *files;
    struct map *hosts;
    struct map *ports;

    struct map *cache; /* struct conf_cached; key: service index, name */
};

/* main_cf.c: logical lines.  A line is given with its comments gone and its
 * continuations joined as Postfix joins them; *number is its first line.
 * False at the end. */
struct conf_lines {
    slice rest;
    int number; /* of the last physical line taken */
    struct buf text;
};

void conf_lines_init(struct conf_lines *l, slice text);
void conf_lines_done(struct conf_lines *l);
bool conf_lines_next(struct conf_lines *l, slice *line, int *number);
/* Split "name = value"; NULL, or what is wrong with it. */
const char *conf_split_nameval(slice line, slice *name, slice *value);
void conf_parse_main(struct conf *c, struct conf_diags *d);
void conf_parse_master(struct conf *c, struct conf_diags *d);

/* snapshot.c */
struct conf *conf_new(const char *dir);
void conf_set_texts(struct conf *c, slice main_cf, slice master_cf,
                    struct conf_diags *d);
void conf_add_file(struct conf *c, slice path, slice text, const char *trouble);
const struct conf_file *conf_get_file(const struct conf *c, slice path);
void conf_add_host(struct conf *c, slice name, const struct conf_addr *v,
                   size_t n);
void conf_add_port(struct conf *c, slice name, uint16_t port);
void conf_set_ports(struct conf *c); /* services' ports from the facts */
void conf_forget(struct conf *c);    /* drop cached values */

int conf_read_file(const char *path, struct buf *out, struct err *err);
/* facts.c: everything asked of the system (blocking) */
void conf_facts_host(struct conf *c);
void conf_facts_rest(struct conf *c);
bool conf_system_port(const char *name, uint16_t *out);

/* net.c */
bool conf_addr_parse(slice text, struct conf_addr *out);
void conf_addr_print(const struct conf_addr *a, struct buf *out, int bits);

/* lookup.c */
const struct conf_entry *conf_entry_find(const struct conf *c, slice name);
const struct conf_override *conf_override_find(const struct conf_service *s,
                                               slice name);
/* The text of a default, computed ones made (into scratch); NULL when not
 * declared. */
const char *conf_default_text(const struct conf *c,
                              const struct conf_service *s, slice name,
                              struct buf *scratch);
/* The cached, expanded value of a name; always made when absent. */
struct conf_cached *conf_cached_get(const struct conf *c,
                                    const struct conf_service *s,
                                    const char *name);
/* Declared, or of a family of the configuration's transports; else NULL. */
const struct conf_param *conf_param_for(const struct conf *c, slice name);
/* The family "<transport>_..." that name may be of, whatever the transport. */
const struct conf_param *conf_family_find(slice name, size_t *prefix_len);
size_t conf_family_count(void);
const struct conf_param *conf_family_at(size_t i);

/* The unexpanded text of a name, NULL when neither set nor declared; scratch
 * holds it where it is computed. */
const char *conf_raw_into(const struct conf *c, const struct conf_service *s,
                          slice name, struct buf *scratch);

/* number.c: false when the text is not of the type. */
bool conf_parse_bool(slice text, bool *out);
bool conf_parse_int(slice text, int64_t *out);
bool conf_parse_time(slice text, char unit, int64_t *seconds);

/* expand.c */
/* -1, 0, 1 of two compatibility levels; false when one is malformed. */
bool conf_level_compare(slice a, slice b, int *cmp);
/* Each $name in text, also in branches not taken (for "referenced as"). */
typedef void conf_ref_fn(void *ctx, slice name);
void conf_each_reference(slice text, conf_ref_fn *fn, void *ctx);

/* known.c */
/* Edits between two words (a transposition is one), max + 1 when more. */
size_t conf_edit_distance(slice a, slice b, size_t max);
bool conf_is_known(const struct conf *c, slice name);
/* A set of all names that some value references. */
struct conf_names;
struct conf_names *conf_names_referenced(const struct conf *c);
bool conf_names_has(const struct conf_names *n, slice name);
void conf_names_free(struct conf_names **n);

/* restrict.c */
enum conf_arg {
    CONF_ARG_NONE,
    CONF_ARG_TABLE,  /* the next word is type:name */
    CONF_ARG_WORD,   /* the next word is something else */
    CONF_ARG_NUMBER, /* sleep 5 */
};

enum conf_verdict {
    CONF_OK,
    CONF_WARN,
    CONF_REFUSE,
};

struct conf_restriction {
    const char *name; /* may end in * */
    enum conf_arg arg;
    enum conf_verdict verdict;
    const char *why;
};
const struct conf_restriction *conf_restriction_find(slice name);

/* tables.c */
enum conf_verdict conf_table_type_verdict(slice type, const char **why);
bool conf_table_type_known(slice type);

/* check.c and its neighbours: one struct goes through all checks. */
struct conf_check {
    const struct conf *c;
    struct conf_diags *d;
    struct conf_names *referenced;
    bool look;
};

void conf_check_value(struct conf_check *k, const struct conf_service *s,
                      const char *name, const char *file, int line);
void conf_check_services(struct conf_check *k);
void conf_check_tables(struct conf_check *k);
void conf_check_restrictions(struct conf_check *k, const struct conf_service *s,
                             const char *name, const char *file, int line);
void conf_check_directories(struct conf_check *k);

#endif
