#include "roots.h"

#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <algorithm>

#include "limits.h"
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

namespace {

Identity identity_of(const char *path) {
  struct stat status;
  if (kernel::fstatat(AT_FDCWD, path, &status, 0) != 0 || !S_ISDIR(status.st_mode)) return {};
  return {status.st_dev, status.st_ino};
}

bool is_below(std::string_view path, std::string_view above) {
  return path.size() > above.size() && path.starts_with(above) && path[above.size()] == '/';
}

// Follows symlinks as far as the path exists, in the Tree and out of it. Sets *canonical, or returns an errno.
int find_canonical(const std::vector<std::string> &names, std::string *canonical) {
  for (std::size_t count = names.size() + 1; count-- > 0;) {
    const std::string prefix = join(names, count);
    bool is_directory = true;
    {
      Lookup lookup(AT_FDCWD, prefix.c_str(), Follow::yes);
      if (lookup.in_tree()) {
        if (lookup.error() == ENOENT || (lookup.error() == 0 && lookup.inode() == nullptr)) continue;
        if (lookup.error() != 0) return lookup.error();
        *canonical = lookup.canonical();
        is_directory = lookup.inode()->is_directory();
      }
    }
    if (canonical->empty()) {
      char real[PATH_MAX];
      if (::realpath(prefix.c_str(), real) == nullptr) {
        if (errno == ENOENT) continue;
        return errno;
      }
      *canonical = real;
      is_directory = !(identity_of(real) == Identity{});
    }
    if (count == names.size()) return *canonical == "/" ? EBUSY : 0;
    if (!is_directory) return ENOTDIR;
    if (*canonical == "/") canonical->clear();
    for (std::size_t i = count; i < names.size(); ++i) (*canonical += '/') += names[i];
    return 0;
  }
  return ENOENT;
}

Overlay &make_overlay() {
  overlays().push_back(std::make_unique<Overlay>());
  Overlay &overlay = *overlays().back();
  overlay.top.kind = Inode::Kind::directory;
  overlay.top.mode = 0555;  // who may not search the directory beneath is told so when it is searched
  overlay.top.overlay = &overlay;
  return overlay;
}

Overlay &overlay_at(const std::string &path) {
  for (const auto &overlay : overlays()) {
    if (overlay->over == nullptr && overlay->path == path) return *overlay;
  }
  Overlay &overlay = make_overlay();
  overlay.path = path;
  overlay.identity = identity_of(path.c_str());
  return overlay;
}

Overlay &overlay_over(Inode &directory) {
  if (directory.above == nullptr) {
    directory.above = &make_overlay();
    directory.above->over = &directory;
  }
  return *directory.above;
}

// The innermost root that a path lies in, or null.
Root *root_around(std::string_view canonical) {
  Root *innermost = nullptr;
  for (const auto &root : roots()) {
    if (!is_below(canonical, root->canonical)) continue;
    if (innermost == nullptr || is_below(root->canonical, innermost->canonical)) innermost = root.get();
  }
  return innermost;
}

// The directory in which `root` is to hang. Within a scratch the directories above it are made, as for a mount point;
// over the real filesystem missing ones are implied.
Inode *directory_for(Root &root) {
  std::vector<std::string> names = components(root.canonical);
  names.pop_back();
  auto missing = names.begin();
  Inode *directory;
  if (Root *around = root_around(root.canonical)) {
    root.beneath = {};
    directory = around->directory->find(around->name);
    missing += static_cast<std::ptrdiff_t>(components(around->canonical).size());
    for (; missing != names.end(); ++missing) {
      Inode *next = directory->find(*missing);
      if (next != nullptr && !next->is_directory()) break;  // hidden by an implied directory
      if (next == nullptr) {
        next = make_directory(0755, now());
        next->volume = directory->volume;
        link(*directory, *missing, *next);
      }
      directory = next;
    }
    directory = &overlay_over(*directory).top;
  } else {
    root.beneath = identity_of(root.canonical.c_str());
    std::size_t count = names.size();
    while (count > 0 && identity_of(join(names, count).c_str()) == Identity{}) --count;
    directory = &overlay_at(join(names, count)).top;
    missing += static_cast<std::ptrdiff_t>(count);
  }
  for (; missing != names.end(); ++missing) {
    Inode *next = directory->find(*missing);
    if (next == nullptr) {
      next = make_directory(0555, now());
      next->implied = true;
      link(*directory, *missing, *next);
    }
    directory = next;
  }
  return directory;
}

// An Overlay's top or an implied directory that nothing hangs in any more is of no use.
void prune(Inode *directory) {
  while (directory->overlay == nullptr && directory->implied && directory->entries.empty()) {
    Inode *parent = directory->parent();
    unlink(*parent, std::string(directory->names.front().second));
    directory = parent;
  }
  if (directory->overlay != nullptr && directory->entries.empty()) {
    if (Inode *over = directory->overlay->over) over->above = nullptr;
    std::erase_if(overlays(), [&](const auto &overlay) { return &overlay->top == directory; });
  }
}

// Where what loses its place stays until each root has a new one, so that none finds what was there before.
struct Limbo {
  Inode directory;
  Limbo() { directory.kind = Inode::Kind::directory; }
  ~Limbo() {
    while (!directory.entries.empty()) unlink_all(directory, std::string(directory.entries.begin()->second.name));
  }
  void take(Inode &from, const std::string &name) {
    link(directory, name, *from.find(name));
    unlink(from, name);
  }
};

// In its place there may be a directory that was implied by the roots which lie in this one.
void hang(Root &root, Inode &top, Limbo &limbo) {
  root.directory = directory_for(root);
  root.name = root.canonical.substr(root.canonical.rfind('/') + 1);
  if (root.directory->find(root.name) != nullptr) limbo.take(*root.directory, root.name);
  link(*root.directory, root.name, top);
}

// After a root around it came or is about to go.
void hang_anew(Root &root, Limbo &limbo) {
  Inode *const before = root.directory;
  Inode &top = *before->find(root.name);
  hang(root, top, limbo);
  unlink(*before, root.name);
  prune(before);
}

bool is_below_default(std::string_view path) { return is_below(path, default_root); }

void count_shadows() {
  unsigned count = 0;
  std::uint64_t bits = 0;
  for (const auto &root : roots()) {
    if (root->first_components.empty()) continue;
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

// Below /diskless a root is listed like any directory there. Returns 0, or -errno where the user's calls have made
// something of a name above it.
int make_listed_directory(const std::string &canonical, Inode **made) {
  std::vector<std::string> names = components(canonical);
  Root *around = root_around(canonical);
  Inode *directory = around->directory->find(around->name);
  for (std::size_t i = components(around->canonical).size(); i + 1 < names.size(); ++i) {
    Inode *next = directory->find(names[i]);
    if (next == nullptr) {
      next = make_directory(0555, now());
      next->implied = true;
      link(*directory, names[i], *next);
    }
    if (!next->is_directory()) return -ENOTDIR;
    if (next->volume->writable) return -EROFS;
    directory = next;
  }
  *made = directory;
  return 0;
}

int add(const std::vector<std::string> &names, mode_t mode, std::unique_ptr<Root> root) {
  learn_memory_device();
  if (memory_device.load() == 0) return -ENOSYS;
  root->spelled = root->canonical = join(names, names.size());
  // /diskless is itself also where there is a real one, and needs no look at the disk.
  const bool is_default = root->spelled == default_root;
  if (!is_default && !is_below_default(root->spelled)) {
    root->canonical.clear();
    if (const int error = find_canonical(names, &root->canonical)) return -error;
    root->first_components = first_components_of(root->spelled, root->canonical);
  }

  const Change change;
  const std::string &canonical = root->canonical;
  std::vector<Root *> within;  // those that will lie in this one
  for (const auto &other : roots()) {
    if (other->canonical == canonical || other->spelled == root->spelled) return -EEXIST;
    if (is_below(other->canonical, canonical) && !is_default) {
      if (!root->volume.writable) return -EBUSY;
      if (root_around(other->canonical) == root_around(canonical)) within.push_back(other.get());
    }
  }
  Root *around = root_around(canonical);
  const bool listed = around != nullptr && around->canonical == default_root;
  // In /diskless there are Mounts, which need no root of their own, and scratches.
  const bool may_lie_in = around == nullptr || (listed ? root->volume.writable : around->volume.writable);
  if (!may_lie_in) return -EEXIST;
  if (around == nullptr && is_below_default(canonical)) return -ENOENT;
  if (listed) {
    if (const int error = make_listed_directory(canonical, &root->directory)) return error;
    root->name = names.back();
    if (root->directory->find(root->name) != nullptr) return -EEXIST;
  }
  Inode *top = make_directory(mode, now());
  if (root->volume.writable) top->volume = &root->volume;
  Limbo limbo;
  if (listed) {
    link(*root->directory, root->name, *top);
  } else {
    hang(*root, *top, limbo);
  }
  if (root->volume.writable) learn_limits();
  roots().push_back(std::move(root));
  for (Root *each : within) hang_anew(*each, limbo);
  count_shadows();
  return 0;
}

}  // namespace

int root_add(const char *path) {
  kernel::KeepErrno keep;
  const std::vector<std::string> names = components(path);
  if (names.empty()) return -EINVAL;
  return add(names, 0555, std::make_unique<Root>());
}

int scratch_add(const char *path, mode_t mode, long long budget_bytes) {
  static std::atomic<std::uint64_t> last_number{0};
  kernel::KeepErrno keep;
  const std::vector<std::string> names = components(path);
  if (names.empty() || budget_bytes < 0) return -EINVAL;
  auto root = std::make_unique<Root>();
  root->volume = {.writable = true, .number = last_number.fetch_add(1) + 1, .budget_bytes = budget_bytes};
  return add(names, mode, std::move(root));
}

int root_remove(const char *path) {
  kernel::KeepErrno keep;
  const std::vector<std::string> names = components(path);
  const std::string spelled = join(names, names.size());
  const Change change;
  const auto found = std::ranges::find(roots(), spelled, [](const auto &each) { return each->spelled; });
  if (found == roots().end()) return -ENOENT;
  if ((*found)->canonical == default_root &&
      std::ranges::any_of(roots(), [](const auto &each) { return is_below_default(each->canonical); })) {
    return -EBUSY;
  }
  const std::unique_ptr<Root> root = std::move(*found);
  roots().erase(found);
  Limbo limbo;
  limbo.take(*root->directory, root->name);
  for (const auto &each : roots()) {
    if (!is_below(each->canonical, root->canonical)) continue;
    const Root *around = root_around(each->canonical);
    if (around == nullptr || !is_below(around->canonical, root->canonical)) hang_anew(*each, limbo);
  }
  prune(root->directory);
  forget_volume(root->volume);
  count_shadows();
  return 0;
}

bool relative_may_be_ours(const char *path) {
  if (shadow_count.load(std::memory_order_relaxed) == 0) return std::strstr(path, "diskless") != nullptr;
  if (path[0] == '\0') return false;
  return true;
}

}  // namespace diskless
