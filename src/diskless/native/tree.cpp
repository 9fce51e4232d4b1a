#include "tree.h"

#include <pthread.h>
#include <sys/stat.h>

#include <algorithm>
#include <deque>
#include <new>

#include "guard.h"
#include "roots.h"
#include "working_directory.h"

namespace diskless {

constinit Lock tree_lock;
constinit std::atomic<dev_t> memory_device{0};
constinit Volume read_only_volume;
constinit std::uint64_t names_version = 0;

namespace {

struct IdentityHash {
  std::size_t operator()(const Identity &identity) const { return std::hash<ino_t>{}(identity.number); }
};

constexpr std::size_t removed_remembered = 256;

// Never destroyed: hooks are called until the very end of the process.
struct Inodes {
  std::unordered_map<Identity, Inode *, IdentityHash> files;
  std::unordered_map<std::uint64_t, Inode *> directories;
  std::uint64_t last_number = first_number;
  Cookie last_cookie = first_cookie;
  std::deque<Inode *> removed;      // directories of scratches that went last: somebody may have them open
  std::deque<Identity> once_named;  // files made by O_TMPFILE that lost their names last
  std::vector<int> abandoned;       // descriptors of files that are gone, to be closed once the lock is given back
};

Inodes &inodes() {
  static Inodes &instance = *new Inodes;
  return instance;
}

// Nobody tells us when the last descriptor of a removed directory is closed.
void bury(Inode *directory) {
  directory->changed = now();
  inodes().removed.push_back(directory);
  if (inodes().removed.size() <= removed_remembered) return;
  Inode *oldest = inodes().removed.front();
  inodes().removed.pop_front();
  inodes().directories.erase(oldest->number);
  delete oldest;
}

void forget(Inode *inode) {
  if (inode->is_directory()) {
    if (inode->volume->writable) return bury(inode);
    inodes().directories.erase(inode->number);
  }
  if (inode->is_file()) inodes().files.erase(inode->memory);
  if (inode->was_unnamed) {
    inodes().once_named.push_back(inode->memory);
    if (inodes().once_named.size() > removed_remembered) inodes().once_named.pop_front();
  }
  if (inode->owns_fd) inodes().abandoned.push_back(inode->fd);
  delete inode;
}

Inode *make(Inode::Kind kind, mode_t mode, timespec modified) {
  Inode *inode = new Inode;
  inode->kind = kind;
  inode->mode = mode & 07777;
  inode->number = ++inodes().last_number;
  inode->accessed = inode->modified = inode->changed = modified;
  inode->owner = ::geteuid();
  inode->group = ::getegid();
  return inode;
}

void stamp(Inode &directory) { directory.modified = directory.changed = now(); }

void rename_in(Inode &inode, const Inode &from, std::string_view name, Inode &to, std::string_view new_name) {
  for (auto &place : inode.names) {
    if (place.first != &from || place.second != name) continue;
    place = {&to, std::string(new_name)};
    return;
  }
}

// Before any thread can ask for them: statics are made without a lock here.
__attribute__((constructor)) void begin() {
  inodes();
  roots();
  overlays();
  ::pthread_atfork([] { tree_lock.begin_fork(); }, [] { tree_lock.end_fork(); }, [] { tree_lock.end_fork_in_child(); });
}

}  // namespace

void begin_change() { tree_lock.lock(); }

void end_change() {
  kernel::KeepErrno keep;
  std::vector<int> abandoned;
  abandoned.swap(inodes().abandoned);
  tree_lock.unlock();
  for (const int fd : abandoned) release(fd);
}

Inode *Inode::find(std::string_view name) const {
  const auto found = by_name.find(name);
  return found == by_name.end() ? nullptr : found->second->second.inode;
}

Inode *Inode::find_visible(std::string_view name) const {
  Inode *found = above == nullptr ? nullptr : above->top.find(name);
  return found == nullptr ? find(name) : found;
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

Inode *make_socket(mode_t mode, std::string_view address) {
  Inode *inode = make(Inode::Kind::socket, mode, now());
  inode->target = address;
  return inode;
}

Inode *make_file(int fd, const Identity &memory) {
  Inode *inode = new Inode;
  inode->number = memory.number;
  inode->memory = memory;
  inode->fd = fd;
  inode->owns_fd = true;
  inodes().files[memory] = inode;
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
  ++names_version;
  const auto [entry, added] = directory.entries.emplace(++inodes().last_cookie, Entry{std::string(name), &inode});
  directory.by_name.emplace(entry->second.name, entry);
  directory.subdirectories += inode.is_directory();
  stamp(directory);
  inode.names.emplace_back(&directory, name);
}

void unlink(Inode &directory, std::string_view name) {
  ++names_version;
  const auto found = directory.by_name.find(name);
  const auto entry = found->second;
  Inode *inode = entry->second.inode;
  std::erase_if(inode->names, [&](const auto &place) { return place.first == &directory && place.second == name; });
  directory.by_name.erase(found);
  directory.entries.erase(entry);
  directory.subdirectories -= inode->is_directory();
  stamp(directory);
  if (!inode->names.empty()) return;
  inode->was_below = directory.number;
  if (inode->is_directory() && keep_removed(*inode)) return;
  forget(inode);
}

void forget_removed(Inode *directory) { forget(directory); }

void move(Inode &from, std::string_view name, Inode &to, std::string_view new_name) {
  Inode &inode = *from.find(name);
  mark_changed(inode);
  if (Inode *replaced = to.find(new_name)) {
    mark_changed(*replaced);
    unlink(to, new_name);
  }
  link(to, new_name, inode);
  unlink(from, name);
}

void exchange(Inode &from, std::string_view name, Inode &to, std::string_view other_name) {
  ++names_version;
  Inode *&one = from.by_name.find(name)->second->second.inode;
  Inode *&other = to.by_name.find(other_name)->second->second.inode;
  mark_changed(*one);
  mark_changed(*other);
  rename_in(*one, from, name, to, other_name);
  rename_in(*other, to, other_name, from, name);
  from.subdirectories += static_cast<std::size_t>(other->is_directory()) - one->is_directory();
  to.subdirectories += static_cast<std::size_t>(one->is_directory()) - other->is_directory();
  std::swap(one, other);
  stamp(from);
  stamp(to);
}

void mark_changed(Inode &inode) {
  inode.changed = now();
  if (!inode.owns_fd || inode.names.size() > 1) return;
  // Who has it open sees the time after the last name is gone, too: setting the mode that it has sets that.
  struct stat status;
  const kernel::DescriptorPath path(inode.fd);
  if (kernel::fstat(inode.fd, &status) != 0 || (status.st_mode & 07000) != 0) return;
  ::syscall(SYS_fchmodat, AT_FDCWD, path.text, status.st_mode & 0777);
}

Attributes attributes_of(const Inode &inode) {
  struct stat status;
  if (!inode.owns_fd || kernel::fstat(inode.fd, &status) != 0) return {inode.mode, inode.owner, inode.group};
  const mode_t mode = status.st_mode & 07777;
  return {.mode = inode.execute_here ? (mode & ~0111u) | (inode.mode & 0111) : mode,
          .owner = status.st_uid,
          .group = inode.group_here ? inode.group : status.st_gid};
}

bool is_mount_point(const Inode &inode) {
  const Inode *parent = inode.parent();
  if (parent == nullptr) return false;
  return parent->overlay != nullptr || (inode.volume != parent->volume && !inode.placed);
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

void forget_volume(const Volume &volume) {
  static Volume nowhere{.writable = true};
  for (Inode *directory : inodes().removed) {
    if (directory->volume == &volume) directory->volume = &nowhere;
  }
}

bool had_name(const Identity &memory) {
  return std::ranges::find(inodes().once_named, memory) != inodes().once_named.end();
}

long long used_bytes(const Volume &volume) {
  long long blocks = 0;
  for (const auto &[memory, file] : inodes().files) {
    struct stat status;
    if (file->volume == &volume && kernel::fstat(file->fd, &status) == 0) blocks += status.st_blocks;
  }
  return blocks * 512;
}

Inode *directory_above(const Inode &directory) {
  Inode *parent = directory.parent();
  return parent == nullptr || parent->overlay == nullptr ? parent : parent->overlay->over;
}

std::string path_of(const Inode &inode) {
  std::vector<const std::string *> names;
  const Inode *at = &inode;
  std::string path;
  while (true) {
    if (at->overlay != nullptr) {
      if (at->overlay->over == nullptr) {
        if (at->overlay->path != "/") path = at->overlay->path;
        break;
      }
      at = at->overlay->over;
    }
    if (at->names.empty()) break;
    names.push_back(&at->names.front().second);
    at = at->names.front().first;
  }
  std::for_each(names.rbegin(), names.rend(), [&](const std::string *name) { (path += '/') += *name; });
  return path;
}

timespec now() {
  timespec time;
  ::clock_gettime(CLOCK_REALTIME, &time);
  return time;
}

}  // namespace diskless
