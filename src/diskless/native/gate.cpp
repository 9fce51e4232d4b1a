#include "gate.h"

#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>

#include <algorithm>
#include <cerrno>
#include <climits>

#include "diskless.h"
#include "guard.h"
#include "kernel.h"

namespace diskless {

namespace {

// What a word says. The Loader knows them by the same numbers (loader/gates.py). Where the bytes were refused, the next
// one who comes may ask again; where it has failed, nobody is left to ask.
enum State : std::uint32_t { closed = 0, wanted = 1, opened = 2, failed = 3, refused = 4 };

constexpr std::size_t page_bytes = 1 << 20;

// What is shared. The Loader writes the first two: that bytes arrive, and which process it is.
struct Shared {
  std::atomic<std::uint32_t> beats;
  std::atomic<std::uint32_t> loader;
  std::atomic<std::uint32_t> words[page_bytes / sizeof(std::uint32_t) - 2];
};
constexpr int gates_in_page = static_cast<int>(page_bytes / sizeof(std::uint32_t)) - 2;

constexpr time_t stall_s = 120;       // without a byte for anybody
constexpr time_t replacement_s = 10;  // for another Loader, where one has died

}  // namespace

struct Page;

struct Gate {
  std::atomic<std::uint32_t> *word;
  Page *page;
};

// Never unmapped: somebody may be waiting in it.
struct Page {
  Shared *shared;
  int memory, event;  // descriptors, which the Loader is handed
  Gate gates[gates_in_page];
  int given_out = 0;
  int free[gates_in_page];
  int free_count = 0;
  bool inherited = false;  // a forked child looks at it too: what is freed is not given out again
};

namespace {

constexpr int most_pages = 64;  // a process, and those it was forked from
Page *pages[most_pages];
int page_count = 0;
bool is_current = false;  // whether the last one is this process's
std::atomic_flag busy = ATOMIC_FLAG_INIT;

class Hold {
 public:
  Hold() {
    while (busy.test_and_set()) {
    }
  }
  ~Hold() { busy.clear(); }
};

Page *make_page() {
  if (page_count == most_pages) return nullptr;
  const int memory = kernel::memfd_create("diskless-gates");
  const int kept = memory < 0 ? -1 : keep(memory);
  const int event = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  const int kept_event = event < 0 ? -1 : keep(event);
  void *shared = MAP_FAILED;
  if (kept >= 0 && kept_event >= 0 && ::syscall(SYS_ftruncate, kept, page_bytes) == 0) {
    shared = ::mmap(nullptr, page_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, kept, 0);
  }
  void *own = shared == MAP_FAILED
                  ? shared
                  : ::mmap(nullptr, sizeof(Page), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (own == MAP_FAILED) {
    if (shared != MAP_FAILED) ::munmap(shared, page_bytes);
    release(kept);
    release(kept_event);
    return nullptr;
  }
  auto *page = static_cast<Page *>(own);
  page->shared = static_cast<Shared *>(shared);
  page->memory = kept;
  page->event = kept_event;
  is_current = true;
  return pages[page_count++] = page;
}

Page *current_page() { return is_current ? pages[page_count - 1] : make_page(); }

void futex(std::atomic<std::uint32_t> *word, int what, std::uint32_t value, const timespec *timeout) {
  ::syscall(SYS_futex, word, what, value, timeout, nullptr, 0);
}

// What is settled stays so, until the Loader says otherwise.
void settle(const Gate &gate, State state) {
  std::uint32_t before = gate.word->load();
  while (before == closed || before == wanted || before == refused) {
    if (!gate.word->compare_exchange_weak(before, state)) continue;
    futex(gate.word, FUTEX_WAKE, INT_MAX, nullptr);
    return;
  }
}

// Tells the Loader that somebody waits, unless it knows.
void ask(const Gate &gate, State where) {
  std::uint32_t state = where;
  if (!gate.word->compare_exchange_strong(state, wanted)) return;
  const std::uint64_t one = 1;
  ::syscall(SYS_write, gate.page->event, &one, sizeof one);
}

time_t seconds() {
  timespec time{};
  ::clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec;
}

bool is_alive(std::uint32_t process) {
  kernel::KeepErrno keep;
  return process == 0 || ::kill(static_cast<pid_t>(process), 0) == 0 || errno != ESRCH;
}

__attribute__((constructor)) void begin() {
  ::pthread_atfork(
      [] {
        while (busy.test_and_set()) {
        }
        if (is_current) pages[page_count - 1]->inherited = true;
      },
      [] { busy.clear(); },
      [] {
        is_current = false;
        busy.clear();
      });
}

}  // namespace

const Gate *gate_of(int number) {
  const int page = number / gates_in_page;
  return number < 0 || page >= page_count ? nullptr : &pages[page]->gates[number % gates_in_page];
}

bool is_open(const Gate &gate) { return gate.word->load(std::memory_order_acquire) == opened; }

int wait_at(const Gate &gate) {
  kernel::KeepErrno keep;
  const Shared &shared = *gate.page->shared;
  std::uint32_t beats = shared.beats.load();
  time_t since = seconds(), dead_since = 0;
  ask(gate, refused);
  while (true) {
    const std::uint32_t state = gate.word->load(std::memory_order_acquire);
    if (state == opened) return 0;
    if (state == failed || state == refused) return -EIO;
    ask(gate, closed);
    // The Loader may miss that somebody waits and not wake us: no slice is long.
    const timespec slice{0, 50'000'000};
    errno = 0;
    futex(gate.word, FUTEX_WAIT, wanted, &slice);
    if (errno == EINTR) return -EINTR;
    const time_t now = seconds();
    if (shared.beats.load() != beats) {
      beats = shared.beats.load();
      since = now;
    }
    const bool alive = is_alive(shared.loader.load());
    dead_since = alive ? 0 : dead_since != 0 ? dead_since : now;
    if (now - since <= stall_s && (alive || now - dead_since <= replacement_s)) continue;
    return -EIO;
  }
}

}  // namespace diskless

using namespace diskless;

extern "C" {

int diskless_gate_make(void) {
  kernel::KeepErrno keep;
  const Hold hold;
  Page *page = current_page();
  if (page == nullptr) return -ENOMEM;
  if (page->free_count == 0 && page->given_out == gates_in_page) return -ENFILE;  // the Loader knows one page
  const int at = page->free_count > 0 ? page->free[--page->free_count] : page->given_out++;
  page->gates[at] = {&page->shared->words[at], page};
  page->gates[at].word->store(closed);
  return (page_count - 1) * gates_in_page + at;
}

int diskless_gate_free(int number) {
  const Hold hold;
  const Gate *gate = gate_of(number);
  if (gate == nullptr) return -EINVAL;
  Page *page = gate->page;
  if (is_current && page == pages[page_count - 1] && !page->inherited) {
    page->free[page->free_count++] = number % gates_in_page;
  }
  return 0;
}

int diskless_gate_settle(int number, int complete) {
  const Gate *gate = gate_of(number);
  if (gate == nullptr) return -EINVAL;
  settle(*gate, complete ? opened : failed);
  return 0;
}

int diskless_gate_ask(int number) {
  kernel::KeepErrno keep;
  const Gate *gate = gate_of(number);
  if (gate == nullptr) return -EINVAL;
  ask(*gate, closed);
  ask(*gate, refused);
  return 0;
}

int diskless_gate_state(int number) {
  const Gate *gate = gate_of(number);
  if (gate == nullptr) return -EINVAL;
  const std::uint32_t state = gate->word->load();
  return state == opened ? 1 : state == failed || state == refused ? 2 : 0;
}

int diskless_gate_descriptors(int *memory, int *event) {
  const Hold hold;
  const Page *page = current_page();
  if (page == nullptr) return -ENOMEM;
  *memory = page->memory;
  *event = page->event;
  return 0;
}

}  // extern "C"
