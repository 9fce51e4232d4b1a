// Calls that take a name away: unlink, rmdir, remove.

#include <limits.h>
#include <sys/stat.h>

#include "permission.h"
#include "route.h"

namespace diskless {

namespace {

int take_away(const Lookup &found) {
  Inode &inode = *found.inode();
  mark_changed(inode);
  unlink(*found.parent(), found.name());
  return 0;
}

int unlink_at(const Lookup &found) {
  if (found.error() != 0) return -found.error();
  if (found.last() != Last::name) return -EISDIR;
  if (!found.parent()->volume->writable) return -EROFS;
  if (found.name().size() > NAME_MAX) return -ENAMETOOLONG;
  const Inode *inode = found.inode();
  if (inode == nullptr) return -ENOENT;
  if (found.trailing_slash()) return inode->is_directory() ? -EISDIR : -ENOTDIR;
  if (const int error = may_delete(*found.parent(), *inode, false)) return -error;
  return is_mount_point(*inode) ? -EBUSY : take_away(found);
}

int rmdir_at(const Lookup &found) {
  if (found.error() != 0) return -found.error();
  if (found.last() == Last::dotdot) return -ENOTEMPTY;
  if (found.last() == Last::dot) return -EINVAL;
  if (found.last() == Last::root) return -EBUSY;
  const Inode *inode = found.inode();
  if (inode != nullptr && is_mount_point(*inode)) return -EBUSY;
  if (!found.parent()->volume->writable) return -EROFS;
  if (found.name().size() > NAME_MAX) return -ENAMETOOLONG;
  if (inode == nullptr) return -ENOENT;
  if (const int error = may_delete(*found.parent(), *inode, true)) return -error;
  if (inode->above != nullptr) return -EBUSY;
  return inode->entries.empty() ? take_away(found) : -ENOTEMPTY;
}

// libc tries the one, then the other.
int remove_at(const Lookup &found) {
  const int result = unlink_at(found);
  return result == -EISDIR ? rmdir_at(found) : result;
}

}  // namespace

namespace intercept {

int rmdir(const char *path) noexcept {
  return route(path, Follow::parent, changing(rmdir_at), [](const char *real) { return NEXT(rmdir)(real); });
}

int unlink(const char *path) noexcept {
  return route(path, Follow::parent, changing(unlink_at), [](const char *real) { return NEXT(unlink)(real); });
}

int remove(const char *path) noexcept {
  return route(path, Follow::parent, changing(remove_at), [](const char *real) { return NEXT(remove)(real); });
}

int unlinkat(int dirfd, const char *path, int flags) noexcept {
  const auto rule = [=](const Lookup &found) {
    if ((flags & ~AT_REMOVEDIR) != 0) return -EINVAL;
    return (flags & AT_REMOVEDIR) != 0 ? rmdir_at(found) : unlink_at(found);
  };
  return route(dirfd, path, Follow::parent, changing(rule),
               [=](int at, const char *real) { return NEXT(unlinkat)(at, real, flags); });
}

}  // namespace intercept

}  // namespace diskless
