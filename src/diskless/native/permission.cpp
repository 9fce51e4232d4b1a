#include "permission.h"

#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>

namespace diskless {

namespace {

// A setting of the system that does not change while a program runs, by and large.
struct Setting {
  const char *path;
  std::atomic<int> value{-1};

  int get() {
    int known = value.load(std::memory_order_relaxed);
    if (known >= 0) return known;
    kernel::KeepErrno keep;
    char digit = '0';
    const int fd = kernel::open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
      ::syscall(SYS_read, fd, &digit, 1);
      kernel::close(fd);
    }
    value.store(known = digit - '0');
    return known;
  }
};

constinit Setting protected_hardlinks{"/proc/sys/fs/protected_hardlinks"};
constinit Setting protected_regular{"/proc/sys/fs/protected_regular"};
constinit Setting protected_symlinks{"/proc/sys/fs/protected_symlinks"};

}  // namespace

bool has_group(gid_t group, Who who) {
  if (group == (who == Who::real ? ::getgid() : ::getegid())) return true;
  gid_t groups[NGROUPS_MAX > 1024 ? 1024 : NGROUPS_MAX];
  const int count = ::getgroups(sizeof groups / sizeof *groups, groups);
  return count > 0 && std::find(groups, groups + count, group) != groups + count;
}

bool is_privileged() { return ::geteuid() == 0; }

bool permits(const Inode &inode, int wanted, Who who) {
  const auto bits_wanted = static_cast<mode_t>(wanted & (R_OK | W_OK | X_OK));
  const mode_t for_everybody = bits_wanted * 0111;
  const Attributes attributes = attributes_of(inode);
  if ((attributes.mode & for_everybody) == for_everybody) return true;
  const uid_t user = who == Who::real ? ::getuid() : ::geteuid();
  if (user == 0) {
    // As the kernel has it: root searches every directory, but executes only what somebody may.
    return (wanted & X_OK) == 0 || inode.is_directory() || (attributes.mode & 0111) != 0;
  }
  const unsigned shift = user == attributes.owner ? 6 : has_group(attributes.group, who) ? 3 : 0;
  return (bits_wanted & ~(attributes.mode >> shift)) == 0;
}

bool owns(const Inode &inode) {
  const uid_t user = ::geteuid();
  return user == 0 || user == attributes_of(inode).owner;
}

bool may_link(const Inode &inode) {
  if (owns(inode) || protected_hardlinks.get() == 0) return true;
  const mode_t mode = attributes_of(inode).mode;
  if (!inode.is_file() || (mode & S_ISUID) != 0 || (mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP)) return false;
  return permits(inode, R_OK | W_OK, Who::effective);
}

int may_open_with_create(const Inode &directory, const Inode &inode) {
  if ((directory.mode & S_ISVTX) == 0) return 0;
  if (inode.is_file() && protected_regular.get() == 0) return 0;
  const uid_t owner = attributes_of(inode).owner;
  if (owner == directory.owner || owner == ::geteuid()) return 0;
  const bool by_group = (directory.mode & S_IWGRP) != 0 && inode.is_file() && protected_regular.get() >= 2;
  return (directory.mode & S_IWOTH) != 0 || by_group ? EACCES : 0;
}

int may_follow(const Inode &directory, const Inode &symlink) {
  constexpr mode_t shared = S_ISVTX | S_IWOTH;
  if ((directory.mode & shared) != shared || protected_symlinks.get() == 0) return 0;
  return symlink.owner == ::geteuid() || symlink.owner == directory.owner ? 0 : EACCES;
}

int may_create(const Inode &directory) {
  if (directory.is_removed()) return ENOENT;
  if (!directory.volume->writable) return EROFS;
  return permits(directory, W_OK | X_OK, Who::effective) ? 0 : EACCES;
}

int may_delete(const Inode &directory, const Inode &victim, bool as_directory) {
  if (!directory.volume->writable) return EROFS;
  if (!permits(directory, W_OK | X_OK, Who::effective)) return EACCES;
  if ((directory.mode & S_ISVTX) != 0 && !owns(victim) && !owns(directory)) return EPERM;
  if (as_directory) return victim.is_directory() ? 0 : ENOTDIR;
  return victim.is_directory() ? EISDIR : 0;
}

}  // namespace diskless
