// Does random operations by calls of libc in two directories, and compares what comes of each.
//
//     oracle [-l LIBRARY] [-u UID] [-s SEED] [-n STEPS] REFERENCE SUBJECT OUTSIDE
//
// REFERENCE is an empty directory on a tmpfs. SUBJECT is another one, or with -l the path below /diskless of a scratch
// that is made. Symlinks lead out to OUTSIDE. Ends with 0 if there was no difference; else says it, with the shortest
// series that leads there, and ends with 1.
#include <dlfcn.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "machine.h"
#include "shrink.h"

namespace {

struct Options {
  const char *library = nullptr;
  uid_t user = 0;
  std::uint64_t seed = 1, steps = 10'000;
  std::string reference, subject, outside;
};

[[noreturn]] void stop(const char *what, const char *why) {
  std::fprintf(stderr, "%s: %s\n", what, why);
  std::exit(2);
}

Options options_of(int count, char **words) {
  Options options;
  options.user = ::getuid();
  for (int letter; (letter = ::getopt(count, words, "l:u:s:n:")) != -1;) {
    switch (letter) {
      case 'l': options.library = optarg; break;
      case 'u': options.user = static_cast<uid_t>(std::strtoul(optarg, nullptr, 10)); break;
      case 's': options.seed = std::strtoull(optarg, nullptr, 10); break;
      case 'n': options.steps = std::strtoull(optarg, nullptr, 10); break;
      default: std::exit(2);
    }
  }
  if (count - optind != 3) stop(words[0], "wants REFERENCE SUBJECT OUTSIDE");
  options.reference = words[optind];
  options.subject = words[optind + 1];
  options.outside = words[optind + 2];
  return options;
}

void open_scratch(const char *library, const char *path) {
  void *loaded = ::dlopen(library, RTLD_NOW);
  if (loaded == nullptr) stop("dlopen", ::dlerror());
  const auto function = [=](const char *name) { return ::dlsym(loaded, name); };
  const auto root_add = reinterpret_cast<int (*)(const char *)>(function("diskless_root_add"));
  const auto scratch_add =
      reinterpret_cast<int (*)(const char *, unsigned, long long)>(function("diskless_scratch_add"));
  const auto activate = reinterpret_cast<int (*)()>(function("diskless_activate"));
  if (root_add("/diskless") < 0 || scratch_add(path, 0755, 0) < 0 || activate() < 0) stop(path, "no scratch");
}

std::string made(const std::string &path) {
  if (::mkdir(path.c_str(), 0755) != 0 || ::chmod(path.c_str(), 0755) != 0) stop(path.c_str(), std::strerror(errno));
  return path;
}

// Paths of one length, so that both reach PATH_MAX together and symlinks have one size.
Setting setting_of(const Options &options) {
  const std::size_t length = std::max(options.reference.size(), options.subject.size()) + 8;
  const auto top = [=](const std::string &path) { return made(path + "/" + std::string(length - path.size(), 'p')); };
  return {{top(options.reference), top(options.subject)},
          {made(options.outside + "/1"), made(options.outside + "/2")},
          User(options.user),
          options.seed};
}

// In a process of its own, since a crash is a difference as well. Whether there was one.
bool differs_in_child(const Setting &setting, const Numbers &numbers, How how) {
  const pid_t child = ::fork();
  if (child == 0) {
    if (how == How::closely) std::freopen("/dev/null", "w", stderr);
    const std::string what = differs(setting, numbers, how);
    std::fprintf(stderr, "%s\n", what.c_str());
    ::_exit(what.empty() ? 0 : 1);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return status != 0;
}

// Which series a child is at, for who wants to know after its end.
std::uint64_t *shared_number() {
  void *memory = ::mmap(nullptr, sizeof(std::uint64_t), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) stop("mmap", std::strerror(errno));
  return static_cast<std::uint64_t *>(memory);
}

// One series after the other, all in one process, so that what the library keeps grows old.
int run_all(const Setting &setting, std::uint64_t steps, std::uint64_t *series) {
  for (; *series * steps_a_series < steps; ++*series) {
    const std::string what = differs(setting, numbers_of_series(*series), How::now_and_then);
    if (what.empty()) continue;
    std::fprintf(stderr, "%s\n", what.c_str());
    return 1;
  }
  return 0;
}

void explain(const Setting &setting, std::uint64_t series) {
  const auto still = [&](const Numbers &numbers) { return differs_in_child(setting, numbers, How::closely); };
  const Numbers all = numbers_of_series(series);
  if (!still(all)) {
    std::fprintf(stderr, "by itself the series does not differ: what came before it matters\n");
    return;
  }
  const Numbers numbers = shortened(all, still);
  std::fprintf(stderr, "the shortest series, of %zu operations:\n", numbers.size());
  differs_in_child(setting, numbers, How::closely_and_loud);
}

}  // namespace

int main(int count, char **words) {
  const Options options = options_of(count, words);
  if (options.library != nullptr) open_scratch(options.library, options.subject.c_str());
  const Setting setting = setting_of(options);
  std::uint64_t *const series = shared_number();
  const pid_t child = ::fork();
  if (child == 0) ::_exit(run_all(setting, options.steps, series));
  int status = 0;
  ::waitpid(child, &status, 0);
  if (status == 0) {
    std::printf("%llu steps without a difference\n", static_cast<unsigned long long>(options.steps));
    return 0;
  }
  std::fprintf(stderr, "seed %llu, series %llu: %s %d\n", static_cast<unsigned long long>(options.seed),
               static_cast<unsigned long long>(*series), WIFSIGNALED(status) ? "ended by signal" : "ended with",
               WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
  std::fflush(stderr);
  explain(setting, *series);
  return 1;
}
