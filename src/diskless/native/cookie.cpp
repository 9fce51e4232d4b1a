#include "cookie.h"

#include <stdio_ext.h>

#include <cerrno>
#include <cstdarg>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <shared_mutex>
#include <unordered_map>

#include "activation.h"
#include "counted.h"
#include "hooks.h"
#include "kernel.h"

namespace diskless {

namespace {

// By stream. Guarded by tree_lock; never destroyed, since streams are flushed at the very end of the process.
std::unordered_map<FILE *, int *> &cookies() {
  static auto &instance = *new std::unordered_map<FILE *, int *>;
  return instance;
}
__attribute__((constructor)) void begin() { cookies(); }

// What struct FILE has said for ever of a stream's direction.
constexpr int no_reads = 0x0004, no_writes = 0x0008, currently_writing = 0x0800, appends = 0x1000;

bool has(const char *mode, char letter) { return std::strchr(mode, letter) != nullptr; }

ssize_t read_stream(void *cookie, char *bytes, std::size_t length) {
  return ::read(*static_cast<int *>(cookie), bytes, length);
}

// libc takes a short count for an error and looks at errno, as it does after its own loop.
ssize_t write_stream(void *cookie, const char *bytes, std::size_t length) {
  std::size_t done = 0;
  while (done < length) {
    const ssize_t written = intercept::write(*static_cast<int *>(cookie), bytes + done, length - done);
    if (written < 0) break;
    done += static_cast<std::size_t>(written);
  }
  return static_cast<ssize_t>(done);
}

int seek_stream(void *cookie, off64_t *offset, int whence) {
  const off_t reached = kernel::lseek(*static_cast<int *>(cookie), *offset, whence);
  if (reached < 0) return -1;
  *offset = reached;
  return 0;
}

int close_stream(void *cookie) {
  int *fd = static_cast<int *>(cookie);
  begin_change();
  std::erase_if(cookies(), [=](const auto &each) { return each.second == fd; });
  end_change();
  const int result = intercept::close(*fd);
  delete fd;
  if (open_streams.fetch_sub(1) == 1) streams_closed();
  return result;
}

// As libc's fdopen does it. False with errno.
bool prepare(int fd, const char *mode) {
  const int flags = kernel::fcntl(fd, F_GETFL, 0);
  if (flags < 0) return false;
  const int access = flags & O_ACCMODE;
  const bool both = has(mode, '+');
  if ((access == O_RDONLY && (mode[0] != 'r' || both)) || (access == O_WRONLY && (mode[0] == 'r' || both))) {
    errno = EINVAL;
    return false;
  }
  if (mode[0] != 'a') return true;
  if ((flags & O_APPEND) == 0) kernel::fcntl(fd, F_SETFL, flags | O_APPEND);
  if (!both) kernel::lseek(fd, 0, SEEK_END);
  return true;
}

bool is_counted(int fd) {
  if (is_foreign(fd)) return false;
  if (is_counted_so_far(fd)) return true;
  const Permit permit(fd, 0, 1);  // which looks what the number stands for
  return !is_foreign(fd);
}

bool serves(int fd, const char *mode) {
  const bool known = mode[0] == 'w' || mode[0] == 'a' || (mode[0] == 'r' && has(mode, '+'));
  return known && !has(mode, ',') && is_counted(fd);
}

int print_counted(int fd, const char *format, std::va_list values) {
  char *text = nullptr;
  const int length = ::vasprintf(&text, format, values);
  if (length < 0) return -1;
  const bool done = write_stream(&fd, text, static_cast<std::size_t>(length)) == length;
  kernel::KeepErrno keep;
  std::free(text);
  return done ? length : -1;
}

}  // namespace

FILE *open_counted(int fd, const char *mode) {
  if (!serves(fd, mode)) return ::fdopen(fd, mode);
  if (!prepare(fd, mode)) return nullptr;
  int *cookie = new int(fd);
  const char plain[] = {mode[0], has(mode, '+') ? '+' : '\0', '\0'};
  FILE *stream = ::fopencookie(cookie, plain, {read_stream, write_stream, seek_stream, close_stream});
  if (stream == nullptr) {
    delete cookie;
    return nullptr;
  }
  open_streams.fetch_add(1);
  begin_change();
  cookies()[stream] = cookie;
  end_change();
  return stream;
}

int descriptor_of(FILE *stream) {
  if (open_streams.load(std::memory_order_relaxed) == 0) return -1;
  std::shared_lock lock(tree_lock);
  const auto found = cookies().find(stream);
  return found == cookies().end() ? -1 : *found->second;
}

bool replace_descriptor(FILE *stream, int fd, const char *mode) {
  ::fflush(stream);
  ::__fpurge(stream);
  ::clearerr(stream);
  // The buffer is neither one for reading nor one for writing now.
  stream->_flags &= ~currently_writing;
  stream->_IO_read_base = stream->_IO_read_ptr = stream->_IO_read_end = nullptr;
  stream->_IO_write_base = stream->_IO_write_ptr = stream->_IO_write_end = nullptr;
  const int old = descriptor_of(stream);
  const int flags = kernel::fcntl(fd, F_GETFD, 0) & FD_CLOEXEC ? O_CLOEXEC : 0;
  const int moved = intercept::dup3(fd, old, flags);
  kernel::KeepErrno keep;
  intercept::close(fd);
  if (moved < 0 || !prepare(old, mode)) return false;
  stream->_flags &= ~(no_reads | no_writes | appends);
  if (mode[0] == 'r' && !has(mode, '+')) stream->_flags |= no_writes;
  if (mode[0] != 'r' && !has(mode, '+')) stream->_flags |= no_reads;
  if (mode[0] == 'a') stream->_flags |= appends;
  return true;
}

namespace intercept {

FILE *fdopen(int fd, const char *mode) noexcept {
  if (is_foreign(fd) || kernel::is_null(mode) || !serves(fd, mode)) [[likely]] return NEXT(fdopen)(fd, mode);
  return open_counted(fd, mode);
}

// libc knows no descriptor of a stream with functions of ours.
#define DEFINE_FILENO(name)                                             \
  int name(FILE *stream) noexcept {                                     \
    const int before = errno;                                           \
    const int fd = NEXT(name)(stream);                                  \
    if (fd >= 0) [[likely]] return fd;                                  \
    const int ours = descriptor_of(stream);                             \
    if (ours >= 0) errno = before;                                      \
    return ours;                                                        \
  }
DEFINE_FILENO(fileno)
DEFINE_FILENO(fileno_unlocked)

int vdprintf(int fd, const char *format, std::va_list values) {
  if (is_foreign(fd)) [[likely]] return NEXT(vdprintf)(fd, format, values);
  return print_counted(fd, format, values);
}

int dprintf(int fd, const char *format, ...) {
  std::va_list values;
  va_start(values, format);
  const int result = intercept::vdprintf(fd, format, values);
  va_end(values);
  return result;
}

int __vdprintf_chk(int fd, int flag, const char *format, std::va_list values) {
  if (is_foreign(fd)) [[likely]] return NEXT(__vdprintf_chk)(fd, flag, format, values);
  return print_counted(fd, format, values);
}

int __dprintf_chk(int fd, int flag, const char *format, ...) {
  std::va_list values;
  va_start(values, format);
  const int result = intercept::__vdprintf_chk(fd, flag, format, values);
  va_end(values);
  return result;
}

}  // namespace intercept

}  // namespace diskless
