// The functions of libc that are redirected, listed once. Everything else (declarations, the table that the patcher
// goes by, the next function in each chain) is made from this list.
#pragma once

#include <atomic>
#include <cstddef>

#include "symbols.h"
#if __has_include("tree_hooks.h")
#include "tree_hooks.h"  // DISKLESS_TREE_HOOKS: open, stat, opendir, …
#else
#define DISKLESS_TREE_HOOKS(X)
#endif

// Close or replace descriptors by number: ours are spared (guard.cpp).
#define DISKLESS_GUARD_HOOKS(X) X(close) X(__close) X(close_range) X(closefrom) X(dup2) X(__dup2) X(dup3)
// Load objects, or ask for functions by name (loads.cpp).
#define DISKLESS_LOAD_HOOKS(X) X(dlopen) X(dlmopen) X(dlsym) X(dlvsym) X(dladdr)
// System calls by number (syscall.cpp).
#define DISKLESS_SYSCALL_HOOKS(X) X(syscall)

#define DISKLESS_HOOKS(X) \
  DISKLESS_TREE_HOOKS(X)  \
  DISKLESS_GUARD_HOOKS(X) \
  DISKLESS_LOAD_HOOKS(X)  \
  DISKLESS_SYSCALL_HOOKS(X)

namespace diskless {

enum HookIndex : int {
#define X(name) hook_##name,
  DISKLESS_HOOKS(X)
#undef X
      hook_count
};

struct Hook {
  const char *name;
  void *ours;
  void *libc = nullptr;               // what the name means in libc; null where this libc does not have it
  void *fallback = nullptr;           // does without libc's function
  std::atomic<void *> next{nullptr};  // what our function calls: libc's, or another tool's that we found in its place
  bool next_owned = false;            // whether that one is part of a loaded object
  bool of_streams = false;            // works on what another hook returned, so it outlives the last Mount

  void forget_next() {
    next_owned = false;
    next.store(libc ? libc : fallback);
  }
};

extern Hook hooks[hook_count];

// Fills in what is known of libc, once.
void find_originals();
// The hook of that name, or null.
Hook *find_hook(const char *name);
// What serves syscall(2) where this libc has no function of that name: older ones have no stat. Or null.
void *function_by_number(const char *name);

namespace intercept {
#define X(name) decltype(::name) name;
DISKLESS_HOOKS(X)
#undef X
}  // namespace intercept

}  // namespace diskless

// The next function in the chain: NEXT(open)(path, flags).
#define NEXT(name) \
  (reinterpret_cast<decltype(&::name)>(::diskless::hooks[::diskless::hook_##name].next.load(std::memory_order_relaxed)))
