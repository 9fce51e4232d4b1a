"""Loads from a server that fails: which of them end with every byte, or with the error that says what went wrong.

    python -m benchmarks faults [--loads 50] [--seed 13]

Each load is of 200 ranged requests and more, one in eight of which goes wrong in one of ten ways; besides, something
may happen to the whole load (fault_plan). Half of them are shown at once and read while they load.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import select
import shutil
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import control_group
from benchmarks.fault_loads import loaders
from benchmarks.fault_plan import ENDINGS, HEALING, NAMELESS, PART_BYTES, RENEWED, WHOLE, Ending, FaultPlan
from benchmarks.measure import environment
from benchmarks.verdict import Verdict
from diskless.cli import process_tree
from tests.loader.fault_server import FaultServer

MIB = 1 << 20
_RATE = 0.125
# A load takes seconds: the longest wait in it is for answers that stall.
_LIMIT_S = 90.0
_ENDS_WITHIN_S = 15.0
# How long the name of the server is unknown: shorter than six attempts take.
_NAMELESS_S = 0.4
_NAME = "objects.test"
# The control group counts in batches of a processor's own.
_COUNTED_ROUGHLY_BYTES = MIB


@dataclass(frozen=True)
class Load:
    """What became of one load. `wrong` says what is not as it has to be."""

    ending: str
    how: str
    requests: int
    parts: int
    refetched_bytes: int
    seconds: float
    error: str | None
    wrong: list[str]


@dataclass(frozen=True)
class Report:
    """All loads, and how often each fault was injected. `skipped` says which could not be tried here, and why."""

    seed: int
    loads: list[Load]
    injected: dict[str, int]
    left_over: list[str]
    skipped: list[str]
    verdicts: list[Verdict]


def benchmark(*, loads: int, parts: int, seed: int, say: Callable[[str], None]) -> Report:
    """Run the loads, one after the other, in one process that must keep nothing of them."""
    injected: Counter[str] = Counter()
    done: list[Load] = []
    left_over: list[str] = []
    skipped: list[str] = []
    with FaultServer({}) as server, control_group.group() as group, _ram_directory() as directory, ExitStack() as stack:
        if group is None:
            skipped.append("no control group can be made: bytes of RAM are judged by the RAM files that are open")
        users: dict[bool, User] = {}
        nameless = stack.enter_context(NameServer.tried())
        for number in range(loads):
            ending = ENDINGS[number % len(ENDINGS)]
            renamed = ending is NAMELESS
            if renamed and isinstance(nameless, str):
                skipped.append(f"{ending.name}: {nameless}")
                continue
            if renamed not in users:
                users[renamed] = stack.enter_context(_user(group, nameless if renamed else None))
            load, counts = _load(server, users[renamed], f"{seed}-{number}", ending, parts, directory, group)
            injected.update(counts)
            done.append(load)
            say(
                f"load {number + 1}/{loads} {load.ending:36} {load.how:20} {load.requests:4} requests"
                f" {load.seconds:5.1f} s  {'; '.join(load.wrong) or load.error or 'every byte'}"
            )
            if users[renamed].ended:
                del users[renamed]  # it hung, or died: another goes on
        for user in users.values():
            left_over += user.end()
    return Report(seed, done, dict(injected), left_over, skipped, judge(done, left_over))


def judge(loads: list[Load], left_over: list[str]) -> list[Verdict]:
    wrong = sum(bool(load.wrong) for load in loads)
    coarse = sum(load.error is None and load.requests < load.parts for load in loads)
    return [
        Verdict(f"of {len(loads)} loads end otherwise than they have to, or leave something", wrong, "0", wrong == 0),
        Verdict("loads arrived in fewer requests than they have parts", coarse, "0", coarse == 0),
        Verdict("processes are left in the end", len(left_over), "0", not left_over),
    ]


def table(report: Report) -> str:
    """Return what was injected and what came of it as text."""
    loads = report.loads
    requests, parts = sum(load.requests for load in loads), sum(load.parts for load in loads)
    whole = [load for load in loads if load.error is None]
    fetched = sum(load.refetched_bytes for load in whole)
    needed = sum(load.parts for load in whole) * PART_BYTES
    lines = [
        f"{len(loads)} loads of {parts} parts in all, seed {report.seed}: {requests} ranged requests,"
        f" the longest load took {max(load.seconds for load in loads):.1f} s",
        f"refetched in those that arrived: {fetched / MIB:.1f} MiB ({100 * fetched / needed:.1f} % of their bytes)",
        "",
        f"{'injected into requests':40}{'times':>7}",
        *(f"{name:40}{report.injected.get(name, 0):7}" for name in HEALING),
        "",
        f"{'what happened to loads':40}{'loads':>7}{'right':>7}  ended with",
    ]
    for ending in dict.fromkeys(ENDINGS):
        of_it = [load for load in loads if load.ending == ending.name]
        right = sum(not load.wrong for load in of_it)
        lines.append(f"{ending.name:40}{len(of_it):7}{right:7}  {ending.error or 'every byte'}")
    lines += ["", *(f"skipped: {reason}" for reason in dict.fromkeys(report.skipped))]
    for load in loads:
        lines += [f"WRONG: {load.ending}, {load.how}: {wrong}" for wrong in load.wrong]
    return "\n".join([*lines, *(f"WRONG: left: {what}" for what in report.left_over)]).rstrip()


def _load(
    server: FaultServer,
    user: User,
    seed: str,
    ending: Ending,
    parts: int,
    directory: str | None,
    group: control_group.Group | None,
) -> tuple[Load, Counter[str]]:
    draw = random.Random(seed)
    prefix = f"load-{seed}"
    hows = [("background", "tree"), ("eager", "tree"), ("background", "tree"), ("eager", f"directory:{directory}")]
    load, backing = draw.choice(hows if directory else hows[:3])
    server.objects = _objects(draw, prefix, max(parts, 100) if "again and again" in ending.name else parts)
    hashes = {key.removeprefix(f"{prefix}/"): _sha256(data) for key, data in server.objects.items()}
    sizes = {key: len(data) for key, data in server.objects.items()}
    big = max(sizes, key=lambda key: sizes[key])
    with server.lock:
        server.gets = []
    plan = server.plan = FaultPlan(
        seed, ending, server, big, _RATE, lambda: loaders(user.pid), lambda: user.forget_name(server)
    )
    answer = user.ask(
        {
            "url": f"{server.url}/{prefix}",
            "storage_options": server.storage_options | ({"endpoint_url": user.endpoint(server)}),
            "load": load,
            "backing": backing,
            "renews": ending is RENEWED,
            "limit_s": _LIMIT_S,
            "judged": user.loads > 0,
        }
    )
    with server.lock:
        gets = list(server.gets)
    for get in gets:
        get.settled.wait(_LIMIT_S)
    refetched_bytes = sum(get.sent for get in gets) - sum(sizes.values())
    parts = sum(-(-size // PART_BYTES) for size in sizes.values())
    how = f"{load}, {backing.partition(':')[0]}"
    if answer is None:
        wrong = [f"it did not end within {_LIMIT_S:.0f} s, or its process died: {user.last_words()}"]
        return Load(ending.name, how, len(gets), parts, 0, _LIMIT_S, None, wrong), plan.injected
    wrong = [*differences(ending, big, answer, hashes), *(f"left: {what}" for what in answer["left"])]
    if group is not None and user.loads > 1 and group.shared_bytes() > _COUNTED_ROUGHLY_BYTES:
        wrong.append(f"left: {group.shared_bytes()} bytes in the control group")
    if directory and os.listdir(directory):
        wrong.append(f"left: {os.listdir(directory)} in the directory")
    if ending is not WHOLE and not plan.injected[ending.name]:
        wrong.append("nothing happened to it")
    error = ": ".join(answer["error"]) if answer["error"] else None
    return Load(ending.name, how, len(gets), parts, refetched_bytes, answer["seconds"], error, wrong), plan.injected


def differences(ending: Ending, big: str, answer: dict[str, Any], hashes: dict[str, str]) -> Iterator[str]:
    """Yield what is not as it has to be: the error, or the bytes."""
    kind, message = answer["error"] or (None, "")
    if kind != ending.error or ending.words not in message:
        yield f"{ending.error or 'every byte'} was to come, and not {kind}: {message or 'no error'}"
    elif ending.error not in (None, "LoaderDied") and big not in message:
        yield f"the error does not name {big}: {message}"
    others = [path for path, found in answer["sha256"].items() if found != hashes[path]]
    if others:
        yield f"other bytes in {', '.join(others)}"
    missing = hashes.keys() - answer["sha256"].keys()
    if ending.error is None and missing and kind is None:
        yield f"{', '.join(sorted(missing))} cannot be read"


def _objects(draw: random.Random, prefix: str, parts: int) -> dict[str, bytes]:
    """Return objects of so many parts in all: a big one, some of a few parts, small ones, and one that is empty."""
    sizes = [parts // 2 * PART_BYTES - draw.randrange(PART_BYTES), 0]
    left = parts - parts // 2
    while left > 0:
        count = min(left, draw.choice([1, 1, 2, 3, 8]))
        sizes.append(count * PART_BYTES - draw.randrange(PART_BYTES))
        left -= count
    return {f"{prefix}/{number % 3}/{number:03}.bin": draw.randbytes(size) for number, size in enumerate(sizes)}


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class User:
    """The process that loads (fault_loads), from outside."""

    def __init__(self, process: subprocess.Popen[str], stderr: Path, names: NameServer | None) -> None:
        self._process = process
        self._stderr = stderr
        self._names = names
        self.loads = 0
        self.ended = False
        self.pid = int(self._answer() or -1)

    def ask(self, request: dict[str, Any]) -> dict[str, Any] | None:
        """Let it load; None when it does not end in time, or dies: then it has `ended`."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        self.loads += 1
        line = self._answer()
        self.ended = not line
        return json.loads(line) if line else None

    def endpoint(self, server: FaultServer) -> str:
        """Return the server's endpoint as this process is to call it."""
        found = server.storage_options["endpoint_url"]
        return found.replace("127.0.0.1", _NAME) if self._names else found

    def forget_name(self, server: FaultServer) -> None:
        """Let the server's name be unknown for a moment, and end the connections there are."""
        if self._names is not None:
            self._names.know(False)
            threading.Timer(_NAMELESS_S, self._names.know, [True]).start()
            server.disconnect()

    def last_words(self) -> str:
        return self._stderr.read_text()[-3000:]

    def end(self) -> list[str]:
        """Let the process end as a program does; return which processes are left."""
        below = [self.pid, *process_tree.descendants(self._process.pid)]
        self._process.communicate(timeout=_ENDS_WITHIN_S)
        return [str(pid) for pid in below if not _gone(pid)]

    def _answer(self) -> str:
        assert self._process.stdout is not None
        # It ends by itself when a load takes too long; this is for a process that cannot even do that.
        if not select.select([self._process.stdout], [], [], _LIMIT_S + 60)[0]:
            self._process.kill()
        return self._process.stdout.readline()


