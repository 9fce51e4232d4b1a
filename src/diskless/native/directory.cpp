// Reading directories: streams, scandir, and getdents.

#include <dirent.h>
#include <stdlib.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <shared_mutex>

#include "activation.h"
#include "directory_stream.h"
#include "open.h"
#include "permission.h"
#include "route.h"

namespace diskless {

namespace {

static_assert(sizeof(struct dirent) == sizeof(struct dirent64) &&
              offsetof(struct dirent, d_name) == offsetof(struct dirent64, d_name));

constexpr Cookie dot = 1, dotdot = 2;

void fill(struct dirent64 *entry, Cookie cookie, std::string_view name, std::uint64_t number, unsigned char type) {
  entry->d_ino = number;
  entry->d_off = static_cast<off64_t>(cookie);
  entry->d_type = type;
  const std::size_t length = std::min<std::size_t>(name.size(), NAME_MAX);
  std::memcpy(entry->d_name, name.data(), length);
  entry->d_name[length] = '\0';
  // As the kernel aligns them.
  entry->d_reclen = static_cast<unsigned short>((offsetof(struct dirent64, d_name) + length + 1 + 7) & ~7u);
}

unsigned char type_of(const Inode &inode) {
  switch (inode.kind) {
    case Inode::Kind::directory: return DT_DIR;
    case Inode::Kind::file: return DT_REG;
    case Inode::Kind::symlink: return DT_LNK;
    case Inode::Kind::socket: return DT_SOCK;
  }
  return DT_UNKNOWN;
}

std::uint64_t number_above(const Inode &directory) {
  const Inode *parent = directory.parent();
  if (parent == nullptr) return directory.number;
  if (parent->overlay == nullptr) return parent->number;
  return parent->overlay->over != nullptr ? parent->overlay->over->number : parent->overlay->identity.number;
}

// What opendir and scandir do with what a look-up found. Returns a descriptor or -errno, and the directory's number.
int open_for_reading(Lookup &found, std::uint64_t *number) {
  const int fd = open_found(found, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd >= 0) *number = found.inode()->number;
  return fd;
}

template <typename Next>
[[gnu::noinline]] DIR *open_stream(int dirfd, const char *path, Next next) {
  std::uint64_t number = 0;
  int fd;
  {
    Lookup lookup(dirfd, path, Follow::yes);
    if (!lookup.in_tree()) return next(lookup.dirfd(), lookup.path());
    fd = settle(open_for_reading(lookup, &number));
  }
  return fd < 0 ? nullptr : make_stream(fd, number, 0);
}

struct dirent64 *read_stream(DirectoryStream &stream) {
  if (!read_entry(stream.number, stream.position, &stream.entry)) return nullptr;
  stream.position = static_cast<Cookie>(stream.entry.d_off);
  return &stream.entry;
}

template <typename Dirent>
int read_stream_into(DirectoryStream &stream, Dirent *entry, Dirent **result) {
  const struct dirent64 *read = read_stream(stream);
  *result = read == nullptr ? nullptr : entry;
  if (read != nullptr) std::memcpy(entry, read, read->d_reclen);
  return 0;
}

void close_stream(DirectoryStream *stream) {
  stream->mark = 0;
  stream->self = nullptr;
  ::free(stream);
  if (open_streams.fetch_sub(1) == 1) streams_closed();
}

template <typename Dirent>
void free_names(Dirent **names, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) ::free(names[i]);
  ::free(names);
}

// The rest of scandir once the directory is open. The caller's functions run without the lock.
template <typename Dirent>
int scan(std::uint64_t number, Dirent ***list, int (*wanted)(const Dirent *),
         int (*compare)(const Dirent **, const Dirent **)) {
  Dirent **names = nullptr;
  std::size_t count = 0, room = 0;
  struct dirent64 entry;
  for (Cookie position = 0; read_entry(number, position, &entry); position = static_cast<Cookie>(entry.d_off)) {
    if (wanted != nullptr && wanted(reinterpret_cast<const Dirent *>(&entry)) == 0) continue;
    if (count == room) {
      room = room == 0 ? 16 : 2 * room;
      auto **grown = static_cast<Dirent **>(::realloc(names, room * sizeof *names));
      if (grown == nullptr) {
        free_names(names, count);
        errno = ENOMEM;
        return -1;
      }
      names = grown;
    }
    names[count] = static_cast<Dirent *>(::malloc(entry.d_reclen));
    if (names[count] == nullptr) {
      free_names(names, count);
      errno = ENOMEM;
      return -1;
    }
    std::memcpy(names[count++], &entry, entry.d_reclen);
  }
  if (compare != nullptr && count > 1) {
    ::qsort(names, count, sizeof *names, reinterpret_cast<int (*)(const void *, const void *)>(compare));
  }
  *list = names;
  return static_cast<int>(count);
}

template <typename Dirent, typename Next>
[[gnu::noinline]] int scan_path(int dirfd, const char *path, Dirent ***list, int (*wanted)(const Dirent *),
                                int (*compare)(const Dirent **, const Dirent **), Next next) {
  std::uint64_t number = 0;
  {
    const Lookup lookup(dirfd, path, Follow::yes);
    if (!lookup.in_tree()) return next(lookup.dirfd(), lookup.path());
    if (const int error = lookup.error_of_existing()) return settle(-error);
    if (!lookup.inode()->is_directory()) return settle(-ENOTDIR);
    if (!permits(*lookup.inode(), R_OK, Who::effective)) return settle(-EACCES);
    number = lookup.inode()->number;
  }
  return scan(number, list, wanted, compare);
}

// getdents64(2) on a descriptor of ours: its offset is the place in the directory, so dup and fork share it as usual.
ssize_t read_entries(int fd, std::uint64_t number, char *buffer, std::size_t size) {
  std::size_t used = 0;
  Cookie position = static_cast<Cookie>(kernel::lseek(fd, 0, SEEK_CUR));
  struct dirent64 entry;
  while (read_entry(number, position, &entry)) {
    if (used + entry.d_reclen > size) {
      if (used == 0) return -EINVAL;
      break;
    }
    std::memcpy(buffer + used, &entry, entry.d_reclen);
    used += entry.d_reclen;
    position = static_cast<Cookie>(entry.d_off);
  }
  kernel::lseek(fd, static_cast<off_t>(position), SEEK_SET);
  return static_cast<ssize_t>(used);
}

ssize_t entries_of_ours(ssize_t result, int fd, void *buffer, std::size_t size) {
  if (result != -1 || errno != ENOTDIR) [[likely]]
    return result;
  const Described described = describe(fd);
  if (!described.directory) return result;
  return settle(read_entries(fd, described.number, static_cast<char *>(buffer), size));
}

}  // namespace

