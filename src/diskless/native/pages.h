// Memory for the patcher: it works while the dynamic linker's lock is held, when malloc must not be called, since an
// allocator that loads or looks up something itself would then wait for us and we for it.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <type_traits>

namespace diskless {

// A growing array of plain values, in pages of its own.
template <typename Value>
class Pages {
  static_assert(std::is_trivially_copyable_v<Value>);

 public:
  // False where the system has no memory left.
  bool push(const Value &value) {
    if (count_ == capacity_ && !grow()) return false;
    values_[count_++] = value;
    return true;
  }

  void clear() { count_ = 0; }
  void truncate(std::size_t count) { count_ = count; }
  std::size_t size() const { return count_; }
  Value &operator[](std::size_t index) { return values_[index]; }
  Value *begin() { return values_; }
  Value *end() { return values_ + count_; }

 private:
  bool grow() {
    const std::size_t bytes = capacity_ * sizeof(Value);
    const std::size_t wanted = bytes == 0 ? std::size_t{64} << 10 : bytes * 2;
    void *memory = bytes == 0 ? mmap(nullptr, wanted, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
                              : mremap(values_, bytes, wanted, MREMAP_MAYMOVE);
    if (memory == MAP_FAILED) return false;
    values_ = static_cast<Value *>(memory);
    capacity_ = wanted / sizeof(Value);
    return true;
  }

  Value *values_ = nullptr;
  std::size_t count_ = 0, capacity_ = 0;
};

}  // namespace diskless
