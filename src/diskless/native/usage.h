// What the files of a scratch take. It is measured and not kept account of: only the kernel knows when the last
// descriptor, mapping or process lets go of a file without a name.
#pragma once

#include "tree.h"

namespace diskless {

// All of these want tree_lock held.

// Bytes taken by files of the volume, also by those without a name that this process has open or mapped, and by the
// holes of files that are mapped shared and writable: a store into one takes a page when nobody is asked any more.
long long used_bytes_with_mappings(const Volume &volume);
// Of all volumes: what stores into mapped holes may yet take.
long long promised_bytes();

// A mapping through which holes may be filled was made: from now on they are looked for.
void note_mapping();
bool has_mappings();
// Whether the file is mapped so beyond its end.
bool is_mapped_beyond(const struct stat &status);

// How many of the bytes from `offset` on find room if the file may get `pages` more.
off_t fitting(int fd, const struct stat &status, off_t offset, off_t length, long long pages);

inline constexpr long long page_bytes = 4096;  // the least that shmem allocates

}  // namespace diskless
