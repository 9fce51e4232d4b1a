/* The files that the calls are tried on: the same in the Tree and on a tmpfs that is mounted read-only. */
#ifndef CALLS_H
#define CALLS_H

#include <stddef.h>

struct made {
  enum { directory, file, symlink_to, hard_link } kind;
  const char *path;
  unsigned mode;
  const char *text; /* content, target, or the path of the file that is linked to; '@' stands for the base */
};

static const struct made made_files[] = {
    {directory, "d", 0555, NULL},
    {directory, "d/deep", 0555, NULL},
    {directory, "d/deep/er", 0555, NULL},
    {directory, "empty", 0555, NULL},
    {directory, "shut", 0000, NULL},
    {file, "f", 0444, "hello, world\n"},
    {file, "nothing", 0444, ""},
    {file, "runs", 0555, "#!/bin/sh\nexit 7\n"},
    {file, "secret", 0000, "nobody may"},
    {file, "d/g", 0444, "in a directory"},
    {file, "d/deep/er/h", 0640, "deep down"},
    {file, "shut/inside", 0444, "behind a shut door"},
    {file, "odd name *[x]", 0444, "odd"},
    {hard_link, "hard", 0, "f"},
    {symlink_to, "to-f", 0, "f"},
    {symlink_to, "to-d", 0, "d"},
    {symlink_to, "to-slash", 0, "d/"},
    {symlink_to, "to-f-slash", 0, "f/"},
    {symlink_to, "to-to-f", 0, "to-f"},
    {symlink_to, "absolute", 0, "@/d/g"},
    {symlink_to, "round-about", 0, "@/../@name/d/../f"},
    {symlink_to, "dangling", 0, "not-there"},
    {symlink_to, "loop", 0, "loop"},
    {symlink_to, "out", 0, "/proc"},
    {symlink_to, "d/up", 0, "../f"},
    {symlink_to, "d/deep/er/far-up", 0, "../../../d/up"},
};

/* Paths below the base, of which each call is tried. '*' stands for a name of 256 letters. */
static const char *const tried_paths[] = {
    "", "/", "/.", "/..", "f", "f/", "f/.", "f/..", "f/x", "./f", "d", "d/", "d//", "d/.", "d/..", "d/../f", "d/../../@name/f",
    "d/./g", "d//g", "d/g/", "d/g/x", "d/deep", "d/deep/er/h", "d/deep/er/far-up", "d/deep/er/../../g", "empty", "empty/x",
    "empty/../f", "nothing", "runs", "secret", "hard", "odd name *[x]", "to-f", "to-f/", "to-d", "to-d/", "to-d/g", "to-d/.",
    "to-d/..", "to-slash", "to-slash/g", "to-f-slash", "to-to-f", "to-to-f/x", "absolute", "absolute/", "round-about", "dangling",
    "dangling/", "dangling/x", "loop", "loop/", "loop/x", "d/up", "d/up/", "shut", "shut/", "shut/inside", "shut/not-there", "not-there",
    "not-there/", "not-there/x", "not-there/..", "d/not-there", "f/not-there/x", "*", "d/*", "*/x", "out/not-there-either", "to-d/../f",
    "to-d/deep/../g",
};

#endif
