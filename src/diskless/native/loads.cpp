// Objects that are loaded while a Mount is open, and functions asked for by name.
//
// glibc looks at who calls dlopen and dlsym: the caller's RUNPATH and $ORIGIN are searched, and RTLD_NEXT counts from
// the caller. A wrapper in C would make us the caller (memray's pull requests 525 and 549 tell of it). So the wrappers
// here look at the arguments and then jump: the real function sees the original caller's return address.

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <map>

#include "activation.h"
#include "elf.h"
#include "hooks.h"
#include "kernel.h"
#include "lock.h"
#include "tree.h"

namespace diskless {

namespace {

// Objects loaded from the Tree, by the path that the loader was given. Their descriptors stay open for ever: the loader
// takes two objects of the same name for one, and their name holds the number. Guarded by `lock`.
Lock load_lock;
std::map<Identity, char *, bool (*)(const Identity &, const Identity &)> loaded(
    [](const Identity &a, const Identity &b) { return a.device != b.device ? a.device < b.device : a.number < b.number; });

// The path under which the loader finds a file of the Tree, or null where `path` is none.
const char *load_path(const char *path) {
  kernel::KeepErrno keep;
  const int fd = open_for_dlopen(path);
  if (fd < 0) return nullptr;
  struct stat status {};
  kernel::fstat(fd, &status);
  load_lock.lock();
  char *&known = loaded[Identity{status.st_dev, status.st_ino}];
  if (known) {
    kernel::close(fd);
  } else {
    known = strdup(kernel::DescriptorPath(fd).text);
  }
  const char *result = known;
  load_lock.unlock();
  return result;
}

void *load_and_patch(const char *path, int flags) {
  void *handle = NEXT(dlopen)(path, flags);
  patch_new_objects();
  return handle;
}

void *load_apart_and_patch(Lmid_t list, const char *path, int flags) {
  void *handle = NEXT(dlmopen)(list, path, flags);
  patch_new_objects();
  return handle;
}

// The search for a path with a slash does not depend on the caller, unless it says $ORIGIN.
bool caller_matters(const char *path) { return !path || !std::strchr(path, '/') || std::strchr(path, '$'); }

}  // namespace

// What the wrappers below are told: the first argument or the answer, and where to jump.
struct Verdict {
  const void *value;
  const void *jump;
};

extern "C" {

__attribute__((visibility("hidden"), used)) Verdict diskless_before_dlopen(const char *path) {
  const void *next = hooks[hook_dlopen].next.load(std::memory_order_relaxed);
  if (!is_active()) return {path, next};
  patch_new_objects();
  if (path) {
    if (const char *other = load_path(path)) path = other;
  }
  return {path, caller_matters(path) ? next : reinterpret_cast<const void *>(&load_and_patch)};
}

__attribute__((visibility("hidden"), used)) Verdict diskless_before_dlmopen(Lmid_t, const char *path) {
  const void *next = hooks[hook_dlmopen].next.load(std::memory_order_relaxed);
  if (!is_active()) return {path, next};
  if (path) {
    if (const char *other = load_path(path)) path = other;
  }
  return {path, caller_matters(path) ? next : reinterpret_cast<const void *>(&load_apart_and_patch)};
}

// A function that we redirect is asked for by name: the answer is ours, if it would be libc's. RTLD_NEXT, by which
// other tools find what they wrap, is answered by the linker.
__attribute__((visibility("hidden"), used)) Verdict diskless_before_dlsym(void *handle, const char *name) {
  const void *next = hooks[hook_dlsym].next.load(std::memory_order_relaxed);
  if (!is_active()) return {nullptr, next};
  patch_new_objects();
  const Hook *hook = handle != RTLD_NEXT && name ? find_hook(name) : nullptr;
  if (!hook || NEXT(dlsym)(handle, name) != hook->libc) return {nullptr, next};
  return {hook->ours, next};
}

__attribute__((visibility("hidden"), used)) Verdict diskless_before_dlvsym(void *handle, const char *name,
                                                                           const char *version) {
  const void *next = hooks[hook_dlvsym].next.load(std::memory_order_relaxed);
  if (!is_active()) return {nullptr, next};
  const Hook *hook = handle != RTLD_NEXT && name ? find_hook(name) : nullptr;
  if (!hook || NEXT(dlvsym)(handle, name, version) != hook->libc) return {nullptr, next};
  return {hook->ours, next};
}

}  // extern "C"

}  // namespace diskless

