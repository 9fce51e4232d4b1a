"""Limits of the system: what fits works, and what does not is an error that names the limit."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.loader.fault_server import FaultServer
from tests.programs import BY_A_PROCESS, SOURCE, command, environment, run

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


def test_more_files_than_descriptors_are_refused_and_nothing_is_fetched() -> None:
    with FaultServer(MANY) as server:
        error, clean = run(server, DESCRIPTORS.format(soft=400, hard=500, prepare=""))
        assert "600 files" in error and "500 (RLIMIT_NOFILE)" in error and clean == "True"
        assert server.gets == []


def test_the_soft_limit_on_descriptors_is_raised_where_it_is_needed() -> None:
    with FaultServer(MANY) as server:
        assert run(server, DESCRIPTORS.format(soft=100, hard=2000, prepare="")) == ["600 b'7'", "True"]


def test_as_many_files_as_the_limit_leaves_room_for_are_loaded() -> None:
    """As no root the kernel counts what is under way between the processes as well."""
    with FaultServer(MANY) as server:
        script = DESCRIPTORS.format(soft=700, hard=700, prepare="").replace(
            "os.listdir(path)", "os.listdir(path + '/many')"
        )
        prefix = _as_a_user(54399) if os.geteuid() == 0 else []
        assert run(server, script, *prefix, sys.executable) == ["600 b'7'", "True"]


def test_in_threads_each_file_takes_two_descriptors() -> None:
    """The thread that fills a file is handed one of its own, in the same process."""
    with FaultServer(MANY) as server:
        script = DESCRIPTORS.format(soft=700, hard=2000, prepare="sys.executable = ''")
        assert run(server, script) == ["600 b'7'", "True"]


def test_in_threads_too_the_limit_is_named_and_nothing_is_fetched() -> None:
    with FaultServer(MANY) as server:
        script = DESCRIPTORS.format(soft=700, hard=700, prepare="sys.executable = ''")
        error, clean = run(server, script)
        assert "RLIMIT_NOFILE" in error and clean == "True"
        assert server.gets == []
