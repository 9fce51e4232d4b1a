// The calls that fill a file. One that is not of a scratch passes at once; one that is takes of the credit, and where
// that does not suffice it may be cut short, as a tmpfs does when it is full.
//
// A file made longer costs nothing: what was not written is a hole. Holes that are mapped shared and writable are
// counted when the mapping is made, or when the file is made longer beneath it, since a store asks nobody.

#include <errno.h>
#include <limits.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cstdarg>
#include <cstdlib>

#include "counted.h"
#include "hooks.h"
#include "kernel.h"
#include "usage.h"

namespace diskless {

namespace {

// `next(length)` writes so much of it.
template <typename Next>
inline auto write_counted(int fd, off_t offset, std::uint64_t length, Next next) -> decltype(next(length)) {
  if (is_foreign(fd) || take_credit(fd, length)) return next(length);
  const Permit permit(fd, offset, length);
  if (!permit.refused()) return next(permit.length());
  errno = ENOSPC;
  return -1;
}

// What a call could write that is allowed to ask for more than there is.
std::uint64_t available(int from, const off_t *offset, std::uint64_t length) {
  struct stat status;
  if (length <= 1u << 20 || kernel::fstat(from, &status) != 0) return length;
  kernel::KeepErrno keep;
  if (S_ISREG(status.st_mode)) {
    const off_t at = offset != nullptr ? *offset : kernel::lseek(from, 0, SEEK_CUR);
    return at < 0 ? length : std::min<std::uint64_t>(length, static_cast<std::uint64_t>(std::max<off_t>(0, status.st_size - at)));
  }
  const int capacity = S_ISFIFO(status.st_mode) ? kernel::fcntl(from, F_GETPIPE_SZ, 0) : 0;
  return capacity > 0 ? std::min<std::uint64_t>(length, static_cast<std::uint64_t>(capacity)) : length;
}

template <typename Next>
inline ssize_t copy_counted(int from, const off_t *from_offset, int to, const off_t *to_offset, std::uint64_t length,
                            Next next) {
  if (is_foreign(to)) [[likely]] return next(length);
  const std::uint64_t most = available(from, from_offset, length);
  if (most == 0) return next(length);
  return write_counted(to, to_offset != nullptr ? *to_offset : own_offset, most,
                       [=](std::uint64_t part) { return next(part == most ? length : part); });
}

// The first bytes of a list of buffers.
class Part {
 public:
  Part(const iovec *buffers, int count, std::uint64_t length) {
    for (; count_ < count && length > 0; ++count_) {
      buffers_[count_] = buffers[count_];
      buffers_[count_].iov_len = std::min<std::uint64_t>(length, buffers[count_].iov_len);
      length -= buffers_[count_].iov_len;
    }
  }
  const iovec *buffers() const { return buffers_; }
  int count() const { return count_; }

