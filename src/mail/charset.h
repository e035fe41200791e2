#ifndef MAIL_CHARSET_H
#define MAIL_CHARSET_H

/*
 * Other charsets to UTF-8, by iconv.  iconv loads its tables from files when a
 * charset is first used, so a process that will lose the file system calls
 * mail_charset_setup() first; a charset that cannot be opened later reads as
 * unknown.  Converters are kept open for the life of the process, at most
 * MAIL_CHARSET_KEEP of them.
 */

#include "base/base.h"

#define MAIL_CHARSET_KEEP 48

/* Open the charsets that mail uses.  Costs a few milliseconds and about 2 MB
 * of shared tables; the other calls work without it. */
void mail_charset_setup(void);
/* Is this charset (or alias) known?  Empty and us-ascii are. */
bool mail_charset_known(slice charset);

/* Append `in` as UTF-8.  Bad bytes become U+FFFD; an unknown charset is read as
 * UTF-8, each bad byte replaced.  Returns false when the charset is unknown or
 * the buffer is full (b->overflow tells); what could be converted stands in
 * the buffer either way. */
bool mail_charset_to_utf8(struct buf *b, slice charset, slice in);
/* Append with every malformed sequence replaced by U+FFFD. */
bool mail_utf8_clean(struct buf *b, slice in);

#endif
