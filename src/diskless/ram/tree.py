"""Tree: the Backing whose names exist for this process only, as paths under /diskless or at a path of choice."""

from __future__ import annotations

import contextlib
import errno
import itertools
import logging
import os
from collections.abc import Mapping

from diskless import native_api as native
from diskless.errors import BackingUnavailable, DescriptorLimit, MountPathError
from diskless.ram import safetensors_writer
from diskless.ram.budget import Limit, memory_limits
from diskless.ram.file import RamFile
from diskless.ram.names import Names, in_turn
from diskless.ram.root import Root
from diskless.ram.url import ROOT

_log = logging.getLogger("diskless")
# Whoever runs in this process may write, as in a /tmp; nobody else sees it.
_SCRATCH_MODE = 0o1777
# What the native library says where the user's own calls have made something of the name, or of one above it.
_TAKEN = (errno.EEXIST, errno.ENOTDIR, errno.EROFS)
_FORBIDDEN = ("/", "/proc", "/sys", "/dev")


class _NativeNames:
    """Makes names in the native library."""

    def link(self, path: str, file: RamFile) -> None:
        native.set_file(path, file.fd, 0o444, file.mtime_ns, file.gate)

    def unlink(self, path: str) -> None:
        native.remove(path)

    def make_directory(self, path: str) -> None:
        native.set_directory(path, 0o555, 0)

    def remove_directory(self, path: str) -> None:
        native.remove(path)


