// Machine: does one random series of operations after another in two worlds, and compares what comes of each.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "user.h"

struct Setting {
  std::string tops[2];      // where the worlds are made, of one length
  std::string outsides[2];  // where their symlinks lead out to
  User user;
  std::uint64_t seed;
};

inline constexpr std::uint64_t steps_a_series = 50;
using Numbers = std::vector<std::uint64_t>;

// The operations of the n-th series, all of them.
Numbers numbers_of_series(std::uint64_t series);

// How often everything is compared, and whether each operation is told.
enum class How { now_and_then, closely, closely_and_loud };

// Does these operations in new worlds. What differed, or nothing.
std::string differs(const Setting &setting, const Numbers &numbers, How how);
