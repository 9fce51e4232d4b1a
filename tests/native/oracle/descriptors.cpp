// Descriptors: how they are made, copied and closed, and what they say of themselves.
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "operations.h"
#include "places.h"
#include "resolve.h"

namespace {

void open_path(World &world, Draw &draw, Report &report) {
  const Place place = world.draw_place(draw);
  const int flags = draw_open_flags(draw);
  const mode_t mode = draw.of(modes);
  const unsigned slot = world.draw_slot(draw, flags);
  const bool plain = draw.one_in(2);
  report.calls("open", place, OpenFlags{flags}, Octal{mode});
  if (world.leads_out(place)) return report.says(leads_out);
  if (may_open_link_itself(flags)) return report.says(link_itself);
  const int fd =
      place.is_alone() && plain ? ::open(place.text(), flags, mode) : ::openat(place.dirfd, place.text(), flags, mode);
  world.keep(slot, fd, report);
}

void create(World &world, Draw &draw, Report &report) {
  const Place place = world.draw_place(draw);
  const mode_t mode = draw.of(modes);
  const unsigned slot = world.draw_slot(draw, 0);
  report.calls("creat", place, Octal{mode});
  if (world.leads_out(place)) return report.says(leads_out);
  world.keep(slot, ::creat(place.alone().c_str(), mode), report);
}

void open_directory(World &world, Draw &draw, Report &report) {
  const Place place = world.draw_place(draw);
  const int flags = O_DIRECTORY | (draw.one_in(3) ? O_PATH : 0) | (draw.one_in(3) ? O_NOFOLLOW : 0);
  const unsigned slot = world.draw_slot(draw, flags);
  report.calls("open", place, OpenFlags{flags});
  if (world.leads_out(place)) return report.says(leads_out);
  world.keep(slot, ::openat(place.dirfd, place.text(), flags), report);
}

void open_unnamed(World &world, Draw &draw, Report &report) {
  const Place place = world.draw_place(draw);
  const int access = draw.of(access_modes);
  const int flags = O_TMPFILE | access | (draw.one_in(2) ? O_EXCL : 0);
  const mode_t mode = draw.of(modes);
  const unsigned slot = world.draw_slot(draw, flags);
  report.calls("open", place, OpenFlags{flags}, Octal{mode});
  if (world.leads_out(place)) return report.says(leads_out);
  world.keep(slot, ::openat(place.dirfd, place.text(), flags, mode), report);
}

void reopen(World &world, Draw &draw, Report &report) {
  const Handle handle = world.draw_handle(draw);
  const int flags = draw_open_flags(draw) & ~O_CREAT;
  const unsigned slot = world.draw_slot(draw, flags);
  report.calls("reopen", handle, OpenFlags{flags});
  if (may_open_link_itself(flags)) return report.says(link_itself);
  world.keep(slot, ::open(("/proc/self/fd/" + std::to_string(handle.fd)).c_str(), flags), report);
}

void duplicate(World &world, Draw &draw, Report &report) {
  const Handle handle = world.draw_handle(draw);
  const unsigned how = draw.below(3);
  const bool directory = is_directory(handle.fd);
  const unsigned slot = world.draw_slot(draw, directory ? O_DIRECTORY : 0);
  report.calls(how == 0 ? "dup" : how == 1 ? "F_DUPFD" : "F_DUPFD_CLOEXEC", handle);
  const int fd = how == 0 ? ::dup(handle.fd) : ::fcntl(handle.fd, how == 1 ? F_DUPFD : F_DUPFD_CLOEXEC, 500);
  if (fd >= 0) report.says(told((fd >= 500) == (how > 0)) + " " + told(::fcntl(fd, F_GETFD)));
  world.keep(slot, fd, report);
}

void flags_of(World &world, Draw &draw, Report &report) {
  const Handle handle = world.draw_handle(draw);
  report.calls("F_GETFL", handle);
  // Without O_DIRECTORY and O_NOFOLLOW, which a memfd cannot have been opened with.
  constexpr int kept = O_ACCMODE | O_APPEND | O_NONBLOCK | O_SYNC | O_PATH;
  const int flags = ::fcntl(handle.fd, F_GETFL);
  if (flags < 0) return report.fails();
  report.says(told(OpenFlags{flags & kept}) + " " + told(::fcntl(handle.fd, F_GETFD)));
}

void set_flags(World &world, Draw &draw, Report &report) {
  static constexpr int choices[] = {0, O_APPEND, O_NONBLOCK};
  const Handle handle = world.draw_handle(draw);
  const int flags = draw.of(choices);
  report.calls("F_SETFL", handle, OpenFlags{flags});
  report.gives(::fcntl(handle.fd, F_SETFL, flags));
}

void name_in_proc(World &world, Draw &draw, Report &report) {
  const Handle handle = world.draw_handle(draw);
  report.calls("readlink of /proc/self/fd", handle);
  if (!is_directory(handle.fd)) return report.says("one of a file's names");
  std::string name = world.say(directory_of(handle.fd));
  // Of one that was removed it is no longer known which one it had.
  if (name.ends_with(" (deleted)")) name = "(deleted)";
  report.says(name);
}

void same(World &world, Draw &draw, Report &report) {
  const Handle handle = world.draw_handle(draw);
  const Place place = world.draw_place(draw);
  struct stat one, other;
  report.calls("same", handle, place);
  if (world.leads_out(place)) return report.says(leads_out);
  if (::fstat(handle.fd, &one) != 0 || ::fstatat(place.dirfd, place.text(), &other, 0) != 0) return report.fails();
  report.says(told(one.st_dev == other.st_dev && one.st_ino == other.st_ino));
}

void lock_file(World &world, Draw &draw, Report &report) {
  static constexpr int choices[] = {LOCK_SH, LOCK_EX, LOCK_UN};
  const Handle handle = world.draw_handle(draw);
  const int operation = draw.of(choices);
  report.calls("flock", handle, operation);
  if (is_exception(handle, report)) return;
  report.gives(::flock(handle.fd, operation | LOCK_NB));
}

void lock_range(World &world, Draw &draw, Report &report) {
  static constexpr short kinds[] = {F_RDLCK, F_WRLCK, F_UNLCK};
  const Handle handle = world.draw_handle(draw);
  struct flock range {};
  range.l_type = draw.of(kinds);
  range.l_start = draw.of(sizes);
  range.l_len = 10;
  report.calls("F_OFD_SETLK", handle, int{range.l_type}, range.l_start);
  if (is_exception(handle, report)) return;
  report.gives(::fcntl(handle.fd, F_OFD_SETLK, &range));
}

constexpr Operation operations[] = {open_path,      open_path,    open_path, open_path, create,
                                    open_directory, open_unnamed, reopen,    duplicate, flags_of,
                                    set_flags,      name_in_proc, same,      lock_file, lock_range};

}  // namespace

std::span<const Operation> descriptor_operations() { return operations; }
