// The functions by which libc's users see files: those that the Tree answers or refuses. Part of the list in hooks.h.
#pragma once

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <fts.h>
#include <glob.h>
#include <semaphore.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/uio.h>
#include <sys/ipc.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/time.h>
#include <sys/xattr.h>
#include <unistd.h>
#include <utime.h>
#include <wordexp.h>

// readdir_r is deprecated, and still called.
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

// The older generation of stat, what fortified programs call, and libc's own names: libc has them, its headers do not.
extern "C" {
int __open(const char *path, int flags, ...);
int __open64(const char *path, int flags, ...);
int __statfs(const char *path, struct statfs *space) noexcept;
int __xstat(int version, const char *path, struct stat *status) noexcept;
int __xstat64(int version, const char *path, struct stat64 *status) noexcept;
int __lxstat(int version, const char *path, struct stat *status) noexcept;
int __lxstat64(int version, const char *path, struct stat64 *status) noexcept;
int __fxstat(int version, int fd, struct stat *status) noexcept;
int __fxstat64(int version, int fd, struct stat64 *status) noexcept;
int __fxstatat(int version, int dirfd, const char *path, struct stat *status, int flags) noexcept;
int __fxstatat64(int version, int dirfd, const char *path, struct stat64 *status, int flags) noexcept;
int __xmknod(int version, const char *path, mode_t mode, dev_t *device) noexcept;
int __xmknodat(int version, int dirfd, const char *path, mode_t mode, dev_t *device) noexcept;
int __open_2(const char *path, int flags);
int __open64_2(const char *path, int flags);
int __openat_2(int dirfd, const char *path, int flags);
int __openat64_2(int dirfd, const char *path, int flags);
ssize_t __readlink_chk(const char *path, char *buffer, size_t length, size_t size) noexcept;
ssize_t __readlinkat_chk(int dirfd, const char *path, char *buffer, size_t length, size_t size) noexcept;
int __dprintf_chk(int fd, int flag, const char *format, ...);
int __vdprintf_chk(int fd, int flag, const char *format, va_list values);
ssize_t __write(int fd, const void *bytes, size_t length);
ssize_t __pwrite64(int fd, const void *bytes, size_t length, off64_t offset);
char *__realpath_chk(const char *path, char *resolved, size_t size) noexcept;
char *__getcwd_chk(char *buffer, size_t size, size_t room) noexcept;
char *__getwd_chk(char *buffer, size_t room) noexcept;
int execveat(int dirfd, const char *path, char *const *arguments, char *const *environment, int flags) noexcept;
int posix_spawn_file_actions_addchdir_np(posix_spawn_file_actions_t *actions, const char *path) noexcept;
int posix_spawn_file_actions_addfchdir_np(posix_spawn_file_actions_t *actions, int fd) noexcept;
}

// clang-format off
#define DISKLESS_OPEN_HOOKS(X)                                                                                   \
  X(open) X(open64) X(openat) X(openat64) X(creat) X(creat64) X(__open) X(__open64) X(__open_2) X(__open64_2) X(__openat_2)            \
  X(__openat64_2) X(name_to_handle_at) X(fopen) X(fopen64) X(freopen) X(freopen64)

#define DISKLESS_STAT_HOOKS(X)                                                                                   \
  X(stat) X(stat64) X(lstat) X(lstat64) X(fstat) X(fstat64) X(fstatat) X(fstatat64) X(__xstat) X(__xstat64)      \
  X(__lxstat) X(__lxstat64) X(__fxstat) X(__fxstat64) X(__fxstatat) X(__fxstatat64) X(statx)                     \
  X(access) X(faccessat) X(eaccess) X(euidaccess) X(ftok)                                                        \
  X(statfs) X(statfs64) X(fstatfs) X(fstatfs64) X(statvfs) X(statvfs64) X(fstatvfs) X(fstatvfs64) X(__statfs)     \
  X(pathconf) X(getxattr) X(lgetxattr) X(fgetxattr) X(listxattr) X(llistxattr) X(flistxattr)

#define DISKLESS_RESOLVE_HOOKS(X)                                                                                \
  X(readlink) X(readlinkat) X(__readlink_chk) X(__readlinkat_chk) X(realpath) X(__realpath_chk)                  \
  X(canonicalize_file_name)

// Functions on a directory stream: they stay redirected while one of ours is open.
#define DISKLESS_STREAM_HOOKS(X)                                                                                 \
  X(readdir) X(readdir64) X(readdir_r) X(readdir64_r) X(telldir) X(seekdir) X(rewinddir) X(dirfd) X(closedir)

