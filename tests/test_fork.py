"""Forks of the user's process at any moment: child and parent go on, and no Loader outlives its user."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator

import pytest

from tests.loader.fault_server import FaultServer
from tests.loader.fetching import loader_pids
from tests.programs import SOURCE, environment, lives, run, start, until

DATA = os.urandom(3 << 20)
PRELUDE = """
import json, os, signal, sys, threading
import diskless
url, options = sys.argv[1], json.loads(sys.argv[2])

def load():
    with diskless.mount(url, storage_options=options) as path:
        return os.path.getsize(path + "/big")

def in_child(work):
    "The exit status of a child that does this: 0 when it returns true."
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            status = 0 if work() else 2
        except BaseException as error:
            import traceback; traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
"""


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer({"big": DATA}) as server:
        yield server


@pytest.fixture
def hanging() -> Iterator[FaultServer]:
    with FaultServer({"big": DATA}, hang_after=1000) as server:
        yield server


def _run(server: FaultServer, script: str, backing: str = "tree") -> list[str]:
    return run(server, PRELUDE + textwrap.dedent(script), backing=backing)


def test_before_the_first_load_parent_and_child_load_for_themselves(server, backing) -> None:
    assert _run(server, "print(in_child(lambda: load() == 3145728)); print(load())", backing) == ["0", "3145728"]


def test_after_a_load_the_child_starts_a_loader_of_its_own(server, backing) -> None:
    script = """
        print(load())
        print(in_child(lambda: load() == 3145728))
        print(load())
    """
    assert _run(server, script, backing) == ["3145728", "0", "3145728"]


def test_a_child_of_a_child(server, backing) -> None:
    script = """
        load()
        print(in_child(lambda: load() and in_child(lambda: load() == 3145728) == 0 and load()))
        print(load())
    """
    assert _run(server, script, backing) == ["0", "3145728"]


@pytest.mark.parametrize("start_loader_first", [True, False])
def test_during_a_transfer_the_parent_goes_on_and_the_child_loads_for_itself(
    server, backing, start_loader_first: bool
) -> None:
    """Forks again and again while other threads start Loaders, list, transfer and release."""
    script = f"""
        stop, loads, errors = threading.Event(), [], []
        if {start_loader_first}:
            load()
        def keep_loading():
            while not stop.is_set():
                try:
                    loads.append(load())
                except BaseException as error:
                    errors.append(error)
        threads = [threading.Thread(target=keep_loading) for _ in range(2)]
        for thread in threads: thread.start()
        children = [in_child(lambda: load() == 3145728) for _ in range(12)]
        while len(loads) < 4 and not errors: pass
        stop.set()
        for thread in threads: thread.join()
        print(children == [0] * 12, set(loads), errors)
    """
    assert _run(server, script, backing) == ["True {3145728} []"]


def test_in_the_child_a_job_of_the_parent_is_cancelled_with_words_that_say_so(hanging, backing) -> None:
    script = """
        job = diskless.prefetch(url, storage_options=options)
        sys.stdin.readline()
        def wait():
            try:
                job.wait(timeout_s=20)
            except diskless.Cancelled as error:
                return "parent" in str(error) and job.close() is None
        print(in_child(wait))
        try:
            job.wait(timeout_s=0)
        except TimeoutError:
            print("goes on")
    """
    program = start(hanging, PRELUDE + textwrap.dedent(script), backing=backing, stdin=subprocess.PIPE)
    hanging.hanging.wait()
    assert program.communicate("fork\n", timeout=60) == ("0\ngoes on\n", "")


def test_a_child_that_ends_disturbs_no_transfer_of_the_parent(server, backing) -> None:
    """Neither by os._exit nor by the interpreter's own end."""
    script = """
        import gc
        for end in (lambda: os._exit(0), lambda: (gc.collect(), sys.exit(0)), lambda: sys.exit(0)):
            job = diskless.prefetch(url, storage_options=options)
            pid = os.fork()
            if pid == 0:
                end()
            assert os.waitpid(pid, 0)[1] == 0
            job.wait()
            job.close()
        print(load())
    """
    assert _run(server, script, backing) == ["3145728"]


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("when", ["after the Loader was there", "while it is started"])
def test_the_loader_sees_the_parents_end_though_a_child_lives_on(hanging, when: str, ending: signal.Signals) -> None:
    """A daemon's worker has copies of all that the parent had open, unless somebody closes them."""
    script = """
        fork_now = threading.Event()
        def fork():
            fork_now.wait()
            if os.fork() == 0:
                os.write(1, b"%d\\n" % os.getpid())
                while True: signal.pause()
        if WHILE_IT_IS_STARTED:
            from diskless import native_api as native
            spawn = native.spawn
            def spawn_and_fork(*arguments):
                started = spawn(*arguments)
                fork_now.set()
                return started
            native.spawn = spawn_and_fork
        threading.Thread(target=fork, daemon=True).start()
        job = diskless.prefetch(url, storage_options=options)
        sys.stdin.readline()
        fork_now.set()
        sys.stdin.readline()
    """.replace("WHILE_IT_IS_STARTED", str(when == "while it is started"))
    program = start(hanging, PRELUDE + textwrap.dedent(script), stdin=subprocess.PIPE)
    assert program.stdin is not None and program.stdout is not None
    hanging.hanging.wait()
    program.stdin.write("fork\n")
    program.stdin.flush()
    child = int(program.stdout.readline())
    (loader,) = loader_pids(program.pid)
    try:
        program.send_signal(ending)
        program.wait()
        until(lambda: not lives(loader))
        assert lives(child)
    finally:
        os.kill(child, signal.SIGKILL)
        program.communicate()


