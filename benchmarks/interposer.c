/* interposer LIBRARY DIRECTORY SHADOW: makes each call a hundred times in a function of its own, for callgrind to count.
 * LIBRARY "-": without the Interposer. DIRECTORY is the working directory. SHADOW "-": none. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/xattr.h>
#include <unistd.h>

enum { calls = 100 };

/* One of each spelling: the file, a symlink to it, its directory, and a name that is not there. */
struct spelling {
  const char *name;
  char file[5000], link[5000], directory[5000], missing[5000];
};
static struct spelling spellings[4] = {{"absolute"}, {"relative"}, {"climbing"}, {"proc"}};
static const struct spelling *at;

static int fds[calls], others[calls], file_fd, directory_fd, watch_fd;
static DIR *streams[calls];
static FILE *files[calls];
static char buffer[8192];
static struct stat status;
static struct iovec one_byte = {buffer, 1};
static struct msghdr message;
static void *pages[calls];

static void scan(const char *path) {
  struct dirent **names;
  for (int count = scandir(path, &names, NULL, NULL); count > 0;) free(names[--count]);
  free(names);
}

static void find(const char *pattern) {
  glob_t found;
  if (glob(pattern, 0, NULL, &found) == 0) globfree(&found);
}

/* On each spelling of a path. What is opened here is closed below. */
#define OF_PATHS(X)                                                      \
  X(open, fds[i] = open(at->file, O_RDONLY | O_CLOEXEC))                 \
  X(close, close(fds[i]))                                                \
  X(openat, fds[i] = openat(AT_FDCWD, at->file, O_RDONLY | O_CLOEXEC))   \
  X(close_, close(fds[i]))                                               \
  X(open_missing, open(at->missing, O_RDONLY))                           \
  X(fopen, files[i] = fopen(at->file, "re"))                             \
  X(fclose, fclose(files[i]))                                            \
  X(stat, stat(at->file, &status))                                       \
  X(stat_missing, stat(at->missing, &status))                            \
  X(lstat, lstat(at->file, &status))                                     \
  X(fstatat, fstatat(AT_FDCWD, at->file, &status, 0))                    \
  X(statx, statx(AT_FDCWD, at->file, 0, STATX_BASIC_STATS, (void *)buffer)) \
  X(access, access(at->file, R_OK))                                      \
  X(faccessat, faccessat(AT_FDCWD, at->file, R_OK, 0))                   \
  X(readlink, readlink(at->link, buffer, sizeof buffer))                 \
  X(realpath, realpath(at->file, buffer))                                \
  X(opendir, streams[i] = opendir(at->directory))                        \
  X(readdir, readdir(streams[i]))                                        \
  X(closedir, closedir(streams[i]))                                      \
  X(scandir, scan(at->directory))                                        \
  X(glob, find(at->file))                                                \
  X(statfs, statfs(at->file, (void *)buffer))                            \
  X(statvfs, statvfs(at->file, (void *)buffer))                          \
  X(getxattr, getxattr(at->file, "user.x", buffer, sizeof buffer))       \
  X(mkdir, mkdir(at->directory, 0777))                                   \
  X(rename, rename(at->missing, at->missing))                            \
  X(unlink, unlink(at->missing))                                         \
  X(chmod, chmod(at->missing, 0644))                                     \
  X(utimensat, utimensat(AT_FDCWD, at->missing, NULL, 0))                \
  X(inotify_add_watch, inotify_add_watch(watch_fd, at->file, IN_MODIFY)) \
  X(syscall_openat, others[i] = (int)syscall(SYS_openat, AT_FDCWD, at->file, O_RDONLY, 0)) \
  X(close__, close(others[i]))

