// System calls by number. Rust's standard library asks for statx so where libc has none; others do it by habit.
//
// A call that may concern us is answered by the hook of the function of its name. Every other one is a jump to libc's
// syscall with the registers as they came: nothing of ours may stay on the stack, since the call may be a vfork, after
// which the child goes on with the parent's stack.

#include <sys/syscall.h>

#include <cstring>
#include <type_traits>

#include "hooks.h"
#include "kernel.h"
#include "open.h"
#include "working_directory.h"

// Newer than the headers of the oldest system that this builds on; the same on every processor.
#ifndef SYS_close_range
#define SYS_close_range 436
#endif
#ifndef SYS_openat2
#define SYS_openat2 437
#endif
#ifndef SYS_faccessat2
#define SYS_faccessat2 439
#endif
#ifndef SYS_fchmodat2
#define SYS_fchmodat2 452
#endif

// clang-format off
// X(system call, what answers it): a to f are the call's arguments.
#define DISKLESS_CALLS(X)                                                                        \
  X(close, intercept::close(a))                                                                  \
  X(close_range, intercept::close_range(a, b, c))                                                \
  X(dup3, intercept::dup3(a, b, c))                                                              \
  X(openat, intercept::openat(a, b, c, static_cast<mode_t>(d)))                                  \
  X(openat2, openat2(a, b, c.pointer(), d))                                                      \
  X(name_to_handle_at, intercept::name_to_handle_at(a, b, c, d, e))                              \
  X(newfstatat, intercept::fstatat(a, b, c, d))                                                  \
  X(fstat, intercept::fstat(a, b))                                                               \
  X(statx, intercept::statx(a, b, c, d, e))                                                      \
  X(faccessat, intercept::faccessat(a, b, c, 0))                                                 \
  X(faccessat2, intercept::faccessat(a, b, c, d))                                                \
  X(statfs, intercept::statfs(a, b))                                                             \
  X(fstatfs, intercept::fstatfs(a, b))                                                           \
  X(getdents64, intercept::getdents64(a, b.pointer(), c))                                        \
  X(readlinkat, intercept::readlinkat(a, b, c, d))                                               \
  X(getxattr, intercept::getxattr(a, b, c.pointer(), d))                                         \
  X(lgetxattr, intercept::lgetxattr(a, b, c.pointer(), d))                                       \
  X(listxattr, intercept::listxattr(a, b, c))                                                    \
  X(llistxattr, intercept::llistxattr(a, b, c))                                                  \
  X(setxattr, intercept::setxattr(a, b, c.pointer(), d, e))                                      \
  X(lsetxattr, intercept::lsetxattr(a, b, c.pointer(), d, e))                                    \
  X(fsetxattr, intercept::fsetxattr(a, b, c.pointer(), d, e))                                    \
  X(removexattr, intercept::removexattr(a, b))                                                   \
  X(lremovexattr, intercept::lremovexattr(a, b))                                                 \
  X(fremovexattr, intercept::fremovexattr(a, b))                                                 \
  X(mkdirat, intercept::mkdirat(a, b, c))                                                        \
  X(mknodat, intercept::mknodat(a, b, c, d))                                                     \
  X(unlinkat, intercept::unlinkat(a, b, c))                                                      \
  X(symlinkat, intercept::symlinkat(a, b, c))                                                    \
  X(linkat, intercept::linkat(a, b, c, d, e))                                                    \
  X(renameat, intercept::renameat(a, b, c, d))                                                   \
  X(renameat2, intercept::renameat2(a, b, c, d, e))                                              \
  X(fchmod, intercept::fchmod(a, b))                                                             \
  X(fchmodat, intercept::fchmodat(a, b, c, 0))                                                   \
  X(fchmodat2, intercept::fchmodat(a, b, c, d))                                                  \
  X(fchown, intercept::fchown(a, b, c))                                                          \
  X(fchownat, intercept::fchownat(a, b, c, d, e))                                                \
  X(write, intercept::write(a, b, c))                                                            \
  X(pwrite64, intercept::pwrite64(a, b, c, d))                                                   \
  X(writev, intercept::writev(a, b, c))                                                          \
  X(pwritev, intercept::pwritev(a, b, c, d))                                                     \
  X(pwritev2, intercept::pwritev2(a, b, c, d, f))                                                \
  X(copy_file_range, intercept::copy_file_range(a, b, c, d, e, f))                               \
  X(splice, intercept::splice(a, b, c, d, e, f))                                                 \
  X(sendfile, intercept::sendfile(a, b, c, d))                                                   \
  X(fallocate, intercept::fallocate(a, b, c, d))                                                 \
  X(ftruncate, intercept::ftruncate(a, b))                                                       \
  X(mmap, reinterpret_cast<long>(intercept::mmap(a, b, c, d, e, f)))                             \
  X(dup, intercept::dup(a))                                                                      \
  X(fcntl, intercept::fcntl(a, b, c.value))                                                      \
  X(recvmsg, intercept::recvmsg(a, b, c))                                                        \
  X(recvmmsg, intercept::recvmmsg(a, b, c, d, e))                                                \
  X(utimensat, b.value == 0 ? intercept::futimens(a, c) : intercept::utimensat(a, b, c, d))      \
  X(truncate, intercept::truncate(a, b))                                                         \
  X(fgetxattr, intercept::fgetxattr(a, b, c.pointer(), d))                                       \
  X(flistxattr, intercept::flistxattr(a, b, c))                                                  \
  X(umask, static_cast<long>(intercept::umask(a)))                                               \
  X(chdir, intercept::chdir(a))                                                                  \
  X(getcwd, getcwd_by_number(a, b))                                                              \
  X(fchdir, intercept::fchdir(a))                                                                \
  X(execveat, intercept::execveat(a, b, c, d, e))                                                \
  X(execve, intercept::execve(a, b, c))                                                          \
  X(inotify_add_watch, intercept::inotify_add_watch(a, b, c))                                    \
  X(bind, intercept::bind(a, b, c))                                                              \
  X(connect, intercept::connect(a, b, c))                                                        \
  X(sendto, intercept::sendto(a, b, c, d, e, f))                                                 \
  X(sendmsg, intercept::sendmsg(a, b, c))                                                        \
  X(sendmmsg, intercept::sendmmsg(a, b, c, d))                                                   \
  X(accept, intercept::accept(a, b, c))                                                          \
  X(accept4, intercept::accept4(a, b, c, d))                                                     \
  X(getsockname, intercept::getsockname(a, b, c))                                                \
  X(getpeername, intercept::getpeername(a, b, c))                                                \
  X(recvfrom, intercept::recvfrom(a, b, c, d, e, f))

