#include "hooks.h"

#include <dlfcn.h>

#include <cstring>

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
  if (hooks[hook_close].libc) return;
  // Before glibc 2.34 the others were libraries of their own.
  void *libraries[4];
  const char *const names[] = {"libc.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1"};
  for (int i = 0; i < 4; i++) libraries[i] = dlopen(names[i], RTLD_LAZY | RTLD_NOLOAD);
  for (Hook &hook : hooks) {
    for (void *library : libraries) {
      if (!hook.libc && library) hook.libc = dlsym(library, hook.name);
    }
    if (!hook.libc) hook.fallback = function_by_number(hook.name);
    hook.forget_next();
    std::size_t slot = hash(hook.name);
    while (table[slot]) slot = (slot + 1) % table_size;
    table[slot] = &hook;
  }
#define X(name) hooks[hook_##name].of_streams = true;
  DISKLESS_STREAM_HOOKS(X)
  X(fileno) X(fileno_unlocked) X(freopen) X(freopen64)
      X(fts_read) X(fts_children) X(fts_set) X(fts_close) X(fts64_read) X(fts64_children) X(fts64_set) X(fts64_close)
#undef X
}

Hook *find_hook(const char *name) {
  for (std::size_t slot = hash(name); table[slot]; slot = (slot + 1) % table_size) {
    if (std::strcmp(table[slot]->name, name) == 0) return table[slot];
  }
  return nullptr;
}

}  // namespace diskless
