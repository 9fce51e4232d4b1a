/* Applies a long random sequence of calls that change files, and prints what came of each, one line a call, with all
 * files every now and then.
 *
 *     changes run BASE SEED COUNT UID           in the directory BASE; UID 0 stays who it is
 *     changes scratch LIB BASE SEED COUNT UID   in a scratch of the library LIB at BASE, below /diskless
 *
 * Two runs with one SEED print the same where the two filesystems cannot be told apart. No call depends on the result
 * of another, so one difference does not become many. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/xattr.h>
#include <unistd.h>
#include <utime.h>

#define LENGTH(array) (sizeof(array) / sizeof *(array))

static const char *base;
static unsigned long state;
static long number;
static int base_fd;

enum { slots = 6 };
static int slot[slots];

static unsigned pick(unsigned below) {
  state = state * 6364136223846793005ul + 1442695040888963407ul;
  return (unsigned)(state >> 33) % below;
}

#define ONE_OF(array) ((array)[pick(LENGTH(array))])

/* Paths below the base, often ones that exist. */
static const char *const names[] = {"a", "b", "c", "d", "e"};
static const char *const odd_ends[] = {"/", "/.", "/..", "//", "/../a", "/./b"};
static char long_name[260];

static void make_relative(char *path) {
  path[0] = 0;
  const unsigned depth = 1 + pick(10) / 4;
  for (unsigned i = 0; i < depth; i++) {
    if (i) strcat(path, "/");
    strcat(path, ONE_OF(names));
  }
  const unsigned odd = pick(60);
  if (odd < 4) strcat(path, ONE_OF(odd_ends));
  if (odd == 4) strcat(path, "/");
  if (odd == 5) strcat(strcat(path, "/"), long_name);
}

static void show(const char *text) { /* the base as '@', and what is above it as '^' */
  const size_t length = strlen(base), above = (size_t)(strrchr(base, '/') - base);
  while (*text) {
    if (strncmp(text, base, length) == 0) {
      putchar('@');
      text += length;
    } else if (strncmp(text, base, above) == 0) {
      putchar('^');
      text += above;
    } else {
      putchar(*text++);
    }
  }
}

static const char *error_name(void) { return errno ? strerrorname_np(errno) : "-"; }

/* A time that was set is small; any other one is that of a change. */
static void show_time(struct timespec time) {
  if (time.tv_sec < 1000000) {
    printf(" %ld.%ld", (long)time.tv_sec, time.tv_nsec);
  } else {
    printf(" now");
  }
}

static void show_status(const struct stat *status) {
  printf("mode=%o links=%ld owner=%d:%d", status->st_mode, (long)status->st_nlink, (int)status->st_uid, (int)status->st_gid);
  printf(" size=%ld blocks=%ld", (long)status->st_size, (long)status->st_blocks);
  if (!S_ISLNK(status->st_mode)) show_time(status->st_mtim);
}

static int by_text(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static void dump(const char *path) {
  struct stat status;
  show(path);
  printf(": ");
  if (lstat(path, &status)) {
    printf("%s\n", error_name());
    return;
  }
  show_status(&status);
  char text[8192];
  if (S_ISLNK(status.st_mode)) {
    const ssize_t length = readlink(path, text, sizeof text - 1);
    text[length < 0 ? 0 : length] = 0;
    printf(" -> ");
    show(text);
  } else {
    const ssize_t length = listxattr(path, text, sizeof text);
    long sum = 0; /* in any order */
    for (ssize_t at = 0; at < length; at++) sum += text[at] * (text[at] + 3);
    printf(" xattrs=%zd:%ld", length, sum);
  }
  if (S_ISREG(status.st_mode)) {
    const int fd = open(path, O_RDONLY);
    unsigned sum = 0;
    ssize_t length = 0, some;
    while (fd >= 0 && (some = read(fd, text, sizeof text)) > 0) {
      length += some;
      for (ssize_t i = 0; i < some; i++) sum = sum * 31 + (unsigned char)text[i];
    }
    printf(" read=%zd:%u %s", length, sum, fd < 0 ? error_name() : "");
    if (fd >= 0) close(fd);
  }
  if (!S_ISDIR(status.st_mode)) {
    putchar('\n');
    return;
  }
  DIR *stream = opendir(path);
  printf(" %s\n", stream ? "" : error_name());
  if (!stream) return;
  char *found[64];
  int count = 0;
  for (struct dirent *entry; (entry = readdir(stream));) {
    if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, "..")) found[count++] = strdup(entry->d_name);
  }
  closedir(stream);
  qsort(found, (size_t)count, sizeof *found, by_text);
  for (int i = 0; i < count; i++) {
    char below[8192];
    snprintf(below, sizeof below, "%s/%s", path, found[i]);
    dump(below);
    free(found[i]);
  }
}