def _gone(pid: int) -> bool:
    """Whether a process has ended, or does within a while."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], _ENDS_WITHIN_S)[0])
    finally:
        os.close(descriptor)


@contextmanager
def _user(group: control_group.Group | None, names: NameServer | None) -> Iterator[User]:
    with tempfile.TemporaryDirectory(prefix="diskless-faults-") as folder:
        stderr = Path(folder) / "stderr"
        with stderr.open("w") as errors:
            process = subprocess.Popen(
                [*(names.prefix if names else []), sys.executable, "-m", "benchmarks.fault_loads"],
                env=environment("http://127.0.0.1:1"),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                preexec_fn=group.join if group is not None else None,
            )
        with process:
            try:
                yield User(process, stderr, names)
            finally:
                if process.poll() is None and process.stdin is not None and not process.stdin.closed:
                    process.kill()


class NameServer:
    """A file of host names that a program in a sandbox has for its own, and nobody else to ask (bubblewrap)."""

    def __init__(self, folder: Path) -> None:
        self._hosts = folder / "hosts"
        resolver = folder / "resolv.conf"
        resolver.write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
        self.know(True)
        self.prefix = ["bwrap", "--dev-bind", "/", "/", "--bind", str(self._hosts), "/etc/hosts"]
        self.prefix += ["--bind", str(resolver), "/etc/resolv.conf"]

    @staticmethod
    @contextmanager
    def tried() -> Iterator[NameServer | str]:
        """Yield one that works, or why there is none."""
        if shutil.which("bwrap") is None:
            yield "bubblewrap is not installed (Debian: bubblewrap)"
            return
        with tempfile.TemporaryDirectory(prefix="diskless-names-") as folder:
            names = NameServer(Path(folder))
            look_up = f"import socket; socket.getaddrinfo({_NAME!r}, 80)"
            found = subprocess.run([*names.prefix, sys.executable, "-c", look_up], capture_output=True, text=True)
            yield names if found.returncode == 0 else f"no sandbox with its own file of names: {found.stderr[-200:]}"

    def know(self, known: bool) -> None:
        """Know the server's name, or not. The file stays the same, as the sandbox sees it."""
        with self._hosts.open("w") as file:
            file.write(f"127.0.0.1 localhost {_NAME if known else ''}\n")


@contextmanager
def _ram_directory() -> Iterator[str | None]:
    """An empty directory in a tmpfs, for the Directory backing; None where there is none."""
    if not os.access("/dev/shm", os.W_OK):
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="diskless-faults-", dir="/dev/shm") as directory:
        yield directory
