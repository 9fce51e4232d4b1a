"""What a filesystem has to bear: names of any byte, depth, size, races, forks and signals in the midst of changes."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import resource
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import diskless
from tests.native.tree import compile_text, error_of, run_with_tree
from tests.programs import MEMFD_FILTER

LEVELS = 5000
SPARSE = (4 << 30) + 1


@contextlib.contextmanager
def going_on(*works: Callable[[int], None]) -> Iterator[None]:
    """Do each work in a thread of its own, over and over, with the number of the turn; raises what went wrong there."""
    stop, errors = threading.Event(), []

    def keep_on(work: Callable[[int], None]) -> None:
        try:
            for turn in itertools.count():
                if stop.is_set():
                    return
                work(turn)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=keep_on, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    if errors:
        raise errors[0]


def test_a_name_may_hold_every_byte_but_two(place: Path) -> None:
    names = {bytes([byte]) * 255 for byte in range(1, 256) if byte != ord("/")}
    for name in names:
        path = os.fsencode(place) + b"/" + name
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
        os.rename(path, path[:-1])
        os.link(path[:-1], path)
        os.unlink(path[:-1])
        assert os.stat(path).st_nlink == 1
        assert error_of(os.stat, path + name[:1]) == errno.ENAMETOOLONG
    assert set(os.listdir(os.fsencode(place))) == names
    with os.scandir(os.fsencode(place)) as entries:
        assert {entry.name for entry in entries if entry.is_file()} == names


def test_thousands_of_levels_of_directories(place: Path) -> None:
    os.chdir(place)
    for _ in range(LEVELS):
        os.mkdir("d")
        os.chdir("d")
    Path("file").write_text("deep")
    assert Path("file").read_text() == "deep"
    # The kernel knows no path as long as this directory's.
    assert error_of(os.stat, f"{place}/" + "d/" * LEVELS) == errno.ENAMETOOLONG
    climbing = os.open("..", os.O_RDONLY)
    assert os.listdir(climbing) == ["d"]
    os.unlink("file")
    for _ in range(LEVELS):
        os.chdir("..")
        os.rmdir("d")
    os.close(climbing)
    assert os.listdir() == [] and os.getcwd() == str(place)


def test_a_tree_of_thousands_of_levels_goes_with_its_scratch() -> None:
    script = """
        import diskless
        before = os.getcwd()
        with diskless.scratch() as path:
            os.chdir(path)
            for level in range(5000):
                os.mkdir("d"); os.chdir("d")
                if level % 100 == 0: open("file", "w").close()
            os.chdir(before)
        assert not os.path.exists(path)
        assert len(os.listdir("/proc/self/fd")) < 50
    """
    assert run_with_tree(script) == ""


def test_symlinks_in_circles_and_chains(place: Path) -> None:
    (place / "a").symlink_to("b")
    (place / "b").symlink_to(place / "a")
    (place / "self").symlink_to("self/x")
    for name in ("a", "b", "self", "a/x"):
        assert error_of(os.stat, place / name) == errno.ELOOP
        assert error_of(os.open, place / name, os.O_CREAT | os.O_WRONLY) == errno.ELOOP
    (place / "end").write_text("found")
    before = "end"
    for number in range(41):
        (place / f"link{number}").symlink_to(before)
        before = f"link{number}"
    assert (place / "link39").read_text() == "found"
    assert error_of(os.stat, place / "link40") == errno.ELOOP
    assert sorted(os.path.basename(path) for path, *_ in os.walk(place, followlinks=True)) == [place.name]


def test_a_sparse_file_beyond_four_gibibytes(place: Path) -> None:
    with (place / "sparse").open("w+b") as file:
        file.truncate(SPARSE)
        assert os.fstat(file.fileno()).st_blocks == 0
        file.seek(SPARSE - 1)
        file.write(b"x")
        file.seek(-2, os.SEEK_END)
        assert file.read() == b"\0x"
        status = os.stat(place / "sparse")
        assert status.st_size == SPARSE and status.st_blocks * 512 <= 2 << 20
        assert os.lseek(file.fileno(), 0, os.SEEK_DATA) >= SPARSE - 1 - (2 << 20)
        os.pwrite(file.fileno(), b"y", 1 << 40)
        assert os.stat(place / "sparse").st_size == (1 << 40) + 1
        os.truncate(place / "sparse", 3)
        file.seek(0)
        assert file.read() == b"\0\0\0"


def test_who_opens_what_is_being_renamed_finds_one_or_the_other(place: Path) -> None:
    def replace(turn: int) -> None:
        (place / "new").write_bytes(b"%d" % turn * 1000)
        os.replace(place / "new", place / "file")

    def read(turn: int) -> None:
        text = (place / "file").read_bytes()
        assert (len(text) % 1000 == 0 and len(set(text[:: len(text) // 1000])) == 1) or text == b"begun"
        os.stat(place / "file")

    def swap(turn: int) -> None:
        os.rename(place / f"d{turn % 2}", place / f"d{(turn + 1) % 2}")

    def look_beneath(turn: int) -> None:
        with contextlib.suppress(FileNotFoundError):
            assert (place / "d0" / "within").read_bytes() == b"here"

    (place / "file").write_bytes(b"begun")
    (place / "d0").mkdir()
    (place / "d0" / "within").write_bytes(b"here")
    with going_on(replace, swap, read, read, look_beneath):
        time.sleep(2)
    assert sorted(os.listdir(place))[0] in ("d0", "d1") and len(os.listdir(place)) <= 3


def test_a_child_forked_in_the_midst_of_renames_sees_each_name_once() -> None:
    """Its names are a copy of its own, made between two changes of its parent's."""
    with diskless.scratch(backing="tree") as path:
        place = Path(path)

        def move(turn: int) -> None:
            os.rename(place / f"a{turn % 2}", place / f"a{(turn + 1) % 2}")

        def move_to_and_fro(turn: int) -> None:
            sides = ["left", "right"] if turn % 2 == 0 else ["right", "left"]
            os.rename(place / sides[0] / "x", place / sides[1] / "x")

        def sees_and_moves() -> bool:
            (name,) = {"a0", "a1"} & set(os.listdir(place))
            once = len(os.listdir(place / "left")) + len(os.listdir(place / "right")) == 1
            (place / "new").write_bytes((place / name).read_bytes())
            os.rename(place / name, place / "moved")
            return once and sorted(os.listdir(place)) == ["left", "moved", "new", "right"]

        (place / "a0").write_bytes(b"bytes")
        (place / "left").mkdir()
        (place / "right").mkdir()
        (place / "left" / "x").write_bytes(b"x")
        with going_on(move, move_to_and_fro):
            for _ in range(40):
                child = os.fork()
                if child == 0:
                    status = 2
                    with contextlib.suppress(BaseException):
                        status = 0 if sees_and_moves() else 1
                    os._exit(status)
                assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert sorted(os.listdir(place)) in (["a0", "left", "right"], ["a1", "left", "right"])


