// Gates: files that are named before their bytes are there. Who opens one waits until it is complete.
//
// Each gate is a word of a page that is shared with the Loader, which is another process, and with forked children; who
// waits does so on a futex, without the lock, without Python, and not for ever: where nobody writes any more, open says
// EIO. A child makes gates in a page of its own, since its parent does not see which words it has given out.
#pragma once

#include <atomic>
#include <cstdint>

namespace diskless {

struct Gate;

// The gate of a number that diskless_gate_make returned, or null.
const Gate *gate_of(int number);

// Whether nobody needs to wait. One load.
bool is_open(const Gate &gate);

// Returns 0 once it is open, -EIO where the bytes will not come, -EINTR where a signal came first.
int wait_at(const Gate &gate);

}  // namespace diskless
