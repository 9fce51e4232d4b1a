// C streams on files of the Tree.

#include <stdio.h>

#include <cstring>

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

template <typename Next>
[[gnu::noinline]] FILE *open_stream(const char *path, const char *mode, Next next) {
  int fd;
  do {
    Lookup lookup(AT_FDCWD, path, follow_of(flags_of(mode)));
    fd = open_for_stream(lookup, mode);
    if (fd == elsewhere) return next(lookup.path());
  } while (fd == again);
  if (fd < 0) return nullptr;
  FILE *stream = ::fdopen(fd, mode);
  if (stream == nullptr) kernel::close(fd);
  return stream;
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
  // It exists by now, and was made by us if "x" asked for that.
  char plain[16] = "";
  for (std::size_t at = 0; *mode != '\0' && *mode != ',' && at + 1 < sizeof plain; ++mode) {
    if (*mode != 'x') plain[at++] = *mode;
  }
  FILE *reopened = next(kernel::DescriptorPath(fd).text, plain);
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
    return open_stream(path, mode, [=](const char *real) { return NEXT(name)(real, mode); }); \
  }
DEFINE_FOPEN(fopen)
DEFINE_FOPEN(fopen64)

#define DEFINE_FREOPEN(name)                                                                                \
  FILE *name(const char *path, const char *mode, FILE *stream) {                                            \
    if (!may_be_ours(path)) [[likely]]                                                                      \
      return NEXT(name)(path, mode, stream);                                                                \
    return reopen_stream(path, mode, stream,                                                                \
                         [=](const char *real, const char *how) { return NEXT(name)(real, how, stream); }); \
  }
DEFINE_FREOPEN(freopen)
DEFINE_FREOPEN(freopen64)

}  // namespace intercept

}  // namespace diskless
