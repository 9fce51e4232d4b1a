#include "elf.h"

#include <dlfcn.h>
#include <sys/mman.h>
#include <unistd.h>

#ifdef __SANITIZE_THREAD__
#include <sanitizer/tsan_interface.h>
#endif

#include "symbols.h"

namespace diskless {

namespace {

Object describe_object(const dl_phdr_info &info) {
  Object object{};
  object.base = info.dlpi_addr;
  object.begin = ~std::uintptr_t{0};
  object.headers = info.dlpi_phdr;
  object.header_count = info.dlpi_phnum;
  object.path = info.dlpi_name ? info.dlpi_name : "";
  object.soname = "";
  const ElfW(Dyn) *dynamic = nullptr;
  for (const ElfW(Phdr) *header = info.dlpi_phdr; header < info.dlpi_phdr + info.dlpi_phnum; header++) {
    const std::uintptr_t begin = object.base + header->p_vaddr, end = begin + header->p_memsz;
    if (header->p_type == PT_DYNAMIC) dynamic = reinterpret_cast<const ElfW(Dyn) *>(begin);
    if (header->p_type != PT_LOAD) continue;
    if (begin < object.begin) object.begin = begin;
    if (end > object.end) object.end = end;
  }
  if (!dynamic) return object;
  // glibc has added the base to the pointers already, except in the kernel's page.
  const auto at = [&](ElfW(Addr) value) { return value < object.base ? value + object.base : value; };
  std::size_t soname = 0;
  for (; dynamic->d_tag != DT_NULL; dynamic++) {
    const auto value = dynamic->d_un.d_val;
    switch (dynamic->d_tag) {
      case DT_SYMTAB: object.symbols = reinterpret_cast<const ElfW(Sym) *>(at(value)); break;
      case DT_STRTAB: object.names = reinterpret_cast<const char *>(at(value)); break;
      case DT_SONAME: soname = value; break;
      case DT_JMPREL: object.relocations[0] = reinterpret_cast<const ElfW(Rela) *>(at(value)); break;
      case DT_PLTRELSZ: object.relocation_counts[0] = value / sizeof(ElfW(Rela)); break;
      case DT_RELA: object.relocations[1] = reinterpret_cast<const ElfW(Rela) *>(at(value)); break;
      case DT_RELASZ: object.relocation_counts[1] = value / sizeof(ElfW(Rela)); break;
      default: break;
    }
  }
  for (int table = 0; table < 2; table++) {
    if (!object.relocations[table] || !object.symbols || !object.names) object.relocation_counts[table] = 0;
  }
  if (object.names) object.soname = object.names + soname;
  return object;
}

struct Listing {
  Pages<Object> *objects;  // or null, where only the generation is asked for
  Generation generation;
};

int list_object(dl_phdr_info *info, std::size_t, void *data) {
  auto &listing = *static_cast<Listing *>(data);
  listing.generation = {info->dlpi_adds, info->dlpi_subs};
  if (!listing.objects) return 1;
  return listing.objects->push(describe_object(*info)) ? 0 : 1;
}

// What this thread is about to do under the linker's lock.
struct Work {
  void (*function)(void *data);
  void *data;
};
thread_local Work *pending __attribute__((tls_model("initial-exec"))) = nullptr;

void nothing() {}

// ThreadSanitizer does not see the linker's own lock, and is told of it.
#ifdef __SANITIZE_THREAD__
char linkers_lock;
void took_the_linkers_lock() { __tsan_acquire(&linkers_lock); }
void gives_the_linkers_lock_back() { __tsan_release(&linkers_lock); }
#else
void took_the_linkers_lock() {}
void gives_the_linkers_lock_back() {}
#endif

}  // namespace

Generation generation() {
  Listing listing{};
  dl_iterate_phdr(list_object, &listing);
  return listing.generation;
}

Generation list_objects(Pages<Object> &objects) {
  objects.clear();
  Listing listing{&objects, {}};
  dl_iterate_phdr(list_object, &listing);
  return listing.generation;
}

int protection_of(const Object &object, const void *address) {
  static const std::uintptr_t page_size = static_cast<std::uintptr_t>(sysconf(_SC_PAGESIZE));
  const auto value = reinterpret_cast<std::uintptr_t>(address);
  int protection = PROT_READ | PROT_WRITE;
  for (std::size_t i = 0; i < object.header_count; i++) {
    const ElfW(Phdr) &header = object.headers[i];
    const std::uintptr_t begin = object.base + header.p_vaddr, end = begin + header.p_memsz;
    if (header.p_type == PT_LOAD && value >= begin && value < end) {
      protection = (header.p_flags & PF_R ? PROT_READ : 0) | (header.p_flags & PF_W ? PROT_WRITE : 0) |
                   (header.p_flags & PF_X ? PROT_EXEC : 0);
    }
    // "Read-only after relocation": the linker protects whole pages of it.
    if (header.p_type == PT_GNU_RELRO && value >= begin / page_size * page_size &&
        value < end / page_size * page_size) {
      return PROT_READ;
    }
  }
  return protection;
}

// Objects appear in the list before they are relocated. Were we to write slots of one then, the linker would overwrite
// them; were we to make its pages read-only again, it would crash. So no thread may be in the middle of a load, and
// what keeps them out is the linker's own lock. dlsym holds it while it asks an indirect function (STT_GNU_IFUNC) which
// of its implementations is to be used: our work is done by one that is asked.
void under_the_linkers_lock(void (*work)(void *data), void *data) {
  static void *const self = [] {
    Dl_info info;
    return dladdr(reinterpret_cast<void *>(&under_the_linkers_lock), &info) != 0
               ? dlopen(info.dli_fname, RTLD_LAZY | RTLD_NOLOAD)
               : nullptr;
  }();
  Work mine{work, data};
  Work *const before = pending;
  pending = &mine;
  if (self) dlsym(self, "diskless_under_the_linkers_lock");
  pending = before;
  if (mine.function) work(data);  // no such linker: as well as it goes
}

}  // namespace diskless

extern "C" {

__attribute__((used)) static void (*diskless_do_pending_work())() {
  using namespace diskless;
  if (pending && pending->function) {
    void (*const work)(void *) = pending->function;
    pending->function = nullptr;
    took_the_linkers_lock();
    work(pending->data);
    gives_the_linkers_lock_back();
  }
  return nothing;
}

__attribute__((visibility("default"), ifunc("diskless_do_pending_work"))) void diskless_under_the_linkers_lock();
}
