// Polynomials over GF(2) as the CRCs of S3 use them: reflected, so that the highest bit of a word is the power 0.
#pragma once

#include <cstddef>
#include <cstdint>

namespace diskless::checksum {

// A CRC of `bits` bits, whose bits all are inverted before and after (catalogue of parametrised CRC algorithms:
// CRC-32/ISO-HDLC, CRC-32/ISCSI, CRC-64/NVME).
template <typename W>
struct Polynomial {
  W low;  // without its highest power

  static constexpr int bits = sizeof(W) * 8;

  constexpr W times_x(W value) const { return (value & 1) != 0 ? (value >> 1) ^ low : value >> 1; }

  constexpr W multiply(W one, W other) const {
    W product = 0;
    for (int power = 0; power < bits; ++power) {
      if ((one >> (bits - 1 - power) & 1) != 0) product ^= other;
      other = times_x(other);
    }
    return product;
  }

  // x to the power of `exponent`.
  constexpr W power(std::uint64_t exponent) const {
    W result = W{1} << (bits - 1), square = W{1} << (bits - 2);
    for (; exponent != 0; exponent >>= 1) {
      if ((exponent & 1) != 0) result = multiply(result, square);
      square = multiply(square, square);
    }
    return result;
  }
};

}  // namespace diskless::checksum
