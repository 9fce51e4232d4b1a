// Metadata: what asks for or changes what is known of a file.
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "look.h"
#include "operations.h"
#include "places.h"

namespace {

int draw_no_follow(Draw &draw) { return draw.one_in(2) ? AT_SYMLINK_NOFOLLOW : 0; }

void status(World &world, Draw &draw, Report &report) {
  const Place place = world.draw_place(draw);
  const int flags = draw_no_follow(draw);
  report.calls(flags == 0 ? "stat" : "lstat", place);
  if (world.leads_out(place)) return report.says(leads_out);
  struct stat found;
  const int result = !place.is_alone() ? ::fstatat(place.dirfd, place.text(), &found, flags)
                     : flags == 0      ? ::stat(place.text(), &found)
                                       : ::lstat(place.text(), &found);
  if (result != 0) return report.fails();
  report.says(describe(found));
}

void status_of_descriptor(World &world, Draw &draw, Report &report) {
  const Handle handle = world.draw_handle(draw);
  report.calls("fstat", handle);
  struct stat found;
  if (::fstat(handle.fd, &found) != 0) return report.fails();
  report.says(describe(found));
}

void extended_status(World &world, Draw &draw, Report &report) {
  static constexpr int choices[] = {0, AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH, AT_STATX_FORCE_SYNC};
  static constexpr unsigned masks_of_fields[] = {STATX_BASIC_STATS, STATX_BASIC_STATS | STATX_BTIME, STATX_TYPE, 0,
                                                 0x80000000};
  const Place place = world.draw_place(draw);
  const int flags = draw.of(choices);
  const unsigned mask = draw.of(masks_of_fields);
  report.calls("statx", place, flags, mask);
  if (world.leads_out(place)) return report.says(leads_out);
  struct statx found;
  if (::statx(place.dirfd, place.text(), flags, mask, &found) != 0) return report.fails();
  const auto not_of_mounts = ~static_cast<unsigned long long>(STATX_ATTR_MOUNT_ROOT);
  report.says(told(found.stx_mask & STATX_BASIC_STATS) + " " +
              told(static_cast<long>(found.stx_attributes & not_of_mounts)) + " " +
              told(static_cast<long>(found.stx_attributes_mask & not_of_mounts)) + " " + told(Octal{found.stx_mode}) +
              " " + told(found.stx_nlink) + " " + told(found.stx_uid) + ":" + told(found.stx_gid));
}

void ask_access(World &world, Draw &draw, Report &report) {
  static constexpr int choices[] = {0, 0, AT_EACCESS, AT_SYMLINK_NOFOLLOW, AT_EACCESS | AT_SYMLINK_NOFOLLOW};
  const Place place = world.draw_place(draw);
  const int wanted = static_cast<int>(draw.below(9)), flags = draw.of(choices);
  const bool plain = draw.one_in(2);
  report.calls(plain ? "access" : "faccessat", place, wanted, flags);
  if (world.leads_out(place)) return report.says(leads_out);
  report.gives(plain ? ::access(place.alone().c_str(), wanted) : ::faccessat(place.dirfd, place.text(), wanted, flags));
}

void change_mode(World &world, Draw &draw, Report &report) {
  const Place place = world.draw_place(draw);
  const mode_t mode = draw.of(modes);
  const int flags = draw.one_in(8) ? AT_SYMLINK_NOFOLLOW : 0;
  report.calls("chmod", place, Octal{mode}, flags);
  if (world.leads_out(place)) return report.says(leads_out);
  report.gives(flags == 0 && place.is_alone() ? ::chmod(place.text(), mode)
                                              : ::fchmodat(place.dirfd, place.text(), mode, flags));
}

void change_mode_of_descriptor(World &world, Draw &draw, Report &report) {
  const Handle handle = world.draw_handle(draw);
  const mode_t mode = draw.of(modes);
  report.calls("fchmod", handle, Octal{mode});
  report.gives(::fchmod(handle.fd, mode));
}

void change_owner(World &world, Draw &draw, Report &report) {
  const Place place = world.draw_place(draw);
  const uid_t owner = static_cast<uid_t>(draw.of(owners));
  const gid_t group = static_cast<gid_t>(draw.of(owners));
  const int flags = draw_no_follow(draw);
  report.calls(flags == 0 ? "chown" : "lchown", place, owner, group);
  if (world.leads_out(place)) return report.says(leads_out);
  report.gives(!place.is_alone() ? ::fchownat(place.dirfd, place.text(), owner, group, flags)
               : flags == 0      ? ::chown(place.text(), owner, group)
                                 : ::lchown(place.text(), owner, group));
}

void change_owner_of_descriptor(World &world, Draw &draw, Report &report) {
  const Handle handle = world.draw_handle(draw);
  const uid_t owner = static_cast<uid_t>(draw.of(owners));
  const gid_t group = static_cast<gid_t>(draw.of(owners));
  report.calls("fchown", handle, owner, group);
  report.gives(::fchown(handle.fd, owner, group));
}

// All long past, so that they are told apart from the time of the test.
constexpr timespec times[] = {{0, 0},
                              {0, 1},
                              {1, 7},
                              {123'456'789, 12'345'678},
                              {-2, 500'000'000},
                              {5, UTIME_NOW},
                              {5, UTIME_OMIT},
                              {5, 1'000'000'000}};

std::string told_times(const timespec (&both)[2], bool null) {
  if (null) return "now";
  return told(both[0].tv_sec) + "." + told(both[0].tv_nsec) + " " + told(both[1].tv_sec) + "." + told(both[1].tv_nsec);
}

void set_times(World &world, Draw &draw, Report &report) {
  const Place place = world.draw_place(draw);
  const timespec accessed = draw.of(times), modified = draw.of(times);
  const timespec both[2] = {accessed, modified};
  const bool null = draw.one_in(5);
  const int flags = draw_no_follow(draw);
  report.calls("utimensat", place, told_times(both, null), flags);
  if (world.leads_out(place)) return report.says(leads_out);
  report.gives(::utimensat(place.dirfd, place.text(), null ? nullptr : both, flags));
}

void set_times_of_descriptor(World &world, Draw &draw, Report &report) {
  const Handle handle = world.draw_handle(draw);
  const timespec accessed = draw.of(times), modified = draw.of(times);
  const timespec both[2] = {accessed, modified};
  const bool null = draw.one_in(5);
  report.calls("futimens", handle, told_times(both, null));
  report.gives(::futimens(handle.fd, null ? nullptr : both));
}

// It takes some milliseconds.
void mark(World &world, Draw &draw, Report &report) {
  report.calls("mark");
  if (draw.one_in(3) && world.is_first()) the_clock.mark();
}

void resize(World &world, Draw &draw, Report &report) {
  const Place place = world.draw_place(draw);
  const off_t size = draw_offset(draw);
  report.calls("truncate", place, size);
  if (world.leads_out(place)) return report.says(leads_out);
  report.gives(::truncate(place.alone().c_str(), size));
}

void space(World &world, Draw &draw, Report &report) {
  const Place place = world.draw_place(draw);
  report.calls("statvfs", place);
  if (world.leads_out(place)) return report.says(leads_out);
  struct statvfs found;
  if (::statvfs(place.alone().c_str(), &found) != 0) return report.fails();
  report.says(told(found.f_bsize) + " " + told(found.f_frsize) + " " + told(found.f_namemax) + " " +
              told(found.f_flag & ST_RDONLY));
}

// What extended attributes are asked of: a path, the same without following, or a descriptor.
struct Target {
  enum class Kind { followed, itself, descriptor } kind;
  std::string path;
  Handle handle;
  bool leads_out;
};

Target draw_attribute_target(World &world, Draw &draw, std::string *shown) {
  const Place place = world.draw_place(draw);
  const Handle handle = world.draw_handle(draw);
  const auto kind = static_cast<Target::Kind>(draw.below(3));
  const bool by_path = kind != Target::Kind::descriptor;
  *shown = by_path ? place.shown + (kind == Target::Kind::itself ? " itself" : "") : told(handle);
  return {kind, place.alone(), handle, by_path && world.leads_out(place)};
}

std::string draw_attribute(Draw &draw) {
  static constexpr const char *names[] = {"user.a",     "user.b",   "user.a", "user.", "trusted.a",
                                          "security.a", "system.a", "a",      ""};
  return draw.one_in(12) ? "user." + std::string(draw.one_in(2) ? 250 : 251, 'n') : draw.of(names);
}

void set_attribute(World &world, Draw &draw, Report &report) {
  static constexpr int choices[] = {0, 0, XATTR_CREATE, XATTR_REPLACE, 4};
  std::string shown;
  const Target target = draw_attribute_target(world, draw, &shown);
  const std::string name = draw_attribute(draw), value = draw_bytes(draw);
  const int flags = draw.of(choices);
  report.calls("setxattr", shown.c_str(), name, value, flags);
  if (target.leads_out) return report.says(leads_out);
  const auto set = [&](auto call, auto where) {
    report.gives(call(where, name.c_str(), value.data(), value.size(), flags));
  };
  switch (target.kind) {
    case Target::Kind::followed: return set(::setxattr, target.path.c_str());
    case Target::Kind::itself: return set(::lsetxattr, target.path.c_str());
    case Target::Kind::descriptor: return set(::fsetxattr, target.handle.fd);
  }
}

void get_attribute(World &world, Draw &draw, Report &report) {
  static constexpr std::size_t rooms[] = {0, 1, 70'000, 70'000};
  std::string shown;
  const Target target = draw_attribute_target(world, draw, &shown);
  const std::string name = draw_attribute(draw);
  std::string value(draw.of(rooms), '-');
  report.calls("getxattr", shown.c_str(), name, value.size());
  if (target.leads_out) return report.says(leads_out);
  const auto get = [&](auto call, auto where) {
    const ssize_t size = call(where, name.c_str(), value.data(), value.size());
    report.gives(size);
    if (size > 0) report.says(told(std::string_view(value).substr(0, static_cast<std::size_t>(size))));
  };
  switch (target.kind) {
    case Target::Kind::followed: return get(::getxattr, target.path.c_str());
    case Target::Kind::itself: return get(::lgetxattr, target.path.c_str());
    case Target::Kind::descriptor: return get(::fgetxattr, target.handle.fd);
  }
}

void list_attributes(World &world, Draw &draw, Report &report) {
  std::string shown;
  const Target target = draw_attribute_target(world, draw, &shown);
  report.calls("listxattr", shown.c_str());
  if (target.leads_out) return report.says(leads_out);
  char names[4096];
  const auto list = [&](auto call, auto where) {
    const ssize_t size = call(where, names, sizeof names);
    report.gives(size);
    std::vector<std::string> sorted;
    for (ssize_t at = 0; at < size; at += static_cast<ssize_t>(std::strlen(names + at)) + 1)
      sorted.push_back(names + at);
    std::ranges::sort(sorted);
    for (const std::string &name : sorted) report.says(name);
  };
  switch (target.kind) {
    case Target::Kind::followed: return list(::listxattr, target.path.c_str());
    case Target::Kind::itself: return list(::llistxattr, target.path.c_str());
    case Target::Kind::descriptor: return list(::flistxattr, target.handle.fd);
  }
}

void remove_attribute(World &world, Draw &draw, Report &report) {
  std::string shown;
  const Target target = draw_attribute_target(world, draw, &shown);
  const std::string name = draw_attribute(draw);
  report.calls("removexattr", shown.c_str(), name);
  if (target.leads_out) return report.says(leads_out);
  switch (target.kind) {
    case Target::Kind::followed: return report.gives(::removexattr(target.path.c_str(), name.c_str()));
    case Target::Kind::itself: return report.gives(::lremovexattr(target.path.c_str(), name.c_str()));
    case Target::Kind::descriptor: return report.gives(::fremovexattr(target.handle.fd, name.c_str()));
  }
}

constexpr Operation operations[] = {status,
                                    status,
                                    status_of_descriptor,
                                    extended_status,
                                    ask_access,
                                    change_mode,
                                    change_mode_of_descriptor,
                                    change_owner,
                                    change_owner_of_descriptor,
                                    set_times,
                                    set_times_of_descriptor,
                                    mark,
                                    resize,
                                    space,
                                    set_attribute,
                                    get_attribute,
                                    list_attributes,
                                    remove_attribute};

}  // namespace

std::span<const Operation> metadata_operations() { return operations; }
