"""A scratch against a tmpfs by random calls of libc, in one C++ program built with sanitizers; and that program itself.

The same idea as tests/filesystem/oracle, nearer to libc: C streams, short buffers, nftw, every call's own errno.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.native.oracle_script import compare
from tests.native.tree import Build, compile_text

STEPS = int(os.environ.get("DISKLESS_ORACLE_STEPS", "20000"))
SEED = int(os.environ.get("DISKLESS_TEST_SEED", "1"))
LIMIT_S = 300 + STEPS // 20

pytestmark = pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="needs a tmpfs at /dev/shm")
root_only = pytest.mark.skipif(os.getuid() != 0, reason="needs root, to be another user or to have things of others")
USERS = [pytest.param(0, marks=root_only, id="root"), pytest.param(65534, id="an ordinary user")]


@pytest.fixture
def places() -> Iterator[tuple[Path, Path, Path]]:
    """Two empty directories on a tmpfs and one on a disk, which everybody may enter."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as shm, tempfile.TemporaryDirectory() as outside:
        for path in (Path(shm), Path(shm, "reference"), Path(shm, "subject"), Path(outside)):
            path.mkdir(exist_ok=True)
            path.chmod(0o755)
        yield Path(shm, "reference"), Path(shm, "subject"), Path(outside)


def user_of(uid: int) -> int:
    return uid if os.getuid() == 0 else os.getuid()


