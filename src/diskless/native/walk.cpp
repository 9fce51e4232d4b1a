// The walkers inside libc call its own opendir and stat, past every hook: glob is told which functions to use, ftw and
// nftw are done here.

#include <dirent.h>
#include <ftw.h>
#include <glob.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <wordexp.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "route.h"

namespace diskless {

namespace {

// Into a shadow a walk may come from any directory above.
bool may_reach_ours(const char *path) { return shadow_count.load(std::memory_order_relaxed) != 0 || may_be_ours(path); }

// What shells and braces make of a text is not known before; glob itself finds "/diskless" in no listing of "/".
bool may_become_ours(const char *text) { return may_reach_ours(text) || std::strstr(text, "diskless") != nullptr; }

bool may_match_ours(const char *pattern, int flags) {
  return (flags & GLOB_BRACE) != 0 ? may_become_ours(pattern) : may_reach_ours(pattern);
}

static_assert(sizeof(glob_t) == sizeof(glob64_t));

template <typename Glob, typename Next>
int glob_with_hooks(const char *pattern, int flags, Glob *found, Next next) {
  auto *plain = reinterpret_cast<glob_t *>(found);
  plain->gl_opendir = [](const char *path) -> void * { return intercept::opendir(path); };
  plain->gl_readdir = [](void *stream) { return intercept::readdir(static_cast<DIR *>(stream)); };
  plain->gl_closedir = [](void *stream) { intercept::closedir(static_cast<DIR *>(stream)); };
  plain->gl_stat = [](const char *path, struct stat *status) { return intercept::stat(path, status); };
  plain->gl_lstat = [](const char *path, struct stat *status) { return intercept::lstat(path, status); };
  const int result = next(pattern, flags | GLOB_ALTDIRFUNC, found);
  plain->gl_flags &= ~GLOB_ALTDIRFUNC;  // the caller did not ask for it, and may append to this result
  return result;
}

// One walk of nftw, or of ftw, which knows fewer types and hands over no position.
class FileTreeWalk {
 public:
  using Visit = int (*)(const char *, const struct stat *, int, struct FTW *);
  using SimpleVisit = int (*)(const char *, const struct stat *, int);

  FileTreeWalk(Visit visit, SimpleVisit simple, int flags) : visit_(visit), simple_(simple), flags_(flags) {}
  ~FileTreeWalk() {
    kernel::KeepErrno keep;
    if (before_ < 0) return;
    intercept::fchdir(before_);
    intercept::close(before_);
  }
  FileTreeWalk(const FileTreeWalk &) = delete;
  FileTreeWalk &operator=(const FileTreeWalk &) = delete;

  int walk(const char *root) {
    if (root[0] == '\0') {
      errno = ENOENT;
      return -1;
    }
    path_ = root;
    while (path_.size() > 1 && path_.back() == '/') path_.pop_back();
    if ((flags_ & FTW_CHDIR) != 0) {
      before_ = intercept::open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
      if (before_ < 0) return -1;
    }
    const std::size_t slash = path_.rfind('/');
    const int base = path_ == "/" || slash == std::string::npos ? 0 : static_cast<int>(slash + 1);
    const int result = visit(base, 0, true);
    return (flags_ & FTW_ACTIONRETVAL) != 0 && (result == FTW_SKIP_SUBTREE || result == FTW_SKIP_SIBLINGS) ? 0 : result;
  }

 private:
  // FTW_CHDIR: what is visited lies in the working directory. Between the visits it is again the one that the walk
  // began in, from which its paths lead.
  int call(const struct stat &status, int type, int base, int level) {
    if (before_ < 0) return call_here(status, type, base, level);
    // libc leaves a directory only after it was visited.
    const std::size_t length = type == FTW_DP ? path_.size() : static_cast<std::size_t>(base);
    const std::string where = path_.substr(0, length);
    if (intercept::chdir(length > 0 ? where.c_str() : path_ == "/" ? "/" : ".") != 0) return -1;
    const int result = call_here(status, type, base, level);
    kernel::KeepErrno keep;
    return intercept::fchdir(before_) == 0 ? result : -1;
  }

