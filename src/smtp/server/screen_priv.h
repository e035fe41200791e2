#ifndef SMTP_SERVER_SCREEN_PRIV_H
#define SMTP_SERVER_SCREEN_PRIV_H

/* What the files of postscreen share: screen.c has the way of a client,
 * screen_conf.c the settings, screen_talk.c the tests after the greeting. */
#include "smtp/server/server_priv.h"

#define RULES_MAX 100

enum screen_action { ACTION_IGNORE, ACTION_ENFORCE, ACTION_DROP };

/* In the order of enum access_pass, from ACCESS_PASS_PIPELINING on. */
enum deep { DEEP_PIPELINING, DEEP_FOREIGN, DEEP_NEWLINE, DEEP_N };

struct deep_test {
    bool is_on;
    enum screen_action action;
    msec ttl_ms;
};

struct screen_site {
    struct access_dnsxl list;
    int weight;
};

enum rule_kind { RULE_MYNETWORKS, RULE_PERMIT, RULE_REJECT, RULE_TABLE };

struct screen_rule {
    enum rule_kind kind;
    struct table_list *table;
};

struct smtp_screen {
    struct arena *arena;
    struct screen_rule rules[RULES_MAX];
    size_t n_rules;
    struct table_match *mynetworks;
    enum screen_action deny, greet, dnsbl;
    struct deep_test deep[DEEP_N];
    char *teaser; /* NULL: the client may talk at once */
    msec wait_ms, greet_ttl_ms, dnsbl_min_ms, dnsbl_max_ms;
    int64_t threshold, allow_threshold;
    struct screen_site *sites;
    size_t n_sites;
    struct table_list *reply_map;
    size_t testing_max, per_client_max;
    size_t n_testing;
    struct map clients; /* under test, by address */
    struct access_passes *passes;
    msec retention_ms;
};

/* An address of which connections are under test. */
struct screen_client {
    struct map_node node;
    unsigned n_testing;
    char addr[64];
};

struct smtp_screening {
    unsigned n_refs;
    struct smtp *s; /* NULL: gone */
    struct smtp_screen *screen;
    struct screen_client *client; /* NULL: not counted */
    struct access_passed passed;  /* before it came */
    struct task *waiting; /* for the DNS lists, behind an early client */
    msec began;
    bool wants_greet, wants_dnsbl, is_new, has_failed;
    bool is_vouched_for; /* by a list of good clients */
    bool is_over;        /* the early tests: what DNS says now comes too late */
    bool wants_deep[DEEP_N], has_deep; /* one of them */
    bool has_rcpt;       /* the deep tests were passed, or failed */
    unsigned char where; /* the verb before */
    unsigned n_pending;  /* questions to DNS lists */
    int64_t score;
    int best; /* the weight of `domain` */
    slice domain;
    uint32_t ttl;
    char *refusal; /* of every recipient */
};

/* ---- screen_conf.c */
enum listed { LISTED_NOT, LISTED_ALLOW, LISTED_DENY };

/* postscreen_access_list */
MAY_WAIT enum listed screen_access_says(struct smtp_screen *k, slice addr);

/* ---- screen.c */
/* As a C string would be written. */
void screen_put_escaped(struct buf *b, slice text);
/* A test has been passed, for so long. */
void screen_pass(struct smtp_screening *k, enum access_pass which, msec ms);
/* All has been passed. */
void screen_tell_pass(const struct smtp_screening *k);

#endif
