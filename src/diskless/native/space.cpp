// The filesystem that the Tree seems to be: statfs, statvfs, pathconf, and extended attributes.

#include "space.h"

#include <linux/limits.h>
#include <linux/magic.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>

#include <atomic>
#include <cstring>

#include "permission.h"
#include "route.h"

namespace diskless {

namespace {

constexpr unsigned long block_bytes = 4096;
constexpr unsigned long valid_flag = 0x0020;  // ST_VALID, which statfs sets beside ST_RDONLY

std::atomic<long long> total_bytes{0}, free_bytes{0};

void fill(struct statfs *space) {
  std::memset(space, 0, sizeof *space);
  space->f_type = TMPFS_MAGIC;
  space->f_bsize = space->f_frsize = block_bytes;
  space->f_blocks = static_cast<fsblkcnt_t>(total_bytes.load()) / block_bytes;
  space->f_bfree = space->f_bavail = static_cast<fsblkcnt_t>(free_bytes.load()) / block_bytes;
  space->f_files = space->f_blocks;
  space->f_ffree = space->f_bfree;
  space->f_namelen = NAME_MAX;
  space->f_flags = ST_RDONLY | static_cast<long>(valid_flag);
}

void fill(struct statvfs *space) {
  std::memset(space, 0, sizeof *space);
  space->f_bsize = space->f_frsize = block_bytes;
  space->f_blocks = static_cast<fsblkcnt_t>(total_bytes.load()) / block_bytes;
  space->f_bfree = space->f_bavail = static_cast<fsblkcnt_t>(free_bytes.load()) / block_bytes;
  space->f_files = space->f_blocks;
  space->f_ffree = space->f_favail = space->f_bfree;
  space->f_namemax = NAME_MAX;
  space->f_flag = ST_RDONLY;
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
  fill(plain(space));
  return 0;
}

// The kernel's answer for a memfd has no blocks, which programs take for a full disk.
template <typename Space>
inline int corrected(int result, int fd, Space *space) {
  if (result != 0 || space->f_blocks != 0) [[likely]]
    return result;
  if (describe(fd).ours) fill(plain(space));
  return result;
}

// A descriptor that the kernel may be asked about in place of an inode: the file's, or a directory's for the moment.
class Stand {
 public:
  explicit Stand(const Inode &inode) : made_(!inode.is_file()), fd_(inode.fd) {
    if (made_) fd_ = open_directory(inode, O_RDONLY | O_CLOEXEC);
  }
  ~Stand() {
    kernel::KeepErrno keep;
    if (made_ && fd_ >= 0) kernel::close(fd_);
  }
  Stand(const Stand &) = delete;
  Stand &operator=(const Stand &) = delete;
  int fd() const { return fd_; }

 private:
  const bool made_;
  int fd_;
};

template <typename Ask>
long ask(const Lookup &found, Ask question) {
  if (const int error = found.error_of_existing()) return -error;
  const Stand stand(*found.inode());
  if (stand.fd() < 0) return stand.fd();
  struct stat status;
  if (const int error = status_of(*found.inode(), &status)) return error;
  errno = 0;
  const long result = question(stand.fd());
  return result == -1 && errno != 0 ? -errno : result;
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

long attribute_of_found(const Lookup &found, const char *attribute, void *value, std::size_t size) {
  const std::size_t length = std::strlen(attribute);
  if (length == 0 || length > XATTR_NAME_MAX) return -ERANGE;
  if (const int error = found.error_of_existing()) return -error;
  const std::string_view name = attribute;
  const bool by_mode = !name.starts_with("trusted.") && !name.starts_with("security.") && !name.starts_with("system.");
  // Symlinks have no attributes of this kind, and the memfd that stands for one would.
  if (found.inode()->is_symlink() && name.starts_with("user.")) return -ENODATA;
  if (by_mode && !found.inode()->is_symlink() && !permits(*found.inode(), R_OK, Who::effective)) return -EACCES;
  return ask(found, [=](int fd) { return ::fgetxattr(fd, attribute, value, size); });
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

#define DEFINE_GETXATTR(name, follow)                                                                         \
  ssize_t name(const char *path, const char *attribute, void *value, size_t size) noexcept {                  \
    return route(                                                                                             \
        path, follow, [=](const Lookup &found) { return attribute_of_found(found, attribute, value, size); }, \
                                                                                                              \
        [=](const char *real) { return NEXT(name)(real, attribute, value, size); });                          \
  }
DEFINE_GETXATTR(getxattr, Follow::yes)
DEFINE_GETXATTR(lgetxattr, Follow::no)

#define DEFINE_LISTXATTR(name, follow)                                                                         \
  ssize_t name(const char *path, char *list, size_t size) noexcept {                                           \
    return route(                                                                                              \
        path, follow,                                                                                          \
        [=](const Lookup &found) { return ask(found, [=](int fd) { return ::flistxattr(fd, list, size); }); }, \
        [=](const char *real) { return NEXT(name)(real, list, size); });                                       \
  }
DEFINE_LISTXATTR(listxattr, Follow::yes)
DEFINE_LISTXATTR(llistxattr, Follow::no)

}  // namespace intercept

}  // namespace diskless
