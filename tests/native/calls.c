/* Tries every path call of libc that the Tree answers, and prints what came of it, one line a call.
 *
 *     calls build BASE          makes the files below BASE, which must exist
 *     calls run BASE [UID]      tries the calls there, as that user
 *     calls tree LIB BASE [UID] makes the files in the Tree of the library LIB, below /diskless, and tries the calls there
 *
 * Two runs print the same where the two filesystems cannot be told apart. */
#define _GNU_SOURCE
#define _LARGEFILE64_SOURCE
#include "calls.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <ftw.h>
#include <glob.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/un.h>
#include <sys/socket.h>
#include <sys/xattr.h>
#include <unistd.h>
#include <utime.h>
#include <wordexp.h>

#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
#pragma GCC diagnostic ignored "-Wformat-truncation"

int __xstat(int, const char *, struct stat *);
int __xstat64(int, const char *, struct stat64 *);
int __lxstat(int, const char *, struct stat *);
int __lxstat64(int, const char *, struct stat64 *);
int __fxstat(int, int, struct stat *);
int __fxstat64(int, int, struct stat64 *);
int __fxstatat(int, int, const char *, struct stat *, int);
int __fxstatat64(int, int, const char *, struct stat64 *, int);
int __xmknod(int, const char *, mode_t, dev_t *);
int __xmknodat(int, int, const char *, mode_t, dev_t *);
int __open_2(const char *, int);
int __open64_2(const char *, int);
int __open(const char *, int, ...);
int __open64(const char *, int, ...);
int __statfs(const char *, struct statfs *);
int __openat_2(int, const char *, int);
int __openat64_2(int, const char *, int);
ssize_t __readlink_chk(const char *, char *, size_t, size_t);
ssize_t __readlinkat_chk(int, const char *, char *, size_t, size_t);
char *__realpath_chk(const char *, char *, size_t);

/* Of struct stat, as the older generation of stat is told it. */
#ifdef __aarch64__
enum { layout = 0 };
#else
enum { layout = 1 };
#endif

static const char *base;
static int base_fd;
static dev_t base_device;
static const long long made_ns = 1234567890123456789;

/* '@name' becomes the last component of the base, '@' the base, '*' a long name. */
static char *spell(const char *pattern) {
  static char out[4][3 * PATH_MAX];
  static int turn;
  char *text = out[turn++ % 4];
  size_t at = 0;
  for (; *pattern; pattern++) {
    if (strncmp(pattern, "@name", 5) == 0) {
      at += (size_t)sprintf(text + at, "%s", strrchr(base, '/') + 1);
      pattern += 4;
    } else if (*pattern == '@') {
      at += (size_t)sprintf(text + at, "%s", base);
    } else if (pattern[0] == '*' && pattern[1] != '[') {
      memset(text + at, 'n', 256);
      at += 256;
    } else {
      text[at++] = *pattern;
    }
  }
  text[at] = 0;
  return text;
}

/* Prints text with the base as '@', and the directory that it is in as '^'. */
static void show(const char *text) {
  const size_t length = strlen(base), above = (size_t)(strrchr(base, '/') - base);
  if (strlen(text) == above && strncmp(text, base, above) == 0) text = "^";
  for (; *text; text++) {
    if (strncmp(text, base, length) == 0) {
      putchar('@');
      text += length - 1;
    } else {
      putchar(*text);
    }
  }
}

static const char *tried;
static void begin(const char *name) { printf("%s\t%s\t", name, tried); errno = 0; }
static int end(int failed) {
  if (failed) printf("%s", errno ? strerrorname_np(errno) : "-");
  putchar('\n');
  return failed;
}

/* Inode numbers are compared by the order in which they turned up. */
static int number_of(ino_t inode) {
  static ino_t seen[4096];
  static int count;
  for (int i = 0; i < count; i++) {
    if (seen[i] == inode) return i;
  }
  seen[count] = inode;
  return count++;
}

/* What `out` leads to is not compared. */
static void show_status(const struct stat *status) {
  if (status->st_dev != base_device) {
    printf("elsewhere %o", status->st_mode & S_IFMT);
    return;
  }
  printf("mode=%o links=%ld ino=%d size=%ld", status->st_mode, (long)status->st_nlink, number_of(status->st_ino), (long)status->st_size);
  if (!S_ISLNK(status->st_mode)) printf(" mtime=%ld.%ld", (long)status->st_mtim.tv_sec, status->st_mtim.tv_nsec);
}

#define STAT(name, call, Type)                         \
  do {                                                 \
    Type status;                                       \
    memset(&status, 0x55, sizeof status);              \
    begin(name);                                       \
    const int failed = (call) != 0;                    \
    if (!failed) show_status((struct stat *)&status);  \
    end(failed);                                       \
  } while (0)

static void show_statx(const struct statx *x) {
  struct stat status = {.st_mode = x->stx_mode, .st_nlink = x->stx_nlink, .st_ino = x->stx_ino, .st_size = (off_t)x->stx_size,
                        .st_dev = makedev(x->stx_dev_major, x->stx_dev_minor),
                        .st_mtim = {x->stx_mtime.tv_sec, x->stx_mtime.tv_nsec}};
  show_status(&status);
}

#define STATX(name, call)                                                       \
  do {                                                                          \
    struct statx status;                                                        \
    begin(name);                                                                \
    const int failed = (call) != 0;                                             \
    if (!failed) {                                                              \
      show_statx(&status);                                                      \
      printf(" mask=%x", status.stx_mask & STATX_BASIC_STATS);                  \
    }                                                                           \
    end(failed);                                                                \
  } while (0)

#define RESULT(name, call)           \
  do {                               \
    begin(name);                     \
    const long result = (long)(call);\
    if (result != -1) printf("%ld", result); \
    end(result == -1);               \
  } while (0)

#define STAT_ALL_OF_DESCRIPTOR(fd)                                                        \
  STAT("fstat", fstat(fd, &status), struct stat);                                         \
  STAT("fstat64", fstat64(fd, &status), struct stat64);                                   \
  STAT("__fxstat", __fxstat(layout, fd, &status), struct stat);                                \
  STAT("__fxstat64", __fxstat64(layout, fd, &status), struct stat64);                          \
  STAT("fstatat AT_EMPTY_PATH", fstatat(fd, "", &status, AT_EMPTY_PATH), struct stat);    \
  STAT("__fxstatat AT_EMPTY_PATH", __fxstatat(layout, fd, "", &status, AT_EMPTY_PATH), struct stat); \
  STATX("statx AT_EMPTY_PATH", statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &status))

