#include "elf.h"

#include <elf.h>
#include <link.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <vector>

#include "activation.h"
#include "hooks.h"
#include "lock.h"

// An object calls a function of another one through a slot: a word in its data that the dynamic linker fills in, as the
// object's relocations tell it (ELF gABI, "Relocation"; the psABIs number the types):
//   JUMP_SLOT  calls by way of the PLT; filled in at load, or at the first call ("lazy")
//   GLOB_DAT   the address itself, also of weak functions such as Rust's statx
//   absolute   an address in a table in the data section, such as SQLite's table of system calls
// We go through the relocations again and write our own addresses there.

#if defined(__x86_64__)
#define DISKLESS_JUMP_SLOT R_X86_64_JUMP_SLOT
#define DISKLESS_GLOB_DAT R_X86_64_GLOB_DAT
#define DISKLESS_ABSOLUTE R_X86_64_64
#elif defined(__aarch64__)
#define DISKLESS_JUMP_SLOT R_AARCH64_JUMP_SLOT
#define DISKLESS_GLOB_DAT R_AARCH64_GLOB_DAT
#define DISKLESS_ABSOLUTE R_AARCH64_ABS64
#else
#error "the relocation types of this processor are not known"
#endif

namespace diskless {

namespace {

// Guards what follows. Taken inside dl_iterate_phdr's own lock.
Lock patch_lock;
unsigned long long objects_seen = 0;  // dlpi_adds at the last walk

// A slot that held another tool's function, to be put back there.
struct Foreign {
  void **slot;
  void *function;
};
std::vector<Foreign> foreign;

struct Walk {
  Reach reach;
  bool change;  // or only count
  long patched = 0;
};

struct Object {
  const dl_phdr_info *info;
  const ElfW(Sym) *symbols = nullptr;
  const char *names = nullptr;
  std::uintptr_t relro_begin = 0, relro_end = 0;

