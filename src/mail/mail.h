#ifndef MAIL_MAIL_H
#define MAIL_MAIL_H

/*
 * mail - what a message is: addresses, header fields, MIME, dates, charsets,
 * and the bytes of a message on their way from SMTP to the disk.
 *
 * Every process that touches mail uses this room; it is pure: it takes slices,
 * gives back slices, buffers and small structs, does no input or output, never
 * waits, never logs and keeps no state but a few opened charset converters.
 *
 *     address.h   SMTP paths and parameters, header address lists, alias
 *                 lists, quoting, delimiter extensions
 *     domain.h    host names, address literals, IDN
 *     header.h    header fields, folding, encoded words, structured parameters
 *     date.h      RFC 5322 dates
 *     charset.h   other charsets to UTF-8
 *     mime.h      the part tree, ENVELOPE, BODY, BODYSTRUCTURE, preview
 *     dot.h       SMTP DATA and other input to the stored form
 *     probe.h     the sender of probes
 *     queue_id.h  Postfix's long queue ids
 *
 * Words: the *internal* form of an address is unquoted, as Postfix keeps it
 * (`john doe@example.org`); the *external* form is quoted where SMTP or RFC
 * 5322 need it (`"john doe"@example.org`).
 *
 * Invariants: (1) no byte from outside can make a function here abort, loop
 * without end, recurse without a cap or use memory beyond the arena or buffer
 * that the caller gave; (2) outputs are untouched on failure; (3) every slice
 * that a function gives back points into its input or into the caller's arena.
 */

#include "base/base.h"

#include "mail/address.h"
#include "mail/charset.h"
#include "mail/date.h"
#include "mail/domain.h"
#include "mail/dot.h"
#include "mail/header.h"
#include "mail/mime.h"
#include "mail/probe.h"
#include "mail/queue_id.h"

#endif
