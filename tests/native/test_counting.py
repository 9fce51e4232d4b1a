"""What is written to a scratch is counted: the write that crosses the limit fails as on a tmpfs, and kills nobody."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import resource
import subprocess
import sys
import textwrap
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

import diskless
from tests.native.tree import HERE, compile_text, error_of

MIB = 1 << 20
BUDGET = 2 * MIB

# What is done on a full filesystem, and printed: on a tmpfs of that size and in a scratch.
SCENARIO = r"""
import array, ctypes, errno, os, random, socket, sys
base = sys.argv[1]
libc = ctypes.CDLL(None, use_errno=True)

def say(*words): print(*words, flush=True)
def free(): return os.statvfs(base).f_bavail
def attempt(name, call):
    try: result = call()
    except OSError as error: result = errno.errorcode[error.errno]
    say(name, result, free())
def fill(fd, size=100_000):
    while True:
        try: written = os.write(fd, b"x" * size)
        except OSError as error: return errno.errorcode[error.errno], os.fstat(fd).st_size
        if written != size: say("short", written)
def called(name, *words):
    if getattr(libc, name)(*words) < 0: raise OSError(ctypes.get_errno(), name)

def new(name, flags=0): return os.open(f"{base}/{name}", os.O_CREAT | os.O_RDWR | flags, 0o600)

say(os.statvfs(base).f_blocks, free())
a = new("a")
say("fill", fill(a), free())
attempt("over what is there", lambda: os.pwrite(a, b"y" * 50_000, 4000))
attempt("one byte more", lambda: os.write(a, b"y"))
attempt("nothing", lambda: os.write(a, b""))
attempt("at the end and beyond it", lambda: os.pwrite(a, b"y" * 9000, os.fstat(a).st_size - 100))
attempt("far beyond", lambda: os.pwrite(a, b"y", 1 << 30))
attempt("longer, but a hole", lambda: os.ftruncate(a, 1 << 40))
attempt("shorter", lambda: os.ftruncate(a, 1_500_001))
attempt("a list", lambda: os.pwritev(a, [b"a" * 300_000, b"b" * 300_000, b"c" * 300_000], 1_500_001))
attempt("a list more", lambda: os.writev(a, [b"a" * 10, b"b"]))
os.ftruncate(a, 1_000_000)
b = new("b", os.O_APPEND)
attempt("fallocate too much", lambda: os.posix_fallocate(b, 0, 1_900_000))
attempt("fallocate", lambda: os.posix_fallocate(b, 0, 800_000))
attempt("what was allocated", lambda: os.pwrite(a, b"z" * 2000, 0))
attempt("append", lambda: os.write(b, b"z" * 200_000))
attempt("append more", lambda: os.write(b, b"z" * 200_000))
attempt("append nothing", lambda: os.write(b, b""))
os.unlink(f"{base}/b")
say("unlinked but open", free())
c = os.dup(b); os.close(b)
say("still open", free())
os.close(c)
say("closed", free())
sparse = new("sparse")
for page in range(0, 400, 2): os.pwrite(sparse, b"s", page * 4096)
say("sparse", free())
attempt("over holes", lambda: os.pwrite(sparse, b"t" * 900_000, 10))
attempt("over holes", lambda: os.pwrite(sparse, b"t" * 900_000, 10))
attempt("far", lambda: os.pwrite(sparse, b"t" * 900_000, 900_000))
os.unlink(f"{base}/sparse"); os.close(sparse)
t = os.open(base, os.O_TMPFILE | os.O_RDWR)
say("unnamed", fill(t, 33_333), free())
os.close(t)
say("gone", free())
source = os.open(sys.argv[2], os.O_RDONLY)
d = new("d")
for round in range(40): attempt("sendfile", lambda: os.sendfile(d, source, 0, 300_000))
attempt("sendfile at the end of the source", lambda: os.sendfile(d, source, 10_000_000, 1 << 30))
os.ftruncate(d, 0); os.lseek(d, 0, 0)
for round in range(4): attempt("copy_file_range", lambda: os.copy_file_range(a, d, 1 << 30, 0))
attempt("copy_file_range", lambda: os.copy_file_range(a, d, 1 << 30, 0, 1_500_000))
os.ftruncate(d, 0); os.lseek(d, 0, 0)
r, w = os.pipe()
for round in range(80):
    os.write(w, b"p" * 30_000)
    try: done = os.splice(r, d, 30_000)
    except OSError as error: done = errno.errorcode[error.errno]
    if done != 30_000:
        say("splice", done, free())
        break