static void show_link_of(int fd) {
  char link[PATH_MAX], text[PATH_MAX];
  const char *const forms[] = {"/proc/self/fd/%d", "/dev/fd/%d", "/proc/thread-self/fd/%d"};
  for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
    sprintf(link, forms[i], fd);
    begin("readlink of descriptor");
    const ssize_t length = readlink(link, text, sizeof text - 1);
    if (length >= 0) {
      text[length] = 0;
      show(text);
    }
    end(length < 0);
    struct stat status;
    begin("stat through descriptor");
    int failed = stat(link, &status);
    if (!failed) show_status(&status);
    end(failed);
    begin("realpath of descriptor");
    failed = realpath(link, text) == NULL;
    if (!failed) show(text);
    end(failed);
  }
  int directory = open("/proc/self/fd", O_RDONLY | O_DIRECTORY);
  sprintf(link, "%d", fd);
  begin("readlinkat of descriptor");
  const ssize_t length = readlinkat(directory, link, text, sizeof text - 1);
  if (length >= 0) {
    text[length] = 0;
    show(text);
  }
  end(length < 0);
  close(directory);
}

static void use_descriptor(int fd, int flags) {
  struct stat status;
  fstat(fd, &status);
  show_status(&status);
  if (S_ISREG(status.st_mode) && !(flags & O_PATH)) {
    char text[64];
    const ssize_t length = read(fd, text, sizeof text - 1);
    text[length < 0 ? 0 : length] = 0;
    printf(" read=%zd %s flags=%x offset=%ld cloexec=%d", length, length > 0 && text[0] == 'h' ? "h" : "-", fcntl(fd, F_GETFL) & ~(0100000 | O_NOFOLLOW),
           (long)lseek(fd, 0, SEEK_CUR), fcntl(fd, F_GETFD));
  }
  close(fd);
}

#define OPEN(name, call, flags)              \
  do {                                       \
    begin(name);                             \
    const int fd = (call);                   \
    if (fd >= 0) use_descriptor(fd, flags);  \
    end(fd < 0);                             \
  } while (0)

static const struct { const char *name; int flags; } opens[] = {
    {"O_RDONLY", O_RDONLY}, {"O_WRONLY", O_WRONLY}, {"O_RDWR", O_RDWR}, {"O_CREAT", O_CREAT}, {"O_CREAT|O_EXCL", O_CREAT | O_EXCL},
    {"O_CREAT|O_RDWR", O_CREAT | O_RDWR}, {"O_TRUNC", O_TRUNC}, {"O_WRONLY|O_TRUNC", O_WRONLY | O_TRUNC}, {"O_WRONLY|O_APPEND", O_WRONLY | O_APPEND},
    {"O_DIRECTORY", O_DIRECTORY}, {"O_NOFOLLOW", O_NOFOLLOW}, {"O_DIRECTORY|O_NOFOLLOW", O_DIRECTORY | O_NOFOLLOW}, {"O_CLOEXEC", O_CLOEXEC},
    {"O_NONBLOCK", O_NONBLOCK}, {"O_PATH", O_PATH}, {"O_PATH|O_DIRECTORY", O_PATH | O_DIRECTORY}, {"O_APPEND", O_APPEND}, {"O_SYNC", O_SYNC},
    {"O_TMPFILE|O_RDWR", O_TMPFILE | O_RDWR}, {"O_TMPFILE", O_TMPFILE}, {"O_CREAT|O_DIRECTORY", O_CREAT | O_DIRECTORY}, {"O_NOATIME", O_NOATIME},
    {"O_CREAT|O_NOFOLLOW", O_CREAT | O_NOFOLLOW}, {"O_WRONLY|O_DIRECTORY", O_WRONLY | O_DIRECTORY}, {"O_ASYNC", O_ASYNC},
};

static void try_opens(const char *path, const char *relative) {
  char name[64];
  for (size_t i = 0; i < sizeof opens / sizeof *opens; i++) {
    const int flags = opens[i].flags;
#define NAMED(function) (sprintf(name, function " %s", opens[i].name), name)
    OPEN(NAMED("open"), open(path, flags, 0644), flags);
    OPEN(NAMED("open64"), open64(path, flags, 0644), flags);
    OPEN(NAMED("__open"), __open(path, flags, 0644), flags);
    OPEN(NAMED("__open64"), __open64(path, flags, 0644), flags);
    OPEN(NAMED("openat"), openat(AT_FDCWD, path, flags, 0644), flags);
    OPEN(NAMED("openat dirfd"), openat(base_fd, relative, flags, 0644), flags);
    OPEN(NAMED("openat64 dirfd"), openat64(base_fd, relative, flags, 0644), flags);
    OPEN(NAMED("syscall openat"), (int)syscall(SYS_openat, base_fd, relative, flags, 0644), flags);
    if (flags & (O_CREAT | (O_TMPFILE & ~O_DIRECTORY))) continue;
    OPEN(NAMED("__open_2"), __open_2(path, flags), flags);
    OPEN(NAMED("__open64_2"), __open64_2(path, flags), flags);
    OPEN(NAMED("__openat_2"), __openat_2(base_fd, relative, flags), flags);
    OPEN(NAMED("__openat64_2"), __openat64_2(base_fd, relative, flags), flags);
  }
  OPEN("creat", creat(path, 0644), 0);
  OPEN("creat64", creat64(path, 0644), 0);
  static const struct { const char *name; uint64_t resolve; } resolves[] = {
      {"0", 0}, {"BENEATH", 8}, {"IN_ROOT", 16}, {"NO_SYMLINKS", 4}, {"NO_XDEV", 1}, {"NO_MAGICLINKS", 2}, {"wrong", 1 << 20}};
  for (size_t i = 0; i < sizeof resolves / sizeof *resolves; i++) {
    struct { uint64_t flags, mode, resolve; } how = {O_RDONLY, 0, resolves[i].resolve};
    sprintf(name, "openat2 %s", resolves[i].name);
    OPEN(name, (int)syscall(SYS_openat2, base_fd, relative, &how, sizeof how), 0);
  }
}

