#include "counted.h"

#include <pthread.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <charconv>
#include <shared_mutex>

#include "descriptor.h"
#include "limits.h"
#include "roots.h"
#include "usage.h"

namespace diskless {

constinit std::atomic<Standing> standings[most_numbers];

namespace {

// Bytes that a measurement leaves to the writes after it. While one goes on there is none; and what it finds counts only
// if no other has begun since, or it might be given out long after others have used it up.
class Credit {
 public:
  std::uint64_t begin_measurement() {
    std::uint64_t word = word_.load(), begun;
    do {
      begun = ((word >> bits) + 1) << bits;
    } while (!word_.compare_exchange_weak(word, begun));
    return begun;
  }

  void end_measurement(std::uint64_t begun, long long bytes) {
    word_.compare_exchange_strong(begun, begun | std::min(static_cast<std::uint64_t>(bytes), most));
  }

  bool take(long long bytes) {
    std::uint64_t word = word_.load(std::memory_order_relaxed);
    while ((word & most) >= static_cast<std::uint64_t>(bytes)) {
      if (word_.compare_exchange_weak(word, word - static_cast<std::uint64_t>(bytes))) return true;
    }
    return false;
  }

 private:
  static constexpr unsigned bits = 48;
  static constexpr std::uint64_t most = (std::uint64_t{1} << bits) - 1;
  std::atomic<std::uint64_t> word_{0};  // above these bits it counts the measurements
};

// What may be written before the next measurement, and what threads are about to write that a measurement cannot see.
struct Account {
  Credit credit;
  std::atomic<long long> in_flight;
};

// Of volumes with a budget. Two that are open at once share one only if thousands were made in between, and then each
// may go past its own by the other's credit.
constexpr unsigned most_volumes = 4096;
Account accounts[most_volumes];

// All processes that came of this one by fork write into one memory.
struct Shared {
  Credit credit;
};
Shared alone{};
Shared *shared = &alone;
std::atomic<long long> in_flight{0};

std::atomic<unsigned> past_highest{0};
std::atomic<pid_t> process{0};  // whose numbers `standings` are: a vfork child has our memory and numbers of its own

constexpr long long least_credit = 1ll << 20, most_credit = 128ll << 20;

__attribute__((constructor)) void begin() {
  void *memory = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory != MAP_FAILED) shared = static_cast<Shared *>(memory);
  process.store(::getpid());
  ::pthread_atfork(nullptr, nullptr, [] {
    process.store(::getpid());
    in_flight.store(0);
    for (Account &account : accounts) {
      if (account.in_flight.load(std::memory_order_relaxed) != 0) account.in_flight.store(0);
    }
  });
}

Account *account_of(Standing standing) {
  return standing >= first_of_volumes ? &accounts[standing - first_of_volumes] : nullptr;
}

Standing standing_of_number(std::uint64_t volume) {
  return static_cast<Standing>(first_of_volumes + volume % most_volumes);
}

const Volume *find_volume(std::uint64_t number) {
  for (const auto &root : roots()) {
    if (root->volume.writable && root->volume.number == number) return &root->volume;
  }
  return nullptr;
}

void store(int fd, Standing standing) {
  unsigned past = past_highest.load(std::memory_order_relaxed);
  while (past <= static_cast<unsigned>(fd) &&
         !past_highest.compare_exchange_weak(past, static_cast<unsigned>(fd) + 1)) {
  }
  standings[fd].store(standing, std::memory_order_relaxed);
}

// What the descriptor is of: its volume with tree_lock held, or null with *standing.
const Volume *identify(int fd, const struct stat &status, Standing *standing) {
  *standing = foreign;
  if (!S_ISREG(status.st_mode) || status.st_dev != memory_device.load()) return nullptr;
  const Volume *volume = nullptr;
  if (const Inode *inode = find_file({status.st_dev, status.st_ino})) {
    if (!inode->volume->writable) return nullptr;
    volume = inode->volume;
  } else if (is_size_of_directory(status.st_size)) {
    return nullptr;
  } else {
    char link[80];
    const ssize_t length = kernel::readlink(kernel::DescriptorPath(fd).text, link, sizeof link);
    const std::uint64_t number = length > 0 ? volume_number_of({link, static_cast<std::size_t>(length)}) : 0;
    if (number == 0) return nullptr;
    volume = find_volume(number);
    *standing = of_no_volume;
  }
  if (volume != nullptr) *standing = standing_of(volume);
  return volume;
}

// A measurement's result as a credit. What others take of the same memory is not seen, so the credit is a part of it.
long long credit_of(long long free) { return std::clamp(free / 8, std::min(free, least_credit), most_credit); }

// The most that a write of the length can take: it may begin and end within a page.
long long most_taken(std::uint64_t length) {
  return static_cast<long long>(std::min<std::uint64_t>(length, 1ull << 61)) + 2 * page_bytes;
}

}  // namespace

