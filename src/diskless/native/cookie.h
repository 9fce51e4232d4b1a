// C streams that write past no hook. libc writes a stream's buffer from inside, so one on a file of a scratch is made
// with functions of ours beneath (fopencookie(3)).
#pragma once

#include <stdio.h>

namespace diskless {

// The stream of a descriptor, as fdopen(3) makes it; the descriptor is the stream's then. Null with errno.
FILE *open_counted(int fd, const char *mode);

// The descriptor beneath a stream that open_counted made with functions of ours, or -1.
int descriptor_of(FILE *stream);
// Lets such a stream go on with another descriptor, in another mode of fopen(3). Takes `fd`; false with errno.
bool replace_descriptor(FILE *stream, int fd, const char *mode);

}  // namespace diskless