static const int access_modes[] = {O_RDONLY, O_WRONLY, O_RDWR};
static const int open_flags[] = {0, 0, O_CREAT, O_CREAT, O_CREAT, O_CREAT | O_EXCL, O_CREAT | O_TRUNC, O_TRUNC, O_APPEND,
                                 O_CREAT | O_APPEND, O_DIRECTORY, O_NOFOLLOW, O_CREAT | O_NOFOLLOW, O_PATH,
                                 O_TMPFILE, O_TMPFILE | O_EXCL, O_CLOEXEC | O_CREAT, O_NONBLOCK, O_CREAT | O_DIRECTORY, O_NOATIME};
/* Without O_PATH | O_NOFOLLOW: the Tree gives no descriptor for a symlink itself (ELOOP). */
static const mode_t modes[] = {0644, 0600, 0755, 0777, 0, 0444, 01777, 02775, 04755, 02755, 0200, 0111, 0700};
static const mode_t masks[] = {022, 022, 0, 077, 0777, 027};
static const char *const stream_modes[] = {"r", "r+", "w", "w+", "a", "a+", "wx", "we"};
static const char *const targets[] = {"a", "b", "../a", "a/b", ".", "b/..", "c/", "nowhere", "e", "@/a", "@/b/c", "/proc/self/comm"};
static const uid_t owners[] = {0, 65534, 1000, (uid_t)-1};
static const struct timespec some_times[] = {{1, 2}, {1000, 0}, {77, 999999999}, {0, UTIME_NOW}, {0, UTIME_OMIT}, {5, 1000000000}, {-5, 0}};
static const char *const attributes[] = {"user.x", "user.y", "user.", "bogus", "", "user.long"};
static const off_t lengths[] = {0, 1, 5, 4096, 5000, 100000, -1};

#define SAY(...) printf(__VA_ARGS__)
#define BEGIN(...)           \
  do {                       \
    printf("%ld ", number);  \
    show_text(__VA_ARGS__);  \
    printf("\t");            \
    errno = 0;               \
  } while (0)

__attribute__((format(printf, 1, 2))) static void show_text(const char *format, ...) {
  char text[20000];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  show(text);
}

#define RESULT(call)                                                  \
  do {                                                                \
    const long result = (long)(call);                                 \
    if (result == -1) printf("%s\n", error_name()); else printf("%ld\n", result); \
  } while (0)

#define STATUS(call)                             \
  do {                                           \
    struct stat status;                          \
    if (call) {                                  \
      printf("%s", error_name());                \
    } else {                                     \
      show_status(&status);                      \
    }                                            \
    putchar('\n');                               \
  } while (0)

static int is_directory(int fd) {
  struct stat status;
  return fstat(fd, &status) == 0 && S_ISDIR(status.st_mode);
}

