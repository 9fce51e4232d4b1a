#include "slots.h"

#include <sys/auxv.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>

#include "activation.h"
#include "elf.h"
#include "hooks.h"
#include "records.h"

// Other tools do what we do: profilers, sanitizers, allocators that are preloaded. What a slot holds when we see it
// says how the two of us get along:
//   libc's function            ours takes its place, and calls libc's
//   the object's own PLT       the same: not bound yet, or the address that a program at a fixed address gives out
//   another tool's function    ours takes its place, and calls the tool's, which calls libc's
//   another tool's, where ours was before: that tool came later and calls us; the slot is left to it
// The tool's own object keeps its slots for that function, since through them it calls libc's: by way of us it would
// come back to itself for ever.

namespace diskless {

namespace {

struct Candidate {
  void **slot;
  Hook *hook;
  std::size_t object;  // its place in the list, which stays the same until one is unloaded
  bool may_be_lazy;
};

// Another tool's function that calls ours.
struct Caller {
  const Hook *hook;
  void *function;
};

// What a pass over slots did.
struct Result {
  long written = 0;
  long lazy = 0;  // of those, not bound before
  int error = 0;
};

// All of these are touched under the linker's lock only.
Pages<Object> objects;
Pages<Candidate> candidates;
Pages<void *> given_out;     // PLT entries that serve as the addresses of functions
Pages<Candidate> unsettled;  // slots that were not bound when ours took them
Pages<Caller> callers;
Records records;
Generation last_seen{};  // when the objects were listed

std::atomic<unsigned long long> loads_seen{0};

// How long the linker may take, at the very most, between looking a function up and writing down its address.
constexpr long long settling_ns = 1'000'000'000;
std::atomic<long long> settled_at{0};

long long now_ns() {
  timespec time;
  clock_gettime(CLOCK_MONOTONIC_COARSE, &time);
  return time.tv_sec * 1'000'000'000LL + time.tv_nsec;
}

bool is_glibc(const Object &object) {
  for (const char *name : {"libc.so.6", "libpthread.so.0", "libdl.so.2", "librt.so.1"}) {
    if (std::strcmp(object.soname, name) == 0) return true;
  }
  const auto linker = getauxval(AT_BASE);
  return linker != 0 && object.base == linker;
}

// Those that call what they mean: glibc, the kernel's page, and this library.
bool is_left_alone(const Object &object) {
  const auto kernel_page = reinterpret_cast<void *>(getauxval(AT_SYSINFO_EHDR));
  return is_glibc(object) || object.holds(reinterpret_cast<void *>(&patch_objects)) ||
         (kernel_page && object.holds(kernel_page));
}

const Object *object_of(const void *address) {
  for (const Object &object : objects) {
    if (object.holds(address)) return &object;
  }
  return nullptr;
}

void *held_by(const Candidate &candidate) { return __atomic_load_n(candidate.slot, __ATOMIC_ACQUIRE); }

// Lists the slots of all objects, or of those that were loaded since, where none was unloaded: a program that imports
// a few hundred modules looks a few hundred times.
void collect(bool only_new) {
  const std::size_t known = objects.size();
  const Generation before = last_seen;
  last_seen = list_objects(objects);
  only_new = only_new && known > 0 && last_seen.unloads == before.unloads;
  if (!only_new) {
    given_out.clear();
    unsettled.clear();
    records.begin_walk();
  }
  candidates.clear();
  for (std::size_t i = only_new ? known : 0; i < objects.size(); i++) {
    const Object &object = objects[i];
    if (is_left_alone(object)) continue;
    visit_slots(object, [&](const Slot &slot) {
      Hook *hook = find_hook(slot.name);
      if (!hook) return;
      candidates.push({slot.place, hook, i, slot.may_be_lazy});
      if (slot.own_address) given_out.push(slot.own_address);
      if (!only_new) records.mark_seen(slot.place);
    });
  }
  loads_seen.store(last_seen.loads);
}

bool leads_to_libc(const Candidate &candidate, const void *held) {
  if (held == candidate.hook->libc || objects[candidate.object].holds(held)) return true;
  for (const void *address : given_out) {
    if (address == held) return true;
  }
  const Object *owner = object_of(held);
  return owner && is_glibc(*owner);  // another version of the function
}

bool is_foreign(const Candidate &candidate, const void *held) {
  return held && candidate.hook->libc && held != candidate.hook->ours && !leads_to_libc(candidate, held);
}

bool calls_us(const Hook &hook, const void *function) {
  for (const Caller &caller : callers) {
    if (caller.hook == &hook && caller.function == function) return true;
  }
  return false;
}

// Finds out about other tools, before anything is written.
void meet_other_tools() {
  for (Hook &hook : hooks) {
    // One that has been unloaded must not be called any more.
    if (hook.next_owned && !object_of(hook.next.load())) hook.forget_next();
  }
  for (const Candidate &candidate : candidates) {
    void *held = held_by(candidate);
    if (is_foreign(candidate, held) && records.find(candidate.slot) && !calls_us(*candidate.hook, held)) {
      callers.push({candidate.hook, held});
    }
  }
  for (const Candidate &candidate : candidates) {
    void *held = held_by(candidate);
    Hook &hook = *candidate.hook;
    // One such tool a function is served; a slot that holds yet another's is left to it.
    if (!is_foreign(candidate, held) || calls_us(hook, held) || hook.next.load() != hook.libc) continue;
    hook.next_owned = object_of(held) != nullptr;
    hook.next.store(held);
  }
}

// Whether the slot's object is the one of the tool that our function calls.
bool is_of_next(const Candidate &candidate) {
  void *next = candidate.hook->next.load();
  return next != candidate.hook->libc && objects[candidate.object].holds(next);
}

// What is to stand in the slot, where `held` does.
void *desired(const Candidate &candidate, void *held, Reach reach) {
  Hook &hook = *candidate.hook;
  const bool wanted =
      reach == Reach::all ? hook.libc && !is_of_next(candidate) : reach == Reach::streams && hook.of_streams;
  if (held == hook.ours) {
    const Record *record = wanted ? nullptr : records.find(candidate.slot);
    return wanted ? held : record ? record->before : hook.next.load();
  }
  if (!wanted || !held || (is_foreign(candidate, held) && hook.next.load() != held)) return held;
  return hook.ours;
}

// Makes the page of a slot writable, and gives it back its protection when the turn of another page comes.
class Unprotected {
 public:
  ~Unprotected() { protect(); }

