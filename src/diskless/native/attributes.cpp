// Mode, owner and size. A file of a scratch has them in its memfd, where the kernel also says who may change them.

#include <sys/stat.h>

#include "change.h"
#include "permission.h"

namespace diskless {

namespace {

int result_of(long result) { return result < 0 ? -errno : 0; }

int set_mode_of_file(Inode &file, mode_t mode) {
  const kernel::DescriptorPath path(file.fd);
  int result = result_of(::syscall(SYS_fchmodat, AT_FDCWD, path.text, mode));
  if (result == -EPERM && file.execute_here && owns(file)) {
    result = result_of(::syscall(SYS_fchmodat, AT_FDCWD, path.text, mode & ~0111u));
  }
  if (result == 0) file.mode = mode;
  return result;
}

int set_mode(Inode &inode, mode_t mode) {
  mode &= 07777;
  if (inode.is_symlink()) return -EOPNOTSUPP;
  if (inode.is_file()) return set_mode_of_file(inode, mode);
  if (!owns(inode)) return -EPERM;
  if (!is_privileged() && !has_group(inode.group, Who::effective)) mode &= ~static_cast<mode_t>(S_ISGID);
  inode.mode = mode;
  inode.changed = now();
  return 0;
}

constexpr uid_t same_owner = static_cast<uid_t>(-1);
constexpr gid_t same_group = static_cast<gid_t>(-1);

int set_owner(Inode &inode, uid_t owner, gid_t group) {
  if (inode.is_file()) {
    const kernel::DescriptorPath path(inode.fd);
    if (inode.group_here && group == inode.group) group = same_group;
    const int result = result_of(::syscall(SYS_fchownat, AT_FDCWD, path.text, owner, group, 0));
    if (result == 0 && group != same_group) inode.group_here = false;
    return result;
  }
  if (!is_privileged()) {
    const bool mine = ::geteuid() == inode.owner;
    if (owner != same_owner && !(mine && owner == inode.owner)) return -EPERM;
    if (group != same_group && !(mine && (group == inode.group || has_group(group, Who::effective)))) return -EPERM;
  }
  if (owner != same_owner) inode.owner = owner;
  if (group != same_group) inode.group = group;
  inode.changed = now();
  return 0;
}

int truncate_found(const Lookup &found, off_t length) {
  if (length < 0) return -EINVAL;
  if (const int error = found.error_of_existing()) return -error;
  const Inode &inode = *found.inode();
  if (inode.is_directory()) return -EISDIR;
  if (!inode.is_file()) return -EINVAL;
  if (!inode.volume->writable) return -EROFS;
  return result_of(::syscall(SYS_truncate, kernel::DescriptorPath(inode.fd).text, length));
}

}  // namespace

namespace intercept {

int chmod(const char *path, mode_t mode) noexcept {
  return route(path, Follow::yes, changing_inode([=](Inode &inode) { return set_mode(inode, mode); }),
               [=](const char *real) { return NEXT(chmod)(real, mode); });
}

int lchmod(const char *path, mode_t mode) noexcept {
  return route(path, Follow::no, changing_inode([=](Inode &inode) { return set_mode(inode, mode); }),
               [=](const char *real) { return NEXT(lchmod)(real, mode); });
}

int fchmod(int fd, mode_t mode) noexcept {
  return change_descriptor(
      fd, false, [=](Inode &inode) { return set_mode(inode, mode); }, [=] { return NEXT(fchmod)(fd, mode); });
}

int fchmodat(int dirfd, const char *path, mode_t mode, int flags) noexcept {
  const auto rule = [=](Inode &inode) {
    return (flags & ~(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)) != 0 ? -EINVAL : set_mode(inode, mode);
  };
  if (means_descriptor(path, flags)) {
    return change_descriptor(dirfd, true, rule, [=] { return NEXT(fchmodat)(dirfd, path, mode, flags); });
  }
  return route(dirfd, path, follow_unless((flags & AT_SYMLINK_NOFOLLOW) != 0), changing_inode(rule),
               [=](int at, const char *real) { return NEXT(fchmodat)(at, real, mode, flags); });
}

int chown(const char *path, uid_t owner, gid_t group) noexcept {
  return route(path, Follow::yes, changing_inode([=](Inode &inode) { return set_owner(inode, owner, group); }),
               [=](const char *real) { return NEXT(chown)(real, owner, group); });
}

int lchown(const char *path, uid_t owner, gid_t group) noexcept {
  return route(path, Follow::no, changing_inode([=](Inode &inode) { return set_owner(inode, owner, group); }),
               [=](const char *real) { return NEXT(lchown)(real, owner, group); });
}

int fchown(int fd, uid_t owner, gid_t group) noexcept {
  return change_descriptor(
      fd, false, [=](Inode &inode) { return set_owner(inode, owner, group); },
      [=] { return NEXT(fchown)(fd, owner, group); });
}

int fchownat(int dirfd, const char *path, uid_t owner, gid_t group, int flags) noexcept {
  const auto rule = [=](Inode &inode) {
    return (flags & ~(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)) != 0 ? -EINVAL : set_owner(inode, owner, group);
  };
  if (means_descriptor(path, flags)) {
    return change_descriptor(dirfd, true, rule, [=] { return NEXT(fchownat)(dirfd, path, owner, group, flags); });
  }
  return route(dirfd, path, follow_unless((flags & AT_SYMLINK_NOFOLLOW) != 0), changing_inode(rule),
               [=](int at, const char *real) { return NEXT(fchownat)(at, real, owner, group, flags); });
}

#define DEFINE_TRUNCATE(name, Offset)                                                          \
  int name(const char *path, Offset length) noexcept {                                         \
    return route(                                                                              \
        path, Follow::yes, [=](const Lookup &found) { return truncate_found(found, length); }, \
        [=](const char *real) { return NEXT(name)(real, length); });                           \
  }
DEFINE_TRUNCATE(truncate, off_t)
DEFINE_TRUNCATE(truncate64, off64_t)

}  // namespace intercept

}  // namespace diskless