class Tree:
    """RAM files are memfds; libc's path calls are redirected while at least one Mount is open."""

    name = "tree"
    survives_fork = True

    def __init__(self) -> None:
        self._names = Names(_NativeNames())
        self._at: set[str] = set()  # the shadows of Mounts that are open
        self._scratches: set[str] = set()
        self._rooted = False

    def limits(self) -> list[Limit]:
        return memory_limits()

    def allocate(self, size_bytes: int, mtime_ns: int) -> RamFile:
        try:
            fd = native.memfd("diskless")
        except OSError as error:
            raise DescriptorLimit(f"no RAM file could be made: {error}; see `ulimit -n`") from None
        try:
            os.ftruncate(fd, size_bytes)
            return RamFile(size_bytes, mtime_ns, fd, gate=_gate())
        except BaseException:
            native.release(fd)
            raise

    def settle(self, file: RamFile) -> None:
        if file.complete:
            native.seal(file.fd)
        native.gate_settle(file.gate, complete=file.complete)

    def discard(self, file: RamFile) -> None:
        if file.fd >= 0:
            native.release(file.fd)
            file.fd = -1
            if not file.inherited:
                native.gate_free(file.gate)

    def check_at(self, at: str) -> str:
        path = os.path.expanduser(at)
        if not os.path.isabs(path):
            raise MountPathError(f"at={at!r} is relative: give an absolute path (or one that begins with ~)")
        path = os.path.normpath(path)
        real = os.path.realpath(path)
        for candidate in (path, real):
            if candidate in _FORBIDDEN or candidate.startswith(("/proc/", "/sys/")):
                raise MountPathError(f"at={at!r}: {candidate} cannot be shadowed; choose a directory of its own")
            around = self._around(candidate)
            if around in self._scratches and around != candidate:
                continue
            if around in self._scratches:
                raise MountPathError(
                    f"at={at!r}: a scratch is open at {around} already; close it, or choose another path"
                )
            if around == ROOT:
                raise MountPathError(
                    f"at={at!r} lies in {ROOT}, where Mounts without at= and ram:// show; choose a path outside it"
                )
            if around is not None:
                raise MountPathError(
                    f"at={at!r} lies inside {around}, where a read-only Mount shows; choose a path outside it"
                )
        return path

    def _around(self, path: str) -> str | None:
        """Return the innermost open root that `path` is or lies in."""
        roots = {os.path.realpath(root): root for root in self._at}
        roots |= {root: root for root in (ROOT, *self._at)}
        roots |= {os.path.realpath(root): root for root in self._scratches}
        roots |= {root: root for root in self._scratches}
        inside = [root for root in roots if path == root or path.startswith(root + "/")]
        return roots[max(inside, key=len)] if inside else None

    def show(self, place: str, at: str | None, files: Mapping[str, RamFile]) -> str:
        if at is not None:
            self._show_at(self.check_at(at), files)
            return self.check_path(at)
        self._root()
        path = self._show_in_turn(place, files)
        try:
            self._activate()
        except BaseException:
            self._names.hide(path)
            raise
        return path

    def _show_in_turn(self, place: str, files: Mapping[str, RamFile]) -> str:
        scheme, _, rest = place.partition("/")
        for top in in_turn(f"{ROOT}/{scheme}"):
            # Something else may show there already: another version, another selection, what other credentials see,
            # or what was written to ram://.
            path = f"{top}/{rest}"
            absolute = absolute_names(path, files)
            if not self._names.accept(ROOT, path, absolute):
                continue
            try:
                self._names.show(ROOT, path, absolute)
                return path
            except OSError as error:
                if error.errno not in _TAKEN:
                    raise
        raise AssertionError("unreachable: the names do not end")

    def hide(self, path: str, files: Mapping[str, RamFile]) -> None:
        try:
            self._names.hide(path)
            if path in self._at:
                self._at.remove(path)
                native.root_remove(path)
        finally:
            self._deactivate()

    def make_scratch(self, at: str | None, budget_bytes: int | None) -> str:
        if at is not None:
            path = self.check_at(at)
            try:
                native.scratch_add(path, _SCRATCH_MODE, budget_bytes or 0)
            except OSError as error:
                raise MountPathError(f"at={at!r} cannot be shadowed: {error.strerror}") from None
        else:
            self._root()
            path = self._make_numbered(budget_bytes)
        try:
            self._activate()
        except BaseException:
            native.scratch_remove(path)
            raise
        self._scratches.add(path)
        return path

    def remove_scratch(self, path: str) -> None:
        self._deactivate()
        self._scratches.discard(path)
        native.scratch_remove(path)

    def scratch_bytes(self) -> int:
        return native.scratch_used()

    def _make_numbered(self, budget_bytes: int | None) -> str:
        for directory in in_turn(f"{ROOT}/scratch"):
            for number in itertools.count(1):
                path = f"{directory}/{number}"
                try:
                    native.scratch_add(path, _SCRATCH_MODE, budget_bytes or 0)
                    return path
                except FileExistsError:
                    continue
                except OSError as error:
                    if error.errno not in _TAKEN:
                        raise
                    break
        raise AssertionError("unreachable: the names do not end")

    def root(self) -> Root:
        from diskless.ram import calls  # late: few need them

        self._root()
        return Root(ROOT, calls)

    def _root(self) -> None:
        if not self._rooted:
            with contextlib.suppress(FileExistsError):  # another user of the native library made it
                native.scratch_add(ROOT, _SCRATCH_MODE, 0)
            self._rooted = True

    def check_path(self, at: str) -> str:
        """Return the path that an open shadow `at` shows at."""
        return os.path.normpath(os.path.expanduser(at))

    def _show_at(self, path: str, files: Mapping[str, RamFile]) -> None:
        try:
            native.root_add(path)
        except OSError as error:
            raise MountPathError(f"at={path!r} cannot be shadowed: {error.strerror}") from None
        try:
            self._names.show(path, path, absolute_names(path, files))
            try:
                self._activate()
            except BaseException:
                self._names.hide(path)
                raise
            self._at.add(path)
        except BaseException:
            native.root_remove(path)
            raise

    def _activate(self) -> None:
        _log_messages()
        limits = self.limits()
        if limits:
            native.set_space(limits[0].total_bytes, min(limit.free_bytes for limit in limits))
        try:
            native.activate()
        except OSError as error:
            raise BackingUnavailable(
                f"this process's calls cannot be redirected: {error.strerror}. Use backing='directory:<path>'"
            ) from None
        safetensors_writer.redirect()

    def _deactivate(self) -> None:
        _log_messages()
        safetensors_writer.restore()
        native.deactivate()


def _gate() -> int:
    try:
        return native.gate_make()
    except OSError as error:
        if error.errno != errno.ENFILE:
            raise
        raise DescriptorLimit(
            "a process holds at most 262,142 files of Mounts. Choose fewer with allow_patterns="
        ) from None


def _log_messages() -> None:
    """Log what native code wanted to say meanwhile: it may have been a vfork child, and cannot log."""
    for sentence in native.take_messages():
        _log.warning("%s", sentence)


def absolute_names(path: str, files: Mapping[str, RamFile]) -> dict[str, RamFile]:
    """Return the files of a place at `path` by absolute path; the name ``""`` is the place itself."""
    return {f"{path}/{name}" if name else path: file for name, file in files.items()}
