"""The far end of a job, asked by hand: what it answers, and that it lets go of what it was handed."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from diskless import sources
from diskless.loader.protocol import Channel, queues
from diskless.loader.serve import Service
from diskless.sources import Object
from tests.loader.fault_server import Fault, FaultServer

pytestmark = pytest.mark.usefixtures("in_threads")
MIB = 1 << 20
DATA = os.urandom(MIB)


@contextmanager
def served(server: FaultServer) -> Iterator[Channel]:
    """A connection to a Service in a thread, with the server's bucket opened."""
    near, far = queues()
    service = threading.Thread(target=Service(far).run)
    service.start()
    try:
        spec = sources.resolve(server.url, storage_options=server.storage_options)
        near.send({"op": "open", "source": spec.to_message(), "refresh": False})
        yield near
    finally:
        near.end()
        near.close()
        server.stop()  # which ends the answers that hang
        service.join(60)
        assert not service.is_alive()


def _entry(server: FaultServer, key: str) -> list[object]:
    return Object(key, key, len(server.objects[key]), server.etag(key), None, 0).to_message()


def _open_for(inode: int) -> int:
    """How many descriptors of this process show the file."""
    count = 0
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the listing's own
            count += os.stat(int(fd)).st_ino == inode
    return count


def test_only_the_ranges_that_are_missing_are_asked_for() -> None:
    with FaultServer({"a": DATA}) as server, served(server) as channel:
        fd = os.memfd_create("a")
        os.pwrite(fd, DATA, 0)
        os.pwrite(fd, bytes(300), 100)
        os.pwrite(fd, bytes(50), MIB - 50)
        channel.send({"op": "files", "files": [[_entry(server, "a"), [[100, 400], [MIB - 50, MIB]], -1]]}, [fd])
        channel.send({"op": "fetch", "lazy": False, "verify": False, "connections": 8, "part_bytes": 32 << 20})
        messages = []
        while not messages or messages[-1]["op"] == "progress":
            messages.append(channel.receive()[0])
        assert messages[-1] == {"op": "complete"}
        assert messages[-2]["bytes"] == 350
        assert sorted(part for message in messages[:-1] for part in message["parts"]) == [
            [0, 100, 400],
            [0, MIB - 50, MIB],
        ]
        assert os.pread(fd, MIB, 0) == DATA
        assert server.sent_bytes("a") == 350
        os.close(fd)


def test_descriptors_are_closed_before_completion_is_told() -> None:
    with FaultServer({"a": DATA}) as server, served(server) as channel:
        fd = os.memfd_create("a")
        channel.send({"op": "files", "files": [[_entry(server, "a"), [[0, MIB]], -1]]}, [fd])
        channel.send({"op": "fetch", "lazy": False, "verify": False, "connections": 8, "part_bytes": 32 << 20})
        while channel.receive()[0]["op"] != "complete":
            pass
        # A file that is still open for writing could not be sealed, or not by everybody.
        assert _open_for(os.fstat(fd).st_ino) == 1
        os.close(fd)


@pytest.mark.parametrize("how", ["the connection ends", "another answer fails"])
def test_bytes_are_freed_at_once_though_an_answer_hangs(how: str) -> None:
    """What a transfer that has failed holds can be as large as a model."""
    broken = threading.Event()

    def plan(get) -> Fault:
        if get.key == "hangs":
            return Fault(hang_after=MIB // 2)
        broken.wait()
        return Fault(status=403, code="AccessDenied")

    with FaultServer({"hangs": DATA, "fails": DATA}, plan=plan) as server, served(server) as channel:
        fds = [os.memfd_create(key) for key in server.objects]
        inodes = [os.fstat(fd).st_ino for fd in fds]
        channel.send({"op": "files", "files": [[_entry(server, key), [[0, MIB]], -1] for key in server.objects]}, fds)
        for fd in fds:
            os.close(fd)
        channel.send({"op": "fetch", "lazy": False, "verify": False, "connections": 8, "part_bytes": 32 << 20})
        server.hanging.wait()
        assert sum(map(_open_for, inodes)) == 2
        if how == "the connection ends":
            channel.end()
        else:
            broken.set()
        message = {"op": "progress"}
        while message["op"] == "progress":
            try:
                message, _ = channel.receive()
            except EOFError:
                break
        # Not below, where the server ends and every answer with it.
        until = time.monotonic() + 10
        while sum(map(_open_for, inodes)) and time.monotonic() < until:
            time.sleep(0.001)
        left = sum(map(_open_for, inodes))
        broken.set()
        assert left == 0


def test_an_error_arrives_however_long_it_is(monkeypatch) -> None:
    """A message that does not fit would never arrive, and the user would wait for ever."""

    def fail(*arguments: object, **options: object) -> None:
        raise OSError("\N{PILE OF POO}ä" * 20_000)

    monkeypatch.setattr(sources, "open_source", fail)
    with FaultServer({}) as server, served(server) as channel:
        message, _ = channel.receive()
        assert message["op"] == "error" and "\N{PILE OF POO}ä" in str(message["message"])


def test_an_unexpected_message_is_answered_with_an_error_and_the_connection_goes_on() -> None:
    with FaultServer({"a": DATA}) as server, served(server) as channel:
        for message in ({"op": "nonsense"}, {"op": "files"}, {}):
            channel.send(message)
            assert channel.receive()[0]["op"] == "error"
        channel.send({"op": "list"})
        assert [channel.receive()[0]["op"] for _ in range(2)] == ["objects", "listed"]


def test_files_without_their_descriptors_are_refused_and_closed() -> None:
    with FaultServer({"a": DATA}) as server, served(server) as channel:
        fd = os.memfd_create("a")
        channel.send({"op": "files", "files": [[_entry(server, "a"), [], -1]] * 3}, [fd, fd])
        assert channel.receive()[0]["op"] == "error"
        assert _open_for(os.fstat(fd).st_ino) == 1
        os.close(fd)


def test_no_thread_and_no_descriptor_is_left_when_the_connection_ends() -> None:
    with FaultServer({"a": DATA}) as server:
        before, threads = len(os.listdir("/proc/self/fd")), set(threading.enumerate())
        with served(server) as channel:
            fd = os.memfd_create("a")
            channel.send({"op": "files", "files": [[_entry(server, "a"), [[0, MIB]], -1]]}, [fd])
            os.close(fd)
        # Files that were never asked for are closed too; the server, which shares this process, has ended as well.
        assert len(os.listdir("/proc/self/fd")) <= before
        left = set(threading.enumerate()) - threads
        assert not [thread for thread in left if thread.name.startswith("diskless-")]
