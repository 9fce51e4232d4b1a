// Calls that change what is there already: by path, or by a descriptor of ours.
#pragma once

#include "route.h"

namespace diskless {

// `rule(Inode &)` returns 0 or -errno and runs with the lock held exclusively.
template <typename Rule>
auto changing_inode(Rule rule) {
  return changing([=](const Lookup &found) {
    if (const int error = found.error_of_existing()) return -error;
    return found.inode()->volume->writable ? static_cast<int>(rule(*found.inode())) : -EROFS;
  });
}

// A path that is empty and means the descriptor.
inline bool means_descriptor(const char *path, int flags) {
  return !kernel::is_null(path) && path[0] == '\0' && (flags & AT_EMPTY_PATH) != 0;
}

// For calls on a descriptor: the memfd beneath could be changed, so the kernel must not be asked first. Only calls
// that name it by an empty path take one that was opened with O_PATH.
template <typename Rule, typename Next>
inline int change_descriptor(int fd, bool by_path, Rule rule, Next next) {
  const Described described = describe(fd);
  if (!described.ours) [[likely]]
    return next();
  const int flags = by_path ? 0 : kernel::fcntl(fd, F_GETFL, 0);
  if ((flags & O_PATH) != 0) return next();  // which looks at the other arguments first
  const Change change;
  Inode *inode = described.directory ? find_directory(described.number) : find_file(described.memory);
  if (inode == nullptr) return described.directory ? 0 : next();  // removed, and nobody else sees it
  return settle(inode->volume->writable ? static_cast<int>(rule(*inode)) : -EROFS);
}

}  // namespace diskless
