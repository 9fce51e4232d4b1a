// Objects that are loaded while a Mount is open, and functions asked for by name.
//
// glibc looks at who calls dlopen and dlsym: the caller's RUNPATH and $ORIGIN are searched, and RTLD_NEXT counts from
// the caller. A wrapper in C would make us the caller (memray's pull requests 525 and 549 tell of it). So the wrappers
// here look at the arguments and then jump: the real function sees the original caller's return address.

#include <pthread.h>

#include <cstring>
#include <mutex>

#include "activation.h"
#include "diskless.h"
#include "hooks.h"
#include "kernel.h"
#include "lock.h"
#include "pages.h"
#include "slots.h"
#include "tree.h"

namespace diskless {

namespace {

struct Loaded {
  Identity memory;
  char *path;          // in the Tree
  char *loaders_path;  // what the loader knows it by: /proc/self/fd/<number>
};

// Objects that were loaded from the Tree, for ever: the loader takes objects of one name for one, so a number must not
// be used again. Guarded by `loaded_lock`.
constinit Lock loaded_lock;
Pages<Loaded> loaded;

__attribute__((constructor)) void begin() {
  pthread_atfork([] { loaded_lock.begin_fork(); }, [] { loaded_lock.end_fork(); },
                 [] { loaded_lock.end_fork_in_child(); });
}

// The path under which the loader finds a file of the Tree, or null where `path` is none.
const char *loaders_path(const char *path) {
  kernel::KeepErrno keep;
  int fd = open_for_dlopen(path);
  if (fd < 0) return nullptr;
  struct stat status {};
  kernel::fstat(fd, &status);
  const Identity memory{status.st_dev, status.st_ino};
  const std::lock_guard lock(loaded_lock);
  for (const Loaded &each : loaded) {
    if (each.memory == memory) {
      kernel::close(fd);
      return each.loaders_path;
    }
  }
  fd = diskless_guard(fd);
  if (fd < 0) return nullptr;
  loaded.push({memory, strdup(path), strdup(kernel::DescriptorPath(fd).text)});
  return loaded[loaded.size() - 1].loaders_path;
}

// For the interpreter's own calls: what it loads is patched at once, and not only when a function of it is asked for.
void *load_and_patch(const char *path, int flags) {
  void *handle = NEXT(dlopen)(path, flags);
  // Asking the linker anything now would make dlerror(3) forget a failure.
  if (handle) patch_new_objects();
  return handle;
}

// A path with a slash is searched for nowhere, unless it says $ORIGIN.
bool is_searched_for(const char *path) { return !path || !std::strchr(path, '/') || std::strchr(path, '$'); }

// Whether a name that is asked for is to be answered with ours: where libc's function would be the answer. RTLD_NEXT
// is how tools find what they wrap, and a tool that our function calls must not be sent back to us.
template <typename Ask>
void *answer(void *handle, const char *name, const void *caller, Ask ask) {
  Hook *hook = handle != RTLD_NEXT && name ? find_hook(name) : nullptr;
  if (!hook || !hook->libc || ask() != hook->libc || is_of_another_tool(*hook, caller)) return nullptr;
  return hook->ours;
}

}  // namespace

// What the wrappers below are told: an argument or the answer, and where to jump.
struct Verdict {
  const void *value;
  const void *jump;
};

extern "C" {

__attribute__((visibility("hidden"), used)) Verdict diskless_before_dlopen(const char *path, int, const void *caller) {
  const void *next = hooks[hook_dlopen].next.load(std::memory_order_relaxed);
  if (!is_active()) return {path, next};
  patch_new_objects();
  const char *in_tree = path ? loaders_path(path) : nullptr;
  if (in_tree) path = in_tree;
  const bool ours = !is_searched_for(path) && is_interpreter(caller);
  return {path, ours ? reinterpret_cast<const void *>(&load_and_patch) : next};
}

__attribute__((visibility("hidden"), used)) Verdict diskless_before_dlmopen(Lmid_t, const char *path) {
  const void *next = hooks[hook_dlmopen].next.load(std::memory_order_relaxed);
  const char *in_tree = path && is_active() ? loaders_path(path) : nullptr;
  return {in_tree ? in_tree : path, next};
}

__attribute__((visibility("hidden"), used)) Verdict diskless_before_dlsym(void *handle, const char *name,
                                                                          const void *caller) {
  const void *next = hooks[hook_dlsym].next.load(std::memory_order_relaxed);
  if (!is_active()) return {nullptr, next};
  patch_new_objects();
  return {answer(handle, name, caller, [&] { return NEXT(dlsym)(handle, name); }), next};
}

__attribute__((visibility("hidden"), used)) Verdict diskless_before_dlvsym(void *handle, const char *name,
                                                                           const char *version, const void *caller) {
  const void *next = hooks[hook_dlvsym].next.load(std::memory_order_relaxed);
  if (!is_active()) return {nullptr, next};
  patch_new_objects();
  return {answer(handle, name, caller, [&] { return NEXT(dlvsym)(handle, name, version); }), next};
}

}  // extern "C"

namespace intercept {

// An object of the Tree is known by its path there, by which libraries find what lies beside them.
int dladdr(const void *address, Dl_info *info) noexcept {
  const int found = NEXT(dladdr)(address, info);
  if (found == 0 || !info->dli_fname || std::strncmp(info->dli_fname, "/proc/self/fd/", 14) != 0) return found;
  const std::lock_guard lock(loaded_lock);
  for (const Loaded &each : loaded) {
    if (std::strcmp(each.loaders_path, info->dli_fname) == 0) info->dli_fname = each.path;
  }
  return found;
}

}  // namespace intercept

}  // namespace diskless

