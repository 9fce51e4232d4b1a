// Programs that are started from here: they do not see the Tree.
#pragma once

#include "lookup.h"

namespace diskless {

// To be called before one is started where the working directory may be in the Tree: it will stand nowhere, where every
// relative path fails, and this is said. In place of a process that went there itself, which wants it to run there, it
// is refused: then this sets errno, to that of the path where there is no program.
bool refuse_for_working_directory(const char *program);
void say_of_working_directory(const char *program);

// For look-ups: opens a file of the Tree that the kernel can run by its descriptor alone. Returns it or -errno.
int open_program(const Lookup &found);

// Where in PATH a program of the Tree would be found before any real one: sets *path, or leaves it empty.
void find_in_path(const char *name, std::string *path);

}  // namespace diskless
