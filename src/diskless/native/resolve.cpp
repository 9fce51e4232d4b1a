// Where paths lead: readlink and realpath, also for descriptors of ours.

#include <stdlib.h>

#include <algorithm>
#include <climits>
#include <cstring>
#include <shared_mutex>
#include <string>

#include "route.h"

namespace diskless {

namespace {

constexpr std::string_view memfd_link = "/memfd:";

ssize_t copy_text(std::string_view text, char *buffer, size_t size) {
  const size_t length = std::min(text.size(), size);
  std::memcpy(buffer, text.data(), length);
  return static_cast<ssize_t>(length);
}

ssize_t target_of_found(const Lookup &found, char *buffer, size_t size) {
  if (static_cast<ssize_t>(size) <= 0) return -EINVAL;
  if (const int error = found.error_of_existing()) return -error;
  return found.inode()->is_symlink() ? copy_text(found.inode()->target, buffer, size) : -EINVAL;
}

// /proc/self/fd/N, /dev/fd/N and the like of a descriptor of ours say "/memfd:…": which file that is, a stat through
// the link tells, whichever way the caller spelled it.
[[gnu::noinline]] ssize_t name_memfd(ssize_t result, int dirfd, const char *path, char *buffer, size_t size) {
  kernel::KeepErrno keep;
  struct stat status;
  if (kernel::fstatat(dirfd, path, &status, 0) != 0) return result;
  const Described described = describe(status);
  if (status.st_dev != memory_device.load() || !S_ISREG(status.st_mode)) return result;
  std::string text;
  {
    std::shared_lock lock(tree_lock);
    const Inode *inode = described.directory ? find_directory(described.number) : find_file(described.memory);
    if (inode != nullptr && !inode->is_removed()) {
      text = path_of(*inode);
    } else if (described.directory ||
               std::string_view{buffer, static_cast<size_t>(result)}.starts_with("/memfd:diskless")) {
      // One that has no name any more: not which it was, but what the kernel says of removed files.
      text = std::string(default_root) + " (deleted)";
    } else {
      return result;
    }
  }
  return copy_text(text, buffer, size);
}

// What the kernel says of /proc/self/cwd while it stands nowhere.
[[gnu::noinline]] ssize_t name_working_directory(ssize_t result, const char *path, char *buffer, size_t size) {
  kernel::KeepErrno keep;
  const char *rest = behind_working_directory_link(path);
  if (rest == nullptr || *rest != '\0' || !is_visible()) return result;
  const std::uint64_t number = working_directory();
  if (number == 0) return result;
  std::string text;
  {
    std::shared_lock lock(tree_lock);
    const Inode *inode = find_directory(number);
    if (inode != nullptr) text = path_of(*inode);
    if (inode == nullptr || inode->is_removed()) text = std::string(default_root) + " (deleted)";
  }
  return copy_text(text, buffer, size);
}

template <typename Next>
inline ssize_t read_link(int dirfd, const char *path, char *buffer, size_t size, Next next) {
  ssize_t result = route(
      dirfd, path, Follow::no, [=](const Lookup &found) { return target_of_found(found, buffer, size); }, next);
  if (may_stand_in_tree() && result > 0) [[unlikely]]
    result = name_working_directory(result, path, buffer, size);
  const auto length = std::min(static_cast<ssize_t>(memfd_link.size()), result);
  if (length <= 1 || std::memcmp(buffer, memfd_link.data(), static_cast<size_t>(length)) != 0) [[likely]]
    return result;
  return name_memfd(result, dirfd, path, buffer, size);
}

template <typename Next>
[[gnu::noinline]] char *resolve(const char *path, char *resolved, Next next) {
  std::string text;
  {
    const Lookup lookup(AT_FDCWD, path, Follow::yes, resolve_by_names);
    if (!lookup.in_tree()) return next(lookup.path());
    if (const int error = lookup.error_of_existing()) {
      errno = error;
      return nullptr;
    }
    text = lookup.canonical();
  }
  if (text.size() >= PATH_MAX) {
    errno = ENAMETOOLONG;
    return nullptr;
  }
  return resolved == nullptr ? ::strdup(text.c_str()) : std::strcpy(resolved, text.c_str());
}

}  // namespace

namespace intercept {

ssize_t readlink(const char *path, char *buffer, size_t size) noexcept {
  return read_link(AT_FDCWD, path, buffer, size,
                   [=](int, const char *real) { return NEXT(readlink)(real, buffer, size); });
}

ssize_t readlinkat(int dirfd, const char *path, char *buffer, size_t size) noexcept {
  return read_link(dirfd, path, buffer, size,
                   [=](int at, const char *real) { return NEXT(readlinkat)(at, real, buffer, size); });
}

// `size` is the buffer's as the compiler knows it; libc ends the program if more is asked for.
ssize_t __readlink_chk(const char *path, char *buffer, size_t length, size_t size) noexcept {
  return read_link(AT_FDCWD, path, buffer, std::min(length, size),
                   [=](int, const char *real) { return NEXT(__readlink_chk)(real, buffer, length, size); });
}

ssize_t __readlinkat_chk(int dirfd, const char *path, char *buffer, size_t length, size_t size) noexcept {
  return read_link(dirfd, path, buffer, std::min(length, size),
                   [=](int at, const char *real) { return NEXT(__readlinkat_chk)(at, real, buffer, length, size); });
}

char *realpath(const char *path, char *resolved) noexcept {
  if (!may_be_ours(path)) [[likely]]
    return NEXT(realpath)(path, resolved);
  return resolve(path, resolved, [=](const char *real) { return NEXT(realpath)(real, resolved); });
}

char *__realpath_chk(const char *path, char *resolved, size_t size) noexcept {
  if (!may_be_ours(path) || size < PATH_MAX) [[likely]]
    return NEXT(__realpath_chk)(path, resolved, size);
  return resolve(path, resolved, [=](const char *real) { return NEXT(__realpath_chk)(real, resolved, size); });
}

char *canonicalize_file_name(const char *path) noexcept {
  if (!may_be_ours(path)) [[likely]]
    return NEXT(canonicalize_file_name)(path);
  return resolve(path, nullptr, [](const char *real) { return NEXT(canonicalize_file_name)(real); });
}

}  // namespace intercept

}  // namespace diskless
