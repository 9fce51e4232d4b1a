// Memory for what is changed under the Tree's lock, which never waits for malloc.
//
// A signal handler may open files, and may have interrupted its thread within malloc. It waits for whoever holds the lock
// exclusively, and that thread must not wait for malloc in turn. So what it allocates comes from a pool of our own, which
// the lock itself guards; what it frees elsewhere is freed once the lock was given back. Signals are blocked meanwhile.
#pragma once

#include <cstddef>

namespace diskless {

// Around all that is done with the lock held exclusively: Lock calls them.
void begin_to_use_pool();
void cease_to_use_pool();

// Frees what was put off, without the lock.
void free_what_was_put_off();

// For operator new and delete.
void *allocate_anywhere(std::size_t size);  // null where there is no memory
void free_anywhere(void *memory);

}  // namespace diskless
