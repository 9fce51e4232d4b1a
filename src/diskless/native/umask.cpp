// The mask is read once from /proc, which takes some 20 microseconds, and kept: umask(2) is redirected. It is read anew
// where what is kept may be another process's, since a vfork child shares our memory but not our mask, and a child that
// clone(2) made without libc's knowledge brings a copy.

#include "umask.h"

#include <pthread.h>

#include <atomic>
#include <cstdlib>
#include <cstring>

#include "hooks.h"
#include "kernel.h"

namespace diskless {

namespace {

// The process in the upper half, its mask in the lower: together, since readers take no lock.
std::atomic<std::uint64_t> kept{0};

std::uint64_t process() { return static_cast<std::uint64_t>(::syscall(SYS_getpid)) << 32; }

constexpr mode_t usual = 022;  // where /proc does not say

mode_t read_umask() {
  kernel::KeepErrno keep;
  // A vfork child's own directory in /proc may be that of a thread.
  const int fd = kernel::open("/proc/thread-self/status", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return usual;
  char text[256];  // the mask is the second line
  const ssize_t length = ::syscall(SYS_read, fd, text, sizeof text - 1);
  kernel::close(fd);
  text[length < 0 ? 0 : length] = '\0';
  const char *line = std::strstr(text, "\nUmask:");
  return line == nullptr ? usual : static_cast<mode_t>(std::strtoul(line + 7, nullptr, 8));
}

__attribute__((constructor)) void follow_fork() {
  ::pthread_atfork(nullptr, nullptr, [] {
    const std::uint64_t before = kept.load();
    if (before != 0) kept.store(process() | (before & 0777));
  });
}

}  // namespace

mode_t current_umask() {
  const std::uint64_t known = kept.load(std::memory_order_relaxed);
  if (known >> 32 == process() >> 32) return static_cast<mode_t>(known & 0777);
  return read_umask();
}

void learn_umask() { kept.store(process() | read_umask()); }

void forget_umask() { kept.store(0); }

namespace intercept {

mode_t umask(mode_t mask) noexcept {
  const mode_t before = NEXT(umask)(mask);
  if (kept.load(std::memory_order_relaxed) >> 32 == process() >> 32) kept.store(process() | (mask & 0777));
  return before;
}

}  // namespace intercept

}  // namespace diskless
