/* What can be wrong with the services, the relay rules and the directories. */
#include "conf/conf_priv.h"
#include <dirent.h>
#include <pwd.h>
#include <sys/stat.h>

#define INSIDE "its job is done inside another process"

static const struct {
    const char *command;
    enum conf_verdict verdict;
    const char *why;
} commands[] = {
    { "anvil", CONF_OK, INSIDE },
    { "auth", CONF_OK, "" },
    { "bounce", CONF_OK, INSIDE },
    { "cleanup", CONF_OK, INSIDE },
    { "discard", CONF_OK, INSIDE },
    { "dnsblog", CONF_OK, INSIDE },
    { "error", CONF_OK, INSIDE },
    { "flush", CONF_OK, INSIDE },
    { "httpd", CONF_REFUSE, "HTTP is not served yet" },
    { "imapd", CONF_OK, "" },
    { "lmtp", CONF_OK, INSIDE },
    { "lmtpd", CONF_OK, "" },
    { "local", CONF_OK, "" },
    { "managesieved", CONF_REFUSE, "ManageSieve is not served yet" },
    { "metrics", CONF_OK, "" },
    { "nqmgr", CONF_OK, INSIDE },
    { "oqmgr", CONF_OK, INSIDE },
    { "pickup", CONF_OK, INSIDE },
    { "pipe", CONF_WARN,
      "pipe transports are not done yet; mail for this one is deferred" },
    { "pop3d", CONF_OK, "" },
    { "postlogd", CONF_OK, INSIDE },
    { "postscreen", CONF_OK, "" },
    { "proxymap", CONF_OK, INSIDE },
    { "qmgr", CONF_OK, "" },
    { "qmqpd", CONF_REFUSE, "there is no QMQP server" },
    { "scache", CONF_OK, INSIDE },
    { "showq", CONF_OK, INSIDE },
    { "smtp", CONF_OK, "" },
    { "smtpd", CONF_OK, "" },
    { "spawn", CONF_WARN, "spawn is not done yet; nothing listens here" },
    { "tlsmgr", CONF_OK, INSIDE },
    { "tlsproxy", CONF_OK, INSIDE },
    { "trivial-rewrite", CONF_OK, INSIDE },
    { "verify", CONF_OK, INSIDE },
    { "virtual", CONF_OK, INSIDE },
};

static void unknown_command(struct conf_check *k, const struct conf_service *s)
{
    size_t best = 4;
    const char *near = NULL;
    char cure[80] = "";

    for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
        size_t d = conf_edit_distance(slice_str(s->command),
                                      slice_str(commands[i].command), 3);

        if (d < best) {
            best = d;
            near = commands[i].command;
        }
    }
    if (near != NULL)
        (void)snprintf(cure, sizeof(cure), "did you mean %s?", near);
    conf_diags_add(k->d, CONF_ERROR, s->file, s->line, cure,
                   "service %.100s: unknown command \"%.100s\"", s->name,
                   s->command);
}

static void check_command(struct conf_check *k, const struct conf_service *s)
{
    for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
        if (strcmp(commands[i].command, s->command) != 0)
            continue;
        if (commands[i].verdict != CONF_OK)
            conf_diags_add(k->d,
                           commands[i].verdict == CONF_WARN ? CONF_WARNING
                                                            : CONF_ERROR,
                           s->file, s->line,
                           commands[i].verdict == CONF_WARN
                               ? ""
                               : "put # in front of the line",
                           "service %.100s: %s", s->name, commands[i].why);
        return;
    }
    unknown_command(k, s);
}

static bool has_postscreen(const struct conf *c)
{
    for (size_t i = 0; i < c->n_services; i++)
        if (c->services[i].type == CONF_INET &&
            strcmp(c->services[i].command, "postscreen") == 0)
            return true;
    return false;
}

static void check_place(struct conf_check *k, const struct conf_service *s)
{
    struct conf_addr addr;

    if (s->type == CONF_INET && s->port == 0)
        conf_diags_add(k->d, CONF_ERROR, s->file, s->line,
                       "write the number, or name it in known_tcp_ports",
                       "service %.100s: unknown port", s->name);
    if (s->type == CONF_INET && s->host[0] != '\0' &&
        conf_listen_addrs(k->c, s, &addr, 1) == 0)
        conf_diags_add(k->d, CONF_ERROR, s->file, s->line,
                       "write an address of this machine",
                       "service %.100s: no address for \"%.100s\"", s->name,
                       s->host);
    if (s->type == CONF_PASS &&
        (strcmp(s->name, "smtpd") != 0 || !has_postscreen(k->c)))
        conf_diags_add(k->d, CONF_WARNING, s->file, s->line, "",
                       "service %.100s: only postscreen passes connections, "
                       "and to smtpd",
                       s->name);
}

