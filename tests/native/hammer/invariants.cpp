#include "invariants.h"

#include <dirent.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <map>
#include <set>

namespace {

struct Seen {
  nlink_t links;
  nlink_t names = 0;
  mode_t kind;
  long long bytes;
};

class Walk {
 public:
  std::string wrong;

  void visit(const std::string &path, ino_t parent) {
    struct stat status;
    if (::lstat(path.c_str(), &status) != 0) return say(path, std::strerror(errno));
    note(path, status);
    if (!S_ISDIR(status.st_mode)) return;
    check_dots(path, status.st_ino, parent);
    check_path(path);
    const nlink_t subdirectories = visit_entries(path, status.st_ino);
    if (status.st_nlink != 2 + subdirectories) say(path, "another count of subdirectories than there are");
    if (status.st_size != static_cast<off_t>(20 * (2 + entries_[status.st_ino]))) say(path, "another count of entries");
  }

  void check_links() {
    for (const auto &[number, seen] : inodes_) {
      if (!S_ISDIR(seen.kind) && seen.links != seen.names)
        say(std::to_string(number), "another count of names than found");
      if (S_ISDIR(seen.kind) && seen.names != 1) say(std::to_string(number), "a directory with several names");
    }
  }

  bool has(ino_t number) const { return inodes_.contains(number); }

  long long bytes() const {
    long long sum = 0;
    for (const auto &[number, seen] : inodes_) sum += seen.bytes;
    return sum;
  }

 private:
  void say(const std::string &path, const std::string &what) { wrong += path + ": " + what + "\n"; }

  void note(const std::string &path, const struct stat &status) {
    const long long bytes = S_ISREG(status.st_mode) ? status.st_blocks * 512 : 0;
    Seen &seen =
        inodes_.try_emplace(status.st_ino, Seen{status.st_nlink, 0, status.st_mode & S_IFMT, bytes}).first->second;
    ++seen.names;
    if (seen.links != status.st_nlink || seen.kind != (status.st_mode & S_IFMT))
      say(path, "another file of its number");
  }

  void check_dots(const std::string &path, ino_t self, ino_t parent) {
    struct stat status;
    if (::stat((path + "/.").c_str(), &status) != 0 || status.st_ino != self) say(path, "wrong .");
    if (parent == 0) return;
    if (::stat((path + "/..").c_str(), &status) != 0 || status.st_ino != parent) say(path, "wrong ..");
  }

  void check_path(const std::string &path) {
    char *real = ::realpath(path.c_str(), nullptr);
    if (real == nullptr || path != real) say(path, real == nullptr ? std::strerror(errno) : real);
    std::free(real);
  }

  nlink_t visit_entries(const std::string &path, ino_t self) {
    DIR *stream = ::opendir(path.c_str());
    if (stream == nullptr) return say(path, std::strerror(errno)), 0;
    nlink_t subdirectories = 0;
    std::set<std::string> names;
    while (const dirent *entry = ::readdir(stream)) {
      const std::string name = entry->d_name;
      if (!names.insert(name).second) say(path, name + " is listed twice");
      if (name == "." || name == "..") continue;
      struct stat status;
      const std::string below = path + "/" + name;
      if (::lstat(below.c_str(), &status) != 0) {
        say(below, "listed, and not there");
        continue;
      }
      if (status.st_ino != entry->d_ino || IFTODT(status.st_mode) != entry->d_type) say(below, "listed as another");
      subdirectories += S_ISDIR(status.st_mode);
      visit(below, self);
    }
    ::closedir(stream);
    entries_[self] = names.size() - 2;
    return subdirectories;
  }

  std::map<ino_t, Seen> inodes_;
  std::map<ino_t, std::size_t> entries_;  // of each directory
};

}  // namespace

long long used_bytes(const std::string &root) {
  struct statvfs space;
  if (::statvfs(root.c_str(), &space) != 0) return -1;
  return static_cast<long long>((space.f_blocks - space.f_bfree) * space.f_frsize);
}

std::string broken_invariant(const std::string &root, const std::vector<int> &open) {
  Walk walk;
  walk.visit(root, 0);
  walk.check_links();
  long long bytes = walk.bytes();
  std::set<ino_t> nameless;
  for (const int fd : open) {
    struct stat status;
    if (fd < 0 || ::fstat(fd, &status) != 0 || walk.has(status.st_ino)) continue;
    if (status.st_nlink != 0) walk.wrong += "a file without a name says that it has one\n";
    if (nameless.insert(status.st_ino).second) bytes += status.st_blocks * 512;
  }
  if (const long long used = used_bytes(root); used != bytes) {
    walk.wrong += "files take " + std::to_string(bytes) + " bytes, and " + std::to_string(used) + " are counted\n";
  }
  return walk.wrong;
}
