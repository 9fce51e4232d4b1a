"""load="background": the names are there at once, and who opens a file waits for its bytes, in Python or below it."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import diskless
from diskless import native_api as native
from tests.loader.fault_server import Fault, FaultServer, Get
from tests.loader.fetching import loader_pids

pytestmark = pytest.mark.skipif(not native.available(), reason="needs the Tree")
MIB = 1 << 20
OBJECTS = {
    f"m/{name}": os.urandom(size) for name, size in [("a", 9 * MIB), ("b", 5 * MIB), ("config", 100), ("empty", 0)]
}


class Held:
    """A server that keeps the bytes of some objects back until they are let go."""

    def __init__(self, *keys: str) -> None:
        self.go = threading.Event()
        self.keys = keys
        self.asked: list[str] = []
        self.server = FaultServer(OBJECTS, plan=self._plan)

    def _plan(self, get: Get) -> Fault | None:
        self.asked.append(get.key)
        if get.key in self.keys:
            self.go.wait(60)
        return None


@contextlib.contextmanager
def mounted(held: Held, **options: object) -> Iterator[diskless.Mount]:
    with held.server as server:
        mount = diskless.mount(f"{server.url}/m", load="background", storage_options=server.storage_options, **options)
        try:
            yield mount
        finally:
            held.go.set()
            mount.close()


def later(seconds: float, call: Callable[[], object]) -> threading.Thread:
    def work() -> None:
        time.sleep(seconds)
        call()

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_names_and_sizes_come_first_and_an_open_waits() -> None:
    held = Held("m/a")
    with mounted(held) as mount:
        path = Path(mount.path)
        assert sorted(os.listdir(path)) == ["a", "b", "config", "empty"]
        assert (path / "a").stat().st_size == 9 * MIB
        assert (path / "config").read_bytes() == OBJECTS["m/config"] and (path / "empty").read_bytes() == b""
        assert (path / "b").read_bytes() == OBJECTS["m/b"]
        with pytest.raises(TimeoutError):
            mount.wait(0.1)
        begun = time.monotonic()
        later(0.5, held.go.set)
        assert (path / "a").read_bytes() == OBJECTS["m/a"]
        assert time.monotonic() - begun > 0.4, "it was held back"
        mount.wait()
        assert mount.stats.fetched_bytes == 14 * MIB + 100
    assert not path.exists()


ELSEWHERE = """
import json, pathlib, sys, time
sys.path[:0] = json.loads(sys.argv[1])
from tests.loader.fault_server import Fault, FaultServer
data, denied = pathlib.Path(sys.argv[2]).read_bytes(), sys.argv[3] == "denied"
def plan(get):
    time.sleep(0.5)
    return Fault(status=403, code="AccessDenied") if denied and get.key == "m/late" else None
with FaultServer({"m/config": b"early", "m/late": data}, plan=plan) as server:
    print(json.dumps([server.url + "/m", server.storage_options]), flush=True)
    sys.stdin.read()
"""


@contextlib.contextmanager
def slow_server_elsewhere(data: bytes, tmp_path: Path, how: str = "") -> Iterator[tuple[str, dict[str, str]]]:
    """A server that needs none of this process's Python; `data` comes half a second late, if it is not "denied"."""
    (tmp_path / "data").write_bytes(data)
    words = [sys.executable, "-c", ELSEWHERE, json.dumps(sys.path), str(tmp_path / "data"), how]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdin is not None and server.stdout is not None
        yield tuple(json.loads(server.stdout.readline()))
        server.stdin.close()


def test_who_holds_the_gil_gets_the_bytes_too(tmp_path: Path) -> None:
    """safetensors, tokenizers and torch.jit hold it while they open a path: nothing of this process's Python runs."""
    data = os.urandom(9 * MIB)
    with (
        slow_server_elsewhere(data, tmp_path) as (url, options),
        diskless.mount(url, load="background", storage_options=options) as path,
    ):
        begun = time.monotonic()
        fd = ctypes.PyDLL(None).open(os.fsencode(f"{path}/late"), os.O_RDONLY)
        assert time.monotonic() - begun > 0.2, "it was late"
        assert os.pread(fd, 9 * MIB, 0) == data
        os.close(fd)