void set_standing(int fd, const Volume &volume) {
  if (static_cast<unsigned>(fd) < most_numbers) store(fd, volume.writable ? standing_of(&volume) : foreign);
}

void forget_standings(unsigned first, unsigned last) {
  for (unsigned fd = first, end = past_highest.load(); fd <= last && fd < end; ++fd) standings[fd].store(unknown);
}

void copy_standing(int from, int to) {
  if (static_cast<unsigned>(from) >= most_numbers || static_cast<unsigned>(to) >= most_numbers) return;
  const Standing standing = standings[from].load(std::memory_order_relaxed);
  if (standing > foreign) {
    store(to, standing);
  } else {
    forget_standing(to);
  }
}

unsigned past_highest_counted() { return past_highest.load(); }

Standing standing_of(const Volume *volume) {
  return volume->budget_bytes > 0 ? standing_of_number(volume->number) : of_no_volume;
}

std::uint64_t volume_number_of(std::string_view link) {
  constexpr std::string_view ours = "/memfd:diskless-";
  if (!link.starts_with(ours)) return 0;
  link.remove_prefix(ours.size());
  link = link.substr(0, link.find(' '));
  link.remove_prefix(std::min(link.find_last_of('-') + 1, link.size()));
  std::uint64_t number = 0;
  std::from_chars(link.data(), link.data() + link.size(), number);
  return number;
}

bool take_credit(int fd, std::uint64_t length) {
  if (static_cast<unsigned>(fd) >= most_numbers) return false;
  const Standing standing = standings[fd].load(std::memory_order_relaxed);
  if (standing == unknown) return false;
  const long long bytes = most_taken(length);
  Account *account = account_of(standing);
  return (account == nullptr || account->credit.take(bytes)) && shared->credit.take(bytes);
}

Permit::Permit(int fd, off_t offset, std::uint64_t length, Kind kind) : length_(length) {
  kernel::KeepErrno keep;
  if (length != 0) measure(fd, offset, kind);
}

Permit::~Permit() {
  if (reserved_ == 0) return;
  in_flight.fetch_sub(reserved_);
  if (Account *account = account_of(standing_)) account->in_flight.fetch_sub(reserved_);
}

void Permit::measure(int fd, off_t offset, Kind kind) {
  struct stat status;
  if (kernel::fstat(fd, &status) != 0) return;
  const int flags = kernel::fcntl(fd, F_GETFL, 0);
  std::shared_lock lock(tree_lock);
  const Volume *volume = identify(fd, status, &standing_);
  if (static_cast<unsigned>(fd) < most_numbers && ::getpid() == process.load(std::memory_order_relaxed)) {
    store(fd, standing_);
  }
  if (standing_ == foreign || (flags & O_PATH) != 0 || (flags & O_ACCMODE) == O_RDONLY) return;

  reserved_ = most_taken(length_);
  Account *account = account_of(standing_);
  const std::uint64_t begun = shared->credit.begin_measurement();
  const std::uint64_t begun_here = account != nullptr ? account->credit.begin_measurement() : 0;
  const long long others = in_flight.fetch_add(reserved_);
  const long long memory = std::max(0ll, memory_left().free_bytes - promised_bytes() - others);
  long long free = memory;
  if (account != nullptr && volume != nullptr) {
    const long long others_here = account->in_flight.fetch_add(reserved_);
    free = std::min(free, std::max(0ll, volume->budget_bytes - used_bytes_with_mappings(*volume) - others_here));
  } else {
    account = nullptr;
    standing_ = of_no_volume;
  }
  if (free >= reserved_) {
    shared->credit.end_measurement(begun, credit_of(memory - reserved_));
    if (account != nullptr) account->credit.end_measurement(begun_here, free - reserved_);
    return;
  }
  // To the page.
  if ((flags & O_APPEND) != 0 && kind == Kind::write) offset = status.st_size;
  if (offset == own_offset) offset = kernel::lseek(fd, 0, SEEK_CUR);
  if (offset < 0) return;
  const off_t most = static_cast<off_t>(std::min<std::uint64_t>(length_, 1ull << 61));
  const off_t fits = fitting(fd, status, offset, most, free / page_bytes);
  refused_ = fits < most && (fits == 0 || kind == Kind::whole);
  if (fits < most) length_ = static_cast<std::uint64_t>(fits);
}

Room room_of(const Volume &volume) {
  const Memory memory = memory_left();
  const long long left = std::max(0ll, memory.free_bytes - promised_bytes());
  if (volume.budget_bytes == 0) return {memory.total_bytes, left};
  const long long own = std::max(0ll, volume.budget_bytes - used_bytes_with_mappings(volume));
  return {volume.budget_bytes, std::min(left, own)};
}

}  // namespace diskless
