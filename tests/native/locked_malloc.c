/* locked_malloc LIB: malloc has one lock for all threads, and signals come while a thread holds it; their handler works
 * with files of the Tree while other threads change names and read them. Ends with 0; a deadlock is ended by an alarm. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { changers = 3, allocators = 2, signals = 400 };

void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
void __libc_free(void *);

static atomic_flag held = ATOMIC_FLAG_INIT;
static atomic_int slow, done, handled;

static void take(void) {
  while (atomic_flag_test_and_set(&held)) usleep(10);
  if (atomic_load(&slow)) usleep(20); /* so that signals find somebody here */
}
static void give(void) { atomic_flag_clear(&held); }

void *malloc(size_t size) { take(); void *memory = __libc_malloc(size); give(); return memory; }
void *calloc(size_t count, size_t size) { take(); void *memory = __libc_calloc(count, size); give(); return memory; }
void *realloc(void *old, size_t size) { take(); void *memory = __libc_realloc(old, size); give(); return memory; }
void free(void *memory) { if (memory) { take(); __libc_free(memory); give(); } }

static void fail(const char *what) {
  fprintf(stderr, "%s: %s\n", what, strerror(errno));
  _exit(1);
}

static void on_signal(int number) {
  const int before = errno;
  struct stat status;
  (void)number;
  if (stat("/diskless/s/stays", &status)) fail("stat");
  const int fd = open("/diskless/s/stays", O_RDONLY | O_CLOEXEC);
  if (fd < 0 || close(fd)) fail("open");
  const int made = open("/diskless/s/of-the-handler", O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
  if (made < 0 || close(made)) fail("create");
  unlink("/diskless/s/of-the-handler");
  atomic_fetch_add(&handled, 1);
  errno = before;
}

static void *change(void *number) {
  char path[64], other[64];
  sprintf(path, "/diskless/s/d%ld", (long)number);
  sprintf(other, "/diskless/s/a-much-longer-name-for-the-directory-%ld", (long)number);
  while (!atomic_load(&done)) {
    if (mkdir(path, 0700) || rename(path, other)) fail("mkdir");
    DIR *stream = opendir(other);
    if (!stream) fail("opendir");
    while (readdir(stream)) {}
    closedir(stream);
    if (rmdir(other)) fail("rmdir");
  }
  return NULL;
}

static void *allocate(void *unused) {
  while (!atomic_load(&done)) {
    void *volatile memory = malloc(100);
    free(memory);
  }
  return unused;
}

int main(int count, char **words) {
  void *library = count > 1 ? dlopen(words[1], RTLD_NOW) : NULL;
  if (!library) return fprintf(stderr, "%s\n", dlerror()), 2;
  int (*root_add)(const char *) = dlsym(library, "diskless_root_add");
  int (*scratch_add)(const char *, unsigned, long long) = dlsym(library, "diskless_scratch_add");
  int (*activate)(void) = dlsym(library, "diskless_activate");
  alarm(60);
  if (root_add("/diskless") < 0 || scratch_add("/diskless/s", 0777, 0) < 0 || activate() < 0) fail("activate");
  if (close(open("/diskless/s/stays", O_CREAT | O_WRONLY, 0600))) fail("create");
  signal(SIGUSR1, on_signal);
  pthread_t threads[changers + allocators];
  for (long i = 0; i < changers + allocators; i++)
    if (pthread_create(&threads[i], NULL, i < changers ? change : allocate, (void *)i)) fail("pthread_create");
  atomic_store(&slow, 1);
  for (int i = 0; i < signals; i++) {
    const int before = atomic_load(&handled);
    pthread_kill(threads[changers + i % allocators], SIGUSR1);
    while (atomic_load(&handled) == before) usleep(50);
  }
  atomic_store(&done, 1);
  for (int i = 0; i < changers + allocators; i++) pthread_join(threads[i], NULL);
  return 0;
}