  bool open(const Object &object, void **slot) {
    static const std::uintptr_t page_size = static_cast<std::uintptr_t>(sysconf(_SC_PAGESIZE));
    const std::uintptr_t page = reinterpret_cast<std::uintptr_t>(slot) & ~(page_size - 1);
    if (page == page_) return true;
    protect();
    const int protection = protection_of(object, slot);
    if (protection & PROT_WRITE) return true;
    if (mprotect(reinterpret_cast<void *>(page), page_size, protection | PROT_WRITE) != 0) return false;
    page_ = page;
    size_ = page_size;
    protection_ = protection;
    return true;
  }

 private:
  void protect() {
    if (page_ != 0) mprotect(reinterpret_cast<void *>(page_), size_, protection_);
    page_ = 0;
  }

  std::uintptr_t page_ = 0;
  std::size_t size_ = 0;
  int protection_ = 0;
};

Result write_slots(Pages<Candidate> &chosen, Reach reach) {
  Result result;
  Unprotected unprotected;
  for (const Candidate &candidate : chosen) {
    void *held = held_by(candidate);
    void *const wanted = desired(candidate, held, reach);
    if (wanted == held) continue;
    if (!unprotected.open(objects[candidate.object], candidate.slot)) {
      result.error = errno;
      continue;
    }
    const bool lazy = candidate.may_be_lazy && objects[candidate.object].holds(held);
    // First written down: were the process forked in between, the child could still put it back.
    if (wanted == candidate.hook->ours && !records.remember(candidate.slot, held)) {
      result.error = ENOMEM;
      continue;
    }
    // Another thread's first call may bind the slot at this moment: then we replace what it was bound to.
    while (!__atomic_compare_exchange_n(candidate.slot, &held, wanted, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED)) {
      if (desired(candidate, held, reach) != wanted) break;
    }
    if (wanted != candidate.hook->ours) records.forget(candidate.slot);
    result.written++;
    if (lazy && reach == Reach::all) {
      result.lazy++;
      unsettled.push(candidate);
    }
  }
  return result;
}

struct Request {
  Reach reach;
  bool only_new;
  Result result;
};

void patch_under_lock(void *data) {
  auto &request = *static_cast<Request *>(data);
  // Somebody may have activated it since the last one decided to put everything back, and have been here first.
  if (is_active()) request.reach = Reach::all;
  find_originals();
  collect(request.only_new);
  if (request.reach != Reach::none) meet_other_tools();
  request.result = write_slots(candidates, request.reach);
  if (request.reach == Reach::none) {
    for (Hook &hook : hooks) hook.forget_next();
  }
}

void settle_under_lock(void *) {
  // Objects were loaded or unloaded: the next pass takes care.
  if (generation() == last_seen) write_slots(unsettled, Reach::all);
}

Result patch(Reach reach, bool only_new) {
  Request request{reach, only_new, {}};
  under_the_linkers_lock(patch_under_lock, &request);
  if (request.result.lazy > 0 && reach == Reach::all) settled_at.store(now_ns() + settling_ns);
  return request.result;
}

}  // namespace

int patch_objects(Reach reach) {
  const Result result = patch(reach, false);
  if (result.written == 0 && result.error != 0) return -result.error;
  if (result.lazy == 0 || reach != Reach::all) return 0;
  // A thread that makes the first call through a slot looks the function up and then writes its address there, without
  // asking what the slot holds by now. That takes microseconds; nobody begins it any more, and those who began before
  // us have ended soon. patch_new_objects goes on looking for a while, since such a thread may have been interrupted.
  for (const long pause_ns : {20'000L, 200'000L, 1'000'000L}) {
    const timespec pause{0, pause_ns};
    nanosleep(&pause, nullptr);
    under_the_linkers_lock(settle_under_lock, nullptr);
  }
  return 0;
}

void patch_new_objects() {
  if (!is_active()) return;
  if (generation().loads != loads_seen.load()) {
    patch(Reach::all, true);
  } else if (settled_at.load(std::memory_order_relaxed) > now_ns()) {
    under_the_linkers_lock(settle_under_lock, nullptr);
  }
}

long count_patched_slots() {
  long count = 0;
  under_the_linkers_lock(
      [](void *data) {
        static Pages<Object> present;
        find_originals();
        list_objects(present);
        for (const Object &object : present) {
          if (is_left_alone(object)) continue;
          visit_slots(object, [&](const Slot &slot) {
            const Hook *hook = find_hook(slot.name);
            *static_cast<long *>(data) += hook && __atomic_load_n(slot.place, __ATOMIC_ACQUIRE) == hook->ours;
          });
        }
      },
      &count);
  return count;
}

bool is_of_another_tool(const Hook &hook, const void *address) {
  struct Question {
    const Hook *hook;
    const void *address;
    bool answer;
  } question{&hook, address, false};
  if (hook.next.load() == hook.libc) return false;
  under_the_linkers_lock(
      [](void *data) {
        auto &asked = *static_cast<Question *>(data);
        const Object *owner = object_of(asked.hook->next.load());
        asked.answer = owner && owner->holds(asked.address);
      },
      &question);
  return question.answer;
}

bool is_interpreter(const void *address) {
  struct Question {
    const void *address;
    bool answer;
  } question{address, false};
  under_the_linkers_lock(
      [](void *data) {
        auto &asked = *static_cast<Question *>(data);
        const Object *owner = object_of(asked.address);
        if (!owner) return;
        const char *slash = std::strrchr(owner->path, '/');
        const char *file = slash ? slash + 1 : owner->path;
        asked.answer = owner == objects.begin() || std::strncmp(owner->soname, "libpython", 9) == 0 ||
                       std::strncmp(file, "_ctypes.", 8) == 0;
      },
      &question);
  return question.answer;
}

}  // namespace diskless