def test_safetensors_waits_for_a_file_on_its_way(tmp_path: Path) -> None:
    numpy, safetensors = pytest.importorskip("numpy"), pytest.importorskip("safetensors.numpy")
    tensor = numpy.arange(3 * MIB, dtype=numpy.float32)
    with (
        slow_server_elsewhere(safetensors.save({"x": tensor}), tmp_path) as (url, options),
        diskless.mount(url, load="background", storage_options=options) as path,
    ):
        assert (safetensors.load_file(f"{path}/late")["x"] == tensor).all()


def test_a_file_that_is_waited_for_is_fetched_next() -> None:
    names = [f"m/{number:03d}" for number in range(100)]
    gone = threading.Event()

    def plan(get: Get) -> None:
        order.append(get.key)
        if len(order) > 8:
            gone.wait(0.05)

    order: list[str] = []
    with FaultServer({name: os.urandom(1000) for name in names}, plan=plan) as server:
        options = server.storage_options
        with diskless.mount(f"{server.url}/m", load="background", storage_options=options) as path:
            Path(path, "099").read_bytes()
            assert len(order) < 60, "those before it were fetched first"
            assert "m/099" in order


@pytest.mark.parametrize("library", [ctypes.CDLL, ctypes.PyDLL], ids=["without the GIL", "with the GIL"])
def test_what_does_not_come_is_an_input_error_and_the_mount_has_the_reason(library: Any, tmp_path: Path) -> None:
    with slow_server_elsewhere(b"never seen", tmp_path, "denied") as (url, options):
        mount = diskless.mount(url, load="background", storage_options=options)
        with mount as path:
            assert library(None, use_errno=True).open(os.fsencode(f"{path}/late"), os.O_RDONLY) == -1
            assert ctypes.get_errno() == errno.EIO
            with pytest.raises(diskless.AccessDenied, match="late"):
                mount.wait()
            with pytest.raises(OSError, match="Input/output"):
                Path(path, "late").read_bytes()
    assert diskless.mounts() == [] and not os.path.exists(path)


def test_what_was_complete_when_the_load_failed_stays_readable() -> None:
    denied = threading.Event()

    def plan(get: Get) -> Fault | None:
        if get.key != "m/a":
            return None
        denied.wait(20)
        return Fault(status=403, code="AccessDenied")

    with FaultServer(OBJECTS, plan=plan) as server:
        mount = diskless.mount(f"{server.url}/m", load="background", storage_options=server.storage_options)
        with mount as path:
            assert Path(path, "b").read_bytes() == OBJECTS["m/b"]
            denied.set()
            with pytest.raises(diskless.AccessDenied):
                mount.wait()
            assert Path(path, "b").read_bytes() == OBJECTS["m/b"]


