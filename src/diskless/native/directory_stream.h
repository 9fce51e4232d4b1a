// A DIR of ours: what opendir gives for a directory of the Tree, and every function that takes one must know.
#pragma once

#include <dirent.h>

#include <cstdint>
#include <cstring>

#include "tree.h"

namespace diskless {

struct DirectoryStream {
  // Where libc's own have their descriptor, a negative number: so that a foreign one is told apart by one comparison.
  std::uint64_t mark;
  const DirectoryStream *self;
  int fd;
  std::uint64_t number;  // of the directory
  Cookie position;       // of the entry read last
  struct dirent64 entry;
};

inline constexpr std::uint64_t stream_mark = 0x6469736bffffffffu;

inline DirectoryStream *stream_of_ours(DIR *stream) {
  auto *ours = reinterpret_cast<DirectoryStream *>(stream);
  std::uint64_t mark;
  if (kernel::is_null(stream)) return nullptr;
  std::memcpy(&mark, ours, sizeof mark);
  return mark == stream_mark && ours->self == ours ? ours : nullptr;
}

// A stream over a descriptor of a directory of ours, which it then owns. `number` is the directory's.
DIR *make_stream(int fd, std::uint64_t number, Cookie position);

// The entry that follows `position` in the directory, or false at the end. Takes the lock.
bool read_entry(std::uint64_t number, Cookie position, struct dirent64 *entry);

}  // namespace diskless
