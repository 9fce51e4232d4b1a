"""What a program and everything it starts cost: peak memory and CPU seconds, from a control group of its own.

Where none can be made (no root, no delegation) the memory is sampled: the resident memory of all processes that belong
to the program, without its shared part, plus the growth of shared memory (memfds, tmpfs) of the machine.
"""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from diskless.cli import process_tree

_SAMPLE_S = 0.01
_ROOT = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Usage:
    """What a run used. `memory_from` says how the peak was measured."""

    peak_bytes: int
    cpu_seconds: float
    memory_from: str


@dataclass(frozen=True)
class Finished:
    """A program that ended."""

    returncode: int
    stdout: str
    stderr: str
    started: float
    usage: Usage


def run(
    command: Sequence[str], *, env: Mapping[str, str], timeout_s: float, keep: Sequence[int] = (), stdin: str = ""
) -> Finished:
    """Run `command` with all its descendants in a control group of its own, and wait until all of them have ended.

    Args:
        command: the program and its arguments.
        env: its whole environment.
        timeout_s: after this long everything is killed and `subprocess.TimeoutExpired` raised.
        keep: children of this process that are none of the program's, such as a server.
        stdin: what the program is given to read.
    """
    # Orphans of the program (the Loader is one) become our children: so they can be waited for, and their CPU counted.
    process_tree.adopt_orphans(True)
    keep = [*keep, *children(os.getpid())]
    with ExitStack() as stack:
        own = stack.enter_context(group())
        sampler = stack.enter_context(_Sampler(os.getpid(), keep)) if own is None else None
        started = time.time()
        process = subprocess.Popen(
            command,
            env=dict(env),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=own.join if own is not None else None,
        )
        before = os.times()
        try:
            stdout, stderr = process.communicate(stdin, timeout=timeout_s)
        except BaseException:
            process.kill()
            process.wait()
            raise
        finally:
            process_tree.end_all(keep, patience_s=10.0)
        after = os.times()
        cpu_seconds = after.children_user + after.children_system - before.children_user - before.children_system
        if own is not None:
            usage = Usage(own.peak_bytes(), cpu_seconds, "control group")
        elif sampler is not None:
            usage = Usage(sampler.peak_bytes, cpu_seconds, "sampled: RSS plus shared memory")
    return Finished(process.returncode, stdout, stderr, started, usage)


class Group:
    """A memory control group; the program's processes and the memfds they write are charged to it."""

    def __init__(self, path: Path, peak_file: str) -> None:
        self._path = path
        self._peak = path / peak_file
        self._procs = os.open(path / "cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)

    def join(self) -> None:
        """Move the calling process in."""
        os.write(self._procs, b"0")

    def peak_bytes(self) -> int:
        return int(self._peak.read_text())

    def shared_bytes(self) -> int:
        """Return the bytes of memfds and of files in a tmpfs that are charged to it now."""
        fields = dict(line.split() for line in (self._path / "memory.stat").read_text().splitlines())
        return int(fields["shmem"])

    def remove(self) -> None:
        os.close(self._procs)
        for _ in range(100):
            try:
                self._path.rmdir()
                return
            except OSError:  # the last process is still being taken apart
                time.sleep(0.01)


@contextmanager
def group() -> Iterator[Group | None]:
    """Make a memory control group and remove it in the end; None where none can be made."""
    made = next(_groups(), None)
    try:
        yield made
    finally:
        if made is not None:
            made.remove()


def _groups() -> Iterator[Group]:
    """Make a control group below our own or below the root, v1 or v2; yield what worked, the better place first."""
    name = f"diskless-bench-{os.getpid()}"
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, own = line.split(":", 2)
        if controllers == "memory":
            hierarchy, peak_file = _ROOT / "memory", "memory.max_usage_in_bytes"
        elif controllers == "":
            hierarchy, peak_file = _ROOT, "memory.peak"
        else:
            continue
        for parent in dict.fromkeys((hierarchy / own.lstrip("/"), hierarchy)):
            path = parent / name
            try:
                path.mkdir()
            except OSError:
                continue
            try:
                if not (path / peak_file).exists() and controllers == "":
                    (parent / "cgroup.subtree_control").write_text("+memory")
                (path / peak_file).read_text()
                _probe(path)
            except OSError:  # no such controller here, or no process may enter
                path.rmdir()
                continue
            yield Group(path, peak_file)
            return


def _probe(path: Path) -> None:
    """Raise OSError unless a process may enter the group."""
    sleeper = subprocess.Popen(["sleep", "5"])
    try:
        (path / "cgroup.procs").write_text(str(sleeper.pid))
    finally:
        sleeper.kill()
        sleeper.wait()


class _Sampler:
    """Samples what our children and their descendants hold; only used where there is no control group."""

    def __init__(self, root: int, keep: Sequence[int]) -> None:
        self._root = root
        self._keep = set(keep)
        self._shared_before = _shared_memory_bytes()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.peak_bytes = 0

    def __enter__(self) -> _Sampler:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(_SAMPLE_S):
            private = sum(map(_unshared_bytes, process_tree.descendants(self._root, self._keep)))
            self.peak_bytes = max(self.peak_bytes, private + _shared_memory_bytes() - self._shared_before)


def children(pid: int) -> list[int]:
    """Return the pids whose parent is `pid`."""
    found: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += map(int, path.read_text().split())
        except OSError:
            continue
    return found


def _unshared_bytes(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith(("RssAnon:", "RssFile:")))


def _shared_memory_bytes() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("Shmem:"):
            return int(line.split()[1]) << 10
    return 0
