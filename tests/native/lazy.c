/* lazy LIBRARY LAZY: loads a library whose calls are not bound yet, and lets a thread make the first one while the
 * slots are being patched. Prints how often the dynamic linker's binding was what remained. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { rounds = 600 };

static int (*open_by_library)(const char *);
static atomic_int go;
static long delay_ns;

static long now_ns(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1000000000L + time.tv_nsec;
}

static void spin(long ns) {
  for (const long begin = now_ns(); now_ns() - begin < ns;) {
  }
}

static void *first_call(void *unused) {
  while (!atomic_load(&go)) {
  }
  spin(delay_ns);
  close(open_by_library("/dev/null"));
  return unused;
}

int main(int count, char **words) {
  void *library = count == 3 ? dlopen(words[1], RTLD_NOW) : NULL;
  if (!library) return 2;
  int (*activate)(void) = dlsym(library, "diskless_activate"), (*deactivate)(void) = dlsym(library, "diskless_deactivate");
  int (*root_add)(const char *) = dlsym(library, "diskless_root_add");
  int (*memfd)(const char *) = dlsym(library, "diskless_memfd");
  int (*set_file)(const char *, int, unsigned, long long, int) = dlsym(library, "diskless_set_file");
  long (*patched)(void) = dlsym(library, "diskless_patched_slots");
  if (root_add("/diskless") < 0 || set_file("/diskless/a", memfd("a"), 0444, 0, -1) < 0) return 3;
  int lost = 0, left = 0;
  long patching_ns = 100000; /* undoing takes as long as doing, but for its pauses */
  for (int round = 0; round < rounds; round++) {
    void *lazy = dlopen(words[2], RTLD_LAZY | RTLD_LOCAL);
    pthread_t thread;
    if (!lazy) return fprintf(stderr, "%s\n", dlerror()), 4;
    open_by_library = dlsym(lazy, "open_by_library");
    atomic_store(&go, 0);
    pthread_create(&thread, NULL, first_call, NULL);
    usleep(100);
    delay_ns = round % 100 * patching_ns / 50;
    atomic_store(&go, 1);
    if (activate() < 0) return 5;
    pthread_join(thread, NULL);
    const int fd = open_by_library("/diskless/a");
    if (fd < 0) lost++;
    close(fd);
    const long begin = now_ns();
    deactivate();
    patching_ns = (patching_ns * 7 + now_ns() - begin) / 8;
    left += patched() != 0 || open_by_library("/diskless/a") >= 0;
    dlclose(lazy);
  }
  printf("lost %d, left %d\n", lost, left);
  return 0;
}
