// Calls with two paths: rename and link.
#pragma once

#include "route.h"

namespace diskless {

// `slow(next)` where one of the paths may be ours, `next(from_fd, from, to_fd, to)` otherwise.
template <typename Slow, typename Next>
inline int between(int from_fd, const char *from, int to_fd, const char *to, Slow slow, Next next) {
  if (kernel::is_null(from) || kernel::is_null(to)) return next(from_fd, from, to_fd, to);
  if (may_be_ours(from_fd, from) || may_be_ours(to_fd, to)) [[unlikely]]
    return slow(next);
  const int result = next(from_fd, from, to_fd, to);
  if (result == -1 && (is_beneath_ours(from_fd, from) || is_beneath_ours(to_fd, to))) return slow(next);
  return result;
}

// Elsewhere, whether the directory is there in which the path's last name would be: 0 or an errno.
int error_of_parent(const Lookup &elsewhere);

}  // namespace diskless
