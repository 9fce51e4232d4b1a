"""The C interface that makes and takes names away."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from tests.native.tree import MTIME_NS, NativeTree


def refused(error: int, function: object, *arguments: object) -> None:
    with pytest.raises(OSError) as caught:
        function(*arguments)  # type: ignore[operator]
    assert caught.value.errno == error, caught.value


def test_nothing_is_visible_without_activation(tree: NativeTree) -> None:
    tree.file("a", b"bytes")
    assert os.path.exists(tree.path("a"))
    tree.deactivate()
    assert not os.path.exists(tree.path("a"))
    tree.activate()
    assert os.path.exists(tree.path("a"))


def test_a_file_has_the_mode_time_size_and_bytes_it_was_given(tree: NativeTree) -> None:
    tree.file("deep/down/a", b"bytes", mode=0o640)
    status = os.stat(tree.path("deep/down/a"))
    assert (stat.S_IFMT(status.st_mode), stat.S_IMODE(status.st_mode)) == (stat.S_IFREG, 0o640)
    assert (status.st_size, status.st_mtime_ns, status.st_nlink) == (5, MTIME_NS, 1)
    assert stat.S_ISDIR(os.stat(tree.path("deep/down")).st_mode)
    with open(tree.path("deep/down/a"), "rb") as file:
        assert file.read() == b"bytes"


def test_two_names_of_one_memfd_are_hard_links(tree: NativeTree) -> None:
    fd = tree.file("first", b"same")
    tree.file("second", fd=fd)
    first, second = os.stat(tree.path("first")), os.stat(tree.path("second"))
    assert (first.st_ino, first.st_dev, first.st_nlink) == (second.st_ino, second.st_dev, 2)
    assert os.path.samefile(tree.path("first"), tree.path("second"))
    tree.remove("first")
    assert os.stat(tree.path("second")).st_nlink == 1
    assert os.path.realpath(tree.path("second")) == tree.path("second")


def test_naming_another_file_replaces_the_first(tree: NativeTree) -> None:
    tree.file("a", b"old")
    with open(tree.path("a"), "rb") as old:
        tree.call("set_file", os.fsencode(tree.path("a")), tree.memfd(b"new"), 0o444, 0, -1)
        with open(tree.path("a"), "rb") as new:
            assert (old.read(), new.read()) == (b"old", b"new")
        assert os.fstat(old.fileno()).st_nlink == 0


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("d", errno.EISDIR),
        ("f/below", errno.ENOTDIR),
        ("n" * 256, errno.ENAMETOOLONG),
        ("../outside", errno.EINVAL),
    ],
)
def test_names_that_cannot_be_are_refused(tree: NativeTree, name: str, error: int) -> None:
    tree.file("f", b"")
    tree.file("d/inside", b"")
    fd = tree.memfd(b"")
    refused(error, tree.call, "set_file", os.fsencode(tree.path(name)), fd, 0o444, 0, -1)


def test_a_path_outside_every_root_is_refused(tree: NativeTree) -> None:
    refused(errno.ENOENT, tree.call, "set_file", b"/nowhere/at/all", tree.memfd(b""), 0o444, 0, -1)
    refused(errno.EINVAL, tree.call, "set_file", b"relative", tree.memfd(b""), 0o444, 0, -1)
    refused(errno.EBADF, tree.call, "set_file", os.fsencode(tree.path("x")), 123456, 0o444, 0, -1)


def test_only_an_empty_directory_is_removed(tree: NativeTree) -> None:
    tree.file("d/a", b"")
    refused(errno.ENOTEMPTY, tree.call, "remove", os.fsencode(tree.path("d")))
    refused(errno.ENOENT, tree.call, "remove", os.fsencode(tree.path("d/b")))
    tree.remove("d/a")
    tree.remove("d")
    assert not os.path.exists(tree.path("d"))


def test_roots_do_not_overlap(tree: NativeTree) -> None:
    refused(errno.EEXIST, tree.call, "root_add", b"/diskless")
    refused(errno.EEXIST, tree.call, "root_add", os.fsencode(tree.path("inside")))
    refused(errno.EINVAL, tree.call, "root_add", b"relative")
    refused(errno.EINVAL, tree.call, "root_add", b"/a/../b")
    refused(errno.ENOENT, tree.call, "root_remove", b"/never/added")


def test_the_tree_says_which_paths_lead_into_it(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "shadow")
    with NativeTree(str(tmp_path / "shadow")) as tree:
        tree.file("f", b"")

        def contained(path: str) -> bool:
            return bool(tree.call("contains", os.fsencode(path)))

        for inside in ("", "f", "missing", "missing/below", "f/below", "../shadow/f", "../link", "../link/f"):
            assert contained(tree.path(inside)), inside
        for outside in ("..", "../shadowed", "../missing"):
            assert not contained(tree.path(outside)), outside
        assert not any(map(contained, ("", ".", "relative", "/", "/proc/self/fd")))
    assert not contained(tree.path("f"))


def test_space_is_what_was_set(tree: NativeTree) -> None:
    tree.call("set_space", 1 << 30, 1 << 20)
    space = os.statvfs(tree.root)
    assert (space.f_frsize * space.f_blocks, space.f_frsize * space.f_bavail) == (1 << 30, 1 << 20)
    fd = os.open(tree.root, os.O_RDONLY)
    assert os.fstatvfs(fd).f_blocks == space.f_blocks
    os.close(fd)


def test_names_may_hold_every_byte(tree: NativeTree) -> None:
    names = [bytes([byte]) for byte in range(1, 256) if byte not in b"/."]
    for name in names:
        tree.file(os.fsdecode(name), b"x")
    assert sorted(os.listdir(os.fsencode(tree.root))) == sorted(names)
    assert all(os.path.isfile(os.path.join(os.fsencode(tree.root), name)) for name in names)


def test_hundreds_of_levels_of_directories(tree: NativeTree) -> None:
    depth = 300
    tree.file("/".join("d" * depth) + "/f", b"deep")
    assert sum(1 for _ in os.walk(tree.root)) == depth + 1
    with open(tree.path("/".join("d" * depth) + "/f"), "rb") as file:
        assert file.read() == b"deep"
