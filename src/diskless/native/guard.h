// Which descriptor numbers are ours.
#pragma once

namespace diskless {

// Whether `fd` is the number of a RAM file or a connection of ours.
bool is_ours(int fd);

// Moves the descriptor up and guards it: returns the new number or -errno. Raises the soft limit when it is near.
int keep(int fd);
void release(int fd);

// Whether there is room for more now.
bool raise_descriptor_limit();

}  // namespace diskless
