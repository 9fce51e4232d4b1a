// Opening paths of the Tree.
#pragma once

#include <cstddef>

#include "lookup.h"

namespace diskless {

// The result of open(2) on what a look-up found: a descriptor, -errno, or `again` (route.h). The lock is held by the
// Lookup, exclusively afterwards where a file was made.
int open_found(Lookup &lookup, int flags, mode_t mode = 0);

// What openat(2)'s flags say about a symlink at the end of the path.
Follow follow_of(int flags);

// openat2(2), which libc has no function for; called for syscall(SYS_openat2, …). `how` is a struct open_how.
long openat2(int dirfd, const char *path, const void *how, std::size_t size);

}  // namespace diskless