// clang-format off
// A wrapper saves the argument registers, asks, and either returns the answer or jumps with the stack as it came.

#if defined(__x86_64__)

#define BEGIN(symbol)                                  \
  ".text\n.globl " symbol "\n.hidden " symbol "\n"     \
  ".type " symbol ", @function\n" symbol ":\n"         \
  ".cfi_startproc\nendbr64\n"                          \
  "push %rdi\npush %rsi\npush %rdx\n.cfi_adjust_cfa_offset 24\n"
#define END(symbol) ".cfi_endproc\n.size " symbol ", .-" symbol "\n"
#define RESTORE "pop %r8\npop %rsi\npop %rdi\n.cfi_adjust_cfa_offset -24\n"

__asm__(BEGIN("_ZN8diskless9intercept6dlopenEPKci")
        "mov 24(%rsp), %rdx\ncall diskless_before_dlopen\n" RESTORE
        "mov %rax, %rdi\njmp *%rdx\n" END("_ZN8diskless9intercept6dlopenEPKci"));
__asm__(BEGIN("_ZN8diskless9intercept7dlmopenElPKci")
        "call diskless_before_dlmopen\n" RESTORE
        "mov %rdx, %r9\nmov %rax, %rsi\nmov %r8, %rdx\njmp *%r9\n" END("_ZN8diskless9intercept7dlmopenElPKci"));
__asm__(BEGIN("_ZN8diskless9intercept5dlsymEPvPKc")
        "mov 24(%rsp), %rdx\ncall diskless_before_dlsym\n" RESTORE
        "test %rax, %rax\njne 1f\njmp *%rdx\n1: ret\n" END("_ZN8diskless9intercept5dlsymEPvPKc"));
__asm__(BEGIN("_ZN8diskless9intercept6dlvsymEPvPKcS3_")
        "mov 24(%rsp), %rcx\ncall diskless_before_dlvsym\n" RESTORE
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
        "mov x2, x30\nbl diskless_before_dlopen\n" RESTORE "mov x0, x9\nbr x10\n" END("_ZN8diskless9intercept6dlopenEPKci"));
__asm__(BEGIN("_ZN8diskless9intercept7dlmopenElPKci")
        "bl diskless_before_dlmopen\n" RESTORE "mov x1, x9\nbr x10\n" END("_ZN8diskless9intercept7dlmopenElPKci"));
__asm__(BEGIN("_ZN8diskless9intercept5dlsymEPvPKc")
        "mov x2, x30\nbl diskless_before_dlsym\n" RESTORE
        "cbnz x9, 1f\nbr x10\n1: mov x0, x9\nret\n" END("_ZN8diskless9intercept5dlsymEPvPKc"));
__asm__(BEGIN("_ZN8diskless9intercept6dlvsymEPvPKcS3_")
        "mov x3, x30\nbl diskless_before_dlvsym\n" RESTORE
        "cbnz x9, 1f\nbr x10\n1: mov x0, x9\nret\n" END("_ZN8diskless9intercept6dlvsymEPvPKcS3_"));

#endif
// clang-format on
