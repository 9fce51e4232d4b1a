// Which descriptor numbers are ours.
#pragma once

namespace diskless {

// Whether `fd` is the number of a RAM file or a connection of ours.
bool is_ours(int fd);

}  // namespace diskless
