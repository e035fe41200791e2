#ifndef MAIL_DATE_H
#define MAIL_DATE_H

/* RFC 5322 3.3 and 4.3 dates, and IMAP's date-time. */

#include "base/base.h"
#include "base/clock.h"

/* Parse a Date header's value: the weekday is optional and ignored, seconds
 * may be missing, years of 2 and 3 digits and named zones are taken, comments
 * passed over, what follows the zone ignored; an unknown zone is UTC.  Gives
 * seconds since 1970 and the zone in minutes.  False when it is no date. */
bool mail_date_parse(slice s, int64_t *unix_out, int *zone_min_out);

/* "Sat, 21 Nov 2026 18:05:35 +0000" in the given zone. */
void mail_date_format(int64_t unix_sec, int zone_min, char out[static 40]);
/* IMAP: "21-Nov-2026 18:05:35 +0000", day padded with a space. */
void mail_date_imap(int64_t unix_sec, int zone_min, char out[static 32]);
/* Parse that form (without quotes). */
bool mail_date_imap_parse(slice s, int64_t *unix_out, int *zone_min_out);
/* mbox "From " line: "Sat Nov 21 18:05:35 2026"; the caller chooses the zone.
 */
void mail_date_mbox(const struct civil *when, char out[static 32]);

#endif
