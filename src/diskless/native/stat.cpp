// The stat families of both generations, statx, and access.

#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <cstdint>
#include <atomic>
#include <cstring>
#include <shared_mutex>

#include "permission.h"
#include "route.h"

namespace diskless {

namespace {

static_assert(sizeof(struct stat) == sizeof(struct stat64), "one layout serves both");

struct stat *as_stat(struct stat64 *status) {
  return reinterpret_cast<struct stat *>(status);
}
struct stat *as_stat(struct stat *status) {
  return status;
}

int status_of_found(const Lookup &found, struct stat *status) {
  if (const int error = found.error_of_existing()) return -error;
  return kernel::is_null(status) ? -EFAULT : status_of(*found.inode(), status);
}

// What the kernel said of a descriptor is right but for one of ours: type, mode, links, and a directory's all.
[[gnu::noinline]] int correct(int result, struct stat *status) {
  if (result != 0) return result;
  const Described described = describe(*status);
  if (!described.ours) return 0;
  std::shared_lock lock(tree_lock);
  if (described.directory) {
    if (const Inode *directory = find_directory(described.number)) return settle(status_of(*directory, status));
    status_of_removed_directory(described.number, status);
  } else if (const Inode *file = find_file(described.memory)) {
    amend_status(*file, status);
  }
  return 0;
}

inline int corrected(int result, struct stat *status) {
  if (result != 0 || status->st_dev != memory_device.load(std::memory_order_relaxed)) [[likely]]
    return result;
  return correct(result, status);
}

template <typename Status, typename Next>
inline int stat_path(const char *path, Status *status, Follow follow, Next next) {
  return route(
      path, follow, [=](const Lookup &found) { return status_of_found(found, as_stat(status)); }, next);
}

// Where the kernel would answer for its own.
inline bool means_working_directory(int dirfd, const char *path, int flags) {
  if ((flags & AT_EMPTY_PATH) == 0 || dirfd != AT_FDCWD || !may_stand_in_tree()) [[likely]]
    return false;
  return kernel::is_null(path) || path[0] == '\0';
}

template <typename Status, typename Next>
inline int stat_at(int dirfd, const char *path, Status *status, int flags, Next next) {
  if (means_working_directory(dirfd, path, flags)) path = ".";
  const int result = route(
      dirfd, path, follow_unless((flags & AT_SYMLINK_NOFOLLOW) != 0),
      [=](const Lookup &found) { return status_of_found(found, as_stat(status)); }, next);
  // An empty path means the descriptor.
  const bool of_descriptor = (flags & AT_EMPTY_PATH) != 0 && (kernel::is_null(path) || path[0] == '\0');
  return of_descriptor ? corrected(result, as_stat(status)) : result;
}

void copy_time(struct statx_timestamp *to, const timespec &from) {
  *to = {};
  to->tv_sec = from.tv_sec;
  to->tv_nsec = static_cast<std::uint32_t>(from.tv_nsec);
}

// What the kernel says of a tmpfs's files beside the plain status: which attributes there can be, and which fields are
// given where none is asked for (the times may not be).
struct Given {
  std::uint32_t attributes = 0;
  std::uint32_t least = STATX_BASIC_STATS;
};

Given given_by_tmpfs() {
  static std::atomic<Given> known;  // asked twice where two are the first
  Given given = known.load(std::memory_order_relaxed);
  if (given.attributes != 0) return given;
  kernel::KeepErrno keep;
  struct statx status;
  const int fd = kernel::memfd_create("diskless-probe");
  if (fd >= 0 && ::syscall(SYS_statx, fd, "", AT_EMPTY_PATH, 0, &status) == 0) {
    given.attributes = static_cast<std::uint32_t>(status.stx_attributes_mask);
    given.least = status.stx_mask & STATX_BASIC_STATS;
    known.store(given, std::memory_order_relaxed);
  }
  if (fd >= 0) kernel::close(fd);
  return given;
}

void copy_status(struct statx *to, const struct stat &from, unsigned mask) {
  std::memset(to, 0, sizeof *to);
  const Given given = given_by_tmpfs();
  to->stx_mask = (mask & (STATX_MTIME | STATX_CTIME)) != 0 ? STATX_BASIC_STATS : given.least;
  to->stx_attributes_mask = given.attributes;
  to->stx_blksize = static_cast<std::uint32_t>(from.st_blksize);
  to->stx_nlink = static_cast<std::uint32_t>(from.st_nlink);
  to->stx_uid = from.st_uid;
  to->stx_gid = from.st_gid;
  to->stx_mode = static_cast<std::uint16_t>(from.st_mode);
  to->stx_ino = from.st_ino;
  to->stx_size = static_cast<std::uint64_t>(from.st_size);
  to->stx_blocks = static_cast<std::uint64_t>(from.st_blocks);
  to->stx_dev_major = gnu_dev_major(from.st_dev);
  to->stx_dev_minor = gnu_dev_minor(from.st_dev);
  copy_time(&to->stx_atime, from.st_atim);
  copy_time(&to->stx_mtime, from.st_mtim);
  copy_time(&to->stx_ctime, from.st_ctim);
}

int statx_found(const Lookup &found, unsigned mask, struct statx *status) {
  if ((mask & STATX__RESERVED) != 0) return -EINVAL;
  if (const int error = found.error_of_existing()) return -error;
  if (kernel::is_null(status)) return -EFAULT;
  struct stat plain;
  if (const int error = status_of(*found.inode(), &plain)) return error;
  copy_status(status, plain, mask);
  return 0;
}

// A statx of the descriptor itself.
[[gnu::noinline]] int correct_statx(int fd, struct statx *status, unsigned mask) {
  const Described described = describe(fd);
  if (!described.ours) return 0;
  struct stat plain;
  if (kernel::fstat(fd, &plain) != 0 || correct(0, &plain) != 0) return -1;
  copy_status(status, plain, mask);
  return 0;
}

int access_found(const Lookup &found, int mode, Who who) {
  if (const int error = found.error_of_existing()) return -error;
  const Inode &inode = *found.inode();
  if ((mode & W_OK) != 0 && !inode.volume->writable) return -EROFS;
  return permits(inode, mode, who) ? 0 : -EACCES;
}

}  // namespace

namespace intercept {

#define DEFINE_STAT(name, Status, follow)                                                               \
  int name(const char *path, Status *status) noexcept {                                                 \
    return stat_path(path, status, follow, [=](const char *real) { return NEXT(name)(real, status); }); \
  }
DEFINE_STAT(stat, struct stat, Follow::yes)
DEFINE_STAT(stat64, struct stat64, Follow::yes)
DEFINE_STAT(lstat, struct stat, Follow::no)
DEFINE_STAT(lstat64, struct stat64, Follow::no)

#define DEFINE_FSTAT(name, Status) \
  int name(int fd, Status *status) noexcept { return corrected(NEXT(name)(fd, status), as_stat(status)); }
DEFINE_FSTAT(fstat, struct stat)
DEFINE_FSTAT(fstat64, struct stat64)

#define DEFINE_FSTATAT(name, Status)                                                               \
  int name(int dirfd, const char *path, Status *status, int flags) noexcept {                      \
    return stat_at(dirfd, path, status, flags,                                                     \
                   [=](int at, const char *real) { return NEXT(name)(at, real, status, flags); }); \
  }
DEFINE_FSTATAT(fstatat, struct stat)
DEFINE_FSTATAT(fstatat64, struct stat64)

// What programs built for glibc before 2.33 call. `version` is the layout's: there has been one.
#define DEFINE_XSTAT(name, Status, follow)                                                                       \
  int name(int version, const char *path, Status *status) noexcept {                                             \
    return stat_path(path, status, follow, [=](const char *real) { return NEXT(name)(version, real, status); }); \
  }
DEFINE_XSTAT(__xstat, struct stat, Follow::yes)
DEFINE_XSTAT(__xstat64, struct stat64, Follow::yes)
DEFINE_XSTAT(__lxstat, struct stat, Follow::no)
DEFINE_XSTAT(__lxstat64, struct stat64, Follow::no)

#define DEFINE_FXSTAT(name, Status)                                     \
  int name(int version, int fd, Status *status) noexcept {              \
    return corrected(NEXT(name)(version, fd, status), as_stat(status)); \
  }
DEFINE_FXSTAT(__fxstat, struct stat)
DEFINE_FXSTAT(__fxstat64, struct stat64)

#define DEFINE_FXSTATAT(name, Status)                                                                       \
  int name(int version, int dirfd, const char *path, Status *status, int flags) noexcept {                  \
    return stat_at(dirfd, path, status, flags,                                                              \
                   [=](int at, const char *real) { return NEXT(name)(version, at, real, status, flags); }); \
  }
DEFINE_FXSTATAT(__fxstatat, struct stat)
DEFINE_FXSTATAT(__fxstatat64, struct stat64)

int statx(int dirfd, const char *path, int flags, unsigned mask, struct statx *status) noexcept {
  if (means_working_directory(dirfd, path, flags)) path = ".";
  const int result = route(
      dirfd, path, follow_unless((flags & AT_SYMLINK_NOFOLLOW) != 0),
      [=](const Lookup &found) { return statx_found(found, mask, status); },
      [=](int at, const char *real) { return NEXT(statx)(at, real, flags, mask, status); });
  const bool of_descriptor = (flags & AT_EMPTY_PATH) != 0 && (kernel::is_null(path) || path[0] == '\0');
  return of_descriptor && result == 0 ? correct_statx(dirfd, status, mask) : result;
}

int access(const char *path, int mode) noexcept {
  return route(
      path, Follow::yes,
      [=](const Lookup &found) {
        const bool unknown = (mode & ~(R_OK | W_OK | X_OK)) != 0;  // libc's eaccess lets these pass
        return unknown ? -EINVAL : access_found(found, mode, Who::real);
      },
      [=](const char *real) { return NEXT(access)(real, mode); });
}

int eaccess(const char *path, int mode) noexcept {
  return route(
      path, Follow::yes, [=](const Lookup &found) { return access_found(found, mode, Who::effective); },
      [=](const char *real) { return NEXT(eaccess)(real, mode); });
}

int euidaccess(const char *path, int mode) noexcept {
  return route(
      path, Follow::yes, [=](const Lookup &found) { return access_found(found, mode, Who::effective); },
      [=](const char *real) { return NEXT(euidaccess)(real, mode); });
}

int faccessat(int dirfd, const char *path, int mode, int flags) noexcept {
  const Who who = (flags & AT_EACCESS) != 0 ? Who::effective : Who::real;
  return route(
      dirfd, path, follow_unless((flags & AT_SYMLINK_NOFOLLOW) != 0),
      [=](const Lookup &found) {
        const bool unknown =
            (flags & ~(AT_EACCESS | AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)) != 0 || (mode & ~(R_OK | W_OK | X_OK)) != 0;
        return unknown ? -EINVAL : access_found(found, mode, who);
      },
      [=](int at, const char *real) { return NEXT(faccessat)(at, real, mode, flags); });
}

// As libc makes it of a stat of its own.
key_t ftok(const char *path, int project) noexcept {
  if (!may_be_ours(path)) [[likely]]
    return NEXT(ftok)(path, project);
  struct stat status;
  const long result = look_up(
      AT_FDCWD, path, Follow::yes, [&](const Lookup &found) -> long { return status_of_found(found, &status); },
      [=](int, const char *real) -> long {
        const key_t key = NEXT(ftok)(real, project);
        return key == -1 ? -1 : 1 + static_cast<long>(static_cast<std::uint32_t>(key));
      });
  if (result != 0) return result == -1 ? -1 : static_cast<key_t>(result - 1);
  return static_cast<key_t>((status.st_ino & 0xffff) | ((status.st_dev & 0xff) << 16) |
                            ((static_cast<std::uint32_t>(project) & 0xff) << 24));
}

}  // namespace intercept

}  // namespace diskless
