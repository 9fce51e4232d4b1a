// Making directories.
#pragma once

#include "lookup.h"

namespace diskless {

// What mkdir(2) does with what a look-up of Follow::parent found. Returns 0 or -errno; wants the lock held exclusively.
int make_directory_at(const Lookup &found, mode_t mode);

}  // namespace diskless
