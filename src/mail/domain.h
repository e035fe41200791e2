#ifndef MAIL_DOMAIN_H
#define MAIL_DOMAIN_H

/* Host names, address literals and IDN. */

#include "base/base.h"

/* Postfix's valid_hostname(): letters, digits, '-', '_', labels of 1..63, at
 * most 255, not all numeric, no dot at the end; bytes above 127 (a
 * U-label) are checked by converting to ASCII. */
bool mail_domain_valid(slice domain);

/* "[1.2.3.4]", "[IPv6:…]": family 4 or 6 and the address' 4 or 16 bytes.
 * False when it is no valid literal (RFC 5321 4.1.3). */
bool mail_literal_parse(slice domain, int *family, uint8_t out[static 16]);
/* Bare "1.2.3.4" or "2001:db8::1" (no scope). */
bool mail_ip_parse(slice s, int *family, uint8_t out[static 16]);

/* U-labels to A-labels and back by IDNA 2008 non-transitional (UTS 46).  An
 * ASCII name passes through, lower-cased.  False when the name cannot be
 * converted; the buffer is then as it was. */
bool mail_domain_to_ascii(struct buf *b, slice domain);
bool mail_domain_to_utf8(struct buf *b, slice domain);

/* Is s well-formed UTF-8 (no surrogates, nothing above U+10FFFF)? */
bool mail_utf8_valid(slice s);
/* Length of the well-formed sequence at the front of s; 0 when there is none.
 */
size_t mail_utf8_len(slice s);
bool mail_is_ascii(slice s);

#endif
