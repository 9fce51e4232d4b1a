// Starts a program that is no child which this process can see.
//
// Programs wait for their children in ways that must not meet ours: os.wait(), waitpid(-1) in a loop as gunicorn does,
// a handler for SIGCHLD. Forking twice is not enough: the orphan comes back to a process that is pid 1, or a
// subreaper. So between us and the program stands an intermediate, made by clone(2) with no exit signal, which only
// __WALL finds. It shares our memory, as a vfork child does, runs on a stack of its own with all signals blocked, and
// does nothing but wait for the program. Nothing in it may touch libc: it has our thread's thread-local storage.

#include <linux/close_range.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>

#include <atomic>
#include <cerrno>
#include <climits>

#include "diskless.h"
#include "kernel.h"
#include "system_call.h"

namespace diskless {

namespace {

constexpr std::size_t stack_bytes = 64 << 10;
constexpr int most_fds = 16;
constexpr int first_fd = 3;

// At the low end of the memory that the two stacks are in; freed by diskless_reap.
struct Spawn {
  const char *file;
  char *const *argv;
  char *const *envp;
  const int *fds;
  int fd_count;
  int error;                 // of the program's start
  std::atomic<int> settled;  // a futex
  int pid;                   // the intermediate's
  Spawn *next;
};

Spawn *spawned = nullptr;  // those not reaped; guarded by `busy`
std::atomic_flag busy = ATOMIC_FLAG_INIT;

int run_program(void *data) {
  Spawn &spawn = *static_cast<Spawn *>(data);
  raw::call(SYS_setsid);  // Ctrl-C at the terminal is for the user's process
  struct {
    void *handler = nullptr;
    unsigned long flags = 0;
    void *restorer = nullptr;
    unsigned long mask = 0;
  } by_default;
  for (long signal = 1; signal < 65; signal++) {
    raw::call(SYS_rt_sigaction, signal, &by_default, 0, 8);
  }
  const unsigned long none = 0;
  raw::call(SYS_rt_sigprocmask, SIG_SETMASK, &none, 0, 8);

  int moved[most_fds];
  for (int i = 0; i < spawn.fd_count; i++) {
    moved[i] = static_cast<int>(raw::call(SYS_fcntl, spawn.fds[i], F_DUPFD, first_fd + spawn.fd_count));
    if (moved[i] < 0) {
      spawn.error = -moved[i];
      raw::call(SYS_exit_group, 127);
    }
  }
  const long null = raw::call(SYS_openat, AT_FDCWD, "/dev/null", O_RDWR);
  for (int fd = 0; fd < 2 && null >= 0; fd++) {
    if (null != fd) raw::call(SYS_dup3, null, fd, 0);
  }
  for (int i = 0; i < spawn.fd_count; i++) raw::call(SYS_dup3, moved[i], first_fd + i, 0);
  if (raw::call(SYS_close_range, first_fd + spawn.fd_count, UINT_MAX, 0) < 0) {
    for (int fd = first_fd + spawn.fd_count; fd < 65536; fd++) raw::call(SYS_close, fd);
  }
  spawn.error = -static_cast<int>(raw::call(SYS_execve, spawn.file, spawn.argv, spawn.envp));
  raw::call(SYS_exit_group, 127);
  return 0;
}

int run_intermediate(void *data) {
  Spawn &spawn = *static_cast<Spawn *>(data);
  char *const stack = static_cast<char *>(data) + 2 * stack_bytes;
  // Until the program runs, this does not: CLONE_VFORK.
  const int pid = clone(run_program, stack, CLONE_VM | CLONE_VFORK | SIGCHLD, data);
  if (pid < 0 && spawn.error == 0) spawn.error = EAGAIN;
  spawn.settled.store(1);
  raw::call(SYS_futex, &spawn.settled, FUTEX_WAKE, INT_MAX);
  // What is a copy of the caller's must not keep files, connections or a mounted filesystem busy.
  raw::call(SYS_chdir, "/");
  raw::call(SYS_prctl, PR_SET_NAME, "diskless");
  if (raw::call(SYS_close_range, 0, UINT_MAX, 0) < 0) {
    for (int fd = 0; fd < 65536; fd++) raw::call(SYS_close, fd);
  }
  if (pid > 0) {
    while (raw::call(SYS_wait4, pid, 0, __WALL, 0) == -EINTR) {
    }
  }
  raw::call(SYS_exit, 0);
  return 0;
}

// Whether it is a zombie; leaves it there.
bool has_ended(int pid) {
  siginfo_t ended{};
  ::syscall(SYS_waitid, P_PID, pid, &ended, WEXITED | WNOHANG | WNOWAIT | __WALL, nullptr);
  return ended.si_pid == pid;
}

}  // namespace

}  // namespace diskless

using namespace diskless;

extern "C" {

int diskless_spawn(const char *file, char *const argv[], char *const envp[], const int *fds, int fd_count) {
  kernel::KeepErrno keep;
  if (fd_count < 0 || fd_count > most_fds) return -EINVAL;
  void *memory = mmap(nullptr, 3 * stack_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return -errno;
  auto *spawn = new (memory) Spawn{file, argv, envp, fds, fd_count, 0, {}, 0, nullptr};

  const unsigned long all = ~0ul;
  unsigned long before;
  ::syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, &before, 8);
  spawn->pid = clone(run_intermediate, static_cast<char *>(memory) + 3 * stack_bytes, CLONE_VM, memory);
  const int error = errno;
  if (spawn->pid > 0) {
    // It may be killed before it says anything.
    const timespec moment{0, 100'000'000};
    while (spawn->settled.load() == 0 && !has_ended(spawn->pid)) {
      ::syscall(SYS_futex, &spawn->settled, FUTEX_WAIT, 0, &moment);
    }
    if (spawn->settled.load() == 0) spawn->error = ECHILD;
  }
  ::syscall(SYS_rt_sigprocmask, SIG_SETMASK, &before, nullptr, 8);

  if (spawn->pid < 0) {
    munmap(memory, 3 * stack_bytes);
    return -error;
  }
  const int pid = spawn->pid, failed = spawn->error;
  while (busy.test_and_set()) {
  }
  spawn->next = spawned;
  spawned = spawn;
  busy.clear();
  if (failed) {
    // The intermediate is about to end.
    int status;
    while (::syscall(SYS_wait4, pid, &status, __WALL, nullptr) < 0 && errno == EINTR) {
    }
    diskless_reap(pid);
    return -failed;
  }
  return pid;
}

int diskless_reap(int pid) {
  kernel::KeepErrno keep;
  int status;
  const long ended = ::syscall(SYS_wait4, pid, &status, __WALL | WNOHANG, nullptr);
  if (ended == 0) return 0;
  const int result = ended > 0 || errno == ECHILD ? 1 : -errno;
  while (busy.test_and_set()) {
  }
  for (Spawn **link = &spawned; *link; link = &(*link)->next) {
    if ((*link)->pid != pid) continue;
    Spawn *spawn = *link;
    *link = spawn->next;
    munmap(spawn, 3 * stack_bytes);
    break;
  }
  busy.clear();
  return result;
}

}  // extern "C"
