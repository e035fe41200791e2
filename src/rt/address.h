#ifndef RT_ADDRESS_H
#define RT_ADDRESS_H

/* Socket addresses, inside rt. */
#include "rt/rt.h"

#include <sys/socket.h>

/* 0, or -1 for a family that we do not know.  v4-mapped becomes IPv4. */
int address_from_sockaddr(const struct sockaddr_storage *sa, socklen_t len,
                          struct peer_addr *out);
/* Fill uid, gid and pid of a connected UNIX socket's peer. */
void address_credentials(int fd, struct peer_addr *out);
/* "unix:/path", "inet:127.0.0.1:25", "inet:[::1]:25". */
int address_parse(slice where, struct sockaddr_storage *out, socklen_t *len_out,
                  struct err *err);

#endif