  bool holds(const void *address) const {
    const auto value = reinterpret_cast<std::uintptr_t>(address);
    for (int i = 0; i < info->dlpi_phnum; i++) {
      const ElfW(Phdr) &header = info->dlpi_phdr[i];
      const std::uintptr_t begin = info->dlpi_addr + header.p_vaddr;
      if (header.p_type == PT_LOAD && value >= begin && value < begin + header.p_memsz) return true;
    }
    return false;
  }
};

bool is_stream_function(const char *name) {
  static const char *const names[] = {"readdir",  "readdir64", "readdir_r", "readdir64_r", "telldir",   "seekdir",
                                      "rewinddir", "dirfd",    "closedir",  "fts_read",    "fts64_read", "fts_close",
                                      "fts64_close", "fts_children", "fts64_children", "fts_set", "fts64_set"};
  for (const char *each : names) {
    if (std::strcmp(each, name) == 0) return true;
  }
  return false;
}

// Writes a slot, atomically, if it still holds `expected`; a page that was made read-only is so again afterwards.
bool exchange(const Object &object, void **slot, void *expected, void *desired) {
  static const std::uintptr_t page_size = static_cast<std::uintptr_t>(sysconf(_SC_PAGESIZE));
  const auto address = reinterpret_cast<std::uintptr_t>(slot);
  const std::uintptr_t page = address & ~(page_size - 1);
  const bool read_only = address >= object.relro_begin && address < object.relro_end;
  if (read_only && mprotect(reinterpret_cast<void *>(page), page_size, PROT_READ | PROT_WRITE) != 0) return false;
  const bool done =
      __atomic_compare_exchange_n(slot, &expected, desired, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
  if (read_only) mprotect(reinterpret_cast<void *>(page), page_size, PROT_READ);
  return done;
}

// The address of a function in the main program may be that of the program's own PLT entry, which every object then
// takes for the function itself; it leads to libc and is no tool's.
bool is_in_main_program(const void *address) {
  struct Question {
    const void *address;
    bool answer;
  } question{address, false};
  dl_iterate_phdr(
      [](dl_phdr_info *info, std::size_t, void *data) {
        auto *asked = static_cast<Question *>(data);
        asked->answer = Object{info}.holds(asked->address);
        return 1;  // the main program comes first
      },
      &question);
  return question.answer;
}

void patch(const Object &object, void **slot, Hook &hook, Walk &walk) {
  void *held = __atomic_load_n(slot, __ATOMIC_ACQUIRE);
  if (held == hook.ours) {
    walk.patched++;
    return;
  }
  if (!hook.libc || !held) return;  // a weak function that this libc does not have
  // Another tool's function stands there: ours goes before it, and calls it. One such tool a function is served; a
  // slot that holds yet another's is left to it.
  void *next = hook.next.load();
  const bool is_libc = held == hook.libc || object.holds(held) || is_in_main_program(held);
  if (!is_libc && next != hook.libc && next != held) return;
  if (!exchange(object, slot, held, hook.ours)) return;
  walk.patched++;
  if (!is_libc) {
    foreign.push_back({slot, held});
    hook.next.store(held);
  }
}

void restore(const Object &object, void **slot, Hook &hook) {
  if (__atomic_load_n(slot, __ATOMIC_ACQUIRE) != hook.ours) return;
  void *before = hook.libc;
  for (const Foreign &each : foreign) {
    if (each.slot == slot) before = each.function;
  }
  exchange(object, slot, hook.ours, before);
}

void visit_relocations(const Object &object, const ElfW(Rela) *begin, std::size_t size, Walk &walk) {
  for (const ElfW(Rela) *each = begin; each < begin + size / sizeof *begin; each++) {
    const auto type = ELF64_R_TYPE(each->r_info);
    if (type != DISKLESS_JUMP_SLOT && type != DISKLESS_GLOB_DAT && type != DISKLESS_ABSOLUTE) continue;
    if (type == DISKLESS_ABSOLUTE && each->r_addend != 0) continue;
    const ElfW(Sym) &symbol = object.symbols[ELF64_R_SYM(each->r_info)];
    if (symbol.st_shndx != SHN_UNDEF || symbol.st_name == 0) continue;
    Hook *hook = find_hook(object.names + symbol.st_name);
    if (!hook) continue;
    auto **slot = reinterpret_cast<void **>(object.info->dlpi_addr + each->r_offset);
    const bool wanted =
        walk.reach == Reach::all || (walk.reach == Reach::streams && is_stream_function(hook->name));
    if (!walk.change) {
      walk.patched += __atomic_load_n(slot, __ATOMIC_ACQUIRE) == hook->ours;
    } else if (wanted) {
      patch(object, slot, *hook, walk);
    } else {
      restore(object, slot, *hook);
    }
  }
}

// libc itself, the dynamic linker, the kernel's page and this library call what they mean.
bool is_left_alone(const Object &object) {
  static const void *const mine = reinterpret_cast<void *>(&patch_objects);
  static const void *const kernel_page = reinterpret_cast<void *>(getauxval(AT_SYSINFO_EHDR));
  static const void *const linker = reinterpret_cast<void *>(getauxval(AT_BASE));
  return object.holds(mine) || object.holds(hooks[hook_close].libc) || object.holds(hooks[hook_dlsym].libc) ||
         (kernel_page && object.holds(kernel_page)) || (linker && object.holds(linker));
}

int visit_object(dl_phdr_info *info, std::size_t, void *data) {
  Walk &walk = *static_cast<Walk *>(data);
  objects_seen = info->dlpi_adds;
  Object object{info};
  if (is_left_alone(object)) return 0;
  const ElfW(Dyn) *dynamic = nullptr;
  for (int i = 0; i < info->dlpi_phnum; i++) {
    const ElfW(Phdr) &header = info->dlpi_phdr[i];
    if (header.p_type == PT_DYNAMIC) dynamic = reinterpret_cast<const ElfW(Dyn) *>(info->dlpi_addr + header.p_vaddr);
    if (header.p_type == PT_GNU_RELRO) {
      object.relro_begin = info->dlpi_addr + header.p_vaddr;
      object.relro_end = object.relro_begin + header.p_memsz;
    }
  }
  if (!dynamic) return 0;
  const ElfW(Rela) *plt = nullptr, *other = nullptr;
  std::size_t plt_size = 0, other_size = 0;
  // glibc has added the load address to the pointers already; another linker may not have.
  const auto at = [&](ElfW(Addr) value) { return value < info->dlpi_addr ? value + info->dlpi_addr : value; };
  for (; dynamic->d_tag != DT_NULL; dynamic++) {
    switch (dynamic->d_tag) {
      case DT_SYMTAB: object.symbols = reinterpret_cast<const ElfW(Sym) *>(at(dynamic->d_un.d_ptr)); break;
      case DT_STRTAB: object.names = reinterpret_cast<const char *>(at(dynamic->d_un.d_ptr)); break;
      case DT_JMPREL: plt = reinterpret_cast<const ElfW(Rela) *>(at(dynamic->d_un.d_ptr)); break;
      case DT_PLTRELSZ: plt_size = dynamic->d_un.d_val; break;
      case DT_RELA: other = reinterpret_cast<const ElfW(Rela) *>(at(dynamic->d_un.d_ptr)); break;
      case DT_RELASZ: other_size = dynamic->d_un.d_val; break;
      default: break;
    }
  }
  if (!object.symbols || !object.names) return 0;
  if (plt) visit_relocations(object, plt, plt_size, walk);
  if (other) visit_relocations(object, other, other_size, walk);
  return 0;
}

// Counts what may be lost to lazy binding: the linker, having looked a function up for a first call, writes its slot
// without asking what is there. Seen for a few microseconds after an object was loaded; the next walk mends it.
long walk_objects(Reach reach, bool change) {
  Walk walk{reach, change};
  patch_lock.lock();
  dl_iterate_phdr(visit_object, &walk);
  if (change && reach == Reach::none) {
    foreign.clear();
    for (Hook &hook : hooks) hook.next.store(hook.libc);
  }
  patch_lock.unlock();
  return walk.patched;
}

}  // namespace

long patch_objects(Reach reach) { return walk_objects(reach, true); }

long count_patched_slots() {
  find_originals();
  return walk_objects(Reach::none, false);
}

void patch_new_objects() {
  if (!is_active()) return;
  unsigned long long adds = 0;
  dl_iterate_phdr(
      [](dl_phdr_info *info, std::size_t, void *data) {
        *static_cast<unsigned long long *>(data) = info->dlpi_adds;
        return 1;
      },
      &adds);
  if (adds != objects_seen) patch_objects(Reach::all);
}

}  // namespace diskless
