// What the C++ library would bring along, made small: no exception is thrown in here, and where the standard
// containers would throw, there is no memory left or a defect of ours, and no way to go on.

#include <cstdlib>
#include <new>

#include <unistd.h>

#include "pool.h"

namespace {

[[noreturn]] void give_up(const char *why, std::size_t length) {
  [[maybe_unused]] const auto written = ::write(2, why, length);
  std::abort();
}

void *allocate(std::size_t size) {
  void *memory = diskless::allocate_anywhere(size);
  static const char why[] = "diskless: out of memory\n";
  if (!memory) give_up(why, sizeof why - 1);
  return memory;
}

[[noreturn]] void misuse() {
  static const char why[] = "diskless: a container was misused\n";
  give_up(why, sizeof why - 1);
}

}  // namespace

void *operator new(std::size_t size) { return allocate(size); }
void *operator new[](std::size_t size) { return allocate(size); }
void operator delete(void *memory) noexcept { diskless::free_anywhere(memory); }
void operator delete[](void *memory) noexcept { diskless::free_anywhere(memory); }
void operator delete(void *memory, std::size_t) noexcept { diskless::free_anywhere(memory); }
void operator delete[](void *memory, std::size_t) noexcept { diskless::free_anywhere(memory); }

namespace std {

void __throw_bad_alloc() { misuse(); }
void __throw_bad_array_new_length() { misuse(); }
void __throw_bad_function_call() { misuse(); }
void __throw_length_error(const char *) { misuse(); }
void __throw_logic_error(const char *) { misuse(); }
void __throw_out_of_range(const char *) { misuse(); }
void __throw_out_of_range_fmt(const char *, ...) { misuse(); }

}  // namespace std