def test_closing_every_number_and_taking_each_over_loses_no_file() -> None:
    script = """
        import diskless
        with diskless.scratch() as path:
            names = [f"{path}/{number}" for number in range(40)]
            for name in names: open(name, "w").write(name)
            os.closerange(3, 65536)
            null = os.open("/dev/null", os.O_RDWR)
            for number in range(3, 400):
                if number == null: continue
                try: os.dup2(null, number)
                except OSError as error: assert error.errno in (9, 16), error   # EBADF, EBUSY
            for name in names:
                assert open(name).read() == name
                open(name, "a").write(" and more")
                assert open(name).read() == name + " and more"
            os.closerange(3, 65536)
            open(path + "/new", "w").write("x"); os.rename(path + "/new", names[0])
            assert open(names[0]).read() == "x" and len(os.listdir(path)) == 40
        assert len(os.listdir("/proc/self/fd")) < 20
    """
    assert run_with_tree(script) == ""


def test_the_descriptor_limit_in_the_midst_of_every_operation(place: Path) -> None:
    """What needs a descriptor says EMFILE and changes nothing; what needs none on a tmpfs works."""
    (place / "file").write_bytes(b"bytes")
    (place / "d").mkdir()

    def work_at_the_limit() -> None:
        top = max(map(int, os.listdir("/proc/self/fd"))) + 8
        resource.setrlimit(resource.RLIMIT_NOFILE, (top, top))
        with contextlib.suppress(OSError):
            while True:
                os.open("/dev/null", os.O_RDONLY)
        for call in (
            lambda: os.open(place / "file", os.O_RDONLY),
            lambda: os.open(place / "new", os.O_CREAT | os.O_WRONLY),
            lambda: os.open(place / "d", os.O_RDONLY),
            lambda: os.listdir(place / "d"),
        ):
            assert error_of(call) == errno.EMFILE
        assert os.path.getsize(place / "file") == 5 and not (place / "new").exists()
        os.rename(place / "file", place / "moved")
        os.link(place / "moved", place / "file")
        os.symlink("file", place / "link")
        os.mkdir(place / "e")
        os.chmod(place / "file", 0o600)
        os.utime(place / "file", (1, 2))
        os.unlink(place / "moved")
        os.rmdir(place / "e")
        status = os.stat(place / "link")
        assert (status.st_mode & 0o777, status.st_mtime, status.st_nlink) == (0o600, 2, 1)

    child = os.fork()  # only there the limit can be lowered for good
    if child == 0:
        status = 1
        try:
            work_at_the_limit()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_signal_handler_works_with_files_in_the_midst_of_changes(place: Path) -> None:
    handled = []

    def handle(number: int, frame: object) -> None:
        (place / "of-the-handler").write_bytes(b"%d" % len(handled))
        os.replace(place / "of-the-handler", place / "kept")
        handled.append(len(os.listdir(place)))
        if changing:
            signal.setitimer(signal.ITIMER_REAL, 0.001)

    changing = True
    before = signal.signal(signal.SIGALRM, handle)
    tests_own = signal.setitimer(signal.ITIMER_REAL, 0.001)
    try:
        for number in range(3000):
            path = place / f"{number % 7}"
            path.write_bytes(b"x")
            os.rename(path, place / "moved")
            os.unlink(place / "moved")
    finally:
        changing = False  # a signal that is still to be handled must not set the timer again
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, *tests_own)
    assert len(handled) > 10 and os.listdir(place) == ["kept"]


