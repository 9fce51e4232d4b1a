#include "descriptor.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/resource.h>

#include <atomic>
#include <cstring>
#include <shared_mutex>
#include <utility>

#include "counted.h"
#include "guard.h"
#include "kernel.h"

namespace diskless {

namespace {

// tmpfs counts twenty bytes an entry, "." and ".." included.
constexpr off_t entry_size = 20;

// /proc/self/fd, or -1. A child that was forked past pthread_atfork has its parent's: what is opened by way of it must
// be looked at.
std::atomic<int> descriptors{-1};

int open_descriptors() { return kernel::open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC); }

off_t size_of(const Inode &directory) { return directory_size + static_cast<off_t>(directory.number); }

bool stands_for(int fd, const Identity &memory) {
  struct stat status;
  return kernel::fstat(fd, &status) == 0 && Identity{status.st_dev, status.st_ino} == memory;
}

// Returns `opened` where it is that file.
int confirm(int opened, const Identity &memory) {
  if (opened < 0 || stands_for(opened, memory)) return opened;
  kernel::close(opened);
  return -EIO;
}

int open_shortly(const Inode &file, int flags) {
  const int from = descriptors.load(std::memory_order_relaxed);
  if (from < 0 || (flags & O_TRUNC) != 0) return -EIO;
  return confirm(kernel::openat(from, kernel::DescriptorPath(file.fd).number, flags), file.memory);
}

int open_file(const Inode &file, int flags) {
  flags &= ~not_again;
  int opened = open_shortly(file, flags);
  if (opened < 0) {
    // What is emptied by being opened must be the right one before.
    if ((flags & O_TRUNC) != 0 && !stands_for(file.fd, file.memory)) return -EIO;
    opened = confirm(reopen(file.fd, flags), file.memory);
  }
  if (opened == -ENOENT || opened == -ENOTDIR || opened == -ENXIO) return -EIO;
  if (opened >= 0) set_standing(opened, *file.volume);
  return opened;
}

// The number stays, and leads to the child's own.
void hold_own_descriptors() {
  kernel::KeepErrno keep;
  const int held = descriptors.load();
  if (held < 0) return;
  const int own = open_descriptors();
  if (own >= 0) {
    ::syscall(SYS_dup3, own, held, O_CLOEXEC);
    kernel::close(own);
  } else {
    let_go_of_descriptors();
  }
}

__attribute__((constructor)) void begin() { ::pthread_atfork(nullptr, nullptr, hold_own_descriptors); }

void fill(const Inode &inode, struct stat *status) {
  std::memset(status, 0, sizeof *status);
  status->st_dev = memory_device.load(std::memory_order_relaxed);
  status->st_ino = inode.number;
  status->st_uid = inode.owner;
  status->st_gid = inode.group;
  status->st_blksize = 4096;
  status->st_atim = inode.accessed;
  status->st_mtim = inode.modified;
  status->st_ctim = inode.changed;
  if (inode.is_symlink()) {
    status->st_mode = S_IFLNK | 0777;
    status->st_nlink = static_cast<nlink_t>(inode.names.size());
    status->st_size = static_cast<off_t>(inode.target.size());
  } else if (inode.is_socket()) {
    status->st_mode = S_IFSOCK | inode.mode;
    status->st_nlink = static_cast<nlink_t>(inode.names.size());
  } else {
    status->st_mode = S_IFDIR | inode.mode;
    status->st_nlink = inode.is_removed() ? 0 : static_cast<nlink_t>(2 + inode.subdirectories);
    status->st_size = static_cast<off_t>(2 + inode.entries.size()) * entry_size;
  }
}

// A descriptor of the memfd that a directory, still open, was opened with before: so all that have it open lock the same.
// -1 where there is none. By O_PATH, since the number may be anybody's by now.
int memory_in_use(const Inode &directory) {
  const int number = directory.opened.load(std::memory_order_relaxed);
  if (number < 0) return -1;
  kernel::KeepErrno keep;
  const int fd = reopen(number, O_PATH | O_CLOEXEC);
  if (fd < 0) return -1;
  struct stat status;
  if (kernel::fstat(fd, &status) == 0 && status.st_dev == memory_device.load(std::memory_order_relaxed) &&
      S_ISREG(status.st_mode) && status.st_size == size_of(directory)) {
    return fd;
  }
  kernel::close(fd);
  return -1;
}

// A new one, or -errno.
int make_memory(const Inode &directory) {
  // Past this limit the kernel would send SIGXFSZ.
  struct rlimit limit;
  const off_t size = size_of(directory);
  if (::getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur < static_cast<rlim_t>(size)) return -EFBIG;
  const int fd = kernel::memfd_create("diskless-directory");
  if (fd < 0) return -errno;
  if (::syscall(SYS_ftruncate, fd, size) == 0 && kernel::fcntl(fd, kernel::add_seals, kernel::all_seals) == 0)
    return fd;
  const int error = errno;
  kernel::close(fd);
  return -error;
}

}  // namespace

