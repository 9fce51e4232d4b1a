#include "hooks.h"

#include <dlfcn.h>

#include <cstring>

#include "elf.h"

namespace diskless {

Hook hooks[hook_count] = {
#define X(name) {#name, reinterpret_cast<void *>(&intercept::name)},
    DISKLESS_HOOKS(X)
#undef X
};

namespace {

// An open-addressing table of the names, since every symbol of every object is looked up in it.
constexpr std::size_t table_size = 1024;
static_assert(hook_count * 2 < table_size);
Hook *table[table_size];

std::size_t hash(const char *name) {
  std::size_t value = 5381;
  for (; *name; name++) value = value * 33 + static_cast<unsigned char>(*name);
  return value % table_size;
}

}  // namespace

void find_originals() {
  if (hooks[0].libc || hooks[hook_dlsym].libc) return;
  void *libc = dlopen("libc.so.6", RTLD_LAZY | RTLD_NOLOAD);
  // Before glibc 2.34 these lived in libraries of their own.
  void *dl = dlopen("libdl.so.2", RTLD_LAZY | RTLD_NOLOAD);
  void *pthread = dlopen("libpthread.so.0", RTLD_LAZY | RTLD_NOLOAD);
  void *rt = dlopen("librt.so.1", RTLD_LAZY | RTLD_NOLOAD);
  for (Hook &hook : hooks) {
    for (void *library : {libc, dl, pthread, rt}) {
      if (!hook.libc && library) hook.libc = dlsym(library, hook.name);
    }
    hook.next.store(hook.libc);
    std::size_t slot = hash(hook.name);
    while (table[slot]) slot = (slot + 1) % table_size;
    table[slot] = &hook;
  }
}

Hook *find_hook(const char *name) {
  for (std::size_t slot = hash(name); table[slot]; slot = (slot + 1) % table_size) {
    if (std::strcmp(table[slot]->name, name) == 0) return table[slot];
  }
  return nullptr;
}

}  // namespace diskless
