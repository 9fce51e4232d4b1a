// CRC-32, CRC-32C and CRC-64/NVME: with carry-less multiplication where the processor has it, by tables elsewhere.

#include "checksum.h"

#include <array>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#else
#include <arm_neon.h>
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

#include "diskless.h"

namespace diskless::checksum {

namespace {

// How many bytes the tables take at a time ("slicing by 16": Kounavis and Berry, 2005).
constexpr std::size_t slices = 16;

template <typename W>
using Tables = std::array<std::array<W, 256>, slices>;

// tables[n][byte]: the remainder of that byte with n bytes of zeros behind it.
template <typename W>
constexpr Tables<W> make_tables(Polynomial<W> polynomial) {
  Tables<W> tables{};
  for (unsigned byte = 0; byte < 256; ++byte) {
    W value = byte;
    for (int bit = 0; bit < 8; ++bit) value = polynomial.times_x(value);
    tables[0][byte] = value;
  }
  for (std::size_t slice = 1; slice < slices; ++slice) {
    for (unsigned byte = 0; byte < 256; ++byte) {
      const W before = tables[slice - 1][byte];
      tables[slice][byte] = (before >> 8) ^ tables[0][before & 0xff];
    }
  }
  return tables;
}

template <typename W>
W by_tables(const Tables<W> &tables, W crc, const unsigned char *data, std::size_t size) {
  for (; size >= slices; data += slices, size -= slices) {
    std::uint64_t first, second;
    std::memcpy(&first, data, 8);
    std::memcpy(&second, data + 8, 8);
    first ^= crc;
    crc = 0;
    for (std::size_t i = 0; i < 8; ++i) {
      crc ^= tables[15 - i][first >> (8 * i) & 0xff] ^ tables[7 - i][second >> (8 * i) & 0xff];
    }
  }
  for (; size > 0; ++data, --size) crc = static_cast<W>(std::uint64_t{crc} >> 8) ^ tables[0][(crc ^ *data) & 0xff];
  return crc;
}

// Folding: the bytes so far are equivalent to a remainder of 128 bits, which is multiplied by a power of x to stand
// where the next bytes are, and added to them ("Fast CRC Computation for Generic Polynomials Using PCLMULQDQ", Gopal and
// others, 2009). Its first 64 bits are 64 powers higher than the others. The product of two reflected words is one power
// lower than it seems.
struct Fold {
  std::uint64_t first, second;

