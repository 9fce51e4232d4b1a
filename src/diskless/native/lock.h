// The Tree's lock: many readers or one writer.
//
// Not std::shared_mutex: a signal handler may open a file while its thread is reading, so a thread that reads may read
// again also while a writer waits; a writer must not be interrupted by such a handler at all; and a forked child must
// be able to make the lock new.
#pragma once

#include <linux/futex.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>

#include "kernel.h"

namespace diskless {

class Lock {
 public:
  void lock_shared() {
    while (true) {
      std::uint32_t state = state_.load();
      if (state == writing || (writers_waiting_.load() != 0 && reading == 0)) {
        wait(state);
      } else if (state_.compare_exchange_weak(state, state + 1)) {
        ++reading;
        return;
      }
    }
  }

  void unlock_shared() {
    --reading;
    if (state_.fetch_sub(1) == 1) wake();
  }

  // Blocks all signals of this thread until unlock.
  void lock() {
    const std::uint64_t all = ~std::uint64_t{0};
    std::uint64_t before = 0;
    set_signal_mask(&all, &before);
    writers_waiting_.fetch_add(1);
    std::uint32_t state = 0;
    while (!state_.compare_exchange_weak(state, writing)) {
      if (state != 0) wait(state);
      state = 0;
    }
    writers_waiting_.fetch_sub(1);
    signals_before_ = before;
  }

  void unlock() {
    const std::uint64_t before = signals_before_;
    state_.store(0);
    wake();
    set_signal_mask(&before, nullptr);
  }

  // In a forked child, whose only thread is the one that forked while it held the lock.
  void unlock_in_child() {
    const std::uint64_t before = signals_before_;
    waiting_.store(0);
    writers_waiting_.store(0);
    state_.store(0);
    set_signal_mask(&before, nullptr);
  }

 private:
  static constexpr std::uint32_t writing = 0xffffffff;
  // How often this thread reads. The model of storage that never allocates.
  static inline thread_local unsigned reading __attribute__((tls_model("initial-exec"))) = 0;

  static void set_signal_mask(const std::uint64_t *mask, std::uint64_t *before) {
    ::syscall(SYS_rt_sigprocmask, SIG_SETMASK, mask, before, sizeof *mask);
  }

  void wait(std::uint32_t seen) {
    kernel::KeepErrno keep;
    waiting_.fetch_add(1);
    ::syscall(SYS_futex, &state_, FUTEX_WAIT_PRIVATE, seen, nullptr, nullptr, 0);
    waiting_.fetch_sub(1);
  }

  void wake() {
    if (waiting_.load() == 0) return;
    kernel::KeepErrno keep;
    ::syscall(SYS_futex, &state_, FUTEX_WAKE_PRIVATE, 0x7fffffff, nullptr, nullptr, 0);
  }

  std::atomic<std::uint32_t> state_{0};  // 0, the number of readers, or `writing`
  std::atomic<std::uint32_t> waiting_{0};
  std::atomic<std::uint32_t> writers_waiting_{0};
  std::uint64_t signals_before_ = 0;  // the writer's
};

}  // namespace diskless
