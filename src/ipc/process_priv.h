#ifndef IPC_PROCESS_PRIV_H
#define IPC_PROCESS_PRIV_H

#include "base/base.h"

/* Try what a sandbox should refuse; one line "what=refused|allowed (errno)"
 * for each.  Only in test builds. */
void process_probe(struct buf *out);

#endif
