// Unix sockets on a path of the Tree.
#pragma once

#include <sys/socket.h>

namespace diskless {

// Puts the path into an address that the kernel gave, if it is one of ours: the abstract address has no meaning for a
// program that asked for a path. Leaves errno alone.
void show_path(sockaddr *address, socklen_t *length);

}  // namespace diskless