def test_a_signal_wakes_who_waits() -> None:
    held = Held("m/a")
    with mounted(held) as mount:
        later(0.3, lambda: os.kill(os.getpid(), signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            Path(mount.path, "a").read_bytes()


def test_closing_in_mid_transfer_lets_who_waits_fail() -> None:
    held = Held("m/a")
    errors: list[OSError] = []
    with mounted(held) as mount:
        path = mount.path

        def read() -> None:
            try:
                Path(path, "a").read_bytes()
            except OSError as error:
                errors.append(error)

        thread = threading.Thread(target=read)
        thread.start()
        time.sleep(0.3)
        later(0.5, held.go.set)
        mount.close()
        thread.join(10)
        assert not thread.is_alive()
    assert [error.errno for error in errors] == [errno.EIO]
    assert not os.path.exists(path) and diskless.mounts() == []


def test_a_forked_child_waits_and_gets_the_bytes() -> None:
    held = Held("m/a")
    with mounted(held) as mount:
        child = os.fork()
        if child == 0:
            status = 1
            with contextlib.suppress(BaseException):
                whole = Path(mount.path, "a").read_bytes() == OBJECTS["m/a"]
                mount.wait(20)
                mount.close()
                status = 0 if whole else 2
            os._exit(status)
        time.sleep(0.5)
        held.go.set()
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert Path(mount.path, "a").read_bytes() == OBJECTS["m/a"], "the child's close changes nothing here"


def test_a_child_may_close_before_its_parent_is_done() -> None:
    held = Held("m/a")
    with mounted(held) as mount:
        child = os.fork()
        if child == 0:
            mount.close()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        held.go.set()
        assert Path(mount.path, "a").read_bytes() == OBJECTS["m/a"]


def test_a_loader_that_is_killed_is_replaced_and_who_waits_gets_the_bytes() -> None:
    held = Held("m/a")
    with mounted(held) as mount:
        later(0.3, lambda: [os.kill(pid, signal.SIGKILL) for pid in loader_pids()])
        later(0.6, held.go.set)
        assert Path(mount.path, "a").read_bytes() == OBJECTS["m/a"]
        mount.wait()


def test_a_file_that_was_complete_when_the_loader_died_is_not_fetched_again() -> None:
    """It was sealed, whether or not anybody was told of it."""
    held = Held("m/a")
    with mounted(held) as mount:
        Path(mount.path, "config").read_bytes()
        for pid in loader_pids():
            os.kill(pid, signal.SIGKILL)
        held.go.set()
        mount.wait()
        assert Path(mount.path, "a").read_bytes() == OBJECTS["m/a"]
        assert held.asked.count("m/config") == 1


def test_a_mount_joins_a_prefetch_and_an_eager_one_joins_it() -> None:
    held = Held("m/a")
    with held.server as server:
        url, options = f"{server.url}/m", {"storage_options": server.storage_options}
        job = diskless.prefetch(url, **options)
        with diskless.mount(url, load="background", **options) as path:
            assert os.path.getsize(f"{path}/a") == 9 * MIB
            held.go.set()
            with diskless.mount(url, **options) as same:
                assert same == path and Path(same, "a").read_bytes() == OBJECTS["m/a"]
        job.close()
        assert held.asked.count("m/config") == 1, "the bytes were fetched once"


def test_a_directory_loads_eagerly_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with FaultServer(OBJECTS) as server, caplog.at_level(logging.WARNING, "diskless"):
        options = {"storage_options": server.storage_options, "backing": f"directory:{tmp_path}/ram"}
        with diskless.mount(f"{server.url}/m", load="background", **options) as path:
            assert Path(path, "a").read_bytes() == OBJECTS["m/a"]
    assert "loaded eagerly" in caplog.text and "shows complete files only" in caplog.text


def test_without_a_loader_process_it_loads_eagerly_and_says_so() -> None:
    script = f"""
import sys, logging
sys.path[:0] = {sys.path!r}
logging.basicConfig(level=logging.WARNING)
import diskless
from tests.loader.fault_server import FaultServer
sys.executable = ""
with FaultServer({{"m/a": b"bytes"}}) as server:
    with diskless.mount(server.url + "/m", load="background", storage_options=server.storage_options) as path:
        print(open(path + "/a").read())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stdout == "bytes\n", done.stderr
    assert "no Loader process can be started" in done.stderr


def test_a_word_that_is_no_way_to_load_is_refused() -> None:
    with pytest.raises(diskless.InvalidOption, match="'eager', 'background'"):
        diskless.mount("s3://b/k", load="fast")


def test_nothing_is_left_behind() -> None:
    def load_and_leave() -> None:
        with FaultServer(OBJECTS) as server:
            for reads in (True, False, True, False):
                options = server.storage_options
                with diskless.mount(f"{server.url}/m", load="background", storage_options=options) as path:
                    assert not reads or Path(path, "a").read_bytes() == OBJECTS["m/a"]

    load_and_leave()
    before = sorted(os.listdir("/proc/self/fd"))
    load_and_leave()
    assert sorted(os.listdir("/proc/self/fd")) == before
