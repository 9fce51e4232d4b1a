// Calls that choose a name themselves: mkstemp and its relatives, and tmpfile, for which libc would go to the real
// /tmp while a scratch lies over it.

#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/stat.h>

#include <atomic>
#include <cstring>
#include <string>

#include "cookie.h"
#include "route.h"

namespace diskless {

namespace {

constexpr std::size_t letters = 6;

// Where the "XXXXXX" of a pattern is, or null.
char *find_letters(char *pattern, int suffix_length) {
  const std::size_t length = std::strlen(pattern);
  if (suffix_length < 0 || length < letters + static_cast<std::size_t>(suffix_length)) return nullptr;
  char *place = pattern + length - letters - static_cast<std::size_t>(suffix_length);
  return std::strncmp(place, "XXXXXX", letters) == 0 ? place : nullptr;
}

void invent(char *place) {
  static constexpr char choice[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
  static std::atomic<unsigned long> turn{0};
  unsigned long value;
  if (::syscall(SYS_getrandom, &value, sizeof value, 1 /* GRND_NONBLOCK */) != sizeof value) {
    value = static_cast<unsigned long>(now().tv_nsec) * 2654435761u + static_cast<unsigned long>(::getpid());
  }
  value += turn.fetch_add(7919);
  for (std::size_t i = 0; i < letters; ++i, value /= 62) place[i] = choice[value % 62];
}

// Calls `make` with new letters until it does not find something there. Returns its result, or -1 with errno.
template <typename Make>
int make_with_letters(char *pattern, int suffix_length, Make make) {
  char *place = find_letters(pattern, suffix_length);
  if (place == nullptr) return settle(-EINVAL);
  for (int attempt = 0; attempt < TMP_MAX; ++attempt) {
    invent(place);
    const int result = make();
    if (result != -1 || errno != EEXIST) return result;
  }
  return settle(-EEXIST);
}

int make_file(char *pattern, int suffix_length, int flags) {
  const int before = errno;
  const int fd = make_with_letters(pattern, suffix_length, [=] {
    return intercept::open(pattern, (flags & ~O_ACCMODE) | O_RDWR | O_CREAT | O_EXCL, 0600);
  });
  if (fd >= 0) errno = before;
  return fd;
}

// True if no file has the name that it makes of the pattern.
bool find_free_name(char *pattern) {
  const int found = make_with_letters(pattern, 0, [=] {
    struct stat status;
    if (intercept::lstat(pattern, &status) != 0) return errno == ENOENT ? 0 : -1;
    errno = EEXIST;
    return -1;
  });
  return found == 0;
}

FILE *open_unnamed() {
  const int fd = intercept::open(P_tmpdir, O_TMPFILE | O_RDWR | O_EXCL, 0600);
  FILE *stream = fd < 0 ? nullptr : open_counted(fd, "w+");
  if (fd >= 0 && stream == nullptr) kernel::close(fd);
  return stream;
}

bool temporary_directory_is_ours() {
  if (!may_be_ours(P_tmpdir)) return false;
  const Lookup lookup(AT_FDCWD, P_tmpdir, Follow::yes);
  return lookup.in_tree();
}

}  // namespace

namespace intercept {

#define DEFINE_MKSTEMP(name, parameters, suffix, flags, arguments) \
  int name parameters {                                            \
    if (!may_be_ours(pattern)) [[likely]]                          \
      return NEXT(name) arguments;                                 \
    return make_file(pattern, suffix, flags);                      \
  }
DEFINE_MKSTEMP(mkstemp, (char *pattern), 0, 0, (pattern))
DEFINE_MKSTEMP(mkstemp64, (char *pattern), 0, 0, (pattern))
DEFINE_MKSTEMP(mkostemp, (char *pattern, int bits), 0, bits, (pattern, bits))
DEFINE_MKSTEMP(mkostemp64, (char *pattern, int bits), 0, bits, (pattern, bits))
DEFINE_MKSTEMP(mkstemps, (char *pattern, int length), length, 0, (pattern, length))
DEFINE_MKSTEMP(mkstemps64, (char *pattern, int length), length, 0, (pattern, length))
DEFINE_MKSTEMP(mkostemps, (char *pattern, int length, int bits), length, bits, (pattern, length, bits))
DEFINE_MKSTEMP(mkostemps64, (char *pattern, int length, int bits), length, bits, (pattern, length, bits))

char *mkdtemp(char *pattern) noexcept {
  if (!may_be_ours(pattern)) [[likely]]
    return NEXT(mkdtemp)(pattern);
  return make_with_letters(pattern, 0, [=] { return intercept::mkdir(pattern, 0700); }) == 0 ? pattern : nullptr;
}

// These two only find a name.
char *mktemp(char *pattern) noexcept {
  if (!may_be_ours(pattern)) [[likely]]
    return NEXT(mktemp)(pattern);
  if (!find_free_name(pattern)) pattern[0] = '\0';
  return pattern;
}

char *tempnam(const char *directory, const char *prefix) noexcept {
  const char *wished = ::secure_getenv("TMPDIR");
  if (wished == nullptr || !may_be_ours(wished)) wished = directory;
  struct stat status;
  if (!may_be_ours(wished) || intercept::stat(wished, &status) != 0 || !S_ISDIR(status.st_mode)) {
    return NEXT(tempnam)(directory, prefix);
  }
  std::string pattern = wished;
  while (pattern.size() > 1 && pattern.back() == '/') pattern.pop_back();
  pattern += '/';
  pattern += std::string_view(prefix == nullptr ? "file" : prefix).substr(0, 5);
  pattern += "XXXXXX";
  return find_free_name(pattern.data()) ? ::strdup(pattern.c_str()) : nullptr;
}

FILE *tmpfile() { return temporary_directory_is_ours() ? open_unnamed() : NEXT(tmpfile)(); }

FILE *tmpfile64() { return temporary_directory_is_ours() ? open_unnamed() : NEXT(tmpfile64)(); }

}  // namespace intercept

}  // namespace diskless
