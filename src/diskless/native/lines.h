// The lines of a file, without an allocation: for the long files of /proc.
#pragma once

#include <cstring>
#include <string_view>
#include <utility>

#include "kernel.h"

namespace diskless {

class Lines {
 public:
  explicit Lines(const char *path) : fd_(kernel::open(path, O_RDONLY | O_CLOEXEC)) {}
  ~Lines() {
    if (fd_ >= 0) kernel::close(fd_);
  }
  Lines(const Lines &) = delete;
  Lines &operator=(const Lines &) = delete;

  // False behind the last one. What does not fit is cut off.
  bool next(std::string_view *line) {
    while (true) {
      const char *end = static_cast<const char *>(std::memchr(text_ + begin_, '\n', end_ - begin_));
      if (end != nullptr) {
        *line = {text_ + begin_, static_cast<std::size_t>(end - text_) - begin_};
        begin_ += line->size() + 1;
        if (!std::exchange(in_rest_, false)) return true;
        continue;
      }
      std::memmove(text_, text_ + begin_, end_ - begin_);
      end_ -= begin_;
      begin_ = 0;
      if (end_ == sizeof text_) {  // a line too long: its beginning now, and its rest never
        *line = {text_, sizeof text_ - 1};
        begin_ = end_;
        if (!std::exchange(in_rest_, true)) return true;
        continue;
      }
      const ssize_t got = fd_ < 0 ? 0 : ::syscall(SYS_read, fd_, text_ + end_, sizeof text_ - end_);
      if (got <= 0) return false;
      end_ += static_cast<std::size_t>(got);
    }
  }

 private:
  const int fd_;
  bool in_rest_ = false;
  std::size_t begin_ = 0, end_ = 0;
  char text_[8192];
};

}  // namespace diskless
