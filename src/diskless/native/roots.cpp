#include "roots.h"

#include <dirent.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <set>

#include "lookup.h"

namespace diskless {

constinit std::atomic<unsigned> shadow_count{0};
constinit std::atomic<std::uint64_t> shadowed_components{0};

std::vector<std::unique_ptr<Root>> &roots() {
  static auto &instance = *new std::vector<std::unique_ptr<Root>>;
  return instance;
}

std::vector<std::unique_ptr<Overlay>> &overlays() {
  static auto &instance = *new std::vector<std::unique_ptr<Overlay>>;
  return instance;
}

namespace {

// The names of an absolute path, or nothing where it is relative or has `..` in it.
std::vector<std::string> components(std::string_view path) {
  std::vector<std::string> names;
  if (path.empty() || path[0] != '/') return {};
  std::size_t at = 0;
  while (at < path.size()) {
    const std::size_t end = std::min(path.find('/', at), path.size());
    const std::string_view name = path.substr(at, end - at);
    if (name == "..") return {};
    if (!name.empty() && name != ".") names.emplace_back(name);
    at = end + 1;
  }
  return names;
}

std::string join(const std::vector<std::string> &names, std::size_t count) {
  std::string path;
  for (std::size_t i = 0; i < count; ++i) (path += '/') += names[i];
  return path.empty() ? "/" : path;
}

std::string first_component(std::string_view path) {
  const auto names = components(path);
  return names.empty() ? std::string() : names.front();
}

Identity identity_of(const char *path) {
  struct stat status;
  if (kernel::fstatat(AT_FDCWD, path, &status, 0) != 0 || !S_ISDIR(status.st_mode)) return {};
  return {status.st_dev, status.st_ino};
}

// Where a new root will hang: in a directory of the Tree (a missing ancestor of another root), or over a real one.
struct Anchor {
  std::uint64_t directory = 0;       // its number, or 0 for a real one
  std::string path;                  // canonical
  std::vector<std::string> missing;  // names below it, the root's own last
  Identity beneath{};                // the root's real directory, if it exists
  int error = 0;
};

Anchor find_anchor(const std::vector<std::string> &names) {
  Anchor anchor;
  for (std::size_t count = names.size() + 1; count-- > 0;) {
    const std::string prefix = join(names, count);
    anchor.missing.assign(names.begin() + static_cast<std::ptrdiff_t>(count), names.end());
    {
      Lookup lookup(AT_FDCWD, prefix.c_str(), Follow::yes);
      if (lookup.in_tree()) {
        if (lookup.error() == ENOENT || (lookup.error() == 0 && lookup.inode() == nullptr)) continue;
        anchor.error = lookup.error();
        if (anchor.error != 0) return anchor;
        // Within another root, or around one.
        anchor.error = !lookup.inode()->implied ? EEXIST : anchor.missing.empty() ? EBUSY : 0;
        anchor.directory = lookup.inode()->number;
        anchor.path = path_of(*lookup.inode());
        return anchor;
      }
    }
    char real[PATH_MAX];
    if (::realpath(prefix.c_str(), real) == nullptr) {
      if (errno == ENOENT) continue;
      anchor.error = errno;
      return anchor;
    }
    anchor.path = real;
    anchor.beneath = identity_of(real);
    if (anchor.missing.empty()) {
      if (anchor.path == "/") {
        anchor.error = EBUSY;
        return anchor;
      }
      const std::size_t slash = anchor.path.rfind('/');
      anchor.missing = {anchor.path.substr(slash + 1)};
      anchor.path = slash == 0 ? "/" : anchor.path.substr(0, slash);
    } else {
      if (anchor.beneath == Identity{}) anchor.error = ENOTDIR;
      anchor.beneath = {};
    }
    return anchor;
  }
  anchor.error = ENOENT;
  return anchor;
}

// Bind mounts: where else the filesystem that holds `canonical` is mounted. Nothing is asked of those mounts
// themselves, since one of them may be a network filesystem that does not answer.
void add_bind_mounts(const std::string &canonical, std::set<std::string> &found) {
  std::FILE *mounts = std::fopen("/proc/self/mountinfo", "re");
  if (mounts == nullptr) return;
  std::vector<std::pair<std::string, std::string>> points;  // where, and which device
  std::size_t longest = 0;
  std::string device;
  char *line = nullptr;
  std::size_t size = 0;
  while (::getline(&line, &size, mounts) > 0) {
    char numbers[32], point[PATH_MAX];
    if (std::sscanf(line, "%*d %*d %31s %*s %4095s", numbers, point) != 2) continue;
    const std::string_view at = point;
    const bool above =
        canonical.starts_with(at) && (at == "/" || canonical.size() == at.size() || canonical[at.size()] == '/');
    if (above && at.size() >= longest) {
      longest = at.size();
      device = numbers;
    }
    points.emplace_back(point, numbers);
  }
  std::free(line);
  std::fclose(mounts);
  for (const auto &[point, numbers] : points) {
    if (numbers == device) found.insert(first_component(point));
  }
}

// First components of all spellings that may lead to a shadow: symlinks in the root directory, and bind mounts.
std::vector<std::string> aliases(const std::string &spelled, const std::string &canonical) {
  std::set<std::string> found{first_component(spelled), first_component(canonical)};
  add_bind_mounts(canonical, found);
  if (DIR *top = ::opendir("/")) {
    while (const struct dirent *entry = ::readdir(top)) {
      char real[PATH_MAX];
      const std::string path = std::string("/") + entry->d_name;
      struct stat status;
      if (kernel::fstatat(AT_FDCWD, path.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0) continue;
      if (!S_ISLNK(status.st_mode) || ::realpath(path.c_str(), real) == nullptr) continue;
      if (real[1] == '\0' || found.contains(first_component(real))) found.insert(entry->d_name);
    }
    ::closedir(top);
  }
  found.erase("");
  return {found.begin(), found.end()};
}

Overlay &overlay_at(const std::string &path) {
  for (const auto &overlay : overlays()) {
    if (overlay->path == path) return *overlay;
  }
  overlays().push_back(std::make_unique<Overlay>());
  Overlay &overlay = *overlays().back();
  overlay.path = path;
  overlay.identity = identity_of(path.c_str());
  overlay.top.kind = Inode::Kind::directory;
  overlay.top.mode = 0555;  // who may not search the real directory is told so by the kernel
  overlay.top.overlay = &overlay;
  return overlay;
}

Overlay *overlay_above(Inode *directory) {
  while (directory->overlay == nullptr) directory = directory->parent();
  return directory->overlay;
}

void count_shadows() {
  unsigned count = 0;
  std::uint64_t bits = 0;
  for (const auto &root : roots()) {
    if (root->canonical == default_root) continue;
    ++count;
    for (const auto &name : root->first_components) bits |= component_bit(name.c_str());
  }
  shadowed_components.store(bits);
  shadow_count.store(count);
}

void learn_memory_device() {
  if (memory_device.load() != 0) return;
  const int fd = kernel::memfd_create("diskless");
  struct stat status;
  if (fd >= 0 && kernel::fstat(fd, &status) == 0) memory_device.store(status.st_dev);
  if (fd >= 0) kernel::close(fd);
}

// An Overlay's top or a missing ancestor that nothing hangs in any more is of no use.
void prune(Inode *directory) {
  while (directory->overlay == nullptr && directory->implied && directory->entries.empty()) {
    Inode *parent = directory->parent();
    unlink(*parent, std::string(directory->names.front().second));
    directory = parent;
  }
  if (directory->overlay != nullptr && directory->entries.empty()) {
    std::erase_if(overlays(), [&](const auto &overlay) { return &overlay->top == directory; });
  }
}

}  // namespace

int root_add(const char *path) {
  kernel::KeepErrno keep;
  const std::vector<std::string> names = components(path);
  if (names.empty()) return -EINVAL;
  learn_memory_device();
  if (memory_device.load() == 0) return -ENOSYS;
  const std::string spelled = join(names, names.size());
  // /diskless is itself also where there is a real one, and needs no look at the disk.
  Anchor anchor = spelled == default_root ? Anchor{0, "/", {"diskless"}} : find_anchor(names);
  if (anchor.error != 0) return -anchor.error;
  auto root = std::make_unique<Root>();
  root->spelled = spelled;
  root->canonical = (anchor.path == "/" ? "" : anchor.path) + join(anchor.missing, anchor.missing.size());
  root->beneath = anchor.beneath;
  if (spelled != default_root) root->first_components = aliases(spelled, root->canonical);

  std::unique_lock lock(tree_lock);
  Inode *directory = anchor.directory != 0 ? find_directory(anchor.directory) : &overlay_at(anchor.path).top;
  if (directory == nullptr) return -ENOENT;
  while (anchor.missing.size() > 1) {
    Inode *next = directory->find(anchor.missing.front());
    if (next == nullptr) {
      next = make_directory(0555, now());
      next->implied = true;
      link(*directory, anchor.missing.front(), *next);
    } else if (!next->implied) {
      return -EEXIST;
    }
    directory = next;
    anchor.missing.erase(anchor.missing.begin());
  }
  if (const Inode *there = directory->find(anchor.missing.front())) return there->implied ? -EBUSY : -EEXIST;
  link(*directory, anchor.missing.front(), *make_directory(0555, now()));
  root->overlay = overlay_above(directory);
  roots().push_back(std::move(root));
  count_shadows();
  return 0;
}

int root_remove(const char *path) {
  kernel::KeepErrno keep;
  const std::vector<std::string> names = components(path);
  const std::string spelled = join(names, names.size());
  std::unique_lock lock(tree_lock);
  const auto root = std::ranges::find(roots(), spelled, [](const auto &each) { return each->spelled; });
  if (root == roots().end()) return -ENOENT;
  Inode *directory = &(*root)->overlay->top;
  std::vector<std::string> below = components((*root)->canonical);
  below.erase(below.begin(), below.begin() + static_cast<std::ptrdiff_t>(components((*root)->overlay->path).size()));
  for (std::size_t i = 0; i + 1 < below.size(); ++i) directory = directory->find(below[i]);
  unlink_all(*directory, below.back());
  prune(directory);
  roots().erase(root);
  count_shadows();
  return 0;
}

}  // namespace diskless
