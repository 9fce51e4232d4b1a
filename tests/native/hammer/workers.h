// Workers: threads that change one scratch, all at once, by calls of libc.
#pragma once

#include <string>

// What the threads share, and a file that stays, with one letter in it.
inline const std::string root = "/diskless/hammered";
inline const std::string stays = root + "/stays";

class Worker {
 public:
  explicit Worker(unsigned seed) : state_(seed * 2654435761u + 1) {}

  // Does so many random calls.
  void work(int count);
  // A file that it keeps open, perhaps one without a name by now; or -1.
  int held() const { return held_; }
  void let_go();

 private:
  unsigned below(unsigned end);
  std::string path();
  void hold(int fd);
  void call(unsigned what);

  unsigned state_;
  int held_ = -1;
};

// Safe in a signal handler: opens, reads and writes the file that stays.
void use_what_stays();
void list(const std::string &directory);
// Everything below the root, but not the root itself.
void remove_everything();
