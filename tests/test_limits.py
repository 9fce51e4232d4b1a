"""Limits of the system: what fits works, and what does not is an error that names the limit."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import diskless
from diskless.ram import budget
from tests.loader.fault_server import FaultServer
from tests.programs import BY_A_PROCESS, SOURCE, command, environment, run, until

MIB = 1 << 20

# As no root, whom no limit on processes binds. The interpreter may lie where only root can read.
AS_A_USER = ["setpriv", "--reuid={uid}", "--clear-groups", "--inh-caps=-all,+dac_read_search"]
AS_A_USER += ["--ambient-caps=-all,+dac_read_search"]


def _as_a_user(uid: int) -> list[str]:
    """A prefix for a command that is to run as a user with no other processes, and so may need root to become it."""
    return [word.format(uid=uid) for word in AS_A_USER]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become a user with no other processes")
@pytest.mark.parametrize("allowed", [1, 2, 3, 4, 6, 8, 12, 100])
def test_few_processes_and_threads_are_enough_or_the_limit_is_named(allowed: int) -> None:
    """RLIMIT_NPROC counts threads too, and one transfer needs a few."""
    script = """
        import json, os, resource, sys
        # All is imported before: the limit is about the load.
        import datetime, diskless, diskless.ram.tree, diskless.sources.s3, obstore.store
        from diskless.loader import process
        resource.setrlimit(resource.RLIMIT_NPROC, (ALLOWED, ALLOWED))
        try:
            with diskless.mount(sys.argv[1], storage_options=json.loads(sys.argv[2])) as path:
                print(sorted(os.listdir(path)), os.path.getsize(path + "/big"))
        except diskless.TransferError as error:
            print(error)
        print("threads" if process.in_process() else "process")
    """.replace("ALLOWED", str(allowed))
    with FaultServer({"big": bytes(3 << 20), "small": b"s"}) as server:
        ended = subprocess.run(
            [*_as_a_user(54400 + allowed), *command(server, script)],
            capture_output=True,
            text=True,
            timeout=60,
            env=environment(PYTHONPATH=str(SOURCE)),
        )
    assert ended.returncode == 0, ended.stderr
    result, where = ended.stdout.splitlines()
    assert "RLIMIT_NPROC" in result or result == BY_A_PROCESS[0]
    if allowed == 1:
        assert (where, "RLIMIT_NPROC" in result) == ("threads", True)
    if allowed == 100:
        assert [result, where] == BY_A_PROCESS


DESCRIPTORS = """
import json, os, resource, sys, time
import diskless
resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))
{prepare}
options = {{"storage_options": json.loads(sys.argv[2])}}
try:
    with diskless.mount(sys.argv[1], **options) as path:
        print(len(os.listdir(path + "/many")), open(path + "/many/007", "rb").read())
except diskless.DescriptorLimit as error:
    print(error)
until = time.monotonic() + 10  # a thread that loads closes what it was handed a moment later
while len(os.listdir("/proc/self/fd")) > 20 and time.monotonic() < until:
    time.sleep(0.01)
print(len(os.listdir("/proc/self/fd")) <= 20)
"""
MANY = {f"many/{number:03}": b"%d" % number for number in range(600)}


def test_more_files_than_descriptors_are_refused_and_nothing_is_fetched(backing) -> None:
    """A Directory's files are open only while they are filled, but all of them then."""
    with FaultServer(MANY) as server:
        error, clean = run(server, DESCRIPTORS.format(soft=400, hard=500, prepare=""), backing=backing)
        assert "600 files" in error and "500 (RLIMIT_NOFILE)" in error and clean == "True"
        assert server.gets == []


def test_the_soft_limit_on_descriptors_is_raised_where_it_is_needed(backing) -> None:
    with FaultServer(MANY) as server:
        script = DESCRIPTORS.format(soft=100, hard=2000, prepare="")
        assert run(server, script, backing=backing) == ["600 b'7'", "True"]


def test_as_many_files_as_the_limit_leaves_room_for_are_loaded() -> None:
    """As no root the kernel counts what is under way between the processes as well."""
    with FaultServer(MANY) as server:
        script = DESCRIPTORS.format(soft=700, hard=700, prepare="").replace(
            "os.listdir(path)", "os.listdir(path + '/many')"
        )
        prefix = _as_a_user(54399) if os.geteuid() == 0 else []
        assert run(server, script, *prefix, sys.executable) == ["600 b'7'", "True"]


def test_in_threads_each_file_takes_two_descriptors(backing) -> None:
    """The thread that fills a file is handed one of its own, in the same process."""
    with FaultServer(MANY) as server:
        script = DESCRIPTORS.format(soft=700, hard=2000, prepare="sys.executable = ''")
        assert run(server, script, backing=backing) == ["600 b'7'", "True"]


def test_in_threads_too_the_limit_is_named_and_nothing_is_fetched(backing) -> None:
    with FaultServer(MANY) as server:
        script = DESCRIPTORS.format(soft=700, hard=700, prepare="sys.executable = ''")
        error, clean = run(server, script, backing=backing)
        assert "RLIMIT_NOFILE" in error and clean == "True"
        assert server.gets == []


