// The Tree: one process's RAM filesystem. Inodes are directories, files or symlinks; names are entries of directories,
// so a file may have several. A file's bytes, size and times are its memfd's.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <ctime>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "gate.h"
#include "lock.h"
#include "volume.h"

namespace diskless {

struct Inode;
struct Overlay;

// Inodes but those of files are numbered from here on, out of the way of memfds, which count from 1 on the same device.
inline constexpr std::uint64_t first_number = std::uint64_t{1} << 40;

// What the kernel takes for the same file.
struct Identity {
  dev_t device = 0;
  ino_t number = 0;
  bool operator==(const Identity &) const = default;
};

// Readers of a directory remember the cookie of the last entry they saw, so entries may come and go meanwhile and
// none of the others is skipped or seen twice. "." is 1 and ".." is 2.
using Cookie = std::uint64_t;
inline constexpr Cookie first_cookie = 3;

struct Entry {
  std::string name;
  Inode *inode;
};
using Entries = std::map<Cookie, Entry>;

struct Inode {
  enum class Kind : unsigned char { directory, file, symlink, socket };

  Kind kind = Kind::file;
  Volume *volume = &read_only_volume;
  // Of directories and symlinks. A file of a scratch has these in its memfd, where the kernel keeps them right also
  // when the last name is gone; a Mount's has its mode here, since a memfd may refuse execute bits.
  mode_t mode = 0;
  uid_t owner = 0;
  gid_t group = 0;
  timespec accessed{}, modified{};
  timespec changed{};        // also of a file, where a name of it came or went: a memfd does not see that
  std::uint64_t number = 0;  // of a file: that of its memfd
  std::vector<std::pair<Inode *, std::string>> names;  // in which directories, under which names

  int fd = -1;                 // file: leads to its memfd
  bool owns_fd = false;        // file: false where `fd` belongs to the caller of diskless_set_file
  bool execute_here = false;   // file of a scratch: its memfd refuses execute bits, which are kept in `mode`
  bool was_unnamed = false;    // file of a scratch: made by O_TMPFILE
  bool placed = false;         // file: of a Mount's kind, but in a scratch as if it were one of its own
  bool group_here = false;     // file of a scratch: its maker is not in the group of its directory, kept in `group`
  Identity memory{};           // file: what that number stood for when it was named
  const Gate *gate = nullptr;  // file: where to wait for its bytes

  std::string target;  // symlink; of a socket its abstract address

  Entries entries;                                                    // directory
  std::unordered_map<std::string_view, Entries::iterator> by_name{};  // directory: views into `entries`
  std::map<std::string, std::string> attributes;                      // directory: extended ones
  std::size_t subdirectories = 0;                                     // directory
  std::uint64_t was_below = 0;          // directory: the number of the one it was in, once it is removed
  bool implied = false;                 // directory: made for a root below it, and gone with the last one
  Overlay *overlay = nullptr;           // directory: not of the Tree, but what an Overlay lays over another directory
  Overlay *above = nullptr;             // directory: the Overlay that lies over it
  mutable std::atomic<int> opened{-1};  // directory: a number that it was opened under, and may be so still

  bool is_directory() const { return kind == Kind::directory; }
  bool is_file() const { return kind == Kind::file; }
  bool is_symlink() const { return kind == Kind::symlink; }
  bool is_socket() const { return kind == Kind::socket; }

  bool is_removed() const { return names.empty() && overlay == nullptr; }
  // A directory has one name, and so one parent; a removed one has none.
  Inode *parent() const { return names.empty() ? nullptr : names.front().first; }
  Inode *find(std::string_view name) const;
  // The same as a path finds it: the root that lies over the name goes first.
  Inode *find_visible(std::string_view name) const;
};

// Whether names and links cross from one volume to another. A removed directory has none any more, and is asked next.
inline bool are_apart(const Inode &one, const Inode &other) {
  return one.volume != other.volume && !one.is_removed() && !other.is_removed();
}

// What permissions are decided by, wherever the inode keeps it.
struct Attributes {
  mode_t mode;
  uid_t owner;
  gid_t group;
};

// Guards every Inode, Overlay and Root, and what the functions below touch. Taken shared by look-ups and exclusive by
// whatever changes names; around fork by pthread_atfork.
extern Lock tree_lock;

// The device of all memfds: the kernel's internal tmpfs. 0 until the first root is added.
extern std::atomic<dev_t> memory_device;

// Counts the changes of names, so that a reader that becomes a writer sees whether what it found still holds.
extern std::uint64_t names_version;

// tree_lock held exclusively, and afterwards the files let go of meanwhile: freeing a large one takes the kernel long.
void begin_change();
void end_change();

class Change {
 public:
  Change() { begin_change(); }
  ~Change() { end_change(); }
  Change(const Change &) = delete;
  Change &operator=(const Change &) = delete;
};

// The functions that follow want the lock held, exclusively where they change something.

Inode *make_directory(mode_t mode, timespec modified);
Inode *make_symlink(std::string_view target);
// A socket, which the kernel knows by an abstract address.
Inode *make_socket(mode_t mode, std::string_view address);
// A file of a scratch, whose memfd `fd` leads to and which owns it from now on.
Inode *make_file(int fd, const Identity &memory);
// The inode of the memfd `fd`: the one it has already, or a new one. Null with errno where `fd` is none of a file.
Inode *file_of(int fd);
// Gives `inode` a name in `directory`, which has none such yet.
void link(Inode &directory, std::string_view name, Inode &inode);
// Takes the name away, and the inode with it if that was the last.
void unlink(Inode &directory, std::string_view name);
// The same, with everything below.
void unlink_all(Inode &directory, std::string_view name);
// Nothing keeps a directory without a name any more.
void forget_removed(Inode *directory);
// Moves a name, away from what has the new one so far.
void move(Inode &from, std::string_view name, Inode &to, std::string_view new_name);
void exchange(Inode &from, std::string_view name, Inode &to, std::string_view other_name);
// A name of the inode comes or goes: to be called before.
void mark_changed(Inode &inode);

Attributes attributes_of(const Inode &inode);
// Whether something is mounted here, as on the root of a volume or of a shadow.
bool is_mount_point(const Inode &inode);

Inode *find_file(const Identity &memory);
Inode *find_directory(std::uint64_t number);
// To be called before a volume goes: directories removed from it, which somebody may have open, outlive it.
void forget_volume(const Volume &volume);
// Whether a file made by O_TMPFILE has had a name, and so may not get one again.
bool had_name(const Identity &memory);
// What the files of a scratch take.
long long used_bytes(const Volume &volume);

// The directory above, also where a root lies over one of the Tree; null above a root over a real one.
Inode *directory_above(const Inode &directory);

// The absolute path: real where an Overlay lies, then the names. Of a file with several names one of them.
std::string path_of(const Inode &inode);

timespec now();

// Opens the file at `path` for the loader of shared objects. Returns the descriptor, `not_in_tree`, or -errno.
// The caller must not let the number be used again while the object is loaded: the loader takes objects of one name
// for one, and this one's name is /proc/self/fd/<number>.
inline constexpr int not_in_tree = -100000;
int open_for_dlopen(const char *path);

}  // namespace diskless
