// Descriptors of the Tree: what a number stands for, and how one is made.
//
// A file's is its memfd, opened once more. A directory's is a memfd too, made when it is opened: its sealed size is
// the directory's number, so it is recognised after dup, fork and exec, and costs nothing while nobody has it open.
#pragma once

#include <fcntl.h>
#include <sys/stat.h>

#include <cstdint>

#include "tree.h"

namespace diskless {

inline constexpr off_t directory_size = off_t{1} << 60;  // of a memfd that is no file of the Tree, with its number
// A file may have any size, but hardly one of these.
inline bool is_size_of_directory(off_t size) {
  return size >= directory_size && static_cast<std::uint64_t>(size - directory_size) / first_number == 1;
}

// Flags that were for the look-up of a path.
inline constexpr int not_again = O_CREAT | O_EXCL | O_NOFOLLOW | (O_TMPFILE & ~O_DIRECTORY);

// Opens the memfd `fd` once more: with an offset, an access mode and flags of its own. A descriptor or -errno.
int reopen(int fd, int flags);

// While the Tree is active, /proc/self/fd is held open: to begin there is the shorter way.
void hold_descriptors();
void let_go_of_descriptors();

struct Described {
  bool ours = false;
  bool directory = false;
  std::uint64_t number = 0;  // of the directory, which may be gone
  Identity memory{};         // of the file
};

// What an open descriptor stands for. They take the lock for a moment; errno is left alone.
Described describe(int fd);
Described describe(const struct stat &status);

// Makes a file without a name in `directory` and opens it with open(2)'s flags, and `mode` after the mask. Returns the
// descriptor or -errno. A file that is to get a name is put into *made; one that is not may get one later, by linkat,
// unless `flags` has O_EXCL. Wants the lock held, exclusively where there is `made`.
int create(const Inode &directory, int flags, mode_t mode, Inode **made);

// What the descriptor of a file stands for that has no name.
enum class Unnamed : unsigned char { no, removed, linkable };
Unnamed describe_unnamed(int fd, const Volume &volume);
// Whether it is a file of ours at all, given that it is none that the Tree knows.
bool is_unnamed(int fd);

// The functions that follow want the lock held.

// Opens an inode with open(2)'s flags. Returns a descriptor or -errno: EIO where the file's own descriptor was closed
// or replaced behind our back, so that nobody is ever given another file's bytes.
int open_inode(const Inode &inode, int flags);
int open_directory(const Inode &directory, int flags);

// What stat(2) says of it. Returns 0 or -errno.
int status_of(const Inode &inode, struct stat *status);
// Puts right what fstat(2) says of the file's memfd.
void amend_status(const Inode &file, struct stat *status);
// What stat(2) says of a directory that was removed while it was open.
void status_of_removed_directory(std::uint64_t number, struct stat *status);

}  // namespace diskless
