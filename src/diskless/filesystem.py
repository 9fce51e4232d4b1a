"""The fsspec door: ``ram://``, a filesystem in this process's RAM. What is at ``ram://x`` is at ``/diskless/x``."""

from __future__ import annotations

import contextlib
import datetime
import errno
import os
import posixpath
import shutil
import stat
from glob import has_magic
from typing import Any, NoReturn

from fsspec import AbstractFileSystem
from fsspec.utils import stringify_path

from diskless.forks import LOCK
from diskless.ram.backing import choose
from diskless.ram.stream import NO_PICKLE, Stream, open_stream
from diskless.ram.url import ROOT, canonical, parent
from diskless.ram.whole import copy_bytes, copy_whole, remove_whole


class RamFileSystem(AbstractFileSystem):  # type: ignore[misc]  # fsspec has no types
    """Files in RAM, for whoever takes fsspec's URLs, and the same ones as paths while a Mount or a scratch is open.

    It needs no Mount and redirects nothing. Files that are written count as those of a scratch do: what crosses the
    limits of memory is ENOSPC. Open Mounts and scratches without ``at=`` are directories in it; Mounts are read-only
    (EROFS). Directories above a file that is written are made, as in an object store. What it holds is there until it
    is removed, or the process ends; other processes do not see it, and a forked child has a copy of the names and
    shares the bytes.

    On a Directory it is a real directory below the one named, which forked children share with their parent.

    Args:
        backing: ``"auto"``, ``"tree"`` or ``"directory:<path>"``; ``"auto"`` asks DISKLESS_BACKING first.

    Raises:
        InvalidOption: `backing` makes no sense.
        BackingUnavailable: the Backing cannot work on this system.

    Source: https://filesystem-spec.readthedocs.io/en/latest/developer.html

    Example:
        >>> from diskless.filesystem import RamFileSystem
        >>> fs = RamFileSystem()
        >>> with fs.open("ram://notes/a.txt", "w") as file:
        ...     _ = file.write("in RAM")
        >>> fs.ls("ram://notes", detail=False), fs.cat("ram://notes/a.txt")
        (['/diskless/notes/a.txt'], b'in RAM')
        >>> fs.rm("ram://notes", recursive=True)
    """

    protocol = "ram"
    root_marker = ROOT

    def __init__(self, backing: str = "auto", **storage_options: Any) -> None:
        super().__init__(backing=backing, **storage_options)
        with LOCK:
            chosen = choose(backing)
            root = chosen.root()
        self._root, self._calls, self._hidden = root.path, root.calls, root.hidden
        self._fsid = f"ram-{chosen.name}-{os.getpid()}"

    # Names

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, (list, tuple)):
            return [cls._strip_protocol(each) for each in path]
        return canonical(stringify_path(path))

    def unstrip_protocol(self, name: str) -> str:
        """Return the URL of a name: ``ram://x`` of ``/diskless/x``."""
        return "ram://" + canonical(name)[len(ROOT) + 1 :]

    @classmethod
    def _parent(cls, path: str) -> str:
        return parent(canonical(stringify_path(path)))

    @property
    def fsid(self) -> str:
        """A name that no other ram:// has at the moment."""
        return self._fsid

    def _place(self, path: str) -> str:
        """Return the path at which the calls find it."""
        name = canonical(stringify_path(path))[len(ROOT) :]
        if self._hidden.intersection(name.split("/")[1:2]):
            raise FileNotFoundError(errno.ENOENT, "the Backing has something of its own there", f"ram:/{name}")
        return self._root + name

    def _name(self, place: str) -> str:
        """Return the name of what the calls find at a path; of one elsewhere, that path."""
        return ROOT + place[len(self._root) :] if f"{place}/".startswith(f"{self._root}/") else place

    # What is there

    def info(self, path: str, **kwargs: Any) -> dict[str, Any]:
        """Return what stat(2) says, with fsspec's names; of a symlink what it leads to.

        Raises FileNotFoundError where there is nothing, or a symlink that leads to nothing.
        """
        place = self._place(path)
        found = self._describe(place)
        if found["islink"]:
            self._calls.stat(place)
        return found

    def _describe(self, place: str) -> dict[str, Any]:
        status = self._calls.lstat(place)
        is_link = stat.S_ISLNK(status.st_mode)
        more = {}
        if is_link:
            more = {"destination": self._name(self._calls.readlink(place))}
            with contextlib.suppress(OSError):
                status = self._calls.stat(place)
        is_file, is_directory = stat.S_ISREG(status.st_mode), stat.S_ISDIR(status.st_mode)
        return {
            "name": self._name(place),
            "size": status.st_size if is_file else 0,
            "type": "file" if is_file else "directory" if is_directory else "other",
            "created": status.st_ctime,
            "islink": is_link,
            **{field: getattr(status, f"st_{field}") for field in ("mode", "uid", "gid", "mtime", "ino", "nlink")},
            **more,
        }

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> list[Any]:
        """Return what is in a directory, or the one file.

        A symlink to a directory is none of the directories in a listing, so `walk` and `find` do not follow it.
        """
        place = self._place(path)
        if not stat.S_ISDIR(self._calls.stat(place).st_mode):
            return [self._describe(place)] if detail else [self._name(place)]
        names = self._calls.listdir(place)
        if place == self._root:
            names = [name for name in names if name not in self._hidden]
        if not detail:
            return [self._name(f"{place}/{name}") for name in names]
        found = []
        for name in names:
            with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                found.append(self._describe(f"{place}/{name}"))
        for each in found:
            if each["islink"] and each["type"] == "directory":
                each["type"] = "other"
        return found

    def lexists(self, path: str, **kwargs: Any) -> bool:
        """Whether there is something of that name, be it a symlink that leads to nothing."""
        try:
            self._calls.lstat(self._place(path))
        except OSError:
            return False
        return True

    def islink(self, path: str) -> bool:
        """Whether it is a symlink."""
        return self.lexists(path) and stat.S_ISLNK(self._calls.lstat(self._place(path)).st_mode)

    def created(self, path: str) -> datetime.datetime:
        """Return when the file, or what is known of it, last changed: nothing keeps when it was made."""
        return datetime.datetime.fromtimestamp(self.info(path)["created"], tz=datetime.timezone.utc)

    def modified(self, path: str) -> datetime.datetime:
        """Return when the bytes last changed."""
        return datetime.datetime.fromtimestamp(self.info(path)["mtime"], tz=datetime.timezone.utc)

    # Directories

    def mkdir(self, path: str, create_parents: bool = True, **kwargs: Any) -> None:
        """Make a directory; raises FileExistsError where there is something."""
        place = self._place(path)
        try:
            self._calls.mkdir(place)
        except FileNotFoundError:
            if not create_parents:
                raise
            self._make_parents(place)
            self._calls.mkdir(place)

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        """Make a directory and those above it, as os.makedirs does."""
        try:
            self.mkdir(path)
        except FileExistsError:
            if not exist_ok or not self.isdir(path):
                raise

    def _make_parents(self, place: str) -> None:
        parent = posixpath.dirname(place)
        if len(parent) <= len(self._root):
            return
        try:
            self._calls.mkdir(parent)
        except FileNotFoundError:
            self._make_parents(parent)
            with contextlib.suppress(FileExistsError):  # another thread's
                self._calls.mkdir(parent)
        except FileExistsError:
            pass

    def rmdir(self, path: str) -> None:
        """Remove an empty directory; raises OSError (EBUSY) for ram:// itself and for where a Mount shows."""
        self._calls.rmdir(self._removable(path))

    # Removing and moving

    def _removable(self, path: str) -> str:
        place = self._place(path)
        if place == self._root:
            raise OSError(errno.EBUSY, "ram:// itself stays; remove what is in it", "ram://")
        return place

    def rm_file(self, path: str) -> None:
        """Remove one file or symlink."""
        self._remove(self._removable(path), recursive=False)

    def rm(self, path: str | list[str], recursive: bool = False, maxdepth: int | None = None) -> None:
        """Remove files, and with `recursive` directories with all that is in them; symlinks are not followed.

        Raises IsADirectoryError for a directory without `recursive`, FileNotFoundError where there is nothing.
        """
        if recursive and maxdepth is not None:
            for name in reversed(self.expand_path(path, recursive=True, maxdepth=maxdepth)):
                self.rmdir(name) if self.isdir(name) and not self.islink(name) else self.rm_file(name)
            return
        for name in reversed(self.expand_path(path)):
            self._remove(self._removable(name), recursive)

    def _remove(self, place: str, recursive: bool) -> None:
        if not stat.S_ISDIR(self._calls.lstat(place).st_mode):
            return self._calls.unlink(place)
        if not recursive:
            raise IsADirectoryError(errno.EISDIR, "it is a directory: use recursive=True", self._name(place))
        remove_whole(self._calls, place)

    def mv(
        self,
        path1: str | list[str],
        path2: str | list[str],
        recursive: bool = True,
        maxdepth: int | None = None,
        **kwargs: Any,
    ) -> None:
        """Move a file or a directory in one step, into `path2` where that is a directory, as `shutil.move` does.

        To and from a scratch it is copied and removed; so are lists and patterns. Raises FileNotFoundError where there
        is no directory for the new name.
        """
        path1, path2 = stringify_path(path1), stringify_path(path2)
        if not isinstance(path1, str) or not isinstance(path2, str) or has_magic(path1) or maxdepth is not None:
            super().mv(path1, path2, recursive=recursive, maxdepth=maxdepth, **kwargs)
            return
        source, target = self._removable(path1), self._place(path2)
        if source != target and (path2.endswith("/") or self.isdir(path2)):
            target = f"{target}/{posixpath.basename(source)}"
        try:
            self._calls.rename(source, target)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            copy_whole(self._calls, source, target)
            self._remove(source, recursive=True)

    def cp_file(self, path1: str, path2: str, **kwargs: Any) -> None:
        """Copy the bytes of one file; of a directory only the directory itself.

        Raises shutil.SameFileError where both are one file.
        """
        source, target = self._place(path1), self._place(path2)
        status = self._calls.stat(source)
        if stat.S_ISDIR(status.st_mode):
            return self.makedirs(path2, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(status, self._calls.stat(target)):
                raise shutil.SameFileError(f"{path1} and {path2} are the same file")
        self._make_parents(target)
        copy_bytes(self._calls, source, target)

    # Files

    def _open(
        self,
        path: str,
        mode: str = "rb",
        block_size: int | None = None,
        autocommit: bool = True,
        cache_options: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Stream:
        place = self._place(path)
        try:
            return open_stream(place, mode, self._calls, autocommit=autocommit)
        except FileNotFoundError:
            if "r" in mode:
                raise
            self._make_parents(place)
            return open_stream(place, mode, self._calls, autocommit=autocommit)

    def cat(self, path: str | list[str], recursive: bool = False, on_error: str = "raise", **kwargs: Any) -> Any:
        """Return the bytes of a file, or of several by name; with `recursive` of all files in directories."""
        if not recursive:
            return super().cat(path, on_error=on_error, **kwargs)
        names = [name for name in self.expand_path(path, recursive=True) if not self.isdir(name)]
        one = isinstance(path, str) and names == [canonical(path)]
        return super().cat(names[0] if one else names, on_error=on_error, **kwargs)

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **kwargs: Any) -> None:
        """Write a file; with mode ``"create"`` raises FileExistsError where there is one."""
        with self.open(path, "xb" if mode == "create" else "wb", **kwargs) as file:
            file.write(value)

    def touch(self, path: str, truncate: bool = True, **kwargs: Any) -> None:
        """Make an empty file, or give one that is there the time of now; `truncate` empties it."""
        with self._open(path, "wb" if truncate else "ab"):
            pass
        self._calls.utime(self._place(path))

    def link(self, src: str, dst: str, **kwargs: Any) -> None:
        """Give a file one more name."""
        self._calls.link(self._place(src), self._place(dst))

    def symlink(self, src: str, dst: str, **kwargs: Any) -> None:
        """Make a symlink at `dst` that leads to `src`."""
        self._calls.symlink(self._place(src), self._place(dst))

    def chmod(self, path: str, mode: int) -> None:
        """Set the mode bits."""
        self._calls.chmod(self._place(path), mode)

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(NO_PICKLE.format("its filesystem"))