#define DISKLESS_DIRECTORY_HOOKS(X)                                                                              \
  DISKLESS_STREAM_HOOKS(X)                                                                                       \
  X(opendir) X(fdopendir) X(scandir) X(scandir64) X(scandirat) X(scandirat64) X(getdents64) X(getdirentries)     \
  X(getdirentries64)

#define DISKLESS_WALK_HOOKS(X)                                                                                   \
  X(glob) X(glob64) X(wordexp) X(ftw) X(ftw64) X(nftw) X(nftw64)                                                 \
  X(fts_open) X(fts_read) X(fts_children) X(fts_set) X(fts_close)                                                \
  X(fts64_open) X(fts64_read) X(fts64_children) X(fts64_set) X(fts64_close)

#define DISKLESS_CHANGE_HOOKS(X)                                                                                \
  X(mkdir) X(mkdirat) X(mknod) X(mknodat) X(__xmknod) X(__xmknodat) X(mkfifo) X(mkfifoat)                        \
  X(rmdir) X(unlink) X(unlinkat) X(remove) X(rename) X(renameat) X(renameat2) X(link) X(linkat) X(symlink)       \
  X(symlinkat) X(chmod) X(lchmod) X(fchmod) X(fchmodat) X(chown) X(lchown) X(fchown) X(fchownat)                 \
  X(utime) X(utimes) X(lutimes) X(futimes) X(futimesat) X(utimensat) X(futimens) X(truncate) X(truncate64)       \
  X(setxattr) X(lsetxattr) X(fsetxattr) X(removexattr) X(lremovexattr) X(fremovexattr)                           \
  X(mktemp) X(mkdtemp) X(mkstemp) X(mkstemp64) X(mkostemp) X(mkostemp64) X(mkstemps) X(mkstemps64)               \
  X(mkostemps) X(mkostemps64) X(tempnam) X(tmpfile) X(tmpfile64) X(umask)

// Fill files, or pass descriptors on (write.cpp, numbers.cpp).
#define DISKLESS_WRITE_HOOKS(X)                                                                                  \
  X(write) X(__write) X(pwrite) X(pwrite64) X(__pwrite64) X(writev) X(pwritev) X(pwritev64) X(pwritev2)          \
  X(pwritev64v2) X(copy_file_range) X(splice) X(sendfile) X(sendfile64) X(fallocate) X(fallocate64)              \
  X(posix_fallocate) X(posix_fallocate64) X(ftruncate) X(ftruncate64) X(mmap) X(mmap64)                          \
  X(dup) X(fcntl) X(fcntl64) X(recvmsg) X(recvmmsg)                                                              \
  X(fdopen) X(fileno) X(fileno_unlocked) X(dprintf) X(vdprintf) X(__dprintf_chk) X(__vdprintf_chk)

#define DISKLESS_SOCKET_HOOKS(X)                                                                                 \
  X(bind) X(connect) X(sendto) X(sendmsg) X(sendmmsg) X(accept) X(accept4) X(getsockname) X(getpeername)         \
  X(recvfrom)

#define DISKLESS_SHARED_MEMORY_HOOKS(X) X(shm_open) X(shm_unlink) X(sem_open) X(sem_close) X(sem_unlink)

#define DISKLESS_PROCESS_HOOKS(X)                                                                                \
  X(chdir) X(fchdir) X(getcwd) X(__getcwd_chk) X(getwd) X(__getwd_chk) X(get_current_dir_name)                   \
  X(execv) X(execve) X(execvp) X(execvpe) X(execl) X(execle) X(execlp) X(fexecve) X(execveat) X(system) X(popen) \
  X(posix_spawn) X(posix_spawnp) X(posix_spawn_file_actions_addopen) X(posix_spawn_file_actions_addchdir_np)     \
  X(posix_spawn_file_actions_addfchdir_np) X(posix_spawn_file_actions_destroy)                                   \
  X(inotify_add_watch)

#define DISKLESS_TREE_HOOKS(X)                                                                                   \
  DISKLESS_OPEN_HOOKS(X)                                                                                         \
  DISKLESS_STAT_HOOKS(X)                                                                                         \
  DISKLESS_RESOLVE_HOOKS(X)                                                                                      \
  DISKLESS_DIRECTORY_HOOKS(X)                                                                                    \
  DISKLESS_WALK_HOOKS(X)                                                                                         \
  DISKLESS_CHANGE_HOOKS(X)                                                                                      \
  DISKLESS_WRITE_HOOKS(X)                                                                                        \
  DISKLESS_SHARED_MEMORY_HOOKS(X)                                                                                \
  DISKLESS_SOCKET_HOOKS(X)                                                                                       \
  DISKLESS_PROCESS_HOOKS(X)
// clang-format on
