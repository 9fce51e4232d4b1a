// C streams: opened in every mode, used a few times and closed.
#include <sys/stat.h>
#include <unistd.h>

#include "look.h"
#include "operations.h"
#include "places.h"

namespace {

// What cannot be read or written is not: libc then loses its place, each kind of stream in its own way.
void use_once(FILE *stream, bool reads, bool writes, Draw &draw, Report &report) {
  static constexpr int whences[] = {SEEK_SET, SEEK_CUR, SEEK_END};
  const std::string bytes = draw_bytes(draw);
  const off_t offset = draw.of(sizes);
  const int whence = draw.of(whences);
  const unsigned what = draw.below(8);
  if ((what < 3 && !reads) || ((what == 3 || what == 4) && !writes)) return;
  errno = 0;
  switch (what) {
    case 0: {
      std::string text(100, '-');
      const std::size_t size = std::fread(text.data(), 1, text.size(), stream);
      return report.says("fread " + told(size) + told(text.substr(0, size)));
    }
    case 1: return report.says("fgetc " + told(std::fgetc(stream)));
    case 2: return report.says("ungetc " + told(std::ungetc('u', stream)) + " " + told(std::fgetc(stream)));
    case 3:
      return report.says("fwrite " + told(bytes) + " " + told(std::fwrite(bytes.data(), 1, bytes.size(), stream)));
    case 4: return report.says("fprintf " + told(std::fprintf(stream, "%d %s\n", whence, "text")));
    case 5:
      return report.says("fseeko " + told(offset) + " " + told(whence) + " " + told(::fseeko(stream, offset, whence)));
    case 6: return report.says("fflush " + told(std::fflush(stream)));
    default: return std::rewind(stream);
  }
}

void use(FILE *stream, std::string_view way, Draw &draw, Report &report) {
  const bool both = way.find('+') != std::string_view::npos, reads = both || way[0] == 'r', writes = both || !reads;
  for (unsigned count = draw.below(5); count > 0; --count) {
    std::fseek(stream, 0, SEEK_CUR);  // without which the C standard leaves open what reading after writing does
    use_once(stream, reads, writes, draw, report);
    report.says("ftell " + told(::ftello(stream)) + (std::ferror(stream) ? " error" : "") +
                (std::feof(stream) ? " end" : ""));
  }
  report.says("fflush " + told(std::fflush(stream)));
  char byte;  // so that none tells by atime when it filled its buffer
  if (reads) [[maybe_unused]]
    const ssize_t size = ::pread(::fileno(stream), &byte, 1, 0);
  struct stat status;
  if (::fstat(::fileno(stream), &status) == 0) report.says(describe(status));
  report.says("fclose " + told(std::fclose(stream)));
}

constexpr const char *ways[] = {"r", "r+", "w", "w+", "a", "a+", "wx", "rb", "w+e", "ab", "x", ""};

void open_by_path(World &world, Draw &draw, Report &report) {
  const Place place = world.draw_place(draw);
  const char *way = draw.of(ways);
  report.calls("fopen", place, way);
  if (world.leads_out(place)) return report.says(leads_out);
  FILE *stream = std::fopen(place.alone().c_str(), way);
  if (stream == nullptr) return report.fails();
  if (is_directory(::fileno(stream))) {  // fails at the first read only
    std::fclose(stream);
    return report.says("EISDIR");
  }
  use(stream, way, draw, report);
}

void open_by_descriptor(World &world, Draw &draw, Report &report) {
  const Handle handle = world.draw_handle(draw);
  const char *way = draw.of(ways);
  report.calls("fdopen", handle, way);
  if (is_exception(handle, report)) return;
  // A stream that can do nothing says so when its buffer is full, which is of another size. And one that libc does not
  // know to append is wrong about where it is, each in its own way.
  const int flags = ::fcntl(handle.fd, F_GETFL);
  if ((flags & O_ACCMODE) == O_ACCMODE) return report.says("neither to be read nor written");
  if ((flags & O_APPEND) != 0 && way[0] != 'a') return report.says("appends without libc's knowledge");
  const int fd = ::dup(handle.fd);
  FILE *stream = ::fdopen(fd, way);
  if (stream != nullptr) return use(stream, way, draw, report);
  report.fails();
  if (fd >= 0) ::close(fd);
}

constexpr Operation operations[] = {open_by_path, open_by_path, open_by_descriptor};

}  // namespace

std::span<const Operation> stream_operations() { return operations; }
