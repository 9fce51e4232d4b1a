// The operations: each draws its arguments, does one thing in one world, and says what came of it.
#pragma once

#include <span>

#include "draw.h"
#include "report.h"
#include "world.h"

using Operation = void (*)(World &world, Draw &draw, Report &report);

std::span<const Operation> descriptor_operations();
std::span<const Operation> data_operations();
std::span<const Operation> name_operations();
std::span<const Operation> metadata_operations();
std::span<const Operation> directory_operations();
std::span<const Operation> stream_operations();

inline constexpr const char *leads_out = "leads out";

// Known differences, the same as in tests/filesystem/oracle/exceptions.py.

// Reading, writing and sizing a directory through its descriptor fails with another errno than EISDIR.
inline bool is_exception(Handle handle, Report &report) {
  if (!is_directory(handle.fd)) return false;
  report.says("a directory");
  return true;
}
// By an ordinary user it depends on the descriptor having been opened with the very same credentials (Linux 6.10).
inline bool may_link_by_empty_path(const World &world) { return world.user().id() == 0; }
// A symlink itself has no descriptor, and the link in /proc shows how the kernel has one open.
inline bool may_open_link_itself(int flags) {
  return (flags & (O_PATH | O_NOFOLLOW | O_DIRECTORY)) == (O_PATH | O_NOFOLLOW);
}
inline constexpr const char *link_itself = "a link itself";
// libc goes through it name by name, and says what it meets first.
inline constexpr const char *too_long_for_realpath = "longer than PATH_MAX";
