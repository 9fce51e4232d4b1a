// System calls without libc's errno, for children that share our memory and so our thread's thread-local storage.
#pragma once

#include <sys/syscall.h>

namespace diskless::raw {

inline long system_call(long number, long a = 0, long b = 0, long c = 0, long d = 0, long e = 0) {
#if defined(__x86_64__)
  long result;
  register long r10 __asm__("r10") = d;
  register long r8 __asm__("r8") = e;
  __asm__ volatile("syscall"
                   : "=a"(result)
                   : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
                   : "rcx", "r11", "memory");
  return result;
#elif defined(__aarch64__)
  register long x8 __asm__("x8") = number;
  register long x0 __asm__("x0") = a;
  register long x1 __asm__("x1") = b;
  register long x2 __asm__("x2") = c;
  register long x3 __asm__("x3") = d;
  register long x4 __asm__("x4") = e;
  __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4) : "memory");
  return x0;
#endif
}

inline long word(long value) { return value; }
inline long word(const void *value) { return reinterpret_cast<long>(value); }

// Returns what the kernel does: a negative result is -errno.
template <typename... Arguments>
long call(long number, Arguments... arguments) {
  return system_call(number, word(arguments)...);
}

}  // namespace diskless::raw
