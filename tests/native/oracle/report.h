// Report: what an operation was and what came of it, in words that both worlds have in common.
#pragma once

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string>
#include <string_view>

struct Octal {
  unsigned value;
};

struct OpenFlags {
  int value;
};

std::string told(std::string_view text);
std::string told(const char *text);
std::string told(long long value);
std::string told(Octal value);
std::string told(OpenFlags flags);
inline std::string told(const std::string &text) { return told(std::string_view(text)); }
inline std::string told(int value) { return told(static_cast<long long>(value)); }
inline std::string told(unsigned value) { return told(static_cast<long long>(value)); }
inline std::string told(long value) { return told(static_cast<long long>(value)); }
inline std::string told(unsigned long value) { return told(static_cast<long long>(value)); }

inline const char *error_name(int error) {
  const char *name = strerrorname_np(error);
  return name == nullptr ? "?" : name;
}

struct Report {
  bool loud = false;  // says the call before it is made, since it may be the last
  std::string call{};
  std::string result{};

  template <typename... Arguments>
  void calls(const char *name, const Arguments &...arguments) {
    call = name;
    call += '(';
    [[maybe_unused]] const char *separator = "";
    ((call += separator, call += told(arguments), separator = ", "), ...);
    call += ')';
    if (loud) std::fprintf(stderr, "  %s\n", call.c_str());
  }

  void says(std::string_view text) {
    if (!result.empty()) result += ' ';
    result += text;
  }

  void fails() { says(error_name(errno)); }

  // What the call gave, or the error where it gave -1.
  void gives(long long value) {
    if (value == -1) {
      fails();
    } else {
      says(std::to_string(value));
    }
  }

  // The same for a call whose success is all that it says. Whether it was one.
  bool succeeds(bool success) {
    if (success) {
      says("right");
    } else {
      fails();
    }
    return success;
  }
};
