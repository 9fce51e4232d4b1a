// How a hook decides: a path that is not ours goes on to the next function in the chain at once; one that may be is
// looked up, and then answered from the Tree or passed on as well.
#pragma once

#include <fcntl.h>

#include <cerrno>

#include "descriptor.h"
#include "hooks.h"
#include "lookup.h"
#include "roots.h"

namespace diskless {

// From -errno to -1 and errno.
template <typename Result>
Result settle(Result result) {
  if (result >= 0) return result;
  errno = static_cast<int>(-result);
  return -1;
}

// What `ours` returns where names changed while it became a writer: the path is looked up anew.
inline constexpr int again = -200000;

// Out of line, since a Lookup is large and the other path should not pay for it.
// `ours(Lookup &)` runs with the lock held and returns a result, -errno or `again`; `next(int dirfd, const char *path)`.
template <typename Ours, typename Next>
[[gnu::noinline]] auto look_up(int dirfd, const char *path, Follow follow, Ours ours, Next next)
    -> decltype(next(dirfd, path)) {
  while (true) {
    Lookup lookup(dirfd, path, follow);
    if (!lookup.in_tree()) return next(lookup.dirfd(), lookup.path());
    const auto result = static_cast<decltype(next(dirfd, path))>(ours(lookup));
    if (result != again) return settle(result);
  }
}

// For `ours`: does what `rule(const Lookup &)` does with the lock held exclusively.
template <typename Rule>
auto changing(Rule rule) {
  return [=](Lookup &found) -> decltype(rule(found)) { return found.lock_for_change() ? rule(found) : again; };
}

inline bool may_be_ours(int dirfd, const char *path) {
  if (dirfd == AT_FDCWD || kernel::is_null(path) || path[0] == '/') return may_be_ours(path);
  return shadow_count.load(std::memory_order_relaxed) != 0 && path[0] != '\0' && is_visible();
}

// A relative path is not looked up before the kernel has been asked: beneath one of our directory descriptors, which
// are files to it, it finds nothing and does nothing, and says ENOTDIR. So other descriptors cost nothing.
inline bool is_beneath_ours(int dirfd, const char *path) {
  if (errno != ENOTDIR || dirfd < 0 || kernel::is_null(path) || path[0] == '/') return false;
  return is_visible() && describe(dirfd).directory;
}

template <typename Ours, typename Next>
inline auto route(int dirfd, const char *path, Follow follow, Ours ours, Next next) -> decltype(next(dirfd, path)) {
  if (may_be_ours(dirfd, path)) [[unlikely]]
    return look_up(dirfd, path, follow, ours, next);
  const auto result = next(dirfd, path);
  if (result == -1 && is_beneath_ours(dirfd, path)) [[unlikely]]
    return look_up(dirfd, path, follow, ours, next);
  return result;
}

// For calls without a directory descriptor: `next(const char *path)`, called by a tail call where the path is not ours.
template <typename Ours, typename Next>
inline auto route(const char *path, Follow follow, Ours ours, Next next) -> decltype(next(path)) {
  if (!may_be_ours(path)) [[likely]]
    return next(path);
  return look_up(AT_FDCWD, path, follow, ours, [&](int, const char *real) { return next(real); });
}

inline Follow follow_unless(bool nofollow) { return nofollow ? Follow::no : Follow::yes; }

}  // namespace diskless
