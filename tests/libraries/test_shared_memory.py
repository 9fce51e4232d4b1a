"""What needs /dev/shm fails where there is none or it cannot be written, and works there with a scratch over it.

The sandbox has no directory that could be written. What is shared is shared with processes that were forked.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys

import pytest

import diskless.native_api
from tests.programs import SOURCE
from tests.sandbox import HIDDEN

pytestmark = [
    pytest.mark.skipif(shutil.which("bwrap") is None, reason="needs bubblewrap (Debian: bubblewrap)"),
    pytest.mark.skipif(HIDDEN, reason="the Python that runs this lies in a directory that a scratch hides"),
    pytest.mark.skipif(not diskless.native_api.available(), reason="needs the Tree"),
]
DEVICES = [word for name in ("null", "zero", "urandom") for word in ("--dev-bind", f"/dev/{name}", f"/dev/{name}")]
SANDBOX = ["bwrap", "--die-with-parent", "--ro-bind", "/", "/", "--proc", "/proc", "--tmpfs", "/dev", *DEVICES]
WITHOUT_DEV_SHM = [*SANDBOX, "--remount-ro", "/dev"]
DEV_SHM_READ_ONLY = [*SANDBOX, "--tmpfs", "/dev/shm", "--remount-ro", "/dev/shm", "--remount-ro", "/dev"]
NO_SUCH_FILE = os.strerror(errno.ENOENT)

# What all scripts begin with. The arguments are where scratches are to be open.
BEGIN = """
import os, sys, multiprocessing
for directory in ("/dev/shm", "/dev", "/tmp", "/var/tmp", "/"):
    if os.access(directory, os.W_OK) and not os.statvfs(directory).f_flag & os.ST_RDONLY:
        sys.exit(f"{directory} can be written: this is no sandbox")
fork = multiprocessing.get_context("fork")
def double(value): return 2 * value
def run(target, *arguments):
    child = fork.Process(target=target, args=arguments)
    child.start()
    return child
import diskless
for directory in sys.argv[1:]: diskless.scratch(at=directory)
"""

LOCKS = """
lock, event, count, values = fork.Lock(), fork.Event(), fork.Value("i"), fork.Array("i", 2, lock=False)
def add():
    event.wait()
    for _ in range(500):
        with lock: values[0] += 1
        with count: count.value += 1
children = [run(add) for _ in range(3)]
event.set()
for child in children: child.join()
print(values[0], count.value)
"""
QUEUE = """
for make in (fork.Queue, fork.SimpleQueue, fork.JoinableQueue):
    queue = make()
    child = run(lambda: queue.put(list(range(100_000))))
    print(sum(queue.get()))
    child.join()
"""
POOL = """
with fork.Pool(2) as pool:
    print(pool.map(double, range(5)), sorted(pool.imap_unordered(double, range(3))))
"""
EXECUTOR = """
from concurrent.futures import ProcessPoolExecutor
with ProcessPoolExecutor(2, mp_context=fork) as executor:
    print(list(executor.map(double, range(5))))
"""
SHARED_MEMORY = """
from multiprocessing import shared_memory
block = shared_memory.SharedMemory(create=True, size=10_000)
def fill():
    other = shared_memory.SharedMemory(block.name)
    other.buf[:5] = b"hello"
    other.close()
run(fill).join()
print(bytes(block.buf[:5]), os.listdir("/dev/shm") == [block.name])
block.close()
block.unlink()
print(os.listdir("/dev/shm"))
"""
# Of all these it alone has its locks in threads; what it needs is a directory for its socket.
MANAGER = """
with fork.Manager() as manager:
    names, lock, queue = manager.dict(), manager.Lock(), manager.Queue()
    def put():
        with lock: names["child"] = "was here"
        queue.put(3)
    run(put).join()
    print(dict(names), queue.get(timeout=20))