 private:
  iovec buffers_[IOV_MAX];
  int count_ = 0;
};

template <typename Next>
[[gnu::noinline]] ssize_t write_part(const iovec *buffers, int count, std::uint64_t length, Next next) {
  const Part part(buffers, count, length);
  return next(part.buffers(), part.count());
}

template <typename Next>
inline ssize_t write_list(int fd, const iovec *buffers, int count, off_t offset, Next next) {
  if (is_foreign(fd) || count <= 0 || count > IOV_MAX || buffers == nullptr) [[likely]] return next(buffers, count);
  std::uint64_t length = 0;
  for (int i = 0; i < count; ++i) length += std::min<std::uint64_t>(buffers[i].iov_len, SSIZE_MAX);
  if (length > SSIZE_MAX) return next(buffers, count);
  return write_counted(fd, offset, length, [=](std::uint64_t part) {
    return part == length ? next(buffers, count) : write_part(buffers, count, part, next);
  });
}

// 0 or ENOSPC.
int allocate_counted(int fd, off_t offset, off_t length) {
  if (is_foreign(fd) || offset < 0 || length <= 0 || take_credit(fd, static_cast<std::uint64_t>(length))) return 0;
  return Permit(fd, offset, static_cast<std::uint64_t>(length), Permit::Kind::whole).refused() ? ENOSPC : 0;
}

bool may_fill_holes(int protection, int flags, int fd) {
  return fd >= 0 && (protection & PROT_WRITE) != 0 && (flags & MAP_TYPE) != MAP_PRIVATE && !is_foreign(fd);
}

// Whether the holes that a mapping leads to find room. MAP_SHARED_VALIDATE has both bits of the type.
[[gnu::noinline]] int map_counted(int fd, off_t offset, std::size_t length) {
  struct stat status;
  kernel::KeepErrno keep;
  if (kernel::fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) return 0;
  if (status.st_dev != memory_device.load(std::memory_order_relaxed)) return 0;
  note_mapping();
  const off_t size = (status.st_size + page_bytes - 1) / page_bytes * page_bytes;
  if (status.st_blocks * 512 >= size || offset >= size || offset < 0) return 0;
  return allocate_counted(fd, offset, std::min(size - offset, static_cast<off_t>(std::min<std::size_t>(length, SSIZE_MAX))));
}

[[gnu::noinline]] int lengthen_counted(int fd, off_t length) {
  struct stat status;
  kernel::KeepErrno keep;
  if (kernel::fstat(fd, &status) != 0 || length <= status.st_size || !is_mapped_beyond(status)) return 0;
  return allocate_counted(fd, status.st_size, length - status.st_size);
}

template <typename Next>
inline int truncate_counted(int fd, off_t length, Next next) {
  if (!is_foreign(fd) && has_mappings()) [[unlikely]] {
    if (const int error = lengthen_counted(fd, length)) {
      errno = error;
      return -1;
    }
  }
  return next();
}

}  // namespace

namespace intercept {

#define DEFINE_WRITE(name)                                                                                      \
  ssize_t name(int fd, const void *bytes, size_t length) {                                                      \
    if (is_foreign(fd)) [[likely]] return NEXT(name)(fd, bytes, length);                                        \
    return write_counted(fd, own_offset, length, [=](size_t part) { return NEXT(name)(fd, bytes, part); });     \
  }
DEFINE_WRITE(write)
DEFINE_WRITE(__write)

#define DEFINE_PWRITE(name)                                                                                     \
  ssize_t name(int fd, const void *bytes, size_t length, off_t offset) {                                        \
    if (is_foreign(fd) || offset < 0) [[likely]] return NEXT(name)(fd, bytes, length, offset);                  \
    return write_counted(fd, offset, length, [=](size_t part) { return NEXT(name)(fd, bytes, part, offset); }); \
  }
DEFINE_PWRITE(pwrite)
DEFINE_PWRITE(pwrite64)
DEFINE_PWRITE(__pwrite64)

ssize_t writev(int fd, const struct iovec *buffers, int count) {
  return write_list(fd, buffers, count, own_offset,
                    [=](const iovec *list, int most) { return NEXT(writev)(fd, list, most); });
}

#define DEFINE_PWRITEV(name)                                                                       \
  ssize_t name(int fd, const struct iovec *buffers, int count, off_t offset) {                     \
    if (offset < 0) return NEXT(name)(fd, buffers, count, offset);                                 \
    return write_list(fd, buffers, count, offset,                                                  \
                      [=](const iovec *list, int most) { return NEXT(name)(fd, list, most, offset); }); \
  }
DEFINE_PWRITEV(pwritev)
DEFINE_PWRITEV(pwritev64)

#define DEFINE_PWRITEV2(name)                                                                      \
  ssize_t name(int fd, const struct iovec *buffers, int count, off_t offset, int flags) {          \
    return write_list(fd, buffers, count, offset,                                                  \
                      [=](const iovec *list, int most) { return NEXT(name)(fd, list, most, offset, flags); }); \
  }
DEFINE_PWRITEV2(pwritev2)
DEFINE_PWRITEV2(pwritev64v2)

ssize_t copy_file_range(int from, off64_t *from_offset, int to, off64_t *to_offset, size_t length, unsigned flags) {
  return copy_counted(from, from_offset, to, to_offset, length, [=](size_t part) {
    return NEXT(copy_file_range)(from, from_offset, to, to_offset, part, flags);
  });
}

ssize_t splice(int from, off64_t *from_offset, int to, off64_t *to_offset, size_t length, unsigned flags) {
  return copy_counted(from, from_offset, to, to_offset, length, [=](size_t part) {
    return NEXT(splice)(from, from_offset, to, to_offset, part, flags);
  });
}

#define DEFINE_SENDFILE(name)                                                                 \
  ssize_t name(int to, int from, off_t *offset, size_t length) noexcept {                     \
    return copy_counted(from, offset, to, nullptr, length,                                    \
                        [=](size_t part) { return NEXT(name)(to, from, offset, part); });     \
  }
DEFINE_SENDFILE(sendfile)
DEFINE_SENDFILE(sendfile64)

// With any other mode than these nothing is added.
#define DEFINE_FALLOCATE(name)                                                                \
  int name(int fd, int mode, off_t offset, off_t length) {                                    \
    const int error = (mode & ~FALLOC_FL_KEEP_SIZE) == 0 ? allocate_counted(fd, offset, length) : 0; \
    if (error == 0) [[likely]] return NEXT(name)(fd, mode, offset, length);                   \
    errno = error;                                                                            \
    return -1;                                                                                \
  }
DEFINE_FALLOCATE(fallocate)
DEFINE_FALLOCATE(fallocate64)

#define DEFINE_POSIX_FALLOCATE(name)                                    \
  int name(int fd, off_t offset, off_t length) {                        \
    const int error = allocate_counted(fd, offset, length);             \
    return error != 0 ? error : NEXT(name)(fd, offset, length);         \
  }
DEFINE_POSIX_FALLOCATE(posix_fallocate)
DEFINE_POSIX_FALLOCATE(posix_fallocate64)

#define DEFINE_FTRUNCATE(name)                                                                \
  int name(int fd, off_t length) noexcept {                                                   \
    return truncate_counted(fd, length, [=] { return NEXT(name)(fd, length); });              \
  }
DEFINE_FTRUNCATE(ftruncate)
DEFINE_FTRUNCATE(ftruncate64)

#define DEFINE_MMAP(name)                                                                              \
  void *name(void *address, size_t length, int protection, int flags, int fd, off_t offset) noexcept { \
    if (may_fill_holes(protection, flags, fd)) [[unlikely]] {                                          \
      if (const int error = map_counted(fd, offset, length)) {                                         \
        errno = error;                                                                                 \
        return MAP_FAILED;                                                                             \
      }                                                                                                \
    }                                                                                                  \
    return NEXT(name)(address, length, protection, flags, fd, offset);                                 \
  }
DEFINE_MMAP(mmap)
DEFINE_MMAP(mmap64)

}  // namespace intercept

}  // namespace diskless