// Those that newer processors never had.
#ifdef SYS_open
#define DISKLESS_OLD_CALLS(X)                                \
  X(open, intercept::open(a, b, static_cast<mode_t>(c)))     \
  X(creat, intercept::creat(a, b))                           \
  X(dup2, intercept::dup2(a, b))                             \
  X(stat, intercept::stat(a, b))                             \
  X(lstat, intercept::lstat(a, b))                           \
  X(access, intercept::access(a, b))                         \
  X(readlink, intercept::readlink(a, b, c))                  \
  X(mkdir, intercept::mkdir(a, b))                           \
  X(mknod, intercept::mknod(a, b, c))                        \
  X(rmdir, intercept::rmdir(a))                              \
  X(unlink, intercept::unlink(a))                            \
  X(symlink, intercept::symlink(a, b))                       \
  X(link, intercept::link(a, b))                             \
  X(rename, intercept::rename(a, b))                         \
  X(chmod, intercept::chmod(a, b))                           \
  X(chown, intercept::chown(a, b, c))                        \
  X(lchown, intercept::lchown(a, b, c))                      \
  X(utime, intercept::utime(a, b))                           \
  X(utimes, intercept::utimes(a, b))                         \
  X(futimesat, intercept::futimesat(a, b, c))
#else
#define DISKLESS_OLD_CALLS(X)
#endif
// clang-format on

