// Threads that change one scratch while others open and close Mounts and scratches, signals are handled and children
// forked. In rounds: after each, all stand still, and what has to hold of a scratch is looked at.
//
//     hammer LIBRARY SHADOW ROUNDS
//
// SHADOW is the path of an empty directory. Ends with 0, or says what was wrong. Under a deadlock an alarm ends it.
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "invariants.h"
#include "library.h"
#include "workers.h"

namespace {

constexpr int workers = 8, openers = 2, calls_a_round = 300;

struct Hammer {
  Library library;
  std::string shadow;
  int rounds;
  pthread_barrier_t barrier;
  std::vector<Worker> workers;
};

void meet(Hammer *hammer) { ::pthread_barrier_wait(&hammer->barrier); }

struct Thread {
  pthread_t id;
  Hammer *hammer;
  int number = 0;
};

// Works from one meeting to the next; in between the round is looked at.
void *work(void *argument) {
  const auto [id, hammer, number] = *static_cast<Thread *>(argument);
  for (int round = 0; round < hammer->rounds; ++round) {
    meet(hammer);
    hammer->workers[static_cast<std::size_t>(number)].work(calls_a_round);
    meet(hammer);
  }
  return nullptr;
}

// A file of a Mount, and a scratch at a path, as long as each is needed.
void open_and_close(const Hammer &hammer, int number, const std::string &scratch) {
  const Library &library = hammer.library;
  const std::string name = "/diskless/mounted/" + std::to_string(number) + "/file", inside = scratch + "/d";
  const int fd = library.memfd("diskless");
  if (fd < 0 || ::write(fd, "m", 1) != 1 || library.seal(fd) < 0) fail("memfd");
  if (library.activate() < 0 || library.set_file(name.c_str(), fd, 0444, 1) < 0) fail("set_file", name.c_str());
  if (library.scratch_add(scratch.c_str(), 0755, 1 << 20) < 0) fail("scratch_add", scratch.c_str());
  if (::mkdir(inside.c_str(), 0755) != 0) fail("mkdir", inside.c_str());
  const int own = ::open((inside + "/f").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
  if (own < 0 || ::write(own, "own", 3) != 3) fail("write", inside.c_str());
  const int found = ::open(name.c_str(), O_RDONLY | O_CLOEXEC);
  char letter = 0;
  if (found < 0 || ::read(found, &letter, 1) != 1 || letter != 'm') fail("read", name.c_str());
  ::close(found);
  if (library.scratch_remove(scratch.c_str()) < 0) fail("scratch_remove", scratch.c_str());
  if (::write(own, "still", 5) != 5) fail("write to what is gone", scratch.c_str());
  ::close(own);
  if (library.remove(name.c_str()) < 0 || library.deactivate() < 0 || library.release(fd) < 0)
    fail("remove", name.c_str());
}

void *open_and_close_for_ever(void *argument) {
  const auto [id, hammer, number] = *static_cast<Thread *>(argument);
  const std::string scratches[] = {"/diskless/other-" + std::to_string(number),
                                   hammer->shadow + "/missing/" + std::to_string(number),
                                   root + "/within-" + std::to_string(number)};
  for (int round = 0; round < hammer->rounds; ++round) {
    meet(hammer);
    for (int i = 0; i < 12; ++i) open_and_close(*hammer, number, scratches[i % 3]);
    ::remove(scratches[2].c_str());  // the mount point
    meet(hammer);
  }
  return nullptr;
}

// AddressSanitizer's malloc has one lock, which the thread that is interrupted may hold while others wait for it that
// change names. Without it the library has memory of its own for them.
#ifdef __SANITIZE_ADDRESS__
constexpr bool handles_signals = false;
#else
constexpr bool handles_signals = true;
#endif

void on_signal(int) {
  const int before = errno;
  use_what_stays();
  errno = before;
}

// A child has the names as they were, and changes its own.
void fork_once(Hammer *hammer) {
  const pid_t child = ::fork();
  if (child == 0) {
    ::alarm(60);
    hammer->workers.front().work(20);
    list(root);
    ::_exit(0);
  }
  int status = 0;
  if (::waitpid(child, &status, 0) != child || status != 0) fail("the child failed");
}

void make_what_stays() {
  const int fd = ::open(stays.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
  if (fd < 0 || ::write(fd, "s", 1) != 1 || ::close(fd) != 0) fail("what stays");
}

void check_round(const Hammer &hammer, int round) {
  std::vector<int> held;
  for (const Worker &each : hammer.workers) held.push_back(each.held());
  const std::string wrong = broken_invariant(root, held);
  if (wrong.empty()) return;
  std::fprintf(stderr, "after round %d:\n%s", round, wrong.c_str());
  std::_Exit(1);
}

// Whoever has activated it sees it, also while others deactivate it.
void *activate_and_deactivate(void *argument) {
  const Library &library = static_cast<Thread *>(argument)->hammer->library;
  for (int i = 0; i < 200; ++i) {
    if (library.activate() < 0) fail("activate");
    if (::access(root.c_str(), F_OK) != 0) fail("not seen");
    if (library.deactivate() < 0) fail("deactivate");
  }
  return nullptr;
}

void toggle(Hammer *hammer) {
  Thread threads[4];
  for (Thread &each : threads) {
    each.hammer = hammer;
    ::pthread_create(&each.id, nullptr, activate_and_deactivate, &each);
  }
  for (const Thread &each : threads) ::pthread_join(each.id, nullptr);
}

void run(Hammer *hammer) {
  std::vector<Thread> threads(workers + openers);
  for (int i = 0; i < workers + openers; ++i) {
    Thread &each = threads[static_cast<std::size_t>(i)];
    each.hammer = hammer;
    each.number = i;
    ::pthread_create(&each.id, nullptr, i < workers ? work : open_and_close_for_ever, &each);
  }
  for (int round = 0; round < hammer->rounds; ++round) {
    meet(hammer);
    for (int i = 0; i < 40; ++i) {
      if (handles_signals) ::pthread_kill(threads[static_cast<std::size_t>(i % (workers + openers))].id, SIGUSR1);
      ::usleep(200);
    }
    fork_once(hammer);
    meet(hammer);
    check_round(*hammer, round);
    if (round % 4 == 3) {
      remove_everything();
      make_what_stays();
      check_round(*hammer, round);
    }
  }
  for (const Thread &each : threads) ::pthread_join(each.id, nullptr);
}

std::vector<std::string> open_descriptors() {
  std::vector<std::string> found;
  DIR *stream = ::opendir("/proc/self/fd");
  while (const dirent *entry = ::readdir(stream)) {
    char target[256];
    const ssize_t length = ::readlinkat(::dirfd(stream), entry->d_name, target, sizeof target);
    if (length > 0 && std::atoi(entry->d_name) != ::dirfd(stream)) {
      found.push_back(std::string(entry->d_name) + " " + std::string(target, static_cast<std::size_t>(length)));
    }
  }
  ::closedir(stream);
  return found;
}

}  // namespace

// ThreadSanitizer remembers descriptors by the calls that open and close them, of which it does not see those that are
// redirected: what it says of descriptors is not so.
extern "C" const char *__tsan_default_suppressions() {
  return "race_top:close\nrace_top:closedir\nrace_top:read\nrace_top:pread\nrace_top:write\nrace_top:pwrite\n";
}

int main(int count, char **words) {
  if (count != 4) return 2;
  ::alarm(600);
  Hammer hammer{Library(words[1]), words[2], std::atoi(words[3]), {}, {}};
  const std::vector<std::string> before = open_descriptors();
  const Library &library = hammer.library;
  if (library.root_add("/diskless") < 0 || library.scratch_add(root.c_str(), 0755, 256 << 20) < 0) fail("scratch_add");
  toggle(&hammer);
  if (library.activate() < 0) fail("activate");
  make_what_stays();
  ::signal(SIGUSR1, on_signal);
  ::pthread_barrier_init(&hammer.barrier, nullptr, workers + openers + 1);
  for (unsigned i = 0; i < workers; ++i) hammer.workers.emplace_back(i + 1);
  run(&hammer);
  ::signal(SIGUSR1, SIG_DFL);
  for (Worker &each : hammer.workers) each.let_go();
  remove_everything();
  if (used_bytes(root) != 0) fail("bytes are left");
  if (library.scratch_remove(root.c_str()) < 0 || library.deactivate() < 0) fail("scratch_remove");
  if (::access(root.c_str(), F_OK) == 0) fail("it is still there");
  for (const std::string &each : open_descriptors()) {
    if (std::find(before.begin(), before.end(), each) == before.end()) fail("still open", each.c_str());
  }
  return 0;
}
