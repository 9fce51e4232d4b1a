// World: one of the two trees, and what is open in it.
#pragma once

#include <dirent.h>
#include <fcntl.h>

#include <set>
#include <string>
#include <utility>
#include <vector>

#include "draw.h"
#include "report.h"
#include "user.h"

// A path as calls take it: with the descriptor that it is relative to.
struct Place {
  int dirfd;
  std::string path;
  std::string shown;
  int from = -1;  // the descriptor that it begins at, also by its link in /proc

  const char *text() const { return path.c_str(); }
  bool is_alone() const { return dirfd == AT_FDCWD; }
  // As one path, for calls that take no descriptor.
  std::string alone() const { return is_alone() ? path : "/proc/self/fd/" + std::to_string(dirfd) + "/" + path; }
};
inline std::string told(const Place &place) { return place.shown; }

// An open descriptor, and the number of its slot.
struct Handle {
  int fd;
  unsigned slot;
};
inline std::string told(Handle handle) { return "#" + std::to_string(handle.slot); }

// A directory stream that is read a little at a time while names come and go. Their order is free, and so is whether
// one that came or went meanwhile is seen. One that stayed must be seen once.
struct Stream {
  DIR *stream = nullptr;
  std::set<std::pair<std::string, ino_t>> stayed;
  std::vector<std::string> read;
};

class World {
 public:
  // Makes the tree below `base`, and `outside`, where symlinks lead out to.
  World(const std::string &base, const std::string &outside, const User &user, bool is_first);
  ~World();
  World(const World &) = delete;
  World &operator=(const World &) = delete;

  // Between these the process has this world's working directory and umask. Whether it could be entered.
  bool enter();
  void leave();

  // The draws of an operation's arguments.
  Place draw_place(Draw &draw);  // below the root, or relative to something
  Handle draw_handle(Draw &draw);
  Handle draw_directory(Draw &draw);  // preferably
  Stream &draw_stream(Draw &draw);
  // Where a descriptor goes that is opened.
  unsigned draw_slot(Draw &draw, int open_flags);
  void keep(unsigned slot, int fd, Report &report);

  // Whether the path leaves the places that are the test's to change: the way up is open to paths with `..`.
  bool leads_out(const Place &place) const;

  // The process does, and this world's operations will.
  void stand_here();
  // Notes what the directory holds that a stream begins to read, and after each operation what of it is still there.
  void begin(Stream &stream) const;
  void settle_streams();

  // A path, or a symlink's target, as both worlds call it.
  std::string say(std::string text) const;
  std::string link_at(const std::string &path) const;
  // What '@' and '%' in a target stand for.
  std::string spell(std::string target) const;

  const std::string &root() const { return root_; }
  const std::string &base() const { return base_; }
  const std::string &outside() const { return outside_; }
  const User &user() const { return user_; }
  // Of the two.
  bool is_first() const { return is_first_; }

 private:
  static constexpr unsigned directories = 4, slots = 10, streams = 2;

  bool path_leads_out(const std::string &path) const;
  void furnish();
  void own(const std::string &path) const;

  const User &user_;
  std::string base_, root_, outside_;
  bool is_first_;
  int fds_[slots];
  Stream streams_[streams];
  int standing_ = -1;
  mode_t mask_ = 022;
};

bool is_directory(int fd);
