#include "usage.h"

#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <charconv>
#include <shared_mutex>
#include <string_view>

#include "counted.h"
#include "descriptor.h"
#include "diskless.h"
#include "kernel.h"
#include "lines.h"
#include "roots.h"

namespace diskless {

namespace {

std::atomic<bool> mapped{false};

long long round_up(long long bytes) { return (bytes + page_bytes - 1) / page_bytes * page_bytes; }

// Files that were seen, to count none twice; allocated nowhere, since a signal handler may write. What is beyond its
// size is counted again and again, so that too much is refused rather than too little.
template <typename Value, int size>
class Seen {
 public:
  // The value kept for the file, new ones being zero; null where there is no room.
  Value *find(const Identity &memory) {
    for (int i = 0; i < count_; ++i) {
      if (files_[i] == memory) return &values_[i];
    }
    if (count_ == size) return nullptr;
    files_[count_] = memory;
    values_[count_] = {};
    return &values_[count_++];
  }
  int count() const { return count_; }
  const Identity &file(int i) const { return files_[i]; }
  const Value &value(int i) const { return values_[i]; }

 private:
  int count_ = 0;
  Identity files_[size];
  Value values_[size];
};

// Files without a name, by the descriptors that this process has of them.
struct Nameless {
  Seen<struct stat, 128> files;
  long long bytes = 0;

  explicit Nameless(const Volume *volume) {
    for_each_counted(volume, [this](int fd) {
      struct stat status;
      if (kernel::fstat(fd, &status) != 0) return;
      const Identity memory{status.st_dev, status.st_ino};
      if (memory.device != memory_device.load() || find_file(memory) != nullptr) return;
      const int before = files.count();
      struct stat *known = files.find(memory);
      if (known != nullptr) *known = status;
      if (known == nullptr || files.count() != before) bytes += status.st_blocks * 512;
    });
  }
};

struct Mapping {
  long long begin, end;  // in the file
  Identity memory;
  std::string_view path;
};

long long hexadecimal(std::string_view text) {
  long long value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value, 16);
  return value;
}

// A line of /proc/self/maps, if it is a shared and writable mapping of a memfd.
bool parse(std::string_view line, Mapping *mapping) {
  std::string_view words[5];
  for (std::string_view &word : words) {
    const std::size_t length = std::min(line.find(' '), line.size());
    word = line.substr(0, length);
    line.remove_prefix(std::min(length + 1, line.size()));
  }
  if (words[1].size() < 4 || words[1][1] != 'w' || words[1][3] != 's') return false;
  const std::size_t dash = words[0].find('-'), colon = words[3].find(':');
  if (dash == std::string_view::npos || colon == std::string_view::npos) return false;
  mapping->memory.device = gnu_dev_makedev(static_cast<unsigned>(hexadecimal(words[3].substr(0, colon))),
                                           static_cast<unsigned>(hexadecimal(words[3].substr(colon + 1))));
  if (mapping->memory.device != memory_device.load()) return false;
  std::from_chars(words[4].data(), words[4].data() + words[4].size(), mapping->memory.number);
  mapping->begin = hexadecimal(words[2]);
  mapping->end = mapping->begin + hexadecimal(words[0].substr(dash + 1)) - hexadecimal(words[0].substr(0, dash));
  mapping->path = line.substr(std::min(line.find_first_not_of(' '), line.size()));
  return true;
}

template <typename Visit>
void for_each_mapping(Visit visit) {
  if (!has_mappings()) return;
  kernel::KeepErrno keep;
  Lines lines("/proc/self/maps");
  Mapping mapping;
  for (std::string_view line; lines.next(&line);) {
    if (parse(line, &mapping)) visit(mapping);
  }
}

// What stores through mappings may yet take, of one volume or of all.
long long promised_bytes_of(const Volume *volume, Nameless &nameless) {
  long long bytes = 0;
  Seen<long long, 128> holes;  // of each file those that are left to be promised
  for_each_mapping([&](const Mapping &mapping) {
    struct stat status;
    const Inode *inode = find_file(mapping.memory);
    if (inode == nullptr) {
      if (volume_number_of(mapping.path) == 0 ||
          (volume != nullptr && volume_number_of(mapping.path) != volume->number)) {
        return;
      }
      bool open = false;
      for (int i = 0; i < nameless.files.count() && !open; ++i) {
        open = nameless.files.file(i) == mapping.memory;
        if (open) status = nameless.files.value(i);
      }
      if (!open) {  // only mapped: as much as there may be
        bytes += mapping.end - mapping.begin;
        return;
      }
    } else if (!inode->volume->writable || (volume != nullptr && inode->volume != volume) ||
               kernel::fstat(inode->fd, &status) != 0) {
      return;
    }
    const long long end = std::min<long long>(mapping.end, round_up(status.st_size));
    const int before = holes.count();
    long long *left = holes.find(mapping.memory);
    const long long all = std::max<long long>(0, round_up(status.st_size) - status.st_blocks * 512);
    if (left != nullptr && holes.count() != before) *left = all;
    const long long promised = std::min(std::max(0ll, end - mapping.begin), left != nullptr ? *left : all);
    if (left != nullptr) *left -= promised;
    bytes += promised;
  });
  return bytes;
}

}  // namespace