static void try_streams(const char *path) {
  static const char *const modes[] = {"r", "rb", "re", "r+", "w", "w+", "a", "wx", "q"};
  for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
    for (int form = 0; form < 4; form++) {
      char name[32], text[64] = "";
      static const char *const functions[] = {"fopen", "fopen64", "freopen", "freopen64"};
      if (form >= 2 && modes[i][0] == 'q') continue; /* libc reads on with a wrong mode here */
      sprintf(name, "%s %s", functions[form], modes[i]);
      FILE *other = form >= 2 ? fopen("/dev/null", "r") : NULL;
      begin(name);
      FILE *stream = form == 0   ? fopen(path, modes[i])
                     : form == 1 ? fopen64(path, modes[i])
                     : form == 2 ? freopen(path, modes[i], other)
                                 : freopen64(path, modes[i], other);
      if (stream) {
        errno = 0;
        const size_t length = fread(text, 1, 5, stream);
        struct stat status;
        fstat(fileno(stream), &status);
        printf("%zu %s %d", length, text[0] == 'h' ? "h" : "-", S_ISDIR(status.st_mode));
        fclose(stream);
      }
      end(!stream);
    }
  }
}

static void try_stats(const char *path, const char *relative) {
  STAT("stat", stat(path, &status), struct stat);
  STAT("stat64", stat64(path, &status), struct stat64);
  STAT("lstat", lstat(path, &status), struct stat);
  STAT("lstat64", lstat64(path, &status), struct stat64);
  STAT("__xstat", __xstat(layout, path, &status), struct stat);
  STAT("__xstat64", __xstat64(layout, path, &status), struct stat64);
  STAT("__lxstat", __lxstat(layout, path, &status), struct stat);
  STAT("__lxstat64", __lxstat64(layout, path, &status), struct stat64);
  STAT("fstatat", fstatat(AT_FDCWD, path, &status, 0), struct stat);
  STAT("fstatat dirfd", fstatat(base_fd, relative, &status, 0), struct stat);
  STAT("fstatat dirfd AT_SYMLINK_NOFOLLOW", fstatat(base_fd, relative, &status, AT_SYMLINK_NOFOLLOW), struct stat);
  STAT("fstatat64 dirfd", fstatat64(base_fd, relative, &status, 0), struct stat64);
  STAT("__fxstatat dirfd", __fxstatat(layout, base_fd, relative, &status, 0), struct stat);
  STAT("__fxstatat64 dirfd", __fxstatat64(layout, base_fd, relative, &status, AT_SYMLINK_NOFOLLOW), struct stat64);
  STATX("statx", statx(AT_FDCWD, path, 0, STATX_BASIC_STATS, &status));
  STATX("statx dirfd", statx(base_fd, relative, AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, &status));
  STATX("statx wrong mask", statx(base_fd, relative, 0, STATX__RESERVED, &status));
#ifdef SYS_newfstatat
  STAT("syscall newfstatat", (int)syscall(SYS_newfstatat, base_fd, relative, &status, 0), struct stat);
#endif
  /* Handles are for servers of files. There is no room here for a tmpfs's, and the Tree has none to give. */
  for (int flags = 0; flags <= AT_SYMLINK_FOLLOW; flags += AT_SYMLINK_FOLLOW) {
    struct file_handle handle = {.handle_bytes = 0};
    int mount;
    begin("name_to_handle_at");
    const int failed = name_to_handle_at(base_fd, relative, &handle, &mount, flags);
    end(failed && errno != EOVERFLOW && errno != EOPNOTSUPP);
  }
  char name[32];
  for (int mode = 0; mode <= 8; mode++) {
    sprintf(name, "access %d", mode);
    RESULT(name, access(path, mode));
    RESULT("eaccess", eaccess(path, mode));
    RESULT("euidaccess", euidaccess(path, mode));
    RESULT("faccessat", faccessat(base_fd, relative, mode, 0));
    RESULT("faccessat AT_EACCESS", faccessat(base_fd, relative, mode, AT_EACCESS));
    RESULT("faccessat AT_SYMLINK_NOFOLLOW", faccessat(base_fd, relative, mode, AT_SYMLINK_NOFOLLOW));
  }
  begin("ftok");
  const key_t key = ftok(path, 'x');
  struct stat status;
  if (key != -1 && stat(path, &status) == 0) printf("%d", ((unsigned)key >> 24) == 'x' && (key & 0xffff) == (int)(status.st_ino & 0xffff));
  end(key == -1);
}

static void try_links(const char *path, const char *relative) {
  char text[PATH_MAX];
#define READLINK(name, call, room)                             \
  do {                                                         \
    begin(name);                                               \
    memset(text, 0, sizeof text);                              \
    const ssize_t length = (call);                             \
    if (length >= 0) printf("%zd ", room < 99 ? length : 0), show(room < 99 ? "" : text); \
    end(length < 0);                                           \
  } while (0)
  READLINK("readlink", readlink(path, text, sizeof text), 999);
  READLINK("readlink short", readlink(path, text, 3), 3);
  READLINK("readlink none", readlink(path, text, 0), 0);
  READLINK("readlinkat", readlinkat(base_fd, relative, text, sizeof text), 999);
  READLINK("__readlink_chk", __readlink_chk(path, text, 100, sizeof text), 999);
  READLINK("__readlinkat_chk", __readlinkat_chk(base_fd, relative, text, 100, sizeof text), 999);
  for (int form = 0; form < 4; form++) {
    static const char *const names[] = {"realpath", "realpath null", "__realpath_chk", "canonicalize_file_name"};
    begin(names[form]);
    char *found = form == 0   ? realpath(path, text)
                  : form == 1 ? realpath(path, NULL)
                  : form == 2 ? __realpath_chk(path, text, sizeof text)
                              : canonicalize_file_name(path);
    if (found) {
      show(found);
      if (found != text) free(found);
    }
    end(!found);
  }
}