/* Words that keep strangers from relaying (as Postfix demands one). */
static bool is_guard(slice word)
{
    return slice_ieqs(word, "reject_unauth_destination") ||
           slice_ieqs(word, "defer_unauth_destination") ||
           slice_ieqs(word, "reject") || slice_ieqs(word, "defer") ||
           slice_ieqs(word, "defer_if_permit");
}

/* What a list says to a stranger who wants to relay. */
enum guard {
    GUARD_NONE,  /* nothing: the next list decides */
    GUARD_THERE, /* no */
    GUARD_OPEN,  /* yes: "permit" stands before a no */
};

/* NOLINTNEXTLINE(misc-no-recursion): classes, at most CONF_MAX_NESTED deep */
static enum guard find_guard(const struct conf *c, const struct conf_service *s,
                             slice list, unsigned depth)
{
    slice w;

    while (conf_list_next(&list, &w)) {
        const struct conf_restriction *r = conf_restriction_find(w);
        enum guard inside = GUARD_NONE;
        char name[200];

        if (is_guard(w))
            return GUARD_THERE;
        if (slice_ieqs(w, "permit"))
            return GUARD_OPEN;
        if (r != NULL && r->arg != CONF_ARG_NONE)
            conf_list_next(&list, &w);
        else if (r == NULL && depth < CONF_MAX_NESTED &&
                 slice_copy_to(w, name, sizeof(name)) &&
                 conf_is_set(c, s, name))
            inside = find_guard(c, s, conf_slice(c, s, name), depth + 1);
        if (inside != GUARD_NONE)
            return inside;
    }
    return GUARD_NONE;
}

/* Networks that hold everybody. */
static void check_mynetworks(struct conf_check *k, const struct conf_service *s)
{
    struct conf_items items = conf_match_list(k->c, s, "mynetworks");
    const char *file;
    int line;

    conf_where(k->c, s, "mynetworks", &file, &line);
    for (size_t i = 0; i < items.n; i++)
        if (!items.v[i].negated && slice_ends(items.v[i].text, SL("/0")))
            conf_diags_add(k->d, CONF_ERROR, file, line,
                           "name your own networks",
                           "mynetworks: %.*s would let the whole Internet "
                           "relay",
                           (int)min_size(items.v[i].text.n, 100),
                           items.v[i].text.p);
}

static void check_relay_rules(struct conf_check *k,
                              const struct conf_service *s)
{
    const char *file;
    int line;

    check_mynetworks(k, s);
    /* Both lists are asked; one no is enough. */
    if (find_guard(k->c, s, conf_slice(k->c, s, "smtpd_relay_restrictions"),
                   0) == GUARD_THERE ||
        find_guard(k->c, s, conf_slice(k->c, s, "smtpd_recipient_restrictions"),
                   0) == GUARD_THERE)
        return;
    conf_where(k->c, s, "smtpd_relay_restrictions", &file, &line);
    if (line == 0)
        conf_where(k->c, s, "smtpd_recipient_restrictions", &file, &line);
    conf_diags_add(k->d, CONF_ERROR, file, line,
                   "add reject_unauth_destination",
                   "service %s would relay for everybody: neither "
                   "smtpd_relay_restrictions nor "
                   "smtpd_recipient_restrictions has, before any permit, one "
                   "of "
                   "reject_unauth_destination, defer_unauth_destination, "
                   "reject, defer, defer_if_permit",
                   s->name);
}

static void check_interfaces(struct conf_check *k)
{
    struct conf_addr addr;
    const char *file;
    int line;

    if (conf_listen_addrs(k->c, NULL, &addr, 1) > 0)
        return;
    conf_where(k->c, NULL, "inet_interfaces", &file, &line);
    conf_diags_add(k->d, CONF_ERROR, file, line,
                   "name an address or a host of this machine",
                   "inet_interfaces = %.100s, inet_protocols = %.100s: there "
                   "is no such address",
                   conf_str(k->c, NULL, "inet_interfaces"),
                   conf_str(k->c, NULL, "inet_protocols"));
}

