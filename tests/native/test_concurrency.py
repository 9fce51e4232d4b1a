"""Threads that read or change names while others do, forks and signals in the midst of it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from tests.native.tree import LIBRARY, Build, NativeTree, compile_program, run_with_tree, sanitizer_options

ROUNDS = int(os.environ.get("DISKLESS_TEST_ROUNDS", "80"))


def test_threads_read_while_names_come_and_go(tree: NativeTree) -> None:
    for i in range(20):
        tree.file(f"stays/{i}", b"%d" % i)
    stop = threading.Event()
    wrong: list[str] = []

    def read() -> None:
        while not stop.is_set():
            for i in range(20):
                with open(tree.path(f"stays/{i}"), "rb") as file:
                    if file.read() != b"%d" % i:
                        wrong.append(f"stays/{i} has other bytes")
            if len(os.listdir(tree.path("stays"))) != 20:
                wrong.append("a name that stays was not listed")
            for name in os.listdir(tree.root):
                try:
                    os.stat(tree.path(name))
                    with open(tree.path(name), "rb") as file:
                        if file.read() != name.encode():
                            wrong.append(f"{name} has other bytes")
                except (FileNotFoundError, IsADirectoryError):
                    pass

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for i in range(300):
        name = f"comes{i % 7}"
        tree.file(name, name.encode())
        tree.remove(name)
        tree.call("release", tree.fds.pop())
    stop.set()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert not wrong, wrong[:5]


def test_a_child_forked_in_the_midst_of_it_reads_and_changes_names(tree: NativeTree) -> None:
    tree.file("stays", b"x")
    stop = threading.Event()

    def change() -> None:
        while not stop.is_set():
            fd = tree.call("memfd", b"diskless")
            path = os.fsencode(tree.path("comes"))
            tree.call("set_file", path, fd, 0o444, 0, -1)
            tree.call("remove", path)
            tree.call("release", fd)

    def read() -> None:
        while not stop.is_set():
            os.stat(tree.path("stays"))
            os.listdir(tree.root)

    threads = [threading.Thread(target=work) for work in (change, read, read)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(50):
            child = os.fork()
            if child == 0:
                os._exit(child_works(tree))
            deadline = time.monotonic() + 30
            while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0):
                if time.monotonic() > deadline:
                    os.kill(child, signal.SIGKILL)
                    pytest.fail("the child hangs")
                time.sleep(0.001)
            assert ended[1] == 0
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def child_works(tree: NativeTree) -> int:
    """What a forked child does; its exit status."""
    try:
        tree.file("mine", b"the child's")
        with open(tree.path("mine"), "rb") as file:
            return 0 if file.read() == b"the child's" and "stays" in os.listdir(tree.root) else 1
    except BaseException:
        return 2


def test_a_child_keeps_its_names_when_the_parent_takes_them_away() -> None:
    script = """
        tree.file("a", b"bytes")
        ready, go = os.pipe(), os.pipe()
        child = os.fork()
        if child == 0:
            os.read(go[0], 1)
            os._exit(0 if open(tree.path("a"), "rb").read() == b"bytes" else 1)
        tree.remove("a")
        tree.call("release", tree.fds.pop())
        os.write(go[1], b"x")
        assert os.waitpid(child, 0)[1] == 0
        assert not os.path.exists(tree.path("a"))
    """
    assert run_with_tree(script) == ""


@pytest.mark.timeout(300)  # seconds on an idle machine; its timers starve on a busy one
def test_threads_signals_and_forks_in_c(tmp_path: Path) -> None:
    """A signal handler opens files while its thread is in a look-up, and while the names are being changed."""
    done = subprocess.run(
        [compile_program("threads.c", tmp_path), LIBRARY], capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, "")


def finds_nothing(*words: object) -> None:
    """Run a program that was built with a sanitizer."""
    environment = os.environ | {"ASAN_OPTIONS": "detect_leaks=0", "UBSAN_OPTIONS": "halt_on_error=1"}
    done = subprocess.run(
        [*map(str, words)], capture_output=True, text=True, errors="replace", env=environment, timeout=300
    )
    if "FATAL: ThreadSanitizer" in done.stderr:
        pytest.skip(f"the sanitizer does not run here: {done.stderr[:200]}")
    assert done.returncode == 0, done.stderr[-6000:]
    assert not re.search("ERROR|WARNING|runtime error", done.stderr), done.stderr[-6000:]


def test_a_signal_handler_in_the_midst_of_malloc_opens_and_makes_files(tmp_path: Path) -> None:
    """Whoever changes names does not wait for malloc, whose lock the interrupted thread may hold."""
    program = compile_program("locked_malloc.c", tmp_path)
    done = subprocess.run([program, LIBRARY], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
@pytest.mark.timeout(900)  # building takes most of it
@pytest.mark.parametrize("sanitizer", ["address,undefined", "thread"])
def test_sanitizers_find_nothing(build: Build, sanitizer: str, tmp_path: Path) -> None:
    """The library and the programs of these tests, built with the sanitizers of the compiler."""
    library, options = build("library", sanitizer), sanitizer_options(sanitizer)
    finds_nothing(compile_program("threads.c", tmp_path, *options), library)
    if sanitizer != "thread":  # that program has but one
        finds_nothing(compile_program("calls.c", tmp_path, *options), "tree", library, "/diskless/somewhere/base")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_threads_that_change_a_scratch_break_no_invariant(build: Build, tmp_path: Path) -> None:
    """Eight that change names and files, two that open and close Mounts and scratches, signals and forks.

    After each round all stand still, and every directory, file and byte is looked at. Not under AddressSanitizer: a
    signal handler that waits for a writer may have interrupted its allocator, whose lock the writer waits for.
    """
    finds_nothing(build("hammer", "thread"), build("library", "thread"), tmp_path, ROUNDS)