CANCELLED = r"""
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
static char base[200];
static int visit(const char *path, const struct stat *status, int type, struct FTW *at) { return 0; }
static void *work(void *number) {
  char own[300], other[300];
  snprintf(own, sizeof own, "%s/own%ld", base, (long)number);
  snprintf(other, sizeof other, "%s/other%ld", base, (long)number);
  for (;;) {
    int fd = open(own, O_CREAT | O_RDWR, 0600);
    if (fd >= 0) { write(fd, "x", 1); fsync(fd); close(fd); }
    FILE *file = fopen(own, "a");
    if (file) { fputs("text", file); fclose(file); }
    rename(own, other);
    struct stat status; stat(other, &status);
    DIR *stream = opendir(base);
    if (stream) { while (readdir(stream)); closedir(stream); }
    nftw(base, visit, 8, FTW_PHYS);
    mkdir(own, 0700); rmdir(own); unlink(other);
    pthread_testcancel();
  }
}
int cancel_threads(const char *directory, int rounds) {
  strcpy(base, directory);
  for (int round = 0; round < rounds; round++) {
    pthread_t threads[4];
    for (long i = 0; i < 4; i++) if (pthread_create(&threads[i], 0, work, (void *)i)) return -1;
    usleep(500 + round * 37 % 3000);
    for (int i = 0; i < 4; i++) pthread_cancel(threads[i]);
    for (int i = 0; i < 4; i++) pthread_join(threads[i], 0);
    char path[300];
    snprintf(path, sizeof path, "%s/after", base);
    int fd = open(path, O_CREAT | O_EXCL | O_WRONLY, 0600);
    if (fd < 0 || close(fd) || unlink(path)) return errno;
  }
  return 0;
}
"""


def test_a_thread_that_is_cancelled_within_a_call_leaves_no_lock_behind(tmp_path: Path) -> None:
    """Where a thread may be cancelled it is on a tmpfs, too: within write, fsync, and where it asks for it."""
    library = compile_text(CANCELLED, tmp_path / "cancelled.so")
    script = f"""
        import ctypes, diskless
        with diskless.scratch() as path:
            assert ctypes.CDLL({str(library)!r}).cancel_threads(path.encode(), 200) == 0
            for name in os.listdir(path): os.unlink(path + "/" + name)
    """
    assert run_with_tree(script) == ""


@pytest.mark.parametrize("budget", ["budget=None", "budget='1MiB'"])
def test_a_sub_interpreter_writes_too(budget: str) -> None:
    script = f"""
        import diskless
        try: import _interpreters as interpreters
        except ImportError: import _xxsubinterpreters as interpreters
        with diskless.scratch({budget}) as path:
            inner = interpreters.create()
            code = f"open({{path!r}} + '/file', 'w').write('from within'); import os; os.mkdir({{path!r}} + '/d')"
            failed = (getattr(interpreters, "exec", None) or interpreters.run_string)(inner, code)
            assert not failed, failed
            assert open(path + "/file").read() == "from within" and os.path.isdir(path + "/d")
            interpreters.destroy(inner)
            os.unlink(path + "/file")
    """
    assert run_with_tree(script) == ""


def test_without_memfds_a_scratch_says_so_and_opens_nothing() -> None:
    script = f"""{MEMFD_FILTER}
import sys, errno
sys.path[:0] = {sys.path!r}
refuse_memfds(0, 0, errno.ENOSYS)
import diskless
for at in (None, "/tmp/no/such/place"):
    try: diskless.scratch(at=at)
    except diskless.BackingUnavailable as error: print(error)
print(open("/etc/hostname").read() is not None)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    lines = done.stdout.splitlines()
    assert len(lines) == 3 and lines[2] == "True", done.stderr
    for line in lines[:2]:
        assert "the system refuses RAM files" in line and "backing='directory:" in line
