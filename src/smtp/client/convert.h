#ifndef SMTP_CLIENT_CONVERT_H
#define SMTP_CLIENT_CONVERT_H

/*
 * What changes in a message that leaves: addresses of the primary header by
 * smtp_generic_maps, and 8-bit bodies to quoted-printable for a server without
 * 8BITMIME (RFC 6152 3), part by part.  Stored form in and out, in pieces of
 * any size.  Memory: one header (1 MiB) and one line (64 KiB).
 */
#include "address/address.h"
#include "base/base.h"

struct client_convert;
struct client_convert *client_convert_new(const struct address *generic,
                                          bool to_7bit);
void client_convert_free(struct client_convert **c);
/* Append to `out` what is complete.  ERR_TEMP: a table, or a limit. */
MAY_WAIT int client_convert_feed(struct client_convert *c, slice in,
                                 struct buf *out, struct err *err);
MAY_WAIT int client_convert_finish(struct client_convert *c, struct buf *out,
                                   struct err *err);

#endif
