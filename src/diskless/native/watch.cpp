// A watch on a path of the Tree would never report anything, so that programs would wait for ever instead of looking
// again. Where a shadow lies over real files the kernel would watch those: so it is answered here, never passed on.

#include <sys/inotify.h>

#include "route.h"

namespace diskless {

namespace {

int watch_found(const Lookup &found) {
  const int error = found.error_of_existing();
  return error != 0 ? -error : -EOPNOTSUPP;
}

}  // namespace

namespace intercept {

int inotify_add_watch(int fd, const char *path, std::uint32_t mask) noexcept {
  return route(path, follow_unless((mask & IN_DONT_FOLLOW) != 0), watch_found,
               [=](const char *real) { return NEXT(inotify_add_watch)(fd, real, mask); });
}

}  // namespace intercept

}  // namespace diskless