# Memory. No byte is fetched where not all of them fit.


def test_the_budget_refuses_what_does_not_fit_beside_what_is_held(backing) -> None:
    with FaultServer({"held": bytes(3 * MIB), "more": bytes(3 * MIB)}) as server:
        options = {"storage_options": server.storage_options, "backing": backing, "budget": "5MiB"}
        with pytest.raises(diskless.BudgetExceeded) as caught:
            diskless.mount(server.url, **options)
        assert isinstance(caught.value, MemoryError)
        assert str(caught.value).startswith(
            "6.0 MiB are needed and 5.0 MiB are free: the limit is budget= (5.0 MiB; diskless holds 0 B). "
            "Nothing was fetched."
        )
        assert server.gets == [] and diskless.mounts() == []
        with diskless.mount(f"{server.url}/held", **options):
            fetched = list(server.gets)
            with pytest.raises(diskless.BudgetExceeded) as caught:
                diskless.mount(f"{server.url}/more", **options)
            assert str(caught.value).startswith(
                "3.0 MiB are needed and 2.0 MiB are free: the limit is budget= (5.0 MiB; diskless holds 3.0 MiB). "
            )
            assert server.gets == fetched
        with diskless.mount(f"{server.url}/more", **options) as path:
            assert os.path.getsize(path) == 3 * MIB


def test_what_does_not_fit_waits_until_others_have_given_back_enough(backing) -> None:
    with FaultServer({"held": bytes(3 * MIB), "more": bytes(3 * MIB)}) as server:
        options = {"storage_options": server.storage_options, "backing": backing, "budget": "5MiB"}
        held = diskless.mount(f"{server.url}/held", **options)
        job = diskless.prefetch(f"{server.url}/more", budget_timeout_s=60, **options)
        with pytest.raises(TimeoutError):
            job.wait(timeout_s=0.3)
        assert diskless.usage().held_bytes == 3 * MIB
        held.close()
        job.wait(timeout_s=30)
        assert diskless.usage().held_bytes == 3 * MIB
        job.close()


def test_a_wait_for_room_has_an_end(backing) -> None:
    with FaultServer({"held": bytes(3 * MIB), "more": bytes(3 * MIB), "most": bytes(6 * MIB)}) as server:
        options = {"storage_options": server.storage_options, "backing": backing, "budget": "5MiB"}
        with diskless.mount(f"{server.url}/held", **options):
            fetched, began = list(server.gets), time.monotonic()
            with pytest.raises(diskless.BudgetExceeded, match=r"3\.0 MiB are needed and 2\.0 MiB are free"):
                diskless.mount(f"{server.url}/more", budget_timeout_s=0.3, **options)
            assert time.monotonic() - began > 0.3
            began = time.monotonic()
            with pytest.raises(diskless.BudgetExceeded, match=r"6\.0 MiB are needed"):  # which never fit
                diskless.mount(f"{server.url}/most", budget_timeout_s=60, **options)
            job = diskless.prefetch(f"{server.url}/more", budget_timeout_s=60, **options)
            job.cancel()
            with pytest.raises(diskless.Cancelled):
                job.wait(timeout_s=30)
            assert time.monotonic() - began < 30
            assert server.gets == fetched and diskless.usage().held_bytes == 3 * MIB


@pytest.mark.parametrize("given", [-1, float("nan"), float("inf"), "5"])
def test_a_wait_that_is_no_time_is_refused(given) -> None:
    with pytest.raises(diskless.InvalidOption, match=r"^budget_timeout_s= is a number of seconds, 0 or more, not "):
        diskless.mount("s3://a/b", budget_timeout_s=given)


# Says what becomes of a Mount of 160 MiB, then of one that fits.
MEMORY = """
import json, os, sys
import diskless
options = {"storage_options": json.loads(sys.argv[2])}
try:
    diskless.mount(sys.argv[1], **options).close()
except diskless.BudgetExceeded as error:
    print(error)
with diskless.mount(sys.argv[1], allow_patterns="00", **options) as path:
    print(os.path.getsize(path + "/00"))
"""
EIGHT_MIB = bytes(8 * MIB)
MUCH = {f"{number:02}": EIGHT_MIB for number in range(20)}


def _refused_memory(limited: list[str], backing: str) -> str:
    """Return what a program is told of 160 MiB when it runs as `limited` says, and see that 8 MiB then fit."""
    with FaultServer(MUCH) as server:
        error, size = run(server, MEMORY, *limited, sys.executable, backing=backing)
        assert {get.key for get in server.gets} == {"00"}, "it fetched before it refused"
    assert size == str(8 * MIB)
    assert error.startswith("160.0 MiB are needed and ") and "Nothing was fetched." in error
    return error