/* On descriptors. */
#define OF_DESCRIPTORS(X)                                          \
  X(read, read(file_fd, buffer, 1))                                \
  X(write, write(file_fd, buffer, 1))                              \
  X(pwrite, pwrite(file_fd, buffer, 1, 0))                         \
  X(writev, writev(file_fd, &one_byte, 1))                         \
  X(pwritev, pwritev(file_fd, &one_byte, 1, 0))                    \
  X(ftruncate, ftruncate(file_fd, 4096))                           \
  X(fallocate, fallocate(file_fd, 0, 0, 1))                        \
  X(posix_fallocate, posix_fallocate(file_fd, 0, 1))               \
  X(sendfile, sendfile(file_fd, directory_fd, NULL, 1))            \
  X(copy_file_range, copy_file_range(directory_fd, NULL, file_fd, NULL, 1, 0)) \
  X(splice, splice(directory_fd, NULL, file_fd, NULL, 1, 0))       \
  X(mmap, pages[i] = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file_fd, 0)) \
  X(munmap, munmap(pages[i], 4096))                                \
  X(mmap_private, pages[i] = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) \
  X(munmap_, munmap(pages[i], 4096))                               \
  X(syscall_write, syscall(SYS_write, file_fd, buffer, 1))         \
  X(dup, fds[i] = dup(file_fd))                                    \
  X(close___, close(fds[i]))                                       \
  X(fcntl, fcntl(file_fd, F_GETFL))                                \
  X(recvmsg, recvmsg(directory_fd, &message, 0))                   \
  X(fstat, fstat(file_fd, &status))                                \
  X(fstatat_empty_path, fstatat(file_fd, "", &status, AT_EMPTY_PATH)) \
  X(fstatat_beneath, fstatat(directory_fd, "file", &status, 0))    \
  X(openat_beneath, fds[i] = openat(directory_fd, "file", O_RDONLY)) \
  X(close_range, close_range(fds[i], fds[i], 0))                   \
  X(dup2, dup2(file_fd, 200))                                      \
  X(dup3, dup3(file_fd, 200, O_CLOEXEC))                           \
  X(fstatfs, fstatfs(file_fd, (void *)buffer))                     \
  X(getdents64, getdents64(directory_fd, buffer, sizeof buffer))   \
  X(fdopendir, streams[i] = fdopendir(openat(directory_fd, ".", O_RDONLY))) \
  X(closedir_, closedir(streams[i]))                               \
  X(fchmod, fchmod(file_fd, 0644))                                 \
  X(futimens, futimens(file_fd, NULL))                             \
  X(fchdir, fchdir(directory_fd))                                  \
  X(syscall_getpid, syscall(SYS_getpid))                           \
  X(dlsym, dlsym(RTLD_DEFAULT, "getpid"))

#define DEFINE(name, call)                                    \
  __attribute__((noinline)) static void measure_##name(void) { \
    for (int i = 0; i < calls; i++) (void)(call);              \
  }
OF_PATHS(DEFINE)
OF_DESCRIPTORS(DEFINE)

/* callgrind counts inside `counted_…` only; what happens at a first call has happened before. */
#define CALL(name, call) measure_##name();
#define PASS(kind)                                                  \
  __attribute__((noinline)) static void kind##_paths_0(void) { OF_PATHS(CALL) } \
  __attribute__((noinline)) static void kind##_paths_1(void) { OF_PATHS(CALL) } \
  __attribute__((noinline)) static void kind##_paths_2(void) { OF_PATHS(CALL) } \
  __attribute__((noinline)) static void kind##_paths_3(void) { OF_PATHS(CALL) } \
  __attribute__((noinline)) static void kind##_descriptors(void) { OF_DESCRIPTORS(CALL) } \
  static void kind(void) {      \
    at = &spellings[0];         \
    kind##_paths_0();           \
    at = &spellings[1];         \
    kind##_paths_1();           \
    at = &spellings[2];         \
    kind##_paths_2();           \
    at = &spellings[3];         \
    kind##_paths_3();           \
    kind##_descriptors();       \
  }
PASS(warm)
PASS(counted)

static void spell(struct spelling *to, const char *directory, const char *prefix, const char *file, const char *link) {
  strcpy(to->directory, directory);
  sprintf(to->file, "%s%s", prefix, file);
  sprintf(to->link, "%s%s", prefix, link);
  sprintf(to->missing, "%smissing", prefix);
}

int main(int count, char **words) {
  if (count != 4 || chdir(words[2])) return 2;
  if (strcmp(words[1], "-") != 0) {
    void *library = dlopen(words[1], RTLD_NOW);
    if (!library) return fprintf(stderr, "%s\n", dlerror()), 2;
    int (*root_add)(const char *) = (int (*)(const char *))dlsym(library, "diskless_root_add");
    int (*activate)(void) = (int (*)(void))dlsym(library, "diskless_activate");
    if (root_add("/diskless") < 0 || (strcmp(words[3], "-") != 0 && root_add(words[3]) < 0)) return 3;
    if (activate() < 0 || access("/diskless", F_OK) != 0) return 3;
  }
  sprintf(buffer, "%s/", words[2]);
  spell(&spellings[0], words[2], buffer, "file", "link");
  spell(&spellings[1], ".", "", "file", "link");
  sprintf(buffer, "../%s/", strrchr(words[2], '/') + 1);
  spell(&spellings[2], buffer, buffer, "file", "link");
  spell(&spellings[3], "/proc/self/ns", "/proc/self/", "stat", "exe");
  file_fd = open("file", O_RDWR);
  directory_fd = open(".", O_RDONLY);
  watch_fd = inotify_init();
  warm();
  counted();
  return 0;
}
