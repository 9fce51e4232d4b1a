#include "working_directory.h"

#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <sys/wait.h>

#include <cstdio>
#include <cstring>
#include <string_view>
#include <vector>

#include "kernel.h"
#include "system_call.h"

namespace diskless {

constinit std::atomic<bool> anybody_stands_in_tree{false};

namespace {

std::atomic<std::uint64_t> kept_working_directory{0};  // a directory's number, or 0

// A descriptor's list belongs to its process, and here the process has ended: even ".." leads nowhere from there. It is
// "/proc/<process>/task/<process>/fdinfo" as getcwd(2) says it.
constexpr std::string_view nowhere_begins = "/proc/", nowhere_ends = "/fdinfo";

std::atomic<pid_t> owner{0};  // of this memory, told apart from its vfork children

std::atomic<pid_t> gone{0};  // who went there last

// What getcwd(2) says there. Guarded by tree_lock, but for vfork children, which read it only.
char nowhere_as_seen[96];

// Where vfork children have gone, by their process ids; another may take the place of one that has long run its program.
struct Child {
  std::atomic<pid_t> pid{0};
  std::atomic<std::uint64_t> directory{0};
};
Child children[64];
std::atomic<bool> a_child_has_stood_there{false};  // for good: nobody says when it has run its program
Child &child(pid_t pid) { return children[static_cast<unsigned>(pid) % std::size(children)]; }

// The directories without a name that are kept: the working directory, and what was above it. Guarded by tree_lock.
std::vector<Inode *> &removed() {
  static auto &instance = *new std::vector<Inode *>;
  return instance;
}

// The kernel's working directory, "" where it is too long or has no name.
struct KernelsDirectory {
  KernelsDirectory() {
    kernel::KeepErrno keep;
    if (kernel::getcwd(text, sizeof text) <= 0) text[0] = '\0';
  }
  char text[sizeof nowhere_as_seen];
};

bool kernel_is_nowhere() { return std::strcmp(KernelsDirectory().text, nowhere_as_seen) == 0; }

struct Nowhere {
  long error = -ESRCH;
  char name[sizeof nowhere_as_seen];

  // Goes to the list of this thread. The name is not what getcwd(2) says then: other threads may have gone elsewhere.
  void go() {
    char *at = name;
    for (const char letter : nowhere_begins) *at++ = letter;
    const std::size_t room = sizeof name - nowhere_begins.size() - nowhere_ends.size() - 1;
    const long length = raw::call(SYS_readlinkat, AT_FDCWD, "/proc/thread-self", at, room);
    at += length > 0 ? length : 0;
    for (const char letter : nowhere_ends) *at++ = letter;
    *at = '\0';
    error = length > 0 ? raw::call(SYS_chdir, name) : -ENOENT;
  }
};

// Runs in a process that shares our working directory and ends at once. Nothing in it may touch libc.
int go_and_end(void *nowhere) {
  static_cast<Nowhere *>(nowhere)->go();
  raw::call(SYS_exit, 0);
  return 0;
}

// Sets *nowhere to where it has gone, and returns 0 or -errno.
int go_nowhere(Nowhere *nowhere) {
  alignas(16) char stack[4 << 10];
  // Without an exit signal the program cannot meet this child. It shares everything that would cost to copy.
  const int pid = clone(go_and_end, stack + sizeof stack, CLONE_VM | CLONE_VFORK | CLONE_FS | CLONE_FILES, nowhere);
  if (pid > 0) {
    while (::syscall(SYS_wait4, pid, nullptr, __WALL, nullptr) < 0 && errno == EINTR) {
    }
  }
  // Where no process can be made, the same of this thread: nothing can be created there either.
  if (nowhere->error < 0) nowhere->go();
  return nowhere->error < 0 ? -EACCES : 0;
}

// Of a child that shares our memory and is nowhere, but not where its parent is; or 0.
std::uint64_t directory_of_child() {
  const pid_t self = ::getpid();
  const Child &kept = child(self);
  if (kept.pid.load() != self) return 0;
  const std::uint64_t directory = kept.directory.load();
  const bool is_there = is_a_nowhere(KernelsDirectory().text) && !kernel_is_nowhere();
  return is_there && kept.pid.load() == self ? directory : 0;
}

int enter_as_child(std::uint64_t directory) {
  Child &kept = child(::getpid());
  kept.pid.store(0);
  kept.directory.store(directory);
  kept.pid.store(::getpid());
  a_child_has_stood_there.store(true);
  anybody_stands_in_tree.store(true);
  Nowhere another;
  return go_nowhere(&another);
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

bool has_gone_there_itself() {
  if (shares_memory()) return directory_of_child() != 0;
  return gone.load(std::memory_order_relaxed) == ::getpid() && kept_working_directory.load() != 0;
}

std::uint64_t working_directory() {
  const std::uint64_t number = kept_working_directory.load(std::memory_order_relaxed);
  if (!shares_memory() || (number != 0 && kernel_is_nowhere())) return number;
  return directory_of_child();
}

bool is_a_nowhere(const char *answer) {
  if (std::strncmp(answer, nowhere_begins.data(), nowhere_begins.size()) != 0) return false;
  return std::string_view(answer).ends_with(nowhere_ends);
}

const char *behind_working_directory_link(const char *path) {
  if (!may_stand_in_tree() || std::strncmp(path, "/proc/", 6) != 0) return nullptr;
  char own[32];
  std::snprintf(own, sizeof own, "/proc/%d/cwd", ::getpid());
  for (const char *link : {"/proc/self/cwd", "/proc/thread-self/cwd", static_cast<const char *>(own)}) {
    const std::size_t length = std::strlen(link);
    if (std::strncmp(path, link, length) == 0 && (path[length] == '\0' || path[length] == '/')) return path + length;
  }
  return nullptr;
}

int enter(Inode &directory) {
  if (shares_memory()) return enter_as_child(directory.number);
  const std::uint64_t before = kept_working_directory.load();
  const bool is_nowhere = before != 0 && kernel_is_nowhere();
  // First, so that no other thread sees the kernel's own meanwhile.
  kept_working_directory.store(directory.number);
  anybody_stands_in_tree.store(true);
  int error = 0;
  if (!is_nowhere) {
    Nowhere nowhere;
    error = go_nowhere(&nowhere);
    if (error == 0) std::strcpy(nowhere_as_seen, nowhere.name);
  }
  if (error == 0) gone.store(::getpid());
  if (error != 0) kept_working_directory.store(before);
  let_go();
  return error;
}

void left_for_the_kernels() {
  if (shares_memory()) return;
  kernel::KeepErrno keep;
  const Change change;
  if (kernel_is_nowhere()) return;  // another thread has gone into the Tree since
  kept_working_directory.store(0);
  anybody_stands_in_tree.store(a_child_has_stood_there.load());
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
