"""load="lazy": names at once, a file's bytes when it is opened, and no others where memory is short."""

from __future__ import annotations

import errno
import logging
import mmap
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import diskless
from diskless import native_api as native
from tests.loader.fault_server import Fault, FaultServer, Get
from tests.loader.fetching import loader_pids
from tests.programs import run, until

pytestmark = pytest.mark.skipif(not native.available(), reason="needs the Tree")
MIB = 1 << 20
OBJECTS = {f"m/{name}": os.urandom(3 * MIB) for name in "abcdef"} | {"m/empty": b""}
EACH = 3 * MIB


class Server(FaultServer):
    """Counts what was asked for, and does what a test says."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.fault: Callable[[Get], Fault | None] = lambda get: None
        super().__init__(dict(OBJECTS), plan=self._answer)

    def _answer(self, get: Get) -> Fault | None:
        self.asked.append(get.key)
        return self.fault(get)

    def hold(self, go: threading.Event) -> None:
        def wait(get: Get) -> None:
            go.wait(20)

        self.fault = wait

    def mount(self, **options: object) -> diskless.Mount:
        arguments: dict[str, object] = {"load": "lazy", "storage_options": self.storage_options, **options}
        return diskless.mount(f"{self.url}/m", **arguments)  # type: ignore[arg-type]


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as started:
        yield started


def read(mount: diskless.Mount, name: str) -> bytes:
    return Path(mount.path, name).read_bytes()


def elsewhere(server: Server) -> dict[str, str]:
    """Options with which the same objects are others, that share no bytes."""
    return {**server.storage_options, "key": "another"}


def test_only_what_is_opened_is_fetched(server: Server) -> None:
    with server.mount() as path:
        mount = diskless.mounts()[-1]
        assert sorted(os.listdir(path)) == [*"abcde", "empty", "f"]
        assert all(os.stat(f"{path}/{name}").st_size == EACH for name in "abcdef")
        assert read(mount, "empty") == b""
        assert server.asked == []
        assert read(mount, "c") == OBJECTS["m/c"] and read(mount, "c") == OBJECTS["m/c"]
        assert server.asked == ["m/c"]
        assert mount.stats.files == 7 and mount.stats.size_bytes == 6 * EACH
        until(lambda: mount.stats.fetched_bytes == EACH)


def test_who_holds_the_gil_gets_the_bytes_too(server: Server) -> None:
    script = """
    import ctypes, json, os, sys, time
    import diskless
    from diskless.loader import client
    send = client.Job._send_files
    client.Job._send_files = lambda *words: (time.sleep(0.3), send(*words))  # the Loader learns late what there is
    with diskless.mount(sys.argv[1] + "/m", load="lazy", storage_options=json.loads(sys.argv[2])) as path:
        fd = ctypes.PyDLL(None).open(os.fsencode(path + "/a"), os.O_RDONLY)
        print(fd >= 0 and len(os.pread(fd, 1 << 30, 0)))
    """
    assert run(server, script) == [str(EACH)]


def test_what_was_not_read_for_longest_is_dropped_and_comes_back(server: Server) -> None:
    mount = server.mount(budget=2 * EACH)
    with mount:
        status = os.stat(f"{mount.path}/a")
        for name in "ab":
            assert read(mount, name) == OBJECTS[f"m/{name}"]
            time.sleep(0.02)  # more than a tick of the kernel's clock
        assert read(mount, "a") == OBJECTS["m/a"]
        assert read(mount, "c") == OBJECTS["m/c"]
        server.asked.clear()
        assert read(mount, "a") == OBJECTS["m/a"] and server.asked == [], "used later than b, which made room"
        assert read(mount, "b") == OBJECTS["m/b"] and server.asked == ["m/b"]
        for name in "defabc":
            assert read(mount, name) == OBJECTS[f"m/{name}"]
        now = os.stat(f"{mount.path}/a")
        assert (now.st_ino, now.st_size, now.st_mtime_ns) == (status.st_ino, status.st_size, status.st_mtime_ns)


@pytest.mark.parametrize("how", ["open", "mapped", "open in a child"])
def test_what_is_in_use_is_not_dropped(server: Server, how: str, caplog: pytest.LogCaptureFixture) -> None:
    mount = server.mount(budget=2 * EACH)
    with mount, caplog.at_level(logging.WARNING, "diskless"):
        held = []
        leave, done = os.pipe()
        children = []
        for name in "ab":
            fd = os.open(f"{mount.path}/{name}", os.O_RDONLY)
            if how == "mapped":
                held.append(mmap.mmap(fd, EACH, prot=mmap.PROT_READ))
            if how == "open in a child":
                child = os.fork()
                if child == 0:
                    os.read(leave, 1)
                    os._exit(0 if os.pread(fd, EACH, 0) == OBJECTS[f"m/{name}"] else 1)
                children.append(child)
            if how == "open":
                held.append(fd)
            else:
                os.close(fd)
        with pytest.raises(OSError) as caught:
            read(mount, "c")
        assert caught.value.errno == errno.EIO and caught.value.filename == f"{mount.path}/c"
        until(lambda: isinstance(mount.refusals.get("c"), diskless.BudgetExceeded))
        assert "m/c needs 3.0 MiB" in str(mount.refusals["c"]) and "m/c needs 3.0 MiB" in caplog.text
        for name, thing in zip("ab", held, strict=False):
            assert (os.pread(thing, EACH, 0) if isinstance(thing, int) else thing[:]) == OBJECTS[f"m/{name}"]
            os.close(thing) if isinstance(thing, int) else thing.close()
        os.write(done, b"xx")
        for child in children:
            assert os.waitpid(child, 0)[1] == 0
        for end in (leave, done):
            os.close(end)
        assert read(mount, "c") == OBJECTS["m/c"]
        until(lambda: mount.refusals == {})


def test_nobody_ever_reads_what_was_dropped(server: Server) -> None:
    """Threads open and read at random while there is room for a third of the files."""
    mount, wrong, end = server.mount(budget=2 * EACH + MIB), [], time.monotonic() + 3
    reads = [0]

    def work(seed: int) -> None:
        chosen = random.Random(seed)
        while time.monotonic() < end and not wrong:
            name = chosen.choice("abcdef")
            only_path = os.open(f"{mount.path}/{name}", os.O_PATH)
            try:
                way = chosen.choice([f"{mount.path}/{name}", f"/proc/self/fd/{only_path}"])
                with open(way, "rb") as file:
                    if file.read() != OBJECTS[f"m/{name}"]:
                        wrong.append(name)
                reads[0] += 1
            except OSError as error:
                if error.errno != errno.EIO:  # all others are open at this moment
                    wrong.append(f"{name}: {error}")
            finally:
                os.close(only_path)

    with mount:
        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong
    assert reads[0] > 20 and len(server.asked) > 20, "files were dropped and came again"


# Takes a lease on the file, as the Loader does before it drops the bytes, and gives it back when told.
LEASE = """
import fcntl, os, signal, sys
signal.signal(signal.SIGIO, signal.SIG_IGN)
alone = os.open("/proc/self/fd/" + sys.argv[1], os.O_RDONLY)
fcntl.fcntl(alone, fcntl.F_SETLEASE, fcntl.F_WRLCK)
print("taken", flush=True)
sys.stdin.read()
"""


def test_who_was_about_to_open_looks_again(server: Server) -> None:
    """The open had passed the gate when the Loader shut it and took its lease."""
    mount, seen = server.mount(), []
    with mount:
        assert read(mount, "a") == OBJECTS["m/a"]
        file = mount._job.files["a"]
        memory, _ = native.gate_descriptors()
        gates = mmap.mmap(memory, 0)
        at = 4 * (2 + file.gate % ((1 << 18) - 2))
        assert gates[at] == 2, "open"
        copy = os.dup(file.fd)
        with subprocess.Popen(
            [sys.executable, "-c", LEASE, str(copy)], pass_fds=[copy], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as loader:
            os.close(copy)
            assert loader.stdin is not None and loader.stdout is not None
            assert loader.stdout.readline() == b"taken\n"
            thread = threading.Thread(target=lambda: seen.append(read(mount, "a")))
            thread.start()
            thread.join(0.3)
            assert thread.is_alive(), "the kernel has it wait"
            gates[at] = 0
            os.pwrite(file.fd, bytes(EACH), 0)
            loader.stdin.close()
        thread.join(0.5)
        assert thread.is_alive() and not seen, "at the gate"
        os.pwrite(file.fd, OBJECTS["m/a"], 0)
        gates[at] = 2
        thread.join(10)
        assert seen == [OBJECTS["m/a"]]
        gates.close()


def test_a_forked_child_is_served(server: Server) -> None:
    with server.mount() as path:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                mount = diskless.mounts()[-1]
                assert read(mount, "d") == OBJECTS["m/d"]
                mount.wait(30)
                assert all(read(mount, name) == OBJECTS[f"m/{name}"] for name in "abcdef")
                code = 0
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
        assert sorted(set(server.asked)) == [f"m/{name}" for name in "abcdef"]
        assert Path(path, "d").read_bytes() == OBJECTS["m/d"]
        assert server.asked.count("m/d") == 1


@pytest.mark.parametrize("how", ["replaced", "deleted", "refused for a while"])
def test_a_file_that_cannot_be_had(server: Server, how: str, caplog: pytest.LogCaptureFixture) -> None:
    mount = server.mount()
    with mount, caplog.at_level(logging.WARNING, "diskless"):
        if how == "replaced":
            server.objects["m/a"] = os.urandom(EACH)
        elif how == "deleted":
            del server.objects["m/a"]
        else:
            server.fault = lambda get: Fault(status=403, code="AccessDenied")
        with pytest.raises(OSError) as caught:
            read(mount, "a")
        assert caught.value.errno == errno.EIO and caught.value.filename == f"{mount.path}/a"
        until(lambda: "a" in mount.refusals)
        kind = diskless.AccessDenied if how == "refused for a while" else diskless.ObjectChanged
        assert isinstance(mount.refusals["a"], kind) and "m/a" in str(mount.refusals["a"])
        assert "m/a" in caplog.text
        server.fault = lambda get: None
        assert read(mount, "b") == OBJECTS["m/b"], "the others are as before"
        if how == "refused for a while":
            assert read(mount, "a") == OBJECTS["m/a"], "the next open tries again"
        else:
            with pytest.raises(kind):
                mount.wait()


def test_wait_fetches_the_rest_and_keeps_it(server: Server) -> None:
    mount = server.mount(budget=6 * EACH)
    with mount:
        assert read(mount, "a") == OBJECTS["m/a"]
        mount.wait()
        assert sorted(server.asked) == [f"m/{name}" for name in "abcdef"]
        with pytest.raises(diskless.BudgetExceeded):
            diskless.mount(f"{server.url}/m/a", storage_options=elsewhere(server), budget=6 * EACH)
        assert all(read(mount, name) == OBJECTS[f"m/{name}"] for name in "abcdef")
        assert len(server.asked) == 6


def test_wait_says_where_the_rest_does_not_fit(server: Server) -> None:
    mount = server.mount(budget=4 * EACH)
    with mount:
        assert read(mount, "a") == OBJECTS["m/a"]
        with pytest.raises(diskless.BudgetExceeded):
            mount.wait()
        assert all(read(mount, name) == OBJECTS[f"m/{name}"] for name in "abcdef"), "it goes on as it was"


def test_wait_has_its_time(server: Server) -> None:
    go = threading.Event()
    server.hold(go)
    mount = server.mount()
    with mount:
        with pytest.raises(TimeoutError):
            mount.wait(0.1)
        go.set()
        mount.wait(20)


@pytest.mark.parametrize("how", ["eager", "background", "prefetch"])
def test_who_wants_all_gets_all_at_the_same_path(server: Server, how: str) -> None:
    with server.mount() as path:
        assert Path(path, "b").read_bytes() == OBJECTS["m/b"]
        if how == "prefetch":
            job = diskless.prefetch(f"{server.url}/m", storage_options=server.storage_options)
            job.wait()
        else:
            other = server.mount(load=how)
            assert other.path == path
            other.wait()
            other.close()
        assert sorted(server.asked) == [f"m/{name}" for name in "abcdef"]
        if how == "prefetch":
            job.close()
    assert not os.path.exists(path)


def test_what_is_there_already_is_not_fetched_again(server: Server) -> None:
    with server.mount(load="eager") as path:
        server.asked.clear()
        other = server.mount()
        assert other.path == path and read(other, "a") == OBJECTS["m/a"]
        other.close()
        assert server.asked == []


@pytest.mark.parametrize("joinable", [True, False])
def test_other_loads_leave_less_room(server: Server, joinable: bool) -> None:
    """The budget is that of the process."""
    mount = server.mount(budget=3 * EACH)
    if not joinable:
        mount._job.set_aside()
    with mount:
        for name in "ab":
            assert read(mount, name) == OBJECTS[f"m/{name}"]
        with diskless.mount(f"{server.url}/m/f", storage_options=elsewhere(server), budget=3 * EACH):
            server.asked.clear()
            fds = [os.open(f"{mount.path}/{name}", os.O_RDONLY) for name in "cd"]
            with pytest.raises(OSError):
                read(mount, "e")
            for fd in fds:
                os.close(fd)
        fds = [os.open(f"{mount.path}/{name}", os.O_RDONLY) for name in "cde"]
        for fd in fds:
            os.close(fd)


def test_a_killed_loader_is_replaced(server: Server) -> None:
    mount = server.mount(budget=2 * EACH)
    with mount:
        for name in "abc":
            assert read(mount, name) == OBJECTS[f"m/{name}"]
        server.asked.clear()
        for pid in loader_pids():
            os.kill(pid, signal.SIGKILL)
        for name in "cbafed":
            assert read(mount, name) == OBJECTS[f"m/{name}"]
        assert server.asked == ["m/a", "m/f", "m/e", "m/d"], "what was there stayed, and could be dropped"


def test_closed_in_mid_transfer(server: Server) -> None:
    go = threading.Event()
    server.hold(go)
    mount, seen = server.mount(), []

    def opens() -> None:
        try:
            read(mount, "a")
        except OSError as error:
            seen.append(error.errno)

    thread = threading.Thread(target=opens)
    thread.start()
    until(lambda: bool(server.asked))
    mount.close()
    thread.join(10)
    go.set()
    assert seen == [errno.EIO]
    assert not os.path.exists(mount.path)


def test_gates_are_those_of_one_page(server: Server) -> None:
    """The Loader knows no other."""
    script = """
    import json, sys
    import diskless
    from diskless import native_api as native
    for _ in range(262_142 - 3):
        native.gate_make()
    try:
        diskless.mount(sys.argv[1] + "/m", load="lazy", storage_options=json.loads(sys.argv[2]))
    except diskless.DescriptorLimit as error:
        print(error)
    """
    assert run(server, script) == ["a process holds at most 262,142 files of Mounts. Choose fewer with allow_patterns="]


def test_a_directory_loads_eagerly_and_says_so(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "diskless"), server.mount(backing=f"directory:{tmp_path}/ram") as path:
        assert Path(path, "a").read_bytes() == OBJECTS["m/a"]
        assert len(server.asked) == 6
    assert "'lazy'" in caplog.text and "loaded eagerly" in caplog.text
