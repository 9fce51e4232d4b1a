// posix_spawn and its file actions.
//
// The actions are done in the new process, past every hook. So a file of the Tree is opened when the action is added,
// by this process, and handed over by its number; a working directory in the Tree is refused. What the actions are for
// us is noted in the words that libc leaves unused at the end of the object: they are zero to begin with.

#include <fcntl.h>
#include <spawn.h>

#include <cstring>
#include <string>

#include "guard.h"
#include "message.h"
#include "open.h"
#include "program.h"
#include "route.h"

namespace diskless {

namespace {

using Actions = posix_spawn_file_actions_t;
using Arguments = char *const *;

constexpr int moves = 1;    // the new process changes to a directory of the kernel's
constexpr int refused = 2;  // one of the actions could not be added: to leave it out would be something else
constexpr int first_file = 1, end_of_files = 16;  // descriptors of files of the Tree, each one too large

int &mark(Actions *actions) { return actions->__pad[0]; }
int mark_of(const Actions *actions) { return actions == nullptr ? 0 : actions->__pad[0]; }

constexpr const char *before = "no program is started in ";
constexpr const char *after = ": it is in the RAM of this process, where others see nothing";

// Whether a path is for the new process to resolve, which has left our working directory by then.
bool is_relative_elsewhere(const Actions *actions, const char *path) {
  return (mark_of(actions) & moves) != 0 && !kernel::is_null(path) && path[0] != '/';
}

int refuse(Actions *actions, int error) {
  mark(actions) |= refused;
  return error;
}

int add_open_file(Actions *actions, int number, int fd) {
  int place = first_file;
  while (place < end_of_files && actions->__pad[place] != 0) ++place;
  const int kept = place == end_of_files ? -EMFILE : keep(fd);
  if (place == end_of_files) kernel::close(fd);
  if (kept < 0) return refuse(actions, -kept);
  actions->__pad[place] = kept + 1;
  return ::posix_spawn_file_actions_adddup2(actions, kept, number);
}

int refuse_directory(const Lookup &found) {
  if (const int error = found.error_of_existing()) return -error;
  if (!found.inode()->is_directory()) return -ENOTDIR;
  say(before, path_of(*found.inode()), after);
  return -EACCES;
}

// These functions return an errno, and leave the variable alone.
int error_of_starting(const char *program, const Actions *actions) {
  if ((mark_of(actions) & refused) != 0) return EACCES;
  if ((mark_of(actions) & moves) == 0) say_of_working_directory(program);
  return 0;
}

// `next(const char *path)` returns an errno.
template <typename Next>
int spawn(const char *path, const Actions *actions, Next next) {
  if (const int error = error_of_starting(path, actions)) return error;
  kernel::KeepErrno keep;
  if (is_relative_elsewhere(actions, path)) return next(path);
  int fd = -1, error = 0;
  const int result = route(
      path, Follow::yes, [&](const Lookup &found) { return fd = open_program(found); },
      [&](const char *real) {
        error = next(real);
        return 0;
      });
  if (result < 0) return errno;
  if (fd < 0) return error;
  error = next(kernel::DescriptorPath(fd).text);
  kernel::close(fd);
  return error;
}

}  // namespace

namespace intercept {

int posix_spawn(pid_t *pid, const char *path, const Actions *actions, const posix_spawnattr_t *attributes,
                Arguments arguments, Arguments environment) {
  return spawn(path, actions, [=](const char *real) {
    return NEXT(posix_spawn)(pid, real, actions, attributes, arguments, environment);
  });
}

int posix_spawnp(pid_t *pid, const char *file, const Actions *actions, const posix_spawnattr_t *attributes,
                 Arguments arguments, Arguments environment) {
  const auto next = [=](const char *real) {
    return NEXT(posix_spawnp)(pid, real, actions, attributes, arguments, environment);
  };
  if (kernel::is_null(file) || std::strchr(file, '/') != nullptr) return spawn(file, actions, next);
  std::string path;
  find_in_path(file, &path);
  if (!path.empty()) return spawn(path.c_str(), actions, next);
  const int error = error_of_starting(file, actions);
  return error != 0 ? error : next(file);
}

int posix_spawn_file_actions_addopen(Actions *actions, int number, const char *path, int flags, mode_t mode) noexcept {
  const auto next = [=](const char *real) {
    return NEXT(posix_spawn_file_actions_addopen)(actions, number, real, flags, mode);
  };
  if (is_relative_elsewhere(actions, path)) return next(path);
  kernel::KeepErrno keep;
  int fd = -1, error = 0;
  const int result = route(
      path, follow_of(flags), [&](Lookup &found) { return fd = open_found(found, flags | O_CLOEXEC, mode); },
      [&](const char *real) {
        error = next(real);
        return 0;
      });
  if (result < 0) return refuse(actions, errno);
  return fd < 0 ? error : add_open_file(actions, number, fd);
}

int posix_spawn_file_actions_addchdir_np(Actions *actions, const char *path) noexcept {
  const auto next = [=](const char *real) {
    const int error = NEXT(posix_spawn_file_actions_addchdir_np)(actions, real);
    if (error == 0 && (real[0] == '/' || !may_stand_in_tree())) mark(actions) |= moves;
    return error;
  };
  if (is_relative_elsewhere(actions, path)) return next(path);
  kernel::KeepErrno keep;
  int error = 0;
  const int result = route(path, Follow::yes, refuse_directory, [&](const char *real) {
    error = next(real);
    return 0;
  });
  return result < 0 ? refuse(actions, errno) : error;
}

int posix_spawn_file_actions_addfchdir_np(Actions *actions, int fd) noexcept {
  const Described described = describe(fd);
  if (described.directory) {
    say(before, "the directory of a descriptor", after);
    return refuse(actions, EACCES);
  }
  const int error = NEXT(posix_spawn_file_actions_addfchdir_np)(actions, fd);
  if (error == 0) mark(actions) |= moves;
  return error;
}

int posix_spawn_file_actions_destroy(Actions *actions) noexcept {
  for (int place = first_file; place < end_of_files; ++place) {
    if (actions->__pad[place] > 0) release(actions->__pad[place] - 1);
    actions->__pad[place] = 0;
  }
  return NEXT(posix_spawn_file_actions_destroy)(actions);
}

}  // namespace intercept

}  // namespace diskless