/* One domain cannot be of two classes: what is delivered how would depend on
 * the order of lookups. */
static void check_overlap(struct conf_check *k, const char *one,
                          const char *other)
{
    struct conf_items a = conf_match_list(k->c, NULL, one);
    struct conf_items b = conf_match_list(k->c, NULL, other);
    const char *file;
    int line;

    conf_where(k->c, NULL, other, &file, &line);
    for (size_t i = 0; i < a.n; i++)
        for (size_t j = 0; j < b.n; j++)
            if (!a.v[i].negated && !a.v[i].is_table && !b.v[j].negated &&
                slice_ieq(a.v[i].text, b.v[j].text))
                conf_diags_add(k->d, CONF_WARNING, file, line,
                               "take it out of one of the two",
                               "do not list domain %.*s in BOTH %s and %s",
                               (int)min_size(a.v[i].text.n, 100), a.v[i].text.p,
                               one, other);
}

static void check_classes(struct conf_check *k)
{
    static const char *const classes[] = { "mydestination",
                                           "virtual_alias_domains",
                                           "virtual_mailbox_domains",
                                           "relay_domains" };

    /* relay_domains = $mydestination is an old default and does no harm. */
    for (size_t i = 0; i < ARRAY_LEN(classes); i++)
        for (size_t j = i + 1; j < ARRAY_LEN(classes); j++)
            if (conf_is_set(k->c, NULL, classes[j]) && (i > 0 || j < 3))
                check_overlap(k, classes[i], classes[j]);
}

void conf_check_services(struct conf_check *k)
{
    for (size_t i = 0; i < k->c->n_services; i++) {
        const struct conf_service *s = &k->c->services[i];

        check_command(k, s);
        check_place(k, s);
        if (strcmp(s->command, "smtpd") == 0 ||
            strcmp(s->command, "postscreen") == 0)
            check_relay_rules(k, s);
    }
    check_interfaces(k);
    check_classes(k);
}

static const struct {
    const char *param;
    const char *postfix; /* its own directory */
    const char *marks;   /* names that only Postfix puts there */
} directories[] = {
    { "queue_directory", "/var/spool/postfix", "maildrop active" },
    { "data_directory", "/var/lib/postfix", "master.lock" },
    { "config_directory", "/etc/postfix",
      "postfix-files dynamicmaps.cf.d "
      "post-install postfix-script" },
};

static bool is_below(slice path, const char *dir)
{
    slice d = slice_str(dir);

    while (path.n > 1 && path.p[path.n - 1] == '/')
        path.n--;
    return slice_starts(path, d) && (path.n == d.n || path.p[d.n] == '/');
}

static bool belongs_to_postfix(const char *dir, const char *marks)
{
    slice rest = slice_str(marks);
    const struct passwd *pw;
    struct stat st;
    slice mark;

    if (stat(dir, &st) < 0)
        return false;
    pw = getpwuid(st.st_uid);
    if (pw != NULL && strcmp(pw->pw_name, "postfix") == 0)
        return true;
    while (slice_token(&rest, " ", &mark)) {
        char path[1200];
        int n = snprintf(path, sizeof(path), "%.1000s/%.*s", dir, SLF(mark));

        if (n > 0 && (size_t)n < sizeof(path) && lstat(path, &st) == 0)
            return true;
    }
    return false;
}

static void check_directory(struct conf_check *k, size_t i)
{
    const char *dir = conf_str(k->c, NULL, directories[i].param);
    const char *file;
    int line;

    conf_where(k->c, NULL, directories[i].param, &file, &line);
    if (line == 0)
        file = k->c->main_path;
    if (dir[0] != '/')
        conf_diags_add(k->d, CONF_ERROR, file, line, "start it with /",
                       "%s = %.200s: not a full path", directories[i].param,
                       dir);
    else if (is_below(slice_str(dir), directories[i].postfix) ||
             (k->look && belongs_to_postfix(dir, directories[i].marks)))
        conf_diags_add(k->d, CONF_ERROR, file, line,
                       "give Hato a directory of its own",
                       "%s = %.200s belongs to Postfix", directories[i].param,
                       dir);
}

void conf_check_directories(struct conf_check *k)
{
    for (size_t i = 0; i < ARRAY_LEN(directories); i++)
        check_directory(k, i);
}
