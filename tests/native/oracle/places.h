// What operations are done on and with: paths of a small alphabet with every oddity, flags, modes, sizes and times.
#pragma once

#include <fcntl.h>
#include <sys/types.h>

#include <string>

#include "draw.h"

// A path of up to three names, now and then an odd one. Nothing says yet where it starts.
std::string draw_path(Draw &draw);
// What a symlink says: '@' stands for the root and '%' for a directory out of it.
std::string draw_target(Draw &draw);
std::string draw_bytes(Draw &draw);
int draw_open_flags(Draw &draw);
off_t draw_offset(Draw &draw);

inline constexpr int access_modes[] = {O_RDONLY, O_RDONLY, O_WRONLY, O_RDWR, O_RDWR, O_ACCMODE};
inline constexpr mode_t modes[] = {0644, 0755, 0600, 0666, 0777, 0, 0400, 0200, 0100, 01777, 02755, 04755, 07777};
inline constexpr mode_t masks[] = {022, 0, 027, 077, 0777};
inline constexpr int owners[] = {-1, 0, 100, 65534, 12345};
inline constexpr off_t page = 4096;
inline constexpr off_t sizes[] = {0, 1, 5, 100, page - 1, page, page + 1, 3 * page, 70'000};
