// The C interface's part that names RAM files: diskless_root_add to diskless_set_space.

#include <climits>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "diskless.h"
#include "kernel.h"
#include "lookup.h"
#include "roots.h"
#include "space.h"
#include "tree.h"

namespace diskless {

namespace {

constexpr mode_t directory_mode = 0555;

// Where a path of the Tree would have its name.
struct Place {
  Inode *directory = nullptr;
  std::string name{};
  bool is_root = false;
  int error = 0;
};

// Names of a path, without empty ones and dots; `..` is refused, for these paths come from us.
bool split(std::string_view path, std::vector<std::string> *names) {
  if (path.empty() || path[0] != '/') return false;
  for (std::size_t at = 0; at < path.size();) {
    const std::size_t end = std::min(path.find('/', at), path.size());
    const std::string_view name = path.substr(at, end - at);
    if (name == "..") return false;
    if (!name.empty() && name != ".") names->emplace_back(name);
    at = end + 1;
  }
  return !names->empty();
}

// The innermost root that the names lie in, and how many of them lead to it. Both spellings of a shadow are known.
const Root *root_of(const std::vector<std::string> &names, std::size_t *depth) {
  std::string prefix;
  const Root *innermost = nullptr;
  for (std::size_t count = 0; count < names.size(); ++count) {
    (prefix += '/') += names[count];
    for (const auto &root : roots()) {
      if (root->spelled != prefix && root->canonical != prefix) continue;
      *depth = count + 1;
      innermost = root.get();
    }
  }
  return innermost;
}

// What may be named in what the user's calls may change as well.
enum class Within : bool { mounts, scratches };

// Finds the place, and makes the directories above it if asked to. Symlinks are not followed: names that come from a
// listing must not lead anywhere else.
Place place_of(const char *path, bool make_parents, Within within = Within::mounts) {
  std::vector<std::string> names;
  std::size_t depth = 0;
  if (!split(path, &names)) return {.error = EINVAL};
  const Root *root = root_of(names, &depth);
  if (root == nullptr) return {.error = ENOENT};

  Inode *directory = root->directory;
  std::string name = root->name;
  for (std::size_t i = depth; i < names.size(); ++i) {
    if (names[i].size() > NAME_MAX) return {.error = ENAMETOOLONG};
    Inode *next = directory->find(name);
    if (next == nullptr) {
      if (!make_parents) return {.error = ENOENT};
      next = make_directory(directory_mode, now());
      link(*directory, name, *next);
    }
    if (!next->is_directory()) return {.error = ENOTDIR};
    // What is in a scratch, and in a directory that was made in /diskless, is for the user's calls.
    const bool is_default = i == depth && root->canonical == default_root;
    if (next->volume->writable && !is_default && within == Within::mounts) return {.error = EROFS};
    directory = next;
    name = names[i];
  }
  return {.directory = directory, .name = name, .is_root = depth == names.size()};
}

timespec from_ns(long long time_ns) {
  constexpr long long second = 1'000'000'000;
  if (time_ns == 0) return now();
  const long long below = ((time_ns % second) + second) % second;
  return {static_cast<time_t>((time_ns - below) / second), static_cast<long>(below)};
}

// What the user's calls made is never taken for a Mount's, nor replaced by one.
bool is_the_users(const Inode *there, const Place &place) {
  return there != nullptr && !place.is_root && there->volume->writable;
}

// The memfd itself gets mode and time, so that the kernel's own answers agree with ours. A system may forbid execute
// bits on memfds (vm.memfd_noexec); then ours are what counts.
void set_attributes(int fd, mode_t mode, timespec modified) {
  const timespec times[2] = {modified, modified};
  ::syscall(SYS_fchmod, fd, mode & 07777);
  ::syscall(SYS_utimensat, fd, nullptr, times, 0);
}

// The inode of a memfd, with what is said of it; null with errno where it is none.
Inode *file_with(int fd, mode_t mode, long long mtime_ns, int gate) {
  Inode *file = file_of(fd);
  if (file == nullptr) return nullptr;
  file->mode = mode & 07777;
  file->gate = gate_of(gate);
  set_attributes(fd, mode, from_ns(mtime_ns));
  return file;
}

}  // namespace

}  // namespace diskless

