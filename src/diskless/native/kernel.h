// Our own business with the kernel: calls that no hook of anybody's may see, and that need no symbol newer than
// glibc 2.26 (stat, fstat and fcntl64 are newer than that).
#pragma once

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstdio>

namespace diskless::kernel {

// Older than the headers of the oldest glibc that we support.
inline constexpr int get_seals = 1034;                               // F_GET_SEALS
inline constexpr int add_seals = 1033;                               // F_ADD_SEALS
inline constexpr int all_seals = 0x0001 | 0x0002 | 0x0004 | 0x0008;  // SEAL, SHRINK, GROW, WRITE

inline int openat(int dirfd, const char *path, int flags) {
  return static_cast<int>(::syscall(SYS_openat, dirfd, path, flags, 0));
}
inline int open(const char *path, int flags) { return openat(AT_FDCWD, path, flags); }
inline int close(int fd) { return static_cast<int>(::syscall(SYS_close, fd)); }
inline int fstat(int fd, struct stat *status) { return static_cast<int>(::syscall(SYS_fstat, fd, status)); }
inline int fstatat(int dirfd, const char *path, struct stat *status, int flags) {
  return static_cast<int>(::syscall(SYS_newfstatat, dirfd, path, status, flags));
}
inline ssize_t readlink(const char *path, char *buffer, size_t size) {
  return ::syscall(SYS_readlinkat, AT_FDCWD, path, buffer, size);
}
inline ssize_t getcwd(char *buffer, size_t size) { return ::syscall(SYS_getcwd, buffer, size); }
inline constexpr unsigned allow_sealing = 2;  // MFD_ALLOW_SEALING
// *refuses_execute: whether the file can never get execute bits.
inline int memfd_create(const char *name, unsigned flags = allow_sealing, bool *refuses_execute = nullptr) {
  constexpr unsigned close_on_exec = 1, noexec_seal = 8, exec = 16;  // MFD_…
  int fd = -1;
  // vm.memfd_noexec may forbid executable ones or want the choice made; gVisor knows no MFD_EXEC.
  for (const unsigned executable : {exec, 0u, noexec_seal}) {
    fd = static_cast<int>(::syscall(SYS_memfd_create, name, close_on_exec | flags | executable));
    if (refuses_execute != nullptr) *refuses_execute = executable == noexec_seal;
    if (fd >= 0 || (errno != EINVAL && errno != EACCES)) break;
  }
  return fd;
}
inline int fcntl(int fd, int command, long argument) {
  return static_cast<int>(::syscall(SYS_fcntl, fd, command, argument));
}
inline off_t lseek(int fd, off_t offset, int whence) { return ::syscall(SYS_lseek, fd, offset, whence); }

// The longest is "/proc/thread-self/fd/2147483647".
struct DescriptorPath {
  char text[40];
  const char *number;  // its last part
  explicit DescriptorPath(int fd, const char *process = "self") {
    char *at = text;
    for (const char *part : {"/proc/", process, "/fd/"}) {
      while (*part != '\0') *at++ = *part++;
    }
    number = at;
    *std::to_chars(at, text + sizeof text - 1, fd).ptr = '\0';
  }
  DescriptorPath(const DescriptorPath &) = delete;
  DescriptorPath &operator=(const DescriptorPath &) = delete;
};

// libc's headers promise the compiler that paths are never null, and so it would drop the question; but the kernel
// answers it with EFAULT, and so do we.
inline bool is_null(const void *pointer) {
  __asm__("" : "+r"(pointer));
  return pointer == nullptr;
}

// What we do between entering and leaving a hook must not show in errno, unless the hook fails.
class KeepErrno {
 public:
  KeepErrno() : saved_(errno) {}
  ~KeepErrno() { errno = saved_; }
  KeepErrno(const KeepErrno &) = delete;
  KeepErrno &operator=(const KeepErrno &) = delete;

 private:
  const int saved_;
};

}  // namespace diskless::kernel
