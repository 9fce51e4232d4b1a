"""/diskless itself may be written by the user's calls, and the names that Mounts make there are apart from those."""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from collections.abc import Iterator

import pytest

from tests.native.tree import NativeTree, error_of


@pytest.fixture
def mine(tree: NativeTree) -> Iterator[str]:
    """A directory in /diskless that the user made."""
    path = f"/diskless/mine-{uuid.uuid4().hex[:12]}"
    os.mkdir(path)
    yield path
    shutil.rmtree(path, ignore_errors=True)


def test_it_is_written_as_a_scratch_is(tree: NativeTree, mine: str) -> None:
    with open(f"{mine}/a", "w") as file:
        file.write("text")
    os.rename(f"{mine}/a", f"{mine}/b")
    assert os.listdir(mine) == ["b"] and os.path.basename(mine) in os.listdir("/diskless")
    assert os.stat("/diskless").st_mode & 0o7777 == 0o1777
    assert os.statvfs(mine).f_flag & os.ST_RDONLY == os.statvfs("/diskless").f_flag & os.ST_RDONLY == 0
    assert os.statvfs(tree.root).f_flag & os.ST_RDONLY


def test_what_the_user_made_is_never_a_mounts(tree: NativeTree, mine: str) -> None:
    file = f"{mine}-file"
    open(file, "w").close()
    try:
        fd = tree.memfd(b"")
        for path, error in (
            (mine, errno.EEXIST),
            (file, errno.EEXIST),
            (f"{mine}/below", errno.EROFS),
            (f"{file}/below", errno.ENOTDIR),
        ):
            assert error_of(tree.call, "set_directory", os.fsencode(path), 0o555, 0) == error, path
            assert error_of(tree.call, "set_file", os.fsencode(path), fd, 0o444, 0, -1) == error, path
        for path in (mine, file):
            assert error_of(tree.call, "remove", os.fsencode(path)) == errno.EROFS
            assert error_of(tree.call, "scratch_add", os.fsencode(path), 0o755, 0) == errno.EEXIST
        assert error_of(tree.call, "scratch_add", os.fsencode(f"{mine}/1"), 0o755, 0) == errno.EROFS
        assert error_of(tree.call, "scratch_add", os.fsencode(f"{file}/1"), 0o755, 0) == errno.ENOTDIR
        assert error_of(tree.call, "root_add", os.fsencode(f"{mine}/1")) == errno.EEXIST
        assert os.listdir(mine) == [] and os.stat(mine).st_mode & 0o777 == 0o777 & ~_umask()
    finally:
        os.unlink(file)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_a_mounts_names_are_mount_points(tree: NativeTree, mine: str) -> None:
    """A directory, and a file that stands in /diskless itself."""
    tree.file("inside", b"1")
    file = f"/diskless/file-{uuid.uuid4().hex[:12]}"
    tree.call("set_file", os.fsencode(file), tree.memfd(b"2"), 0o444, 0, -1)
    try:
        for path in (tree.root, file):
            assert error_of(os.rename, path, f"{mine}/moved") == errno.EBUSY
            assert error_of(os.rename, path, f"{path}-moved") == errno.EBUSY
            assert error_of(os.rename, mine, path) == errno.EBUSY
        assert error_of(os.rmdir, tree.root) == errno.EBUSY
        assert error_of(os.unlink, file) == errno.EBUSY
        assert error_of(os.link, tree.path("inside"), f"{mine}/link") == errno.EXDEV
        assert error_of(os.rename, tree.path("inside"), f"{mine}/moved") == errno.EXDEV
        assert error_of(os.rename, mine, tree.path("moved")) == errno.EXDEV
        assert open(file, "rb").read() == b"2" and os.listdir(tree.root) == ["inside"]
    finally:
        tree.call("remove", os.fsencode(file))
