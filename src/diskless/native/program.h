// Programs that are started from here: they do not see the Tree.
#pragma once

#include "lookup.h"

namespace diskless {

// Whether one would find itself elsewhere, since the working directory is in the Tree. Then says why, and sets errno;
// a path at which there is no program has the errno of that.
bool refuse_for_working_directory(const char *program);

// For look-ups: opens a file of the Tree that the kernel can run by its descriptor alone. Returns it or -errno.
int open_program(const Lookup &found);

// Where in PATH a program of the Tree would be found before any real one: sets *path, or leaves it empty.
void find_in_path(const char *name, std::string *path);

}  // namespace diskless
