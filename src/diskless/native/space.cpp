// The filesystem that the Tree seems to be: statfs, statvfs, pathconf.

#include "space.h"

#include <linux/limits.h>
#include <linux/magic.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <shared_mutex>

#include "counted.h"
#include "route.h"
#include "stand.h"

namespace diskless {

namespace {

constexpr unsigned long block_bytes = 4096;
constexpr unsigned long valid_flag = 0x0020;  // ST_VALID, which statfs sets beside ST_RDONLY

std::atomic<long long> total_bytes{0}, free_bytes{0};

// A scratch seems as large as its budget, or as the memory that there is, and has the room that a writer finds.
struct Space {
  unsigned long blocks, free;
};

Space space_of(const Volume &volume) {
  long long total = total_bytes.load(), free = free_bytes.load();
  if (volume.writable) {
    const Room room = room_of(volume);
    total = room.total_bytes;
    free = room.free_bytes;
  }
  return {static_cast<unsigned long>(total) / block_bytes, static_cast<unsigned long>(free) / block_bytes};
}

void fill(struct statfs *space, const Volume &volume) {
  const Space has = space_of(volume);
  std::memset(space, 0, sizeof *space);
  space->f_type = TMPFS_MAGIC;
  space->f_bsize = space->f_frsize = block_bytes;
  space->f_blocks = has.blocks;
  space->f_bfree = space->f_bavail = has.free;
  space->f_files = space->f_blocks;
  space->f_ffree = space->f_bfree;
  space->f_namelen = NAME_MAX;
  space->f_flags = (volume.writable ? 0 : ST_RDONLY) | static_cast<long>(valid_flag);
}

void fill(struct statvfs *space, const Volume &volume) {
  const Space has = space_of(volume);
  std::memset(space, 0, sizeof *space);
  space->f_bsize = space->f_frsize = block_bytes;
  space->f_blocks = has.blocks;
  space->f_bfree = space->f_bavail = has.free;
  space->f_files = space->f_blocks;
  space->f_ffree = space->f_favail = space->f_bfree;
  space->f_namemax = NAME_MAX;
  space->f_flag = volume.writable ? 0 : ST_RDONLY;
}

static_assert(sizeof(struct statfs) == sizeof(struct statfs64) && sizeof(struct statvfs) == sizeof(struct statvfs64));

struct statfs *plain(struct statfs *space) {
  return space;
}
struct statfs *plain(struct statfs64 *space) {
  return reinterpret_cast<struct statfs *>(space);
}
struct statvfs *plain(struct statvfs *space) {
  return space;
}
struct statvfs *plain(struct statvfs64 *space) {
  return reinterpret_cast<struct statvfs *>(space);
}

template <typename Space>
int space_of_found(const Lookup &found, Space *space) {
  if (const int error = found.error_of_existing()) return -error;
  if (kernel::is_null(space)) return -EFAULT;
  fill(plain(space), *found.inode()->volume);
  return 0;
}

// The kernel's answer for a memfd has no blocks, which programs take for a full disk.
template <typename Space>
inline int corrected(int result, int fd, Space *space) {
  if (result != 0 || space->f_blocks != 0) [[likely]]
    return result;
  const Described described = describe(fd);
  std::shared_lock lock(tree_lock);
  const Inode *inode = described.directory ? find_directory(described.number)
                       : described.ours    ? find_file(described.memory)
                                           : nullptr;
  if (inode != nullptr) {
    fill(plain(space), *inode->volume);
  } else if (described.directory || is_unnamed(fd)) {
    static Volume gone{.writable = true};  // a file without a name, a directory that was removed
    fill(plain(space), gone);
  }
  return result;
}

// libc answers the others without a look at the path.
bool depends_on_path(int name) {
  switch (name) {
    case _PC_LINK_MAX:
    case _PC_NAME_MAX:
    case _PC_CHOWN_RESTRICTED:
    case _PC_ASYNC_IO:
    case _PC_FILESIZEBITS:
    case _PC_REC_INCR_XFER_SIZE:
    case _PC_REC_MAX_XFER_SIZE:
    case _PC_REC_MIN_XFER_SIZE:
    case _PC_REC_XFER_ALIGN:
    case _PC_ALLOC_SIZE_MIN:
    case _PC_2_SYMLINKS: return true;
    default: return false;
  }
}

// A limit that does not exist is -1 without an error.
long limit_of_found(const Lookup &found, int name) {
  return ask(found, [=](int fd) { return ::fpathconf(fd, name); });
}

}  // namespace

void set_space(long long total, long long free) {
  total_bytes.store(total);
  free_bytes.store(free);
}

namespace intercept {

#define DEFINE_SPACE(name, Space)                                                             \
  int name(const char *path, Space *space) noexcept {                                         \
    return route(                                                                             \
        path, Follow::yes, [=](const Lookup &found) { return space_of_found(found, space); }, \
        [=](const char *real) { return NEXT(name)(real, space); });                           \
  }
DEFINE_SPACE(statfs, struct statfs)
DEFINE_SPACE(statfs64, struct statfs64)
DEFINE_SPACE(__statfs, struct statfs)
DEFINE_SPACE(statvfs, struct statvfs)
DEFINE_SPACE(statvfs64, struct statvfs64)

#define DEFINE_SPACE_OF_DESCRIPTOR(name, Space) \
  int name(int fd, Space *space) noexcept { return corrected(NEXT(name)(fd, space), fd, space); }
DEFINE_SPACE_OF_DESCRIPTOR(fstatfs, struct statfs)
DEFINE_SPACE_OF_DESCRIPTOR(fstatfs64, struct statfs64)
DEFINE_SPACE_OF_DESCRIPTOR(fstatvfs, struct statvfs)
DEFINE_SPACE_OF_DESCRIPTOR(fstatvfs64, struct statvfs64)

long pathconf(const char *path, int name) noexcept {
  if (!may_be_ours(path) || !depends_on_path(name)) [[likely]]
    return NEXT(pathconf)(path, name);
  const int before = errno;
  bool unlimited = false;
  const long result = look_up(
      AT_FDCWD, path, Follow::yes,
      [&](const Lookup &found) {
        const long limit = limit_of_found(found, name);
        unlimited = limit == -1 && errno == 0;
        return unlimited ? 0 : limit;
      },
      [=](int, const char *real) { return NEXT(pathconf)(real, name); });
  if (result != -1) errno = before;
  return unlimited ? -1 : result;
}

}  // namespace intercept

}  // namespace diskless
