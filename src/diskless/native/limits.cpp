#include "limits.h"

#include <limits.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <string_view>

#include "lines.h"

namespace diskless {

namespace {

// One hierarchy of control groups that limits memory: version 2's, or the memory controller's of version 1.
struct Hierarchy {
  int version = 0;  // 0: none
  char group[PATH_MAX] = "";
  std::size_t mount_length = 0;  // the part of `group` that is the hierarchy's mount point: nothing above is asked
};

Hierarchy hierarchies[2];  // guarded by tree_lock

constexpr long long unlimited = 1ll << 60;  // version 1 shows a number near 2**63 instead
constexpr long long least_kept_back = 2ll << 20, most_kept_back = 64ll << 20;

bool has_word(std::string_view list, std::string_view word) {
  while (!list.empty()) {
    const std::size_t comma = std::min(list.find(','), list.size());
    if (list.substr(0, comma) == word) return true;
    list.remove_prefix(std::min(comma + 1, list.size()));
  }
  return false;
}

std::string_view take(std::string_view &rest, char separator) {
  const std::size_t length = std::min(rest.find(separator), rest.size());
  const std::string_view word = rest.substr(0, length);
  rest.remove_prefix(std::min(length + 1, rest.size()));
  return word;
}

bool is_directory(const char *path) {
  struct stat status;
  return kernel::fstatat(AT_FDCWD, path, &status, 0) == 0 && S_ISDIR(status.st_mode);
}

// Where the group `path` of the hierarchy shows, by a line of /proc/self/mountinfo. A container sees the hierarchy from
// its own group on: a path that lies outside what the mount shows is the mount's root itself.
bool place(std::string_view mount, int version, std::string_view path, Hierarchy *found) {
  for (int i = 0; i < 3; ++i) take(mount, ' ');
  const std::string_view shown = take(mount, ' '), at = take(mount, ' ');
  const std::size_t dash = mount.find(" - ");
  if (dash == std::string_view::npos) return false;
  mount.remove_prefix(dash + 3);
  const std::string_view type = take(mount, ' ');
  take(mount, ' ');
  if (type != (version == 2 ? "cgroup2" : "cgroup") || (version == 1 && !has_word(mount, "memory"))) return false;
  if (shown.size() > 1 && path.starts_with(shown)) {
    path.remove_prefix(shown.size());
  } else if (shown.size() > 1) {
    path = {};
  }
  while (path.ends_with('/')) path.remove_suffix(1);
  if (at.size() + path.size() + NAME_MAX >= sizeof found->group) return false;
  std::memcpy(found->group, at.data(), at.size());
  std::memcpy(found->group + at.size(), path.data(), path.size());
  found->group[at.size() + path.size()] = '\0';
  if (!is_directory(found->group)) found->group[at.size()] = '\0';
  found->mount_length = at.size();
  found->version = version;
  return true;
}

// The file's beginning, as text.
template <std::size_t size>
bool read_file(const char *path, char (&text)[size]) {
  const int fd = kernel::open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  std::size_t length = 0;
  for (ssize_t got; length + 1 < size && (got = ::syscall(SYS_read, fd, text + length, size - 1 - length)) > 0;) {
    length += static_cast<std::size_t>(got);
  }
  kernel::close(fd);
  text[length] = '\0';
  return length > 0;
}

long long number_of(const char *text) {
  while (*text == ' ' || *text == ':') ++text;
  long long value = -1;
  std::from_chars(text, text + std::strlen(text), value);
  return value;
}

// The value in a text of lines "name value" or "name: value".
long long field(const char *text, const char *name) {
  const std::size_t length = std::strlen(name);
  for (const char *at = text; at != nullptr && *at != '\0'; at = std::strchr(at, '\n')) {
    at += *at == '\n';
    if (std::strncmp(at, name, length) == 0 && (at[length] == ' ' || at[length] == ':')) return number_of(at + length);
  }
  return -1;
}

void tighten(Memory *memory, long long total, long long free) {
  free = std::max(0ll, free - std::clamp(total / 64, least_kept_back, most_kept_back));
  if (memory->total_bytes == 0 || free < memory->free_bytes) memory->free_bytes = free;
  if (memory->total_bytes == 0 || total < memory->total_bytes) memory->total_bytes = total;
}

void ask_group(const char *group, int version, Memory *memory) {
  char path[PATH_MAX + NAME_MAX], text[64], statistics[8192];
  const auto read_number = [&](const char *name) {
    std::snprintf(path, sizeof path, "%s/%s", group, name);
    return read_file(path, text) ? number_of(text) : -1;
  };
  const long long total = read_number(version == 2 ? "memory.max" : "memory.limit_in_bytes");
  if (total < 0 || total >= unlimited) return;
  const long long used = read_number(version == 2 ? "memory.current" : "memory.usage_in_bytes");
  if (used < 0) return;
  long long free = total - used;
  // What can be taken back; asked only where it matters, since the kernel has to add it up.
  if (free < (1ll << 30)) {
    std::snprintf(path, sizeof path, "%s/memory.stat", group);
    const char *name = version == 2 ? "inactive_file" : "total_inactive_file";
    if (read_file(path, statistics)) free += std::max(0ll, field(statistics, name));
  }
  tighten(memory, total, free);
}

}  // namespace

void learn_limits() {
  kernel::KeepErrno keep;
  int count = 0;
  Lines groups("/proc/self/cgroup");
  for (std::string_view line; count < 2 && groups.next(&line);) {
    take(line, ':');
    const std::string_view controllers = take(line, ':');
    if (!controllers.empty() && !has_word(controllers, "memory")) continue;
    Lines mounts("/proc/self/mountinfo");
    for (std::string_view mount; mounts.next(&mount);) {
      if (!place(mount, controllers.empty() ? 2 : 1, line, &hierarchies[count])) continue;
      ++count;
      break;
    }
  }
  for (; count < 2; ++count) hierarchies[count].version = 0;
}

Memory memory_left() {
  kernel::KeepErrno keep;
  Memory memory{0, 0};
  char text[4096];
  if (read_file("/proc/meminfo", text)) {
    const long long total = field(text, "MemTotal"), available = field(text, "MemAvailable");
    if (total > 0 && available >= 0) tighten(&memory, total * 1024, available * 1024);
  }
  for (const Hierarchy &hierarchy : hierarchies) {
    if (hierarchy.version == 0) continue;
    char group[PATH_MAX];
    std::strcpy(group, hierarchy.group);
    while (true) {
      ask_group(group, hierarchy.version, &memory);
      char *last = std::strrchr(group, '/');
      if (last == nullptr || static_cast<std::size_t>(last - group) < hierarchy.mount_length) break;
      *last = '\0';
    }
  }
  // Where nothing says how much there is, nothing is refused.
  return memory.total_bytes > 0 ? memory : Memory{unlimited, unlimited};
}

}  // namespace diskless