os.close(r); os.close(w)
os.ftruncate(d, 0); os.lseek(d, 0, 0)
say("by number", free())
SYS_write = 1 if os.uname().machine == "x86_64" else 64
text = b"n" * 70_000
while (n := libc.syscall(SYS_write, d, text, ctypes.c_size_t(len(text)))) == len(text): pass
say(n, free())
attempt("read-only", lambda: os.write(os.open(base + "/d", os.O_RDONLY), b"x"))
attempt("closed", lambda: os.write(500, b"x"))
ours, theirs = socket.socketpair()
ours.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [d]))])
got = array.array("i"); got.frombytes(theirs.recvmsg(1, 100)[1][0][2])
attempt("passed through a socket", lambda: os.write(got[0], b"x" * 100_000))
attempt("through /proc", lambda: os.write(os.open(f"/proc/self/fd/{d}", os.O_WRONLY | os.O_APPEND), b"x"))
attempt("through /dev/fd", lambda: os.write(os.open(f"/dev/fd/{d}", os.O_WRONLY | os.O_APPEND), b"x" * 100))
os.dup2(d, 600)
attempt("under another number", lambda: os.write(600, b"x" * 10_000))
child = os.fork()
if child == 0:
    attempt("in a child", lambda: os.write(d, b"x" * 10_000))
    os._exit(0)
os.waitpid(child, 0)
rng = random.Random(7)
names = [f"r{i}" for i in range(12)]
os.ftruncate(d, 0); os.ftruncate(a, 0)
for step in range(3000):
    name, size, at = rng.choice(names), rng.choice([1, 100, 4096, 5000, 70_000]), rng.randrange(600_000)
    kind = rng.randrange(10)
    path = f"{base}/{name}"
    if kind == 0 and os.path.exists(path): os.unlink(path)
    elif kind == 1 and os.path.exists(path): os.truncate(path, rng.randrange(300_000))
    else:
        fd = new(name, os.O_APPEND if kind < 5 else 0)
        try: done = os.pwrite(fd, b"r" * size, at) if kind > 6 else os.write(fd, b"r" * size)
        except OSError as error: done = errno.errorcode[error.errno]
        os.close(fd)
        say(step, done)
    if step % 50 == 0: say(free())
