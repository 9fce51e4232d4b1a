#include "working_directory.h"

#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <sys/wait.h>

#include <cstdio>
#include <cstring>
#include <vector>

#include "kernel.h"
#include "system_call.h"

namespace diskless {

constinit std::atomic<std::uint64_t> kept_working_directory{0};

namespace {

// A descriptor's list belongs to its process, and here the process has ended: even ".." leads nowhere from there.
constexpr const char *nowhere = "/proc/thread-self/fdinfo";

std::atomic<pid_t> owner{0};  // of this memory, told apart from its vfork children

std::atomic<pid_t> gone{0};  // who went there last

// What getcwd(2) says there. Guarded by tree_lock, but for vfork children, which read it only.
char nowhere_as_seen[96];

// The directories without a name that are kept: the working directory, and what was above it. Guarded by tree_lock.
std::vector<Inode *> &removed() {
  static auto &instance = *new std::vector<Inode *>;
  return instance;
}

bool kernel_is_nowhere() {
  kernel::KeepErrno keep;
  char directory[PATH_MAX];
  const ssize_t length = kernel::getcwd(directory, sizeof directory);
  return std::strcmp(length > 0 ? directory : "", nowhere_as_seen) == 0;
}

// Runs in a process that shares our working directory and ends at once. Nothing in it may touch libc.
int go_and_end(void *error) {
  *static_cast<long *>(error) = raw::call(SYS_chdir, nowhere);
  raw::call(SYS_exit, 0);
  return 0;
}

int go_nowhere() {
  alignas(16) static char stack[16 << 10];  // guarded by tree_lock
  long result = -ESRCH;
  // Without an exit signal the program cannot meet this child. It shares everything that would cost to copy.
  const int pid = clone(go_and_end, stack + sizeof stack, CLONE_VM | CLONE_VFORK | CLONE_FS | CLONE_FILES, &result);
  if (pid > 0) {
    while (::syscall(SYS_wait4, pid, nullptr, __WALL, nullptr) < 0 && errno == EINTR) {
    }
  }
  // Where no process can be made, the same of this thread: nothing can be created there either.
  if (result < 0 && ::syscall(SYS_chdir, nowhere) != 0) return -EACCES;
  char directory[PATH_MAX];
  const ssize_t length = kernel::getcwd(directory, sizeof directory);
  nowhere_as_seen[0] = '\0';
  if (length > 0 && static_cast<std::size_t>(length) <= sizeof nowhere_as_seen) {
    std::memcpy(nowhere_as_seen, directory, static_cast<std::size_t>(length));
  }
  return 0;
}

// Lets go of what was kept for a working directory that is none any more.
void let_go() {
  if (removed().empty()) return;
  std::vector<Inode *> before;
  before.swap(removed());
  std::uint64_t number = kept_working_directory.load();
  for (Inode *each : before) {
    if (each->number == number) {
      number = each->was_below;
      removed().push_back(each);
    } else {
      forget_removed(each);
    }
  }
}

__attribute__((constructor)) void begin() {
  removed();
  owner.store(::getpid());
  ::pthread_atfork(nullptr, nullptr, [] { owner.store(::getpid()); });
}

}  // namespace

bool shares_memory() { return owner.load(std::memory_order_relaxed) != ::getpid(); }

bool has_gone_there_itself() { return gone.load(std::memory_order_relaxed) == ::getpid(); }

std::uint64_t working_directory() {
  const std::uint64_t number = kept_working_directory.load(std::memory_order_relaxed);
  return number == 0 || !shares_memory() || kernel_is_nowhere() ? number : 0;
}

const char *behind_working_directory_link(const char *path) {
  if (!may_stand_in_tree()) return nullptr;
  char own[32];
  std::snprintf(own, sizeof own, "/proc/%d/cwd", ::getpid());
  for (const char *link : {"/proc/self/cwd", "/proc/thread-self/cwd", static_cast<const char *>(own)}) {
    const std::size_t length = std::strlen(link);
    if (std::strncmp(path, link, length) == 0 && (path[length] == '\0' || path[length] == '/')) return path + length;
  }
  return nullptr;
}

int enter(Inode &directory) {
  const std::uint64_t before = kept_working_directory.load();
  const bool is_nowhere = before != 0 && kernel_is_nowhere();
  // First, so that no other thread sees the kernel's own meanwhile.
  kept_working_directory.store(directory.number);
  const int error = is_nowhere ? 0 : go_nowhere();
  if (error != 0) kept_working_directory.store(before);
  if (error == 0) gone.store(::getpid());
  let_go();
  return error;
}

void left_for_the_kernels() {
  if (shares_memory()) return;
  kernel::KeepErrno keep;
  const Change change;
  if (kernel_is_nowhere()) return;  // another thread has gone into the Tree since
  kept_working_directory.store(0);
  let_go();
}

bool keep_removed(Inode &directory) {
  const std::uint64_t number = kept_working_directory.load();
  const bool wanted =
      directory.number == number || (!removed().empty() && removed().back()->was_below == directory.number);
  if (!wanted) return false;
  // Its own volume may be gone before it.
  static constinit Volume of_the_removed{.writable = true};
  directory.volume = &of_the_removed;
  directory.changed = now();
  directory.above = nullptr;
  removed().push_back(&directory);
  return true;
}

}  // namespace diskless
