#ifndef MAIL_QUEUE_ID_H
#define MAIL_QUEUE_ID_H

/*
 * Postfix's long queue ids: the arrival second in base 52 (6 or more digits),
 * the microsecond in base 52 (4 digits), 'z', and a number (in Postfix the
 * inode) in base 51.  Digits: 0-9 and the consonants, upper before lower case;
 * base 51 lacks the 'z'.  They sort by time.
 */

#include "base/base.h"

#define MAIL_QUEUE_ID_SIZE 32 /* with the final NUL */

/* sec >= 0, usec < 1000000. */
void mail_queue_id_format(int64_t sec, uint32_t usec, uint64_t number,
                          char out[static MAIL_QUEUE_ID_SIZE]);
bool mail_queue_id_valid(slice id);
bool mail_queue_id_parse(slice id, int64_t *sec, uint32_t *usec,
                         uint64_t *number);

#endif
