// Calls that would let the kernel itself walk into the Tree: programs, watches. Where
// a shadow lies over real files the kernel would find those, so these calls are answered here, never passed on.

#include <limits.h>
#include <spawn.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <cstdarg>
#include <cstring>

#include "permission.h"
#include "route.h"

namespace diskless {

namespace {

// Files of the Tree are data: the kernel has no path by which it could start one.
int run_found(const Lookup &found) {
  const int error = found.error_of_existing();
  return error != 0 ? -error : -EACCES;
}

template <typename Next>
inline int run(const char *path, Next next) {
  return route(path, Follow::yes, run_found, next);
}

// A watch would never report anything, so that programs would wait for ever instead of looking again.
int watch_found(const Lookup &found) {
  const int error = found.error_of_existing();
  return error != 0 ? -error : -EOPNOTSUPP;
}

using Arguments = char *const *;

// The list of execl and its relatives, up to its null, as an array. Leaves `rest` behind the null.
#define COLLECT(first)                                                                                            \
  std::va_list rest;                                                                                              \
  va_start(rest, first);                                                                                          \
  int count = 1;                                                                                                  \
  while (va_arg(rest, const char *) != nullptr) ++count;                                                          \
  va_end(rest);                                                                                                   \
  auto **words = static_cast<const char **>(__builtin_alloca(sizeof(char *) * (static_cast<size_t>(count) + 1))); \
  va_start(rest, first);                                                                                          \
  words[0] = first;                                                                                               \
  for (int i = 1; i <= count; ++i) words[i] = va_arg(rest, const char *);                                         \
  const auto arguments = const_cast<Arguments>(words)

}  // namespace

namespace intercept {

int execve(const char *path, Arguments arguments, Arguments environment) noexcept {
  return run(path, [=](const char *real) { return NEXT(execve)(real, arguments, environment); });
}

int execv(const char *path, Arguments arguments) noexcept {
  return run(path, [=](const char *real) { return NEXT(execv)(real, arguments); });
}

// A name without a slash is looked for in PATH, which the kernel's own directories make up.
int execvp(const char *file, Arguments arguments) noexcept {
  if (std::strchr(file, '/') == nullptr) return NEXT(execvp)(file, arguments);
  return run(file, [=](const char *real) { return NEXT(execvp)(real, arguments); });
}

int execvpe(const char *file, Arguments arguments, Arguments environment) noexcept {
  if (std::strchr(file, '/') == nullptr) return NEXT(execvpe)(file, arguments, environment);
  return run(file, [=](const char *real) { return NEXT(execvpe)(real, arguments, environment); });
}

int execl(const char *path, const char *argument, ...) noexcept {
  COLLECT(argument);
  va_end(rest);
  return intercept::execv(path, arguments);
}

int execlp(const char *file, const char *argument, ...) noexcept {
  COLLECT(argument);
  va_end(rest);
  return intercept::execvp(file, arguments);
}

int execle(const char *path, const char *argument, ...) noexcept {
  COLLECT(argument);
  const auto environment = va_arg(rest, Arguments);
  va_end(rest);
  return intercept::execve(path, arguments, environment);
}

int posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions,
                const posix_spawnattr_t *attributes, Arguments arguments, Arguments environment) {
  const int before = errno;
  const int result = run(path, [=](const char *real) {
    return NEXT(posix_spawn)(pid, real, actions, attributes, arguments, environment);
  });
  if (result != -1) return result;
  const int error = errno;  // which this function returns instead
  errno = before;
  return error;
}

int posix_spawnp(pid_t *pid, const char *file, const posix_spawn_file_actions_t *actions,
                 const posix_spawnattr_t *attributes, Arguments arguments, Arguments environment) {
  const auto next = [=](const char *real) {
    return NEXT(posix_spawnp)(pid, real, actions, attributes, arguments, environment);
  };
  if (std::strchr(file, '/') == nullptr) return next(file);
  const int before = errno;
  const int result = run(file, next);
  if (result != -1) return result;
  const int error = errno;
  errno = before;
  return error;
}

// The new program would open the path itself, with no Tree.
int posix_spawn_file_actions_addopen(posix_spawn_file_actions_t *actions, int fd, const char *path, int flags,
                                     mode_t mode) noexcept {
  const int before = errno;
  const int result = run(
      path, [=](const char *real) { return NEXT(posix_spawn_file_actions_addopen)(actions, fd, real, flags, mode); });
  if (result != -1) return result;
  const int error = errno;
  errno = before;
  return error;
}

int inotify_add_watch(int fd, const char *path, std::uint32_t mask) noexcept {
  return route(path, follow_unless((mask & IN_DONT_FOLLOW) != 0), watch_found,
               [=](const char *real) { return NEXT(inotify_add_watch)(fd, real, mask); });
}

}  // namespace intercept

}  // namespace diskless
