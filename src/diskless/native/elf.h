// Loaded objects (the program and its shared libraries), and the slots in them that hold addresses of functions.
//
// An object calls a function of another one through a slot: a word in its data that the dynamic linker fills in, as the
// object's relocations tell it (ELF gABI, "Relocation"; the psABIs number the types):
//   JUMP_SLOT  calls by way of the PLT; filled in at load, or at the first call ("lazy")
//   GLOB_DAT   the address itself, also of weak functions such as Rust's statx
//   absolute   an address in a table in the data section, such as SQLite's table of system calls
#pragma once

#include <elf.h>
#include <link.h>

#include <cstddef>
#include <cstdint>

#include "pages.h"

namespace diskless {

struct Object {
  std::uintptr_t base;        // what was added to the addresses in the file
  std::uintptr_t begin, end;  // of all its segments together
  const ElfW(Phdr) * headers;
  std::size_t header_count;
  const ElfW(Sym) * symbols;
  const char *names;
  const char *path;    // as it was loaded; "" of the program itself
  const char *soname;  // "" where it has none
  const ElfW(Rela) * relocations[2];
  std::size_t relocation_counts[2];

  bool holds(const void *address) const {
    const auto value = reinterpret_cast<std::uintptr_t>(address);
    return value >= begin && value < end;
  }
};

// A slot for a function of another object.
struct Slot {
  void **place;
  const char *name;  // of the function
  bool may_be_lazy;  // JUMP_SLOT
  void *
      own_address;  // in a program at a fixed address: its own PLT entry, which serves everyone as the function's address
};

// How often objects were loaded and unloaded: what dl_iterate_phdr(3) counts.
struct Generation {
  unsigned long long loads, unloads;
  bool operator==(const Generation &) const = default;
};
Generation generation();

// The objects of this program, in the order of their loading. To be called under the dynamic linker's lock, and valid
// as long as it is held.
Generation list_objects(Pages<Object> &objects);

// Calls `visit(const Slot &)` for each slot of the object.
template <typename Visit>
void visit_slots(const Object &object, Visit visit);

// The protection that a page of the object had after it was loaded, as for mprotect(2).
int protection_of(const Object &object, const void *address);

// Runs `work(data)` while no other thread can load or unload an object.
void under_the_linkers_lock(void (*work)(void *data), void *data);

#if defined(__x86_64__)
inline constexpr unsigned jump_slot = R_X86_64_JUMP_SLOT, glob_dat = R_X86_64_GLOB_DAT, absolute = R_X86_64_64;
#elif defined(__aarch64__)
inline constexpr unsigned jump_slot = R_AARCH64_JUMP_SLOT, glob_dat = R_AARCH64_GLOB_DAT, absolute = R_AARCH64_ABS64;
#else
#error "the relocation types of this processor are not known"
#endif

template <typename Visit>
void visit_slots(const Object &object, Visit visit) {
  for (int table = 0; table < 2; table++) {
    const ElfW(Rela) *end = object.relocations[table] + object.relocation_counts[table];
    for (const ElfW(Rela) *each = object.relocations[table]; each < end; each++) {
      const auto type = ELF64_R_TYPE(each->r_info);
      if (type != jump_slot && type != glob_dat && (type != absolute || each->r_addend != 0)) continue;
      const ElfW(Sym) &symbol = object.symbols[ELF64_R_SYM(each->r_info)];
      // What the object defines itself is its own affair.
      if (symbol.st_shndx != SHN_UNDEF || symbol.st_name == 0) continue;
      visit(Slot{
          .place = reinterpret_cast<void **>(object.base + each->r_offset),
          .name = object.names + symbol.st_name,
          .may_be_lazy = type == jump_slot,
          .own_address = symbol.st_value ? reinterpret_cast<void *>(object.base + symbol.st_value) : nullptr,
      });
    }
  }
}

}  // namespace diskless