DIR *make_stream(int fd, std::uint64_t number, Cookie position) {
  auto *stream = static_cast<DirectoryStream *>(::calloc(1, sizeof(DirectoryStream)));
  if (stream == nullptr) {
    kernel::close(fd);
    errno = ENOMEM;
    return nullptr;
  }
  stream->mark = stream_mark;
  stream->self = stream;
  stream->fd = fd;
  stream->number = number;
  stream->position = position;
  open_streams.fetch_add(1);
  return reinterpret_cast<DIR *>(stream);
}

bool read_entry(std::uint64_t number, Cookie position, struct dirent64 *entry) {
  std::shared_lock lock(tree_lock);
  const Inode *directory = find_directory(number);
  if (directory == nullptr || directory->is_removed()) return false;
  if (position < dot) {
    fill(entry, dot, ".", directory->number, DT_DIR);
  } else if (position < dotdot) {
    fill(entry, dotdot, "..", number_above(*directory), DT_DIR);
  } else {
    const auto next = directory->entries.upper_bound(position);
    if (next == directory->entries.end()) return false;
    const auto &[name, inode] = next->second;
    fill(entry, next->first, name, inode->number, type_of(*inode));
  }
  return true;
}

namespace intercept {

DIR *opendir(const char *path) {
  if (!may_be_ours(path)) [[likely]]
    return NEXT(opendir)(path);
  return open_stream(AT_FDCWD, path, [](int, const char *real) { return NEXT(opendir)(real); });
}

DIR *fdopendir(int fd) {
  DIR *stream = NEXT(fdopendir)(fd);
  if (stream != nullptr || errno != ENOTDIR) [[likely]]
    return stream;
  const Described described = describe(fd);
  if (!described.directory) return nullptr;
  if ((kernel::fcntl(fd, F_GETFL, 0) & O_PATH) != 0) {
    errno = EBADF;
    return nullptr;
  }
  kernel::fcntl(fd, F_SETFD, FD_CLOEXEC);  // as libc does
  return make_stream(fd, described.number, static_cast<Cookie>(kernel::lseek(fd, 0, SEEK_CUR)));
}

struct dirent *readdir(DIR *stream) {
  DirectoryStream *ours = stream_of_ours(stream);
  return ours == nullptr ? NEXT(readdir)(stream) : reinterpret_cast<struct dirent *>(read_stream(*ours));
}

struct dirent64 *readdir64(DIR *stream) {
  DirectoryStream *ours = stream_of_ours(stream);
  return ours == nullptr ? NEXT(readdir64)(stream) : read_stream(*ours);
}

int readdir_r(DIR *stream, struct dirent *entry, struct dirent **result) {
  DirectoryStream *ours = stream_of_ours(stream);
  return ours == nullptr ? NEXT(readdir_r)(stream, entry, result) : read_stream_into(*ours, entry, result);
}

int readdir64_r(DIR *stream, struct dirent64 *entry, struct dirent64 **result) {
  DirectoryStream *ours = stream_of_ours(stream);
  return ours == nullptr ? NEXT(readdir64_r)(stream, entry, result) : read_stream_into(*ours, entry, result);
}

long telldir(DIR *stream) noexcept {
  const DirectoryStream *ours = stream_of_ours(stream);
  return ours == nullptr ? NEXT(telldir)(stream) : static_cast<long>(ours->position);
}

void seekdir(DIR *stream, long position) noexcept {
  DirectoryStream *ours = stream_of_ours(stream);
  if (ours == nullptr) return NEXT(seekdir)(stream, position);
  ours->position = static_cast<Cookie>(position);
}

void rewinddir(DIR *stream) noexcept {
  DirectoryStream *ours = stream_of_ours(stream);
  if (ours == nullptr) return NEXT(rewinddir)(stream);
  ours->position = 0;
}

int dirfd(DIR *stream) noexcept {
  const DirectoryStream *ours = stream_of_ours(stream);
  return ours == nullptr ? NEXT(dirfd)(stream) : ours->fd;
}

int closedir(DIR *stream) {
  DirectoryStream *ours = stream_of_ours(stream);
  if (ours == nullptr) return NEXT(closedir)(stream);
  const int result = kernel::close(ours->fd);
  close_stream(ours);
  return result;
}

#define DEFINE_SCANDIR(name, Dirent)                                                                  \
  int name(const char *path, Dirent ***list, int (*wanted)(const Dirent *),                           \
           int (*compare)(const Dirent **, const Dirent **)) {                                        \
    if (!may_be_ours(path)) [[likely]]                                                                \
      return NEXT(name)(path, list, wanted, compare);                                                 \
    return scan_path(AT_FDCWD, path, list, wanted, compare,                                           \
                     [=](int, const char *real) { return NEXT(name)(real, list, wanted, compare); }); \
  }
DEFINE_SCANDIR(scandir, struct dirent)
DEFINE_SCANDIR(scandir64, struct dirent64)

#define DEFINE_SCANDIRAT(name, Dirent)                                                                       \
  int name(int dirfd, const char *path, Dirent ***list, int (*wanted)(const Dirent *),                       \
           int (*compare)(const Dirent **, const Dirent **)) {                                               \
    const auto next = [=](int at, const char *real) { return NEXT(name)(at, real, list, wanted, compare); }; \
    if (may_be_ours(dirfd, path)) return scan_path(dirfd, path, list, wanted, compare, next);                \
    const int result = next(dirfd, path);                                                                    \
    if (result != -1 || !is_beneath_ours(dirfd, path)) return result;                                        \
    return scan_path(dirfd, path, list, wanted, compare, next);                                              \
  }
DEFINE_SCANDIRAT(scandirat, struct dirent)
DEFINE_SCANDIRAT(scandirat64, struct dirent64)

ssize_t getdents64(int fd, void *buffer, size_t size) noexcept {
  return entries_of_ours(NEXT(getdents64)(fd, buffer, size), fd, buffer, size);
}

#define DEFINE_GETDIRENTRIES(name, Offset)                                                        \
  ssize_t name(int fd, char *buffer, size_t size, Offset *base) noexcept {                        \
    const Offset before = kernel::lseek(fd, 0, SEEK_CUR);                                         \
    const ssize_t result = entries_of_ours(NEXT(name)(fd, buffer, size, base), fd, buffer, size); \
    if (result >= 0 && describe(fd).directory) *base = before;                                    \
    return result;                                                                                \
  }
DEFINE_GETDIRENTRIES(getdirentries, off_t)
DEFINE_GETDIRENTRIES(getdirentries64, off64_t)

}  // namespace intercept

}  // namespace diskless
