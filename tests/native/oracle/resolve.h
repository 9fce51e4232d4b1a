// Where a path leads, also where a part of it does not exist: by lstat and readlink, before any call changes it.
#pragma once

#include <string>

enum class Last : bool { followed, left_out };

// Absolute and without symlinks or dots. With Last::left_out, the directory that the last name is in. Nothing where the
// path begins at a descriptor of a directory that was removed.
std::string resolve(const std::string &path, Last last);

// The path of an open directory, as /proc shows it.
std::string directory_of(int fd);
