// Where a look-up begins: at the root directory, at the working directory, or at a descriptor.

#include <sys/stat.h>

#include <charconv>
#include <cstdio>
#include <cstring>

#include "descriptor.h"
#include "lookup.h"

namespace diskless {

void Lookup::start(int dirfd, const char *path) {
  if (path[0] == '/') {
    if (start_at_working_directory(path) || start_at_descriptor(path)) return;
    if (!prepend(path)) done_ = true;  // too long for the kernel too
    return;
  }
  if (!prepend(path)) {
    done_ = true;
    return;
  }
  if (dirfd != AT_FDCWD) {
    const Described described = describe(dirfd);
    if (described.directory) return start_in(described.number);
    if (shadow_count.load() == 0) {
      done_ = true;
      return;
    }
    const ssize_t length = kernel::readlink(kernel::DescriptorPath(dirfd).text, canonical_, PATH_MAX - 1);
    struct stat status;
    if (length <= 0 || canonical_[0] != '/' || kernel::fstat(dirfd, &status) != 0 || !S_ISDIR(status.st_mode)) {
      done_ = true;
      return;
    }
    length_ = length == 1 ? 0 : static_cast<std::size_t>(length);
    here_ = {status.st_dev, status.st_ino};
    return;
  }
  if (const std::uint64_t number = working_directory()) {
    start_in(number);
    if (path[std::strspn(path, "./")] != '\0') start_by_names();  // libc takes away dots without a look at names
    return;
  }
  // A directory that a shadow hides may be the working directory: so join, and begin at the root.
  char directory[PATH_MAX];
  const ssize_t length = kernel::getcwd(directory, sizeof directory);
  const bool stays = std::strstr(path, "..") == nullptr;
  if (length <= 1 || directory[0] != '/' ||
      (stays && (shadowed_components.load() & component_bit(directory + 1)) == 0)) {
    done_ = true;
  } else if (!prepend("/") || !prepend({directory, static_cast<std::size_t>(length - 1)})) {
    done_ = true;
  }
}

void Lookup::start_in(std::uint64_t directory) {
  tree_lock.lock_shared();
  in_tree_ = true;
  limit_ = at_ = find_directory(directory);
  if (at_ == nullptr) fail(ENOENT);  // removed
}

// For realpath: puts the path of where it begins in front of the rest.
void Lookup::start_by_names() {
  if (done_ || (resolve_ & resolve_by_names) == 0) return;
  if (at_->is_removed()) return fail(ENOENT);
  const std::string path = path_of(*at_);
  tree_lock.unlock_shared();
  in_tree_ = false;
  at_ = inode_ = limit_ = nullptr;
  last_ = Last::root;
  if (*next_ != '\0' && *next_ != '/' && !prepend("/")) return fail(ENAMETOOLONG);
  if (!prepend(path)) fail(ENAMETOOLONG);
}

// Whether a call is about the link in /proc and not what it leads to, given what stands behind it. Where a name is to be
// made or taken away not even a slash makes it more.
bool Lookup::means_link_itself(const char *rest) const {
  if (follow_ == Follow::parent) rest += std::strspn(rest, "/");
  return *rest == '\0' && follow_ != Follow::yes;
}

// /proc/self/cwd and its other spellings, where the kernel's working directory stands for one of ours.
bool Lookup::start_at_working_directory(const char *path) {
  const char *rest = behind_working_directory_link(path);
  if (rest == nullptr || means_link_itself(rest)) return false;
  const std::uint64_t number = working_directory();
  if (number == 0) return false;
  if (!prepend(rest)) {
    fail(ENAMETOOLONG);
    return true;
  }
  start_in(number);
  limit_ = nullptr;
  inode_ = at_;
  last_ = Last::name;
  start_by_names();
  return true;
}

// /proc/self/fd/N and its other spellings, of a descriptor of ours: what the link leads to has no path that the
// kernel could follow.
bool Lookup::start_at_descriptor(const char *path) {
  if (!begins_with(path, "/proc/") && !begins_with(path, "/dev/")) [[likely]]
    return false;
  char own[32];
  std::snprintf(own, sizeof own, "/proc/%d/fd/", ::getpid());
  for (const char *prefix : {"/proc/self/fd/", "/dev/fd/", "/proc/thread-self/fd/", static_cast<const char *>(own)}) {
    const std::size_t length = std::strlen(prefix);
    if (std::strncmp(path, prefix, length) != 0) continue;
    const char *end = path + std::strlen(path);
    int fd = -1;
    const auto [rest, wrong] = std::from_chars(path + length, end, fd);
    if (wrong != std::errc{} || fd < 0 || (*rest != '\0' && *rest != '/')) return false;
    if (means_link_itself(rest)) {
      done_ = true;  // which is the kernel's
      return true;
    }
    const Described described = describe(fd);
    if (!described.ours) return false;
    if ((resolve_ & (resolve_no_magiclinks | resolve_no_symlinks | resolve_beneath | resolve_in_root)) != 0) {
      return false;
    }
    tree_lock.lock_shared();
    in_tree_ = true;
    inode_ = at_ = described.directory ? find_directory(described.number) : find_file(described.memory);
    if (at_ == nullptr) {
      if (described.directory) {
        fail(ENOENT);
      } else {  // a file that has no name any more: the kernel knows it
        tree_lock.unlock_shared();
        in_tree_ = false;
        done_ = true;
      }
      return true;
    }
    last_ = Last::name;
    if (!prepend(rest)) fail(ENAMETOOLONG);
    start_by_names();
    return true;
  }
  return false;
}

}  // namespace diskless
