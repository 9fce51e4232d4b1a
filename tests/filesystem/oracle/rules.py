"""The operations that are drawn: every rule is one operation with random arguments."""

from __future__ import annotations

import fcntl
import os

from hypothesis import strategies as st
from hypothesis.stateful import rule

from tests.filesystem.oracle import places
from tests.filesystem.oracle.libc import RENAME_EXCHANGE, RENAME_NOREPLACE, STATX_BASIC_STATS, STATX_BTIME
from tests.filesystem.oracle.machine import Oracle, directories, handles, streams, where
from tests.filesystem.oracle.places import Flags, Mode, Place

targets = st.one_of(where(), where(), handles())
times = st.one_of(st.none(), st.tuples(places.old_times(), places.old_times()))
xattrs = st.sampled_from(
    ["user.a", "user.b", "user.a", "user.", "user." + "n" * 251, "trusted.a", "security.a", "system.a", "a"]
)
AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH = 0x100, 0x1000
ALLOCATIONS = [
    0,
    1,  # FALLOC_FL_KEEP_SIZE
    3,  # with PUNCH_HOLE, as it has to be
    *(2, 16, 8),  # PUNCH_HOLE alone, ZERO_RANGE, COLLAPSE_RANGE: refused
]


class Descriptors(Oracle):
    """What is done through a descriptor."""

    @rule(place=where(), flags=places.flags(), mode=places.modes())
    def open(self, place, flags, mode):
        self.open_handle("open", place, flags, mode)

    @rule(place=where(), access=st.sampled_from(places.ACCESS), excl=st.booleans(), mode=places.modes())
    def open_unnamed(self, place, access, excl, mode):
        self.open_handle("open", place, Flags(os.O_TMPFILE | access | (os.O_EXCL if excl else 0)), mode)

    @rule(handle=handles(), flags=places.flags())
    def reopen(self, handle, flags):
        self.open_handle("reopen", handle, Flags(flags & ~os.O_CREAT))

    @rule(handle=handles(), command=st.sampled_from([fcntl.F_DUPFD, fcntl.F_DUPFD_CLOEXEC]))
    def dup(self, handle, command):
        self.open_handle("dup", handle, command)

    @rule(handle=handles())
    def close(self, handle):
        if len(self.handles) > 1:
            self.handles.remove(handle)
            self.both("close", handle)

    @rule(handle=handles(), size=places.sizes())
    def read(self, handle, size):
        self.both("read", handle, size)

    @rule(handle=handles(), size=places.sizes(), offset=places.offsets())
    def pread(self, handle, size, offset):
        self.both("pread", handle, size, offset)

    @rule(handle=handles(), data=places.data())
    def write(self, handle, data):
        self.both("write", handle, data)

    @rule(handle=handles(), data=st.lists(places.data(), max_size=3))
    def writev(self, handle, data):
        self.both("writev", handle, data)

    @rule(handle=handles(), data=places.data(), offset=places.offsets())
    def pwrite(self, handle, data, offset):
        self.both("pwrite", handle, data, offset)

    @rule(handle=handles(), offset=places.offsets(), whence=st.sampled_from([0, 1, 2, os.SEEK_DATA, os.SEEK_HOLE]))
    def seek(self, handle, offset, whence):
        self.both("seek", handle, offset, whence)

    @rule(handle=handles(), size=places.offsets())
    def ftruncate(self, handle, size):
        self.both("ftruncate", handle, size)

    @rule(
        handle=handles(),
        mode=st.sampled_from(ALLOCATIONS),
        offset=places.offsets(),
        length=st.sampled_from([0, 1, 4096, 70_000, -1]),
    )
    def fallocate(self, handle, mode, offset, length):
        self.both("fallocate", handle, mode, offset, length)

    @rule(handle=handles())
    def fsync(self, handle):
        self.both("fsync", handle)

    @rule(to=handles(), source=handles(), offset=places.sizes(), size=places.sizes())
    def sendfile(self, to, source, offset, size):
        self.both("sendfile", to, source, offset, size)

    @rule(source=handles(), to=handles(), size=places.sizes(), at=st.one_of(st.none(), places.sizes()))
    def copy_file_range(self, source, to, size, at):
        self.both("copy_file_range", source, to, size, at, at)

    @rule(handle=handles(), private=st.booleans(), data=st.binary(min_size=1, max_size=8))
    def map(self, handle, private, data):
        self.both("map", handle, private, data)

    @rule(handle=handles(), operation=st.sampled_from([fcntl.LOCK_SH, fcntl.LOCK_EX, fcntl.LOCK_UN]))
    def flock(self, handle, operation):
        self.both("flock", handle, operation)

    @rule(handle=handles(), kind=st.sampled_from([fcntl.F_RDLCK, fcntl.F_WRLCK, fcntl.F_UNLCK]), start=places.sizes())
    def lock_range(self, handle, kind, start):
        self.both("lock_range", handle, kind, start, 10)

    @rule(handle=handles())
    def status_flags(self, handle):
        self.both("status_flags", handle)

    @rule(handle=handles(), flags=st.sampled_from([0, os.O_APPEND, os.O_NONBLOCK]))
    def set_status_flags(self, handle, flags):
        self.both("set_status_flags", handle, Flags(flags))

    @rule(handle=handles())
    def name_in_proc(self, handle):
        self.both("name_in_proc", handle)

    @rule(handle=handles(), place=where())
    def same(self, handle, place):
        self.both("same", handle, place)


