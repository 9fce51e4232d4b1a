// A volume: what mounting one filesystem makes of the Tree. All Mounts are one that is read-only; /diskless itself, where
// they show, and each scratch are one each that may be written. Names and links do not cross from one to another.
#pragma once

#include <cstdint>

namespace diskless {

struct Volume {
  bool writable = false;
  std::uint64_t number = 0;    // told apart by it where a pointer may be stale
  long long budget_bytes = 0;  // how large it seems; 0: as large as all of the Tree
};

// What every inode belongs to that is in none of those.
extern Volume read_only_volume;

}  // namespace diskless
