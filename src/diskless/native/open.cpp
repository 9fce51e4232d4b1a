#include "open.h"

#include <fcntl.h>

#include <cstdint>
#include <cstring>
#include <string>

#include "permission.h"
#include "route.h"
#include "umask.h"

namespace diskless {

namespace {

constexpr int tmpfile_bit = O_TMPFILE & ~O_DIRECTORY;

bool writes(int flags) { return (flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC) != 0; }

int open_unnamed(const Lookup &lookup, int flags, mode_t mode) {
  if (!writes(flags)) return -EINVAL;
  if (const int error = lookup.error_of_existing()) return -error;
  const Inode &directory = *lookup.inode();
  if (!directory.is_directory()) return -ENOTDIR;
  if (const int error = may_create(directory)) return -error;
  return create(directory, flags, mode & ~current_umask() & 07777, nullptr);
}

int open_new(Lookup &lookup, int flags, mode_t mode) {
  Inode &directory = *lookup.parent();
  if (const int error = may_create(directory)) return -error;
  if (!lookup.lock_for_change()) return again;
  Inode *made = nullptr;
  const int fd = create(directory, flags, mode & ~current_umask() & 07777, &made);
  if (fd >= 0) link(directory, lookup.name(), *made);
  return fd;
}

// A file that was placed in a scratch is never written to: who begins it anew gets another one under its name, as on an
// overlayfs. Only the name is lost, and nothing is copied.
int open_in_its_place(Lookup &lookup, int flags) {
  Inode &directory = *lookup.parent();
  if (const int error = may_delete(directory, *lookup.inode(), false)) return -error;
  if (!lookup.lock_for_change()) return again;
  Inode *made = nullptr;
  const int fd = create(directory, flags, 0666 & ~current_umask(), &made);
  if (fd < 0) return fd;
  const std::string name{lookup.name()};
  unlink(directory, name);
  link(directory, name, *made);
  return fd;
}

// struct open_how of openat2(2).
struct How {
  std::uint64_t flags, mode, resolve;
};

constexpr std::uint64_t resolve_known =
    resolve_no_xdev | resolve_no_magiclinks | resolve_no_symlinks | resolve_beneath | resolve_in_root | resolve_cached;

}  // namespace

Follow follow_of(int flags) {
  return follow_unless((flags & O_NOFOLLOW) != 0 || (flags & (O_CREAT | O_EXCL | O_PATH)) == (O_CREAT | O_EXCL));
}

int open_found(Lookup &lookup, int flags, mode_t mode) {
  if ((flags & O_PATH) != 0) flags &= O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
  if ((flags & tmpfile_bit) != 0) return open_unnamed(lookup, flags, mode);
  const bool creates = (flags & O_CREAT) != 0;
  if (creates && (flags & O_DIRECTORY) != 0) return -EINVAL;  // as of Linux 6.4
  if (creates && lookup.slash_behind_name()) return -EISDIR;
  if (lookup.error() != 0) return -lookup.error();
  if (creates && lookup.trailing_slash() && lookup.last() == Last::name) return -EISDIR;
  const Inode *inode = lookup.inode();
  if (inode == nullptr) return creates ? open_new(lookup, flags, mode) : -ENOENT;
  if (creates && (flags & O_EXCL) != 0) return -EEXIST;
  if (creates && !inode->is_directory() && lookup.parent() != nullptr && inode->volume->writable) {
    if (const int error = may_open_with_create(*lookup.parent(), *inode)) return -error;
  }
  if (inode->is_symlink()) return (flags & O_DIRECTORY) != 0 ? -ENOTDIR : -ELOOP;
  if (const int error = lookup.error_of_existing()) return -error;
  if (inode->is_directory()) {
    if (creates || writes(flags)) return -EISDIR;
    if ((flags & O_PATH) == 0 && !permits(*inode, R_OK, Who::effective)) return -EACCES;
    if ((flags & O_NOATIME) != 0 && !owns(*inode)) return -EPERM;
    return open_directory(*inode, flags);
  }
  if ((flags & O_DIRECTORY) != 0) return -ENOTDIR;
  if (inode->is_socket()) return -ENXIO;
  if (writes(flags) && !inode->volume->writable) {
    const bool anew = (flags & O_TRUNC) != 0 && lookup.parent() != nullptr && lookup.parent()->volume->writable;
    return anew && inode->placed ? open_in_its_place(lookup, flags) : -EROFS;
  }
  if ((flags & O_PATH) != 0 || inode->gate == nullptr) return open_inode(*inode, flags);
  if (is_open(*inode->gate)) {
    const int fd = open_inode(*inode, flags);
    if (fd < 0 || is_open(*inode->gate)) return fd;
    kernel::close(fd);  // the bytes were dropped before it was open, which would have kept them
  }
  const int error = lookup.wait_for_bytes();
  return error != 0 ? error : again;
}

long openat2(int dirfd, const char *path, const void *how, std::size_t size) {
  const auto next = [&](int at, const char *real) { return ::syscall(SYS_openat2, at, real, how, size); };
  How asked{};
  if (kernel::is_null(path) || kernel::is_null(how) || size < sizeof asked) return next(dirfd, path);
  std::memcpy(&asked, how, sizeof asked);
  const auto resolve = static_cast<unsigned>(asked.resolve);
  const bool bounded = (resolve & (resolve_beneath | resolve_in_root)) != 0;
  // Bounded, an absolute path does not begin at the root directory.
  const bool beneath = bounded || path[0] != '/';
  const bool ours =
      beneath && (dirfd == AT_FDCWD ? is_visible() && working_directory() != 0 : describe(dirfd).directory);
  if (!ours && (bounded || !may_be_ours(dirfd, path))) return next(dirfd, path);
  if ((asked.resolve & ~resolve_known) != 0 || (resolve & resolve_cached) != 0) return settle(-long{EINVAL});
  if (ours && path[0] == '/') {
    if ((resolve & resolve_beneath) != 0) return settle(-long{EXDEV});
    path += std::strspn(path, "/");
    if (*path == '\0') path = ".";
  }
  const int flags = static_cast<int>(asked.flags);
  const bool makes = (flags & (O_CREAT | tmpfile_bit)) != 0;
  const bool only_path = (flags & O_PATH) != 0 && (flags & ~(O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)) != 0;
  if (asked.flags > 0xffffffff || only_path || (makes ? asked.mode & ~std::uint64_t{07777} : asked.mode) != 0) {
    return settle(-long{EINVAL});
  }
  while (true) {
    Lookup lookup(dirfd, path, follow_of(flags), resolve);
    if (!lookup.in_tree()) return next(lookup.dirfd(), lookup.path());
    const int result = open_found(lookup, flags, static_cast<mode_t>(asked.mode));
    if (result != again) return settle(long{result});
  }
}

int open_for_dlopen(const char *path) {
  if (!may_be_ours(path)) return not_in_tree;
  kernel::KeepErrno keep;
  while (true) {
    Lookup lookup(AT_FDCWD, path, Follow::yes);
    if (!lookup.in_tree()) return not_in_tree;
    const int result = open_found(lookup, O_RDONLY | O_CLOEXEC);
    if (result != again && result != -EINTR) return result;
  }
}

namespace intercept {

// open and open64 are one function under two names on 64-bit systems, but each has its own chain. They are defined
// without the ellipsis, since the ABIs put the mode, or whatever stands in its place, where they put any other word.
#define DEFINE_OPEN(name, symbol)                                                              \
  int name##_of_words(const char *path, int flags, mode_t mode) __asm__(symbol);               \
  int name##_of_words(const char *path, int flags, mode_t mode) {                              \
    return route(                                                                              \
        path, follow_of(flags), [=](Lookup &found) { return open_found(found, flags, mode); }, \
        [=](const char *real) { return NEXT(name)(real, flags, mode); });                      \
  }
DEFINE_OPEN(open, "_ZN8diskless9intercept4openEPKciz")
DEFINE_OPEN(open64, "_ZN8diskless9intercept6open64EPKciz")
DEFINE_OPEN(__open, "_ZN8diskless9intercept6__openEPKciz")
DEFINE_OPEN(__open64, "_ZN8diskless9intercept8__open64EPKciz")

#define DEFINE_OPENAT(name, symbol)                                                                   \
  int name##_of_words(int dirfd, const char *path, int flags, mode_t mode) __asm__(symbol);           \
  int name##_of_words(int dirfd, const char *path, int flags, mode_t mode) {                          \
    return route(                                                                                     \
        dirfd, path, follow_of(flags), [=](Lookup &found) { return open_found(found, flags, mode); }, \
        [=](int at, const char *real) { return NEXT(name)(at, real, flags, mode); });                 \
  }
