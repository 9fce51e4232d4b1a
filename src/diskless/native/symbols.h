// Declarations of libc's functions that are redirected, also of those that its headers keep to themselves.
#pragma once

#include <dlfcn.h>
#include <unistd.h>

// Newer than the headers of the oldest glibc that this builds on (2.34).
extern "C" {
int close_range(unsigned first, unsigned last, int flags) noexcept;
void closefrom(int lowest) noexcept;
}