namespace diskless {

namespace {

// An argument: whatever the function takes.
struct Word {
  long value;
  template <typename Type>
  operator Type() const {
    if constexpr (std::is_pointer_v<Type>) {
      return reinterpret_cast<Type>(value);
    } else {
      return static_cast<Type>(value);
    }
  }
  // Where several functions of one name would take it.
  void *pointer() const { return reinterpret_cast<void *>(value); }
};

bool is_redirected(long number) {
  switch (number) {
#define X(name, answer) case SYS_##name:
    DISKLESS_CALLS(X)
    DISKLESS_OLD_CALLS(X)
#undef X
    return true;
    default: return false;
  }
}

[[gnu::noinline]] long redirect(long number, Word a, Word b, Word c, Word d, Word e, Word f) {
  switch (number) {
#define X(name, answer) \
  case SYS_##name: return answer;
    DISKLESS_CALLS(X)
    DISKLESS_OLD_CALLS(X)
#undef X
    default: __builtin_unreachable();
  }
}

// What the hooks above call for a path that is not ours, where libc has no such function: stat is one since 2.33.
int stat_by_number(const char *path, struct stat *status) { return kernel::fstatat(AT_FDCWD, path, status, 0); }
int lstat_by_number(const char *path, struct stat *status) {
  return kernel::fstatat(AT_FDCWD, path, status, AT_SYMLINK_NOFOLLOW);
}
int statx_by_number(int dirfd, const char *path, int flags, unsigned mask, struct statx *status) {
  return static_cast<int>(::syscall(SYS_statx, dirfd, path, flags, mask, status));
}
int renameat2_by_number(int from, const char *old_path, int to, const char *new_path, unsigned flags) {
  return static_cast<int>(::syscall(SYS_renameat2, from, old_path, to, new_path, flags));
}
int close_range_by_number(unsigned first, unsigned last, int flags) {
  return static_cast<int>(::syscall(SYS_close_range, first, last, flags));
}
ssize_t copy_file_range_by_number(int from, off64_t *from_offset, int to, off64_t *to_offset, std::size_t length,
                                  unsigned flags) {
  return ::syscall(SYS_copy_file_range, from, from_offset, to, to_offset, length, flags);
}
ssize_t getdents64_by_number(int fd, void *buffer, std::size_t size) {
  return ::syscall(SYS_getdents64, fd, buffer, size);
}

}  // namespace

void *function_by_number(const char *name) {
  const struct {
    const char *name;
    void *function;
  } functions[] = {
      {"stat", reinterpret_cast<void *>(&stat_by_number)},
      {"lstat", reinterpret_cast<void *>(&lstat_by_number)},
      {"fstat", reinterpret_cast<void *>(&kernel::fstat)},
      {"fstatat", reinterpret_cast<void *>(&kernel::fstatat)},
      {"statx", reinterpret_cast<void *>(&statx_by_number)},
      {"renameat2", reinterpret_cast<void *>(&renameat2_by_number)},
      {"close_range", reinterpret_cast<void *>(&close_range_by_number)},
      {"copy_file_range", reinterpret_cast<void *>(&copy_file_range_by_number)},
      {"getdents64", reinterpret_cast<void *>(&getdents64_by_number)},
  };
  for (const auto &each : functions) {
    if (std::strcmp(each.name, name) == 0) return each.function;
  }
  return nullptr;
}

namespace intercept {

// `syscall` without the ellipsis, so that all its words can be passed on by a jump: the ABIs put the first seven words
// of both kinds of functions in the same places.
long syscall_of_words(long number, long a, long b, long c, long d, long e, long f) noexcept
    __asm__("_ZN8diskless9intercept7syscallElz");

long syscall_of_words(long number, long a, long b, long c, long d, long e, long f) noexcept {
  // The one that is made most, without looking through the others.
  if (number == SYS_openat) return intercept::openat(Word{a}, Word{b}, Word{c}, static_cast<mode_t>(d));
  if (is_redirected(number)) return redirect(number, Word{a}, Word{b}, Word{c}, Word{d}, Word{e}, Word{f});
  return reinterpret_cast<decltype(&syscall_of_words)>(NEXT(syscall))(number, a, b, c, d, e, f);
}

}  // namespace intercept

}  // namespace diskless