static void keep_descriptor(int fd) {
  const unsigned at = pick(slots);
  if (fd < 0) {
    printf("%s\n", error_name());
    return;
  }
  /* A directory of ours is open for writing, which its memfd refuses (descriptor.cpp), and a memfd was not made by
   * O_TMPFILE. */
  const int hidden = O_NOFOLLOW | O_TMPFILE | (is_directory(fd) ? -1 : 0);
  printf("fd %d flags=%x cloexec=%d\n", fd, fcntl(fd, F_GETFL) & ~hidden, fcntl(fd, F_GETFD));
  if (slot[at] >= 0) close(slot[at]);
  slot[at] = fd;
}

static void use_path(unsigned what, const char *path, const char *relative, const char *other, const char *other_relative) {
  const int flags = ONE_OF(access_modes) | ONE_OF(open_flags);
  const mode_t mode = ONE_OF(modes);
  const uid_t owner = ONE_OF(owners);
  const gid_t group = ONE_OF(owners);
  const struct timespec times[2] = {ONE_OF(some_times), ONE_OF(some_times)};
  const char *attribute = ONE_OF(attributes);
  const off_t length = ONE_OF(lengths);
  const int option = (int)pick(8);
  const char *const how = ONE_OF(stream_modes);
  char text[8192], target[4200] = "";
  const char *form = ONE_OF(targets);
  if (form[0] == '@') strcat(strcpy(target, base), form + 1); else strcpy(target, form);
  switch (what) {
    case 0: BEGIN("open %s %x %o", path, flags, mode); keep_descriptor(open(path, flags, mode)); break;
    case 1: BEGIN("openat %s %x %o", relative, flags, mode); keep_descriptor(openat(base_fd, relative, flags, mode)); break;
    case 2: BEGIN("creat %s %o", path, mode); keep_descriptor(creat(path, mode)); break;
    case 3: BEGIN("mkdir %s %o", path, mode); RESULT(mkdir(path, mode)); break;
    case 4: BEGIN("mkdirat %s %o", relative, mode); RESULT(mkdirat(base_fd, relative, mode)); break;
    case 5: BEGIN("rmdir %s", path); RESULT(rmdir(path)); break;
    case 6: BEGIN("unlink %s", path); RESULT(unlink(path)); break;
    case 7: BEGIN("unlinkat %s %d", relative, option); RESULT(unlinkat(base_fd, relative, option == 7 ? 1 : option & 1 ? AT_REMOVEDIR : 0)); break;
    case 8: BEGIN("remove %s", path); RESULT(remove(path)); break;
    case 9: case 10: BEGIN("rename %s %s", path, other); RESULT(rename(path, other)); break;
    case 11: BEGIN("renameat2 %s %s %d", relative, other_relative, option & 3);
      RESULT(renameat2(base_fd, relative, base_fd, other_relative, (unsigned)option & 3)); break;
    case 12: BEGIN("link %s %s", path, other); RESULT(link(path, other)); break;
    case 13: BEGIN("linkat %s %s %d", relative, other_relative, option);
      RESULT(linkat(base_fd, relative, base_fd, other_relative, option == 7 ? 1 : option & 1 ? AT_SYMLINK_FOLLOW : 0)); break;
    case 14: BEGIN("symlink %s %s", target, path); RESULT(symlink(target, path)); break;
    case 15: BEGIN("chmod %s %o", path, mode); RESULT(chmod(path, mode)); break;
    case 16: BEGIN("fchmodat %s %o %d", relative, mode, option & 1);
      RESULT(fchmodat(base_fd, relative, mode, option & 1 ? AT_SYMLINK_NOFOLLOW : 0)); break;
    case 17: BEGIN("chown %s %d %d", path, (int)owner, (int)group); RESULT(chown(path, owner, group)); break;
    case 18: BEGIN("lchown %s %d %d", path, (int)owner, (int)group); RESULT(lchown(path, owner, group)); break;
    case 19: case 20: BEGIN("utimensat %s %ld.%ld %ld.%ld %d", relative, (long)times[0].tv_sec, times[0].tv_nsec, (long)times[1].tv_sec, times[1].tv_nsec, option);
      RESULT(utimensat(base_fd, relative, option == 7 ? NULL : times, option & 1 ? AT_SYMLINK_NOFOLLOW : 0)); break;
    case 21: {
      const struct timeval old[2] = {{times[0].tv_sec, option * 200000}, {times[1].tv_sec, 3}};
      BEGIN("utimes %s %d", path, option);
      RESULT(option & 1 ? utimes(path, old) : lutimes(path, old));
      break;
    }
    case 22: {
      const struct utimbuf old = {times[0].tv_sec, times[1].tv_sec};
      BEGIN("utime %s", path);
      RESULT(utime(path, option & 1 ? &old : NULL));
      break;
    }
    case 23: BEGIN("truncate %s %ld", path, (long)length); RESULT(truncate(path, length)); break;
    case 24: BEGIN("setxattr %s %s %d", path, attribute, option);
      RESULT(option & 1 ? setxattr(path, attribute, "value", (size_t)option % 6, option >> 1) : lsetxattr(path, attribute, "other", 5, option >> 1)); break;
    case 25: BEGIN("getxattr %s %s %d", path, attribute, option);
      RESULT(option & 1 ? getxattr(path, attribute, text, (size_t)option) : lgetxattr(path, attribute, text, sizeof text)); break;
    case 26: BEGIN("removexattr %s %s", path, attribute); RESULT(option & 1 ? removexattr(path, attribute) : lremovexattr(path, attribute)); break;
    case 27: BEGIN("access %s %d", path, option); RESULT(access(path, option)); break;
    case 28: BEGIN("faccessat %s %d", relative, option); RESULT(faccessat(base_fd, relative, option, AT_EACCESS)); break;
    case 29: BEGIN("stat %s", path); STATUS(stat(path, &status)); break;
    case 30: BEGIN("lstat %s", path); STATUS(lstat(path, &status)); break;
    case 31: {
      BEGIN("realpath %s", path);
      char *found = realpath(path, NULL);
      if (!found) printf("%s", error_name());
      else if (strncmp(found, "/proc", 5) == 0) printf("elsewhere");
      else show(found);
      putchar('\n');
      free(found);
      break;
    }
    case 32: case 33: {
      BEGIN("fopen %s %s", path, how);
      FILE *stream = fopen(path, how);
      if (stream && fileno(stream) >= 0) {
        const int opened = !is_directory(fileno(stream)); /* libc opens one, and fails at the first read */
        const int written = how[0] == 'r' && how[1] != '+' ? 0 : fprintf(stream, "line %ld\n", number);
        const int closed = fclose(stream);
        if (opened) printf("%d %d", written, closed); else printf("EISDIR");
      } else {
        printf("%s", error_name());
      }
      putchar('\n');
      break;
    }
    case 34: {
      BEGIN("mkstemp beside %s %o", path, mode);
      snprintf(text, sizeof text, "%sXXXXXX", path);
      const int fd = option & 1 ? mkostemp(text, O_APPEND) : mkstemp(text);
      if (fd >= 0) {
        struct stat status;
        fstat(fd, &status);
        show_status(&status);
        close(fd);
        printf(" %d\n", rename(text, path) ? errno : 0);
        unlink(text);
      } else {
        printf("%s\n", error_name());
      }
      break;
    }
    case 35: {
      BEGIN("mkdtemp beside %s", path);
      snprintf(text, sizeof text, "%sXXXXXX", path);
      if (mkdtemp(text)) {
        printf("%d\n", rename(text, path) ? errno : 0);
        rmdir(text);
      } else {
        printf("%s\n", error_name());
      }
      break;
    }
    case 36: BEGIN("mknod %s %o", path, mode); RESULT(mknod(path, mode | (option & 1 ? S_IFREG : 0), 0)); break;
    case 37: {
      struct statvfs space;
      BEGIN("statvfs %s", path);
      if (statvfs(path, &space)) printf("%s\n", error_name());
      else printf("%lx %lu %lu\n", space.f_flag & ST_RDONLY, space.f_bsize, space.f_namemax);
      break;
    }
    case 38: {
      struct { unsigned long flags, mode, resolve; } asked = {(unsigned long)flags, flags & (O_CREAT | (O_TMPFILE & ~O_DIRECTORY)) ? mode & 0777 : 0, option == 1 ? 8 : option == 2 ? 4 : option == 3 ? 16 : 0};
      BEGIN("openat2 %s %x %o %d", relative, flags, mode, option);
      keep_descriptor((int)syscall(SYS_openat2, base_fd, relative, &asked, sizeof asked));
      break;
    }
    case 39: BEGIN("umask %o", mode); (void)mode; RESULT(umask(ONE_OF(masks))); break;
  }
}
enum { path_calls = 40 };

