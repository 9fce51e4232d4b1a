// What C and C++ streams do on files below a directory: printed, for a tmpfs and a scratch to be compared.
//
//     streams DIRECTORY
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <fstream>
#include <string>
#include <sys/stat.h>
#include <unistd.h>

static std::string base;
static std::string path(const char *name) { return base + "/" + name; }

static void say(const char *what, long value) { std::printf("%s %ld %s\n", what, value, errno ? strerrorname_np(errno) : "-"); errno = 0; }

static void show(const char *name) {
  char text[400] = "";
  FILE *file = std::fopen(path(name).c_str(), "r");
  const size_t size = file ? std::fread(text, 1, sizeof text - 1, file) : 0;
  if (file) std::fclose(file);
  std::printf("%s: %zu [%.60s]\n", name, size, text);
  errno = 0;
}

static void use(const char *mode, FILE *file) {
  std::printf("-- %s\n", mode);
  if (file) errno = 0;
  if (!file) return say("null", 0);
  say("fileno", std::fprintf(stdout, "%d ", fileno(file) > 2));
  say("unlocked", fileno_unlocked(file) == fileno(file));
  say("access", fcntl(fileno(file), F_GETFL) & (O_ACCMODE | O_APPEND));
  say("cloexec", fcntl(fileno(file), F_GETFD));
  say("ftell", std::ftell(file));
  char text[100] = "";
  say("fread", (long)std::fread(text, 1, 5, file));
  say("eof", std::feof(file) != 0);
  say("error", std::ferror(file) != 0);
  std::clearerr(file);
  say("fseek", std::fseek(file, 0, SEEK_CUR));
  say("fputs", std::fputs("hello ", file) < 0);
  say("fprintf", std::fprintf(file, "%d-%s", 42, "x"));
  say("putc", std::putc('!', file));
  say("error", std::ferror(file) != 0);
  std::clearerr(file);
  say("ftell", std::ftell(file));
  say("fflush", std::fflush(file));
  struct stat status;
  say("fstat", fstat(fileno(file), &status));
  say("size", status.st_size);
  say("links", (long)status.st_nlink);
  say("fseek", std::fseek(file, -2, SEEK_END));
  say("ftell", std::ftell(file));
  say("getc", std::getc(file));
  say("ungetc", std::ungetc('u', file));
  say("getc", std::getc(file));
  std::clearerr(file);
  std::rewind(file);
  say("ftell", std::ftell(file));
  say("fputc", std::fputc('Z', file));
  say("fsync", (std::fflush(file), fsync(fileno(file))));
  say("ftruncate", ftruncate(fileno(file), 11));
  say("fseek far", std::fseek(file, 20, SEEK_SET));
  say("fputc", std::fputc('F', file));
  say("fclose", std::fclose(file));
}

static void fill(const char *name, int buffering) {
  FILE *file = std::fopen(path(name).c_str(), "w");
  if (buffering != _IOFBF) std::setvbuf(file, nullptr, buffering, BUFSIZ);
  std::string block(100'000, 'b');
  size_t done = 0, part;
  while ((part = std::fwrite(block.data(), 1, block.size(), file)) == block.size()) done += part;
  say("full", (long)(done + part));
  say("ferror", std::ferror(file) != 0);
  std::clearerr(file);
  say("fputs", std::fputs("more and more\n", file));
  say("fflush", std::fflush(file));
  say("fclose", std::fclose(file));
  struct stat status;
  stat(path(name).c_str(), &status);
  say("size", status.st_size);
  unlink(path(name).c_str());
  errno = 0;
}

int main(int, char **words) {
  base = words[1];
  setvbuf(stdout, nullptr, _IOLBF, BUFSIZ);
  for (const char *mode : {"w", "r", "r+", "a", "a+", "w+", "wx", "w+e", "ae", "rb+", "w,ccs=UTF-8", "q", "+"}) {
    use(mode, std::fopen(path("f").c_str(), mode));
    show("f");
  }
  unlink(path("f").c_str());
  use("wx", std::fopen(path("f").c_str(), "wx"));
  use("none", std::fopen(path("none/f").c_str(), "w"));
  use("directory", std::fopen(base.c_str(), "w"));
  for (const char *mode : {"w", "r", "a", "r+", "a+"}) {
    for (int flags : {O_RDONLY, O_WRONLY, O_RDWR}) {
      use(mode, fdopen(open(path("f").c_str(), flags), mode));
      show("f");
    }
  }
  FILE *file = std::fopen(path("g").c_str(), "w");
  std::fputs("before", file);
  const int number = fileno(file);
  for (const char *mode : {"w", "a", "r", "r+", "w+"}) {
    file = std::freopen(path("h").c_str(), mode, file);
    say("same number", file && fileno(file) == number);
    std::fputs("reopened", file);
    say("error", std::ferror(file) != 0);
    std::fflush(file);
    std::clearerr(file);
    show("h");
  }
  file = std::freopen(nullptr, "r", file);
  say("itself", file != nullptr);
  char text[20] = "";
  say("fgets", file && std::fgets(text, 20, file) != nullptr);
  std::puts(text);
  file = std::freopen("/dev/null", "w", file);
  say("elsewhere", std::fputs("x", file) < 0);
  say("nowhere", std::freopen(path("none/h").c_str(), "w", file) == nullptr);
  show("g");
  use("tmpfile", std::tmpfile());
  std::string pattern = path("XXXXXX");
  use("mkstemp", fdopen(mkstemp(pattern.data()), "w+"));
  unlink(pattern.c_str());
  const int fd = open(path("p").c_str(), O_CREAT | O_RDWR, 0600);
  say("dprintf", dprintf(fd, "%s and %d", "this", 7));
  show("p");
  file = std::fopen(path("kept").c_str(), "w");
  std::fputs("not flushed by us", file);
  unlink(path("kept").c_str());
  unlink(path("p").c_str());

  fill("full", _IOFBF);
  fill("full", _IONBF);
  fill("full", _IOLBF);
  {
    std::ofstream stream(path("cpp"), std::ios::binary);
    std::string block(100'000, 'c');
    long count = 0;
    while (stream.write(block.data(), (long)block.size()).flush()) ++count;
    say("ofstream", count);
    stream.clear();
    stream.close();
    say("closed", stream.good());
    std::fstream both(path("cpp"), std::ios::in | std::ios::out);
    both.seekp(5);
    both << "written" << std::flush;
    both.seekg(3);
    std::string word(12, ' ');
    both.read(word.data(), 12);
    std::printf("%s\n", word.c_str());
    say("tellg", (long)both.tellg());
    unlink(path("cpp").c_str());
  }
  const int full = open(path("p").c_str(), O_CREAT | O_RDWR, 0600);
  std::string block(100'000, 'b');
  while (write(full, block.data(), block.size()) > 0) {
  }
  say("dprintf", dprintf(full, "%s", "no room"));
  std::fopen(path("exit").c_str(), "w");
  return 0;
}
