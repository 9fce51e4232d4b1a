// Extended attributes. A file's are its memfd's; those of what has no descriptor of its own are kept in its inode.

#include <sys/xattr.h>

#include <linux/limits.h>

#include <cstring>
#include <shared_mutex>
#include <string>

#include "change.h"
#include "permission.h"
#include "stand.h"

namespace diskless {

namespace {

constexpr std::string_view user_prefix = "user.";

bool is_user(std::string_view name) { return name.starts_with(user_prefix) && name.size() > user_prefix.size(); }

bool is_trusted(std::string_view name) { return name.starts_with("trusted."); }

// Those of the privileged, which have no part after the dot that means anything here.
bool is_of_the_privileged(std::string_view name) { return is_trusted(name) || name.starts_with("security."); }

// Whether one by that name may be kept in an inode that is no file's.
bool is_kept(const Inode &inode, std::string_view name) {
  return inode.is_directory() && is_user(name) ? true : is_of_the_privileged(name) && name.back() != '.';
}

// Others are for the privileged, or nobody's.
bool is_by_mode(std::string_view name) {
  return !name.starts_with("trusted.") && !name.starts_with("security.") && !name.starts_with("system.");
}

long get_kept(const Inode &inode, const char *name, void *value, std::size_t size) {
  if (is_trusted(name) && !is_privileged()) return -ENODATA;
  const auto found = inode.attributes.find(name);
  if (found == inode.attributes.end()) return -ENODATA;
  const std::string &text = found->second;
  if (size == 0) return static_cast<long>(text.size());
  if (size < text.size()) return -ERANGE;
  std::memcpy(value, text.data(), text.size());
  return static_cast<long>(text.size());
}

long list_kept(const Inode &inode, char *list, std::size_t size) {
  const bool all = is_privileged();
  std::size_t length = 0;
  for (const auto &[name, value] : inode.attributes) length += all || !is_trusted(name) ? name.size() + 1 : 0;
  if (size == 0) return static_cast<long>(length);
  if (size < length) return -ERANGE;
  for (const auto &[name, value] : inode.attributes) {
    if (!all && is_trusted(name)) continue;
    std::memcpy(list, name.c_str(), name.size() + 1);
    list += name.size() + 1;
  }
  return static_cast<long>(length);
}

long get(const Lookup &found, const char *attribute, void *value, std::size_t size) {
  const std::size_t length = std::strlen(attribute);
  if (length == 0 || length > XATTR_NAME_MAX) return -ERANGE;
  if (const int error = found.error_of_existing()) return -error;
  const Inode &inode = *found.inode();
  const std::string_view name = attribute;
  if (inode.owns_fd) {
    const long result = ::syscall(SYS_getxattr, kernel::DescriptorPath(inode.fd).text, attribute, value, size);
    return result < 0 ? -errno : result;
  }
  // Symlinks have no attributes of this kind, and the memfd that stands for one would.
  if (!inode.is_file() && !inode.is_directory() && name.starts_with(user_prefix)) return -ENODATA;
  if (is_by_mode(name) && !inode.is_symlink() && !permits(inode, R_OK, Who::effective)) return -EACCES;
  if (!inode.is_file() && is_kept(inode, name)) return get_kept(inode, attribute, value, size);
  return ask(found, [=](int fd) { return ::syscall(SYS_fgetxattr, fd, attribute, value, size); });
}

long list(const Lookup &found, char *names, std::size_t size) {
  if (const int error = found.error_of_existing()) return -error;
  const Inode &inode = *found.inode();
  if (!inode.is_file()) return list_kept(inode, names, size);
  const long result = ::syscall(SYS_listxattr, kernel::DescriptorPath(inode.fd).text, names, size);
  return result < 0 ? -errno : result;
}

// Whether an attribute of something that is no file may be changed, as the kernel's xattr_permission says it.
int may_change(const Inode &inode, std::string_view name) {
  if (is_of_the_privileged(name)) return !is_privileged() ? EPERM : is_kept(inode, name) ? 0 : EINVAL;
  if (name.starts_with("system.")) return EOPNOTSUPP;
  const bool is_of_user = name.starts_with(user_prefix);
  if (is_of_user && !inode.is_directory()) return EPERM;
  if (is_of_user && (inode.mode & S_ISVTX) != 0 && !owns(inode)) return EPERM;
  if (!inode.is_symlink() && !permits(inode, W_OK, Who::effective)) return EACCES;
  if (!is_of_user) return EOPNOTSUPP;
  return name.size() == user_prefix.size() ? EINVAL : 0;
}

int wrong_arguments(const char *name, std::size_t size, int flags) {
  if ((flags & ~(XATTR_CREATE | XATTR_REPLACE)) != 0) return EINVAL;
  const std::size_t length = std::strlen(name);
  if (length == 0 || length > XATTR_NAME_MAX) return ERANGE;
  return size > XATTR_SIZE_MAX ? E2BIG : 0;
}

int set(Inode &inode, const char *name, const void *value, std::size_t size, int flags) {
  if (inode.is_file()) {
    const kernel::DescriptorPath path(inode.fd);
    return ::syscall(SYS_setxattr, path.text, name, value, size, flags) < 0 ? -errno : 0;
  }
  if (const int error = may_change(inode, name)) return -error;
  const bool there = inode.attributes.contains(name);
  if (there && (flags & XATTR_CREATE) != 0) return -EEXIST;
  if (!there && (flags & XATTR_REPLACE) != 0) return -ENODATA;
  inode.attributes[name].assign(static_cast<const char *>(value), size);
  inode.changed = now();
  return 0;
}

int remove_attribute(Inode &inode, const char *name) {
  if (inode.is_file()) {
    return ::syscall(SYS_removexattr, kernel::DescriptorPath(inode.fd).text, name) < 0 ? -errno : 0;
  }
  if (const int error = may_change(inode, name)) return -error;
  if (inode.attributes.erase(name) == 0) return -ENODATA;
  inode.changed = now();
  return 0;
}

// The memfd of a directory's descriptor has no attributes.
template <typename Answer>
[[gnu::noinline]] ssize_t of_directory(int fd, ssize_t result, Answer answer) {
  const int error = errno;
  const Described described = describe(fd);
  errno = error;
  if (!described.directory) return result;
  std::shared_lock lock(tree_lock);
  const Inode *directory = find_directory(described.number);
  return directory == nullptr ? result : settle(answer(*directory));
}

}  // namespace

namespace intercept {

#define DEFINE_GETXATTR(name, follow)                                                          \
  ssize_t name(const char *path, const char *attribute, void *value, size_t size) noexcept {   \
    return route(                                                                              \
        path, follow, [=](const Lookup &found) { return get(found, attribute, value, size); }, \
        [=](const char *real) { return NEXT(name)(real, attribute, value, size); });           \
  }
DEFINE_GETXATTR(getxattr, Follow::yes)
DEFINE_GETXATTR(lgetxattr, Follow::no)

#define DEFINE_LISTXATTR(name, follow)                                               \
  ssize_t name(const char *path, char *names, size_t size) noexcept {                \
    return route(                                                                    \
        path, follow, [=](const Lookup &found) { return list(found, names, size); }, \
        [=](const char *real) { return NEXT(name)(real, names, size); });            \
  }
DEFINE_LISTXATTR(listxattr, Follow::yes)
DEFINE_LISTXATTR(llistxattr, Follow::no)

#define DEFINE_SETXATTR(name, follow)                                                                          \
  int name(const char *path, const char *attribute, const void *value, size_t size, int flags) noexcept {      \
    const auto rule = changing_inode([=](Inode &inode) { return set(inode, attribute, value, size, flags); }); \
    return route(                                                                                              \
        path, follow,                                                                                          \
        [=](Lookup &found) {                                                                                   \
          const int error = wrong_arguments(attribute, size, flags);                                           \
          return error != 0 ? -error : rule(found);                                                            \
        },                                                                                                     \
        [=](const char *real) { return NEXT(name)(real, attribute, value, size, flags); });                    \
  }
DEFINE_SETXATTR(setxattr, Follow::yes)
DEFINE_SETXATTR(lsetxattr, Follow::no)

#define DEFINE_REMOVEXATTR(name, follow)                                                                \
  int name(const char *path, const char *attribute) noexcept {                                          \
    const auto rule = changing_inode([=](Inode &inode) { return remove_attribute(inode, attribute); }); \
    return route(                                                                                       \
        path, follow,                                                                                   \
        [=](Lookup &found) {                                                                            \
          const int error = wrong_arguments(attribute, 0, 0);                                           \
          return error != 0 ? -error : rule(found);                                                     \
        },                                                                                              \
        [=](const char *real) { return NEXT(name)(real, attribute); });                                 \
  }
DEFINE_REMOVEXATTR(removexattr, Follow::yes)
DEFINE_REMOVEXATTR(lremovexattr, Follow::no)

ssize_t fgetxattr(int fd, const char *attribute, void *value, size_t size) noexcept {
  const ssize_t result = NEXT(fgetxattr)(fd, attribute, value, size);
  if (result != -1 || (errno != ENODATA && errno != EOPNOTSUPP && errno != EINVAL)) [[likely]]
    return result;
  const int error = errno;
  return of_directory(fd, result, [=](const Inode &directory) -> long {
    if (is_by_mode(attribute) && !permits(directory, R_OK, Who::effective)) return -EACCES;
    return is_kept(directory, attribute) ? get_kept(directory, attribute, value, size) : -error;
  });
}

ssize_t flistxattr(int fd, char *names, size_t size) noexcept {
  const ssize_t result = NEXT(flistxattr)(fd, names, size);
  if (result != 0) return result;
  return of_directory(fd, result, [=](const Inode &directory) { return list_kept(directory, names, size); });
}

int fsetxattr(int fd, const char *attribute, const void *value, size_t size, int flags) noexcept {
  return change_descriptor(
      fd, false,
      [=](Inode &inode) {
        const int error = wrong_arguments(attribute, size, flags);
        return error != 0 ? -error : set(inode, attribute, value, size, flags);
      },
      [=] { return NEXT(fsetxattr)(fd, attribute, value, size, flags); });
}

int fremovexattr(int fd, const char *attribute) noexcept {
  return change_descriptor(
      fd, false,
      [=](Inode &inode) {
        const int error = wrong_arguments(attribute, 0, 0);
        return error != 0 ? -error : remove_attribute(inode, attribute);
      },
      [=] { return NEXT(fremovexattr)(fd, attribute); });
}

}  // namespace intercept

}  // namespace diskless
