"""What a scratch does otherwise than a tmpfs, and is known for: the oracle leaves it out unless it is strict."""

from __future__ import annotations

import os

# Reading, writing and sizing a directory through its descriptor. The descriptor is a sealed memfd, so it all fails, but
# some of it with another errno than EISDIR; to watch every read(2) for it would cost all programs something and nobody
# a thing. And a flock(2) of a directory is met by who opens the directory while the descriptor that was opened first is
# open itself, not only a copy of it. By operation, the positions of the handles among its arguments.
HANDLES_OF_DATA = {
    **dict.fromkeys(("read", "pread", "write", "writev", "pwrite", "ftruncate", "fallocate", "map"), (0,)),
    **dict.fromkeys(("seek", "lock_range", "flock"), (0,)),
    **dict.fromkeys(("sendfile", "copy_file_range"), (0, 1)),
}

# linkat(fd, "", AT_EMPTY_PATH) by an ordinary user depends on the descriptor having been opened with the very same
# credentials (Linux 6.10), which for the test, that has been root in between, are others each time.
ROOT_ONLY = {"link_handle"}


# There is no descriptor of a symlink itself (ELOOP). And the link in /proc has a mode that tells how the kernel has the
# descriptor open, and a directory's is so for writing.
def may_open_link_itself(flags: int) -> bool:
    return flags & (os.O_PATH | os.O_NOFOLLOW | os.O_DIRECTORY) == os.O_PATH | os.O_NOFOLLOW


# Two more are in world.py. F_GETFL says nothing of how the path was looked up, by O_DIRECTORY (also a part of
# O_TMPFILE) and O_NOFOLLOW: a memfd cannot have been opened with these. And the name that /proc/self/fd shows for a
# file is one of those that it has by now, not the one it was opened by; for a removed directory it ends in " (deleted)"
# here, too, but it is no longer known which it was.
