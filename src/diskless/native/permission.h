// Who may do what with an inode, by its mode bits.
#pragma once

#include "tree.h"

namespace diskless {

// access(2) asks for the user who started the program, everything else for the one whose rights it has now.
enum class Who : bool { real, effective };

// `wanted` is made of R_OK and X_OK; whether anything may be written is not asked here.
bool permits(const Inode &inode, int wanted, Who who);

// Whether the user may do what an owner may.
bool owns(const Inode &inode);

}  // namespace diskless
