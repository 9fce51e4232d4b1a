"""POSIX shared memory and named semaphores where a scratch covers /dev/shm, or there is no /dev/shm at all."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.native.tree import compile_text

# What the calls answer, on a real /dev/shm and in a scratch over it. Names are made unique by the argument.
SCENARIO = r"""
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
static char spelled[400];
static const char *id;
static const char *n(const char *pattern) { snprintf(spelled, sizeof spelled, pattern, id); return spelled; }
static void say(const char *what, long value) {
  printf("%s %ld %s\n", what, value, errno ? strerrorname_np(errno) : "-");
  errno = 0;
}
static int value_of(sem_t *s) { int v = -1; if (s != SEM_FAILED) sem_getvalue(s, &v); return v; }
int run(const char *unique) {
  struct stat status;
  setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
  id = unique; umask(022); errno = 0;
  say("missing", shm_open(n("/%s"), O_RDWR, 0));
  say("empty", shm_open("/", O_RDWR | O_CREAT, 0600));
  say("slash", shm_open(n("/%s/x"), O_RDWR | O_CREAT, 0600));
  char longest[300]; memset(longest, 'n', 299); longest[299] = 0;
  say("long", shm_open(longest, O_RDWR | O_CREAT, 0600));
  int fd = shm_open(n("%s"), O_RDWR | O_CREAT | O_EXCL, 0666);
  say("made", fd >= 0);
  say("cloexec", fcntl(fd, F_GETFD));
  say("exists", shm_open(n("//%s"), O_RDWR | O_CREAT | O_EXCL, 0666));
  say("again", shm_open(n("/%s"), O_RDONLY, 0) >= 0);
  say("ftruncate", ftruncate(fd, 8192));
  say("stat", stat(n("/dev/shm/%s"), &status)); say("mode", status.st_mode); say("size", status.st_size);
  char *shared = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (!fork()) { strcpy(shared, "from the child"); _exit(0); }
  wait(NULL); puts(shared);
  say("unlink", shm_unlink(n("%s")));
  say("unlink again", shm_unlink(n("%s")));
  say("unlink empty", shm_unlink("//"));
  say("sem missing", sem_open(n("/%s"), 0) == SEM_FAILED);
  say("sem slash", sem_open(n("/%s/x"), O_CREAT, 0600, 1) == SEM_FAILED);
  say("sem long", sem_open(longest, O_CREAT, 0600, 1) == SEM_FAILED);
  say("sem value", sem_open(n("/%s"), O_CREAT, 0600, 1u << 31) == SEM_FAILED);
  sem_t *one = sem_open(n("/%s"), O_CREAT, 0666, 3), *two = sem_open(n("/%s"), O_CREAT, 0666, 7);
  errno = 0;
  say("same", one == two); say("value", value_of(two));
  say("exclusive", sem_open(n("/%s"), O_CREAT | O_EXCL, 0666, 7) == SEM_FAILED);
  say("stat", stat(n("/dev/shm/sem.%s"), &status)); say("mode", status.st_mode); say("size", status.st_size);
  if (!fork()) {
    sem_wait(one); sem_wait(one); sem_t *three = sem_open(n("/%s"), 0); _exit(three != one || value_of(three) != 1);
  }
  int how; wait(&how); say("child", how); say("value", value_of(one));
  say("close", sem_close(one)); say("value", value_of(two));
  say("sem_unlink", sem_unlink(n("/%s"))); say("sem_unlink", sem_unlink(n("/%s"))); say("sem_unlink", sem_unlink("/"));
  sem_t *fresh = sem_open(n("/%s"), O_CREAT | O_EXCL, 0600, 9);
  say("fresh", fresh != two); say("value", value_of(fresh)); say("value", value_of(two));
  say("close", sem_close(two)); say("close", sem_close(fresh)); say("close again", sem_close(fresh));
  sem_t own; sem_init(&own, 0, 1); say("close none", sem_close(&own));
  say("sem_unlink", sem_unlink(n("%s")));
  return 0;
}
"""


def run_python(script: str, *arguments: object, prefix: list[str] | None = None) -> str:
    source = f"import sys\nsys.path[:0] = {sys.path!r}\n" + textwrap.dedent(script)
    command = [*(prefix or []), sys.executable, "-c", source, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=170)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_names_answer_as_on_a_real_dev_shm(tmp_path: Path) -> None:
    if not os.access("/dev/shm", os.W_OK):
        pytest.skip("/dev/shm cannot be written")
    library = compile_text(SCENARIO, tmp_path / "names.so", "-lrt")
    call = "ctypes.CDLL(sys.argv[1]).run(sys.argv[2].encode())"
    unique = f"diskless-{os.getpid()}"
    expected = run_python(f"import ctypes\n{call}", library, unique)
    ours = run_python(f"import ctypes, diskless\nwith diskless.scratch(at='/dev/shm'): {call}", library, unique)
    assert ours.splitlines() == expected.splitlines()
    assert not list(Path("/dev/shm").glob(f"*{unique}*"))


# All that complains of a missing /dev/shm, with the fork start method.
EVERYTHING = """
    import multiprocessing, os, sys
    from concurrent.futures import ProcessPoolExecutor
    try: multiprocessing.get_context("fork").Lock()
    except OSError: pass
    else: sys.exit("this is no sandbox without /dev/shm")
    import diskless

    def double(value): return 2 * value
    def put(queue, lock, event, array):
        with lock: array[0] += 1
        event.wait()
        queue.put(array[0])

    if __name__ == "__main__":
        with diskless.scratch(at="/dev/shm"), diskless.scratch() as temporary:
            os.environ["TMPDIR"] = temporary
            fork = multiprocessing.get_context("fork")
            queue, lock, event, array = fork.Queue(), fork.Lock(), fork.Event(), fork.Array("i", 3)
            children = [fork.Process(target=put, args=(queue, lock, event, array)) for _ in range(3)]
            for child in children: child.start()
            event.set()
            assert max(queue.get() for _ in children) == 3 or array[0] == 3
            for child in children: child.join()
            with fork.Pool(2) as pool: assert pool.map(double, range(50)) == list(range(0, 100, 2))
            with ProcessPoolExecutor(2, mp_context=fork) as executor:
                assert list(executor.map(double, range(5))) == [0, 2, 4, 6, 8]
            from multiprocessing import shared_memory
            block = shared_memory.SharedMemory(create=True, size=10_000)
            def fill():
                other = shared_memory.SharedMemory(block.name)
                other.buf[:5] = b"hello"
                other.close()
            child = fork.Process(target=fill)
            child.start()
            child.join()
            assert bytes(block.buf[:5]) == b"hello"
            assert block.name in os.listdir("/dev/shm")
            block.close()
            block.unlink()
            assert os.listdir("/dev/shm") == []
            if sys.argv[1] == "torch":
                import torch
                from torch.utils.data import DataLoader, TensorDataset
                data = TensorDataset(torch.arange(400.0).reshape(100, 4))
                assert sum(float(batch[0].sum()) for batch in DataLoader(data, batch_size=10, num_workers=2)) == 79800
            if sys.argv[1] == "joblib":
                os.environ["PYTHONWARNINGS"] = "ignore"  # its resource tracker is another program, and has no scratch
                import joblib
                import joblib._multiprocessing_helpers
                assert joblib._multiprocessing_helpers.mp is not None, "it works one by one"
                with joblib.parallel_config("multiprocessing", n_jobs=2):
                    assert joblib.Parallel()(joblib.delayed(double)(value) for value in range(4)) == [0, 2, 4, 6]
            sys.stdout.flush()
            os._exit(0)
"""


@pytest.mark.parametrize("library", ["", "torch", "joblib"], ids=["standard library", "torch", "joblib"])
@pytest.mark.timeout(180)  # of importing torch on a busy machine
def test_multiprocessing_works_where_there_is_no_dev_shm(library: str) -> None:
    if shutil.which("bwrap") is None:
        pytest.skip("bubblewrap (bwrap) is not installed")
    if library and importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    devices = [word for name in ("null", "zero", "urandom") for word in ("--dev-bind", f"/dev/{name}", f"/dev/{name}")]
    sandbox = ["bwrap", "--ro-bind", "/", "/", "--proc", "/proc", "--tmpfs", "/dev", *devices, "--remount-ro", "/dev"]
    run_python(EVERYTHING, library, prefix=sandbox)
