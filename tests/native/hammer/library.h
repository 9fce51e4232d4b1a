// The library's C interface, looked up in the one that is loaded.
#pragma once

#include <dlfcn.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

[[noreturn]] inline void fail(const char *what, const char *of = "") {
  std::fprintf(stderr, "%s %s: %s\n", what, of, std::strerror(errno));
  std::_Exit(1);
}

struct Library {
  explicit Library(const char *path) : loaded_(::dlopen(path, RTLD_NOW)) {
    if (loaded_ == nullptr) {
      std::fprintf(stderr, "%s\n", ::dlerror());
      std::_Exit(2);
    }
    find("memfd", &memfd);
    find("seal", &seal);
    find("release", &release);
    find("root_add", &root_add);
    find("root_remove", &root_remove);
    find("scratch_add", &scratch_add);
    find("scratch_remove", &scratch_remove);
    find("set_file", &set_file);
    find("remove", &remove);
    find("activate", &activate);
    find("deactivate", &deactivate);
  }

  int (*memfd)(const char *);
  int (*seal)(int), (*release)(int);
  int (*root_add)(const char *), (*root_remove)(const char *);
  int (*scratch_add)(const char *, unsigned, long long), (*scratch_remove)(const char *);
  int (*set_file)(const char *, int, unsigned, long long), (*remove)(const char *);
  int (*activate)(), (*deactivate)();

 private:
  template <typename Function>
  void find(const char *name, Function *function) {
    char symbol[64];
    std::snprintf(symbol, sizeof symbol, "diskless_%s", name);
    *function = reinterpret_cast<Function>(::dlsym(loaded_, symbol));
    if (*function == nullptr) fail("no function", symbol);
  }

  void *loaded_;
};