@contextmanager
def _in_a_group(size_bytes: int) -> Iterator[list[str]]:
    """A prefix for a command that is to run in a control group with so much memory, of version 1 or 2."""
    for group, limit in (("memory/", "memory.limit_in_bytes"), ("", "memory.max")):
        path = Path(f"/sys/fs/cgroup/{group}diskless-test-{os.getpid()}")
        try:
            path.mkdir()
        except OSError:
            continue
        try:
            (path / limit).write_text(str(size_bytes))
            enter = ["sh", "-c", 'echo $$ >"$0" && exec "$@"', str(path / "cgroup.procs")]
            if subprocess.run([*enter, "true"], capture_output=True).returncode == 0:
                yield enter
                return
        except OSError:
            continue  # the controller is not at work here
        finally:
            until(lambda path=path: not (path / "cgroup.procs").read_text())  # type: ignore[misc]
            path.rmdir()
    pytest.skip("no control group can be made here (it takes root)")


@pytest.fixture
def in_a_small_group() -> Iterator[list[str]]:
    with _in_a_group(128 * MIB) as prefix:
        yield prefix


@pytest.fixture(params=["tree", "directory"])
def memory_backing(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each Backing in turn, the Directory on a filesystem in RAM."""
    if request.param == "tree":
        yield "tree"
        return
    if not os.access("/dev/shm", os.W_OK) or budget.filesystem_type("/dev/shm") != "tmpfs":
        pytest.skip("/dev/shm is no filesystem in RAM here")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        yield f"directory:{directory}/ram"


def test_a_control_group_that_is_too_small_is_named(in_a_small_group, memory_backing) -> None:
    error = _refused_memory(in_a_small_group, memory_backing)
    free, name = re.findall(r"and ([0-9.]+) MiB are free: the limit is the control group's (\S+) \(128\.0 MiB;", error)[
        0
    ]
    assert name in ("memory.limit_in_bytes", "memory.max") and 8 < float(free) < 128


# Loads those that are named, at once, prints what becomes of them, and holds what it has until its stdin ends.
AT_ONCE = """
import json, sys, threading
import diskless
held, outcomes = [], {}
def load(name):
    try:
        held.append(diskless.mount(f"{sys.argv[1]}/{name}", storage_options=json.loads(sys.argv[2])))
        outcomes[name] = "complete"
    except diskless.BudgetExceeded:
        outcomes[name] = "refused"
loads = [threading.Thread(target=load, args=(name,)) for name in NAMES]
for load in loads:
    load.start()
for load in loads:
    load.join()
print(*sorted(outcomes.values()), flush=True)
sys.stdin.read()
"""
THREE = {f"{load}/{number}": EIGHT_MIB for load in "abc" for number in range(5)}


@pytest.mark.parametrize("limit_mib", [112, 144, 192])
def test_three_loads_at_once_that_together_exceed_a_control_group_end_complete_or_refused(
    memory_backing, limit_mib: int
) -> None:
    """Of 40 MiB each; nobody is killed, neither the program nor its Loader, whose buffers count as well."""
    with FaultServer(THREE) as server, _in_a_group(limit_mib * MIB) as group:
        script = AT_ONCE.replace("NAMES", "'abc'")
        outcomes = run(server, script, *group, sys.executable, backing=memory_backing, stdin=subprocess.DEVNULL)
        assert _killed(group) == 0
    assert outcomes[0].split() in (["complete", "complete", "refused"], ["complete", "refused", "refused"])


def test_three_processes_at_once_that_together_exceed_a_control_group_end_complete_or_refused() -> None:
    """Each has found enough free when it began. Of 160 MiB each."""
    script = AT_ONCE.replace("NAMES", "'a'")
    with (
        FaultServer({f"a/{number}": EIGHT_MIB for number in range(20)}) as server,
        _in_a_group(420 * MIB) as group,
    ):
        programs = [
            subprocess.Popen(
                [*group, *command(server, script)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=environment(PYTHONPATH=str(SOURCE)),
            )
            for _ in range(3)
        ]
        outcomes = [program.stdout.readline().strip() for program in programs if program.stdout is not None]
        killed = _killed(group)
        for program in programs:
            program.communicate()
        assert killed == 0
    assert set(outcomes) <= {"complete", "refused"} and "complete" in outcomes


def _killed(group: list[str]) -> int:
    """Return how many processes of the group were killed for memory."""
    path = Path(group[-1]).parent
    events = path / "memory.events" if (path / "memory.events").exists() else path / "memory.oom_control"
    return int(re.findall(r"oom_kill (\d+)", events.read_text())[0])


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="needs bubblewrap (Debian: bubblewrap)")
def test_a_filesystem_that_is_too_small_is_named(tmp_path) -> None:
    """An emptyDir with a sizeLimit, for instance."""
    small = ["bwrap", "--dev-bind", "/", "/", "--size", str(16 * MIB), "--tmpfs", str(tmp_path)]
    if subprocess.run([*small, "true"], capture_output=True).returncode != 0:
        pytest.skip("no sandbox can be made here")
    error = _refused_memory(small, f"directory:{tmp_path}")
    assert f"the limit is the filesystem of {tmp_path} (16.0 MiB; diskless holds 0 B)" in error
