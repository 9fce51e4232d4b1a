#include "look.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <ctime>

#include <algorithm>
#include <map>
#include <utility>

#include "report.h"
#include "world.h"

constinit Clock the_clock;

namespace {

// Explicit times are set before this (2001), so every later one was the clock's.
constexpr time_t explicit_before_s = 1'000'000'000;

// Files get the coarse clock's time, which lags by up to a tick.
timespec next_tick() {
  timespec start, now;
  ::clock_gettime(CLOCK_REALTIME_COARSE, &start);
  do {
    ::clock_gettime(CLOCK_REALTIME_COARSE, &now);
  } while (now.tv_sec == start.tv_sec && now.tv_nsec == start.tv_nsec);
  return now;
}

bool is_explicit(timespec time) { return time.tv_sec < explicit_before_s; }

std::string number_of(timespec time) { return std::to_string(time.tv_sec) + "." + std::to_string(time.tv_nsec); }

// All of a short file; of a long one the first and last bytes, enough for what is written here.
std::string contents(const std::string &path) {
  constexpr off_t most = 100'000;
  const int fd = ::open(path.c_str(), O_RDONLY | O_NOATIME | O_CLOEXEC);
  if (fd < 0) return error_name(errno);
  static char text[most];
  std::uint64_t sum = 14695981039346656037u;
  const auto add = [&](off_t offset) {
    const ssize_t size = ::pread(fd, text, sizeof text, offset);
    for (ssize_t i = 0; i < size; ++i) sum = (sum ^ static_cast<unsigned char>(text[i])) * 1099511628211u;
  };
  add(0);
  const off_t size = ::lseek(fd, 0, SEEK_END);
  if (size > most) add(size - most);
  ::close(fd);
  char shown[24];
  std::snprintf(shown, sizeof shown, "bytes %08x", static_cast<unsigned>(sum));
  return shown;
}

class Look {
 public:
  explicit Look(const World &world) : world_(world) {}

  void walk(const std::string &path, const std::string &shown) {
    struct stat status;
    if (::lstat(path.c_str(), &status) != 0) {
      lines_.push_back(shown + ": " + error_name(errno));
      return;
    }
    // Names of one file are known by the first of them.
    const auto key = std::make_pair(status.st_dev, status.st_ino);
    const std::string &first = first_.emplace(key, shown).first->second;
    std::string line = shown + ": " + describe(status) + " is " + first + attributes_of(path);
    if (S_ISREG(status.st_mode)) line += " " + contents(path);
    if (S_ISLNK(status.st_mode)) line += " -> " + world_.link_at(path);
    lines_.push_back(line);
    if (!S_ISDIR(status.st_mode)) return;
    for (const std::string &name : names_in(path)) walk(path + "/" + name, shown + "/" + name);
  }

  std::vector<std::string> take() { return std::move(lines_); }

 private:
  const World &world_;
  std::map<std::pair<dev_t, ino_t>, std::string> first_;
  std::vector<std::string> lines_;
};

}  // namespace

void Clock::mark() {
  // One tick to be past all finer times (Linux 6.13), one to mark, and one to be past the mark.
  next_tick();
  mark_ = next_tick();
  next_tick();
}

std::string Clock::describe(timespec time) const {
  if (is_explicit(time)) return number_of(time);
  return std::make_pair(time.tv_sec, time.tv_nsec) > std::make_pair(mark_.tv_sec, mark_.tv_nsec) ? "after" : "before";
}

std::string describe(const struct stat &status) {
  const bool is_file = S_ISREG(status.st_mode);
  std::string text = "mode " + told(Octal{status.st_mode}) + " links " + told(status.st_nlink) + " owner " +
                     told(status.st_uid) + ":" + told(status.st_gid);
  if (!S_ISDIR(status.st_mode)) text += " size " + told(status.st_size);
  if (is_file) text += " blocks " + told(status.st_blocks);
  text += " mtime " + the_clock.describe(status.st_mtim) + " ctime " + the_clock.describe(status.st_ctim);
  if (is_file) text += " atime " + (is_explicit(status.st_atim) ? number_of(status.st_atim) : std::string("recent"));
  return text;
}

std::vector<std::string> names_in(const std::string &directory) {
  DIR *stream = ::opendir(directory.c_str());
  if (stream == nullptr) return {};
  std::vector<std::string> names;
  while (const dirent *entry = ::readdir(stream)) {
    const std::string name = entry->d_name;
    if (name != "." && name != "..") names.push_back(name);
  }
  ::closedir(stream);
  std::ranges::sort(names);
  return names;
}

std::string attributes_of(const std::string &path) {
  char names[4096], value[65536];
  const ssize_t length = ::llistxattr(path.c_str(), names, sizeof names);
  if (length < 0) return error_name(errno);
  std::map<std::string, std::string> attributes;
  for (ssize_t at = 0; at < length; at += static_cast<ssize_t>(std::strlen(names + at)) + 1) {
    const ssize_t size = ::lgetxattr(path.c_str(), names + at, value, sizeof value);
    attributes[names + at] =
        size < 0 ? error_name(errno) : told(std::string_view(value, static_cast<std::size_t>(size)));
  }
  std::string text;
  for (const auto &[name, shown] : attributes) text += " " + name + "=" + shown;
  return text;
}

std::vector<std::string> look(const World &world) {
  Look seen(world);
  seen.walk(world.base(), "@/../..");
  seen.walk(world.outside(), "%");
  std::vector<std::string> lines = seen.take();
  std::ranges::sort(lines);
  return lines;
}

std::string difference(const std::vector<std::string> &theirs, const std::vector<std::string> &ours) {
  const auto [their, our] = std::ranges::mismatch(theirs, ours);
  if (their == theirs.end() && our == ours.end()) return {};
  return (their == theirs.end() ? "nothing" : *their) + "\n!= " + (our == ours.end() ? "nothing" : *our);
}
