// rename and its relatives.

#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>

#include <string>
#include <string_view>
#include <utility>

#include "pair.h"
#include "permission.h"

namespace diskless {

namespace {

constexpr unsigned flags_known = RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT;

bool is_above(const Inode &directory, const Inode *below) {
  for (; below != nullptr; below = below->parent()) {
    if (below == &directory) return true;
  }
  return false;
}

// A directory that moves has another parent in its "..": so it must itself be writable.
bool may_move(const Inode &inode) { return !inode.is_directory() || permits(inode, W_OK, Who::effective); }

int rename_found(const Lookup &source, const Lookup &target, unsigned flags) {
  for (const Lookup *each : {&source, &target}) {
    if (each->last() != Last::name) return each == &target && (flags & RENAME_NOREPLACE) != 0 ? -EEXIST : -EBUSY;
  }
  Inode &from = *source.parent(), &to = *target.parent();
  if (are_apart(from, to)) return -EXDEV;
  for (const Lookup *each : {&source, &target}) {
    if (each->inode() != nullptr && is_mount_point(*each->inode())) return -EBUSY;
  }
  if (!from.volume->writable) return -EROFS;
  const bool exchanges = (flags & RENAME_EXCHANGE) != 0;
  Inode *inode = source.inode(), *there = target.inode();
  if (source.name().size() > NAME_MAX) return -ENAMETOOLONG;
  if (inode == nullptr) return -ENOENT;
  if (target.name().size() > NAME_MAX) return -ENAMETOOLONG;
  if (there != nullptr && (flags & RENAME_NOREPLACE) != 0) return -EEXIST;
  if (exchanges) {
    if (there == nullptr) return -ENOENT;
    if (!there->is_directory() && target.trailing_slash()) return -ENOTDIR;
  }
  if (!inode->is_directory() && (source.trailing_slash() || (!exchanges && target.trailing_slash()))) return -ENOTDIR;
  if (is_above(*inode, &to)) return -EINVAL;
  if (there != nullptr && is_above(*there, &from)) return exchanges ? -EINVAL : -ENOTEMPTY;

  if (inode == there) return 0;
  if (const int error = may_delete(from, *inode, inode->is_directory())) return -error;
  const int error = there == nullptr
                        ? may_create(to)
                        : may_delete(to, *there, exchanges ? there->is_directory() : inode->is_directory());
  if (error != 0) return -error;
  if (&from != &to && (!may_move(*inode) || (exchanges && !may_move(*there)))) return -EACCES;
  if (exchanges) {
    exchange(from, source.name(), to, target.name());
    return 0;
  }
  if (there != nullptr && there->is_directory()) {
    if (there->above != nullptr) return -EBUSY;
    if (!there->entries.empty()) return -ENOTEMPTY;
  }
  move(from, source.name(), to, target.name());
  return 0;
}

template <typename Next>
[[gnu::noinline]] int rename_between(int from_fd, const char *from, int to_fd, const char *to, unsigned flags,
                                     Next next) {
  while (true) {
    Lookup source(from_fd, from, Follow::parent), target(to_fd, to, Follow::parent);
    if (!source.in_tree() && !target.in_tree()) {
      return next(source.dirfd(), source.path(), target.dirfd(), target.path());
    }
    // The Tree has no device that could stand for a name that was taken away.
    const bool wrong = (flags & ~flags_known) != 0 || (flags & RENAME_WHITEOUT) != 0 ||
                       ((flags & RENAME_NOREPLACE) != 0 && (flags & RENAME_EXCHANGE) != 0);
    if (wrong) return settle(-EINVAL);
    for (const auto &[each, path] : {std::pair(&source, from), std::pair(&target, to)}) {
      const int error = path[0] == '\0' ? ENOENT : each->in_tree() ? each->error() : error_of_parent(*each);
      if (error != 0) return settle(-error);
    }
    if (!source.in_tree() || !target.in_tree()) return settle(-EXDEV);
    if (source.lock_for_change(&target)) return settle(rename_found(source, target, flags));
  }
}

template <typename Next>
inline int rename_any(int from_fd, const char *from, int to_fd, const char *to, unsigned flags, Next next) {
  return between(
      from_fd, from, to_fd, to, [=](auto real) { return rename_between(from_fd, from, to_fd, to, flags, real); }, next);
}

}  // namespace

int error_of_parent(const Lookup &elsewhere) {
  std::string_view path = elsewhere.path();
  while (path.ends_with('/')) path.remove_suffix(1);
  path = path.substr(0, path.rfind('/') + 1);  // nothing where there is no slash
  const std::string parent = path.empty() ? "." : std::string(path);
  struct stat status;
  if (kernel::fstatat(elsewhere.dirfd(), parent.c_str(), &status, 0) != 0) return errno;
  return S_ISDIR(status.st_mode) ? 0 : ENOTDIR;
}

namespace intercept {

int rename(const char *from, const char *to) noexcept {
  return rename_any(AT_FDCWD, from, AT_FDCWD, to, 0,
                    [](int, const char *a, int, const char *b) { return NEXT(rename)(a, b); });
}

int renameat(int from_fd, const char *from, int to_fd, const char *to) noexcept {
  return rename_any(from_fd, from, to_fd, to, 0,
                    [](int af, const char *a, int bf, const char *b) { return NEXT(renameat)(af, a, bf, b); });
}

int renameat2(int from_fd, const char *from, int to_fd, const char *to, unsigned flags) noexcept {
  return rename_any(from_fd, from, to_fd, to, flags,
                    [=](int af, const char *a, int bf, const char *b) { return NEXT(renameat2)(af, a, bf, b, flags); });
}

}  // namespace intercept

}  // namespace diskless