def test_a_child_closes_nothing_that_is_the_parents(server, tmp_path) -> None:
    """A Mount on plain files: the child's close must leave them where the parent shows them."""
    script = f"""
        backing = "directory:{tmp_path}/ram"
        mount = diskless.mount(url, storage_options=options, backing=backing)
        def close():
            mount.close()
            return mount.closed and os.path.getsize(mount.path + "/big")
        print(in_child(close), os.path.getsize(mount.path + "/big"))
        mount.close()
        print(os.path.exists("{tmp_path}/ram"))
    """
    assert _run(server, script) == ["0 3145728", "False"]


def test_a_child_needs_nothing_that_its_parent_closes(server, backing) -> None:
    """Nor does it take from the parent by closing its copy of a Mount, also after a load of its own."""
    script = """
        mount = diskless.mount(url, storage_options=options)
        print(in_child(lambda: load() == 3145728 and mount.close() is None and load() == 3145728))
        print(os.path.getsize(mount.path + "/big"))
        closed, close = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(close)
            os.read(closed, 1)
            status = 1
            try:
                status = 0 if load() == 3145728 and mount.close() is None and load() == 3145728 else 2
            finally:
                os._exit(status)
        mount.close()
        os.close(close)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), load())
    """
    assert _run(server, script, backing) == ["0", "3145728", "0 3145728"]


def test_multiprocessing_by_fork_and_by_spawn(server, tmp_path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        PRELUDE.replace("in_child", "unused")
        + textwrap.dedent("""
        def work(_):
            return load()

        if __name__ == "__main__":
            import multiprocessing
            load()
            for method in ("fork", "spawn"):
                with multiprocessing.get_context(method).Pool(2) as pool:
                    print(method, pool.map(work, range(4)))
        """)
    )
    ended = subprocess.run(
        [sys.executable, program, server.url, json.dumps(server.storage_options)],
        capture_output=True,
        text=True,
        timeout=90,
        env=environment(PYTHONPATH=str(SOURCE)),
    )
    assert ended.stdout.splitlines() == [f"{method} {[3145728] * 4}" for method in ("fork", "spawn")], ended.stderr
