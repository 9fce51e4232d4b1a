// Data: bytes that go into and come out of open files, and how long these are.
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <vector>

#include "operations.h"
#include "places.h"

namespace {

void shows(const std::string &buffer, ssize_t size, Report &report) {
  if (size < 0) return report.fails();
  report.says(told(size) + " " + told(std::string_view(buffer).substr(0, static_cast<std::size_t>(size))));
}

void read_bytes(World &world, Draw &draw, Report &report) {
  const Handle handle = world.draw_handle(draw);
  std::string buffer(static_cast<std::size_t>(draw.of(sizes)), '-');
  report.calls("read", handle, buffer.size());
  if (is_exception(handle, report)) return;
  shows(buffer, ::read(handle.fd, buffer.data(), buffer.size()), report);
}

void read_at(World &world, Draw &draw, Report &report) {
  const Handle handle = world.draw_handle(draw);
  std::string buffer(static_cast<std::size_t>(draw.of(sizes)), '-');
  const off_t offset = draw_offset(draw);
  report.calls("pread", handle, buffer.size(), offset);
  if (is_exception(handle, report)) return;
  shows(buffer, ::pread(handle.fd, buffer.data(), buffer.size(), offset), report);
}

void read_vector(World &world, Draw &draw, Report &report) {
  const Handle handle = world.draw_handle(draw);
  std::string buffer(100, '-');
  const iovec parts[] = {{buffer.data(), 10}, {buffer.data() + 10, 0}, {buffer.data() + 10, 90}};
  report.calls("readv", handle);
  if (is_exception(handle, report)) return;
  shows(buffer, ::readv(handle.fd, parts, 3), report);
}

void write_bytes(World &world, Draw &draw, Report &report) {
  const Handle handle = world.draw_handle(draw);
  const std::string bytes = draw_bytes(draw);
  report.calls("write", handle, bytes);
  if (is_exception(handle, report)) return;
  report.gives(::write(handle.fd, bytes.data(), bytes.size()));
}

void write_at(World &world, Draw &draw, Report &report) {
  const Handle handle = world.draw_handle(draw);
  const std::string bytes = draw_bytes(draw);
  const off_t offset = draw_offset(draw);
  report.calls("pwrite", handle, bytes, offset);
  if (is_exception(handle, report)) return;
  report.gives(::pwrite(handle.fd, bytes.data(), bytes.size(), offset));
}

void write_vector(World &world, Draw &draw, Report &report) {
  static constexpr int choices[] = {0, 0, RWF_DSYNC, RWF_APPEND, RWF_NOWAIT, 1 << 30};
  const Handle handle = world.draw_handle(draw);
  std::string bytes[3];
  iovec parts[3];
  const unsigned count = draw.below(4);
  for (unsigned i = 0; i < count; ++i) {
    bytes[i] = draw_bytes(draw);
    parts[i] = {bytes[i].data(), bytes[i].size()};
  }
  const off_t offset = draw_offset(draw);
  const int flags = draw.of(choices);
  const unsigned how = draw.below(3);
  report.calls(how == 0   ? "writev"
               : how == 1 ? "pwritev"
                          : "pwritev2",
               handle, count, bytes[0], bytes[1], bytes[2], offset, flags);
  if (is_exception(handle, report)) return;
  const int number = static_cast<int>(count);
  report.gives(how == 0   ? ::writev(handle.fd, parts, number)
               : how == 1 ? ::pwritev(handle.fd, parts, number, offset)
                          : ::pwritev2(handle.fd, parts, number, offset, flags));
}

void seek(World &world, Draw &draw, Report &report) {
  static constexpr int whences[] = {SEEK_SET, SEEK_CUR, SEEK_END, SEEK_DATA, SEEK_HOLE, 9};
  const Handle handle = world.draw_handle(draw);
  const off_t offset = draw_offset(draw);
  const int whence = draw.of(whences);
  report.calls("lseek", handle, offset, whence);
  if (is_exception(handle, report)) return;
  report.gives(::lseek(handle.fd, offset, whence));
}

void resize(World &world, Draw &draw, Report &report) {
  const Handle handle = world.draw_handle(draw);
  const off_t size = draw_offset(draw);
  report.calls("ftruncate", handle, size);
  if (is_exception(handle, report)) return;
  report.gives(::ftruncate(handle.fd, size));
}

void allocate(World &world, Draw &draw, Report &report) {
  // With PUNCH_HOLE goes KEEP_SIZE; alone, ZERO_RANGE and COLLAPSE_RANGE are refused.
  static constexpr int kinds[] = {0,
                                  FALLOC_FL_KEEP_SIZE,
                                  FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE,
                                  FALLOC_FL_PUNCH_HOLE,
                                  FALLOC_FL_ZERO_RANGE,
                                  FALLOC_FL_COLLAPSE_RANGE};
  static constexpr off_t lengths[] = {0, 1, page, 70'000, -1};
  const Handle handle = world.draw_handle(draw);
  const int kind = draw.of(kinds);
  const off_t offset = draw_offset(draw), length = draw.of(lengths);
  const bool posix = draw.one_in(3);
  report.calls(posix ? "posix_fallocate" : "fallocate", handle, kind, offset, length);
  if (is_exception(handle, report)) return;
  report.gives(posix ? ::posix_fallocate(handle.fd, offset, length) : ::fallocate(handle.fd, kind, offset, length));
}

void synchronize(World &world, Draw &draw, Report &report) {
  const Handle handle = world.draw_handle(draw);
  report.calls("fsync", handle);
  report.gives(draw.one_in(2) ? ::fsync(handle.fd) : ::fdatasync(handle.fd));
}

void send_file(World &world, Draw &draw, Report &report) {
  const Handle to = world.draw_handle(draw), from = world.draw_handle(draw);
  off_t offset = draw.of(sizes);
  const off_t size = draw.of(sizes);
  const bool own_offset = draw.one_in(3);
  report.calls("sendfile", to, from, own_offset ? off_t{-1} : offset, size);
  if (is_exception(to, report) || is_exception(from, report)) return;
  report.gives(::sendfile(to.fd, from.fd, own_offset ? nullptr : &offset, static_cast<std::size_t>(size)));
  report.says(told(offset));
}

void copy_range(World &world, Draw &draw, Report &report) {
  const Handle from = world.draw_handle(draw), to = world.draw_handle(draw);
  off_t from_offset = draw.of(sizes), to_offset = draw.of(sizes);
  const off_t size = draw.of(sizes);
  const bool own_offset = draw.one_in(2);
  report.calls("copy_file_range", from, to, size, own_offset ? off_t{-1} : from_offset, to_offset);
  if (is_exception(from, report) || is_exception(to, report)) return;
  report.gives(::copy_file_range(from.fd, own_offset ? nullptr : &from_offset, to.fd, own_offset ? nullptr : &to_offset,
                                 static_cast<std::size_t>(size), 0));
  report.says(told(from_offset) + " " + told(to_offset));
}

void map(World &world, Draw &draw, Report &report) {
  const Handle handle = world.draw_handle(draw);
  const bool is_private = draw.one_in(3);
  const std::string bytes = draw_bytes(draw).substr(0, 8);
  report.calls(is_private ? "mmap private" : "mmap shared", handle, bytes);
  if (is_exception(handle, report)) return;
  struct stat status;
  if (::fstat(handle.fd, &status) != 0) return report.fails();
  if (status.st_size < page) return report.says("stores past the end would be a signal");
  void *mapped = ::mmap(nullptr, page, PROT_READ | PROT_WRITE, is_private ? MAP_PRIVATE : MAP_SHARED, handle.fd, 0);
  if (mapped == MAP_FAILED) return report.fails();
  char *text = static_cast<char *>(mapped);
  bytes.copy(text + 50, bytes.size());
  report.gives(::msync(mapped, page, MS_SYNC));
  report.says(told(std::string_view(text, 100)));
  ::munmap(mapped, page);
}

constexpr Operation operations[] = {read_bytes,  read_at,      read_vector, write_bytes, write_bytes,
                                    write_at,    write_vector, seek,        resize,      allocate,
                                    synchronize, send_file,    copy_range,  map};

}  // namespace

std::span<const Operation> data_operations() { return operations; }