static void use_descriptor(unsigned what, const char *path, const char *relative) {
  const int fd = slot[pick(slots)];
  const mode_t mode = ONE_OF(modes);
  const uid_t owner = ONE_OF(owners);
  const gid_t group = ONE_OF(owners);
  const struct timespec times[2] = {ONE_OF(some_times), ONE_OF(some_times)};
  const char *attribute = ONE_OF(attributes);
  const off_t length = ONE_OF(lengths);
  const int option = (int)pick(8);
  char text[8192] = "some text to be written";
  switch (what) {
    case 0: case 1: BEGIN("write %d", fd); RESULT(is_directory(fd) ? 0 : write(fd, text, (size_t)option * 3)); break;
    case 2: BEGIN("pwrite %d %ld", fd, (long)length); RESULT(is_directory(fd) ? 0 : pwrite(fd, text, 9, length)); break;
    case 3: BEGIN("read %d", fd); RESULT(read(fd, text, 7) >= 0); break;
    case 4: BEGIN("lseek %d %ld", fd, (long)length); /* the place in a directory is the filesystem's own affair */
      RESULT(is_directory(fd) ? 0 : lseek(fd, length, option % 3)); break;
    case 5: BEGIN("ftruncate %d %ld", fd, (long)length); /* EINVAL and EBADF are both right for a directory */
      RESULT(is_directory(fd) ? ftruncate(fd, 0) == -1 : ftruncate(fd, length)); break;
    case 6: BEGIN("fstat %d", fd); STATUS(fstat(fd, &status)); break;
    case 7: BEGIN("fchmod %d %o", fd, mode); RESULT(fchmod(fd, mode)); break;
    case 8: BEGIN("fchown %d %d %d", fd, (int)owner, (int)group); RESULT(fchown(fd, owner, group)); break;
    case 9: BEGIN("futimens %d", fd); RESULT(futimens(fd, option == 7 ? NULL : times)); break;
    case 10: BEGIN("fsetxattr %d %s", fd, attribute); RESULT(fsetxattr(fd, attribute[0] ? attribute : "user.y", "value", (size_t)option % 6, option & 3)); break;
    case 11: BEGIN("fgetxattr %d %s", fd, attribute); RESULT(fgetxattr(fd, attribute, text, sizeof text)); break;
    case 12: BEGIN("flistxattr %d", fd); RESULT(flistxattr(fd, text, sizeof text)); break;
    case 13: BEGIN("fremovexattr %d %s", fd, attribute); RESULT(fremovexattr(fd, attribute[0] ? attribute : "user.y")); break;
    case 14: BEGIN("mkdirat %d %s %o", fd, relative, mode); RESULT(mkdirat(fd, relative, mode)); break;
    case 15: BEGIN("unlinkat %d %s", fd, relative); RESULT(unlinkat(fd, relative, option & 1 ? AT_REMOVEDIR : 0)); break;
    case 16: BEGIN("renameat %d %s", fd, relative); RESULT(renameat(fd, relative, base_fd, "a")); break;
    case 17: BEGIN("symlinkat %d %s", fd, relative); RESULT(symlinkat("b", fd, relative)); break;
    case 18: BEGIN("linkat AT_EMPTY_PATH %d %s", fd, path); RESULT(linkat(fd, "", AT_FDCWD, path, AT_EMPTY_PATH)); break;
    case 19: {
      char link[64];
      sprintf(link, "/proc/self/fd/%d", fd);
      BEGIN("linkat /proc/self/fd/%d %s", fd, path);
      RESULT(linkat(AT_FDCWD, link, AT_FDCWD, path, AT_SYMLINK_FOLLOW));
      break;
    }
    case 20: {
      char link[64];
      sprintf(link, "/proc/self/fd/%d", fd);
      BEGIN("chmod /proc/self/fd/%d", fd);
      RESULT(chmod(link, mode));
      break;
    }
    case 21: BEGIN("fallocate %d", fd); RESULT(is_directory(fd) ? 0 : fallocate(fd, option & 3, option * 1000, 5000)); break;
    case 22: BEGIN("openat %d %s", fd, relative); keep_descriptor(openat(fd, relative, O_RDWR | O_CREAT, mode)); break;
    case 23: BEGIN("fchownat AT_EMPTY_PATH %d", fd); RESULT(fchownat(fd, "", owner, group, AT_EMPTY_PATH)); break;
  }
}
enum { descriptor_calls = 24 };

