// Unix sockets on a path of the Tree. The kernel can bind none there, so it binds an abstract one: a secret of this
// process and those that come of it by fork, and the path. So a socket that a child has bound is found by its path,
// though its name is in the child's copy of the Tree only. Abstract sockets know no permissions: who connects must be
// allowed to write to the inode, and peers of other users, who may have read the name in /proc, are let go at accept.

#include "socket.h"

#include <sys/random.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <set>
#include <shared_mutex>
#include <string>
#include <string_view>

#include "permission.h"
#include "route.h"
#include "umask.h"

namespace diskless {

namespace {

constexpr std::size_t before_path = offsetof(sockaddr_un, sun_path);
constexpr std::size_t secret_length = 12;

// What follows the zero of an abstract address. A path too long for it is named by its hash.
struct Name {
  char secret[secret_length];
  char turn;           // counts on where an unlinked socket still has the name
  char type;           // SOCK_STREAM, …: the kernel keeps their names apart
  char kind;           // 'p' or 'h'
  char path[sizeof(sockaddr_un::sun_path) - 1 - secret_length - 3];
};
static_assert(sizeof(Name) == sizeof(sockaddr_un::sun_path) - 1);

char secret[secret_length];
std::atomic<bool> bound{false};  // whether a socket was ever bound in the Tree

// The addresses of sockets that had a name in this process's Tree. Guarded by tree_lock.
std::set<std::string, std::less<>> &known() {
  static auto &instance = *new std::set<std::string, std::less<>>;
  return instance;
}

__attribute__((constructor)) void begin() {
  known();
  static constexpr char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";
  unsigned char random[sizeof secret] = {};
  ::syscall(SYS_getrandom, random, sizeof random, 0);
  for (std::size_t i = 0; i < sizeof secret; ++i) secret[i] = letters[random[i] % 64];
}

struct Address {
  sockaddr_un value{};
  socklen_t length = 0;

  const sockaddr *get() const { return reinterpret_cast<const sockaddr *>(&value); }

  std::string_view text() const { return {value.sun_path, length - before_path}; }

