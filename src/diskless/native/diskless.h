/* The C interface of libdiskless.so. Functions return 0 or a positive result, or -errno. */
#ifndef DISKLESS_H
#define DISKLESS_H

#ifdef __cplusplus
extern "C" {
#endif

#define DISKLESS_API __attribute__((visibility("default")))

/* RAM files. Their descriptors are close-on-exec, numbered high, and spared when a program closes ranges of numbers. */
DISKLESS_API int diskless_memfd(const char *name);
DISKLESS_API int diskless_guard(int fd);
DISKLESS_API int diskless_release(int fd);
DISKLESS_API int diskless_seal(int fd);

/* The Tree. A root is a place where it shows: /diskless, or any absolute path, which it shadows. */
DISKLESS_API int diskless_root_add(const char *path);
DISKLESS_API int diskless_root_remove(const char *path);
/* A scratch is a root that may be written. Its bytes are freed with it, but for files that are open or mapped. */
DISKLESS_API int diskless_scratch_add(const char *path, unsigned mode, long long budget_bytes);
DISKLESS_API int diskless_scratch_remove(const char *path);
/* `gate` is the number of one, where the bytes are still to come, or -1. */
DISKLESS_API int diskless_set_file(const char *path, int fd, unsigned mode, long long mtime_ns, int gate);
/* The same in a directory of a scratch, where nothing has the name yet. Its bytes are never written to: who opens it to
   begin it anew gets another file under the name, and it can be renamed and removed as any there. */
DISKLESS_API int diskless_place_file(const char *path, int fd, unsigned mode, long long mtime_ns, int gate);
DISKLESS_API int diskless_set_directory(const char *path, unsigned mode, long long mtime_ns);
DISKLESS_API int diskless_set_symlink(const char *path, const char *target);
DISKLESS_API int diskless_remove(const char *path);
/* Whether the path leads into the Tree as libc's calls follow it now, whatever is or is not there: 1 or 0. */
DISKLESS_API int diskless_contains(const char *path);
/* What the files of all scratches take, in bytes. */
DISKLESS_API long long diskless_scratch_used(void);
DISKLESS_API int diskless_set_space(long long total_bytes, long long free_bytes);

/* Gates: who opens a file whose gate is closed waits there. A gate is settled once: complete, or not to be had. The two
 * descriptors are for the Loader, which settles gates through them. */
DISKLESS_API int diskless_gate_make(void);
DISKLESS_API int diskless_gate_free(int gate);
DISKLESS_API int diskless_gate_settle(int gate, int complete);
/* Has the Loader fetch the file, as an open would, without waiting for it. */
DISKLESS_API int diskless_gate_ask(int gate);
/* 0: not settled, 1: complete, 2: not to be had. */
DISKLESS_API int diskless_gate_state(int gate);
DISKLESS_API int diskless_gate_descriptors(int *memory, int *event);

/* The Interposer: counted; nothing is patched before the first and after the last. */
DISKLESS_API int diskless_activate(void);
DISKLESS_API int diskless_deactivate(void);
DISKLESS_API long diskless_patched_slots(void);
/* The function of libc of that name with the Tree in it, for callers that want that whether or not libc's calls are
 * redirected: from then on the Tree shows to those who call it so. Null where it is not one of the redirected ones. */
DISKLESS_API void *diskless_function(const char *name);

/* One sentence for the log, if there is any: its length, or 0. The buffer should hold 640 bytes. */
DISKLESS_API int diskless_take_message(char *buffer, int size);

/* Checksums. The CRC of what stands behind bytes whose CRC is `crc` (of none, 0); and that of two pieces, from the CRC of
 * each and the size of the second. */
enum { DISKLESS_CRC32, DISKLESS_CRC32C, DISKLESS_CRC64NVME };
DISKLESS_API unsigned long long diskless_crc(int which, unsigned long long crc, const void *data,
                                             unsigned long long size);
DISKLESS_API unsigned long long diskless_crc_combine(int which, unsigned long long first, unsigned long long second,
                                                     unsigned long long size);

/* Starts a program that wait(2) never meets. fds become its descriptors 3, 4, …; returns what diskless_reap takes. */
DISKLESS_API int diskless_spawn(const char *file, char *const argv[], char *const envp[], const int *fds, int fd_count);
DISKLESS_API int diskless_reap(int pid);

#ifdef __cplusplus
}
#endif
#endif
