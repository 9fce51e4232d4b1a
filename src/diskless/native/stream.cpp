// C streams on files of the Tree.

#include <stdio.h>

#include <cstring>

#include "cookie.h"
#include "open.h"
#include "route.h"

namespace diskless {

namespace {

// The flags of open(2) for a mode of fopen(3), or -1.
int flags_of(const char *mode) {
  int flags = mode[0] == 'r'   ? O_RDONLY
              : mode[0] == 'w' ? O_WRONLY | O_CREAT | O_TRUNC
              : mode[0] == 'a' ? O_WRONLY | O_CREAT | O_APPEND
                               : -1;
  for (const char *letter = mode + 1; flags >= 0 && *letter != '\0' && *letter != ','; ++letter) {
    if (*letter == '+') flags = (flags & ~O_ACCMODE) | O_RDWR;
    if (*letter == 'e') flags |= O_CLOEXEC;
    if (*letter == 'x') flags |= O_EXCL;
  }
  return flags;
}

// A descriptor for the stream, -1 with errno, or `elsewhere` with the real path.
constexpr int elsewhere = -2;

int open_for_stream(Lookup &lookup, const char *mode) {
  if (!lookup.in_tree()) return elsewhere;
  const int flags = flags_of(mode);
  const int result = flags < 0 ? -EINVAL : open_found(lookup, flags, 0666);
  if (result == again) return again;
  const int fd = settle(result);
  // A directory: libc would open it and fail at the first read; but our descriptor of one is not open for reading.
  if (fd >= 0 && lookup.inode() != nullptr && lookup.inode()->is_directory()) {
    kernel::close(fd);
    return settle(-EISDIR);
  }
  return fd;
}

// A mode for a file that exists by now, and was made by us if "x" asked for that.
struct ModeOfExisting {
  char text[32] = "";
  explicit ModeOfExisting(const char *mode) {
    for (std::size_t at = 0; *mode != '\0' && at + 1 < sizeof text; ++mode) {
      if (*mode != 'x') text[at++] = *mode;
    }
  }
};

template <typename Next>
[[gnu::noinline]] FILE *open_stream(const char *path, const char *mode, Next next) {
  int fd;
  do {
    Lookup lookup(AT_FDCWD, path, follow_of(flags_of(mode)));
    fd = open_for_stream(lookup, mode);
    if (fd == elsewhere) return next(lookup.path(), mode);
  } while (fd == again);
  if (fd < 0) return nullptr;
  // Only fopen itself makes a stream that converts characters.
  if (std::strchr(mode, ',') != nullptr) {
    FILE *stream = next(kernel::DescriptorPath(fd).text, ModeOfExisting(mode).text);
    kernel::KeepErrno keep;
    kernel::close(fd);
    return stream;
  }
  FILE *stream = open_counted(fd, mode);
  if (stream == nullptr) kernel::close(fd);
  return stream;
}

// libc cannot reopen a stream with functions of ours beneath, so those only get another descriptor. Null is the stream's
// own file.
FILE *reopen_counted(const char *path, const char *mode, FILE *stream, int fd) {
  const bool own = kernel::is_null(path);
  const int flags = flags_of(mode) & (own ? ~O_EXCL : ~0);
  const int opened = flags < 0 ? settle(-EINVAL) : intercept::open(own ? kernel::DescriptorPath(fd).text : path, flags, 0666);
  if (opened >= 0 && replace_descriptor(stream, opened, mode)) return stream;
  kernel::KeepErrno keep;
  ::fclose(stream);
  return nullptr;
}

// libc opens the path within freopen, so it is given one that the kernel knows: our descriptor's.
template <typename Next>
[[gnu::noinline]] FILE *reopen_stream(const char *path, const char *mode, FILE *stream, Next next) {
  int fd;
  do {
    Lookup lookup(AT_FDCWD, path, follow_of(flags_of(mode)));
    fd = open_for_stream(lookup, mode);
    if (fd == elsewhere) return next(lookup.path(), mode);
  } while (fd == again);
  if (fd < 0) {  // the stream is closed also where the path cannot be opened
    const int error = errno;
    ::fclose(stream);
    errno = error;
    return nullptr;
  }
  FILE *reopened = next(kernel::DescriptorPath(fd).text, ModeOfExisting(mode).text);
  kernel::KeepErrno keep;
  kernel::close(fd);
  return reopened;
}

}  // namespace

namespace intercept {

#define DEFINE_FOPEN(name)                                                                    \
  FILE *name(const char *path, const char *mode) {                                            \
    if (!may_be_ours(path)) [[likely]]                                                        \
      return NEXT(name)(path, mode);                                                          \
    return open_stream(path, mode, [=](const char *real, const char *how) { return NEXT(name)(real, how); }); \
  }
DEFINE_FOPEN(fopen)
DEFINE_FOPEN(fopen64)

#define DEFINE_FREOPEN(name)                                                                                \
  FILE *name(const char *path, const char *mode, FILE *stream) {                                            \
    if (const int fd = descriptor_of(stream); fd >= 0) return reopen_counted(path, mode, stream, fd);       \
    if (!may_be_ours(path)) [[likely]]                                                                      \
      return NEXT(name)(path, mode, stream);                                                                \
    return reopen_stream(path, mode, stream,                                                                \
                         [=](const char *real, const char *how) { return NEXT(name)(real, how, stream); }); \
  }
DEFINE_FREOPEN(freopen)
DEFINE_FREOPEN(freopen64)

}  // namespace intercept

}  // namespace diskless
