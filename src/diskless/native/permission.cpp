#include "permission.h"

#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

namespace diskless {

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

int may_create(const Inode &directory) {
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
