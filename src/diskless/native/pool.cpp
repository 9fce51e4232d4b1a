#include "pool.h"

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstdint>
#include <cstdlib>

namespace diskless {

namespace {

// Sanitizers see what is allocated by malloc.
#if defined(__SANITIZE_ADDRESS__)
constexpr bool has_pool = false;
#else
constexpr bool has_pool = true;
#endif

// Addresses, of which memory is taken as they are used.
constexpr std::size_t reserved_bytes = std::size_t{16} << 30, least_reserved_bytes = std::size_t{64} << 20;
constexpr std::size_t step_bytes = std::size_t{1} << 20;

// Before each block. Its size is one of those that `kind_of` counts up.
struct alignas(16) Header {
  std::size_t kind;
};

struct Free {
  Free *next;
};

constexpr std::size_t fine_kinds = 64, fine_step = 16;  // up to 1 KiB; above, the powers of two
constexpr std::size_t kinds = fine_kinds + 32;

std::size_t kind_of(std::size_t size) {
  if (size <= fine_kinds * fine_step) return size == 0 ? 0 : (size - 1) / fine_step;
  return fine_kinds + static_cast<std::size_t>(std::bit_width(size - 1)) - 11;
}
std::size_t size_of(std::size_t kind) {
  return kind < fine_kinds ? (kind + 1) * fine_step : std::size_t{1} << (kind - fine_kinds + 11);
}

// All guarded by the Tree's lock, held exclusively; the bounds are set once.
std::atomic<char *> begin{nullptr}, end{nullptr};
char *unused = nullptr, *usable = nullptr;
bool was_tried = false;
Free *free_blocks[kinds];

// Put off until the lock is held exclusively, or is not held.
std::atomic<Free *> for_pool{nullptr}, for_malloc{nullptr};

thread_local bool in_use __attribute__((tls_model("initial-exec"))) = false;

void put_off(std::atomic<Free *> &list, void *memory) {
  auto *block = static_cast<Free *>(memory);
  block->next = list.load(std::memory_order_relaxed);
  while (!list.compare_exchange_weak(block->next, block, std::memory_order_release, std::memory_order_relaxed)) {
  }
}

bool is_of_pool(const void *memory) {
  const char *from = begin.load(std::memory_order_acquire);
  return from != nullptr && memory >= from && memory < end.load(std::memory_order_relaxed);
}

void reserve() {
  was_tried = true;
  for (std::size_t size = reserved_bytes; size >= least_reserved_bytes; size /= 2) {
    void *memory = ::mmap(nullptr, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) continue;
    unused = usable = static_cast<char *>(memory);
    end.store(unused + size, std::memory_order_relaxed);
    begin.store(unused, std::memory_order_release);
    return;
  }
}

void *take(std::size_t size) {
  if (!was_tried) reserve();
  if (begin.load(std::memory_order_relaxed) == nullptr || size > reserved_bytes / 4) return nullptr;
  const std::size_t kind = kind_of(size);
  if (Free *block = free_blocks[kind]) {
    free_blocks[kind] = block->next;
    return block;
  }
  const std::size_t needed = sizeof(Header) + size_of(kind);
  if (needed > static_cast<std::size_t>(usable - unused)) {
    const std::size_t more = (needed + step_bytes - 1) / step_bytes * step_bytes;
    if (more > static_cast<std::size_t>(end.load(std::memory_order_relaxed) - usable)) return nullptr;
    if (::mprotect(usable, more, PROT_READ | PROT_WRITE) != 0) return nullptr;
    usable += more;
  }
  auto *header = reinterpret_cast<Header *>(unused);
  header->kind = kind;
  unused += needed;
  return header + 1;
}

void give_back(void *memory) {
  auto *block = static_cast<Free *>(memory);
  const std::size_t kind = (static_cast<Header *>(memory) - 1)->kind;
  block->next = free_blocks[kind];
  free_blocks[kind] = block;
}

}  // namespace

void begin_to_use_pool() {
  if (!has_pool) return;
  in_use = true;
  for (Free *block = for_pool.exchange(nullptr, std::memory_order_acquire); block != nullptr;) {
    Free *next = block->next;
    give_back(block);
    block = next;
  }
}

void cease_to_use_pool() { in_use = false; }

void free_what_was_put_off() {
  if (for_malloc.load(std::memory_order_relaxed) == nullptr) return;
  for (Free *block = for_malloc.exchange(nullptr, std::memory_order_acquire); block != nullptr;) {
    Free *next = block->next;
    std::free(block);
    block = next;
  }
}

void *allocate_anywhere(std::size_t size) {
  if (in_use) [[unlikely]] {
    if (void *memory = take(size)) return memory;
  }
  return std::malloc(std::max(size, sizeof(Free)));
}

void free_anywhere(void *memory) {
  if (memory == nullptr) return;
  if (is_of_pool(memory)) {
    if (in_use) return give_back(memory);
    put_off(for_pool, memory);
  } else if (in_use) {
    put_off(for_malloc, memory);
  } else {
    std::free(memory);
  }
}

}  // namespace diskless
