// Names: what makes, moves, takes away and follows them, and where the process stands among them.
#include <sys/stat.h>
#include <unistd.h>

#include <climits>
#include <cstdlib>

#include "operations.h"
#include "places.h"

namespace {

void make_directory(World &world, Draw &draw, Report &report) {
  const Place place = world.draw_place(draw);
  const mode_t mode = draw.of(modes);
  report.calls("mkdir", place, Octal{mode});
  if (world.leads_out(place)) return report.says(leads_out);
  report.gives(place.is_alone() ? ::mkdir(place.text(), mode) : ::mkdirat(place.dirfd, place.text(), mode));
}

void make_node(World &world, Draw &draw, Report &report) {
  const Place place = world.draw_place(draw);
  const mode_t mode = draw.of(modes) | (draw.one_in(2) ? S_IFREG : 0);
  report.calls("mknod", place, Octal{mode});
  if (world.leads_out(place)) return report.says(leads_out);
  report.gives(place.is_alone() ? ::mknod(place.text(), mode, 0) : ::mknodat(place.dirfd, place.text(), mode, 0));
}

void remove_directory(World &world, Draw &draw, Report &report) {
  const Place place = world.draw_place(draw);
  report.calls("rmdir", place);
  if (world.leads_out(place)) return report.says(leads_out);
  report.gives(place.is_alone() ? ::rmdir(place.text()) : ::unlinkat(place.dirfd, place.text(), AT_REMOVEDIR));
}

void remove_name(World &world, Draw &draw, Report &report) {
  const Place place = world.draw_place(draw);
  const bool any = draw.one_in(3);
  report.calls(any ? "remove" : "unlink", place);
  if (world.leads_out(place)) return report.says(leads_out);
  if (any) return report.gives(::remove(place.alone().c_str()));
  report.gives(place.is_alone() ? ::unlink(place.text()) : ::unlinkat(place.dirfd, place.text(), 0));
}

void rename_path(World &world, Draw &draw, Report &report) {
  const Place old_place = world.draw_place(draw), new_place = world.draw_place(draw);
  report.calls("rename", old_place, new_place);
  if (world.leads_out(old_place) || world.leads_out(new_place)) return report.says(leads_out);
  const bool alone = old_place.is_alone() && new_place.is_alone();
  report.gives(alone ? ::rename(old_place.text(), new_place.text())
                     : ::renameat(old_place.dirfd, old_place.text(), new_place.dirfd, new_place.text()));
}

void rename_with_flags(World &world, Draw &draw, Report &report) {
  static constexpr unsigned choices[] = {RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_EXCHANGE, 0,
                                         RENAME_NOREPLACE | RENAME_EXCHANGE};
  const Place old_place = world.draw_place(draw), new_place = world.draw_place(draw);
  const unsigned flags = draw.of(choices);
  report.calls("renameat2", old_place, new_place, flags);
  if (world.leads_out(old_place) || world.leads_out(new_place)) return report.says(leads_out);
  report.gives(::renameat2(old_place.dirfd, old_place.text(), new_place.dirfd, new_place.text(), flags));
}

void link_path(World &world, Draw &draw, Report &report) {
  const Place old_place = world.draw_place(draw), new_place = world.draw_place(draw);
  const bool follow = draw.one_in(2);
  report.calls(follow ? "linkat AT_SYMLINK_FOLLOW" : "link", old_place, new_place);
  if (world.leads_out(old_place) || world.leads_out(new_place)) return report.says(leads_out);
  const bool alone = old_place.is_alone() && new_place.is_alone() && !follow;
  report.gives(alone ? ::link(old_place.text(), new_place.text())
                     : ::linkat(old_place.dirfd, old_place.text(), new_place.dirfd, new_place.text(),
                                follow ? AT_SYMLINK_FOLLOW : 0));
}

void link_handle(World &world, Draw &draw, Report &report) {
  const Handle handle = world.draw_handle(draw);
  const Place place = world.draw_place(draw);
  const bool empty_path = draw.one_in(2);
  report.calls(empty_path ? "linkat AT_EMPTY_PATH" : "linkat /proc/self/fd", handle, place);
  if (world.leads_out(place)) return report.says(leads_out);
  if (!empty_path) {
    const std::string link = "/proc/self/fd/" + std::to_string(handle.fd);
    return report.gives(::linkat(AT_FDCWD, link.c_str(), place.dirfd, place.text(), AT_SYMLINK_FOLLOW));
  }
  if (!may_link_by_empty_path(world)) return report.says("only root may");
  report.gives(::linkat(handle.fd, "", place.dirfd, place.text(), AT_EMPTY_PATH));
}

void make_symlink(World &world, Draw &draw, Report &report) {
  const std::string target = draw_target(draw);
  const Place place = world.draw_place(draw);
  report.calls("symlink", target, place);
  if (world.leads_out(place)) return report.says(leads_out);
  const std::string spelled = world.spell(target);
  report.gives(place.is_alone() ? ::symlink(spelled.c_str(), place.text())
                                : ::symlinkat(spelled.c_str(), place.dirfd, place.text()));
}

void read_symlink(World &world, Draw &draw, Report &report) {
  const Place place = world.draw_place(draw);
  const bool in_part = draw.one_in(4);
  report.calls("readlink", place, in_part);
  if (world.leads_out(place)) return report.says(leads_out);
  char target[PATH_MAX];
  const std::size_t room = in_part ? 1 : sizeof target;
  const ssize_t size =
      place.is_alone() ? ::readlink(place.text(), target, room) : ::readlinkat(place.dirfd, place.text(), target, room);
  if (size < 0) return report.fails();
  report.says(world.say(std::string(target, static_cast<std::size_t>(size))));
}

void real_path(World &world, Draw &draw, Report &report) {
  const Place place = world.draw_place(draw);
  report.calls("realpath", place);
  if (world.leads_out(place)) return report.says(leads_out);
  if (place.alone().size() >= PATH_MAX) return report.says(too_long_for_realpath);
  char *found = ::realpath(place.alone().c_str(), nullptr);
  if (found == nullptr) return report.fails();
  report.says(world.say(found));
  std::free(found);
}

void set_umask(World &, Draw &draw, Report &report) {
  const mode_t mask = draw.of(masks);
  report.calls("umask", Octal{mask});
  report.says(told(Octal{::umask(mask)}));
}

// Which name it gets is random, so it is given another at once.
void make_temporary(World &world, Draw &draw, Report &report) {
  const Place beside = world.draw_place(draw), to = world.draw_place(draw);
  const bool directory = draw.one_in(2);
  report.calls(directory ? "mkdtemp beside" : "mkstemp beside", beside, to);
  if (world.leads_out(beside) || world.leads_out(to)) return report.says(leads_out);
  std::string name = beside.alone() + "XXXXXX";
  const std::size_t before = name.size();
  const int fd = directory ? -1 : ::mkstemp(name.data());
  if (directory ? ::mkdtemp(name.data()) == nullptr : fd < 0) return report.fails();
  struct stat status;
  if (::lstat(name.c_str(), &status) == 0) report.says(told(Octal{status.st_mode}));
  report.says(told(name.size() == before && !name.ends_with("XXXXXX")));
  report.gives(::renameat(AT_FDCWD, name.c_str(), to.dirfd, to.text()));
  ::remove(name.c_str());
  if (fd >= 0) report.gives(::close(fd));
}

void change_directory(World &world, Draw &draw, Report &report) {
  const Place place = world.draw_place(draw);
  const Handle handle = world.draw_directory(draw);
  const bool by_path = draw.one_in(2);
  if (by_path) {
    report.calls("chdir", place);
    if (world.leads_out(place)) return report.says(leads_out);
  } else {
    report.calls("fchdir", handle);
  }
  if (report.succeeds((by_path ? ::chdir(place.alone().c_str()) : ::fchdir(handle.fd)) == 0)) world.stand_here();
}

void where(World &world, Draw &draw, Report &report) {
  static constexpr std::size_t rooms[] = {PATH_MAX, PATH_MAX, 1};
  const std::size_t room = draw.of(rooms);
  report.calls("getcwd", room);
  char here[PATH_MAX];
  if (::getcwd(here, room) == nullptr) return report.fails();
  report.says(world.say(here));
}

constexpr Operation operations[] = {
    make_directory, make_directory,    make_node,      remove_directory, remove_name,  remove_name,  rename_path,
    rename_path,    rename_with_flags, link_path,      link_handle,      make_symlink, make_symlink, read_symlink,
    real_path,      set_umask,         make_temporary, change_directory, where};

}  // namespace

std::span<const Operation> name_operations() { return operations; }
