#include "resolve.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <deque>
#include <string_view>

namespace {

constexpr int most_links = 40;  // as the kernel has it

void push_front(std::deque<std::string> *names, std::string_view path) {
  std::size_t end = path.size();
  while (end > 0) {
    const std::size_t slash = path.rfind('/', end - 1);
    const std::size_t begin = slash == std::string_view::npos ? 0 : slash + 1;
    if (begin < end) names->emplace_front(path.substr(begin, end - begin));
    if (begin == 0) break;
    end = begin - 1;
  }
}

// Links of /proc are left to the kernel: what they say need not be a path.
bool read_link(const std::string &path, std::string *target) {
  char text[PATH_MAX];
  const ssize_t length = ::readlink(path.c_str(), text, sizeof text);
  if (length > 0) target->assign(text, static_cast<std::size_t>(length));
  return length > 0;
}

}  // namespace

std::string resolve(const std::string &path, Last last) {
  std::deque<std::string> names;
  push_front(&names, path);
  if (last == Last::left_out && !names.empty()) {
    if (names.back() == "." || names.back() == "..") return resolve(path, Last::followed);
    names.pop_back();
  }
  std::string real;
  int links = 0;
  unsigned missing = 0;  // names behind one that leads nowhere, which need not be asked for
  while (!names.empty()) {
    const std::string name = names.front();
    names.pop_front();
    if (name == ".") continue;
    if (name == "..") {
      real.resize(real.empty() ? 0 : real.rfind('/'));
      missing -= missing > 0;
      continue;
    }
    std::string target;
    if (missing > 0 || !read_link(real + "/" + name, &target)) {
      real += "/" + name;
      missing += missing > 0 || errno != EINVAL;
      continue;
    }
    if (target.ends_with(" (deleted)")) return {};
    if (++links > most_links) return real + "/" + name;
    if (target.front() == '/') real.clear();
    push_front(&names, target);
  }
  return real.empty() ? "/" : real;
}

std::string directory_of(int fd) {
  std::string target;
  return read_link("/proc/self/fd/" + std::to_string(fd), &target) ? target : "/";
}
