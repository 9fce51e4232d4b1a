// Directories: what lists them, all at once or a little at a time.
#include <ftw.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <vector>

#include "operations.h"

namespace {

void says_sorted(std::vector<std::string> lines, Report &report) {
  std::ranges::sort(lines);
  for (const std::string &line : lines) report.says(line);
}

// With what readdir knows of each entry.
void list(World &world, Draw &draw, Report &report) {
  const Place place = world.draw_place(draw);
  report.calls("opendir", place);
  if (world.leads_out(place)) return report.says(leads_out);
  DIR *stream = ::opendir(place.alone().c_str());
  if (stream == nullptr) return report.fails();
  std::vector<std::string> lines;
  while (const dirent *entry = ::readdir(stream)) {
    std::string line = std::string(entry->d_name) + ":" + told(int{entry->d_type});
    struct stat status;
    const bool up = line.starts_with("..:");
    if (!up && ::fstatat(::dirfd(stream), entry->d_name, &status, AT_SYMLINK_NOFOLLOW) == 0) {
      line += status.st_ino == entry->d_ino ? "" : " another inode";
    }
    lines.push_back(line);
  }
  says_sorted(lines, report);
  report.gives(::closedir(stream));
}

void list_descriptor(World &world, Draw &draw, Report &report) {
  const Handle handle = world.draw_directory(draw);
  report.calls("fdopendir", handle);
  const int fd = ::openat(handle.fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return report.fails();
  DIR *stream = ::fdopendir(fd);
  if (stream == nullptr) return report.fails();
  std::vector<std::string> lines;
  while (const dirent *entry = ::readdir(stream)) lines.emplace_back(entry->d_name);
  says_sorted(lines, report);
  ::closedir(stream);
}

int has_no_dot(const dirent *entry) { return entry->d_name[0] != '.'; }

void scan(World &world, Draw &draw, Report &report) {
  const Place place = world.draw_place(draw);
  report.calls("scandir", place);
  if (world.leads_out(place)) return report.says(leads_out);
  dirent **entries;
  const int count = ::scandir(place.alone().c_str(), &entries, has_no_dot, ::alphasort);
  if (count < 0) return report.fails();
  for (int i = 0; i < count; ++i) {
    report.says(entries[i]->d_name);
    std::free(entries[i]);
  }
  std::free(entries);
}

std::vector<std::string> rest_of(DIR *stream) {
  std::vector<std::string> names;
  while (const dirent *entry = ::readdir(stream)) names.emplace_back(entry->d_name);
  return names;
}

// Reads all, goes back to where some entries had been read, and reads on.
void seek_back(World &world, Draw &draw, Report &report) {
  const Place place = world.draw_place(draw);
  const unsigned position = draw.below(7);
  report.calls("seekdir", place, position);
  if (world.leads_out(place)) return report.says(leads_out);
  DIR *stream = ::opendir(place.alone().c_str());
  if (stream == nullptr) return report.fails();
  for (unsigned i = 0; i < position; ++i) ::readdir(stream);
  const long there = ::telldir(stream);
  const std::vector<std::string> first = rest_of(stream);
  ::seekdir(stream, there);
  const std::vector<std::string> again = rest_of(stream);
  ::rewinddir(stream);
  report.says(told(first.size()) + " " + told(first == again) + " " + told(rest_of(stream).size()));
  ::closedir(stream);
}

void start(World &world, Stream &stream) {
  stream.read.clear();
  world.begin(stream);
}

void open_stream(World &world, Draw &draw, Report &report) {
  const Place place = world.draw_place(draw);
  Stream &stream = world.draw_stream(draw);
  report.calls("opendir and keep", place);
  if (world.leads_out(place)) return report.says(leads_out);
  DIR *opened = ::opendir(place.alone().c_str());
  if (!report.succeeds(opened != nullptr)) return;
  if (stream.stream != nullptr) ::closedir(stream.stream);
  stream.stream = opened;
  start(world, stream);
}

void next_of_stream(World &world, Draw &draw, Report &report) {
  Stream &stream = world.draw_stream(draw);
  const unsigned count = 1 + draw.below(8);
  report.calls("readdir", count);
  if (stream.stream == nullptr) return report.says("not open");
  bool at_end = false;
  for (unsigned i = 0; i < count && !at_end; ++i) {
    const dirent *entry = ::readdir(stream.stream);
    at_end = entry == nullptr;
    if (!at_end) stream.read.emplace_back(entry->d_name);
  }
  for (const auto &[name, inode] : stream.stayed) {
    const auto times = std::ranges::count(stream.read, name);
    if (times > 1 || (at_end && times == 0)) report.says(name + (times == 0 ? " missed" : " twice"));
  }
}

void rewind_stream(World &world, Draw &draw, Report &report) {
  Stream &stream = world.draw_stream(draw);
  report.calls("rewinddir");
  if (stream.stream == nullptr) return report.says("not open");
  ::rewinddir(stream.stream);
  start(world, stream);
}

// What nftw met, for its callback has no argument of ours; without the path that it began with, which libc spells as it
// likes in the end if that has slashes behind it.
std::vector<std::string> met;
std::size_t begun_with;

int meet(const char *path, const struct stat *status, int kind, FTW *at) {
  const bool shows_mode = kind != FTW_NS && kind != FTW_SL;  // that of a link in /proc is a known difference
  met.push_back((at->level == 0 ? "" : path + begun_with) + std::string(":") + told(kind) + ":" + told(at->level) +
                ":" + told(at->level == 0 ? 0 : at->base - static_cast<int>(begun_with)) + ":" +
                (shows_mode ? told(Octal{status->st_mode}) : ""));
  return 0;
}

void walk(World &world, Draw &draw, Report &report) {
  static constexpr int choices[] = {FTW_PHYS, FTW_PHYS, FTW_PHYS | FTW_DEPTH, FTW_PHYS | FTW_MOUNT,
                                    FTW_PHYS | FTW_CHDIR};
  const Place place = world.draw_place(draw);
  const int flags = draw.of(choices), most_open = 1 + static_cast<int>(draw.below(5));
  report.calls("nftw", place, flags, most_open);
  if (world.leads_out(place)) return report.says(leads_out);
  met.clear();
  const std::string begin = place.alone();
  begun_with = begin.size();
  const int result = ::nftw(begin.c_str(), meet, most_open, flags);
  report.gives(result);
  // The order of entries is free, and so is what was met before an error.
  if (result == 0) says_sorted(met, report);
}

constexpr Operation operations[] = {list,           list_descriptor, scan,          seek_back, open_stream,
                                    next_of_stream, next_of_stream,  rewind_stream, walk};

}  // namespace

std::span<const Operation> directory_operations() { return operations; }