  // The abstract one for a path of the Tree.
  void become(std::string_view path, int type, unsigned turn) {
    Name name{};
    std::memcpy(name.secret, secret, sizeof secret);
    name.turn = static_cast<char>('0' + turn);
    name.type = static_cast<char>('0' + type);
    std::size_t size = path.size();
    if (size <= sizeof name.path) {
      name.kind = 'p';
      std::memcpy(name.path, path.data(), size);
    } else {
      std::uint64_t hashes[2] = {1469598103934665603ull, 88172645463325252ull};
      for (const char letter : path) {
        hashes[0] = (hashes[0] ^ static_cast<unsigned char>(letter)) * 1099511628211ull;
        hashes[1] = (hashes[1] + static_cast<unsigned char>(letter)) * 6364136223846793005ull + (hashes[1] >> 29);
      }
      name.kind = 'h';
      std::memcpy(name.path, hashes, size = sizeof hashes);
    }
    value.sun_family = AF_UNIX;
    value.sun_path[0] = '\0';
    std::memcpy(value.sun_path + 1, &name, offsetof(Name, path) + size);
    length = static_cast<socklen_t>(before_path + 1 + offsetof(Name, path) + size);
  }
  // The real one for a path that led out of the Tree. False if it is too long.
  bool become_real(const char *path) {
    const std::size_t size = std::strlen(path);
    if (size >= sizeof value.sun_path) return false;
    value.sun_family = AF_UNIX;
    std::memcpy(value.sun_path, path, size + 1);
    length = static_cast<socklen_t>(before_path + size + 1);
    return true;
  }
};

// The path of a Unix socket's address, with the zero that the caller may have left away; "" where it is none.
struct SocketPath {
  char text[sizeof(sockaddr_un::sun_path) + 1] = {};
  SocketPath(const void *address, socklen_t length) {
    const auto *local = static_cast<const sockaddr_un *>(address);
    if (length <= before_path || length > sizeof *local || local->sun_family != AF_UNIX) return;
    std::memcpy(text, local->sun_path, length - before_path);
  }
};

inline bool is_local(const void *address, socklen_t length) {
  return !kernel::is_null(address) && length > before_path &&
         static_cast<const sockaddr *>(address)->sa_family == AF_UNIX;
}

constexpr unsigned most_turns = 8;

int type_of(int fd) {
  int type = 0;
  socklen_t length = sizeof type;
  ::syscall(SYS_getsockopt, fd, SOL_SOCKET, SO_TYPE, &type, &length);
  return type & 15;
}

// Binds and makes the name. The lock is held meanwhile: nobody waits for a bind.
int bind_at(Lookup &found, int fd) {
  if (found.error() != 0) return -found.error();
  if (found.inode() != nullptr || found.last() != Last::name) return -EADDRINUSE;
  if (found.trailing_slash()) return -ENOENT;
  if (const int error = may_create(*found.parent())) return -error;
  if (!found.lock_for_change()) return again;
  Inode &directory = *found.parent();
  const std::string path = path_of(directory) + '/' + std::string(found.name());
  Address address;
  int result = -EADDRINUSE;
  for (unsigned turn = 0; turn < most_turns && result == -EADDRINUSE; ++turn) {
    address.become(path, type_of(fd), turn);
    result = NEXT(bind)(fd, address.get(), address.length) == 0 ? 0 : -errno;
  }
  if (result < 0) return result;
  bound.store(true, std::memory_order_relaxed);
  Inode *made = make_socket(0777 & ~current_umask(), address.text());
  made->volume = directory.volume;
  if ((directory.mode & S_ISGID) != 0) made->group = directory.group;
  link(directory, found.name(), *made);
  known().emplace(address.text());
  return 0;
}

// What a path of the Tree stands for as an address: false with errno where for nothing.
enum class Found : unsigned char { nothing, socket, missing, elsewhere };

// The path as another process would have it that has made the names which are missing here, directories among them.
bool complete(std::string_view path, std::string *completed) {
  kernel::KeepErrno keep;
  if (path.ends_with('/') || path.find("..") != std::string_view::npos) return false;
  for (std::size_t end = path.rfind('/'); end != std::string_view::npos && end > 0; end = path.rfind('/', end - 1)) {
    const std::string above(path.substr(0, end));
    const Lookup found(AT_FDCWD, above.c_str(), Follow::yes);
    if (!found.in_tree()) return false;
    if (found.error_of_existing() == ENOENT) continue;
    if (found.error_of_existing() != 0 || !found.inode()->is_directory()) return false;
    *completed = path_of(*found.inode()) + std::string(path.substr(end));
    return true;
  }
  return false;
}

Found find(const char *path, int type, Address *address, std::string *missing) {
  const Lookup found(AT_FDCWD, path, Follow::yes);
  if (!found.in_tree()) {
    if (address->become_real(found.path())) return Found::elsewhere;
    errno = ENAMETOOLONG;
    return Found::nothing;
  }
  errno = found.error_of_existing();
  if (errno == ENOENT && complete(path, missing)) return Found::missing;
  if (errno != 0) return Found::nothing;
  const Inode &inode = *found.inode();
  errno = !permits(inode, W_OK, Who::effective) ? EACCES : inode.is_socket() ? 0 : ECONNREFUSED;
  if (errno != 0) return Found::nothing;
  if (inode.target[1 + offsetof(Name, type)] != '0' + type) {
    errno = EPROTOTYPE;
    return Found::nothing;
  }
  address->value.sun_family = AF_UNIX;
  std::memcpy(address->value.sun_path, inode.target.data(), inode.target.size());
  address->length = static_cast<socklen_t>(before_path + inode.target.size());
  return Found::socket;
}

bool is_known(const Address &address) {
  std::shared_lock lock(tree_lock);
  return known().contains(address.text());
}

// `next(const sockaddr *, socklen_t)` with what the path stands for.
template <typename Next>
[[gnu::noinline]] auto send_to(int fd, const char *path, Next next) -> decltype(next(nullptr, 0)) {
  const int before = errno;
  Address address;
  std::string missing;
  const Found found = find(path, type_of(fd), &address, &missing);
  if (found == Found::nothing) return -1;
  errno = before;
  if (found != Found::missing) return next(address.get(), address.length);
  // Perhaps a child, or this process's parent, has bound it.
  for (unsigned turn = 0; turn < most_turns; ++turn) {
    address.become(missing, type_of(fd), turn);
    if (is_known(address)) continue;
    const auto result = next(address.get(), address.length);
    if (result >= 0 || errno != ECONNREFUSED) return result;
  }
  errno = ENOENT;
  return -1;
}

template <typename Next>
inline auto route_address(int fd, const void *given, socklen_t length, Next next) -> decltype(next(nullptr, 0)) {
  const auto *address = static_cast<const sockaddr *>(given);
  if (!is_local(address, length)) [[likely]] return next(address, length);
  const SocketPath path(address, length);
  if (path.text[0] == '\0' || !may_be_ours(path.text)) return next(address, length);
  return send_to(fd, path.text, next);
}

bool is_of_ours(const sockaddr *address, socklen_t length) {
  const auto *local = reinterpret_cast<const sockaddr_un *>(address);
  return length >= before_path + 1 + offsetof(Name, path) && local->sun_family == AF_UNIX &&
         local->sun_path[0] == '\0' && std::memcmp(local->sun_path + 1, secret, sizeof secret) == 0;
}

// Whether the connection may stay: one to a socket of ours by another user may not.
bool is_welcome(int fd) {
  kernel::KeepErrno keep;
  sockaddr_un own{};
  socklen_t length = sizeof own;
  const auto *address = reinterpret_cast<const sockaddr *>(&own);
  if (::syscall(SYS_getsockname, fd, &own, &length) != 0 || !is_of_ours(address, length)) return true;
  struct ucred peer{};
  socklen_t size = sizeof peer;
  if (::syscall(SYS_getsockopt, fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return false;
  return peer.uid == 0 || peer.uid == ::geteuid() || peer.uid == ::getuid();
}

template <typename Next>
inline int accept_welcome(sockaddr *address, socklen_t *length, Next next) {
  const socklen_t room = kernel::is_null(length) ? 0 : *length;
  while (true) {
    const int fd = next();
    if (fd < 0 || !bound.load(std::memory_order_relaxed)) [[likely]] return fd;
    if (is_welcome(fd)) {
      if (!kernel::is_null(address) && !kernel::is_null(length)) show_path(address, length);
      return fd;
    }
    kernel::close(fd);
    if (!kernel::is_null(length)) *length = room;
  }
}

}  // namespace

void show_path(sockaddr *address, socklen_t *length) {
  if (!bound.load(std::memory_order_relaxed) || *length < before_path || !is_of_ours(address, *length)) return;
  auto *local = reinterpret_cast<sockaddr_un *>(address);
  Name name;
  const std::size_t size = *length - before_path - 1 - offsetof(Name, path);
  std::memcpy(&name, local->sun_path + 1, offsetof(Name, path) + size);
  const std::size_t shown = name.kind == 'p' ? size : 0;  // a hash tells no path
  std::memcpy(local->sun_path, name.path, shown);
  if (shown != 0) local->sun_path[shown] = '\0';
  *length = static_cast<socklen_t>(before_path + shown + (shown != 0));
}

namespace intercept {

int bind(int fd, const struct sockaddr *address, socklen_t length) noexcept {
  if (!is_local(address, length)) [[likely]] return NEXT(bind)(fd, address, length);
  const SocketPath path(address, length);
  if (path.text[0] == '\0' || !may_be_ours(path.text)) return NEXT(bind)(fd, address, length);
  return look_up(
      AT_FDCWD, path.text, Follow::no, [=](Lookup &found) { return bind_at(found, fd); },
      [=](int, const char *real) {
        Address elsewhere;
        if (real == path.text) return NEXT(bind)(fd, address, length);
        return elsewhere.become_real(real) ? NEXT(bind)(fd, elsewhere.get(), elsewhere.length) : settle(-ENAMETOOLONG);
      });
}

int connect(int fd, const struct sockaddr *address, socklen_t length) {
  return route_address(fd, address, length, [=](const sockaddr *to, socklen_t size) { return NEXT(connect)(fd, to, size); });
}

ssize_t sendto(int fd, const void *bytes, size_t count, int flags, const struct sockaddr *address, socklen_t length) {
  return route_address(fd, address, length, [=](const sockaddr *to, socklen_t size) {
    return NEXT(sendto)(fd, bytes, count, flags, to, size);
  });
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags) {
  if (kernel::is_null(message) || message->msg_name == nullptr) [[likely]] return NEXT(sendmsg)(fd, message, flags);
  return route_address(fd, message->msg_name, message->msg_namelen, [=](const sockaddr *to, socklen_t size) {
    msghdr sent = *message;
    sent.msg_name = const_cast<sockaddr *>(to);
    sent.msg_namelen = size;
    return NEXT(sendmsg)(fd, &sent, flags);
  });
}

// One by one where one goes to a path.
int sendmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags) {
  unsigned local = 0;
  while (local < count && !is_local(messages[local].msg_hdr.msg_name, messages[local].msg_hdr.msg_namelen)) ++local;
  if (local == count) [[likely]] return NEXT(sendmmsg)(fd, messages, count, flags);
  for (unsigned i = 0; i < count; ++i) {
    const ssize_t sent = intercept::sendmsg(fd, &messages[i].msg_hdr, flags);
    if (sent < 0) return i == 0 ? -1 : static_cast<int>(i);
    messages[i].msg_len = static_cast<unsigned>(sent);
  }
  return static_cast<int>(count);
}

int accept(int fd, struct sockaddr *address, socklen_t *length) {
  return accept_welcome(address, length, [=] { return NEXT(accept)(fd, address, length); });
}

int accept4(int fd, struct sockaddr *address, socklen_t *length, int flags) {
  return accept_welcome(address, length, [=] { return NEXT(accept4)(fd, address, length, flags); });
}

int getsockname(int fd, struct sockaddr *address, socklen_t *length) noexcept {
  const int result = NEXT(getsockname)(fd, address, length);
  if (result == 0) show_path(address, length);
  return result;
}

int getpeername(int fd, struct sockaddr *address, socklen_t *length) noexcept {
  const int result = NEXT(getpeername)(fd, address, length);
  if (result == 0) show_path(address, length);
  return result;
}

ssize_t recvfrom(int fd, void *bytes, size_t count, int flags, struct sockaddr *address, socklen_t *length) {
  const ssize_t result = NEXT(recvfrom)(fd, bytes, count, flags, address, length);
  if (result >= 0 && !kernel::is_null(address) && !kernel::is_null(length)) [[unlikely]] show_path(address, length);
  return result;
}

}  // namespace intercept

}  // namespace diskless
