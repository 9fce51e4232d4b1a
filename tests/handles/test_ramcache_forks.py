"""ramcache:: in a forked child: it reads by filesystems of its own, which read as those of its parent."""

from __future__ import annotations

import io
import os
import signal
from collections.abc import Callable

import fsspec
import pytest
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from diskless.cached_filesystem import RamCacheFileSystem
from diskless.sources.filesystems import remade
from tests.loader.fault_server import FaultServer


@pytest.fixture
def server(s3_env):
    with FaultServer({"dir/one": b"first", "dir/two": b"second"}) as server:
        yield server


class Backwards(LocalFileSystem):
    """Reads what was written backwards, in a directory that it is given by its position."""

    def __init__(self, directory: str = "", **options: object) -> None:
        super().__init__(**options)
        self.directory = directory

    def info(self, path: str, **options: object) -> dict[str, object]:
        return {**super().info(self.directory + path), "name": path}

    def _open(self, path: str, mode: str = "rb", **options: object) -> io.BytesIO:
        with open(self.directory + path, mode) as file:
            return io.BytesIO(file.read()[::-1])


class Unregistered(MemoryFileSystem):
    protocol = "nobody-knows-this"

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return super()._strip_protocol(path.removeprefix(f"{cls.protocol}://"))


def _in_child(read: Callable[[], bytes]) -> bytes:
    """Return what `read` does in a forked child, or what it raises."""
    pipe = os.pipe()
    pid = os.fork()
    if pid == 0:
        signal.alarm(30)
        try:
            try:
                answer = read()
            except BaseException as error:
                answer = repr(error).encode()
            os.write(pipe[1], answer)
        finally:
            os._exit(0)
    os.close(pipe[1])
    with open(pipe[0], "rb") as told:
        answer = told.read()
    os.waitpid(pid, 0)
    return answer


def test_a_subclass_stays_one(tmp_path):
    (tmp_path / "one").write_bytes(b"tsrif")
    (tmp_path / "two").write_bytes(b"dnoces")
    fs = RamCacheFileSystem(fs=Backwards(str(tmp_path)))
    assert fs.cat_file("/one") == b"first"
    assert [_in_child(lambda path=path: fs.cat_file(path)) for path in ("/one", "/two")] == [b"first", b"second"]
    # In a child of the child as well.
    assert _in_child(lambda: fs.cat_file("/one") + _in_child(lambda: fs.cat_file("/two"))) == b"firstsecond"


def test_nobody_need_know_its_protocol():
    beneath = Unregistered()
    beneath.pipe_file("/ramcache-fork/x", b"bytes")
    fs = RamCacheFileSystem(fs=beneath)
    assert _in_child(lambda: fs.cat_file("/ramcache-fork/x")) == b"bytes"
    beneath.rm("/ramcache-fork", recursive=True)


def test_one_that_is_made_of_another(server):
    import s3fs

    fs = RamCacheFileSystem(fs=DirFileSystem("faulty/dir", fs=s3fs.S3FileSystem(**server.s3fs_options)))
    assert fs.cat_file("one") == b"first"
    fs.clear_cache()
    assert _in_child(lambda: fs.cat_file("one") + fs.cat_file("two")) == b"firstsecond"


def test_options_that_hold_another(server):
    import s3fs

    options = {"path": "faulty/dir", "fs": s3fs.S3FileSystem(**server.s3fs_options)}
    fs = fsspec.filesystem("ramcache", target_protocol="dir", target_options=options)
    options["fs"].ls("faulty")
    assert _in_child(lambda: fs.cat_file("one")) == b"first"


def test_a_path_that_the_parent_has_read(server):
    """By s3fs itself, since only that understands the options."""
    options = {**server.s3fs_options, "config_kwargs": {"user_agent_extra": "x"}}
    fs = fsspec.filesystem("ramcache", target_protocol="s3", target_options=options)
    assert fs.cat_file("faulty/dir/one") == b"first"
    fs.clear_cache()
    assert _in_child(lambda: fs.cat_file("faulty/dir/one")) == b"first"


def test_all_that_a_filesystem_holds_is_made_anew():
    inner = Unregistered(skip_instance_cache=True)
    private = MemoryFileSystem(global_store=False)
    private.pipe_file("/x", b"its own")
    outer = Backwards("/here", nested={"list": [inner, 5], "tuple": (private,)}, skip_instance_cache=True)
    again = remade(outer)
    assert again is not outer and type(again) is Backwards and again.directory == "/here"
    nested = again.storage_options["nested"]
    assert type(nested["list"][0]) is Unregistered and nested["list"][0] is not inner and nested["list"][1] == 5
    assert nested["tuple"][0] is not private and nested["tuple"][0].cat_file("/x") == b"its own"
