"""Names are counted: several Mounts may show one path, and none takes it from another."""

from __future__ import annotations

import pytest

from diskless.ram.file import RamFile
from diskless.ram.names import Names


class Recorder:
    """A Namer that keeps what exists in a set and can be told to fail."""

    def __init__(self) -> None:
        self.there: set[str] = {"/base"}
        self.fail_at: str | None = None

    def _add(self, path: str) -> None:
        if path == self.fail_at:
            raise OSError(28, "no space", path)
        assert path.rpartition("/")[0] in self.there, f"{path} has no parent"
        assert path not in self.there
        self.there.add(path)

    def _remove(self, path: str) -> None:
        if path not in self.there:
            raise FileNotFoundError(path)
        assert not any(other.startswith(path + "/") for other in self.there), f"{path} is not empty"
        self.there.remove(path)

    def link(self, path: str, file: RamFile) -> None:
        self._add(path)

    def unlink(self, path: str) -> None:
        self._remove(path)

    def make_directory(self, path: str) -> None:
        self._add(path)

    def remove_directory(self, path: str) -> None:
        self._remove(path)


def _file() -> RamFile:
    return RamFile(size_bytes=1, mtime_ns=0, fd=-1)


def test_what_is_hidden_as_often_as_it_was_shown_is_gone():
    recorder, file = Recorder(), _file()
    names = Names(recorder)
    names.show("/base", "/base/a", {"/base/a/b/x": file, "/base/a/y": file})
    names.show("/base", "/base/a/b", {"/base/a/b/x": file})
    assert recorder.there == {"/base", "/base/a", "/base/a/b", "/base/a/b/x", "/base/a/y"}
    names.hide("/base/a")
    assert recorder.there == {"/base", "/base/a", "/base/a/b", "/base/a/b/x"}
    names.hide("/base/a/b")
    assert recorder.there == {"/base"}


def test_a_name_that_shows_other_bytes_is_not_accepted():
    recorder, file, other = Recorder(), _file(), _file()
    names = Names(recorder)
    names.show("/base", "/base/a", {"/base/a/x": file})
    assert names.accept("/base", "/base/a", {"/base/a/x": file})
    assert not names.accept("/base", "/base/a", {"/base/a/x": other})
    assert not names.accept("/base", "/base/a", {"/base/a": other})  # a directory
    assert not names.accept("/base", "/base/a/x", {"/base/a/x/z": other})  # below a file


@pytest.mark.parametrize(
    ("place", "added", "accepted"),
    [
        ("a/b", ["a/b/x", "a/b/c/y"], True),
        ("a/b", ["a/b/x"], False),
        ("a/b", ["a/b/x", "a/b/c/y", "a/b/c/z"], False),
        ("a/b", ["a/b/x", "a/b/c/y", "a/b/d/z"], False),
        ("a/b/c", ["a/b/c/y"], True),
        ("a/b/c", ["a/b/c/z"], False),
        ("a/b/c/y", ["a/b/c/y"], True),
        ("a/b/z", ["a/b/z"], False),
        ("a", ["a/b/x", "a/b/c/y", "a/w"], True),
        ("a", ["a/b/x", "a/w"], False),
        ("a", ["a/b/x", "a/b/c/y", "a/b/z"], False),
        ("a", ["a/w"], False),
        ("a/w", ["a/w"], True),
        ("a/bb", ["a/bb/x"], True),
    ],
)
def test_a_place_has_its_own_names_and_no_others(place, added, accepted):
    files = {f"/base/{path}": _file() for path in ("a/b/x", "a/b/c/y")}
    names = Names(Recorder())
    names.show("/base", "/base/a/b", files)
    wanted = {f"/base/{path}": files.get(f"/base/{path}") or _file() for path in added}
    assert names.accept("/base", f"/base/{place}", wanted) is accepted
    names.hide("/base/a/b")
    assert names.accept("/base", f"/base/{place}", wanted)


def test_an_interrupt_between_two_names_leaves_none():
    class Interrupted(Recorder):
        def unlink(self, path: str) -> None:
            super().unlink(path)
            if path == "/base/a/y":
                raise KeyboardInterrupt

    recorder = Interrupted()
    names = Names(recorder)
    names.show("/base", "/base/a", {f"/base/a/{name}": _file() for name in "xyz"})
    with pytest.raises(KeyboardInterrupt):
        names.hide("/base/a")
    assert recorder.there == {"/base"}


def test_all_names_appear_or_none():
    recorder = Recorder()
    names = Names(recorder)
    recorder.fail_at = "/base/a/z"
    with pytest.raises(OSError, match="no space"):
        names.show("/base", "/base/a", {"/base/a/x": _file(), "/base/a/z": _file()})
    assert recorder.there == {"/base"}


@pytest.mark.parametrize("at", ["/base/a", "/base/a/b/x"])
def test_an_interrupt_while_names_are_made_leaves_none(at):
    class Interrupted(Recorder):
        def _add(self, path: str) -> None:
            super()._add(path)
            if path == at:
                raise KeyboardInterrupt

    recorder = Interrupted()
    names = Names(recorder)
    with pytest.raises(KeyboardInterrupt):
        names.show("/base", "/base/a", {"/base/a/b/x": _file(), "/base/a/y": _file()})
    assert recorder.there == {"/base"}
