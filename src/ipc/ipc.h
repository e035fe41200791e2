#ifndef IPC_IPC_H
#define IPC_IPC_H

/*
 * ipc - how Hato's processes talk to each other.
 *
 * chan.h     framed messages with descriptors over a UNIX stream socket, calls
 *            with answers, many at a time;
 * process.h  a child's life under master: configuration, listeners, tables and
 *            connections to other processes all arrive over one control
 *            channel, so that a process in an empty root needs no file name;
 * proto.h    every internal joint: who asks whom what, with which attributes;
 * event.h    log events, typed once, rendered by the `log` process;
 * socketmap.h  the client and server side of the socketmap protocol.
 *
 * Used by every process.  Nothing here parses what a stranger wrote.
 * Invariants: (1) every channel opens with a hello (release, feature bits) and
 * speaks with the release before and after; (2) no message is longer than
 * CHAN_MAX_BYTES; (3) a full channel is trouble of our own (ERR_TEMP), never a
 * loss: who sent keeps what it sent until it is answered.
 */

#include "ipc/chan.h"
#include "ipc/event.h"
#include "ipc/process.h"
#include "ipc/proto.h"
#include "ipc/socketmap.h"

#endif
