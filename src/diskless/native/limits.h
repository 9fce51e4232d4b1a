// How much memory the machine and the control groups of this process leave: what a file may grow by before the kernel
// kills for it (cgroups(7), proc(5)).
#pragma once

namespace diskless {

struct Memory {
  long long total_bytes, free_bytes;
};

// Finds the control groups of this process. Wants tree_lock held exclusively.
void learn_limits();

// The tightest limit, less what is kept back for all that is not a file's bytes: page tables, the index of the pages,
// what the program itself asks for meanwhile. Takes 30 to 100 microseconds; allocates nothing, since a signal handler
// may write. Wants tree_lock held.
Memory memory_left();

}  // namespace diskless
