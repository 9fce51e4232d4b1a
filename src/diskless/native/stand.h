// Questions that the kernel answers better than we would.
#pragma once

#include <sys/stat.h>

#include "descriptor.h"
#include "lookup.h"

namespace diskless {

// A descriptor that the kernel may be asked about in place of an inode: the file's, or a directory's for the moment.
class Stand {
 public:
  explicit Stand(const Inode &inode) : made_(!inode.is_file()), fd_(inode.fd) {
    if (made_) fd_ = open_directory(inode, O_RDONLY | O_CLOEXEC);
  }
  ~Stand() {
    kernel::KeepErrno keep;
    if (made_ && fd_ >= 0) kernel::close(fd_);
  }
  Stand(const Stand &) = delete;
  Stand &operator=(const Stand &) = delete;
  int fd() const { return fd_; }

 private:
  const bool made_;
  int fd_;
};

template <typename Ask>
long ask(const Lookup &found, Ask question) {
  if (const int error = found.error_of_existing()) return -error;
  const Stand stand(*found.inode());
  if (stand.fd() < 0) return stand.fd();
  struct stat status;
  if (const int error = status_of(*found.inode(), &status)) return error;
  errno = 0;
  const long result = question(stand.fd());
  return result == -1 && errno != 0 ? -errno : result;
}

}  // namespace diskless
