// The working directory, where it is a directory of the Tree.
//
// The kernel's own is then a directory "nowhere", in which nobody, root included, can create or find anything: a call
// that we miss fails there and lands on no disk. Threads share both, a forked child takes a copy of both along. A
// vfork child shares our memory but not the kernel's working directory: it never writes what is kept here, and where
// it has gone elsewhere, the kernel's no longer being nowhere says so. Where it goes to a directory of the Tree it is
// nowhere too, but another nowhere, and where it is to be is kept by its process id.
//
// A directory that is removed while it is the working directory is kept, and those above it that are removed as well,
// as on any filesystem: "." and ".." still lead to them, and nothing can be created there. That is also what becomes
// of a working directory in a scratch or Mount that is closed.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "tree.h"

namespace diskless {

// Of this process or one that shares its memory. One load, for the calls that are not ours.
extern std::atomic<bool> anybody_stands_in_tree;

inline bool may_stand_in_tree() { return anybody_stands_in_tree.load(std::memory_order_relaxed); }

// The number of the Tree's directory that is the caller's working directory, or 0 where it is none.
std::uint64_t working_directory();

// Whether this is what the kernel says to who stands in the Tree. Others have no reason to stand there.
bool is_a_nowhere(const char *answer);

// What answers getcwd(2) by its number.
long getcwd_by_number(char *buffer, std::size_t size);

// What stands behind /proc/self/cwd or another spelling of it, or null.
const char *behind_working_directory_link(const char *path);

// Whether this is a child that shares our memory, as after vfork.
bool shares_memory();

// Whether the working directory is in the Tree, and this process, not one that it came from, went there.
bool has_gone_there_itself();

// Makes it the working directory. Returns 0 or -errno. Wants the lock held, exclusively, but for a child that shares
// our memory.
int enter(Inode &directory);

// To be called after the kernel's working directory was changed to one of its own. Takes the lock.
void left_for_the_kernels();

// Whether a directory that has lost its name is to be kept, and what was above it. Wants the lock held, exclusively.
bool keep_removed(Inode &directory);

}  // namespace diskless
