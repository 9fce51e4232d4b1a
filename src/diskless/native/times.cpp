// utimensat and its older relatives.

#include <sys/stat.h>
#include <sys/time.h>
#include <utime.h>

#include <type_traits>

#include "change.h"
#include "permission.h"

namespace diskless {

namespace {

constexpr long second_ns = 1'000'000'000;

// What a caller asks for, as utimensat(2) has it.
struct Times {
  bool given = false;
  int error = 0;
  timespec values[2] = {{0, UTIME_NOW}, {0, UTIME_NOW}};

  explicit Times(const timespec *times) {
    if (times == nullptr) return;
    given = true;
    for (int i = 0; i < 2; ++i) {
      values[i] = times[i];
      const long part = times[i].tv_nsec;
      if (part != UTIME_NOW && part != UTIME_OMIT && (part < 0 || part >= second_ns)) error = EINVAL;
    }
  }
  explicit Times(const timeval *times) {
    if (times == nullptr) return;
    given = true;
    for (int i = 0; i < 2; ++i) {
      values[i] = {times[i].tv_sec, times[i].tv_usec * 1000};
      if (times[i].tv_usec < 0 || times[i].tv_usec >= second_ns / 1000) error = EINVAL;
    }
  }
  explicit Times(const utimbuf *times) {
    if (times == nullptr) return;
    given = true;
    values[0] = {times->actime, 0};
    values[1] = {times->modtime, 0};
  }

  bool are(long part) const { return values[0].tv_nsec == part && values[1].tv_nsec == part; }
};

void set(timespec *time, const timespec &value, const timespec &current) {
  if (value.tv_nsec == UTIME_OMIT) return;
  *time = value.tv_nsec == UTIME_NOW ? current : value;
}

int set_times(Inode &inode, const Times &times) {
  if (times.error != 0) return -times.error;
  if (times.are(UTIME_OMIT)) return 0;
  if (inode.is_file()) {
    const kernel::DescriptorPath path(inode.fd);
    const long result = ::syscall(SYS_utimensat, AT_FDCWD, path.text, times.given ? times.values : nullptr, 0);
    return result < 0 ? -errno : 0;
  }
  if (times.are(UTIME_NOW)) {
    if (!owns(inode) && !permits(inode, W_OK, Who::effective)) return -EACCES;
  } else if (!owns(inode)) {
    return -EPERM;
  }
  const timespec current = now();
  set(&inode.accessed, times.values[0], current);
  set(&inode.modified, times.values[1], current);
  inode.changed = current;
  return 0;
}

template <typename Next>
int set_times_at(int dirfd, const char *path, const Times &times, int flags, Next next) {
  const auto rule = [=](Inode &inode) { return set_times(inode, times); };
  if (means_descriptor(path, flags)) return change_descriptor(dirfd, true, rule, [=] { return next(dirfd, path); });
  return route(dirfd, path, follow_unless((flags & AT_SYMLINK_NOFOLLOW) != 0), changing_inode(rule), next);
}

// A descriptor that is not ours costs no look at the times.
template <typename Given, typename Next>
inline int set_times_of(int fd, const Given *times, Next next) {
  if (!describe(fd).ours) [[likely]]
    return next();
  if constexpr (std::is_same_v<Given, timespec>) {  // nothing is asked for, and the descriptor not looked at
    if (times != nullptr && times[0].tv_nsec == UTIME_OMIT && times[1].tv_nsec == UTIME_OMIT) return next();
  }
  return change_descriptor(
      fd, false, [=](Inode &inode) { return set_times(inode, Times(times)); }, next);
}

}  // namespace

namespace intercept {

int utime(const char *path, const struct utimbuf *times) noexcept {
  return set_times_at(AT_FDCWD, path, Times(times), 0, [=](int, const char *real) { return NEXT(utime)(real, times); });
}

int utimes(const char *path, const struct timeval *times) noexcept {
  return set_times_at(AT_FDCWD, path, Times(times), 0,
                      [=](int, const char *real) { return NEXT(utimes)(real, times); });
}

int lutimes(const char *path, const struct timeval *times) noexcept {
  return set_times_at(AT_FDCWD, path, Times(times), AT_SYMLINK_NOFOLLOW,
                      [=](int, const char *real) { return NEXT(lutimes)(real, times); });
}

int futimesat(int dirfd, const char *path, const struct timeval *times) noexcept {
  if (kernel::is_null(path)) {
    return set_times_of(dirfd, times, [=] { return NEXT(futimesat)(dirfd, path, times); });
  }
  return set_times_at(dirfd, path, Times(times), 0,
                      [=](int at, const char *real) { return NEXT(futimesat)(at, real, times); });
}

int futimes(int fd, const struct timeval *times) noexcept {
  return set_times_of(fd, times, [=] { return NEXT(futimes)(fd, times); });
}

int futimens(int fd, const struct timespec *times) noexcept {
  return set_times_of(fd, times, [=] { return NEXT(futimens)(fd, times); });
}

int utimensat(int dirfd, const char *path, const struct timespec *times, int flags) noexcept {
  const Times asked(times);
  if (asked.are(UTIME_OMIT)) return NEXT(utimensat)(dirfd, path, times, flags);  // the path is not even looked at
  if ((flags & ~(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)) != 0) return NEXT(utimensat)(dirfd, path, times, flags);
  return set_times_at(dirfd, path, asked, flags,
                      [=](int at, const char *real) { return NEXT(utimensat)(at, real, times, flags); });
}

}  // namespace intercept

}  // namespace diskless
