/* Calls of libc that begin at the working directory; what they answer is printed. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <ftw.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <wordexp.h>

char *__getcwd_chk(char *, size_t, size_t);
char *__getwd_chk(char *, size_t);

static const char *const patterns[] = {"*", "*/*", "./d*", "../*", "d/../*", "{file,d}", "none*", NULL};
static const char *const walked[] = {"walked", "./walked/one/", ".//file", "none", NULL};
static FILE *out;
static char text[70000];

static void say(const char *call, const char *result) {
  fprintf(out, "%s: %s\n", call, result ? result : strerrorname_np(errno));
}

static int visit(const char *path, const struct stat *status, int type, struct FTW *at) {
  struct stat here;
  const int found = lstat(path + at->base, &here) == 0 && here.st_ino == status->st_ino;
  fprintf(out, "  nftw %s %d %d %d in %s %d\n", path, type, at->base, at->level, getcwd(text, sizeof text), found);
  return 0;
}
static int visit_simply(const char *path, const struct stat *status, int type) {
  fprintf(out, "  ftw %s %d\n", path, type);
  return 0;
}
static int by_name(const FTSENT **a, const FTSENT **b) { return strcmp((*a)->fts_name, (*b)->fts_name); }
static int all(const struct dirent *entry) { return 1; }

void calls(int to) {
  out = fdopen(dup(to), "w");
  memset(text, 'x', sizeof text);
  say("getcwd", getcwd(text, sizeof text));
  say("getcwd null", getcwd(NULL, 0));
  say("getcwd null 4", getcwd(NULL, 4));
  say("getcwd null 4000", getcwd(NULL, 4000));
  say("getcwd 0", getcwd(text, 0));
  say("getcwd 4", getcwd(text, 4));
  say("getcwd exact", getcwd(text, strlen(getcwd(NULL, 0)) + 1));
  say("getcwd one less", getcwd(text, strlen(getcwd(NULL, 0))));
  say("__getcwd_chk", __getcwd_chk(text, 5000, sizeof text));
  say("getwd", getwd(text));
  say("__getwd_chk", __getwd_chk(text, sizeof text));
  unsetenv("PWD");
  say("get_current_dir_name", get_current_dir_name());
  setenv("PWD", realpath("link", NULL), 1);
  say("get_current_dir_name, PWD elsewhere", get_current_dir_name());
  chdir("link");
  char by_link[4096];
  sprintf(by_link, "%s/link", realpath("..", NULL));
  setenv("PWD", by_link, 1);
  say("get_current_dir_name, PWD a symlink", get_current_dir_name());
  chdir("..");
  const long size = syscall(SYS_getcwd, text, sizeof text);
  say("SYS_getcwd", size == (long)strlen(text) + 1 ? text : NULL);
  say("SYS_getcwd 3", syscall(SYS_getcwd, text, 3L) < 0 ? NULL : text);
  say("realpath", realpath("link/../file", NULL));
  say("realpath none", realpath("none", NULL));
  say("canonicalize_file_name", canonicalize_file_name("."));

  glob_t found;
  for (const char *const *pattern = patterns; *pattern; pattern++) {
    const int result = glob(*pattern, GLOB_BRACE, NULL, &found);
    fprintf(out, "glob %s %d:", *pattern, result);
    for (size_t i = 0; result == 0 && i < found.gl_pathc; i++) fprintf(out, " %s", found.gl_pathv[i]);
    fputc('\n', out);
  }
  wordexp_t words;
  if (wordexp("d/* f* '*'", &words, 0) == 0)
    for (size_t i = 0; i < words.we_wordc; i++) say("wordexp", words.we_wordv[i]);

  mkdir("walked", 0755); mkdir("walked/one", 0755); fclose(fopen("walked/one/file", "w"));
  for (int flags = 0; flags < 16; flags += 4) {
    fprintf(out, "nftw %d\n", flags);
    for (const char *const *root = walked; *root; root++) {
      const int result = nftw(*root, visit, 8, flags);
      fprintf(out, "nftw %s %d %s\n", *root, result, getcwd(text, sizeof text));
    }
  }
  fprintf(out, "ftw %d\n", ftw("walked", visit_simply, 8));
  char *const roots[] = {"walked", NULL};
  FTS *walk = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, by_name);
  for (FTSENT *entry; walk && (entry = fts_read(walk));)
    fprintf(out, "  fts %s %d\n", entry->fts_path, entry->fts_info);
  fts_close(walk);

  struct dirent **names;
  int count = scandir(".", &names, all, alphasort);
  for (int i = 0; i < count; i++) say("scandir", names[i]->d_name);
  DIR *stream = opendir(".");
  count = 0;
  while (readdir(stream)) count++;
  fprintf(out, "opendir %d\n", count);
  closedir(stream);
  struct stat status, dot;
  stat(".", &dot);
  const int same = fstatat(AT_FDCWD, "", &status, AT_EMPTY_PATH) == 0 && status.st_ino == dot.st_ino;
  fprintf(out, "stat of nothing %d\n", same);

  char file[] = "fileXXXXXX", directory[] = "dirXXXXXX";
  const int fd = mkstemp(file);
  fprintf(out, "mkstemp %d %d\n", fd >= 0, stat(file, &status));
  fprintf(out, "mkdtemp %d\n", mkdtemp(directory) != NULL && rmdir(directory) == 0 && unlink(file) == 0);
  close(fd);
  fprintf(out, "openat %d\n", close(openat(AT_FDCWD, "file", O_RDONLY)));
  fprintf(out, "creat %d\n", close(creat("made", 0600)));
  fprintf(out, "chdir null %d %s\n", chdir(NULL), strerrorname_np(errno));
  fprintf(out, "by number %ld", syscall(SYS_chdir, "walked"));
  fprintf(out, " %s\n", getcwd(text, sizeof text));
  fclose(out);
}
