// Descriptors of the Tree: what a number stands for, and how one is made.
//
// A file's is its memfd, opened once more. A directory's is a memfd too, made when it is opened: its sealed size is
// the directory's number, so it is recognised after dup, fork and exec, and costs nothing while nobody has it open.
#pragma once

#include <sys/stat.h>

#include <cstdint>

#include "tree.h"

namespace diskless {

inline constexpr off_t directory_size = off_t{1} << 60;  // a file cannot be as large

struct Described {
  bool ours = false;
  bool directory = false;
  std::uint64_t number = 0;  // of the directory, which may be gone
  Identity memory{};         // of the file
};

// What an open descriptor stands for. They take the lock for a moment; errno is left alone.
Described describe(int fd);
Described describe(const struct stat &status);

// The functions that follow want the lock held.

// Opens an inode with open(2)'s flags. Returns a descriptor or -errno: EIO where the file's own descriptor was closed
// or replaced behind our back, so that nobody is ever given another file's bytes.
int open_inode(const Inode &inode, int flags);
int open_directory(const Inode &directory, int flags);

// What stat(2) says of it. Returns 0 or -errno.
int status_of(const Inode &inode, struct stat *status);
// What stat(2) says of a directory that was removed while it was open.
void status_of_removed_directory(std::uint64_t number, struct stat *status);

}  // namespace diskless
