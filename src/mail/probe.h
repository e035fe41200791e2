#ifndef MAIL_PROBE_H
#define MAIL_PROBE_H

/* The sender of probes (address_verify_sender, _sender_ttl).  Pure. */
#include "base/base.h"

/* Append `name`, completed with `origin`; with an epoch that is not 0, its
 * number in base 31 behind the local part, so that the address changes with
 * time and cannot be learned.  Nothing for "" and "<>". */
bool mail_probe_sender(slice name, slice origin, uint64_t epoch,
                       struct buf *out);
/* Is it the sender of this epoch, or of the ones beside it? */
bool mail_probe_is_sender(slice addr, slice name, slice origin, uint64_t epoch);

#endif
