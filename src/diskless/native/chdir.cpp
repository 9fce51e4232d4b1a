// The working directory's functions: chdir and its relatives, and what says where one is.

#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <shared_mutex>
#include <string>

#include "permission.h"
#include "route.h"

namespace diskless {

namespace {

// 0, or why nobody could go there.
int error_of_entering(const Inode &directory) {
  if (!directory.is_directory()) return -ENOTDIR;
  return permits(directory, X_OK, Who::effective) ? 0 : -EACCES;
}

int enter_found(Lookup &found) {
  if (const int error = found.error_of_existing()) return -error;
  if (const int error = error_of_entering(*found.inode())) return error;
  return shares_memory() || found.lock_for_change() ? enter(*found.inode()) : again;
}

int enter_descriptor(std::uint64_t number) {
  kernel::KeepErrno keep;
  const auto enter_with = [number](auto how) {
    Inode *directory = find_directory(number);
    if (directory == nullptr) return -ENOENT;
    const int error = error_of_entering(*directory);
    return error != 0 ? error : how(*directory);
  };
  if (shares_memory()) {
    std::shared_lock lock(tree_lock);
    return enter_with(enter);
  }
  const Change change;
  return enter_with(enter);
}

inline int left(int result) {
  if (result == 0 && may_stand_in_tree()) [[unlikely]]
    left_for_the_kernels();
  return result;
}

// Whether the working directory is one of ours: then sets *path, or returns the errno of one that was removed in *error.
bool name_working_directory(std::string *path, int *error) {
  const std::uint64_t number = is_visible() ? working_directory() : 0;
  if (number == 0) return false;
  std::shared_lock lock(tree_lock);
  const Inode *directory = find_directory(number);
  *error = directory == nullptr || directory->is_removed() ? ENOENT : 0;
  if (*error == 0) *path = path_of(*directory);
  return true;
}

// Between our question and the kernel's answer another thread may have gone into the Tree: then we ask again. So often
// that is no chance any more.
constexpr int most_turns = 100;

// As libc's getcwd, which allocates where it is given no buffer.
template <typename Next>
[[gnu::noinline]] char *get(char *buffer, std::size_t size, Next next) {
  std::string path;
  int error = 0;
  for (int turn = 1; !name_working_directory(&path, &error); ++turn) {
    char *answer = next();
    if (answer == nullptr || !is_a_nowhere(answer) || turn == most_turns) return answer;
    if (kernel::is_null(buffer)) ::free(answer);
  }
  if (!kernel::is_null(buffer) && size == 0) error = EINVAL;
  if (error == 0 && size != 0 && path.size() >= size) error = ERANGE;
  if (error == 0 && kernel::is_null(buffer)) {
    buffer = static_cast<char *>(::malloc(size == 0 ? path.size() + 1 : size));
    if (buffer == nullptr) error = ENOMEM;
  }
  if (error != 0) {
    errno = error;
    return nullptr;
  }
  return static_cast<char *>(std::memcpy(buffer, path.c_str(), path.size() + 1));
}

// The same where most often nobody stands in the Tree.
template <typename Next>
inline char *get_most_often(char *buffer, std::size_t size, Next next) {
  if (may_stand_in_tree()) [[unlikely]]
    return get(buffer, size, next);
  char *answer = next();
  if (answer == nullptr || !is_a_nowhere(answer)) [[likely]]
    return answer;
  if (kernel::is_null(buffer)) ::free(answer);
  return get(buffer, size, next);
}

}  // namespace

// getcwd(2), which returns the size.
long getcwd_by_number(char *buffer, std::size_t size) {
  std::string path;
  int error = 0;
  for (int turn = 1; !may_stand_in_tree() || !name_working_directory(&path, &error); ++turn) {
    const long length = ::syscall(SYS_getcwd, buffer, size);
    if (length <= 0 || !is_a_nowhere(buffer) || turn == most_turns) return length;
  }
  if (error != 0 || path.size() >= size) return settle(-static_cast<long>(error != 0 ? error : ERANGE));
  std::memcpy(buffer, path.c_str(), path.size() + 1);
  return static_cast<long>(path.size() + 1);
}

namespace intercept {

int chdir(const char *path) noexcept {
  return route(path, Follow::yes, enter_found, [](const char *real) { return left(NEXT(chdir)(real)); });
}

// A directory of ours is a file to the kernel, which says so.
int fchdir(int fd) noexcept {
  const int result = left(NEXT(fchdir)(fd));
  if (result == 0 || errno != ENOTDIR) return result;
  const Described described = describe(fd);
  return described.directory ? settle(enter_descriptor(described.number)) : result;
}

char *getcwd(char *buffer, size_t size) noexcept {
  return get_most_often(buffer, size, [=] { return NEXT(getcwd)(buffer, size); });
}

// `room` is the buffer's size as the compiler knows it; libc ends the program if more is asked for.
char *__getcwd_chk(char *buffer, size_t size, size_t room) noexcept {
  if (size > room) return NEXT(__getcwd_chk)(buffer, size, room);
  return get_most_often(buffer, size, [=] { return NEXT(__getcwd_chk)(buffer, size, room); });
}

char *getwd(char *buffer) noexcept {
  if (kernel::is_null(buffer)) return NEXT(getwd)(buffer);
  return get_most_often(buffer, PATH_MAX, [=] { return NEXT(getwd)(buffer); });
}

char *__getwd_chk(char *buffer, size_t room) noexcept {
  if (kernel::is_null(buffer)) return NEXT(__getwd_chk)(buffer, room);
  return get_most_often(buffer, room < PATH_MAX ? room : PATH_MAX, [=] { return NEXT(__getwd_chk)(buffer, room); });
}

// $PWD, if it leads there too: it may name symlinks that the user knows.
char *get_current_dir_name() noexcept {
  const auto next = [] { return NEXT(get_current_dir_name)(); };
  if (!may_stand_in_tree()) [[likely]]
    return get_most_often(nullptr, 0, next);
  struct stat here, there;
  const char *wished = ::getenv("PWD");
  if (wished != nullptr && wished[0] == '/' && intercept::stat(".", &here) == 0 &&
      intercept::stat(wished, &there) == 0 && here.st_dev == there.st_dev && here.st_ino == there.st_ino) {
    return ::strdup(wished);
  }
  return get(nullptr, 0, next);
}

}  // namespace intercept

}  // namespace diskless
