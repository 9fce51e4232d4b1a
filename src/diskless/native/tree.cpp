#include "tree.h"

#include <pthread.h>
#include <sys/stat.h>

#include <algorithm>
#include <new>

#include "roots.h"

namespace diskless {

constinit Lock tree_lock;
constinit std::atomic<dev_t> memory_device{0};

namespace {

struct IdentityHash {
  std::size_t operator()(const Identity &identity) const { return std::hash<ino_t>{}(identity.number); }
};

// Never destroyed: hooks are called until the very end of the process.
struct Inodes {
  std::unordered_map<Identity, Inode *, IdentityHash> files;
  std::unordered_map<std::uint64_t, Inode *> directories;
  std::uint64_t last_number = std::uint64_t{1} << 40;  // memfds count from 1 on the same device
  Cookie last_cookie = first_cookie;
};

Inodes &inodes() {
  static Inodes &instance = *new Inodes;
  return instance;
}

void forget(Inode *inode) {
  if (inode->is_directory()) inodes().directories.erase(inode->number);
  if (inode->is_file()) inodes().files.erase(inode->memory);
  delete inode;
}

Inode *make(Inode::Kind kind, mode_t mode, timespec modified) {
  Inode *inode = new Inode;
  inode->kind = kind;
  inode->mode = mode & 07777;
  inode->number = ++inodes().last_number;
  inode->modified = modified;
  inode->owner = ::geteuid();
  inode->group = ::getegid();
  return inode;
}

// Before any thread can ask for them: statics are made without a lock here.
__attribute__((constructor)) void begin() {
  inodes();
  roots();
  overlays();
  ::pthread_atfork([] { tree_lock.lock(); }, [] { tree_lock.unlock(); }, [] { tree_lock.unlock_in_child(); });
}

}  // namespace

Inode *Inode::find(std::string_view name) const {
  const auto found = by_name.find(name);
  return found == by_name.end() ? nullptr : entries.at(found->second).inode;
}

Inode *make_directory(mode_t mode, timespec modified) {
  Inode *inode = make(Inode::Kind::directory, mode, modified);
  inodes().directories.emplace(inode->number, inode);
  return inode;
}

Inode *make_symlink(std::string_view target) {
  Inode *inode = make(Inode::Kind::symlink, 0777, now());
  inode->target = target;
  return inode;
}

Inode *file_of(int fd) {
  struct stat status;
  if (kernel::fstat(fd, &status) != 0) return nullptr;
  if (!S_ISREG(status.st_mode)) {
    errno = EINVAL;
    return nullptr;
  }
  const Identity memory{status.st_dev, status.st_ino};
  Inode *&known = inodes().files[memory];
  if (known == nullptr) {
    known = new Inode;
    known->number = status.st_ino;
    known->memory = memory;
  }
  known->fd = fd;
  known->owner = status.st_uid;
  known->group = status.st_gid;
  return known;
}

void link(Inode &directory, std::string_view name, Inode &inode) {
  const auto [entry, added] = directory.entries.emplace(++inodes().last_cookie, Entry{std::string(name), &inode});
  directory.by_name.emplace(entry->second.name, entry->first);
  directory.subdirectories += inode.is_directory();
  directory.modified = now();
  inode.names.emplace_back(&directory, name);
}

void unlink(Inode &directory, std::string_view name) {
  const auto found = directory.by_name.find(name);
  const auto entry = directory.entries.find(found->second);
  Inode *inode = entry->second.inode;
  std::erase_if(inode->names, [&](const auto &place) { return place.first == &directory && place.second == name; });
  directory.by_name.erase(found);
  directory.entries.erase(entry);
  directory.subdirectories -= inode->is_directory();
  directory.modified = now();
  if (inode->names.empty()) forget(inode);
}

void unlink_all(Inode &directory, std::string_view name) {
  // Depth is bounded by memory only, so no recursion: empty the deepest directory first.
  Inode *top = directory.find(name);
  Inode *at = top;
  while (top->is_directory() && !top->entries.empty()) {
    Inode *child = at->entries.begin()->second.inode;
    if (child->is_directory() && !child->entries.empty()) {
      at = child;
      continue;
    }
    unlink(*at, std::string(at->entries.begin()->second.name));
    if (at->entries.empty() && at != top) at = at->parent();
  }
  unlink(directory, std::string(name));
}

Inode *find_file(const Identity &memory) {
  const auto found = inodes().files.find(memory);
  return found == inodes().files.end() ? nullptr : found->second;
}

Inode *find_directory(std::uint64_t number) {
  const auto found = inodes().directories.find(number);
  return found == inodes().directories.end() ? nullptr : found->second;
}

std::string path_of(const Inode &inode) {
  std::vector<const std::string *> names;
  const Inode *at = &inode;
  while (at->overlay == nullptr && !at->names.empty()) {
    names.push_back(&at->names.front().second);
    at = at->names.front().first;
  }
  std::string path = at->overlay != nullptr && at->overlay->path != "/" ? at->overlay->path : std::string();
  std::for_each(names.rbegin(), names.rend(), [&](const std::string *name) { (path += '/') += *name; });
  return path;
}

timespec now() {
  timespec time;
  ::clock_gettime(CLOCK_REALTIME, &time);
  return time;
}

}  // namespace diskless
