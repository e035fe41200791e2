#ifndef MAIL_MIME_PRIV_H
#define MAIL_MIME_PRIV_H

/* Between mime.c, which cuts a message into parts and fields, and
 * mime_fields.c, which reads the fields. */

#include "mail/mime.h"

/* Room for the joined parameters of one field. */
#define PRIV_WORK_MAX (4u << 20)

/* Take one header field (with its line ends) into the part.  A boundary
 * parameter of a multipart type is given in *boundary.  False when the arena
 * is full. */
bool priv_part_field(struct arena *a, struct mail_part *p, slice field,
                     slice *boundary);

/* Parameters as Dovecot shows them: RFC 2231 pieces are joined, and stand
 * behind the plain ones.  `out` has room for MAIL_PAIRS_MAX; `work` holds what
 * is joined and must outlive it.  Returns how many. */
size_t priv_params_joined(const struct mail_value *v, struct mail_pair *out,
                          struct buf *work);

#endif
