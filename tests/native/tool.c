/* Another tool that redirects calls by writing slots, as profilers do. It keeps to the rules: it chains to what it
 * found, and puts that back only where its own function still stands. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <link.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

typedef int Open(const char *, int, ...);
typedef int Stat(const char *, struct stat *);
typedef int Close(int);

static int calls, by_own_slot;
int tool_calls(void) { return calls; }

static int my_open(const char *path, int flags, ...);
static int my_open64(const char *path, int flags, ...);
static int my_stat(const char *path, struct stat *status);
static int my_stat64(const char *path, struct stat *status);
static int my_close(int fd);

static struct hook {
  const char *name;
  void *mine, *next;
} hooks[] = {{"open", my_open}, {"open64", my_open64}, {"stat", my_stat}, {"stat64", my_stat64}, {"close", my_close}};

/* The mode is passed on as it came, whatever stands in its place. */
static int my_open(const char *path, int flags, ...) {
  va_list words;
  va_start(words, flags);
  const int mode = va_arg(words, int);
  va_end(words);
  calls++;
  return by_own_slot ? open(path, flags, mode) : ((Open *)hooks[0].next)(path, flags, mode);
}

static int my_open64(const char *path, int flags, ...) {
  va_list words;
  va_start(words, flags);
  const int mode = va_arg(words, int);
  va_end(words);
  calls++;
  return by_own_slot ? open64(path, flags, mode) : ((Open *)hooks[1].next)(path, flags, mode);
}

static int my_stat(const char *path, struct stat *status) {
  calls++;
  return by_own_slot ? stat(path, status) : ((Stat *)hooks[2].next)(path, status);
}

static int my_stat64(const char *path, struct stat *status) {
  calls++;
  return by_own_slot ? stat64(path, (void *)status) : ((Stat *)hooks[3].next)(path, status);
}

static int my_close(int fd) {
  calls++;
  return by_own_slot ? close(fd) : ((Close *)hooks[4].next)(fd);
}

static void write_slot(void **slot, void *value) {
  const long page = sysconf(_SC_PAGESIZE);
  mprotect((void *)((long)slot & -page), page, PROT_READ | PROT_WRITE);
  *slot = value;
}

static int holds(const struct dl_phdr_info *info, const void *address) {
  for (int i = 0; i < info->dlpi_phnum; i++) {
    const ElfW(Phdr) *each = &info->dlpi_phdr[i];
    const char *begin = (const char *)info->dlpi_addr + each->p_vaddr;
    if (each->p_type == PT_LOAD && (const char *)address >= begin && (const char *)address < begin + each->p_memsz) return 1;
  }
  return 0;
}

struct request {
  int install, mine;
};

static int each_object(struct dl_phdr_info *info, size_t size, void *data) {
  struct request *asked = data;
  const ElfW(Dyn) *entry = NULL;
  const ElfW(Sym) *symbols = NULL;
  const char *names = NULL;
  const ElfW(Rela) *tables[2] = {NULL, NULL};
  size_t bytes[2] = {0, 0};
  if (holds(info, each_object) || strstr(info->dlpi_name, "libc.so") || strstr(info->dlpi_name, "ld-linux")) return 0;
  for (int i = 0; i < info->dlpi_phnum; i++) {
    if (info->dlpi_phdr[i].p_type == PT_DYNAMIC) entry = (void *)(info->dlpi_addr + info->dlpi_phdr[i].p_vaddr);
  }
  if (!entry || strstr(info->dlpi_name, "vdso")) return 0;
  for (; entry->d_tag; entry++) {
    if (entry->d_tag == DT_SYMTAB) symbols = (void *)entry->d_un.d_ptr;
    if (entry->d_tag == DT_STRTAB) names = (void *)entry->d_un.d_ptr;
    if (entry->d_tag == DT_JMPREL) tables[0] = (void *)entry->d_un.d_ptr;
    if (entry->d_tag == DT_PLTRELSZ) bytes[0] = entry->d_un.d_val;
    if (entry->d_tag == DT_RELA) tables[1] = (void *)entry->d_un.d_ptr;
    if (entry->d_tag == DT_RELASZ) bytes[1] = entry->d_un.d_val;
  }
  for (int table = 0; table < 2; table++) {
    for (size_t i = 0; tables[table] && i < bytes[table] / sizeof(ElfW(Rela)); i++) {
      const ElfW(Sym) *symbol = &symbols[ELF64_R_SYM(tables[table][i].r_info)];
      void **slot = (void **)(info->dlpi_addr + tables[table][i].r_offset);
      for (struct hook *hook = hooks; symbol->st_shndx == SHN_UNDEF && hook < hooks + 5; hook++) {
        if (!symbol->st_name || strcmp(names + symbol->st_name, hook->name) != 0) continue;
        if (*slot == hook->mine) asked->mine++;
        if (asked->install == 1 && *slot != hook->mine) {
          /* A slot that was not bound holds an address in its own object. */
          if (!holds(info, *slot)) hook->next = *slot;
          write_slot(slot, hook->mine);
        } else if (asked->install == -1 && *slot == hook->mine) {
          write_slot(slot, hook->next);
        }
      }
    }
  }
  return 0;
}

void tool_install(int own_slot) {
  by_own_slot = own_slot;
  for (struct hook *hook = hooks; hook < hooks + 5; hook++) hook->next = dlsym(RTLD_NEXT, hook->name);
  struct request request = {1, 0};
  dl_iterate_phdr(each_object, &request);
}

void tool_remove(void) {
  struct request request = {-1, 0};
  dl_iterate_phdr(each_object, &request);
}

/* How many slots hold its functions. */
int tool_slots(void) {
  struct request request = {0, 0};
  dl_iterate_phdr(each_object, &request);
  return request.mine;
}