  template <typename W>
  static constexpr Fold over(Polynomial<W> polynomial, std::uint64_t bits) {
    constexpr int shift = 64 - Polynomial<W>::bits;
    return {std::uint64_t{polynomial.power(bits + 63)} << shift, std::uint64_t{polynomial.power(bits - 1)} << shift};
  }
};

constexpr std::size_t lanes = 4, lane_bytes = 16, block_bytes = lanes * lane_bytes;

#if defined(__x86_64__)
#define DISKLESS_FOLDS __attribute__((target("pclmul,sse4.1")))

using Lane = __m128i;
DISKLESS_FOLDS inline Lane load(const void *from) { return _mm_loadu_si128(static_cast<const __m128i *>(from)); }
DISKLESS_FOLDS inline Lane word(std::uint64_t value) { return _mm_cvtsi64_si128(static_cast<long long>(value)); }
DISKLESS_FOLDS inline Lane add(Lane one, Lane other) { return _mm_xor_si128(one, other); }
DISKLESS_FOLDS inline void store(void *to, Lane lane) { _mm_storeu_si128(static_cast<__m128i *>(to), lane); }
DISKLESS_FOLDS inline Lane folded(Lane lane, Lane by) {
  return _mm_xor_si128(_mm_clmulepi64_si128(lane, by, 0x00), _mm_clmulepi64_si128(lane, by, 0x11));
}

bool can_fold() { return __builtin_cpu_supports("pclmul") && __builtin_cpu_supports("sse4.1"); }
#else
#define DISKLESS_FOLDS __attribute__((target("+crypto")))

using Lane = uint64x2_t;
DISKLESS_FOLDS inline Lane load(const void *from) {
  return vreinterpretq_u64_u8(vld1q_u8(static_cast<const uint8_t *>(from)));
}
DISKLESS_FOLDS inline Lane word(std::uint64_t value) { return vsetq_lane_u64(value, vdupq_n_u64(0), 0); }
DISKLESS_FOLDS inline Lane add(Lane one, Lane other) { return veorq_u64(one, other); }
DISKLESS_FOLDS inline void store(void *to, Lane lane) {
  vst1q_u8(static_cast<uint8_t *>(to), vreinterpretq_u8_u64(lane));
}
DISKLESS_FOLDS inline Lane folded(Lane lane, Lane by) {
  const poly64x2_t one = vreinterpretq_p64_u64(lane), other = vreinterpretq_p64_u64(by);
  return veorq_u64(vreinterpretq_u64_p128(vmull_p64(vgetq_lane_p64(one, 0), vgetq_lane_p64(other, 0))),
                   vreinterpretq_u64_p128(vmull_high_p64(one, other)));
}

bool can_fold() { return (::getauxval(AT_HWCAP) & HWCAP_PMULL) != 0; }
#endif

// Leaves 16 bytes in `rest` that have the same remainder as the `size` bytes of data, a multiple of 16 and at least 64.
DISKLESS_FOLDS void fold(const Fold &by_block, const Fold &by_lane, std::uint64_t crc, const unsigned char *data,
                         std::size_t size, unsigned char (&rest)[lane_bytes]) {
  const std::uint64_t block[] = {by_block.first, by_block.second}, one[] = {by_lane.first, by_lane.second};
  const Lane far = load(block), near = load(one);
  Lane state[lanes];
  for (std::size_t i = 0; i < lanes; ++i) state[i] = load(data + i * lane_bytes);
  state[0] = add(state[0], word(crc));
  for (data += block_bytes, size -= block_bytes; size >= block_bytes; data += block_bytes, size -= block_bytes) {
    for (std::size_t i = 0; i < lanes; ++i) state[i] = add(folded(state[i], far), load(data + i * lane_bytes));
  }
  Lane sum = state[0];
  for (std::size_t i = 1; i < lanes; ++i) sum = add(folded(sum, near), state[i]);
  for (; size > 0; data += lane_bytes, size -= lane_bytes) sum = add(folded(sum, near), load(data));
  store(rest, sum);
}

const bool folds_here = can_fold();

template <typename W>
struct Crc {
  Polynomial<W> polynomial;
  Tables<W> tables = make_tables(polynomial);
  Fold by_block = Fold::over(polynomial, 8 * block_bytes), by_lane = Fold::over(polynomial, 8 * lane_bytes);

  W update(W crc, const void *from, std::size_t size) const {
    const auto *data = static_cast<const unsigned char *>(from);
    crc = ~crc;
    if (folds_here && size >= block_bytes) {
      unsigned char rest[lane_bytes];
      const std::size_t whole = size & ~(lane_bytes - 1);
      fold(by_block, by_lane, crc, data, whole, rest);
      crc = by_tables(tables, W{0}, rest, lane_bytes);
      data += whole;
      size -= whole;
    }
    return ~by_tables(tables, crc, data, size);
  }

  // Of two pieces, the second of which has `size` bytes.
  W combine(W first, W second, std::uint64_t size) const {
    // The inversions at the end of the first and at the beginning of the second take each other away.
    return polynomial.multiply(polynomial.power(8 * size), first) ^ second;
  }
};

constexpr Crc<std::uint32_t> crc32{{0xedb88320}}, crc32c{{0x82f63b78}};
constexpr Crc<std::uint64_t> crc64nvme{{0x9a6c9329ac4bc9b5}};

template <typename Use>
unsigned long long with(int which, Use use) {
  switch (which) {
    case DISKLESS_CRC32: return use(crc32);
    case DISKLESS_CRC32C: return use(crc32c);
    default: return use(crc64nvme);
  }
}

}  // namespace

}  // namespace diskless::checksum

using namespace diskless::checksum;

extern "C" {

unsigned long long diskless_crc(int which, unsigned long long crc, const void *data, unsigned long long size) {
  return with(which, [=](const auto &kind) {
    return kind.update(static_cast<decltype(kind.polynomial.low)>(crc), data, size);
  });
}

unsigned long long diskless_crc_combine(int which, unsigned long long first, unsigned long long second,
                                        unsigned long long size) {
  return with(which, [=](const auto &kind) {
    using W = decltype(kind.polynomial.low);
    return kind.combine(static_cast<W>(first), static_cast<W>(second), size);
  });
}

}  // extern "C"
