/* Which processes there are, and how many of each. */
#include "auth/auth.h"
#include "keys/keys.h"
#include "master/master_priv.h"

bool slots_has_command(const struct conf *c, const char *command)
{
    for (size_t i = 0; i < conf_service_count(c); i++)
        if (strcmp(conf_service_at(c, i)->command, command) == 0)
            return true;
    return false;
}

/* Whoever may be asked for a password: smtpd where AUTH is on, IMAP, POP3, and
 * the socket for others. */
static bool wants_auth(const struct conf *c)
{
    static const char *const commands[] = { "imapd", "pop3d", "auth" };

    for (size_t i = 0; i < ARRAY_LEN(commands); i++)
        if (slots_has_command(c, commands[i]))
            return true;
    for (size_t i = 0; i < conf_service_count(c); i++) {
        const struct conf_service *s = conf_service_at(c, i);

        if (strcmp(s->command, "smtpd") == 0 &&
            conf_bool(c, s, "smtpd_sasl_auth_enable"))
            return true;
    }
    return false;
}

static unsigned wanted(const struct master *m, const struct conf *c,
                       enum ptype type)
{
    switch ((unsigned)type) {
    case PT_LOG:
    case PT_TABLES:
    case PT_TEMPLATE:
    case PT_BROKER:
    case PT_LOCAL:
    case PT_QMGR:
    case PT_RESOLVER:
    case PT_FETCHER:
        return 1;
    case PT_SMTPD:
    case PT_SMTP:
        return m->n_smtpd;
    case PT_KEYS:
        return keys_wanted(c) ? 1 : 0;
    case PT_LMTPD:
        return slots_has_command(c, "lmtpd") ? m->n_smtpd : 0;
    case PT_METRICS:
        return slots_has_command(c, "metrics");
    case PT_AUTH:
        return wants_auth(c);
    case PT_AUTHWORKER:
        return wants_auth(c) && auth_config_needs_worker(c);
    case PT_LOGIN:
        return slots_has_command(c, "imapd") || slots_has_command(c, "pop3d")
                   ? m->n_login
                   : 0;
    default:
        return 0;
    }
}

/* An idle server that sends nothing to other hosts does not hold them. */
bool slot_is_lazy(enum ptype type)
{
    return type == PT_RESOLVER || type == PT_SMTP || type == PT_FETCHER;
}

static struct slot *find(struct master *m, enum ptype type, unsigned index)
{
    list_each(it, &m->slots) {
        struct slot *s = CONTAINER_OF(it, struct slot, link);

        if (s->type == type && s->index == index)
            return s;
    }
    return NULL;
}

void slots_mark(struct master *m, const struct conf *c)
{
    /* In the order of starting. */
    static const enum ptype types[] = {
        PT_LOG,   PT_TABLES,     PT_KEYS,  PT_TEMPLATE, PT_BROKER,  PT_LOCAL,
        PT_QMGR,  PT_AUTHWORKER, PT_AUTH,  PT_RESOLVER, PT_FETCHER, PT_SMTP,
        PT_SMTPD, PT_LMTPD,      PT_LOGIN, PT_METRICS
    };

    list_each(it, &m->slots)
        CONTAINER_OF(it, struct slot, link)->is_wanted = false;
    for (size_t t = 0; t < ARRAY_LEN(types); t++)
        for (unsigned i = 0; i < wanted(m, c, types[t]); i++) {
            struct slot *s = find(m, types[t], i);

            if (s == NULL) {
                s = xcalloc(1, sizeof *s);
                s->m = m;
                s->type = types[t];
                s->index = i;
                s->is_lazy = slot_is_lazy(types[t]);
                list_push(&m->slots, &s->link);
            }
            s->is_wanted = true;
        }
}
