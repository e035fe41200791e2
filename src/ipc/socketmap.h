#ifndef IPC_SOCKETMAP_H
#define IPC_SOCKETMAP_H

/*
 * The socketmap protocol (socketmap_table(5)): a netstring "name key" is
 * answered by a netstring "OK value", "NOTFOUND ", "TEMP reason",
 * "TIMEOUT reason" or "PERM reason".  Spoken to `tables` inside and to foreign
 * servers; these functions are the pure part.
 */
#include "base/base.h"

#define SOCKETMAP_MAX 100000 /* bytes of one netstring */

enum socketmap_answer { SM_OK, SM_NOTFOUND, SM_TEMP, SM_TIMEOUT, SM_PERM };

bool socketmap_put(struct buf *b, slice s); /* as a netstring */
/* 1: one netstring cut from *in; 0: incomplete; -1: malformed or too long. */
int socketmap_get(slice *in, slice *out);
bool socketmap_request(slice s, slice *name, slice *key);
bool socketmap_answer_parse(slice s, enum socketmap_answer *what, slice *value);

#endif
