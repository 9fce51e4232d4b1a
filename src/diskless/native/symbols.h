// Declarations of libc's functions that are redirected, also of those that its headers keep to themselves.
#pragma once

#include <dlfcn.h>
#include <unistd.h>

// libc's own names, which its headers do not tell.
extern "C" {
int __close(int fd);
int __dup2(int from, int to) noexcept;
}

// Newer than the headers of the oldest glibc that this builds on (2.34).
extern "C" {
int close_range(unsigned first, unsigned last, int flags) noexcept;
void closefrom(int lowest) noexcept;
}

// The linker would bind these to their newest versions (2.34, when libdl became a part of libc); the ones that every
// glibc has serve as well.
#if defined(__x86_64__)
#define DISKLESS_OLDEST_GLIBC "GLIBC_2.2.5"
#elif defined(__aarch64__)
#define DISKLESS_OLDEST_GLIBC "GLIBC_2.17"
#endif
__asm__(".symver dlopen, dlopen@" DISKLESS_OLDEST_GLIBC);
__asm__(".symver dlsym, dlsym@" DISKLESS_OLDEST_GLIBC);
__asm__(".symver dladdr, dladdr@" DISKLESS_OLDEST_GLIBC);
