// POSIX shared memory and named semaphores while a scratch covers /dev/shm: their names are files there, as libc has
// them on a tmpfs, but libc opens those from inside. The file's mapping is what processes share that come of this one
// by fork.

#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <semaphore.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cstdarg>
#include <cstring>
#include <string>
#include <string_view>
#include <unordered_map>

#include "route.h"

namespace diskless {

namespace {

constexpr const char *directory = "/dev/shm";

// Not inlined with a literal, of which the compiler would say that characters beyond its end are compared.
[[gnu::noipa]] bool is_directory_of_ours(const char *path) {
  if (!may_be_ours(path)) return false;
  kernel::KeepErrno keep;
  const Lookup lookup(AT_FDCWD, path, Follow::yes);
  return lookup.in_tree() && lookup.error_of_existing() == 0 && lookup.inode()->is_directory();
}

bool covers_shared_memory() { return is_directory_of_ours(directory); }

// The path for a name, or "" where libc takes it for none.
std::string path_for(const char *name, std::string_view prefix) {
  std::string_view rest = name;
  while (rest.starts_with('/')) rest.remove_prefix(1);
  if (rest.empty() || rest.find('/') != std::string_view::npos || rest.size() + prefix.size() > NAME_MAX) return {};
  return std::string(directory) + '/' + std::string(prefix) + std::string(rest);
}

constexpr std::string_view semaphores = "sem.";

// Opening one twice gives one address, by POSIX. Guarded by tree_lock.
struct Opened {
  sem_t *semaphore;
  int count;
};

std::unordered_map<ino_t, Opened> &opened() {
  static auto &instance = *new std::unordered_map<ino_t, Opened>;
  return instance;
}
__attribute__((constructor)) void begin() { opened(); }

// Closes the descriptor.
sem_t *map_semaphore(int fd) {
  struct stat status;
  sem_t *semaphore = SEM_FAILED;
  if (kernel::fstat(fd, &status) != 0) {
    kernel::close(fd);
    return semaphore;
  }
  begin_change();
  const auto known = opened().find(status.st_ino);
  if (known != opened().end()) {
    ++known->second.count;
    semaphore = known->second.semaphore;
  } else if (status.st_size < static_cast<off_t>(sizeof(sem_t))) {
    errno = EINVAL;
  } else {
    void *memory = ::mmap(nullptr, sizeof(sem_t), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (memory != MAP_FAILED) {
      semaphore = static_cast<sem_t *>(memory);
      opened()[status.st_ino] = {semaphore, 1};
    }
  }
  end_change();
  kernel::KeepErrno keep;
  kernel::close(fd);
  return semaphore;
}

// A file with the semaphore in it gets the name at once, so that nobody finds one half made. A descriptor, or -1.
int make_semaphore(const std::string &path, mode_t mode, unsigned value) {
  // The linker would take the newest version of it (2.34); whoever opens a semaphore has the library that it was in.
  const auto initialize = reinterpret_cast<decltype(&::sem_init)>(::dlsym(RTLD_DEFAULT, "sem_init"));
  sem_t made;
  std::memset(&made, 0, sizeof made);
  if (initialize == nullptr) return settle(-ENOSYS);
  if (initialize(&made, 1, value) != 0) return -1;
  const int fd = intercept::open(directory, O_TMPFILE | O_RDWR | O_CLOEXEC, mode);
  if (fd < 0) return -1;
  const ssize_t written = intercept::write(fd, &made, sizeof made);
  if (written != sizeof made) {
    if (written >= 0) errno = ENOSPC;
  } else if (intercept::linkat(AT_FDCWD, kernel::DescriptorPath(fd).text, AT_FDCWD, path.c_str(), AT_SYMLINK_FOLLOW) == 0) {
    return fd;
  }
  kernel::KeepErrno keep;
  kernel::close(fd);
  return -1;
}

sem_t *open_semaphore(const std::string &path, int flags, mode_t mode, unsigned value) {
  const int before = errno;
  while (true) {
    int fd = -1;
    if ((flags & (O_CREAT | O_EXCL)) != (O_CREAT | O_EXCL)) {
      fd = intercept::open(path.c_str(), (flags & ~(O_CREAT | O_ACCMODE)) | O_RDWR | O_NOFOLLOW | O_CLOEXEC, 0);
      if (fd < 0 && (errno != ENOENT || (flags & O_CREAT) == 0)) return SEM_FAILED;
    }
    if (fd < 0) fd = make_semaphore(path, mode, value);
    if (fd >= 0) {
      errno = before;
      return map_semaphore(fd);
    }
    if (errno != EEXIST || (flags & O_EXCL) != 0) return SEM_FAILED;
  }
}

int remove_name(const std::string &path, int error_of_no_name) {
  if (path.empty()) return settle(-error_of_no_name);
  const int result = intercept::unlink(path.c_str());
  if (result != 0 && errno == EPERM) errno = EACCES;
  return result;
}

}  // namespace

namespace intercept {

int shm_open(const char *name, int flags, mode_t mode) {
  if (!covers_shared_memory()) return NEXT(shm_open)(name, flags, mode);
  const std::string path = path_for(name, "");
  if (path.empty()) return settle(-EINVAL);
  const int fd = intercept::open(path.c_str(), flags | O_NOFOLLOW | O_CLOEXEC, mode);
  if (fd < 0 && errno == EISDIR) errno = EINVAL;
  return fd;
}

int shm_unlink(const char *name) {
  if (!covers_shared_memory()) return NEXT(shm_unlink)(name);
  return remove_name(path_for(name, ""), ENOENT);
}

sem_t *sem_open(const char *name, int flags, ...) noexcept {
  std::va_list words;
  va_start(words, flags);
  const mode_t mode = (flags & O_CREAT) != 0 ? va_arg(words, mode_t) : 0;
  const unsigned value = (flags & O_CREAT) != 0 ? va_arg(words, unsigned) : 0;
  va_end(words);
  if (!covers_shared_memory()) return NEXT(sem_open)(name, flags, mode, value);
  const std::string path = path_for(name, semaphores);
  if (!path.empty()) return open_semaphore(path, flags, mode, value);
  errno = EINVAL;
  return SEM_FAILED;
}

int sem_close(sem_t *semaphore) noexcept {
  begin_change();
  auto found = opened().begin();
  while (found != opened().end() && found->second.semaphore != semaphore) ++found;
  const bool ours = found != opened().end();
  const bool last = ours && --found->second.count == 0;
  if (last) opened().erase(found);
  end_change();
  if (!ours) return NEXT(sem_close)(semaphore);
  return last ? ::munmap(semaphore, sizeof(sem_t)) : 0;
}

int sem_unlink(const char *name) noexcept {
  if (!covers_shared_memory()) return NEXT(sem_unlink)(name);
  return remove_name(path_for(name, semaphores), ENOENT);
}

}  // namespace intercept

}  // namespace diskless
