#include "permission.h"

#include <limits.h>
#include <unistd.h>

#include <algorithm>

namespace diskless {

namespace {

bool has_group(gid_t group, Who who) {
  if (group == (who == Who::real ? ::getgid() : ::getegid())) return true;
  gid_t groups[NGROUPS_MAX > 1024 ? 1024 : NGROUPS_MAX];
  const int count = ::getgroups(sizeof groups / sizeof *groups, groups);
  return count > 0 && std::find(groups, groups + count, group) != groups + count;
}

}  // namespace

bool permits(const Inode &inode, int wanted, Who who) {
  const auto bits_wanted = static_cast<mode_t>(wanted & (R_OK | X_OK));
  const mode_t for_everybody = bits_wanted * 0111;
  if ((inode.mode & for_everybody) == for_everybody) return true;
  const uid_t user = who == Who::real ? ::getuid() : ::geteuid();
  if (user == 0) {
    // As the kernel has it: root searches every directory, but executes only what somebody may.
    return (wanted & X_OK) == 0 || inode.is_directory() || (inode.mode & 0111) != 0;
  }
  const unsigned shift = user == inode.owner ? 6 : has_group(inode.group, who) ? 3 : 0;
  return (bits_wanted & ~(inode.mode >> shift)) == 0;
}

bool owns(const Inode &inode) {
  const uid_t user = ::geteuid();
  return user == 0 || user == inode.owner;
}

}  // namespace diskless