DEFINE_OPENAT(openat, "_ZN8diskless9intercept6openatEiPKciz")
DEFINE_OPENAT(openat64, "_ZN8diskless9intercept8openat64EiPKciz")

#define DEFINE_CREAT(name)                                                                                       \
  int name(const char *path, mode_t mode) {                                                                      \
    return route(                                                                                                \
        path, Follow::yes, [=](Lookup &found) { return open_found(found, O_CREAT | O_WRONLY | O_TRUNC, mode); }, \
        [=](const char *real) { return NEXT(name)(real, mode); });                                               \
  }
DEFINE_CREAT(creat)
DEFINE_CREAT(creat64)

// The fortified twins, for calls without a mode.
#define DEFINE_OPEN_2(name)                                                                 \
  int name(const char *path, int flags) {                                                   \
    return route(                                                                           \
        path, follow_of(flags), [=](Lookup &found) { return open_found(found, flags, 0); }, \
        [=](const char *real) { return NEXT(name)(real, flags); });                         \
  }
DEFINE_OPEN_2(__open_2)
DEFINE_OPEN_2(__open64_2)

#define DEFINE_OPENAT_2(name)                                                                      \
  int name(int dirfd, const char *path, int flags) {                                               \
    return route(                                                                                  \
        dirfd, path, follow_of(flags), [=](Lookup &found) { return open_found(found, flags, 0); }, \
        [=](int at, const char *real) { return NEXT(name)(at, real, flags); });                    \
  }
DEFINE_OPENAT_2(__openat_2)
DEFINE_OPENAT_2(__openat64_2)

// A handle would have to be opened by the kernel.
int name_to_handle_at(int dirfd, const char *path, struct file_handle *handle, int *mount, int flags) noexcept {
  return route(
      dirfd, path, follow_unless((flags & AT_SYMLINK_FOLLOW) == 0),
      [](const Lookup &found) { return -(found.error_of_existing() != 0 ? found.error_of_existing() : EOPNOTSUPP); },
      [=](int at, const char *real) { return NEXT(name_to_handle_at)(at, real, handle, mount, flags); });
}

}  // namespace intercept

}  // namespace diskless
