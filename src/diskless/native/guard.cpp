// Our descriptors, and the calls by which a program could close them without meaning to: daemons close every number,
// and test suites and forkservers close ranges. A number of ours is, to the program, one that is not open.

#include "guard.h"

#include <sys/resource.h>

#include <atomic>
#include <cerrno>
#include <climits>

#include "counted.h"
#include "diskless.h"
#include "hooks.h"
#include "kernel.h"

namespace diskless {

namespace {

constexpr unsigned most_descriptors = 1 << 20;  // fs.nr_open
std::atomic<unsigned long> bits[most_descriptors / 64];

std::atomic<unsigned> past_highest{0};  // above every number that ever was ours

void remember(unsigned fd) {
  unsigned past = past_highest.load();
  while (past <= fd && !past_highest.compare_exchange_weak(past, fd + 1)) {
  }
  bits[fd / 64].fetch_or(1ul << (fd % 64));
}
void forget(unsigned fd) { bits[fd / 64].fetch_and(~(1ul << (fd % 64))); }

// The first number of ours that is at least `from`, or `most_descriptors`.
unsigned next_of_ours(unsigned from) {
  const unsigned end = past_highest.load(std::memory_order_relaxed);
  while (from < end) {
    const unsigned long word = bits[from / 64].load(std::memory_order_relaxed) >> (from % 64);
    if (word) return from + static_cast<unsigned>(__builtin_ctzl(word));
    from = (from / 64 + 1) * 64;
  }
  return most_descriptors;
}

// Each file costs a descriptor, and programs rarely ask for more than the soft limit that they begin with.
void raise_limit(rlimit *limit) {
  if (limit->rlim_cur >= limit->rlim_max) return;
  rlimit raised = *limit;
  raised.rlim_cur = limit->rlim_cur > limit->rlim_max / 2 ? limit->rlim_max : limit->rlim_cur * 2;
  if (::syscall(SYS_prlimit64, 0, RLIMIT_NOFILE, &raised, nullptr) == 0) *limit = raised;
}

constexpr rlim_t near_the_limit = 64;

inline int copied(int from, int made) {
  if (made >= 0 && made != from) copy_standing(from, made);
  return made;
}

}  // namespace

bool is_ours(int fd) {
  const auto number = static_cast<unsigned>(fd);
  return number < most_descriptors && (bits[number / 64].load(std::memory_order_relaxed) >> (number % 64) & 1);
}

// Out of the way of programs that assume small numbers, and below the limit.
int keep(int fd) {
  rlimit limit{};
  ::syscall(SYS_prlimit64, 0, RLIMIT_NOFILE, nullptr, &limit);
  const long floor = limit.rlim_cur > 512 ? 256 : static_cast<long>(limit.rlim_cur / 2);
  int moved = kernel::fcntl(fd, F_DUPFD_CLOEXEC, floor);
  if (moved < 0 || static_cast<rlim_t>(moved) + near_the_limit > limit.rlim_cur) raise_limit(&limit);
  if (moved < 0) moved = kernel::fcntl(fd, F_DUPFD_CLOEXEC, floor);
  if (moved < 0) moved = kernel::fcntl(fd, F_DUPFD_CLOEXEC, 3);
  const int error = errno;
  kernel::close(fd);
  if (moved < 0) return -error;
  if (static_cast<unsigned>(moved) >= most_descriptors) {
    kernel::close(moved);
    return -EMFILE;
  }
  remember(static_cast<unsigned>(moved));
  return moved;
}

void release(int fd) {
  if (!is_ours(fd)) return;
  forget(static_cast<unsigned>(fd));
  kernel::close(fd);
}

bool raise_descriptor_limit() {
  rlimit limit{};
  ::syscall(SYS_prlimit64, 0, RLIMIT_NOFILE, nullptr, &limit);
  const rlim_t before = limit.rlim_cur;
  raise_limit(&limit);
  return limit.rlim_cur > before;
}

namespace intercept {

#define DEFINE_CLOSE(name)                                \
  int name(int fd) {                                      \
    if (!is_ours(fd)) {                                   \
      /* before: afterwards it may be another thread's */ \
      forget_standing(fd);                                \
      return NEXT(name)(fd);                              \
    }                                                     \
    errno = EBADF;                                        \
    return -1;                                            \
  }
DEFINE_CLOSE(close)
DEFINE_CLOSE(__close)

int close_range(unsigned first, unsigned last, int flags) noexcept {
  constexpr int stay_open = 4;  // CLOSE_RANGE_CLOEXEC
  if ((flags & stay_open) == 0) forget_standings(first, last);
  unsigned ours = next_of_ours(first);
  if (first > last || ours > last) return NEXT(close_range)(first, last, flags);
  // The gaps between our numbers.
  while (first <= last) {
    if (ours > first && NEXT(close_range)(first, ours - 1 < last ? ours - 1 : last, flags) != 0) return -1;
    if (ours >= last) break;
    first = ours + 1;
    ours = next_of_ours(first);
    if (ours == most_descriptors) ours = UINT_MAX;
  }
  return 0;
}

void closefrom(int lowest) noexcept {
  const unsigned first = lowest < 0 ? 0 : static_cast<unsigned>(lowest);
  if (next_of_ours(first) == most_descriptors) {
    forget_standings(first, UINT_MAX);
    NEXT(closefrom)(lowest);
  } else if (intercept::close_range(first, UINT_MAX, 0) != 0) {
    rlimit limit{};
    ::syscall(SYS_prlimit64, 0, RLIMIT_NOFILE, nullptr, &limit);
    for (unsigned fd = first; fd < limit.rlim_cur && fd < most_descriptors; fd++) {
      if (!is_ours(static_cast<int>(fd))) kernel::close(static_cast<int>(fd));
    }
  }
}

// A program that wants exactly a number of ours gets EBUSY, which dup2(2) documents for a number in transition: Python
// and the Tree know RAM files by their numbers, so they cannot be moved.
#define DEFINE_DUP2(name)                                        \
  int name(int from, int to) noexcept {                          \
    if (!is_ours(to)) return copied(from, NEXT(name)(from, to)); \
    errno = EBUSY;                                               \
    return -1;                                                   \
  }
DEFINE_DUP2(dup2)
DEFINE_DUP2(__dup2)

int dup3(int from, int to, int flags) noexcept {
  if (!is_ours(to)) return copied(from, NEXT(dup3)(from, to, flags));
  errno = EBUSY;
  return -1;
}

}  // namespace intercept

}  // namespace diskless

using namespace diskless;

extern "C" {

int diskless_memfd(const char *name) {
  kernel::KeepErrno keep;
  const int fd = kernel::memfd_create(name);
  return fd < 0 ? -errno : diskless::keep(fd);
}

int diskless_guard(int fd) {
  kernel::KeepErrno keep;
  return diskless::keep(fd);
}

int diskless_release(int fd) {
  kernel::KeepErrno keep;
  if (!is_ours(fd)) return -EBADF;
  forget(static_cast<unsigned>(fd));
  return kernel::close(fd) == 0 ? 0 : -errno;
}

int diskless_seal(int fd) {
  kernel::KeepErrno keep;
  if (kernel::fcntl(fd, kernel::add_seals, kernel::all_seals) == 0) return 0;
  const int error = errno;
  // The Loader may have done it.
  return kernel::fcntl(fd, kernel::get_seals, 0) == kernel::all_seals ? 0 : -error;
}

}  // extern "C"
