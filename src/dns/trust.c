#include "dns/dns_priv.h"

/*
 * Whether resolver_dnssec = auto validates, by what the root's keys looked
 * like.
 *
 * Servers that never passed on signatures are used without validation: nothing
 * could be validated.  Ones that did are not believed when they stop at once:
 * that is what who stands between would do to have DANE switched off.  Answers
 * are bogus then, and mail waits; when it stays so for an hour, the servers
 * have changed.
 */

#define LOST_MS   5000
#define SIGNED_MS ((msec)10 * 60 * 1000)
#define BOGUS_MS  ((msec)2 * 60 * 1000) /* libunbound remembers it for one */
#define DOUBT_MS  ((msec)60 * 60 * 1000)

msec dns_trust_step(struct dns_trust *t, enum dns_probe what, msec now)
{
    switch (what) {
    case DNS_PROBE_SIGNED:
        *t = (struct dns_trust){ .was_signed = true };
        return SIGNED_MS;
    case DNS_PROBE_BOGUS:
        if (!t->is_bogus)
            t->bogus_since = now;
        t->is_bogus = true;
        if (!t->was_signed || now - t->bogus_since >= DOUBT_MS) {
            t->is_plain = true;
            t->was_signed = false;
        }
        return BOGUS_MS;
    case DNS_PROBE_LOST:
    default:
        return LOST_MS;
    }
}