class Names(Oracle):
    """What makes, moves and takes away names."""

    @rule(place=where(), mode=places.modes())
    def mkdir(self, place, mode):
        self.both("mkdir", place, mode)

    @rule(place=where(), mode=places.modes())
    def mknod(self, place, mode):
        self.both("mknod", place, mode)

    @rule(place=where())
    def rmdir(self, place):
        self.both("rmdir", place)

    @rule(place=where())
    def unlink(self, place):
        self.both("unlink", place)

    @rule(old=where(), new=where())
    def rename(self, old, new):
        self.both("rename", old, new)

    @rule(old=where(), new=where(), flags=st.sampled_from([RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_EXCHANGE, 0, 3]))
    def renameat2(self, old, new, flags):
        self.both("renameat2", old, new, flags)

    @rule(old=where(), new=where(), follow=st.booleans())
    def link(self, old, new, follow):
        self.both("link", old, new, follow)

    @rule(handle=handles(), new=where(), empty_path=st.booleans())
    def link_handle(self, handle, new, empty_path):
        self.both("link_handle", handle, new, empty_path)

    @rule(to=places.targets(), place=where())
    def symlink(self, to, place):
        self.both("symlink", to, place)

    @rule(place=where())
    def readlink(self, place):
        self.both("readlink", place)

    @rule(place=where())
    def realpath(self, place):
        self.both("realpath", place)

    @rule(mask=places.umasks())
    def set_umask(self, mask):
        if not self.over:
            self.umask(mask)


