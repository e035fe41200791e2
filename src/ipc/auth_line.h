#ifndef IPC_AUTH_LINE_H
#define IPC_AUTH_LINE_H

/*
 * Lines of Dovecot's authentication protocol, for both of its sides: fields
 * separated by tabs, in which tab, line ends, NUL and the escape itself are
 * written as two bytes.  Pure.
 */
#include "base/base.h"

#define AUTH_LINE_MAX 16384 /* with its parameters; RFC 4954 allows 12 KiB */

/* Append `s` escaped. */
bool auth_escape(struct buf *b, slice s);
/* The text of a field in the arena; SLICE_NONE when it is damaged or the arena
 * full. */
slice auth_unescape(struct arena *a, slice field);
/* Next field of *rest; false at the end. */
bool auth_field(slice *rest, slice *field);
/* "key=value" taken apart; value.p is NULL when there is no '='. */
void auth_key(slice field, slice *key, slice *value);

#endif
