#include "machine.h"

#include <fcntl.h>
#include <ftw.h>
#include <sys/stat.h>
#include <unistd.h>

#include "look.h"
#include "operations.h"

namespace {

constexpr unsigned look_every = 10;

const std::vector<Operation> &all_operations() {
  static const std::vector<Operation> all = [] {
    std::vector<Operation> made;
    for (const auto &some : {descriptor_operations(), data_operations(), name_operations(), metadata_operations(),
                             directory_operations(), stream_operations()}) {
      made.insert(made.end(), some.begin(), some.end());
    }
    return made;
  }();
  return all;
}

Report run(World &world, const User &user, std::uint64_t seed, std::uint64_t number, bool loud) {
  Draw draw(seed, number);
  const Operation operation = all_operations()[draw.below(static_cast<unsigned>(all_operations().size()))];
  Report report{loud};
  user.become();
  if (world.enter()) {
    operation(world, draw, report);
  } else {
    report.says("cannot go there");
  }
  user.leave();
  world.leave();
  world.settle_streams();
  return report;
}

void remove_below(const std::string &path) {
  for (const std::string &name : names_in(path)) {
    const std::string below = path + "/" + name;
    struct stat status;
    if (::lstat(below.c_str(), &status) != 0) continue;
    if (!S_ISDIR(status.st_mode)) {
      ::unlink(below.c_str());
      continue;
    }
    ::chmod(below.c_str(), 0700);  // an ordinary user needs it
    remove_below(below);
    ::rmdir(below.c_str());
  }
}

std::string look_at_both(const World &first, const World &second) { return difference(look(first), look(second)); }

}  // namespace

Numbers numbers_of_series(std::uint64_t series) {
  Numbers numbers;
  for (std::uint64_t i = 0; i < steps_a_series; ++i) numbers.push_back(series * steps_a_series + i);
  return numbers;
}

std::string differs(const Setting &setting, const Numbers &numbers, How how) {
  static unsigned made = 0;
  char name[16];
  std::snprintf(name, sizeof name, "/%06u", made++ % 1'000'000);
  for (int i = 0; i < 2; ++i) {
    remove_below(setting.tops[i]);
    remove_below(setting.outsides[i]);
  }
  World first(setting.tops[0] + name, setting.outsides[0] + name, setting.user, true);
  World second(setting.tops[1] + name, setting.outsides[1] + name, setting.user, false);
  unsigned count = 0;
  for (const std::uint64_t number : numbers) {
    const Report theirs = run(first, setting.user, setting.seed, number, how == How::closely_and_loud);
    const Report ours = run(second, setting.user, setting.seed, number, false);
    if (how == How::closely_and_loud) std::fprintf(stderr, "    %s\n", theirs.result.c_str());
    if (theirs.result != ours.result) return theirs.call + ":\n   " + theirs.result + "\n!= " + ours.result;
    if (how == How::now_and_then && ++count % look_every != 0) continue;
    if (const std::string seen = look_at_both(first, second); !seen.empty()) return "seen after it:\n   " + seen;
  }
  if (const std::string seen = look_at_both(first, second); !seen.empty()) return "seen in the end:\n   " + seen;
  return {};
}
