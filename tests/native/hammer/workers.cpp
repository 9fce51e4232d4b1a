#include "workers.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <climits>
#include <cstdio>

#include "library.h"

namespace {

// What a call may say where others take away what it is about. Anything else is wrong.
bool may_be(int error) {
  switch (error) {
    case ENOENT:
    case EEXIST:
    case ENOTDIR:
    case EISDIR:
    case ENOTEMPTY:
    case ELOOP:
    case EINVAL:  // a directory into itself
    case EPERM:   // a hard link to a directory
    case ENAMETOOLONG: return true;
    default: return false;
  }
}

void check(long result, const char *call, const std::string &path) {
  if (result < 0 && !may_be(errno)) fail(call, path.c_str());
}

void check_open(int fd, const std::string &path) {
  check(fd, "open", path);
  if (fd >= 0 && ::close(fd) != 0) fail("close", path.c_str());
}

}  // namespace

void use_what_stays() {
  const int fd = ::open(stays.c_str(), O_RDWR | O_CLOEXEC);
  struct stat status;
  char letter = 0;
  if (fd < 0 || ::pread(fd, &letter, 1, 0) != 1 || letter != 's') fail("what stays");
  if (::pwrite(fd, &letter, 1, 0) != 1 || ::fstat(fd, &status) != 0 || status.st_size != 1) fail("what stays");
  ::close(fd);
}

void list(const std::string &directory) {
  DIR *stream = ::opendir(directory.c_str());
  if (stream == nullptr) return check(-1, "opendir", directory);
  while (const dirent *entry = ::readdir(stream)) {
    struct stat status;
    check(::fstatat(::dirfd(stream), entry->d_name, &status, AT_SYMLINK_NOFOLLOW), "fstatat", entry->d_name);
  }
  ::closedir(stream);
}

void remove_everything() {
  const auto remove_below = [](const auto &self, const std::string &directory) -> void {
    DIR *stream = ::opendir(directory.c_str());
    if (stream == nullptr) fail("opendir", directory.c_str());
    while (const dirent *entry = ::readdir(stream)) {
      const std::string name = entry->d_name;
      if (name == "." || name == "..") continue;
      const std::string below = directory + "/" + name;
      if (entry->d_type == DT_DIR) self(self, below);
      if (::remove(below.c_str()) != 0) fail("remove", below.c_str());
    }
    ::closedir(stream);
  };
  remove_below(remove_below, root);
}

unsigned Worker::below(unsigned end) {
  state_ = state_ * 1664525u + 1013904223u;
  return (state_ >> 8) % end;
}

std::string Worker::path() {
  std::string path = root;
  for (unsigned depth = 1 + below(3); depth > 0; --depth) {
    path += '/';
    path += static_cast<char>('a' + below(4));
  }
  return path;
}

void Worker::hold(int fd) {
  if (held_ >= 0) ::close(held_);
  held_ = fd;
}

void Worker::let_go() { hold(-1); }

void Worker::work(int count) {
  for (int i = 0; i < count; ++i) call(below(20));
}

void Worker::call(unsigned what) {
  static const std::string bytes(20'000, 'x');
  const std::string one = path(), other = path();
  const unsigned size = below(20'000);
  switch (what) {
    case 0:
    case 1: {
      const int fd = ::open(one.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | (below(2) != 0 ? O_TRUNC : 0), 0644);
      check(fd, "open", one);
      if (fd < 0) return;
      if (::write(fd, bytes.data(), size) != static_cast<ssize_t>(size)) fail("write", one.c_str());
      return hold(fd);
    }
    case 2: return check_open(::open(one.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600), one);
    case 3: return check_open(::open(one.c_str(), O_RDONLY | O_CLOEXEC), one);
    case 4: {
      const int fd = ::open(root.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0644);
      check(fd, "open O_TMPFILE", root);
      if (fd < 0) return;
      const std::string link = "/proc/self/fd/" + std::to_string(fd);
      check(::linkat(AT_FDCWD, link.c_str(), AT_FDCWD, one.c_str(), AT_SYMLINK_FOLLOW), "linkat", one);
      return hold(fd);
    }
    case 5:
    case 6: return check(::rename(one.c_str(), other.c_str()), "rename", one);
    case 7:
      return check(::renameat2(AT_FDCWD, one.c_str(), AT_FDCWD, other.c_str(), RENAME_EXCHANGE), "renameat2", one);
    case 8: return check(::link(one.c_str(), other.c_str()), "link", one);
    case 9: return check(::symlink(below(2) != 0 ? "a" : other.c_str(), one.c_str()), "symlink", one);
    case 10: return check(::unlink(one.c_str()), "unlink", one);
    case 11:
    case 12: return check(::mkdir(one.c_str(), 0755), "mkdir", one);
    case 13: return check(::rmdir(one.c_str()), "rmdir", one);
    case 14: return list(one.substr(0, one.rfind('/')));
    case 15: {
      struct stat status;
      return check(::stat(one.c_str(), &status), "stat", one);
    }
    case 16: return check(::truncate(one.c_str(), static_cast<off_t>(size)), "truncate", one);
    case 17: return check(::chmod(one.c_str(), 0755), "chmod", one);
    case 18: {
      char text[PATH_MAX];
      return check(::realpath(one.c_str(), text) == nullptr ? -1 : 0, "realpath", one);
    }
    default: {
      struct statvfs space;
      if (::statvfs(root.c_str(), &space) != 0) fail("statvfs");
      return use_what_stays();
    }
  }
}
