#include "places.h"

#include <climits>
#include <cstdint>

namespace {

// What stands at these is in world.cpp.
constexpr const char *plain[] = {"a",        "b",        "c",        "d",        "d/a",      "d/b",
                                 "d/e",      "d/e/a",    "e",        "e/a",      "theirs/a", "theirs/c",
                                 "theirs/x", "sticky/a", "sticky/x", "setgid/a", "setgid/x", "closed/a"};
constexpr const char *common[] = {"a", "b", "c", "d", "d", "e", "theirs", "sticky", "setgid", "closed", ".", ".."};
constexpr const char *prefixes[] = {"", "", "", "", "./", ".//"};
constexpr const char *suffixes[] = {"", "", "", "", "/", "/.", "//", "/.."};
constexpr const char *targets[] = {"a", "b", "@/a", "@", "%", "%/a", "nowhere/at/all", "..", "."};
constexpr const char *target_prefixes[] = {"", "@/", "@", "%/", "@/../root/"};

constexpr int creation[] = {0, 0, O_CREAT, O_CREAT, O_CREAT, O_CREAT | O_EXCL};
constexpr int more_flags[] = {O_TRUNC,    O_APPEND, O_NOFOLLOW, O_DIRECTORY, O_PATH,
                              O_NONBLOCK, O_SYNC,   O_NOATIME,  O_EXCL,      O_DIRECT};

std::string repeated(const char *text, int count) {
  std::string all;
  for (int i = 0; i < count; ++i) all += text;
  return all;
}

std::string odd_name(Draw &draw) {
  switch (draw.below(7)) {
    case 0: return std::string(NAME_MAX, 'n');
    case 1: return std::string(NAME_MAX + 1, 'n');
    case 2: return "\xff\xfe";
    case 3: return "new\nline";
    case 4: return " ";
    case 5: return ".hidden";
    default: return "é";
  }
}

// Longer than PATH_MAX, just below it whatever it starts from, and nothing.
std::string extreme(Draw &draw) {
  switch (draw.below(6)) {
    case 0: return repeated("a/", 2100);
    case 1: return repeated("./", 1900) + "a";
    case 2: return repeated("a/./", 900) + "b";
    default: return "";
  }
}

}  // namespace

std::string draw_path(Draw &draw) {
  const unsigned kind = draw.below(30);
  if (kind < 18) return draw.of(plain);
  if (kind == 29) return extreme(draw);
  std::string path = draw.of(prefixes);
  const unsigned count = 1 + draw.below(3);
  for (unsigned i = 0; i < count; ++i) {
    if (i > 0) path += '/';
    path += kind >= 26 && draw.one_in(3) ? odd_name(draw) : draw.of(common);
  }
  return path + draw.of(suffixes);
}

std::string draw_target(Draw &draw) {
  if (draw.one_in(2)) return draw.of(targets);
  const std::string prefix = draw.of(target_prefixes);
  return prefix + draw_path(draw);
}

std::string draw_bytes(Draw &draw) {
  if (draw.one_in(2)) return std::string(static_cast<std::size_t>(draw.of(sizes)), 'x');
  std::string bytes;
  const unsigned size = draw.below(9);
  for (unsigned i = 0; i < size; ++i) bytes += static_cast<char>(draw.below(256));
  return bytes;
}

int draw_open_flags(Draw &draw) {
  int flags = draw.of(access_modes);
  flags |= draw.of(creation);
  for (unsigned count = draw.below(3); count > 0; --count) flags |= draw.of(more_flags);
  return flags;
}

off_t draw_offset(Draw &draw) {
  constexpr off_t extremes[] = {off_t{1} << 31, (off_t{1} << 32) + 1, INT64_MAX, -1};
  return draw.below(5) == 0 ? draw.of(extremes) : draw.of(sizes);
}
