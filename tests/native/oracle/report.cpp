#include "report.h"

#include <fcntl.h>

std::string told(std::string_view text) {
  std::string shown = "\"";
  for (const char letter : text.substr(0, 60)) {
    if (letter >= ' ' && letter < 127) {
      shown += letter;
    } else {
      char code[8];
      std::snprintf(code, sizeof code, "\\x%02x", static_cast<unsigned char>(letter));
      shown += code;
    }
  }
  shown += '"';
  if (text.size() > 60) shown += "…" + std::to_string(text.size()) + " bytes";
  return shown;
}

std::string told(const char *text) { return text; }

std::string told(long long value) { return std::to_string(value); }

std::string told(Octal value) {
  char text[16];
  std::snprintf(text, sizeof text, "0%o", value.value);
  return text;
}

std::string told(OpenFlags flags) {
  // O_TMPFILE holds O_DIRECTORY and O_SYNC holds O_DSYNC: the wider ones go first.
  static constexpr struct {
    int value;
    const char *name;
  } names[] = {{O_WRONLY, "O_WRONLY"},     {O_RDWR, "O_RDWR"},           {O_CREAT, "O_CREAT"},
               {O_EXCL, "O_EXCL"},         {O_TRUNC, "O_TRUNC"},         {O_APPEND, "O_APPEND"},
               {O_NONBLOCK, "O_NONBLOCK"}, {O_SYNC, "O_SYNC"},           {O_NOFOLLOW, "O_NOFOLLOW"},
               {O_PATH, "O_PATH"},         {O_NOATIME, "O_NOATIME"},     {O_TMPFILE, "O_TMPFILE"},
               {O_DIRECT, "O_DIRECT"},     {O_DIRECTORY, "O_DIRECTORY"}, {O_CLOEXEC, "O_CLOEXEC"}};
  std::string text;
  int left = flags.value;
  for (const auto &[value, name] : names) {
    if ((left & value) != value) continue;
    (text += text.empty() ? "" : "|") += name;
    left &= ~value;
  }
  return text.empty() ? "O_RDONLY" : text;
}
