// What is seen of files, in words in which two filesystems can agree: no inode numbers, no clock readings.
#pragma once

#include <sys/stat.h>

#include <string>
#include <vector>

// Tells times before the last mark from times after it. One for both worlds.
class Clock {
 public:
  // All that happened is before this moment, all that will happen after it.
  void mark();
  std::string describe(timespec time) const;

 private:
  timespec mark_{1L << 40, 0};
};
extern Clock the_clock;

// Not compared: a directory's size (20 bytes an entry on a tmpfs, on no other filesystem), and whether atime is before
// or after the mark (a tmpfs is mounted relatime, a memfd is not, and either is right).
std::string describe(const struct stat &status);

class World;

// All that there is, one line a path, sorted.
std::vector<std::string> look(const World &world);

// The first line in which two looks differ, as "theirs != ours", or nothing.
std::string difference(const std::vector<std::string> &theirs, const std::vector<std::string> &ours);

// A directory's entries but for "." and "..", sorted, or an error's name.
std::vector<std::string> names_in(const std::string &directory);
// The extended attributes, by name.
std::string attributes_of(const std::string &path);