"""


def run_script(script: str, *arguments: object, prefix: list[str] | None = None) -> subprocess.CompletedProcess[str]:
    source = f"import sys\nsys.path[:0] = {sys.path!r}\n" + textwrap.dedent(script)
    command = [*(prefix or []), sys.executable, "-c", source, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=HERE.parent.parent)


def test_a_full_scratch_answers_every_write_as_a_full_tmpfs(tmp_path: Path) -> None:
    mounted = tmp_path / "tmpfs"
    mounted.mkdir()
    source = tmp_path / "source"
    source.write_bytes(os.urandom(300_000))
    namespace = ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-Urm"]
    mount = f'mount -t tmpfs -o size={BUDGET} none {mounted} || exit 77; exec "$0" "$@"'
    oracle = run_script(SCENARIO, mounted, source, prefix=[*namespace, "sh", "-c", mount])
    if oracle.returncode == 77 or "unshare" in oracle.stderr:
        pytest.skip(f"no tmpfs can be mounted here: {oracle.stderr.strip()}")
    assert oracle.returncode == 0, oracle.stderr
    ours = run_script(
        f"import diskless\nscratch = diskless.scratch(budget={BUDGET})\nsys.argv[1] = scratch.path\n" + SCENARIO,
        "-",
        source,
    )
    assert ours.returncode == 0, ours.stderr
    assert ours.stdout.splitlines() == oracle.stdout.splitlines()
    assert "ENOSPC" in ours.stdout


@pytest.fixture
def scratch() -> Iterator[Path]:
    with diskless.scratch(budget=BUDGET) as path:
        yield Path(path)


def free_bytes(path: Path) -> int:
    return os.statvfs(path).f_bavail * 4096


def test_holes_are_counted_when_they_are_mapped_for_writing(scratch: Path) -> None:
    with (scratch / "a").open("w+b") as a, (scratch / "b").open("w+b") as b:
        a.truncate(BUDGET * 3 // 4)
        b.truncate(BUDGET * 3 // 4)
        assert free_bytes(scratch) == BUDGET, "a hole costs nothing"
        mapped = mmap.mmap(a.fileno(), 0)
        assert free_bytes(scratch) == BUDGET // 4, "but one that is mapped does"
        assert error_of(mmap.mmap, b.fileno(), 0) == errno.ENOSPC
        assert error_of(os.truncate, scratch / "b", BUDGET) is None
        mmap.mmap(b.fileno(), 0, access=mmap.ACCESS_READ).close()
        mmap.mmap(b.fileno(), 0, flags=mmap.MAP_PRIVATE).close()
        assert os.write(b.fileno(), b"x" * BUDGET) == BUDGET // 4
        mapped[:] = b"y" * len(mapped)
        assert free_bytes(scratch) == 0, "which is counted once"
        assert error_of(os.write, b.fileno(), b"x") == errno.ENOSPC
        os.ftruncate(b.fileno(), 0)
        mapped.close()
        assert free_bytes(scratch) == BUDGET // 4
    (scratch / "a").unlink()
    assert free_bytes(scratch) == BUDGET


def test_a_file_that_grows_beneath_its_mapping_is_counted(scratch: Path) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    library.mmap.restype = ctypes.c_void_p
    fd = os.open(scratch / "a", os.O_CREAT | os.O_RDWR)
    address = library.mmap(None, ctypes.c_size_t(BUDGET * 2), 3, mmap.MAP_SHARED, fd, ctypes.c_long(0))
    assert free_bytes(scratch) == BUDGET
    os.ftruncate(fd, BUDGET // 2)
    assert free_bytes(scratch) == BUDGET // 2
    assert error_of(os.ftruncate, fd, BUDGET * 2) == errno.ENOSPC
    library.munmap(ctypes.c_void_p(address), ctypes.c_size_t(BUDGET * 2))
    os.ftruncate(fd, BUDGET * 2)
    os.close(fd)


def test_a_number_that_changes_hands_past_us_is_no_mistake(scratch: Path, tmp_path: Path) -> None:
    """Only libc sees the stream's descriptor closed: whatever gets its number may be written without a limit."""
    program = compile_text(
        """
        #include <fcntl.h>
        #include <stdio.h>
        #include <unistd.h>
        int close_past_us(int fd) { FILE *stream = fdopen(fd, "r"); return fclose(stream); }
        """,
        tmp_path / "past.so",
    )
    library = ctypes.CDLL(str(program))
    (scratch / "a").write_bytes(b"x" * BUDGET)
    fd = os.open(scratch / "a", os.O_RDWR)
    os.pwrite(fd, b"y", 0)
    assert library.close_past_us(fd) == 0
    other = os.open(tmp_path / "other", os.O_CREAT | os.O_RDWR)
    assert other == fd
    assert os.write(other, b"x" * BUDGET) == BUDGET
    assert library.close_past_us(other) == 0
    again = os.open(scratch / "a", os.O_RDWR | os.O_APPEND)
    assert again == fd
    assert error_of(os.write, again, b"x") == errno.ENOSPC
    os.close(again)


