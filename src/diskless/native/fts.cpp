// fts(3), for hierarchies that the Tree may be part of. libc's own opens directories past every hook, so those are
// walked here: the same structures, filled by our stat and opendir. The working directory is never changed, as with
// FTS_NOCHDIR, so fts_accpath is always fts_path.

#include <fts.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <string>
#include <vector>

#include "activation.h"
#include "route.h"

namespace diskless {

namespace {

static_assert(sizeof(FTSENT) == sizeof(FTSENT64) && offsetof(FTSENT, fts_name) == offsetof(FTSENT64, fts_name));

constexpr int walk_of_ours = 0x40000000;  // in fts_options: a bit that libc does not use
constexpr int stopped = 0x20000000;

using Compare = int (*)(const FTSENT **, const FTSENT **);

bool is_ours(const FTS *walk) { return (walk->fts_options & walk_of_ours) != 0; }

// An entry, its name, its status and its path in one allocation.
FTSENT *make_entry(FTSENT *parent, std::string_view name, std::string_view path) {
  const std::size_t status_at = (offsetof(FTSENT, fts_name) + name.size() + 1 + 15) & ~std::size_t{15};
  const std::size_t path_at = status_at + sizeof(struct stat);
  auto *memory = static_cast<char *>(::calloc(1, path_at + path.size() + 1));
  if (memory == nullptr) return nullptr;
  auto *entry = reinterpret_cast<FTSENT *>(memory);
  char *text = memory + offsetof(FTSENT, fts_name);
  std::memcpy(text, name.data(), name.size());
  std::memcpy(memory + path_at, path.data(), path.size());
  entry->fts_statp = reinterpret_cast<struct stat *>(memory + status_at);
  entry->fts_path = entry->fts_accpath = memory + path_at;
  entry->fts_pathlen = static_cast<unsigned short>(path.size());
  entry->fts_namelen = static_cast<unsigned short>(name.size());
  entry->fts_parent = parent;
  entry->fts_level = static_cast<short>(parent == nullptr ? FTS_ROOTPARENTLEVEL : parent->fts_level + 1);
  entry->fts_instr = FTS_NOINSTR;
  return entry;
}

void free_list(FTSENT *entry) {
  while (entry != nullptr) {
    FTSENT *next = entry->fts_link;
    ::free(entry);
    entry = next;
  }
}

// What fts_info will say, and the status.
unsigned short look_at(const FTS &walk, FTSENT &entry, bool follow) {
  struct stat &status = *entry.fts_statp;
  const bool at_root = entry.fts_level == FTS_ROOTLEVEL && (walk.fts_options & FTS_COMFOLLOW) != 0;
  if (follow || at_root || (walk.fts_options & FTS_LOGICAL) != 0) {
    if (intercept::stat(entry.fts_path, &status) != 0) {
      const int error = errno;
      if (intercept::lstat(entry.fts_path, &status) == 0) {
        errno = 0;
        return FTS_SLNONE;
      }
      entry.fts_errno = error;
      return FTS_NS;
    }
  } else if (intercept::lstat(entry.fts_path, &status) != 0) {
    entry.fts_errno = errno;
    status = {};
    return FTS_NS;
  }
  entry.fts_dev = status.st_dev;
  entry.fts_ino = status.st_ino;
  entry.fts_nlink = status.st_nlink;
  if (S_ISLNK(status.st_mode)) return FTS_SL;
  if (S_ISREG(status.st_mode)) return FTS_F;
  if (!S_ISDIR(status.st_mode)) return FTS_DEFAULT;
  const std::string_view name = entry.fts_name;
  if (entry.fts_level > FTS_ROOTLEVEL && (name == "." || name == "..")) return FTS_DOT;
  for (FTSENT *above = entry.fts_parent; above->fts_level >= FTS_ROOTLEVEL; above = above->fts_parent) {
    if (above->fts_ino == entry.fts_ino && above->fts_dev == entry.fts_dev) {
      entry.fts_cycle = above;
      return FTS_DC;
    }
  }
  return FTS_D;
}

FTSENT *sorted(const FTS &walk, const std::vector<FTSENT *> &unsorted) {
  std::vector<FTSENT *> entries = unsorted;
  if (walk.fts_compar != nullptr && entries.size() > 1) {
    ::qsort(entries.data(), entries.size(), sizeof entries[0],
            reinterpret_cast<int (*)(const void *, const void *)>(walk.fts_compar));
  }
  for (std::size_t i = 0; i + 1 < entries.size(); ++i) entries[i]->fts_link = entries[i + 1];
  if (entries.empty()) return nullptr;
  entries.back()->fts_link = nullptr;
  return entries.front();
}

// The entries of a directory. Null where it is empty, and with fts_info and fts_errno set where it cannot be read.
FTSENT *read_children(const FTS &walk, FTSENT &directory) {
  DIR *stream = intercept::opendir(directory.fts_path);
  if (stream == nullptr) {
    directory.fts_info = FTS_DNR;
    directory.fts_errno = errno;
    return nullptr;
  }
  std::vector<FTSENT *> entries;
  std::string path = directory.fts_path;
  if (path.back() != '/') path += '/';
  const std::size_t length = path.size();
  while (const struct dirent64 *each = intercept::readdir64(stream)) {
    const std::string_view name = each->d_name;
    if ((name == "." || name == "..") && (walk.fts_options & FTS_SEEDOT) == 0) continue;
    path.resize(length);
    path += name;
    FTSENT *entry = make_entry(&directory, name, path);
    if (entry == nullptr) break;
    entry->fts_info = look_at(walk, *entry, false);
    if ((walk.fts_options & FTS_NOSTAT) != 0 &&
        (entry->fts_info == FTS_F || entry->fts_info == FTS_DEFAULT || entry->fts_info == FTS_SL)) {
      entry->fts_info = FTS_NSOK;
    }
    entries.push_back(entry);
  }
  intercept::closedir(stream);
  return sorted(walk, entries);
}

FTS *open_walk(char *const *paths, int options, Compare compare) {
  if ((options & ~FTS_OPTIONMASK) != 0) {
    errno = EINVAL;
    return nullptr;
  }
  auto *walk = static_cast<FTS *>(::calloc(1, sizeof(FTS)));
  FTSENT *above = make_entry(nullptr, "", "");
  if (walk == nullptr || above == nullptr) {
    ::free(walk);
    ::free(above);
    errno = ENOMEM;
    return nullptr;
  }
  walk->fts_options = options | walk_of_ours;
  walk->fts_compar = reinterpret_cast<decltype(walk->fts_compar)>(compare);
  std::vector<FTSENT *> roots;
  for (; *paths != nullptr; ++paths) {
    FTSENT *entry = make_entry(above, *paths, *paths);
    if (entry == nullptr) break;
    if (entry->fts_pathlen == 0) {
      entry->fts_info = FTS_NS;
      entry->fts_errno = ENOENT;
    } else {
      entry->fts_info = look_at(*walk, *entry, false);
      if (entry->fts_info == FTS_DOT) entry->fts_info = FTS_D;
    }
    roots.push_back(entry);
  }
  walk->fts_child = sorted(*walk, roots);
  // Kept where libc keeps its list of roots while nothing has been read.
  walk->fts_cur = nullptr;
  walk->fts_array = reinterpret_cast<FTSENT **>(above);
  open_streams.fetch_add(1);
  return walk;
}

// A root's name is what the caller gave until it is visited, and then the path's last component.
FTSENT *visit_root(FTS &walk, FTSENT *root) {
  walk.fts_dev = root->fts_dev;
  const char *slash = std::strrchr(root->fts_name, '/');
  if (slash != nullptr && (slash != root->fts_name || slash[1] != '\0')) {
    root->fts_namelen = static_cast<unsigned short>(std::strlen(slash + 1));
    std::memmove(root->fts_name, slash + 1, root->fts_namelen + 1u);
  }
  return root;
}

FTSENT *finish(FTS &walk) {
  walk.fts_options |= stopped;
  walk.fts_cur = nullptr;
  errno = 0;
  return nullptr;
}

// From an entry that is done with to the one after it, or to its directory, which is then seen once more.
FTSENT *advance(FTS &walk) {
  while (true) {
    FTSENT *done = walk.fts_cur;
    FTSENT *next = done->fts_link;
    FTSENT *above = done->fts_parent;
    ::free(done);
    if (next == nullptr) {
      if (above->fts_level == FTS_ROOTPARENTLEVEL) return finish(walk);
      walk.fts_cur = above;
      above->fts_info = above->fts_errno != 0 ? FTS_ERR : FTS_DP;
      return above;
    }
    walk.fts_cur = next;
    if (next->fts_level == FTS_ROOTLEVEL) visit_root(walk, next);
    if (next->fts_instr == FTS_SKIP) continue;
    if (next->fts_instr == FTS_FOLLOW) {
      next->fts_info = look_at(walk, *next, true);
      next->fts_instr = FTS_NOINSTR;
    }
    return next;
  }
}

FTSENT *read_walk(FTS &walk) {
  if ((walk.fts_options & stopped) != 0) return nullptr;
  FTSENT *entry = walk.fts_cur;
  if (entry == nullptr) {
    walk.fts_cur = walk.fts_child;
    walk.fts_child = nullptr;
    return walk.fts_cur != nullptr ? visit_root(walk, walk.fts_cur) : finish(walk);
  }
  const int instruction = entry->fts_instr;
  entry->fts_instr = FTS_NOINSTR;
  if (instruction == FTS_AGAIN) {
    entry->fts_info = look_at(walk, *entry, false);
    return entry;
  }
  if (instruction == FTS_FOLLOW && (entry->fts_info == FTS_SL || entry->fts_info == FTS_SLNONE)) {
    entry->fts_info = look_at(walk, *entry, true);
    return entry;
  }
  if (entry->fts_info != FTS_D) return advance(walk);
  const bool other_device = (walk.fts_options & FTS_XDEV) != 0 && entry->fts_dev != walk.fts_dev;
  if (instruction == FTS_SKIP || other_device) {
    free_list(walk.fts_child);
    walk.fts_child = nullptr;
    entry->fts_info = FTS_DP;
    return entry;
  }
  FTSENT *child = walk.fts_child != nullptr ? walk.fts_child : read_children(walk, *entry);
  walk.fts_child = nullptr;
  if (child == nullptr) {
    if (entry->fts_info == FTS_D) entry->fts_info = FTS_DP;
    return entry;
  }
  walk.fts_cur = child;
  return child;
}

FTSENT *children_of(FTS &walk, int instruction) {
  if (instruction != 0 && instruction != FTS_NAMEONLY) {
    errno = EINVAL;
    return nullptr;
  }
  errno = 0;
  if ((walk.fts_options & stopped) != 0) return nullptr;
  if (walk.fts_cur == nullptr) return walk.fts_child;
  if (walk.fts_cur->fts_info != FTS_D) return nullptr;
  free_list(walk.fts_child);
  walk.fts_child = read_children(walk, *walk.fts_cur);
  if (walk.fts_cur->fts_info == FTS_DNR) {  // for fts_read to find and to report
    errno = walk.fts_cur->fts_errno;
    walk.fts_cur->fts_info = FTS_D;
  }
  return walk.fts_child;
}

int close_walk(FTS *walk) {
  free_list(walk->fts_child);
  for (FTSENT *entry = walk->fts_cur; entry != nullptr && entry->fts_level >= FTS_ROOTLEVEL;) {
    FTSENT *above = entry->fts_parent;
    free_list(entry);  // and what would have come after it
    entry = above;
  }
  ::free(walk->fts_array);
  ::free(walk);
  if (open_streams.fetch_sub(1) == 1) streams_closed();
  return 0;
}

bool may_reach_ours(char *const *paths) {
  if (shadow_count.load(std::memory_order_relaxed) != 0) return true;
  for (; *paths != nullptr; ++paths) {
    if (may_be_ours(*paths)) return true;
  }
  return false;
}

}  // namespace

namespace intercept {

// FTS and FTS64 differ in nothing but their names.
#define DEFINE_FTS(prefix, Walk, Entry)                                                                  \
  Walk *prefix##_open(char *const *paths, int options, int (*compare)(const Entry **, const Entry **)) { \
    if (!may_reach_ours(paths)) return NEXT(prefix##_open)(paths, options, compare);                     \
    return reinterpret_cast<Walk *>(open_walk(paths, options, reinterpret_cast<Compare>(compare)));      \
  }                                                                                                      \
  Entry *prefix##_read(Walk *walk) {                                                                     \
    auto *plain = reinterpret_cast<FTS *>(walk);                                                         \
    return is_ours(plain) ? reinterpret_cast<Entry *>(read_walk(*plain)) : NEXT(prefix##_read)(walk);    \
  }                                                                                                      \
  Entry *prefix##_children(Walk *walk, int instruction) noexcept {                                       \
    auto *plain = reinterpret_cast<FTS *>(walk);                                                         \
    return is_ours(plain) ? reinterpret_cast<Entry *>(children_of(*plain, instruction))                  \
                          : NEXT(prefix##_children)(walk, instruction);                                  \
  }                                                                                                      \
  int prefix##_set(Walk *walk, Entry *entry, int instruction) noexcept {                                 \
    if (!is_ours(reinterpret_cast<FTS *>(walk))) return NEXT(prefix##_set)(walk, entry, instruction);    \
    if (instruction < 0 || instruction > FTS_SKIP) {                                                     \
      errno = EINVAL;                                                                                    \
      return 1;                                                                                          \
    }                                                                                                    \
    entry->fts_instr = static_cast<unsigned short>(instruction);                                         \
    return 0;                                                                                            \
  }                                                                                                      \
  int prefix##_close(Walk *walk) {                                                                       \
    auto *plain = reinterpret_cast<FTS *>(walk);                                                         \
    return is_ours(plain) ? close_walk(plain) : NEXT(prefix##_close)(walk);                              \
  }
DEFINE_FTS(fts, FTS, FTSENT)
DEFINE_FTS(fts64, FTS64, FTSENT64)

}  // namespace intercept

}  // namespace diskless