using namespace diskless;

extern "C" {

int diskless_root_add(const char *path) { return root_add(path); }

int diskless_root_remove(const char *path) { return root_remove(path); }

int diskless_scratch_add(const char *path, unsigned mode, long long budget_bytes) {
  return scratch_add(path, mode & 07777, budget_bytes);
}

int diskless_scratch_remove(const char *path) { return root_remove(path); }

int diskless_set_file(const char *path, int fd, unsigned mode, long long mtime_ns, int gate) {
  kernel::KeepErrno keep;
  const Change change;
  const Place place = place_of(path, true);
  if (place.error != 0) return -place.error;
  const Inode *there = place.directory->find(place.name);
  if (is_the_users(there, place)) return -EEXIST;
  if (there != nullptr && there->is_directory() && !(place.is_root && there->entries.empty())) return -EISDIR;
  Inode *file = file_with(fd, mode, mtime_ns, gate);
  if (file == nullptr) return -errno;
  if (there == file) return 0;
  if (there != nullptr) unlink(*place.directory, place.name);
  link(*place.directory, place.name, *file);
  return 0;
}

int diskless_place_file(const char *path, int fd, unsigned mode, long long mtime_ns, int gate) {
  kernel::KeepErrno keep;
  const Change change;
  const Place place = place_of(path, false, Within::scratches);
  if (place.error != 0) return -place.error;
  if (!place.directory->volume->writable) return -EROFS;
  if (place.directory->find(place.name) != nullptr) return -EEXIST;
  Inode *file = file_with(fd, mode, mtime_ns, gate);
  if (file == nullptr) return -errno;
  file->placed = true;
  link(*place.directory, place.name, *file);
  return 0;
}

int diskless_set_directory(const char *path, unsigned mode, long long mtime_ns) {
  kernel::KeepErrno keep;
  const Change change;
  const Place place = place_of(path, true);
  if (place.error != 0) return -place.error;
  Inode *directory = place.directory->find(place.name);
  if (is_the_users(directory, place)) return -EEXIST;
  if (directory == nullptr) {
    directory = make_directory(mode, from_ns(mtime_ns));
    link(*place.directory, place.name, *directory);
  }
  if (!directory->is_directory()) return -ENOTDIR;
  directory->mode = mode & 07777;
  directory->accessed = directory->modified = from_ns(mtime_ns);
  directory->changed = now();
  return 0;
}

int diskless_set_symlink(const char *path, const char *target) {
  kernel::KeepErrno keep;
  const std::size_t length = std::strlen(target);
  if (length == 0) return -ENOENT;
  if (length >= PATH_MAX) return -ENAMETOOLONG;
  const Change change;
  const Place place = place_of(path, true);
  if (place.error != 0) return -place.error;
  if (place.directory->find(place.name) != nullptr) return -EEXIST;
  link(*place.directory, place.name, *make_symlink(target));
  return 0;
}

int diskless_remove(const char *path) {
  kernel::KeepErrno keep;
  const Change change;
  const Place place = place_of(path, false);
  if (place.error != 0) return -place.error;
  const Inode *inode = place.directory->find(place.name);
  if (inode == nullptr) return -ENOENT;
  if (is_the_users(inode, place)) return -EROFS;
  if (inode->is_directory() && !inode->entries.empty()) return -ENOTEMPTY;
  if (inode->is_directory() && place.is_root) return -EBUSY;
  unlink(*place.directory, place.name);
  // A root shows for as long as it is there, if nothing else as an empty directory.
  if (place.is_root) link(*place.directory, place.name, *make_directory(directory_mode, now()));
  return 0;
}

int diskless_contains(const char *path) { return may_be_ours(path) && Lookup(AT_FDCWD, path, Follow::yes).in_tree(); }

int diskless_set_space(long long total_bytes, long long free_bytes) {
  if (total_bytes < 0 || free_bytes < 0) return -EINVAL;
  set_space(total_bytes, free_bytes);
  return 0;
}

}  // extern "C"
