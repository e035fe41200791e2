#include "access/access_priv.h"

#include "ipc/event.h"
#include "mail/address.h"
#include "mail/probe.h"

/* reject_unverified_recipient and reject_unverified_sender: the queue knows, or
 * finds out, whether mail to an address would be taken. */

struct kind {
    const char *class;
    const char *status; /* the last digits */
    const char *reject_code, *defer_code, *reason, *action;
};

static const struct kind recipient = {
    "Recipient address",
    "4.1.1",
    "unverified_recipient_reject_code",
    "unverified_recipient_defer_code",
    "unverified_recipient_reject_reason",
    "unverified_recipient_tempfail_action",
};

static const struct kind sender = {
    "Sender address",
    "4.1.0",
    "unverified_sender_reject_code",
    "unverified_sender_defer_code",
    "unverified_sender_reject_reason",
    "unverified_sender_tempfail_action",
};

static int code_of(const struct check *c, const char *param)
{
    return (int)conf_int(c->a->conf, c->a->service, param);
}

/* Is a refusal due at once, or only where nothing else refuses for good? */
static bool is_due(const struct check *c, const struct kind *k, int code)
{
    slice action = conf_slice(c->a->conf, c->a->service, k->action);

    return slice_ieqs(action, "defer") || c->warn_depth > 0 || code >= 500;
}

/* "<name>: class rejected: undeliverable address: why" with this code; 2xx
 * takes the address all the same. */
static enum verdict say(struct check *c, const struct kind *k, int code,
                        bool is_final, slice why)
{
    slice own = conf_slice(c->a->conf, c->a->service, k->reason);
    const char *what = is_final ? "undeliverable" : "unverified";
    const char *rejected = code < 400 ? "" : " rejected";
    char *line;

    if (own.n > 0)
        why = own;
    why = slice_sub(why, 0, 250);
    if (code >= 400 && (is_final || is_due(c, k, code)))
        return check_refuse(c, false, code, k->status,
                            "<%.*s>: %s rejected: %s address: %.*s",
                            SLF(c->reply_name), k->class, what, SLF(why));
    line = arena_printf(c->s->arena, "%d %s <%.*s>: %s%s: %s address: %.*s",
                        code, k->status, SLF(c->reply_name), k->class, rejected,
                        what, SLF(why));
    if (line == NULL)
        return check_server_error(c);
    if (code < 400)
        check_log(c, "reject_warning", slice_str(line));
    else if (!c->if_permit.is_active)
        c->if_permit = (struct deferral){ true, slice_str(line) };
    return SAYS_DUNNO;
}

/* Ask, and again a little later while the probe is on its way. */
MAY_WAIT static int ask(struct check *c, slice addr,
                        struct access_verified *out, struct err *err)
{
    int64_t count = code_of(c, "address_verify_poll_count");
    int64_t delay =
        conf_time(c->a->conf, c->a->service, "address_verify_poll_delay");

    for (int64_t i = 1;; i++) {
        if (c->s->verify(c->s->verify_arg, addr, c->s->arena, out, err) < 0)
            return -1;
        if (out->status != VERIFY_TODO || i >= count)
            return 0;
        if (task_inside() && task_sleep((msec)delay * 1000, err) < 0)
            return -1;
    }
}

MAY_WAIT static enum verdict verify(struct check *c, const struct kind *k,
                                    slice addr)
{
    struct arena *a CLEANUP(arena_free) = arena_new(1u << 20);
    struct access_verified known = { .status = VERIFY_DEFER };
    struct address_route route;
    struct err err;

    if (address_resolve(c->a->address, c->s->sender, addr, a, &route, &err) < 0)
        return check_trouble(c, addr, &err);
    if (c->s->verify == NULL || ask(c, route.recipient, &known, &err) < 0) {
        if (c->s->verify != NULL && err.class == ERR_PEER)
            return SAYS_GONE;
        log_warning("the queue's address verification does not answer");
        return say(c, k, 450, false, SL("address verification problem"));
    }
    switch (known.status) {
    case VERIFY_OK:
        return SAYS_DUNNO;
    case VERIFY_BOUNCE:
        return say(c, k, code_of(c, k->reject_code), true, known.text);
    case VERIFY_DEFER:
    case VERIFY_TODO:
    case VERIFY_OVERLOAD:
        break;
    }
    return say(c, k, code_of(c, k->defer_code), false, known.text);
}

MAY_WAIT static enum verdict verify_as(struct check *c, const struct kind *k,
                                       slice addr)
{
    slice name = c->reply_name;
    enum verdict says;

    c->reply_name = addr;
    says = verify(c, k, addr);
    c->reply_name = name;
    return says;
}

enum verdict check_unverified_recipient(struct check *c, const struct rule *r)
{
    (void)r;
    if (c->s->recipient.p == NULL)
        return SAYS_DUNNO;
    return verify_as(c, &recipient, c->s->recipient);
}

enum verdict check_unverified_sender(struct check *c, const struct rule *r)
{
    (void)r;
    if (!c->s->has_sender || c->s->sender.n == 0)
        return SAYS_DUNNO;
    return verify_as(c, &sender, c->s->sender);
}

bool check_is_probe_sender(const struct check *c)
{
    const struct conf *conf = c->a->conf;
    int64_t ttl = conf_time(conf, c->a->service, "address_verify_sender_ttl");
    uint64_t epoch = ttl > 0 ? (uint64_t)(clock_wall() / 1000 / ttl) : 0;

    return mail_probe_is_sender(
        c->s->recipient,
        conf_slice(conf, c->a->service, "address_verify_sender"),
        conf_slice(conf, c->a->service, "myorigin"), epoch);
}
