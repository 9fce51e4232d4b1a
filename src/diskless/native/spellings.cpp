// How a path may be spelled that leads to a shadow: through symlinks in the root directory, and through bind mounts.

#include <dirent.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <cstdio>
#include <cstdlib>
#include <set>

#include "roots.h"

namespace diskless {

namespace {

std::string first_component(std::string_view path) {
  const auto names = components(path);
  return names.empty() ? std::string() : names.front();
}

// Bind mounts: where else the filesystem that holds `canonical` is mounted. Nothing is asked of those mounts
// themselves, since one of them may be a network filesystem that does not answer.
void add_bind_mounts(const std::string &canonical, std::set<std::string> &found) {
  std::FILE *mounts = std::fopen("/proc/self/mountinfo", "re");
  if (mounts == nullptr) return;
  std::vector<std::pair<std::string, std::string>> points;  // where, and which device
  std::size_t longest = 0;
  std::string device;
  char *line = nullptr;
  std::size_t size = 0;
  while (::getline(&line, &size, mounts) > 0) {
    char numbers[32], point[PATH_MAX];
    if (std::sscanf(line, "%*d %*d %31s %*s %4095s", numbers, point) != 2) continue;
    const std::string_view at = point;
    const bool above =
        canonical.starts_with(at) && (at == "/" || canonical.size() == at.size() || canonical[at.size()] == '/');
    if (above && at.size() >= longest) {
      longest = at.size();
      device = numbers;
    }
    points.emplace_back(point, numbers);
  }
  std::free(line);
  std::fclose(mounts);
  for (const auto &[point, numbers] : points) {
    if (numbers == device) found.insert(first_component(point));
  }
}

}  // namespace

// First components of all spellings that may lead to a shadow: symlinks in the root directory, and bind mounts.
std::vector<std::string> first_components_of(const std::string &spelled, const std::string &canonical) {
  std::set<std::string> found{first_component(spelled), first_component(canonical)};
  add_bind_mounts(canonical, found);
  if (DIR *top = ::opendir("/")) {
    while (const struct dirent *entry = ::readdir(top)) {
      char real[PATH_MAX];
      const std::string path = std::string("/") + entry->d_name;
      struct stat status;
      if (kernel::fstatat(AT_FDCWD, path.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0) continue;
      if (!S_ISLNK(status.st_mode) || ::realpath(path.c_str(), real) == nullptr) continue;
      if (real[1] == '\0' || found.contains(first_component(real))) found.insert(entry->d_name);
    }
    ::closedir(top);
  }
  found.erase("");
  return {found.begin(), found.end()};
}

}  // namespace diskless
