// Making files: each is a memfd, to which a descriptor of ours leads.

#include <sys/stat.h>

#include <cstdio>
#include <string>
#include <string_view>

#include "counted.h"
#include "descriptor.h"
#include "guard.h"
#include "kernel.h"
#include "message.h"
#include "permission.h"

namespace diskless {

namespace {

// The names of memfds, which /proc shows: of files with a name in the Tree, of those that may get one, and of those
// that may not. They end in the volume's number, so that it is known when the name is gone.
constexpr const char *named = "diskless", *unnamed = "diskless-unnamed", *unnameable = "diskless-unnameable";

struct MemoryName {
  char text[48];
  MemoryName(const char *kind, const Volume &volume) {
    std::snprintf(text, sizeof text, "%s-%lu", kind, static_cast<unsigned long>(volume.number));
  }
};

int refused(const Inode &directory, int error) {
  if (error == -EMFILE) {
    say("no file is made in ", path_of(directory),
        ": each has a descriptor, and this process may have no more (RLIMIT_NOFILE, `ulimit -Hn`)");
  }
  return error;
}

// `fd` is the new memfd, and the lowest free number: which the caller gets, with the flags asked for.
int hand_over(int fd, int flags) {
  constexpr int as_created = O_RDWR | O_CLOEXEC | not_again | O_TRUNC | O_LARGEFILE | O_NOCTTY;
  if ((flags & O_ACCMODE) == O_RDWR && (flags & ~(as_created | O_DIRECTORY)) == 0) {
    if ((flags & O_CLOEXEC) == 0) kernel::fcntl(fd, F_SETFD, 0);
    return fd;
  }
  const int opened = reopen(fd, (flags & ~(not_again | O_DIRECTORY)) | O_CLOEXEC);
  if (opened < 0) return opened;
  const long moved = ::syscall(SYS_dup3, opened, fd, flags & O_CLOEXEC);
  const int error = errno;
  kernel::close(opened);
  return moved < 0 ? -error : fd;
}

}  // namespace

int create(const Inode &directory, int flags, mode_t mode, Inode **made) {
  const bool stays_unnamed = made == nullptr && (flags & O_EXCL) != 0;
  const MemoryName name(made != nullptr ? named : stays_unnamed ? unnameable : unnamed, *directory.volume);
  bool refuses_execute = false;
  // Not to be sealed, as files of a tmpfs are not.
  int fd = kernel::memfd_create(name.text, 0, &refuses_execute);
  if (fd < 0 && errno == EMFILE && raise_descriptor_limit()) fd = kernel::memfd_create(name.text, 0, &refuses_execute);
  if (fd < 0) return refused(directory, -errno);
  struct stat status;
  int result = kernel::fstat(fd, &status) != 0 ? -errno : 0;
  // What leads to it for us is no open file: it holds no lock, and keeps nobody from running the file.
  const int lead = result != 0 || made == nullptr ? -1 : reopen(fd, O_PATH | O_CLOEXEC);
  const int kept = lead < 0 ? lead : keep(lead);
  if (made != nullptr && kept < 0 && result == 0) result = kept;
  if (result == 0) result = hand_over(fd, flags);
  if (result < 0) {
    kernel::close(fd);
    if (kept >= 0) release(kept);
    return refused(directory, result);
  }
  // Last, since a file may be made that its maker may not open again.
  bool group_here = false;
  if ((directory.mode & S_ISGID) != 0) {
    if ((mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP) && !is_privileged() &&
        !has_group(directory.group, Who::effective)) {
      mode &= ~static_cast<mode_t>(S_ISGID);
    }
    group_here = ::syscall(SYS_fchown, fd, -1, directory.group) != 0;
  }
  if (::syscall(SYS_fchmod, fd, mode) != 0 && refuses_execute) ::syscall(SYS_fchmod, fd, mode & ~0111u);
  set_standing(result, *directory.volume);
  if (made == nullptr) return result;
  *made = make_file(kept, {status.st_dev, status.st_ino});
  (*made)->volume = directory.volume;
  (*made)->execute_here = refuses_execute;
  (*made)->group_here = group_here;
  (*made)->group = directory.group;
  (*made)->mode = mode;
  return result;
}

Unnamed describe_unnamed(int fd, const Volume &volume) {
  kernel::KeepErrno keep;
  struct stat status;
  if (kernel::fstat(fd, &status) != 0 || status.st_dev != memory_device.load(std::memory_order_relaxed)) {
    return Unnamed::no;
  }
  char text[80];
  const ssize_t length = kernel::readlink(kernel::DescriptorPath(fd).text, text, sizeof text);
  if (length <= 0) return Unnamed::no;
  const std::string_view link{text, static_cast<std::size_t>(length)};
  const std::string wanted = std::string("/memfd:") + MemoryName(unnamed, volume).text + " (deleted)";
  if (link == wanted) return Unnamed::linkable;
  return link.starts_with("/memfd:diskless") ? Unnamed::removed : Unnamed::no;
}

bool is_unnamed(int fd) {
  char text[16];
  constexpr std::string_view ours = "/memfd:diskless";
  return kernel::readlink(kernel::DescriptorPath(fd).text, text, sizeof text) >= static_cast<ssize_t>(ours.size()) &&
         ours == std::string_view{text, ours.size()};
}

}  // namespace diskless
