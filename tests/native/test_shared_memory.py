"""POSIX shared memory and named semaphores where a scratch covers /dev/shm."""

from __future__ import annotations

import os
import subprocess
import sys
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


def run_python(script: str, *arguments: object) -> str:
    source = f"import sys\nsys.path[:0] = {sys.path!r}\n{script}"
    command = [sys.executable, "-c", source, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
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
