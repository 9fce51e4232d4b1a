// Opening paths of the Tree.
#pragma once

#include <cstddef>

#include "lookup.h"

namespace diskless {

// The result of open(2) on what a look-up found: a descriptor or -errno. The lock is held by the Lookup.
int open_found(const Lookup &lookup, int flags);

// What openat(2)'s flags say about a symlink at the end of the path.
Follow follow_of(int flags);

// openat2(2), which libc has no function for; called for syscall(SYS_openat2, …). `how` is a struct open_how.
long openat2(int dirfd, const char *path, const void *how, std::size_t size);

}  // namespace diskless
