// The Tree's lock: many readers or one writer.
//
// Not std::shared_mutex: a signal handler may open a file while its thread is reading, so a thread that reads may read
// again also while a writer waits; a writer must not be interrupted by such a handler at all; and a forked child must
// be able to make the lock new.
#pragma once

#include <linux/futex.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>

#include "kernel.h"
#include "pool.h"

namespace diskless {

class Lock {
 public:
  void lock_shared() {
    // Counted before the lock is taken, and until after it was given back: a signal handler that reads in between
    // must not wait for a writer, who may be waiting for this thread.
    const bool again = reading++ != 0;
    std::atomic_signal_fence(std::memory_order_seq_cst);
    std::uint32_t state = state_.load();
    bool has_waited = false;
    while (true) {
      const bool is_behind = (state & (wanted | forking)) == wanted && !again && !has_waited;
      if ((state & writing) != 0 || is_behind) {
        // Behind one who only waits to write nobody waits for long: this may be a signal handler whose thread holds what
        // a reader waits for, such as malloc's lock.
        wait(state, is_behind ? &patience : nullptr);
        has_waited = is_behind;
        state = state_.load();
      } else if (state_.compare_exchange_weak(state, state + 1)) {
        return;
      }
    }
  }

  void unlock_shared() {
    const std::uint32_t left = state_.fetch_sub(1) - 1;
    if ((left & ~wanted) == 0) wake();
    std::atomic_signal_fence(std::memory_order_seq_cst);
    --reading;
  }

  // Blocks all signals of this thread until unlock.
  void lock() {
    const sigset_t before = block_signals();
    std::uint32_t state = state_.load();
    while (true) {
      if ((state & ~wanted) == 0) {
        if (state_.compare_exchange_weak(state, writing)) break;
      } else if ((state & wanted) != 0 || state_.compare_exchange_weak(state, state | wanted)) {
        wait(state | wanted);
        state = state_.load();
      }
    }
    signals_before_ = before;
    begin_to_use_pool();
  }

  void unlock() {
    const sigset_t before = signals_before_;
    cease_to_use_pool();
    state_.store(0);
    wake();
    sigprocmask(SIG_SETMASK, &before, nullptr);
    free_what_was_put_off();
  }

  // Around fork: no writer is in the midst of a change. Readers go on, since fork waits for libc's locks as well, and who
  // holds one of these may be interrupted by a signal handler that reads.
  void begin_fork() {
    const sigset_t before = block_signals();
    std::uint32_t state = state_.load();
    while (true) {
      if ((state & (writing | forking)) != 0) {
        wait(state);
        state = state_.load();
      } else if (state_.compare_exchange_weak(state, state | forking)) {
        break;
      }
    }
    signals_before_ = before;
    if ((state & wanted) != 0) wake();  // readers that waited behind a writer
  }

  void end_fork() {
    const sigset_t before = signals_before_;
    state_.fetch_and(~forking);
    wake();
    sigprocmask(SIG_SETMASK, &before, nullptr);
  }

  // The child's only thread is the one that forked: other readers are none here, but it may be in the midst of reading.
  void end_fork_in_child() {
    const sigset_t before = signals_before_;
    waiting_.store(0);
    state_.store(reading);
    sigprocmask(SIG_SETMASK, &before, nullptr);
  }

 private:
  static sigset_t block_signals() {
    sigset_t all, before;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &before);
    return before;
  }

  // The state is the number of readers, with `forking` where somebody forks, or `writing`. A writer that must wait says so in it: then no new readers come
  // in, and whoever waits does so for a state that the last reader or a writer will change.
  static constexpr std::uint32_t writing = 0x80000000;
  static constexpr std::uint32_t wanted = 0x40000000;
  static constexpr std::uint32_t forking = 0x20000000;
  // How often this thread reads. The model of storage that never allocates.
  static inline thread_local unsigned reading __attribute__((tls_model("initial-exec"))) = 0;

  static constexpr timespec patience{0, 10'000'000};

  void wait(std::uint32_t seen, const timespec *timeout = nullptr) {
    kernel::KeepErrno keep;
    waiting_.fetch_add(1);
    ::syscall(SYS_futex, &state_, FUTEX_WAIT_PRIVATE, seen, timeout, nullptr, 0);
    waiting_.fetch_sub(1);
  }

  void wake() {
    if (waiting_.load() == 0) return;
    kernel::KeepErrno keep;
    ::syscall(SYS_futex, &state_, FUTEX_WAKE_PRIVATE, 0x7fffffff, nullptr, nullptr, 0);
  }

  std::atomic<std::uint32_t> state_{0};
  std::atomic<std::uint32_t> waiting_{0};
  sigset_t signals_before_{};  // the writer's
};

}  // namespace diskless
