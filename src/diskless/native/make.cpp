// Calls that make a name: mkdir, mknod, symlink, link. The kernel looks for mistakes in an order of its own (does the
// path exist, is there something already, may it be written), and so do these.

#include <limits.h>
#include <sys/stat.h>

#include <cstdlib>
#include <cstring>

#include "guard.h"
#include "make.h"
#include "pair.h"
#include "permission.h"
#include "umask.h"

namespace diskless {

namespace {

// Whether there is room for the name: 0 or -errno. A slash behind it is for directories.
int is_free(const Lookup &found, bool directory) {
  if (found.error() != 0) return -found.error();
  if (found.name().size() > NAME_MAX) return -ENAMETOOLONG;
  if (found.inode() != nullptr || found.last() != Last::name) return -EEXIST;
  if (found.trailing_slash() && !directory) return -ENOENT;
  return found.parent()->volume->writable ? 0 : -EROFS;
}

int can_make(const Lookup &found, bool directory) {
  const int error = is_free(found, directory);
  return error != 0 ? error : -may_create(*found.parent());
}

// What a new inode takes from the directory that it is made in.
void inherit(const Inode &directory, Inode &made) {
  made.volume = directory.volume;
  if ((directory.mode & S_ISGID) == 0) return;
  made.group = directory.group;
  if (made.is_directory()) made.mode |= S_ISGID;
}

int make_symlink_at(const Lookup &found, const char *target) {
  if (const int error = can_make(found, false)) return error;
  Inode &directory = *found.parent();
  Inode *made = make_symlink(target);
  inherit(directory, *made);
  link(directory, found.name(), *made);
  return 0;
}

// Regular files can be made so; the Tree has no devices, FIFOs and sockets.
int make_node_at(const Lookup &found, mode_t mode) {
  const mode_t type = mode & S_IFMT;
  if (type == S_IFDIR) return -EPERM;
  if (type != 0 && type != S_IFREG && type != S_IFCHR && type != S_IFBLK && type != S_IFIFO && type != S_IFSOCK) {
    return -EINVAL;
  }
  if (const int error = can_make(found, false)) return error;
  if (type != 0 && type != S_IFREG) return -EPERM;
  Inode *made = nullptr;
  const int fd = create(*found.parent(), O_RDWR | O_CLOEXEC, mode & 07777 & ~current_umask(), &made);
  if (fd < 0) return fd;
  kernel::close(fd);
  link(*found.parent(), found.name(), *made);
  return 0;
}

int link_found(Inode &source, const Lookup &target) {
  if (const int error = is_free(target, false)) return error;
  if (are_apart(source, *target.parent())) return -EXDEV;
  if (!may_link(source)) return -EPERM;
  if (const int error = may_create(*target.parent())) return -error;
  if (source.is_directory()) return -EPERM;
  mark_changed(source);
  link(*target.parent(), target.name(), source);
  return 0;
}

// `source_fd` is a file's that has no name: made by O_TMPFILE, or removed since.
int link_unnamed(int source_fd, const Lookup &target) {
  if (const int error = is_free(target, false)) return error;
  Inode &directory = *target.parent();
  const Unnamed unnamed = describe_unnamed(source_fd, *directory.volume);
  if (unnamed == Unnamed::no) return -EXDEV;
  struct stat status;
  if (kernel::fstat(source_fd, &status) != 0) return -errno;
  Inode as_if;
  as_if.mode = status.st_mode & 07777;
  as_if.owner = status.st_uid;
  as_if.group = status.st_gid;
  if (!may_link(as_if)) return -EPERM;
  if (const int error = may_create(directory)) return -error;
  if (unnamed == Unnamed::removed || had_name({status.st_dev, status.st_ino})) return -ENOENT;
  const int lead = kernel::open(kernel::DescriptorPath(source_fd).text, O_PATH | O_CLOEXEC);
  if (lead < 0) return -errno;
  const int kept = keep(lead);
  if (kept < 0) return kept;
  Inode *file = make_file(kept, {status.st_dev, status.st_ino});
  file->volume = directory.volume;
  file->was_unnamed = true;
  mark_changed(*file);
  link(directory, target.name(), *file);
  return 0;
}

constexpr int no_descriptor = INT_MIN;

// The number in /proc/self/fd/N and its like, or `no_descriptor`.
int descriptor_in(const char *path) {
  for (const char *prefix : {"/proc/self/fd/", "/dev/fd/", "/proc/thread-self/fd/"}) {
    const std::size_t length = std::strlen(prefix);
    if (std::strncmp(path, prefix, length) != 0 || path[length] < '0' || path[length] > '9') continue;
    char *end;
    const long number = std::strtol(path + length, &end, 10);
    return *end == '\0' && number <= INT_MAX ? static_cast<int>(number) : no_descriptor;
  }
  return no_descriptor;
}

// Which descriptor linkat names in place of a path, or `no_descriptor`.
int source_descriptor(int dirfd, const char *path, int flags) {
  if (path[0] == '\0') return (flags & AT_EMPTY_PATH) != 0 && dirfd != AT_FDCWD ? dirfd : no_descriptor;
  return (flags & AT_SYMLINK_FOLLOW) != 0 ? descriptor_in(path) : no_descriptor;
}

// A name elsewhere for a file of ours.
int error_of_link_out(const Lookup &target) {
  struct stat status;
  if (const int error = error_of_parent(target)) return error;
  // The name itself is asked for, and not what a slash behind it would make of it.
  std::string path = target.path();
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  if (kernel::fstatat(target.dirfd(), path.c_str(), &status, AT_SYMLINK_NOFOLLOW) == 0) return EEXIST;
  return path == target.path() ? EXDEV : ENOENT;
}

template <typename Next>
[[gnu::noinline]] int link_between(int from_fd, const char *from, int to_fd, const char *to, int flags, Next next) {
  if ((flags & ~(AT_SYMLINK_FOLLOW | AT_EMPTY_PATH)) != 0) return settle(-EINVAL);
  const int descriptor = source_descriptor(from_fd, from, flags);
  const Described described = descriptor < 0 ? Described{} : describe(descriptor);
  if (descriptor != no_descriptor) {
    // Whether the caller may link this descriptor depends on who opened it, which only the kernel knows. It looks at
    // the source first, and the root directory is there already.
    ::syscall(SYS_linkat, from_fd, from, AT_FDCWD, "/", flags);
    if (errno != EEXIST) return -1;
  }
  while (true) {
    Lookup target(to_fd, to, Follow::parent);
    if (descriptor != no_descriptor && to[0] == '\0') return settle(-ENOENT);
    if (descriptor != no_descriptor && target.in_tree()) {
      if (!target.lock_for_change()) continue;
      Inode *named = described.directory ? find_directory(described.number)
                     : described.ours    ? find_file(described.memory)
                                         : nullptr;
      return settle(named != nullptr ? link_found(*named, target) : link_unnamed(descriptor, target));
    }
    if (described.ours) return settle(-error_of_link_out(target));
    Lookup source(from_fd, from, follow_unless((flags & AT_SYMLINK_FOLLOW) == 0));
    if (!source.in_tree() && !target.in_tree()) {
      return next(source.dirfd(), source.path(), target.dirfd(), target.path());
    }
    if (source.in_tree()) {
      if (const int error = source.error_of_existing()) return settle(-error);
      if (to[0] == '\0') return settle(-ENOENT);
      if (!target.in_tree()) return settle(-error_of_link_out(target));
      if (!target.lock_for_change(&source)) continue;
      return settle(link_found(*source.inode(), target));
    }
    struct stat status;
    if (kernel::fstatat(source.dirfd(), source.path(), &status, AT_SYMLINK_NOFOLLOW) != 0) return -1;
    const int error = is_free(target, false);
    return settle(error != 0 ? error : -EXDEV);
  }
}

template <typename Next>
inline int link_any(int from_fd, const char *from, int to_fd, const char *to, int flags, Next next) {
  return between(
      from_fd, from, to_fd, to, [=](auto real) { return link_between(from_fd, from, to_fd, to, flags, real); }, next);
}

}  // namespace

int make_directory_at(const Lookup &found, mode_t mode) {
  if (const int error = can_make(found, true)) return error;
  Inode &directory = *found.parent();
  Inode *made = make_directory(mode & 01777 & ~current_umask(), now());
  inherit(directory, *made);
  link(directory, found.name(), *made);
  return 0;
}

namespace intercept {

#define MAKE(name, parameters, rule, arguments)                                             \
  int name parameters noexcept {                                                            \
    return route(path, Follow::parent, changing([=](const Lookup &found) { return rule; }), \
                 [=](const char *real) { return NEXT(name) arguments; });                   \
  }
#define MAKE_AT(name, parameters, rule, arguments)                                                 \
  int name parameters noexcept {                                                                   \
    return route(dirfd, path, Follow::parent, changing([=](const Lookup &found) { return rule; }), \
                 [=](int at, const char *real) { return NEXT(name) arguments; });                  \
  }

MAKE(mkdir, (const char *path, mode_t mode), make_directory_at(found, mode), (real, mode))
MAKE_AT(mkdirat, (int dirfd, const char *path, mode_t mode), make_directory_at(found, mode), (at, real, mode))
MAKE(mknod, (const char *path, mode_t mode, dev_t device), make_node_at(found, mode), (real, mode, device))
MAKE_AT(mknodat, (int dirfd, const char *path, mode_t mode, dev_t device), make_node_at(found, mode),
        (at, real, mode, device))
MAKE(__xmknod, (int version, const char *path, mode_t mode, dev_t *device), make_node_at(found, mode),
     (version, real, mode, device))
MAKE_AT(__xmknodat, (int version, int dirfd, const char *path, mode_t mode, dev_t *device), make_node_at(found, mode),
        (version, at, real, mode, device))
MAKE(mkfifo, (const char *path, mode_t mode), make_node_at(found, (mode & 07777) | S_IFIFO), (real, mode))
MAKE_AT(mkfifoat, (int dirfd, const char *path, mode_t mode), make_node_at(found, (mode & 07777) | S_IFIFO),
        (at, real, mode))

// The text of a symlink is looked at before the path is.
bool is_text(const char *target) {
  return !kernel::is_null(target) && target[0] != '\0' && std::strlen(target) < PATH_MAX;
}

int symlink(const char *target, const char *path) noexcept {
  if (!is_text(target)) return NEXT(symlink)(target, path);
  return route(path, Follow::parent, changing([=](const Lookup &found) { return make_symlink_at(found, target); }),
               [=](const char *real) { return NEXT(symlink)(target, real); });
}

int symlinkat(const char *target, int dirfd, const char *path) noexcept {
  if (!is_text(target)) return NEXT(symlinkat)(target, dirfd, path);
  return route(dirfd, path, Follow::parent,
               changing([=](const Lookup &found) { return make_symlink_at(found, target); }),
               [=](int at, const char *real) { return NEXT(symlinkat)(target, at, real); });
}

int link(const char *from, const char *to) noexcept {
  return link_any(AT_FDCWD, from, AT_FDCWD, to, 0,
                  [](int, const char *a, int, const char *b) { return NEXT(link)(a, b); });
}

int linkat(int from_fd, const char *from, int to_fd, const char *to, int flags) noexcept {
  return link_any(from_fd, from, to_fd, to, flags,
                  [=](int af, const char *a, int bf, const char *b) { return NEXT(linkat)(af, a, bf, b, flags); });
}

}  // namespace intercept

}  // namespace diskless