def run(program: Path, *words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    defaults = {"ASAN_OPTIONS": "detect_leaks=0", "UBSAN_OPTIONS": "halt_on_error=1"}
    return subprocess.run(
        [program, *map(str, words)],
        capture_output=True,
        text=True,
        errors="replace",
        timeout=LIMIT_S,
        env=os.environ | defaults | environment,
    )


@pytest.mark.slow
@pytest.mark.timeout(600 + LIMIT_S)  # building takes most of it
@pytest.mark.parametrize("uid", USERS)
def test_a_scratch_does_what_a_tmpfs_does(build: Build, uid: int, places: tuple[Path, Path, Path]) -> None:
    program, library = build("oracle", "address,undefined"), build("library", "address,undefined")
    reference, _, outside = places
    done = run(program, "-l", library, "-u", user_of(uid), "-n", STEPS, "-s", SEED, reference, "/diskless/s", outside)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr[-8000:]
    assert done.stdout == f"{STEPS} steps without a difference\n"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("uid", USERS)
def test_two_tmpfs_do_the_same(build: Build, uid: int, places: tuple[Path, Path, Path]) -> None:
    """Without it a difference would prove nothing."""
    done = run(build("oracle"), "-u", user_of(uid), "-n", 5000, "-s", SEED, *places)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr[-8000:]


# What is wrong with the subject, where the function that is called sees its path.
WRONG = {
    "mkdir ignores the umask": """
        int mkdir(const char *path, mode_t mode) {
          const int result = syscall(SYS_mkdirat, AT_FDCWD, path, mode);
          if (result == 0 && wrong(path)) syscall(SYS_fchmodat, AT_FDCWD, path, mode & 01777);
          return result;
        }
    """,
    "unlink has the wrong error for a name that is not there": """
        int unlink(const char *path) {
          const int result = syscall(SYS_unlinkat, AT_FDCWD, path, 0);
          if (result < 0 && errno == ENOENT && wrong(path)) errno = EACCES;
          return result;
        }
    """,
    "truncate leaves a byte": """
        int truncate(const char *path, off_t size) {
          return syscall(SYS_truncate, path, size > 0 && wrong(path) ? size + 1 : size);
        }
    """,
    "rename leaves the times of what it moves in": """
        int rename(const char *old, const char *new) {
          struct stat status;
          char above[8192];
          if (strlen(new) >= sizeof above || !strchr(new, '/') || !wrong(new)) return renameat(-100, old, -100, new);
          strcpy(above, new);
          *strrchr(above, '/') = 0;
          const int known = stat(above, &status);
          const int result = renameat(-100, old, -100, new), error = errno;
          const struct timespec times[2] = {{1, 0}, {1, 0}};
          if (known == 0 && result == 0) utimensat(-100, above, times, 0);
          errno = error;
          return result;
        }
    """,
    "stat crashes on a path that is too long": """
        int stat(const char *path, struct stat *status) {
          const int result = fstatat(AT_FDCWD, path, status, 0);
          if (result < 0 && errno == ENAMETOOLONG && wrong(path)) abort();
          return result;
        }
    """,
}
PRELUDE = """
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
static int wrong(const char *path) { return strstr(path, getenv("WRONG")) != NULL; }
"""


@pytest.mark.timeout(300)
@pytest.mark.parametrize("what", WRONG)
def test_a_tmpfs_that_is_wrong_is_found_out(
    build: Build, what: str, places: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    """And by a series so short that it can be read."""
    wrong = compile_text(PRELUDE + WRONG[what], tmp_path / "wrong.so")
    reference, subject, outside = places
    words = ["-u", os.getuid(), "-n", 20_000, "-s", SEED, reference, subject, outside]
    done = run(build("oracle"), *words, LD_PRELOAD=str(wrong), WRONG=f"{subject}/")
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"seed {SEED}, series " in done.stderr
    shortest = re.search(r"the shortest series, of (\d+) operations", done.stderr)
    assert shortest is not None, done.stderr
    assert 1 <= int(shortest[1]) <= 5, done.stderr


LIBC = """
    import ctypes, fcntl
    libc = ctypes.CDLL(None, use_errno=True)
    def call(name, *arguments):
        if getattr(libc, name)(*arguments) in (-1, 0):
            raise OSError(ctypes.get_errno(), name)
        return "right"
"""


def test_what_it_found_is_as_on_tmpfs() -> None:
    said = compare(
        LIBC
        + """
    os.makedirs("d/e")
    os.symlink(".", "dot")
    one = os.open("d", os.O_RDONLY)
    other = os.open("d", os.O_RDONLY)
    fcntl.flock(one, fcntl.LOCK_EX)
    show(lambda: fcntl.flock(other, fcntl.LOCK_SH | fcntl.LOCK_NB))
    fcntl.flock(one, fcntl.LOCK_UN)
    show(lambda: fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB))
    file = os.open("f", os.O_RDWR | os.O_CREAT)
    os.unlink("f")
    os.ftruncate(file, 2**63 - 1)
    show(lambda: stat.S_ISREG(os.fstat(file).st_mode))
    link = f"/proc/self/fd/{one}/"
    show(lambda: os.rmdir(link), lambda: os.mkdir(link), lambda: os.rename(link, "c"), lambda: os.unlink(link))
    show(lambda: os.close(os.open("dot", os.O_PATH | os.O_CREAT | os.O_EXCL)))
    os.rmdir("d/e")
    home = os.getcwd()
    os.chdir("d")
    os.rmdir("../d")
    open(home + "/g", "w").close()
    show(lambda: os.rename("a", home + "/a"), lambda: os.link(home + "/g", "a"))
    os.chdir(home)
    show(lambda: os.open("n" * 256, os.O_RDONLY, dir_fd=one))
    """
    )
    assert said.split() == ["EAGAIN", "None", "True", "ENOTDIR", "EEXIST", *said.split()[5:7], "None", *["ENOENT"] * 3]


@root_only
def test_what_an_ordinary_user_found_is_as_on_tmpfs() -> None:
    said = compare(
        LIBC
        + """
    become_user()
    os.mkdir("mine")
    os.chdir("mine")
    os.makedirs("d/e")
    d = os.open("d", os.O_RDONLY)
    visit = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)
    every = visit(lambda path, status, kind, place: 0)
    physical_and_chdir = 5
    os.chmod("d/e", 0o400)
    show(lambda: libc.nftw(b"d", every, 5, 1), lambda: call("nftw", b"d", every, 5, physical_and_chdir))
    os.chdir("d")
    os.chmod("..", 0)
    path = ctypes.create_string_buffer(4096)
    show(lambda: call("realpath", b"/proc/self/fd/%d/nothing" % d, path), lambda: call("realpath", b"e", path))
    """,
        user="65534",
    )
    assert said.split() == ["0", "EACCES", "EACCES", "EACCES"]