  int call_here(const struct stat &status, int type, int base, int level) {
    if (simple_ != nullptr) {
      const int simple = type == FTW_SL ? FTW_F : type == FTW_DP ? FTW_D : type == FTW_SLN ? FTW_NS : type;
      return simple_(path_.c_str(), &status, simple);
    }
    struct FTW place {
      base, level
    };
    return visit_(path_.c_str(), &status, type, &place);
  }

  int visit(int base, int level, bool is_root) {
    const bool physical = (flags_ & FTW_PHYS) != 0;
    struct stat status {};
    const char *path = path_.c_str();
    if ((physical ? intercept::lstat(path, &status) : intercept::stat(path, &status)) != 0) {
      const int error = errno;
      const bool dangling = !physical && intercept::lstat(path, &status) == 0 && S_ISLNK(status.st_mode);
      if (dangling && error == ENOENT) return call(status, FTW_SLN, base, level);
      if (is_root || (error != EACCES && error != ENOENT)) {
        errno = error;
        return -1;
      }
      return call(status, FTW_NS, base, level);
    }
    if (is_root) device_ = status.st_dev;
    if ((flags_ & FTW_MOUNT) != 0 && status.st_dev != device_) return 0;
    if (S_ISDIR(status.st_mode)) return visit_directory(status, base, level);
    return call(status, S_ISLNK(status.st_mode) ? FTW_SL : FTW_F, base, level);
  }

  int visit_directory(const struct stat &status, int base, int level) {
    if ((flags_ & FTW_PHYS) == 0) {  // symlinks may lead in circles: each directory once
      const Identity identity{status.st_dev, status.st_ino};
      if (std::ranges::find(seen_, identity) != seen_.end()) return 0;
      seen_.push_back(identity);
    }
    std::vector<std::string> names;
    if (!read_names(&names)) return errno == EACCES ? call(status, FTW_DNR, base, level) : -1;
    if ((flags_ & FTW_DEPTH) == 0) {
      const int result = call(status, FTW_D, base, level);
      if (result == FTW_SKIP_SUBTREE && (flags_ & FTW_ACTIONRETVAL) != 0) return 0;
      if (result != 0) return result;
    }
    // With FTW_CHDIR libc goes into each directory, also where there is nothing to visit.
    if (before_ >= 0 && (intercept::chdir(path_.c_str()) != 0 || intercept::fchdir(before_) != 0)) return -1;
    const std::size_t length = path_.size();
    if (path_ != "/") path_ += '/';
    const int child_base = static_cast<int>(path_.size());
    int result = 0;
    for (const std::string &name : names) {
      path_.resize(static_cast<std::size_t>(child_base));
      path_ += name;
      result = visit(child_base, level + 1, false);
      if (result == FTW_SKIP_SIBLINGS && (flags_ & FTW_ACTIONRETVAL) != 0) result = 0, names.clear();
      if (result != 0 || names.empty()) break;
    }
    path_.resize(length);
    return result == 0 && (flags_ & FTW_DEPTH) != 0 ? call(status, FTW_DP, base, level) : result;
  }

  bool read_names(std::vector<std::string> *names) const {
    struct dirent64 **entries;
    const int count = intercept::scandir64(path_.c_str(), &entries, nullptr, nullptr);
    if (count < 0) return false;
    for (int i = 0; i < count; ++i) {
      const std::string_view name = entries[i]->d_name;
      if (name != "." && name != "..") names->emplace_back(name);
      ::free(entries[i]);
    }
    ::free(entries);
    return true;
  }

