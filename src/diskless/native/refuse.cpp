// Calls that would change the Tree: it is read-only, and answers as a filesystem that is mounted so. The kernel looks
// for other mistakes first (does the path exist, is there something already), and each kind of call in its own order.

#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/xattr.h>
#include <utime.h>

#include <atomic>
#include <cstdarg>
#include <cstring>
#include <ctime>
#include <string>

#include "route.h"

namespace diskless {

namespace {

bool is_root(const Inode &inode) { return inode.parent() != nullptr && inode.parent()->overlay != nullptr; }

// mkdir and all others that make a name.
int make_directory_at(const Lookup &found) {
  if (found.error() != 0) return -found.error();
  if (found.name().size() > NAME_MAX) return -ENAMETOOLONG;
  return found.inode() != nullptr || found.last() != Last::name ? -EEXIST : -EROFS;
}

int make_at(const Lookup &found) {
  if (found.error() != 0) return -found.error();
  if (found.name().size() > NAME_MAX) return -ENAMETOOLONG;
  if (found.inode() != nullptr || found.last() != Last::name) return -EEXIST;
  return found.trailing_slash() ? -ENOENT : -EROFS;
}

int unlink_at(const Lookup &found) {
  if (found.error() != 0) return -found.error();
  return found.last() != Last::name ? -EISDIR : -EROFS;
}

int rmdir_at(const Lookup &found) {
  if (found.error() != 0) return -found.error();
  if (found.last() == Last::dotdot) return -ENOTEMPTY;
  if (found.last() == Last::dot) return -EINVAL;
  return found.inode() != nullptr && is_root(*found.inode()) ? -EBUSY : -EROFS;
}

// libc tries the one, then the other.
int remove_at(const Lookup &found) {
  const int result = unlink_at(found);
  return result == -EISDIR ? rmdir_at(found) : result;
}

// chmod and all others that change what is there.
int change_at(const Lookup &found) {
  const int error = found.error_of_existing();
  return error != 0 ? -error : -EROFS;
}

int truncate_at(const Lookup &found) {
  if (const int error = found.error_of_existing()) return -error;
  return found.inode()->is_directory() ? -EISDIR : -EROFS;
}

template <typename Next>
[[gnu::noinline]] int rename_between(int from_fd, const char *from, int to_fd, const char *to, Next next) {
  const Lookup source(from_fd, from, Follow::parent), target(to_fd, to, Follow::parent);
  if (!source.in_tree() && !target.in_tree()) return next(source.dirfd(), source.path(), target.dirfd(), target.path());
  for (const Lookup *each : {&source, &target}) {
    if (each->in_tree() && each->error() != 0) return settle(-each->error());
  }
  if (!source.in_tree() || !target.in_tree()) return settle(-EXDEV);
  for (const Lookup *each : {&source, &target}) {
    if (each->last() != Last::name || (each->inode() != nullptr && is_root(*each->inode()))) return settle(-EBUSY);
  }
  return settle(-EROFS);
}

template <typename Next>
[[gnu::noinline]] int link_between(int from_fd, const char *from, int to_fd, const char *to, Follow follow, Next next) {
  const Lookup source(from_fd, from, follow), target(to_fd, to, Follow::parent);
  if (!source.in_tree() && !target.in_tree()) return next(source.dirfd(), source.path(), target.dirfd(), target.path());
  struct stat status;
  if (source.in_tree()) {
    if (const int error = source.error_of_existing()) return settle(-error);
  } else if (kernel::fstatat(source.dirfd(), source.path(), &status, AT_SYMLINK_NOFOLLOW) != 0) {
    return -1;
  }
  return settle(target.in_tree() ? make_at(target) : -EXDEV);
}

template <typename Slow, typename Next>
inline int between(int from_fd, const char *from, int to_fd, const char *to, Slow slow, Next next) {
  if (kernel::is_null(from) || kernel::is_null(to)) return next(from_fd, from, to_fd, to);
  if (may_be_ours(from_fd, from) || may_be_ours(to_fd, to)) [[unlikely]]
    return slow(next);
  const int result = next(from_fd, from, to_fd, to);
  if (result == -1 && (is_beneath_ours(from_fd, from) || is_beneath_ours(to_fd, to))) return slow(next);
  return result;
}

template <typename Next>
inline int rename_any(int from_fd, const char *from, int to_fd, const char *to, Next next) {
  return between(
      from_fd, from, to_fd, to, [=](auto real) { return rename_between(from_fd, from, to_fd, to, real); }, next);
}

template <typename Next>
inline int link_any(int from_fd, const char *from, int to_fd, const char *to, Follow follow, Next next) {
  return between(
      from_fd, from, to_fd, to, [=](auto real) { return link_between(from_fd, from, to_fd, to, follow, real); }, next);
}

// For calls on a descriptor: the memfd beneath could be changed, so the kernel must not be asked first.
inline bool refused(int fd) {
  if (!describe(fd).ours) [[likely]]
    return false;
  errno = EROFS;
  return true;
}

bool means_descriptor(const char *path, int flags) {
  return kernel::is_null(path) || (path[0] == '\0' && (flags & AT_EMPTY_PATH) != 0);
}

// Calls one of them with the path that `pattern` leads to outside the Tree, and takes over the letters that it chose.
template <typename Call>
auto make_elsewhere(char *pattern, const char *real, int suffix_length, Call call) {
  if (real == pattern) return call(pattern);
  std::string other = real;
  auto result = call(other.data());
  const std::size_t tail = 6 + static_cast<std::size_t>(suffix_length);
  std::memcpy(pattern + std::strlen(pattern) - tail, other.c_str() + other.size() - tail, 6);
  return result;
}

bool is_pattern(const char *pattern, int suffix_length) {
  const std::size_t length = std::strlen(pattern);
  if (suffix_length < 0 || length < 6 + static_cast<std::size_t>(suffix_length)) return false;
  return std::strncmp(pattern + length - 6 - static_cast<std::size_t>(suffix_length), "XXXXXX", 6) == 0;
}

// mkstemp and its relatives, which make the name that they find.
int make_temporary_at(const Lookup &found) { return found.error() != 0 ? -found.error() : -EROFS; }

// Puts letters for the last six; true if no file has that name.
bool invent(char *pattern) {
  static constexpr char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
  static std::atomic<unsigned long> turn{0};
  timespec time = now();
  unsigned long value = static_cast<unsigned long>(time.tv_nsec) * 2654435761u + turn.fetch_add(7919) + ::getpid();
  for (char *letter = pattern + std::strlen(pattern) - 6; *letter != '\0'; ++letter, value /= 62) {
    *letter = letters[value % 62];
  }
  struct stat status;
  return intercept::lstat(pattern, &status) != 0 && errno == ENOENT;
}

bool invent_repeatedly(char *pattern) {
  for (int attempt = 0; attempt < 100; ++attempt) {
    if (invent(pattern)) return true;
  }
  return false;
}

}  // namespace

namespace intercept {

#define REFUSE(name, parameters, follow, rule, arguments)                                     \
  int name parameters noexcept {                                                              \
    return route(path, follow, rule, [=](const char *real) { return NEXT(name) arguments; }); \
  }
#define REFUSE_AT(name, parameters, follow, rule, arguments)                                                 \
  int name parameters noexcept {                                                                             \
    return route(dirfd, path, follow, rule, [=](int at, const char *real) { return NEXT(name) arguments; }); \
  }

REFUSE(mkdir, (const char *path, mode_t mode), Follow::parent, make_directory_at, (real, mode))
REFUSE_AT(mkdirat, (int dirfd, const char *path, mode_t mode), Follow::parent, make_directory_at, (at, real, mode))
REFUSE(mknod, (const char *path, mode_t mode, dev_t device), Follow::parent, make_at, (real, mode, device))
REFUSE_AT(mknodat, (int dirfd, const char *path, mode_t mode, dev_t device), Follow::parent, make_at,
          (at, real, mode, device))
REFUSE(__xmknod, (int version, const char *path, mode_t mode, dev_t *device), Follow::parent, make_at,
       (version, real, mode, device))
REFUSE_AT(__xmknodat, (int version, int dirfd, const char *path, mode_t mode, dev_t *device), Follow::parent, make_at,
          (version, at, real, mode, device))
REFUSE(mkfifo, (const char *path, mode_t mode), Follow::parent, make_at, (real, mode))
REFUSE_AT(mkfifoat, (int dirfd, const char *path, mode_t mode), Follow::parent, make_at, (at, real, mode))
REFUSE(symlink, (const char *target, const char *path), Follow::parent, make_at, (target, real))
REFUSE_AT(symlinkat, (const char *target, int dirfd, const char *path), Follow::parent, make_at, (target, at, real))

REFUSE(rmdir, (const char *path), Follow::parent, rmdir_at, (real))
REFUSE(unlink, (const char *path), Follow::parent, unlink_at, (real))
REFUSE(remove, (const char *path), Follow::parent, remove_at, (real))
REFUSE_AT(unlinkat, (int dirfd, const char *path, int flags), Follow::parent,
          ((flags & AT_REMOVEDIR) != 0 ? rmdir_at : unlink_at), (at, real, flags))

REFUSE(chmod, (const char *path, mode_t mode), Follow::yes, change_at, (real, mode))
REFUSE(lchmod, (const char *path, mode_t mode), Follow::no, change_at, (real, mode))
REFUSE_AT(fchmodat, (int dirfd, const char *path, mode_t mode, int flags),
          follow_unless((flags & AT_SYMLINK_NOFOLLOW) != 0), change_at, (at, real, mode, flags))
REFUSE(chown, (const char *path, uid_t owner, gid_t group), Follow::yes, change_at, (real, owner, group))
REFUSE(lchown, (const char *path, uid_t owner, gid_t group), Follow::no, change_at, (real, owner, group))
REFUSE(utime, (const char *path, const struct utimbuf *times), Follow::yes, change_at, (real, times))
REFUSE(utimes, (const char *path, const struct timeval *times), Follow::yes, change_at, (real, times))
REFUSE(lutimes, (const char *path, const struct timeval *times), Follow::no, change_at, (real, times))
REFUSE(setxattr, (const char *path, const char *name_, const void *value, size_t size, int flags), Follow::yes,
       change_at, (real, name_, value, size, flags))
REFUSE(lsetxattr, (const char *path, const char *name_, const void *value, size_t size, int flags), Follow::no,
       change_at, (real, name_, value, size, flags))
REFUSE(removexattr, (const char *path, const char *name_), Follow::yes, change_at, (real, name_))
REFUSE(lremovexattr, (const char *path, const char *name_), Follow::no, change_at, (real, name_))

#define REFUSE_TRUNCATE(name, Offset)                                                                      \
  int name(const char *path, Offset length) noexcept {                                                     \
    return route(                                                                                          \
        path, Follow::yes, [=](const Lookup &found) { return length < 0 ? -EINVAL : truncate_at(found); }, \
        [=](const char *real) { return NEXT(name)(real, length); });                                       \
  }
REFUSE_TRUNCATE(truncate, off_t)
REFUSE_TRUNCATE(truncate64, off64_t)

#define REFUSE_DESCRIPTOR(name, parameters, arguments) \
  int name parameters noexcept { return refused(fd) ? -1 : NEXT(name) arguments; }
REFUSE_DESCRIPTOR(fchmod, (int fd, mode_t mode), (fd, mode))
REFUSE_DESCRIPTOR(fchown, (int fd, uid_t owner, gid_t group), (fd, owner, group))
REFUSE_DESCRIPTOR(futimes, (int fd, const struct timeval *times), (fd, times))
REFUSE_DESCRIPTOR(futimens, (int fd, const struct timespec *times), (fd, times))
REFUSE_DESCRIPTOR(fsetxattr, (int fd, const char *name_, const void *value, size_t size, int flags),
                  (fd, name_, value, size, flags))
REFUSE_DESCRIPTOR(fremovexattr, (int fd, const char *name_), (fd, name_))

int fchownat(int dirfd, const char *path, uid_t owner, gid_t group, int flags) noexcept {
  if (means_descriptor(path, flags) && refused(dirfd)) return -1;
  return route(dirfd, path, follow_unless((flags & AT_SYMLINK_NOFOLLOW) != 0), change_at,
               [=](int at, const char *real) { return NEXT(fchownat)(at, real, owner, group, flags); });
}

int utimensat(int dirfd, const char *path, const struct timespec *times, int flags) noexcept {
  if (means_descriptor(path, flags) && refused(dirfd)) return -1;
  return route(dirfd, path, follow_unless((flags & AT_SYMLINK_NOFOLLOW) != 0), change_at,
               [=](int at, const char *real) { return NEXT(utimensat)(at, real, times, flags); });
}

int futimesat(int dirfd, const char *path, const struct timeval *times) noexcept {
  if (means_descriptor(path, 0) && refused(dirfd)) return -1;
  return route(dirfd, path, Follow::yes, change_at,
               [=](int at, const char *real) { return NEXT(futimesat)(at, real, times); });
}

int rename(const char *from, const char *to) noexcept {
  return rename_any(AT_FDCWD, from, AT_FDCWD, to,
                    [](int, const char *a, int, const char *b) { return NEXT(rename)(a, b); });
}

int renameat(int from_fd, const char *from, int to_fd, const char *to) noexcept {
  return rename_any(from_fd, from, to_fd, to,
                    [](int af, const char *a, int bf, const char *b) { return NEXT(renameat)(af, a, bf, b); });
}

int renameat2(int from_fd, const char *from, int to_fd, const char *to, unsigned flags) noexcept {
  return rename_any(from_fd, from, to_fd, to,
                    [=](int af, const char *a, int bf, const char *b) { return NEXT(renameat2)(af, a, bf, b, flags); });
}

int link(const char *from, const char *to) noexcept {
  return link_any(AT_FDCWD, from, AT_FDCWD, to, Follow::no,
                  [](int, const char *a, int, const char *b) { return NEXT(link)(a, b); });
}

int linkat(int from_fd, const char *from, int to_fd, const char *to, int flags) noexcept {
  return link_any(from_fd, from, to_fd, to, follow_unless((flags & AT_SYMLINK_FOLLOW) == 0),
                  [=](int af, const char *a, int bf, const char *b) { return NEXT(linkat)(af, a, bf, b, flags); });
}

#define REFUSE_TEMPORARY(name, parameters, suffix, arguments)                                         \
  int name parameters {                                                                               \
    if (!may_be_ours(path)) [[likely]] {                                                              \
      char *pattern = path;                                                                           \
      return NEXT(name) arguments;                                                                    \
    }                                                                                                 \
    if (!is_pattern(path, suffix)) return settle(-EINVAL);                                            \
    return look_up(AT_FDCWD, path, Follow::parent, make_temporary_at, [=](int, const char *real) {    \
      return make_elsewhere(path, real, suffix, [=](char *pattern) { return NEXT(name) arguments; }); \
    });                                                                                               \
  }
REFUSE_TEMPORARY(mkstemp, (char *path), 0, (pattern))
REFUSE_TEMPORARY(mkstemp64, (char *path), 0, (pattern))
REFUSE_TEMPORARY(mkostemp, (char *path, int flags), 0, (pattern, flags))
REFUSE_TEMPORARY(mkostemp64, (char *path, int flags), 0, (pattern, flags))
REFUSE_TEMPORARY(mkstemps, (char *path, int suffix), suffix, (pattern, suffix))
REFUSE_TEMPORARY(mkstemps64, (char *path, int suffix), suffix, (pattern, suffix))
REFUSE_TEMPORARY(mkostemps, (char *path, int suffix, int flags), suffix, (pattern, suffix, flags))
REFUSE_TEMPORARY(mkostemps64, (char *path, int suffix, int flags), suffix, (pattern, suffix, flags))

char *mkdtemp(char *path) noexcept {
  if (!may_be_ours(path)) [[likely]]
    return NEXT(mkdtemp)(path);
  const auto make = [](char *pattern) { return NEXT(mkdtemp)(pattern) == nullptr ? -1 : 0; };
  const int result = !is_pattern(path, 0)
                         ? settle(-EINVAL)
                         : look_up(AT_FDCWD, path, Follow::parent, make_temporary_at,
                                   [=](int, const char *real) { return make_elsewhere(path, real, 0, make); });
  return result == 0 ? path : nullptr;
}

// These two only find a name.
char *mktemp(char *path) noexcept {
  if (!may_be_ours(path)) [[likely]]
    return NEXT(mktemp)(path);
  if (!is_pattern(path, 0)) {
    errno = EINVAL;
    path[0] = '\0';
  } else if (!invent_repeatedly(path)) {
    path[0] = '\0';
  }
  return path;
}

char *tempnam(const char *directory, const char *prefix) noexcept {
  const char *wished = ::secure_getenv("TMPDIR");
  if (wished == nullptr || !may_be_ours(wished)) wished = directory;
  struct stat status;
  if (!may_be_ours(wished) || intercept::stat(wished, &status) != 0 || !S_ISDIR(status.st_mode)) {
    return NEXT(tempnam)(directory, prefix);
  }
  std::string pattern = wished;
  while (pattern.size() > 1 && pattern.back() == '/') pattern.pop_back();
  pattern += '/';
  pattern += std::string_view(prefix == nullptr ? "file" : prefix).substr(0, 5);
  pattern += "XXXXXX";
  return invent_repeatedly(pattern.data()) ? ::strdup(pattern.c_str()) : nullptr;
}

}  // namespace intercept

}  // namespace diskless