#if defined(__x86_64__)

// A wrapper saves the argument registers, asks, and either returns the answer or jumps with the stack as it came.
#define BEGIN(symbol)                                  \
  ".text\n.globl " symbol "\n.hidden " symbol "\n"     \
  ".type " symbol ", @function\n" symbol ":\n"         \
  ".cfi_startproc\nendbr64\n"                          \
  "push %rdi\npush %rsi\npush %rdx\n.cfi_adjust_cfa_offset 24\n"
#define END(symbol) ".cfi_endproc\n.size " symbol ", .-" symbol "\n"
#define RESTORE "pop %r8\npop %rsi\npop %rdi\n.cfi_adjust_cfa_offset -24\n"

__asm__(BEGIN("_ZN8diskless9intercept6dlopenEPKci")
        "call diskless_before_dlopen\n" RESTORE
        "mov %rax, %rdi\njmp *%rdx\n" END("_ZN8diskless9intercept6dlopenEPKci"));
__asm__(BEGIN("_ZN8diskless9intercept7dlmopenElPKci")
        "call diskless_before_dlmopen\n" RESTORE
        "mov %rdx, %r9\nmov %rax, %rsi\nmov %r8, %rdx\njmp *%r9\n" END("_ZN8diskless9intercept7dlmopenElPKci"));
__asm__(BEGIN("_ZN8diskless9intercept5dlsymEPvPKc")
        "call diskless_before_dlsym\n" RESTORE
        "test %rax, %rax\njne 1f\njmp *%rdx\n1: ret\n" END("_ZN8diskless9intercept5dlsymEPvPKc"));
__asm__(BEGIN("_ZN8diskless9intercept6dlvsymEPvPKcS3_")
        "call diskless_before_dlvsym\n" RESTORE
        "test %rax, %rax\njne 1f\nmov %rdx, %r9\nmov %r8, %rdx\njmp *%r9\n1: ret\n"
        END("_ZN8diskless9intercept6dlvsymEPvPKcS3_"));

#elif defined(__aarch64__)

#define BEGIN(symbol)                              \
  ".text\n.globl " symbol "\n.hidden " symbol "\n" \
  ".type " symbol ", %function\n" symbol ":\n"     \
  ".cfi_startproc\nhint #34\n"                     \
  "stp x29, x30, [sp, #-48]!\nstp x0, x1, [sp, #16]\nstr x2, [sp, #32]\nmov x29, sp\n"
#define END(symbol) ".cfi_endproc\n.size " symbol ", .-" symbol "\n"
// The verdict goes to x9 and x10.
#define RESTORE                                                          \
  "mov x9, x0\nmov x10, x1\nldp x0, x1, [sp, #16]\nldr x2, [sp, #32]\n" \
  "ldp x29, x30, [sp], #48\n"

__asm__(BEGIN("_ZN8diskless9intercept6dlopenEPKci")
        "bl diskless_before_dlopen\n" RESTORE "mov x0, x9\nbr x10\n" END("_ZN8diskless9intercept6dlopenEPKci"));
__asm__(BEGIN("_ZN8diskless9intercept7dlmopenElPKci")
        "bl diskless_before_dlmopen\n" RESTORE "mov x1, x9\nbr x10\n" END("_ZN8diskless9intercept7dlmopenElPKci"));
__asm__(BEGIN("_ZN8diskless9intercept5dlsymEPvPKc")
        "bl diskless_before_dlsym\n" RESTORE
        "cbnz x9, 1f\nbr x10\n1: mov x0, x9\nret\n" END("_ZN8diskless9intercept5dlsymEPvPKc"));
__asm__(BEGIN("_ZN8diskless9intercept6dlvsymEPvPKcS3_")
        "bl diskless_before_dlvsym\n" RESTORE
        "cbnz x9, 1f\nbr x10\n1: mov x0, x9\nret\n" END("_ZN8diskless9intercept6dlvsymEPvPKcS3_"));

#endif