  const Visit visit_;
  const SimpleVisit simple_;
  const int flags_;
  int before_ = -1;  // the working directory, where the walk changes it
  std::string path_;
  dev_t device_ = 0;
  std::vector<Identity> seen_;
};

int walk_with_hooks(const char *root, FileTreeWalk::Visit visit, FileTreeWalk::SimpleVisit simple, int flags) {
  return FileTreeWalk(visit, simple, flags).walk(root);
}

// wordexp says nothing of which words came from quotes. A word is expanded here if nothing was quoted at all, or if it
// stands between blanks as it is. `text` moves on behind the word, since the same may come again.
bool is_unquoted(const char **text, const char *word, bool quotes) {
  if (!quotes) return true;
  const char *at = std::strstr(*text, word);
  if (at == nullptr) return false;
  const char *end = at + std::strlen(word);
  const bool begins = at == *text || std::strchr(" \t", at[-1]) != nullptr;
  *text = end;
  return begins && std::strchr(" \t", *end) != nullptr;  // strchr finds the end of the text too
}

// Replaces the word at `index` with the paths that it matches.
bool expand_word(wordexp_t *words, std::size_t index, const glob_t &found) {
  const std::size_t total = words->we_offs + words->we_wordc + found.gl_pathc;
  auto **grown = static_cast<char **>(::realloc(words->we_wordv, total * sizeof(char *)));
  if (grown == nullptr) return false;
  words->we_wordv = grown;
  char **place = grown + words->we_offs + index;
  ::free(*place);
  std::memmove(place + found.gl_pathc, place + 1, (words->we_wordc - index) * sizeof(char *));  // and the null
  for (std::size_t i = 0; i < found.gl_pathc; ++i) place[i] = ::strdup(found.gl_pathv[i]);
  words->we_wordc += found.gl_pathc - 1;
  return true;
}

}  // namespace

namespace intercept {

#define DEFINE_GLOB(name, Glob)                                                                     \
  int name(const char *pattern, int flags, int (*error)(const char *, int), Glob *found) noexcept { \
    if ((flags & GLOB_ALTDIRFUNC) != 0 || !may_match_ours(pattern, flags))                          \
      return NEXT(name)(pattern, flags, error, found);                                              \
    return glob_with_hooks(pattern, flags, found, [=](const char *text, int bits, Glob *into) {     \
      return NEXT(name)(text, bits, error, into);                                                   \
    });                                                                                             \
  }
DEFINE_GLOB(glob, glob_t)
DEFINE_GLOB(glob64, glob64_t)

int wordexp(const char *text, wordexp_t *words, int flags) {
  const std::size_t before = (flags & WRDE_APPEND) != 0 ? words->we_wordc : 0;
  const int result = NEXT(wordexp)(text, words, flags);
  if (result != 0 || !may_become_ours(text)) return result;
  const bool quotes = std::strpbrk(text, "\"'\\") != nullptr;
  for (std::size_t index = before; index < words->we_wordc; ++index) {
    const char *word = words->we_wordv[words->we_offs + index];
    if (std::strpbrk(word, "*?[") == nullptr || !may_be_ours(word)) continue;
    if (!is_unquoted(&text, word, quotes)) continue;
    glob_t found{};
    if (intercept::glob(word, 0, nullptr, &found) == 0 && found.gl_pathc > 0) {
      const std::size_t count = found.gl_pathc;
      const bool expanded = expand_word(words, index, found);
      ::globfree(&found);
      if (!expanded) return WRDE_NOSPACE;
      index += count - 1;
    }
  }
  return 0;
}

#define DEFINE_NFTW(name, Status)                                                                            \
  int name(const char *root, int (*visit)(const char *, const Status *, int, struct FTW *), int descriptors, \
           int flags) {                                                                                      \
    if (!may_reach_ours(root)) return NEXT(name)(root, visit, descriptors, flags);                           \
    return walk_with_hooks(root, reinterpret_cast<FileTreeWalk::Visit>(visit), nullptr, flags);              \
  }
DEFINE_NFTW(nftw, struct stat)
DEFINE_NFTW(nftw64, struct stat64)

#define DEFINE_FTW(name, Status)                                                                  \
  int name(const char *root, int (*visit)(const char *, const Status *, int), int descriptors) {  \
    if (!may_reach_ours(root)) return NEXT(name)(root, visit, descriptors);                       \
    return walk_with_hooks(root, nullptr, reinterpret_cast<FileTreeWalk::SimpleVisit>(visit), 0); \
  }
DEFINE_FTW(ftw, struct stat)
DEFINE_FTW(ftw64, struct stat64)

}  // namespace intercept

}  // namespace diskless
