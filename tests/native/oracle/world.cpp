#include "world.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <cstdlib>

#include "places.h"
#include "resolve.h"

namespace {

void must(bool done, const std::string &what) {
  if (done) return;
  std::perror(what.c_str());
  std::exit(2);
}

void make_directory(const std::string &path, mode_t mode) { must(::mkdir(path.c_str(), mode) == 0, path); }

void make_file(const std::string &path, std::string_view bytes, mode_t mode) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL, 0600);
  must(fd >= 0 && ::write(fd, bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size()), path);
  must(::fchmod(fd, mode) == 0 && ::close(fd) == 0, path);
}

void replace(std::string *text, std::string_view what, std::string_view with) {
  for (std::size_t at = 0; (at = text->find(what, at)) != std::string::npos; at += with.size()) {
    text->replace(at, what.size(), with);
  }
}

// Asked by a description of its own, so that the stream's position stays. With the inode: a name that another file was
// renamed to may be seen twice, or not.
std::set<std::pair<std::string, ino_t>> names_of(const Stream &stream) {
  std::set<std::pair<std::string, ino_t>> names;
  const int mine = ::openat(::dirfd(stream.stream), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (mine < 0) return names;
  DIR *again = ::fdopendir(mine);
  while (const dirent *entry = ::readdir(again)) names.emplace(entry->d_name, entry->d_ino);
  ::closedir(again);
  return names;
}

// From a directory that was removed nothing but `..` leads anywhere.
bool climbs(const std::string &path) { return path.find("..") != std::string::npos; }

}  // namespace

bool is_directory(int fd) {
  struct stat status;
  return ::fstat(fd, &status) == 0 && S_ISDIR(status.st_mode);
}

World::World(const std::string &base, const std::string &outside, const User &user, bool is_first)
    : user_(user), base_(base), root_(base + "/in/root"), outside_(outside), is_first_(is_first) {
  ::umask(022);
  for (const std::string &path : {base_, base_ + "/in", root_, outside_}) make_directory(path, 0755);
  furnish();
  const std::string first[] = {root_, root_ + "/d", root_ + "/d/e", base_, root_ + "/a", root_ + "/a"};
  std::ranges::fill(fds_, -1);
  for (unsigned i = 0; i < std::size(first); ++i) {
    fds_[i] = ::open(first[i].c_str(), i < directories ? O_RDONLY | O_DIRECTORY : O_RDWR);
    must(fds_[i] >= 0, first[i]);
  }
}

World::~World() {
  for (Stream &each : streams_) {
    if (each.stream != nullptr) ::closedir(each.stream);
  }
  for (const int fd : fds_) {
    if (fd >= 0) ::close(fd);
  }
  if (standing_ >= 0) ::close(standing_);
}

// What is there from the start; things of somebody else only where root can make them.
void World::furnish() {
  make_directory(root_ + "/d", 0755);
  make_directory(root_ + "/d/e", 0755);
  make_file(root_ + "/a", "mine", 0644);
  for (const std::string &path : {root_, root_ + "/d", root_ + "/d/e", root_ + "/a", outside_}) own(path);
  if (!user_.has_root()) return;
  static constexpr struct {
    const char *name;
    mode_t mode;
  } others[] = {{"/theirs", 0755}, {"/sticky", 01777}, {"/setgid", 02777}, {"/closed", 0700}};
  for (const auto &[name, mode] : others) {
    const std::string directory = root_ + name;
    make_directory(directory, 0755);
    make_file(directory + "/a", "theirs", 0644);
    make_file(directory + "/b", "theirs", 0600);
    make_file(directory + "/c", "theirs", 0666);
    make_directory(directory + "/d", 0755);
    must(::chown(directory.c_str(), 0, 100) == 0 && ::chmod(directory.c_str(), mode) == 0, directory);
  }
}

void World::own(const std::string &path) const {
  if (user_.has_root()) must(::chown(path.c_str(), user_.id(), user_.id()) == 0, path);
}

bool World::enter() {
  ::umask(mask_);
  return standing_ < 0 || ::fchdir(standing_) == 0;
}

void World::leave() {
  mask_ = ::umask(022);
  must(::chdir("/") == 0, "/");
}

void World::stand_here() {
  if (standing_ >= 0) ::close(standing_);
  standing_ = ::open(".", O_PATH | O_DIRECTORY);
}

Place World::draw_place(Draw &draw) {
  const unsigned kind = draw.below(8);
  const Handle handle = draw_directory(draw);
  const std::string path = draw_path(draw);
  if (kind < 4) return {AT_FDCWD, root_ + "/" + path, told(path)};
  if (kind < 6) return {handle.fd, path, "at " + told(handle) + " " + told(path), handle.fd};
  if (kind == 6) return {AT_FDCWD, path, "here " + told(path)};
  return {AT_FDCWD, "/proc/self/fd/" + std::to_string(handle.fd) + "/" + path, "fd " + told(handle) + " " + told(path),
          handle.fd};
}

Handle World::draw_handle(Draw &draw) {
  const unsigned slot = draw.below(slots);
  return {fds_[slot], slot};
}

Handle World::draw_directory(Draw &draw) {
  const unsigned slot = draw.below(draw.one_in(8) ? slots : directories);
  return {fds_[slot], slot};
}

Stream &World::draw_stream(Draw &draw) { return streams_[draw.below(streams)]; }

unsigned World::draw_slot(Draw &draw, int open_flags) {
  const bool directory = (open_flags & O_TMPFILE) == O_DIRECTORY;
  const unsigned number = draw.below(slots);
  return directory ? number % directories : directories + number % (slots - directories);
}

void World::keep(unsigned slot, int fd, Report &report) {
  if (fd < 0) return report.fails();
  if (fds_[slot] >= 0) ::close(fds_[slot]);
  fds_[slot] = fd;
  report.says("#" + std::to_string(slot));
}

bool World::leads_out(const Place &place) const {
  const User::AsRoot root(user_);
  if (place.from >= 0 && !is_directory(place.from)) return false;  // nothing is there
  if (place.path.starts_with('/') || !place.is_alone()) return path_leads_out(place.alone());
  char here[PATH_MAX];
  if (standing_ < 0) return true;
  if (::getcwd(here, sizeof here) == nullptr) return climbs(place.path);
  return path_leads_out(std::string(here) + "/" + place.path);
}

bool World::path_leads_out(const std::string &path) const {
  const std::string real = resolve(path, Last::followed), parent = resolve(path, Last::left_out);
  if (real.empty()) return climbs(path);
  const auto is_home = [this](const std::string &where) {
    return (where + "/").starts_with(base_ + "/") || (where + "/").starts_with(outside_ + "/");
  };
  return !is_home(real) || !is_home(parent);
}

void World::begin(Stream &stream) const { stream.stayed = names_of(stream); }

void World::settle_streams() {
  for (Stream &each : streams_) {
    if (each.stream == nullptr) continue;
    const auto there = names_of(each);
    std::erase_if(each.stayed, [&](const auto &name) { return !there.contains(name); });
  }
}

std::string World::say(std::string text) const {
  replace(&text, root_, "@");
  replace(&text, base_, "@/../..");
  replace(&text, outside_, "%");
  return text;
}

std::string World::link_at(const std::string &path) const {
  char target[PATH_MAX];
  const ssize_t length = ::readlink(path.c_str(), target, sizeof target);
  return length < 0 ? error_name(errno) : told(say(std::string(target, static_cast<std::size_t>(length))));
}

std::string World::spell(std::string target) const {
  replace(&target, "@", root_);
  replace(&target, "%", outside_);
  return target;
}