long long used_bytes_with_mappings(const Volume &volume) {
  Nameless nameless(&volume);
  return used_bytes(volume) + nameless.bytes + promised_bytes_of(&volume, nameless);
}

long long promised_bytes() {
  if (!has_mappings()) return 0;
  Nameless nameless(nullptr);
  return promised_bytes_of(nullptr, nameless);
}

void note_mapping() { mapped.store(true, std::memory_order_relaxed); }

bool has_mappings() { return mapped.load(std::memory_order_relaxed); }

bool is_mapped_beyond(const struct stat &status) {
  bool beyond = false;
  for_each_mapping([&](const Mapping &mapping) {
    beyond = beyond || (mapping.memory == Identity{status.st_dev, status.st_ino} && mapping.end > status.st_size);
  });
  return beyond;
}

off_t fitting(int fd, const struct stat &status, off_t offset, off_t length, long long pages) {
  const off_t end = offset + length, size = round_up(status.st_size);
  const bool dense = status.st_blocks * 512 >= size;
  // With an offset of its own. Who may not open the file again is taken to write into holes.
  int seeker = dense || offset >= size ? -1 : reopen(fd, O_RDONLY | O_CLOEXEC);
  if (seeker == -EACCES) seeker = reopen(fd, O_WRONLY | O_CLOEXEC);
  off_t at = offset;
  while (at < end) {
    off_t data = end;  // where the hole ends
    if (at < size && dense) {
      at = size;
      continue;
    }
    if (at < size && seeker >= 0) {
      const off_t found = kernel::lseek(seeker, at, SEEK_DATA);
      if (found == at) {
        at = round_up(kernel::lseek(seeker, at, SEEK_HOLE));
        continue;
      }
      if (found > at) data = std::min(end, found);
    }
    const off_t begin = at / page_bytes * page_bytes;
    const long long needed = (round_up(data) - begin) / page_bytes;
    if (needed > pages) {
      at = std::max<off_t>(offset, begin + pages * page_bytes);
      break;
    }
    pages -= needed;
    at = data;
  }
  if (seeker >= 0) kernel::close(seeker);
  return std::min(at, end) - offset;
}

}  // namespace diskless

using namespace diskless;

extern "C" {

long long diskless_scratch_used(void) {
  kernel::KeepErrno keep;
  std::shared_lock lock(tree_lock);
  long long bytes = 0;
  for (const auto &root : roots()) {
    if (root->volume.writable) bytes += used_bytes_with_mappings(root->volume);
  }
  return bytes;
}

}  // extern "C"