static void try_space(const char *path) {
#define SPACE(name, Space, call, type)                                                          \
  do {                                                                                          \
    struct Space space;                                                                         \
    begin(name);                                                                                \
    const int failed = call;                                                                    \
    if (!failed) printf("%ld %d", (long)space.type, (int)space.f_bsize);                        \
    end(failed);                                                                                \
  } while (0)
  {
    SPACE("statfs", statfs, statfs(path, &space), f_type);
    SPACE("statfs64", statfs64, statfs64(path, &space), f_type);
    SPACE("__statfs", statfs, __statfs(path, &space), f_type);
    SPACE("statvfs", statvfs, statvfs(path, &space), f_namemax);
    SPACE("statvfs64", statvfs64, statvfs64(path, &space), f_namemax);
  }
  static const int limits[] = {_PC_NAME_MAX, _PC_PATH_MAX, _PC_LINK_MAX, _PC_NO_TRUNC, _PC_FILESIZEBITS, _PC_CHOWN_RESTRICTED, _PC_2_SYMLINKS, _PC_MAX_CANON, 9999};
  char name[32];
  for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
    sprintf(name, "pathconf %d", limits[i]);
    RESULT(name, pathconf(path, limits[i]));
  }
  char value[64];
  static const char *const attributes[] = {"user.x", "trusted.x", "bogus", "", "user."};
  for (size_t i = 0; i < sizeof attributes / sizeof *attributes; i++) {
    sprintf(name, "getxattr %s", attributes[i]);
    RESULT(name, getxattr(path, attributes[i], value, sizeof value));
    sprintf(name, "lgetxattr %s", attributes[i]);
    RESULT(name, lgetxattr(path, attributes[i], value, sizeof value));
  }
  RESULT("listxattr", listxattr(path, value, sizeof value));
  RESULT("llistxattr", llistxattr(path, value, sizeof value));
}

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

struct list {
  char *lines[1024];
  int count;
};

__attribute__((format(printf, 2, 3))) static void add(struct list *list, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  if (vasprintf(&list->lines[list->count++], format, arguments) < 0) abort();
  va_end(arguments);
}

static void print_sorted(struct list *list) {
  qsort(list->lines, (size_t)list->count, sizeof list->lines[0], by_name);
  for (int i = 0; i < list->count; i++) {
    putchar(' ');
    show(list->lines[i]);
    free(list->lines[i]);
  }
  list->count = 0;
}

static struct list names;

static void read_with(int how, DIR *stream) {
  struct dirent entry, *result;
  struct dirent64 entry64, *result64;
  while (1) {
    const char *name;
    int type;
    ino_t inode;
    if (how == 0) {
      if (!(result = readdir(stream))) break;
      name = result->d_name, type = result->d_type, inode = result->d_ino;
    } else if (how == 1) {
      if (!(result64 = readdir64(stream))) break;
      name = result64->d_name, type = result64->d_type, inode = result64->d_ino;
    } else if (how == 2) {
      if (readdir_r(stream, &entry, &result) || !result) break;
      name = entry.d_name, type = entry.d_type, inode = entry.d_ino;
    } else {
      if (readdir64_r(stream, &entry64, &result64) || !result64) break;
      name = entry64.d_name, type = entry64.d_type, inode = entry64.d_ino;
    }
    struct stat status;
    const int same = fstatat(dirfd(stream), name, &status, AT_SYMLINK_NOFOLLOW) || status.st_ino == inode;
    add(&names, "%s:%d%s", name, type, same || strcmp(name, "..") == 0 ? "" : ":other inode");
  }
}

