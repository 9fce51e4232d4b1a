// Counting what is written. A write past the control group's limit into a memfd is no error but the end of the
// process, so writes to files of a scratch are counted, and the one that crosses the limit gets ENOSPC.
//
// Not each write is measured: a measurement gives a credit, which writes use up by the most that they can take, and the
// one that it does not suffice for measures anew. So nothing has to be known of what is freed, and where.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <string_view>

#include "tree.h"

namespace diskless {

// What a descriptor number stands for, as far as is known. Numbers change hands in ways that nobody sees: a wrong
// `foreign` leaves a write uncounted, any other mistake is noticed when the credit is used up.
using Standing = std::uint16_t;
inline constexpr Standing unknown = 0, foreign = 1, of_no_volume = 2, first_of_volumes = 3;

inline constexpr unsigned most_numbers = 1 << 20;
extern std::atomic<Standing> standings[most_numbers];

// What the hooks ask first.
inline bool is_foreign(int fd) {
  return static_cast<unsigned>(fd) >= most_numbers ||
         standings[static_cast<unsigned>(fd)].load(std::memory_order_relaxed) == foreign;
}

inline bool is_counted_so_far(int fd) {
  return static_cast<unsigned>(fd) < most_numbers && standings[fd].load(std::memory_order_relaxed) > foreign;
}

// The number is handed out for a file, closed, or has come from elsewhere.
void set_standing(int fd, const Volume &volume);
inline void forget_standing(int fd) {
  if (static_cast<unsigned>(fd) < most_numbers) standings[fd].store(unknown, std::memory_order_relaxed);
}
void forget_standings(unsigned first, unsigned last);
// `to` is the same as `from` now.
void copy_standing(int from, int to);

// Calls `visit(int fd)` for descriptors that probably are of files of the volume, or of any.
unsigned past_highest_counted();
Standing standing_of(const Volume *volume);
template <typename Visit>
void for_each_counted(const Volume *volume, Visit visit) {
  const Standing wanted = volume == nullptr ? unknown : standing_of(volume);
  for (unsigned fd = 0, end = past_highest_counted(); fd < end; ++fd) {
    const Standing standing = standings[fd].load(std::memory_order_relaxed);
    if (standing == wanted || (volume == nullptr && standing >= of_no_volume)) visit(static_cast<int>(fd));
  }
}

// The number of the volume that a memfd was made for, by what /proc says of it; 0 if it is none of a scratch.
std::uint64_t volume_number_of(std::string_view link);

// Where a call writes.
inline constexpr off_t own_offset = -1;  // the descriptor's

// Takes `length` bytes of the credit. False where that is not enough.
bool take_credit(int fd, std::uint64_t length);

// Measures whether a write finds room.
class Permit {
 public:
  enum class Kind : unsigned char { write, whole };  // may be done in part, or must not

  Permit(int fd, off_t offset, std::uint64_t length, Kind kind = Kind::write);
  ~Permit();
  Permit(const Permit &) = delete;
  Permit &operator=(const Permit &) = delete;

  // How much may be written; less than asked for means that there is no more room.
  std::uint64_t length() const { return length_; }
  bool refused() const { return refused_; }

 private:
  void measure(int fd, off_t offset, Kind kind);

  std::uint64_t length_;
  bool refused_ = false;
  long long reserved_ = 0;       // counted in both accounts until the write is done
  Standing standing_ = foreign;
};

// The room that is left for the files of a scratch, which statvfs shows. Wants tree_lock held.
struct Room {
  long long total_bytes, free_bytes;
};
Room room_of(const Volume &volume);

}  // namespace diskless