void hold_descriptors() {
  kernel::KeepErrno guard;
  const int opened = open_descriptors();
  const int kept = opened < 0 ? -1 : keep(opened);
  int none = -1;
  if (kept >= 0 && !descriptors.compare_exchange_strong(none, kept)) release(kept);
}

void let_go_of_descriptors() { release(descriptors.exchange(-1)); }

int reopen(int fd, int flags) {
  int opened = kernel::open(kernel::DescriptorPath(fd).text, flags);
  // The thread that began the process may have ended, and its /proc/self/fd with it.
  if (opened < 0 && errno == ENOENT) opened = kernel::open(kernel::DescriptorPath(fd, "thread-self").text, flags);
  return opened < 0 ? -errno : opened;
}

Described describe(const struct stat &status) {
  if (!S_ISREG(status.st_mode) || status.st_dev != memory_device.load(std::memory_order_relaxed)) return {};
  const Identity memory{status.st_dev, status.st_ino};
  std::shared_lock lock(tree_lock);
  if (find_file(memory) != nullptr) return {.ours = true, .memory = memory};
  if (!is_size_of_directory(status.st_size)) return {.memory = memory};
  return {.ours = true, .directory = true, .number = static_cast<std::uint64_t>(status.st_size - directory_size)};
}

Described describe(int fd) {
  if (fd < 0) return {};
  const int before = errno;
  struct stat status;
  if (kernel::fstat(fd, &status) == 0) return describe(status);
  errno = before;
  return {};
}

int open_inode(const Inode &inode, int flags) {
  return inode.is_directory() ? open_directory(inode, flags) : open_file(inode, flags);
}

int open_directory(const Inode &directory, int flags) {
  if ((flags & (O_DIRECT | O_PATH)) == O_DIRECT) return -EINVAL;
  // O_NOATIME is for a file's owner, who may be another than the one that opened it before.
  const bool may_share = (flags & O_NOATIME) == 0;
  int fd = may_share ? memory_in_use(directory) : -1;
  const bool anew = fd < 0;
  if (anew) fd = make_memory(directory);
  if (fd < 0) return fd;
  // Open for writing, which the seals forbid: a read then fails as one of a directory does, where it would otherwise
  // give zeros without end. And flock and fsync work, as they do on a directory.
  const int access = (flags & O_PATH) != 0 ? O_PATH : O_WRONLY | (flags & (O_APPEND | O_NONBLOCK | O_SYNC | O_NOATIME));
  const int opened = reopen(fd, access | O_CLOEXEC);
  if (opened < 0) {
    kernel::close(fd);
    return opened;
  }
  // The caller gets the lowest free number, as open(2) promises.
  const long moved = ::syscall(SYS_dup3, opened, fd, flags & O_CLOEXEC);
  const int error = moved < 0 ? errno : 0;
  kernel::close(opened);
  if (error != 0) kernel::close(fd);
  if (error == 0 && anew && may_share) directory.opened.store(fd, std::memory_order_relaxed);
  return error != 0 ? -error : fd;
}

int status_of(const Inode &inode, struct stat *status) {
  if (!inode.is_file()) {
    fill(inode, status);
    return 0;
  }
  kernel::KeepErrno keep;
  if (kernel::fstat(inode.fd, status) != 0 || !(Identity{status->st_dev, status->st_ino} == inode.memory)) return -EIO;
  amend_status(inode, status);
  return 0;
}

void amend_status(const Inode &file, struct stat *status) {
  if (!file.owns_fd) status->st_mode = S_IFREG | file.mode;
  if (file.execute_here) status->st_mode = (status->st_mode & ~0111u) | (file.mode & 0111);
  if (file.group_here) status->st_gid = file.group;
  status->st_nlink = static_cast<nlink_t>(file.names.size());
  const timespec &changed = file.changed;
  if (std::pair(changed.tv_sec, changed.tv_nsec) > std::pair(status->st_ctim.tv_sec, status->st_ctim.tv_nsec)) {
    status->st_ctim = changed;
  }
}

void status_of_removed_directory(std::uint64_t number, struct stat *status) {
  Inode removed;
  removed.kind = Inode::Kind::directory;
  removed.mode = 0555;
  removed.number = number;
  fill(removed, status);
  status->st_nlink = 0;
}

}  // namespace diskless
