// Lookup: follows a path as the kernel does, through the Tree and, where a shadow makes that necessary, through the
// real filesystem, and says where it ends.
#pragma once

#include <limits.h>

#include <string>
#include <string_view>

#include "roots.h"
#include "tree.h"

namespace diskless {

// What to do with a symlink at the end of the path. `parent`: the last component is only a name, to be made or taken
// away, and not even a slash behind it makes it more.
enum class Follow : unsigned char { no, yes, parent };

// What the last component was: some calls have an errno for each.
enum class Last : unsigned char { name, dot, dotdot, root };

// Limits of openat2(2), by its own bits.
inline constexpr unsigned resolve_no_xdev = 0x01;
inline constexpr unsigned resolve_no_magiclinks = 0x02;
inline constexpr unsigned resolve_no_symlinks = 0x04;
inline constexpr unsigned resolve_beneath = 0x08;
inline constexpr unsigned resolve_in_root = 0x10;
inline constexpr unsigned resolve_cached = 0x20;
// No bit of openat2: what realpath(3) does, which knows directories by their paths alone. It takes dots away itself and
// asks no directory for them, and each directory above a descriptor's must let itself be searched.
inline constexpr unsigned resolve_by_names = 0x10000;

class Lookup {
 public:
  // `path` is one that may_be_ours. Leaves errno as it was. While in_tree, the Lookup holds tree_lock shared, until
  // lock_for_change.
  Lookup(int dirfd, const char *path, Follow follow, unsigned resolve = 0);
  ~Lookup();
  Lookup(const Lookup &) = delete;
  Lookup &operator=(const Lookup &) = delete;

  bool in_tree() const { return in_tree_; }

  // In the Tree: 0, or why the path leads nowhere. A last name that is merely not there is no error: then `inode` is
  // null and `parent` is where it would be.
  int error() const { return error_; }
  Inode *inode() const { return inode_; }
  Inode *parent() const { return parent_; }
  std::string_view name() const { return name_; }
  Last last() const { return last_; }
  bool trailing_slash() const { return trailing_slash_; }
  // Whether a slash stands behind the last name of the path, or of a symlink there: open(2) makes no file of such a
  // name, wherever it may lead.
  bool slash_behind_name() const { return slash_behind_name_; }
  // For calls that want something there: `error`, ENOENT, or ENOTDIR for a slash behind a file.
  int error_of_existing() const;

  // Holds the lock exclusively from now on; false if names have changed in between, when nothing that was found may
  // be used any more and the look-up must be done again. For two look-ups the two together.
  [[nodiscard]] bool lock_for_change(Lookup *other = nullptr);

  // Waits, without the lock, for the bytes of the file that was found. Returns 0, when nothing that was found may be used
  // any more, or -errno.
  int wait_for_bytes();

  // The absolute path of what was found, without symlinks, by the name it was found under.
  std::string canonical() const;

  // Elsewhere: the arguments for the real call. Those given, unless the path led through the Tree.
  int dirfd() const { return dirfd_; }
  const char *path() const { return path_; }

 private:
  void start(int dirfd, const char *path);
  bool start_at_descriptor(const char *path);
  bool start_at_working_directory(const char *path);
  void start_in(std::uint64_t directory);
  void start_by_names();
  bool means_link_itself(const char *rest) const;
  void run();
  bool step_in_tree(std::string_view component, bool last);
  bool step_in_reality(std::string_view component, bool last);
  bool climb();
  bool follow_link(std::string_view target);
  bool enter(Inode &inode);
  void leave(std::string_view canonical);
  Overlay *overlay_here(std::string_view component);
  Inode *root_over(const Identity &directory);
  bool is_known_directory(std::string_view canonical);
  void fail(int error);
  void finish_elsewhere(std::string_view component);
  bool prepend(std::string_view text);
  bool follows(bool last) const;

  const Follow follow_;
  const unsigned resolve_;
  bool in_tree_ = false;
  bool locked_ = false;  // exclusively, by this one
  bool released_ = false;
  bool done_ = false;
  bool rewritten_ = false;  // the path given no longer leads there for the kernel
  bool trailing_slash_ = false;
  bool slash_behind_name_ = false;
  int error_ = 0;
  int links_ = 0;
  Last last_ = Last::root;

  Inode *at_ = nullptr;  // in the Tree: the directory (or, at the end, the inode) reached
  Inode *inode_ = nullptr;
  Inode *parent_ = nullptr;
  Inode *limit_ = nullptr;  // for resolve_beneath and resolve_in_root: where the look-up began
  std::string_view name_;

  int dirfd_;
  const char *path_;

  Identity here_{};         // in reality: which directory was reached, {} where that was not asked
  std::size_t length_ = 0;  // of canonical_; 0 is the root directory
  char *next_;              // what is left of the path: in pending_, up to its end
  char canonical_[PATH_MAX + NAME_MAX];
  char pending_[PATH_MAX];
};

}  // namespace diskless