class Metadata(Oracle):
    """What asks for or changes what is known of a file."""

    @rule(place=where(), follow=st.booleans())
    def stat(self, place, follow):
        self.both("stat", place, follow)

    @rule(handle=handles())
    def fstat(self, handle):
        self.both("fstat", handle)

    @rule(
        place=where(),
        flags=st.sampled_from([0, AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH, 0x2000]),
        mask=st.sampled_from([STATX_BASIC_STATS, STATX_BASIC_STATS | STATX_BTIME, 1, 0, 0x80000000]),
    )
    def statx(self, place, flags, mask):
        self.both("statx", place, flags, mask)

    @rule(place=where(), mode=st.integers(0, 7), effective=st.booleans(), follow=st.booleans())
    def access(self, place, mode, effective, follow):
        self.both("access", place, mode, effective, follow)

    @rule(place=where(), mode=places.modes())
    def chmod(self, place, mode):
        self.both("chmod", place, mode)

    @rule(handle=handles(), mode=places.modes())
    def fchmod(self, handle, mode):
        self.both("fchmod", handle, mode)

    @rule(place=where(), uid=places.ids(), gid=places.ids(), follow=st.booleans())
    def chown(self, place, uid, gid, follow):
        self.both("chown", place, uid, gid, follow)

    @rule(handle=handles(), uid=places.ids(), gid=places.ids())
    def fchown(self, handle, uid, gid):
        self.both("fchown", handle, uid, gid)

    @rule(place=where(), times=times, follow=st.booleans())
    def utime(self, place, times, follow):
        self.both("utime", place, times, follow)

    @rule(handle=handles(), times=times)
    def futimens(self, handle, times):
        self.both("futimens", handle, times)

    @rule()
    def set_mark(self):
        if not self.over and len(self.trace) >= self.marked + 10:  # it takes some milliseconds
            self.marked = len(self.trace)
            self.mark()

    @rule(place=where(), size=places.offsets())
    def truncate(self, place, size):
        self.both("truncate", place, size)

    @rule(place=where())
    def longest_name(self, place):
        self.both("longest_name", place)

    @rule(on=targets, name=xattrs, value=places.data(), flags=st.sampled_from([0, 0, 1, 2, 4]), follow=st.booleans())
    def setxattr(self, on, name, value, flags, follow):
        self.both("setxattr", on, name, value, flags, follow)

    @rule(on=targets, name=xattrs, follow=st.booleans())
    def getxattr(self, on, name, follow):
        self.both("getxattr", on, name, follow)

    @rule(on=targets, follow=st.booleans())
    def listxattr(self, on, follow):
        self.both("listxattr", on, follow)

    @rule(on=targets, name=xattrs, follow=st.booleans())
    def removexattr(self, on, name, follow):
        self.both("removexattr", on, name, follow)


class Directories(Oracle):
    """What lists directories."""

    @rule(on=targets)
    def listdir(self, on):
        self.both("listdir", on)

    @rule(place=where())
    def scandir(self, place):
        self.both("scandir", place)

    @rule(place=where(), position=st.integers(0, 6))
    def seek_back(self, place, position):
        self.both("seek_back", place, position)

    @rule(place=where())
    def stream(self, place):
        self.open_stream(place)

    @rule(stream=streams(), count=st.integers(1, 8))
    def next_of_stream(self, stream, count):
        if stream:
            self.both("next_of_stream", stream, count)

    @rule(stream=streams())
    def rewind_stream(self, stream):
        if stream:
            self.both("rewind_stream", stream)

    @rule(stream=streams())
    def close_stream(self, stream):
        if stream:
            self.streams.remove(stream)
            self.both("close_stream", stream)


class Everything(Descriptors, Names, Metadata, Directories):
    """All but the working directory."""


class WithWorkingDirectory(Everything):
    """Relative paths too, from a working directory that a handle leads to and that is left again."""

    here = st.builds(lambda path: Place(path, "here"), places.paths())
    single = st.sampled_from(["unlink", "rmdir", "readlink", "realpath", "listdir", "scandir", "longest_name"])

    @rule(handle=directories(), operation=single, place=here)
    def there(self, handle, operation, place):
        self._there(handle, operation, place)

    @rule(handle=directories(), operation=st.sampled_from(["mkdir", "chmod", "mknod"]), place=here, mode=places.modes())
    def there_with_mode(self, handle, operation, place, mode):
        self._there(handle, operation, place, Mode(mode))

    @rule(handle=directories(), operation=st.sampled_from(["rename", "renameat2", "link"]), old=here, new=here)
    def there_with_two(self, handle, operation, old, new):
        self._there(handle, operation, old, new, *([] if operation == "rename" else [1]))

    @rule(handle=directories(), place=here, follow=st.booleans())
    def stat_there(self, handle, place, follow):
        self._there(handle, "stat", place, follow)

    @rule(handle=directories())
    def getcwd(self, handle):
        self.both("getcwd_at", handle)

    @rule(handle=directories(), place=here, flags=places.flags(), mode=places.modes())
    def open_there(self, handle, place, flags, mode):
        from_there = Place(place.path, "at", handle)
        if self._leads_out("open", (from_there,)):
            return
        self.open_handle("go_and_open", handle, place, flags, mode)

    def _there(self, handle, operation, *arguments):
        moved = [Place(each.path, "at", handle) if isinstance(each, Place) else each for each in arguments]
        if not self._leads_out(operation, tuple(moved)):
            self.both("go_and", handle, operation, *arguments)