static void try_directories(const char *path, const char *relative) {
  char name[32];
  for (int how = 0; how < 4; how++) {
    sprintf(name, "opendir, readdir %d", how);
    begin(name);
    DIR *stream = opendir(path);
    if (stream) {
      read_with(how, stream);
      print_sorted(&names);
      rewinddir(stream);
      read_with(how, stream);
      printf(" again %d", names.count);
      print_sorted(&names);
      /* Every place that telldir names leads back to the same entry. */
      rewinddir(stream);
      int wrong = 0;
      long place = telldir(stream);
      for (struct dirent *entry; (entry = readdir(stream)); place = telldir(stream)) {
        char first[256];
        strcpy(first, entry->d_name);
        while (readdir(stream)) {
        }
        seekdir(stream, place);
        entry = readdir(stream);
        wrong += !entry || strcmp(entry->d_name, first) != 0;
        if (!entry) break;
      }
      printf(" wrong places %d", wrong);
      closedir(stream);
    }
    end(!stream);
  }
  begin("fdopendir");
  int fd = openat(base_fd, relative, O_RDONLY);
  DIR *stream = fd >= 0 ? fdopendir(fd) : NULL;
  if (stream) {
    read_with(0, stream);
    print_sorted(&names);
    closedir(stream);
  } else if (fd >= 0) {
    const int error = errno;
    close(fd);
    errno = error;
  }
  end(!stream);
  fd = open(path, O_RDONLY | O_DIRECTORY);
  if (fd >= 0) {
    STAT_ALL_OF_DESCRIPTOR(fd);
    show_link_of(fd);
    char buffer[300];
    for (int form = 0; form < 4; form++) {
      static const char *const forms[] = {"getdents64", "getdirentries", "getdirentries64", "syscall getdents64"};
      begin(forms[form]);
      lseek(fd, 0, SEEK_SET);
      ssize_t length;
      off_t where;
      int first = 1;
      while ((length = form == 0   ? getdents64(fd, buffer, sizeof buffer)
                       : form == 1 ? getdirentries(fd, buffer, sizeof buffer, &where)
                       : form == 2 ? getdirentries64(fd, buffer, sizeof buffer, &where)
                                   : syscall(SYS_getdents64, fd, buffer, sizeof buffer)) > 0) {
        if (form == 1 || form == 2) printf("%s", first && where != 0 ? "begins elsewhere " : "");
        first = 0;
        for (ssize_t at = 0; at < length;) {
          struct dirent64 *entry = (void *)(buffer + at);
          add(&names, "%s:%d:%d", entry->d_name, entry->d_type, entry->d_reclen);
          at += entry->d_reclen;
        }
      }
      print_sorted(&names);
      end(length < 0);
    }
    RESULT("getdents64 small", (lseek(fd, 0, SEEK_SET), getdents64(fd, buffer, 4)));
#define SPACE_OF_DESCRIPTOR(name, Space, shown)                            \
  do {                                                                     \
    struct Space space;                                                    \
    begin(#name);                                                          \
    const int failed = name(fd, &space);                                   \
    if (!failed) printf("%lx %d", (long)(shown), space.f_blocks != 0);     \
    end(failed);                                                           \
  } while (0)
    SPACE_OF_DESCRIPTOR(fstatfs, statfs, space.f_type);
    SPACE_OF_DESCRIPTOR(fstatfs64, statfs64, space.f_type);
    SPACE_OF_DESCRIPTOR(fstatvfs, statvfs, space.f_flag & ST_RDONLY);
    SPACE_OF_DESCRIPTOR(fstatvfs64, statvfs64, space.f_flag & ST_RDONLY);
    RESULT("fpathconf", fpathconf(fd, _PC_NAME_MAX));
    RESULT("fchmod", fchmod(fd, 0700));
    RESULT("fchown", fchown(fd, 1, 1));
    RESULT("futimens", futimens(fd, NULL));
    RESULT("futimes", futimes(fd, NULL));
    RESULT("fsetxattr", fsetxattr(fd, "user.x", "1", 1, 0));
    RESULT("fremovexattr", fremovexattr(fd, "user.x"));
    RESULT("fgetxattr", fgetxattr(fd, "user.x", buffer, sizeof buffer));
    RESULT("flistxattr", flistxattr(fd, buffer, sizeof buffer));
    begin("dup and read");
    const int other = dup(fd);
    stream = fdopendir(other);
    if (stream) {
      rewinddir(stream);
      read_with(0, stream);
      print_sorted(&names);
      closedir(stream);
    }
    end(!stream);
    char one;
    RESULT("read fails", read(fd, &one, 1) == -1);
    RESULT("write fails", write(fd, "x", 1) == -1);
    RESULT("ftruncate fails", ftruncate(fd, 0) == -1);
  }
  if (fd >= 0) close(fd);
#define SCAN(label, call, Dirent)                                                            \
  do {                                                                                       \
    struct Dirent **found;                                                                   \
    begin(label);                                                                            \
    const int count = (call);                                                                \
    for (int i = 0; i < count; i++) {                                                        \
      printf(" %s:%d", found[i]->d_name, found[i]->d_type);                                  \
      free(found[i]);                                                                        \
    }                                                                                        \
    if (count >= 0) free(found);                                                             \
    end(count < 0);                                                                          \
  } while (0)
  SCAN("scandir", scandir(path, &found, NULL, alphasort), dirent);
  SCAN("scandir64", scandir64(path, &found, NULL, alphasort64), dirent64);
  SCAN("scandirat", scandirat(base_fd, relative, &found, NULL, alphasort), dirent);
  SCAN("scandirat64", scandirat64(base_fd, relative, &found, NULL, versionsort64), dirent64);
}

static int see(const char *path, const struct stat *status, int type, struct FTW *place) {
  add(&names, "%s:%d:%d:%d:%o", path, type, place->base - (int)strlen(base), place->level, type == FTW_NS ? 0 : status->st_mode);
  return 0;
}
static int see64(const char *path, const struct stat64 *status, int type, struct FTW *place) {
  return see(path, (const struct stat *)status, type, place);
}
static int see_simple(const char *path, const struct stat *status, int type) {
  add(&names, "%s:%d:%o", path, type, type == FTW_NS ? 0 : status->st_mode);
  return 0;
}
static int see_simple64(const char *path, const struct stat64 *status, int type) { return see_simple(path, (const struct stat *)status, type); }
static int stop_at_d(const char *path, const struct stat *status, int type, struct FTW *place) {
  see(path, status, type, place);
  return strcmp(path + place->base, "d") == 0 ? FTW_SKIP_SUBTREE : FTW_CONTINUE;
}
static int by_entry(const FTSENT **a, const FTSENT **b) { return strcmp((*a)->fts_name, (*b)->fts_name); }
static int by_entry64(const FTSENT64 **a, const FTSENT64 **b) { return strcmp((*a)->fts_name, (*b)->fts_name); }

static void try_walks(const char *path) {
  if (strstr(tried, "out") || strstr(tried, "..")) return; /* leads to other files in each run */
  const int at_base = !tried[0] || strcmp(tried, "/") == 0 || strcmp(tried, "/.") == 0; /* where the symlink `out` is */
  static const int flags[] = {0, FTW_PHYS, FTW_PHYS | FTW_DEPTH, FTW_PHYS | FTW_MOUNT, FTW_DEPTH};
  char name[48];
#define WALK(label, call)                \
  do {                                   \
    begin(label);                        \
    const int result = (call);           \
    if (result >= 0) printf("%d", result); \
    print_sorted(&names);                \
    end(result < 0);                     \
  } while (0)
  for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) {
    if (at_base && !(flags[i] & FTW_PHYS)) continue;
    sprintf(name, "nftw %d", flags[i]);
    WALK(name, nftw(path, see, 8, flags[i]));
    WALK("nftw64", nftw64(path, see64, 8, flags[i]));
  }
  WALK("nftw skip", nftw(path, stop_at_d, 8, FTW_PHYS | FTW_ACTIONRETVAL));
  if (!at_base) {
    WALK("ftw", ftw(path, see_simple, 8));
    WALK("ftw64", ftw64(path, see_simple64, 8));
  }
  static const int options[] = {FTS_PHYSICAL, FTS_LOGICAL, FTS_PHYSICAL | FTS_COMFOLLOW, FTS_PHYSICAL | FTS_SEEDOT, FTS_PHYSICAL | FTS_NOCHDIR,
                                FTS_PHYSICAL | FTS_XDEV, 0};
  char *roots[] = {(char *)path, NULL};
  for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
    if ((options[i] & FTS_LOGICAL) && at_base) continue;
    sprintf(name, "fts %x", options[i]);
    begin(name);
    FTS *walk = fts_open(roots, options[i], by_entry);
    for (FTSENT *entry; walk && (entry = fts_read(walk));) {
      printf(" ");
      show(entry->fts_path);
      printf(":%s:%d:%d:%d:%d:%d", entry->fts_name[0] == '/' ? "/" : entry->fts_name, entry->fts_info, entry->fts_level, entry->fts_errno,
             entry->fts_info == FTS_NS || entry->fts_info == FTS_SLNONE ? 0 : (int)entry->fts_statp->st_mode, (int)(entry->fts_pathlen - strlen(entry->fts_path)));
    }
    if (walk) fts_close(walk);
    end(!walk);
    if (!walk) continue;
#define CHILDREN(fts, Walk, Entry, by_entry)                                                                                       \
  do {                                                                                                                             \
    sprintf(name, #fts " children %x", options[i]);                                                                                \
    begin(name);                                                                                                                   \
    Walk *walk = fts##_open(roots, options[i], by_entry);                                                                          \
    for (Entry *entry; (entry = fts##_read(walk));) {                                                                              \
      printf(" %s:%d", entry->fts_name[0] == '/' ? "/" : entry->fts_name, entry->fts_info);                                        \
      if (entry->fts_info == FTS_D) {                                                                                              \
        for (Entry *child = fts##_children(walk, 0); child; child = child->fts_link) printf(",%s", child->fts_name);               \
        if (strcmp(entry->fts_name, "deep") == 0) fts##_set(walk, entry, FTS_SKIP);                                                \
      }                                                                                                                            \
      if (entry->fts_info == FTS_SL && strncmp(entry->fts_name, "to-", 3) == 0) fts##_set(walk, entry, FTS_FOLLOW);                \
    }                                                                                                                              \
    fts##_close(walk);                                                                                                             \
    end(0);                                                                                                                        \
  } while (0)
    CHILDREN(fts, FTS, FTSENT, by_entry);
    CHILDREN(fts64, FTS64, FTSENT64, by_entry64);
  }
}

/* Calls that change something; a directory for the new name is the one tried. */
static void try_changes(const char *path, const char *relative) {
  dev_t device = 0;
  struct timespec times[2] = {{1, 2}, {3, 4}};
  RESULT("mkdir", mkdir(path, 0755));
  RESULT("mkdirat", mkdirat(base_fd, relative, 0755));
  RESULT("mknod", mknod(path, S_IFREG | 0644, 0));
  RESULT("mknodat", mknodat(base_fd, relative, S_IFREG | 0644, 0));
  RESULT("__xmknod", __xmknod(0, path, S_IFREG | 0644, &device));
  RESULT("__xmknodat", __xmknodat(0, base_fd, relative, S_IFREG | 0644, &device));
  RESULT("mkfifo", mkfifo(path, 0644));
  RESULT("mkfifoat", mkfifoat(base_fd, relative, 0644));
  RESULT("rmdir", rmdir(path));
  RESULT("unlink", unlink(path));
  RESULT("unlinkat", unlinkat(base_fd, relative, 0));
  RESULT("unlinkat AT_REMOVEDIR", unlinkat(base_fd, relative, AT_REMOVEDIR));
  RESULT("remove", remove(path));
  RESULT("symlink", symlink("x", path));
  RESULT("symlinkat", symlinkat("x", base_fd, relative));
  RESULT("chmod", chmod(path, 0700));
  begin("lchmod");
  const int failed = lchmod(path, 0700);
  if (errno == EOPNOTSUPP) errno = EROFS; /* of a symlink, by glibc before 2.39 or Linux before 6.6 */
  end(failed);
  RESULT("fchmodat", fchmodat(base_fd, relative, 0700, 0));
  RESULT("chown", chown(path, 1, 1));
  RESULT("lchown", lchown(path, 1, 1));
  RESULT("fchownat", fchownat(base_fd, relative, 1, 1, AT_SYMLINK_NOFOLLOW));
  RESULT("utime", utime(path, NULL));
  RESULT("utimes", utimes(path, NULL));
  RESULT("lutimes", lutimes(path, NULL));
  RESULT("futimesat", futimesat(base_fd, relative, NULL));
  RESULT("utimensat", utimensat(base_fd, relative, times, 0));
  RESULT("utimensat AT_SYMLINK_NOFOLLOW", utimensat(base_fd, relative, times, AT_SYMLINK_NOFOLLOW));
  RESULT("truncate", truncate(path, 0));
  RESULT("truncate64", truncate64(path, 3));
  RESULT("truncate negative", truncate(path, -1));
  RESULT("setxattr", setxattr(path, "user.x", "1", 1, 0));
  RESULT("lsetxattr", lsetxattr(path, "user.x", "1", 1, 0));
  RESULT("removexattr", removexattr(path, "user.x"));
  RESULT("lremovexattr", lremovexattr(path, "user.x"));
  char other[PATH_MAX];
  sprintf(other, "%s/f", base);
  RESULT("rename to f", rename(path, other));
  RESULT("rename from f", rename(other, path));
  RESULT("renameat", renameat(base_fd, relative, base_fd, "d/new"));
  RESULT("renameat2", renameat2(base_fd, relative, base_fd, "d/new", RENAME_NOREPLACE));
  RESULT("link to new", link(path, spell("@/new")));
  RESULT("link from f", link(other, path));
  RESULT("linkat", linkat(base_fd, relative, base_fd, "new", AT_SYMLINK_FOLLOW));
  RESULT("link out", link(path, "/tmp/diskless-new"));
  RESULT("link in", link("/proc/self/status", path));
  RESULT("rename out", rename(path, "/tmp/diskless-new"));
  RESULT("rename in", rename("/proc/self/status", path));
  char pattern[3 * PATH_MAX];
#define TEMPORARY(name, tail, call)                   \
  do {                                                \
    snprintf(pattern, sizeof pattern, "%s%s", path, tail); \
    RESULT(name, call);                               \
  } while (0)
  TEMPORARY("mkstemp", "/tXXXXXX", mkstemp(pattern));
  TEMPORARY("mkstemp64", "/tXXXXXX", mkstemp64(pattern));
  TEMPORARY("mkostemp", "/tXXXXXX", mkostemp(pattern, O_CLOEXEC));
  TEMPORARY("mkostemp64", "/tXXXXXX", mkostemp64(pattern, O_CLOEXEC));
  TEMPORARY("mkstemps", "/tXXXXXX.x", mkstemps(pattern, 2));
  TEMPORARY("mkstemps64", "/tXXXXXX.x", mkstemps64(pattern, 2));
  TEMPORARY("mkostemps", "/tXXXXXX.x", mkostemps(pattern, 2, 0));
  TEMPORARY("mkostemps64", "/tXXXXXX.x", mkostemps64(pattern, 2, 0));
  TEMPORARY("mkstemp without X", "/t", mkstemp(pattern));
  TEMPORARY("mkdtemp", "/tXXXXXX", mkdtemp(pattern) ? 0 : -1);
  TEMPORARY("mktemp", "/tXXXXXX", strlen(mktemp(pattern)) > 0);
  char *invented = tempnam(path, "abc");
  struct stat status;
  RESULT("tempnam", invented && strncmp(invented, path, strlen(path)) == 0 && lstat(invented, &status) != 0);
  free(invented);
}

static void try_patterns(void) {
  static const char *const patterns[] = {"@/?", "@/?*", "@/d/?*", "@/[!o]*/g", "@/[!o]*/?*", "@/[ft]*[x-z]", "@/to-?/", "@/{f,d,zz}", "@/not-there-?*", "@/d/deep/?*/h",
                                         "@/odd name \\*[[]x]", "@/dang?ing", "@/f"};
  static const int flags[] = {0, GLOB_MARK, GLOB_ONLYDIR, GLOB_BRACE, GLOB_NOCHECK, GLOB_PERIOD, GLOB_NOSORT};
  char pattern[PATH_MAX], name[64];
  for (size_t i = 0; i < sizeof patterns / sizeof *patterns; i++) {
    tried = patterns[i];
    char *at = pattern;
    for (const char *letter = patterns[i]; *letter; letter++) { /* '*' is a wildcard here */
      at += *letter == '@' ? sprintf(at, "%s", base) : sprintf(at, "%c", *letter);
    }
    for (size_t j = 0; j < sizeof flags / sizeof *flags; j++) {
      glob_t found;
      glob64_t found64;
      sprintf(name, "glob %x", flags[j]);
      begin(name);
      const int result = glob(pattern, flags[j], NULL, &found);
      const int again = result ? 0 : glob(pattern, flags[j] | GLOB_APPEND, NULL, &found);
      printf("%d %d", result, again);
      for (size_t k = 0; !result && k < found.gl_pathc; k++) add(&names, "%s", found.gl_pathv[k]);
      print_sorted(&names);
      if (!result) globfree(&found);
      end(0);
      begin("glob64");
      const int result64 = glob64(pattern, flags[j], NULL, &found64);
      printf("%d %zu", result64, result64 ? 0 : found64.gl_pathc);
      if (!result64) globfree64(&found64);
      end(0);
    }
    wordexp_t words;
    begin("wordexp");
    const int result = wordexp(pattern, &words, WRDE_NOCMD);
    printf("%d", result);
    for (size_t k = 0; !result && k < words.we_wordc; k++) {
      putchar(' ');
      show(words.we_wordv[k]);
    }
    if (!result) wordfree(&words);
    end(0);
  }
  static const char *const texts[] = {"\"@/d/*\" @/d/*", "'@/*' x", "@/d/g @/d/d* ~nobody-there", "a@/d/*"};
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
    tried = texts[i];
    char *at = pattern;
    for (const char *letter = texts[i]; *letter; letter++) at += *letter == '@' ? sprintf(at, "%s", base) : sprintf(at, "%c", *letter);
    wordexp_t words;
    begin("wordexp");
    const int result = wordexp(pattern, &words, WRDE_NOCMD);
    printf("%d", result);
    for (size_t k = 0; !result && k < words.we_wordc; k++) {
      putchar(' ');
      show(words.we_wordv[k]);
    }
    if (!result) wordfree(&words);
    end(0);
  }
}

static void try_descriptors_of_files(void) {
  tried = "f";
  const int fd = open(spell("@/f"), O_RDONLY);
  struct stat status;
  char buffer[64];
  STAT_ALL_OF_DESCRIPTOR(fd);
  show_link_of(fd);
  RESULT("fchmod", fchmod(fd, 0700));
  RESULT("fchown", fchown(fd, 1, 1));
  RESULT("futimens", futimens(fd, NULL));
  RESULT("fsetxattr", fsetxattr(fd, "user.x", "1", 1, 0));
  RESULT("fgetxattr", fgetxattr(fd, "user.x", buffer, sizeof buffer));
  RESULT("flistxattr", flistxattr(fd, buffer, sizeof buffer));
  RESULT("ftruncate", ftruncate(fd, 0));
  RESULT("write", write(fd, "x", 1));
  RESULT("openat beneath a file", openat(fd, "x", O_RDONLY));
  RESULT("fstatat beneath a file", fstatat(fd, "x", &status, 0));
  RESULT("fchdir", fchdir(fd));
  RESULT("fdopendir", fdopendir(fd) ? 0 : -1);
  char link[64];
  sprintf(link, "/proc/self/fd/%d", fd);
  tried = "/proc/self/fd/N";
  OPEN("open again", open(link, O_RDONLY), 0);
  OPEN("open again to write", open(link, O_RDWR), 0);
  OPEN("open again as a directory", open(link, O_RDONLY | O_DIRECTORY), 0);
  OPEN("open the link", open(link, O_RDONLY | O_NOFOLLOW), 0);
  RESULT("access", access(link, W_OK));
  RESULT("chmod", chmod(link, 0777));
  RESULT("truncate", truncate(link, 0));
  strcat(link, "/");
  RESULT("stat with a slash", stat(link, &status));
  sprintf(link, "/proc/self/fd/%d/d/../f", base_fd);
  tried = "/proc/self/fd/N/d/../f";
  OPEN("open beneath", open(link, O_RDONLY), 0);
  STAT("stat beneath", stat(link, &status), struct stat);
  close(fd);
}

static void try_null(void) {
  tried = "NULL";
  const char *volatile none = NULL;
  struct stat status;
  RESULT("open", open(none, O_RDONLY));
  RESULT("openat", openat(base_fd, none, O_RDONLY));
  RESULT("access", access(none, 0));
  RESULT("lstat", lstat(none, &status));
  RESULT("mkdir", mkdir(none, 0));
  RESULT("unlink", unlink(none));
  RESULT("rename", rename(none, none));
  RESULT("readlink", readlink(none, (char *)&status, sizeof status));
  RESULT("stat into null", stat(spell("@/f"), (struct stat *)none));
  RESULT("statx into null", statx(base_fd, "f", 0, STATX_ALL, (struct statx *)none));
  RESULT("realpath", realpath(none, NULL) ? 0 : -1);
}

static void run(void) {
  struct stat status;
  if (stat(base, &status) || (base_fd = open(base, O_RDONLY | O_DIRECTORY)) < 0) {
    perror(base);
    exit(2);
  }
  base_device = status.st_dev;
  for (size_t i = 0; i < sizeof tried_paths / sizeof *tried_paths; i++) {
    tried = tried_paths[i];
    char path[2 * PATH_MAX];
    const char *tail = spell(tried);
    snprintf(path, sizeof path, "%s%s%s", base, tail[0] == '/' || !tail[0] ? "" : "/", tail);
    while (*tail == '/') tail++; /* relative to the base's descriptor */
    char relative[PATH_MAX];
    strcpy(relative, tail);
    try_stats(path, relative);
    try_links(path, relative);
    try_space(path);
    try_opens(path, relative);
    try_streams(path);
    try_directories(path, relative);
    try_walks(path);
    try_changes(path, relative);
  }
  tried = "a path of 4096 letters";
  char path[PATH_MAX + 8];
  size_t length = (size_t)sprintf(path, "%s", base);
  while (length + 2 < sizeof path) length += (size_t)sprintf(path + length, "/.");
  RESULT("open", open(path, O_RDONLY));
  RESULT("stat", stat(path, &status));
  path[PATH_MAX - 1] = 0;
  STAT("stat of 4095", stat(path, &status), struct stat);
  try_patterns();
  try_descriptors_of_files();
  try_null();
}

/* The files are made by real calls, or by those of the library. */
static void fail_unless(int succeeded, const char *what) {
  if (succeeded) return;
  fprintf(stderr, "cannot make %s: %s\n", what, strerror(errno));
  exit(2);
}

static void build(void) {
  const struct timespec times[2] = {{made_ns / 1000000000, made_ns % 1000000000}, {made_ns / 1000000000, made_ns % 1000000000}};
  char path[PATH_MAX];
  const int count = sizeof made_files / sizeof *made_files;
  for (int i = 0; i < count; i++) {
    const struct made *made = &made_files[i];
    strcpy(path, base);
    strcat(strcat(path, "/"), made->path);
    if (made->kind == directory) fail_unless(!mkdir(path, 0755), path);
    if (made->kind == symlink_to) fail_unless(!symlink(spell(made->text), path), path);
    if (made->kind == hard_link) fail_unless(!link(spell("@/f"), path), path);
    if (made->kind == file) {
      const int fd = open(path, O_CREAT | O_EXCL | O_WRONLY, 0600);
      fail_unless(fd >= 0 && write(fd, made->text, strlen(made->text)) >= 0, path);
      fail_unless(!fchmod(fd, made->mode) && !futimens(fd, times), path);
      close(fd);
    }
  }
  for (int i = count - 1; i >= 0; i--) {
    if (made_files[i].kind != directory) continue;
    sprintf(path, "%s/%s", base, made_files[i].path);
    fail_unless(!chmod(path, made_files[i].mode) && !utimensat(AT_FDCWD, path, times, 0), path);
  }
  fail_unless(!chmod(base, 0555) && !utimensat(AT_FDCWD, base, times, 0), base);
  strcpy(path, base);
  *strrchr(path, '/') = 0;
  fail_unless(!chmod(path, 0555) && !utimensat(AT_FDCWD, path, times, 0), path);
}

static void build_in_tree(const char *library) {
  void *handle = dlopen(library, RTLD_NOW);
  if (!handle) {
    fprintf(stderr, "%s\n", dlerror());
    exit(2);
  }
#define FROM_LIBRARY(type, name, parameters) type (*name) parameters = dlsym(handle, "diskless_" #name)
  FROM_LIBRARY(int, memfd, (const char *));
  FROM_LIBRARY(int, seal, (int));
  FROM_LIBRARY(int, root_add, (const char *));
  FROM_LIBRARY(int, set_file, (const char *, int, unsigned, long long, int));
  FROM_LIBRARY(int, set_directory, (const char *, unsigned, long long));
  FROM_LIBRARY(int, set_symlink, (const char *, const char *));
  FROM_LIBRARY(int, set_space, (long long, long long));
  FROM_LIBRARY(int, activate, (void));
  int linked = -1;
  char path[PATH_MAX];
  const int count = sizeof made_files / sizeof *made_files;
#define DO(call) do { const int result = (call); errno = result < 0 ? -result : 0; fail_unless(result >= 0, path); } while (0)
  strcpy(path, "/diskless");
  DO(root_add(path));
  for (int i = 0; i < count; i++) {
    const struct made *made = &made_files[i];
    sprintf(path, "%s/%s", base, made->path);
    if (made->kind == symlink_to) DO(set_symlink(path, spell(made->text)));
    if (made->kind == hard_link) DO(set_file(path, linked, 0444, made_ns, -1));
    if (made->kind == file) {
      const int fd = memfd("diskless");
      fail_unless(fd >= 0 && write(fd, made->text, strlen(made->text)) >= 0, path);
      DO(seal(fd));
      DO(set_file(path, fd, made->mode, made_ns, -1));
      if (strcmp(made->path, "f") == 0) linked = fd;
    }
  }
  for (int i = count - 1; i >= 0; i--) {
    if (made_files[i].kind != directory) continue;
    sprintf(path, "%s/%s", base, made_files[i].path);
    DO(set_directory(path, made_files[i].mode, made_ns));
  }
  strcpy(path, base);
  DO(set_directory(path, 0555, made_ns));
  *strrchr(path, '/') = 0;
  DO(set_directory(path, 0555, made_ns));
  DO(set_space(1ll << 30, 1ll << 29));
  DO(activate());
}

int main(int count, char **words) {
  const int in_tree = count > 3 && strcmp(words[1], "tree") == 0;
  base = words[in_tree ? 3 : 2];
  const char *user = count > (in_tree ? 4 : 3) ? words[in_tree ? 4 : 3] : NULL;
  if (strcmp(words[1], "build") == 0) {
    build();
    return 0;
  }
  if (in_tree) build_in_tree(words[2]);
  if (user && (setgid((gid_t)atoi(user)) || setuid((uid_t)atoi(user)))) {
    perror("setuid");
    return 2;
  }
  run();
  return 0;
}
