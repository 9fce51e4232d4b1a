// Where the Tree shows: at /diskless, and at each shadow that at= asked for.
//
// A root is found by the directory above it, as a mounted filesystem is: an Overlay belongs to a real directory and
// holds the first name of each root below it. Where ancestors of a shadow are missing, the Overlay lies over the
// deepest one that exists, and the missing ones are directories of the Tree. The real directory is known by its
// canonical path and by (device, inode), so symlinks, `..` and bind mounts lead to it too.
//
// A root within a scratch hangs in an Overlay over a directory of that scratch. Roots come and go in any order: each
// time, those that lie in a root that comes or goes are hung anew, by their canonical paths.
#pragma once

#include <atomic>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "activation.h"
#include "kernel.h"
#include "tree.h"
#include "working_directory.h"

namespace diskless {

struct Overlay {
  std::string path;  // canonical; "/" for the root directory
  Identity identity;
  Inode *over = nullptr;  // the directory of the Tree that it lies over, if not a real one: then it has no path
  Inode top;              // never listed: only its entries are laid over the directory
};

struct Root {
  std::string spelled;
  std::string canonical;
  Inode *directory = nullptr;  // in which it hangs, as `name`
  std::string name;
  Identity beneath;                           // the real directory that is hidden; {} where there is none
  std::vector<std::string> first_components;  // of every spelling that may lead here
  Volume volume;                              // of a scratch, and of /diskless itself
};

inline constexpr std::string_view default_root = "/diskless";

// Guarded by tree_lock.
std::vector<std::unique_ptr<Root>> &roots();
std::vector<std::unique_ptr<Overlay>> &overlays();

// How many roots there are besides /diskless. Read without the lock: a caller that races with root_add or
// root_remove may see the state before or after.
extern std::atomic<unsigned> shadow_count;
// A bit for each first component of a path that may lead into a shadow; rarely one too many.
extern std::atomic<std::uint64_t> shadowed_components;

// All return 0 or -errno, and take the lock themselves.
int root_add(const char *path);
int root_remove(const char *path);
// A root that may be written: at a path below /diskless, or anywhere else as a shadow. Taken away by root_remove.
int scratch_add(const char *path, mode_t mode, long long budget_bytes);

// The first components of all paths that may lead to a shadow (spellings.cpp).
std::vector<std::string> first_components_of(const std::string &spelled, const std::string &canonical);
// The names of an absolute path, or nothing where it is relative or has `..` in it.
std::vector<std::string> components(std::string_view path);
std::string join(const std::vector<std::string> &names, std::size_t count);

inline std::uint64_t component_bit(const char *name) {
  std::uint32_t hash = 2166136261u;
  for (; *name != '\0' && *name != '/'; ++name) hash = (hash ^ static_cast<unsigned char>(*name)) * 16777619u;
  return std::uint64_t{1} << (hash >> 26);
}

// Whether `path` begins with `prefix`. Compared here, since a call of libc's would cost more than all the rest.
template <std::size_t size>
inline bool begins_with(const char *path, const char (&prefix)[size]) {
  for (std::size_t i = 0; i + 1 < size; ++i) {
    if (path[i] != prefix[i]) return false;
  }
  return true;
}

// Whether what stands behind "/proc/" may lead to a descriptor: self/fd/3, 17/task/18/fd/3, and the like; or to the
// working directory: self/cwd.
inline bool may_be_descriptor(const char *path) {
  if (*path != 's' && *path != 't' && static_cast<unsigned>(*path - '0') > 9) return false;
  while (*path != '\0' && *path != '/') ++path;
  while (*path == '/') ++path;
  if (*path == 'c') return may_stand_in_tree();
  return (*path == 'f' || *path == 't' || *path == '.') && std::strstr(path, "fd/") != nullptr;
}

// Whether a path may lead into the Tree or to a descriptor of ours: what every hook asks first. With no shadow open
// this looks at a few characters, for an absolute path at those of "/diskless". What it overlooks then is not found
// by the kernel either, so it ends in ENOENT: `/usr/../diskless`, and a real symlink to /diskless. Relative paths are
// not ours while the working directory is none of ours, unless they climb out of it.
inline bool may_be_ours(const char *path) {
  if (kernel::is_null(path)) return false;
  const bool shadowed = shadow_count.load(std::memory_order_relaxed) != 0;
  const char *name = path;
  if (path[0] == '/') {
    ++name;
  } else {
    if (shadowed || may_stand_in_tree()) return path[0] != '\0' && is_visible();
    if (path[0] != '.') [[likely]]
      return false;
  }
  while (*name == '/' || (*name == '.' && (name[1] == '/' || (name[1] == '.' && name[2] == '/')))) ++name;
  if (*name == 'd') {
    if (begins_with(name, "diskless") && (name[8] == '\0' || name[8] == '/')) return is_visible();
    if (begins_with(name, "dev/fd/")) return is_visible();
  } else if (*name == 'p' && begins_with(name, "proc/")) {
    return may_be_descriptor(name + 5) && is_visible();
  }
  if (!shadowed) [[likely]]
    return false;
  return (shadowed_components.load(std::memory_order_relaxed) & component_bit(name)) != 0 && is_visible();
}

}  // namespace diskless