def test_threads_together_do_not_cross_the_limit(scratch: Path) -> None:
    written = [0] * 8

    def fill(number: int) -> None:
        fd = os.open(scratch / str(number), os.O_CREAT | os.O_WRONLY)
        try:
            while True:
                written[number] += os.write(fd, b"x" * 12_288)
        except OSError as error:
            assert error.errno == errno.ENOSPC
        finally:
            os.close(fd)

    threads = [threading.Thread(target=fill, args=(number,)) for number in range(len(written))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # At the limit each may have a write under way that no measurement sees, and one by credit given before.
    assert BUDGET - len(written) * 12_288 <= sum(written) <= BUDGET + 2 * len(written) * 12_288


def test_without_a_budget_the_memory_that_there_is_is_the_limit() -> None:
    with diskless.scratch() as path:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        assert 0 < os.statvfs(path).f_bavail <= os.statvfs(path).f_blocks <= total // 4096
        fd = os.open(f"{path}/a", os.O_CREAT | os.O_RDWR)
        assert error_of(os.posix_fallocate, fd, 0, 1 << 50) == errno.ENOSPC
        os.ftruncate(fd, 1 << 45)
        assert error_of(mmap.mmap, fd, 1 << 45) == errno.ENOSPC
        os.close(fd)


@pytest.fixture
def control_group() -> Iterator[Path]:
    """A group of version 1 that may have 192 MiB."""
    group = Path(f"/sys/fs/cgroup/memory/diskless-test-{uuid.uuid4().hex[:12]}")
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(192 * MIB))
    except OSError as error:
        pytest.skip(f"no memory control group of version 1 can be made: {error.strerror}")
    yield group
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            group.rmdir()
            return
        except OSError:
            os.sched_yield()  # a killed process leaves its group when it is reaped


@pytest.mark.parametrize("how", ["write", "child", "map"])
def test_nobody_is_killed_at_the_limit_of_the_control_group(control_group: Path, how: str) -> None:
    """budget_write.py of the prototypes: the kernel ends whoever writes past the limit into a memfd."""
    script = """
        import errno, mmap, os, sys
        open(sys.argv[1] + "/cgroup.procs", "w").write(str(os.getpid()))
        import diskless
        block, how = b"x" * (1 << 20), sys.argv[2]
        with diskless.scratch() as path:
            for round in range(3):
                fd = os.open(f"{path}/a", os.O_CREAT | os.O_RDWR)
                child = os.fork() if how == "child" else None
                written = 0
                try:
                    while written < 600 << 20:
                        if how == "map":
                            os.ftruncate(fd, written + len(block))
                            mmap.mmap(fd, len(block), offset=written)[:] = block
                            written += len(block)
                        else:
                            written += os.write(fd, block)
                except OSError as error: assert error.errno == errno.ENOSPC, error
                assert os.statvfs(path).f_bavail < (1 << 20) // 4096 + 1
                if child == 0: os._exit(0)
                if child: assert os.waitpid(child, 0)[1] == 0
                size = os.fstat(fd).st_size
                assert 64 << 20 < size < 192 << 20, size
                os.close(fd)
                os.unlink(f"{path}/a")
            assert os.statvfs(path).f_bavail > (64 << 20) // 4096
    """
    done = run_script(script, control_group, how)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_limit_on_file_sizes_is_the_kernels_to_judge(scratch: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
        fd = os.open(scratch / "a", os.O_CREAT | os.O_RDWR)
        ok = os.write(fd, b"x" * 20_000) == 10_000 and error_of(os.write, fd, b"x") == errno.EFBIG
        os._exit(0 if ok else 1)
    assert os.waitpid(child, 0)[1] == 0
