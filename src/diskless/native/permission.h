// Who may do what with an inode, by its mode bits.
#pragma once

#include "tree.h"

namespace diskless {

// access(2) asks for the user who started the program, everything else for the one whose rights it has now.
enum class Who : bool { real, effective };

// `wanted` is made of R_OK, W_OK and X_OK; whether the volume may be written is not asked here.
bool permits(const Inode &inode, int wanted, Who who);

// Whether the user may do what an owner may.
bool owns(const Inode &inode);

bool is_privileged();
bool has_group(gid_t group, Who who);

// Whether a name may be made in the directory, or `victim` lose its name there: 0 or an errno, as the kernel's
// may_create and may_delete say it.
int may_create(const Inode &directory);
int may_delete(const Inode &directory, const Inode &victim, bool as_directory);

// What fs.protected_hardlinks, fs.protected_regular and fs.protected_symlinks forbid in directories that everybody may
// write to: 0 or an errno, for root as well.
bool may_link(const Inode &inode);
int may_open_with_create(const Inode &directory, const Inode &inode);
int may_follow(const Inode &directory, const Inode &symlink);

}  // namespace diskless
