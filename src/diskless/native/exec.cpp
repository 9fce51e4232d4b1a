// The exec family, system and popen.
//
// A program of the Tree is run by its descriptor. Where the kernel would need a path for it (a script, whose
// interpreter opens it once more), it is refused, and so is the replacement of a process that went into the Tree itself:
// nothing else is ever run in its place. One that only inherits a working directory of the Tree has none.

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cstdarg>
#include <cstring>
#include <string>

#include "message.h"
#include "permission.h"
#include "program.h"
#include "route.h"

namespace diskless {

namespace {

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

bool is_script(int fd) {
  const int readable = reopen(fd, O_RDONLY | O_CLOEXEC);
  char begin[2] = {};
  if (readable >= 0) {
    ::syscall(SYS_pread64, readable, begin, sizeof begin, 0);
    kernel::close(readable);
  }
  return begin[0] == '#' && begin[1] == '!';
}

// Without the lock: after vfork nobody would give it back.
int execute(int fd, Arguments arguments, Arguments environment) {
  const int result = static_cast<int>(::syscall(SYS_execveat, fd, "", arguments, environment, AT_EMPTY_PATH));
  kernel::KeepErrno keep;
  kernel::close(fd);
  return result;
}

// `next(const char *path)` returns -1 with errno.
template <typename Next>
int run(const char *path, Arguments arguments, Arguments environment, Next next) {
  if (refuse_for_working_directory(path)) return -1;
  bool ours = false;
  const int result = route(
      path, Follow::yes,
      [&](const Lookup &found) {
        ours = true;
        return open_program(found);
      },
      next);
  return ours && result >= 0 ? execute(result, arguments, environment) : result;
}

// A name without a slash is looked for in PATH.
template <typename Next>
int run_by_name(const char *file, Arguments arguments, Arguments environment, Next next) {
  if (kernel::is_null(file) || std::strchr(file, '/') != nullptr) return run(file, arguments, environment, next);
  if (refuse_for_working_directory(file)) return -1;
  std::string path;
  find_in_path(file, &path);
  return path.empty() ? next(file) : run(path.c_str(), arguments, environment, next);
}

// Who looks through PATH by himself, or for a hook, asks for many that are not there.
bool is_missing(const char *program) {
  const bool is_path = !kernel::is_null(program) && std::strchr(program, '/') != nullptr;
  return is_path && intercept::access(program, F_OK) != 0;
}

}  // namespace

void say_of_working_directory(const char *program) {
  if (!may_stand_in_tree() || !is_visible() || working_directory() == 0 || is_missing(program)) return;
  say("", kernel::is_null(program) ? "a program" : program,
      " is started with no working directory: this one's is in its RAM, where the other sees nothing");
}

bool refuse_for_working_directory(const char *program) {
  if (!is_visible()) return false;
  if (!has_gone_there_itself()) {
    say_of_working_directory(program);
    return false;
  }
  if (is_missing(program)) return true;
  say("", kernel::is_null(program) ? "a program" : program,
      " is not started: the working directory is in the RAM of this process, where it would see nothing");
  errno = EACCES;
  return true;
}

int open_program(const Lookup &found) {
  if (const int error = found.error_of_existing()) return -error;
  const Inode &inode = *found.inode();
  if (!inode.is_file() || !permits(inode, X_OK, Who::effective)) return -EACCES;
  // Open for reading, no Loader drops the bytes.
  const int fd = open_inode(inode, (inode.gate == nullptr ? O_PATH : O_RDONLY) | O_CLOEXEC);
  if (fd < 0) return fd;
  if (inode.gate != nullptr && !is_open(*inode.gate)) {
    kernel::close(fd);
    return -ETXTBSY;  // still being written, as to the kernel
  }
  const char *why = nullptr;
  if (is_script(fd)) why = " is not started: it is in the RAM of this process, where its interpreter could not open it";
  if (inode.execute_here) why = " is not started: this system forbids to execute files in RAM (vm.memfd_noexec)";
  if (why == nullptr) return fd;
  kernel::close(fd);
  say("", found.canonical(), why);
  return -EACCES;
}

void find_in_path(const char *name, std::string *path) {
  const char *directories = ::getenv("PATH");
  if (directories == nullptr || !is_active()) return;
  for (const char *at = directories;; ++at) {
    const std::size_t length = std::strcspn(at, ":");
    path->assign(at, length);
    *path += length == 0 ? "./" : "/";
    *path += name;
    if (may_be_ours(path->c_str())) {
      const Lookup lookup(AT_FDCWD, path->c_str(), Follow::yes);
      const bool runs = lookup.in_tree() && lookup.error_of_existing() == 0 && lookup.inode()->is_file() &&
                        permits(*lookup.inode(), X_OK, Who::effective);
      if (runs) return;
    }
    if (NEXT(access)(path->c_str(), X_OK) == 0) break;  // a real one comes first
    at += length;
    if (*at == '\0') break;
  }
  path->clear();
}

namespace intercept {

int execve(const char *path, Arguments arguments, Arguments environment) noexcept {
  return run(path, arguments, environment,
             [=](const char *real) { return NEXT(execve)(real, arguments, environment); });
}

int execv(const char *path, Arguments arguments) noexcept {
  return run(path, arguments, environ, [=](const char *real) { return NEXT(execv)(real, arguments); });
}

int execvp(const char *file, Arguments arguments) noexcept {
  return run_by_name(file, arguments, environ, [=](const char *real) { return NEXT(execvp)(real, arguments); });
}

int execvpe(const char *file, Arguments arguments, Arguments environment) noexcept {
  return run_by_name(file, arguments, environment,
                     [=](const char *real) { return NEXT(execvpe)(real, arguments, environment); });
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

// A memfd runs by its descriptor as it is.
int fexecve(int fd, Arguments arguments, Arguments environment) noexcept {
  if (refuse_for_working_directory("a program")) return -1;
  return NEXT(fexecve)(fd, arguments, environment);
}

int execveat(int dirfd, const char *path, Arguments arguments, Arguments environment, int flags) noexcept {
  if (refuse_for_working_directory(path)) return -1;
  const auto next = [=](int at, const char *real) {
    return NEXT(execveat) != nullptr
               ? NEXT(execveat)(at, real, arguments, environment, flags)
               : static_cast<int>(::syscall(SYS_execveat, at, real, arguments, environment, flags));
  };
  bool ours = false;
  const int result = route(
      dirfd, path, follow_unless((flags & AT_SYMLINK_NOFOLLOW) != 0),
      [&](const Lookup &found) {
        ours = true;
        return found.error_of_existing() == 0 && found.inode()->is_symlink() ? -ELOOP : open_program(found);
      },
      next);
  return ours && result >= 0 ? execute(result, arguments, environment) : result;
}

// Both start a shell from inside libc.
int system(const char *command) {
  if (command != nullptr) say_of_working_directory("the shell");
  return NEXT(system)(command);
}

FILE *popen(const char *command, const char *mode) {
  say_of_working_directory("the shell");
  return NEXT(popen)(command, mode);
}

}  // namespace intercept

}  // namespace diskless
