// Draw: the random choices of one operation. They depend on the seed and the operation's number only, so that both
// worlds make the same ones, and that operations may be left out without a change to the others.
#pragma once

#include <cstddef>
#include <cstdint>

class Draw {
 public:
  Draw(std::uint64_t seed, std::uint64_t number) : state_(mix(mix(seed) ^ number)) {}

  unsigned below(unsigned end) {
    state_ += 0x9e3779b97f4a7c15;
    return static_cast<unsigned>(mix(state_) >> 33) % end;
  }

  bool one_in(unsigned count) { return below(count) == 0; }

  template <typename Value, std::size_t size>
  const Value &of(const Value (&values)[size]) {
    return values[below(size)];
  }

 private:
  // The last step of splitmix64.
  static std::uint64_t mix(std::uint64_t value) {
    value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9;
    value = (value ^ (value >> 27)) * 0x94d049bb133111eb;
    return value ^ (value >> 31);
  }

  std::uint64_t state_;
};