static void run(long count, uid_t user) {
  memset(long_name, 'n', 256);
  for (int i = 0; i < slots; i++) slot[i] = -1;
  base_fd = open(base, O_RDONLY | O_DIRECTORY);
  if (base_fd < 0) {
    perror(base);
    exit(2);
  }
  umask(022);
  for (number = 0; number < count; number++) {
    if (user && number == count / 3) { /* what root left is then another's */
      if (setgroups(0, NULL) || setgid(user) || setuid(user)) {
        perror("setuid");
        exit(2);
      }
    }
    char path[3 * PATH_MAX], relative[PATH_MAX], other[3 * PATH_MAX], other_relative[PATH_MAX];
    make_relative(relative);
    make_relative(other_relative);
    sprintf(path, "%s/%s", base, relative);
    sprintf(other, "%s/%s", base, other_relative);
    if (pick(3)) use_path(pick(path_calls), path, relative, other, other_relative);
    else use_descriptor(pick(descriptor_calls), path, relative);
    if (number % 20 == 19) dump(base);
  }
}

int main(int count, char **words) {
  setvbuf(stdout, NULL, _IOLBF, 1 << 16); /* whatever happens next, this much is known */
  const int in_scratch = count == 7 && strcmp(words[1], "scratch") == 0;
  if (!in_scratch && count != 6) return 2;
  base = words[in_scratch ? 3 : 2];
  if (in_scratch) {
    void *library = dlopen(words[2], RTLD_NOW);
    if (!library) {
      fprintf(stderr, "%s\n", dlerror());
      return 2;
    }
    int (*root_add)(const char *) = dlsym(library, "diskless_root_add");
    int (*scratch_add)(const char *, unsigned, long long) = dlsym(library, "diskless_scratch_add");
    int (*activate)(void) = dlsym(library, "diskless_activate");
    char above[PATH_MAX]; /* where `..` leads to is of the same filesystem, then */
    *strrchr(strcpy(above, base), '/') = 0;
    if (root_add("/diskless") || scratch_add(above, 0755, 0) || activate()) return 3;
    if (mkdir(base, 0777) || chmod(base, 0777)) return 4;
  }
  state = strtoul(words[in_scratch ? 4 : 3], NULL, 10) * 977 + 12345;
  run(strtol(words[in_scratch ? 5 : 4], NULL, 10), (uid_t)strtol(words[in_scratch ? 6 : 5], NULL, 10));
  return 0;
}