"""
STANDARD_LIBRARY = {
    "locks": (LOCKS, ["1500 1500"]),
    "queues": (QUEUE, ["4999950000"] * 3),
    "Pool": (POOL, ["[0, 2, 4, 6, 8] [0, 2, 4]"]),
    "ProcessPoolExecutor": (EXECUTOR, ["[0, 2, 4, 6, 8]"]),
    "shared_memory": (SHARED_MEMORY, ["b'hello' True", "[]"]),
}

JOBLIB = """
import joblib, numpy
def total(array): return float(array.sum())
with joblib.parallel_config("multiprocessing", n_jobs=2):
    print(joblib.Parallel()(joblib.delayed(double)(value) for value in range(4)))
    # Arrays that it would put into files by itself have to go through the pipe: the workers were forked before.
    print(joblib.Parallel(max_nbytes=None)(joblib.delayed(total)(numpy.ones(1 << 20)) for _ in range(2)))
    print(len({*joblib.Parallel()(joblib.delayed(os.getpid)() for _ in range(8))} - {os.getpid()}) > 0)
"""
NUMBA = """
import warnings
import numba, numpy
warnings.simplefilter("error", numba.core.errors.NumbaSystemWarning)  # what it says where it has no lock
@numba.njit(parallel=True)
def total(values):
    result = 0.0
    for index in numba.prange(values.size): result += values[index]
    return result
print(total(numpy.ones(1000)))
"""
TORCH = """
import torch
from torch.utils.data import DataLoader, TensorDataset
data = TensorDataset(torch.arange(400.0).reshape(100, 4))
loader = DataLoader(data, batch_size=10, num_workers=2, multiprocessing_context="fork")
print(sum(float(batch.sum()) for batch, in loader), torch.multiprocessing.get_sharing_strategy())
shared = torch.zeros(3).share_memory_()
run(lambda: shared.add_(2)).join()
print(shared.tolist(), os.listdir("/dev/shm"))
"""
# What it prints, and what is there to be read where it cannot work, or not with processes.
LIBRARIES = {
    "joblib": (JOBLIB, ["[0, 2, 4, 6]", "[1048576.0, 1048576.0]", "True"], "\nFalse"),
    "numba": (NUMBA, ["1000.0"], "NumbaSystemWarning"),
    "torch": (TORCH, ["79800.0 file_descriptor", "[2.0, 2.0, 2.0] []"], NO_SUCH_FILE),
}


def _run(sandbox: list[str], script: str, *scratches: str) -> subprocess.CompletedProcess[str]:
    # joblib's resource tracker is another program: it has no scratch, and warns of that.
    environment = {"PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONWARNINGS": "ignore"}
    environment |= {"HOME": "/nonexistent", "PYTHONPATH": str(SOURCE), "NUMBA_NUM_THREADS": "2"}
    settings = [word for name, value in environment.items() for word in ("--setenv", name, value)]
    command = [*sandbox, "--clearenv", *settings, "--chdir", "/", sys.executable, "-c", BEGIN + script, *scratches]
    return subprocess.run(command, capture_output=True, text=True, timeout=110)


def _lines(done: subprocess.CompletedProcess[str]) -> list[str]:
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ("sandbox", "error"),
    [(WITHOUT_DEV_SHM, NO_SUCH_FILE), (DEV_SHM_READ_ONLY, "Read-only file system")],
    ids=["no /dev/shm", "/dev/shm read-only"],
)
@pytest.mark.parametrize(("script", "expected"), STANDARD_LIBRARY.values(), ids=STANDARD_LIBRARY.keys())
def test_multiprocessing_works_with_a_scratch_over_dev_shm_alone(sandbox, error, script, expected):
    without = _run(sandbox, script, "/tmp")
    assert without.returncode != 0
    assert error in without.stderr
    assert _lines(_run(sandbox, script, "/tmp", "/dev/shm")) == expected


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_library_works_with_a_scratch_over_dev_shm_alone(library):
    pytest.importorskip(library)
    script, expected, complaint = LIBRARIES[library]
    without = _run(WITHOUT_DEV_SHM, script, "/tmp")
    assert complaint in without.stdout + without.stderr
    assert _lines(_run(WITHOUT_DEV_SHM, script, "/tmp", "/dev/shm")) == expected


def test_a_manager_works_with_a_scratch_over_tmp_alone():
    assert "No usable temporary directory found" in _run(WITHOUT_DEV_SHM, MANAGER).stderr
    assert _lines(_run(WITHOUT_DEV_SHM, MANAGER, "/tmp")) == ["{'child': 'was here'} 3"]
