/* threads LIB: threads read a Tree while another changes its names, signals open files in the midst of everything, and
 * children are forked that do the same. Ends with 0, or says what was wrong. Under a deadlock an alarm ends it. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

enum { readers = 8, rounds = 400, files = 16 };

static int (*memfd)(const char *), (*seal)(int), (*release)(int), (*root_add)(const char *);
static int (*set_file)(const char *, int, unsigned, long long, int), (*remove_name)(const char *);
static int (*activate)(void), (*deactivate)(void);
static atomic_int done, handled;

static void fail(const char *what) {
  fprintf(stderr, "%s: %s\n", what, strerror(errno));
  _exit(1);
}

/* Safe in a signal handler. */
static void check_file(const char *path, char expected) {
  struct stat status;
  const int fd = open(path, O_RDONLY | O_CLOEXEC);
  char letter = 0;
  if (fd < 0) fail(path);
  if (read(fd, &letter, 1) != 1 || letter != expected) fail("other bytes");
  if (fstat(fd, &status) || status.st_size != 1 || !S_ISREG(status.st_mode)) fail("fstat");
  close(fd);
}

static void on_signal(int number) {
  const int before = errno;
  (void)number;
  check_file("/diskless/stays/0", 'a');
  atomic_fetch_add(&handled, 1);
  errno = before;
}

static void read_everything(void) {
  char path[64];
  for (int i = 0; i < files; i++) {
    sprintf(path, "/diskless/stays/%d", i);
    check_file(path, (char)('a' + i));
  }
  DIR *stream = opendir("/diskless/stays");
  int count = 0;
  if (!stream) fail("opendir");
  while (readdir(stream)) count++;
  closedir(stream);
  if (count != files + 2) fail("a name that stays was not listed");
  stream = opendir("/diskless/comes");
  if (stream) { /* whatever is there may go at any moment */
    for (struct dirent *entry; (entry = readdir(stream));) {
      struct stat status;
      if (fstatat(dirfd(stream), entry->d_name, &status, 0) && errno != ENOENT) fail("fstatat");
    }
    closedir(stream);
  } else if (errno != ENOENT) {
    fail("opendir");
  }
  char resolved[4096];
  if (!realpath("/diskless/./stays/../stays/3", resolved) || strcmp(resolved, "/diskless/stays/3")) fail("realpath");
}

static void *read_for_ever(void *unused) {
  while (!atomic_load(&done)) read_everything();
  return unused;
}

static void name(const char *path, char letter, int *fd) {
  *fd = memfd("diskless");
  if (*fd < 0 || write(*fd, &letter, 1) != 1 || seal(*fd) < 0 || set_file(path, *fd, 0444, 1, -1) < 0) fail(path);
}

static void change_names(int count) {
  char path[64];
  for (int i = 0; i < count; i++) {
    int fd;
    sprintf(path, "/diskless/comes/%d/file", i % 5);
    name(path, 'x', &fd);
    check_file(path, 'x');
    if (remove_name(path) < 0) fail("remove");
    *strrchr(path, '/') = 0;
    if (remove_name(path) < 0) fail("remove directory");
    release(fd);
  }
}

int main(int count, char **words) {
  void *library = count > 1 ? dlopen(words[1], RTLD_NOW) : NULL;
  if (!library) return fprintf(stderr, "%s\n", dlerror()), 2;
  *(void **)&memfd = dlsym(library, "diskless_memfd");
  *(void **)&seal = dlsym(library, "diskless_seal");
  *(void **)&release = dlsym(library, "diskless_release");
  *(void **)&root_add = dlsym(library, "diskless_root_add");
  *(void **)&set_file = dlsym(library, "diskless_set_file");
  *(void **)&remove_name = dlsym(library, "diskless_remove");
  *(void **)&activate = dlsym(library, "diskless_activate");
  *(void **)&deactivate = dlsym(library, "diskless_deactivate");
  if (root_add("/diskless") < 0 || activate() < 0) fail("activate");
  char path[64];
  for (int i = 0, fd; i < files; i++) {
    sprintf(path, "/diskless/stays/%d", i);
    name(path, (char)('a' + i), &fd);
  }
  signal(SIGUSR1, on_signal);
  pthread_t threads[readers];
  for (int i = 0; i < readers; i++) pthread_create(&threads[i], NULL, read_for_ever, NULL);
  for (int round = 0; round < rounds; round++) {
    pthread_kill(threads[round % readers], SIGUSR1);
    raise(SIGUSR1);
    change_names(3);
    if (round % 20 == 0) {
      const pid_t child = fork();
      if (child == 0) {
        alarm(60);
        read_everything();
        change_names(3);
        _exit(0);
      }
      int status;
      if (waitpid(child, &status, 0) != child || status != 0) fail("the child failed");
    }
  }
  atomic_store(&done, 1);
  for (int i = 0; i < readers; i++) pthread_join(threads[i], NULL);
  if (deactivate() < 0 || access("/diskless/stays", F_OK) == 0) fail("deactivate");
  if (atomic_load(&handled) < rounds) fail("signals got lost");
  return 0;
}
