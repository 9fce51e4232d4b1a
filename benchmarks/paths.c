// Times calls on the files of a directory, from several threads at once. For paths.py.
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { files_in_list = 1000, folders_to_walk = 100, small = 4 << 10, large = 1 << 20 };

struct work {
  const char *directory;
  const char *what;
  int number;  // of the thread
  long count;
  long large_bytes;
  pthread_barrier_t *start;
  atomic_int *failures;
  double seconds;  // for one
};

static char block[large];

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static int visit(const char *path, const struct stat *status, int kind, struct FTW *where) {
  (void)path, (void)status, (void)kind, (void)where;
  return 0;
}

static int once(const struct work *work, const char *own, int fd, long turn) {
  struct stat status;
  char path[512];
  if (strcmp(work->what, "open+close") == 0) {
    snprintf(path, sizeof path, "%s/list/f%ld", work->directory, turn % files_in_list);
    const int opened = open(path, O_RDONLY | O_CLOEXEC);
    return opened < 0 ? -1 : close(opened);
  }
  if (strcmp(work->what, "stat hit") == 0) {
    snprintf(path, sizeof path, "%s/list/f%ld", work->directory, turn % files_in_list);
    return stat(path, &status);
  }
  if (strcmp(work->what, "stat miss") == 0) {
    snprintf(path, sizeof path, "%s/list/absent%ld", work->directory, turn % files_in_list);
    return stat(path, &status) == 0 ? -1 : 0;
  }
  if (strcmp(work->what, "listdir of 1,000") == 0) {
    snprintf(path, sizeof path, "%s/list", work->directory);
    DIR *stream = opendir(path);
    if (stream == NULL) return -1;
    int entries = 0;
    while (readdir(stream) != NULL) entries++;
    closedir(stream);
    return entries == files_in_list + 2 ? 0 : -1;
  }
  if (strcmp(work->what, "create+unlink") == 0) {
    const int made = open(own, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    return made < 0 || close(made) != 0 ? -1 : unlink(own);
  }
  if (strcmp(work->what, "walk of 10,000 files") == 0) {
    snprintf(path, sizeof path, "%s/walk", work->directory);
    return nftw(path, visit, 20, FTW_PHYS);
  }
  if (strcmp(work->what, "4 KiB writes") == 0) return pwrite(fd, block, small, turn * small) == small ? 0 : -1;
  if (strcmp(work->what, "sequential write") == 0) {
    if (ftruncate(fd, 0) != 0) return -1;
    for (long done = 0; done < work->large_bytes; done += large) {
      if (pwrite(fd, block, large, done) != large) return -1;
    }
    return 0;
  }
  return -1;
}

static void *run(void *argument) {
  struct work *work = argument;
  char own[512];
  snprintf(own, sizeof own, "%s/own%d", work->directory, work->number);
  const int writes = strstr(work->what, "write") != NULL;
  const int fd = writes ? open(own, O_RDWR | O_CREAT | O_CLOEXEC, 0666) : -1;
  pthread_barrier_wait(work->start);
  const double begun = now();
  for (long turn = 0; turn < work->count; turn++) {
    if (once(work, own, fd, turn) != 0) {
      atomic_fetch_add(work->failures, 1);
      break;
    }
  }
  work->seconds = (now() - begun) / (double)work->count;
  if (writes) {
    close(fd);
    unlink(own);
  }
  return NULL;
}

// Makes what the calls are made on.
int prepare(const char *directory) {
  char path[512];
  snprintf(path, sizeof path, "%s/list", directory);
  if (mkdir(path, 0777) != 0) return -1;
  for (int file = 0; file < files_in_list; file++) {
    snprintf(path, sizeof path, "%s/list/f%d", directory, file);
    const int made = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (made < 0 || close(made) != 0) return -1;
  }
  snprintf(path, sizeof path, "%s/walk", directory);
  if (mkdir(path, 0777) != 0) return -1;
  for (int folder = 0; folder < folders_to_walk; folder++) {
    snprintf(path, sizeof path, "%s/walk/d%d", directory, folder);
    if (mkdir(path, 0777) != 0) return -1;
    for (int file = 0; file < 100; file++) {
      snprintf(path, sizeof path, "%s/walk/d%d/f%d", directory, folder, file);
      const int made = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
      if (made < 0 || close(made) != 0) return -1;
    }
  }
  return 0;
}

// The seconds that `what` takes, `count` times in each of `threads`, the mean of the threads; negative when it failed.
double measure(const char *directory, const char *what, long count, int threads, long large_bytes) {
  struct work works[16];
  pthread_t ids[16];
  pthread_barrier_t start;
  atomic_int failures = 0;
  if (threads > 16) return -1;
  pthread_barrier_init(&start, NULL, (unsigned)threads);
  for (int number = 0; number < threads; number++) {
    works[number] = (struct work){directory, what, number, count, large_bytes, &start, &failures, 0};
    pthread_create(&ids[number], NULL, run, &works[number]);
  }
  double seconds = 0;
  for (int number = 0; number < threads; number++) {
    pthread_join(ids[number], NULL);
    seconds += works[number].seconds / threads;
  }
  pthread_barrier_destroy(&start);
  return atomic_load(&failures) != 0 ? -1 : seconds;
}
