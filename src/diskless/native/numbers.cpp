// Calls by which one descriptor becomes two, or comes from another process: what is known of numbers goes with them.

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>

#include "counted.h"
#include "descriptor.h"
#include "hooks.h"
#include "socket.h"

namespace diskless {

namespace {

void receive_descriptors(struct msghdr &message) {
  for (cmsghdr *part = CMSG_FIRSTHDR(&message); part != nullptr; part = CMSG_NXTHDR(&message, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd;
      std::memcpy(&fd, CMSG_DATA(part) + i * sizeof fd, sizeof fd);
      forget_standing(fd);
    }
  }
}

// A directory's descriptor is open for writing (see open_directory), which nobody's can be.
inline int shown_flags(int fd, int flags) {
  if (flags < 0 || (flags & O_ACCMODE) != O_WRONLY) [[likely]]
    return flags;
  return describe(fd).directory ? flags & ~O_ACCMODE : flags;
}

inline void received(struct msghdr &message) {
  if (message.msg_name != nullptr) show_path(static_cast<sockaddr *>(message.msg_name), &message.msg_namelen);
  if (message.msg_controllen != 0) [[unlikely]]
    receive_descriptors(message);
}

}  // namespace

namespace intercept {

int dup(int fd) noexcept {
  const int made = NEXT(dup)(fd);
  if (made >= 0) copy_standing(fd, made);
  return made;
}

// Without the ellipsis, since the ABIs put what stands in its place where they put any other word.
#define DEFINE_FCNTL(name, symbol)                                           \
  int name##_of_words(int fd, int command, long argument) __asm__(symbol);   \
  int name##_of_words(int fd, int command, long argument) {                  \
    const int result = NEXT(name)(fd, command, argument);                    \
    if (command == F_GETFL) return shown_flags(fd, result);                  \
    if ((command == F_DUPFD || command == F_DUPFD_CLOEXEC) && result >= 0) { \
      copy_standing(fd, result);                                             \
    }                                                                        \
    return result;                                                           \
  }
DEFINE_FCNTL(fcntl, "_ZN8diskless9intercept5fcntlEiiz")
DEFINE_FCNTL(fcntl64, "_ZN8diskless9intercept7fcntl64Eiiz")

ssize_t recvmsg(int fd, struct msghdr *message, int flags) {
  const ssize_t result = NEXT(recvmsg)(fd, message, flags);
  if (result >= 0) received(*message);
  return result;
}

int recvmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags, struct timespec *timeout) {
  const int result = NEXT(recvmmsg)(fd, messages, count, flags, timeout);
  for (int i = 0; i < result; ++i) received(messages[i].msg_hdr);
  return result;
}

}  // namespace intercept

}  // namespace diskless
