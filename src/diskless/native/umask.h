// The file mode creation mask of this process.
#pragma once

#include <sys/types.h>

namespace diskless {

// Without a race: umask(2) can only be read by changing it for all threads.
mode_t current_umask();

// To be called when the first Mount or scratch opens: nobody told us of changes before.
void learn_umask();
// And when the last one closes: nobody will.
void forget_umask();

}  // namespace diskless
