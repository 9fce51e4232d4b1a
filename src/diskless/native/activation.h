// Whether libc's calls are redirected at this moment.
#pragma once

#include <atomic>

namespace diskless {

extern std::atomic<int> activations;
// Directory streams of ours that are open: their functions stay redirected until the last one is closed.
extern std::atomic<int> open_streams;

// Whether somebody was given the address of a hook, to call it also where nothing is redirected.
extern std::atomic<bool> called_by_address;

inline bool is_active() { return activations.load(std::memory_order_relaxed) > 0; }

// Whether the Tree shows. Where code has kept the address of a hook it is called for ever, and passes the call on.
inline bool is_visible() {
  return is_active() || called_by_address.load(std::memory_order_relaxed) ||
         open_streams.load(std::memory_order_relaxed) > 0;
}

// To be called when the last directory stream closes.
void streams_closed();

}  // namespace diskless
