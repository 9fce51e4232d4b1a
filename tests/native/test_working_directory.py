"""The working directory may be in the Tree: it is there for every relative path, and for nobody else."""

from __future__ import annotations

import ctypes
import errno
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import diskless
from tests.native.oracle_script import compare
from tests.native.tree import HERE, NativeTree, compile_text, run_with_tree


@pytest.fixture
def scratch() -> Iterator[str]:
    before = os.getcwd()
    with diskless.scratch() as path:
        yield path
        os.chdir(before)


def error_of(call: object) -> int | None:
    with pytest.raises(OSError) as caught:
        call()  # type: ignore[operator]
    return caught.value.errno


def kernels_working_directory() -> str:
    """What the kernel itself says, asked from where no hook is: a child that sees no Tree."""
    return os.readlink(f"/proc/self/task/{threading.get_native_id()}/cwd")


def test_relative_paths_lead_where_they_lead_on_tmpfs() -> None:
    said = compare("""
        os.makedirs("a/b/c"); os.symlink("a/b", "link"); os.symlink(base + "/a", "absolute")
        open("a/file", "w").write("text"); open("a/b/c/file", "w").write("deep")
        show(os.getcwd, lambda: sorted(os.listdir()), lambda: sorted(os.listdir("..")))
        for where in ["a", "b/c", "..", "../..", "link", "c/..", "..", ".", "./", "b//", base, "absolute/b", "/",
                      base + "/a/", "file", "file/", "none", "none/..", "file/..", "", "x" * 300, "../" * 9,
                      base + "/link/c", "../" * 3]:
            show(lambda: os.chdir(where), os.getcwd, lambda: os.path.realpath("file"), lambda: open("file").read(),
                 lambda: os.path.exists("../file"), lambda: sorted(glob.glob("*")) if base in os.getcwd() else "-")
        os.chdir(base + "/a")
        show(lambda: os.rename("file", "moved"), lambda: os.link("moved", "../hard"),
             lambda: os.symlink("moved", "soft"),
             lambda: os.stat("../hard").st_nlink, lambda: os.readlink("soft"), lambda: open("soft").read(),
             lambda: os.mkdir("new"), lambda: os.rmdir("new"), lambda: os.unlink("soft"),
             lambda: os.chmod("moved", 0o600),
             lambda: oct(os.stat("moved").st_mode), lambda: os.truncate("moved", 2), lambda: os.path.getsize("moved"),
             lambda: os.path.samefile(".", base + "/a"), lambda: os.path.samefile("..", base),
             lambda: os.access("moved", 4),
             lambda: os.replace("moved", "b/moved"), lambda: sorted(os.listdir("b")), lambda: os.rename("../a", "b/a"))
        fd = os.open(".", os.O_RDONLY)
        path_only = os.open("b", os.O_PATH | os.O_DIRECTORY)
        plain = os.open("b/moved", os.O_RDONLY)
        for descriptor in (fd, path_only, plain, fd):
            show(lambda: os.fchdir(descriptor), os.getcwd)
        os.rename(base + "/a", base + "/renamed")
        show(os.getcwd, lambda: sorted(os.listdir()), lambda: os.readlink("/proc/self/cwd"),
             lambda: os.stat("/proc/self/cwd/b").st_nlink, lambda: os.path.realpath("/proc/self/cwd/b"))
    """)
    assert "BASE/renamed" in said


def test_a_removed_working_directory_is_as_on_tmpfs() -> None:
    said = compare("""
        os.makedirs("a/b/c"); os.chdir("a/b/c")
        shutil.rmtree(base + "/a/b")
        show(os.getcwd, lambda: os.stat(".").st_nlink, lambda: open("x", "w"), lambda: os.mkdir("x"), os.listdir,
             lambda: os.symlink("x", "y"), lambda: os.open("x", os.O_RDONLY), lambda: os.stat("..").st_nlink,
             lambda: os.rename("x", "y"), lambda: os.chdir("x"), lambda: os.chdir("."), os.getcwd,
             lambda: os.chdir(".."), os.getcwd, lambda: os.mkdir("x"), lambda: os.chdir(".."), os.getcwd, os.listdir)
        os.mkdir("again"); os.chdir("again"); os.rmdir("../again")
        show(os.getcwd, lambda: os.open("..", os.O_RDONLY) > 0, lambda: os.chdir(base), os.getcwd)
        os.mkdir("over"); os.mkdir("new"); os.chdir("over"); os.rename("../new", "../over")
        show(os.getcwd, lambda: os.mkdir("x"), lambda: os.chdir("../over"), os.getcwd, lambda: os.mkdir("x"))
    """)
    assert "ENOENT" in said


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_who_may_go_where_is_as_on_tmpfs() -> None:
    said = compare(
        """
        os.makedirs("open/in"); os.makedirs("shut/in"); os.mkdir("search"); os.mkdir("read")
        os.chmod("shut", 0o700); os.chmod("search", 0o711); os.chmod("read", 0o744)
        os.makedirs("then-shut/in")
        os.chdir("then-shut")
        fd = os.open(base + "/shut", os.O_RDONLY)
        os.chmod(base + "/then-shut", 0o700)
        become_user()
        show(os.getcwd, lambda: os.stat("."), lambda: os.stat(".."), lambda: os.chdir("in"), lambda: os.chdir(".."),
             lambda: os.listdir("."), lambda: os.fchdir(fd))
        for where in ["open/in", "shut", "shut/in", "search", "read", "open"]:
            show(lambda: os.chdir(base + "/" + where), os.getcwd, lambda: os.listdir(), lambda: os.mkdir("mine"))
        """,
        user="65534",
    )
    assert "EACCES" in said


def test_every_function_of_libc_begins_there_as_on_tmpfs(tmp_path: Path) -> None:
    library = compile_text((HERE / "working_directory.c").read_text(), tmp_path / "libc_calls.so")
    said = compare(f"""
        import ctypes
        os.makedirs("d/inner"); os.symlink("d", "link"); open("file", "w").close(); open("d/file", "w").close()
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        ctypes.CDLL({str(library)!r}).calls(writing)
        os.close(writing)
        text = open(reading).read()
        show(lambda: text)
        show(os.getcwd, lambda: sorted(os.listdir()))
    """)
    assert "  nftw walked/one/file 0 11 2 in BASE/walked/one 1" in said
    assert "wordexp: d/file" in said


def test_temporary_files_and_trees_in_the_working_directory_are_as_on_tmpfs() -> None:
    compare("""
        tempfile.tempdir = "."
        with tempfile.TemporaryDirectory(dir=".") as directory, tempfile.NamedTemporaryFile(dir=".") as file:
            file.write(b"x"); file.flush()
            show(lambda: os.path.getsize(file.name), lambda: os.listdir(directory), lambda: len(os.listdir(".")))
        show(os.listdir)
        os.makedirs("tree/a/b"); open("tree/a/f", "w").close(); os.chdir("tree/a")
        show(lambda: shutil.copytree("../../tree", "../../copy"), lambda: sorted(os.listdir("../../copy/a")))
        show(lambda: shutil.rmtree("../../tree"), os.getcwd, lambda: os.listdir(base))
        os.chdir(base)
        show(lambda: shutil.rmtree("copy"), os.listdir)
    """)


def test_threads_have_one_and_a_forked_child_its_own() -> None:
    compare("""
        os.makedirs("a/b"); os.mkdir("c")
        barrier = threading.Barrier(2)
        def other():
            barrier.wait(); show(os.getcwd); os.chdir("b"); barrier.wait()
        thread = threading.Thread(target=other); thread.start()
        os.chdir("a"); barrier.wait(); barrier.wait(); thread.join()
        show(os.getcwd)
        child = os.fork()
        if child == 0:
            show(os.getcwd); os.chdir("../../c"); show(os.getcwd, lambda: open("by-child", "w").close(), os.listdir)
            os.chdir("/"); show(os.getcwd)
            os._exit(0)
        show(lambda: os.waitpid(child, 0)[1], os.getcwd)
    """)


def test_a_forked_child_is_there_though_its_parent_leaves(scratch: str) -> None:
    os.mkdir(f"{scratch}/d")
    os.chdir(f"{scratch}/d")
    ours, childs = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        os.read(ours[0], 1)
        os.write(childs[1], os.fsencode(os.getcwd()) + (b"" if os.path.exists("../d") else b" lost"))
        os._exit(0)
    os.chdir("/")
    os.write(ours[1], b"x")
    assert os.read(childs[0], 100) == os.fsencode(f"{scratch}/d")
    assert os.waitpid(child, 0)[1] == 0
    assert os.getcwd() == "/"
    for fd in (*ours, *childs):
        os.close(fd)


def test_threads_that_come_and_go_never_find_themselves_elsewhere(scratch: str) -> None:
    os.mkdir(f"{scratch}/d")
    os.chdir("/")
    wrong: list[str] = []

    def wander(places: list[str]) -> None:
        for turn in range(300):
            os.chdir(places[turn % len(places)])
            if (at := os.getcwd()) not in ("/", "/usr", scratch, f"{scratch}/d"):
                wrong.append(at)

    threads = [
        threading.Thread(target=wander, args=(places,))
        for places in ([scratch, "/usr"], [f"{scratch}/d", "/"], ["/usr", scratch, f"{scratch}/d"])
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    os.chdir(scratch)
    assert os.listdir() == ["d"]


# System calls that pass every hook: -errno, or what the kernel gives.
PAST_US = r"""
#include <fcntl.h>
#include <sys/syscall.h>
long past_us(int makes, const char *path) {
  long result;
#if defined(__x86_64__)
  register long r10 __asm__("r10") = 0600;
  __asm__ volatile("syscall" : "=a"(result) : "a"(makes ? SYS_mkdirat : SYS_openat), "D"(AT_FDCWD), "S"(path),
                   "d"(makes ? 0700L : (long)(O_CREAT | O_WRONLY)), "r"(r10) : "rcx", "r11", "memory");
#elif defined(__aarch64__)
  register long x8 __asm__("x8") = makes ? SYS_mkdirat : SYS_openat;
  register long x0 __asm__("x0") = AT_FDCWD;
  register const char *x1 __asm__("x1") = path;
  register long x2 __asm__("x2") = makes ? 0700L : (long)(O_CREAT | O_WRONLY);
  register long x3 __asm__("x3") = 0600;
  __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3) : "memory");
  result = x0;
#endif
  return result;
}
"""


def test_a_call_that_we_miss_fails_and_lands_on_no_disk(scratch: str, tmp_path: Path) -> None:
    past_us = ctypes.CDLL(str(compile_text(PAST_US, tmp_path / "past_us.so"))).past_us
    past_us.restype = ctypes.c_long
    os.chdir(tmp_path)
    assert past_us(1, b"made") == 0, "the call itself is one that works"
    os.chdir(scratch)
    for path in (b"x", b"./x", b"../x", b"../../x", b"../../../x"):
        for makes in (0, 1):
            assert past_us(makes, path) in (-errno.ESRCH, -errno.ENOENT, -errno.EACCES), path
    assert sorted(os.listdir(tmp_path)) == ["made", "past_us.c", "past_us.so"]
    assert os.listdir() == []


def test_without_one_in_the_tree_the_kernel_is_where_it_was(scratch: str, tmp_path: Path) -> None:
    os.chdir(tmp_path)
    assert kernels_working_directory() == str(tmp_path)
    os.chdir(scratch)
    assert kernels_working_directory().endswith("/fdinfo")
    os.chdir(tmp_path)
    Path("relative").write_text("on the disk")
    assert kernels_working_directory() == str(tmp_path)
    assert (tmp_path / "relative").exists()


def test_relative_paths_out_of_a_shadow_lead_to_its_real_neighbours(tmp_path: Path) -> None:
    (tmp_path / "home/cache").mkdir(parents=True)
    (tmp_path / "home/beside").write_text("real")
    (tmp_path / "home/cache/hidden").write_text("beneath")
    (tmp_path / "link").symlink_to("home")
    before = os.getcwd()
    with diskless.scratch(at=tmp_path / "link/cache"):
        try:
            os.chdir(tmp_path / "link/cache")
            assert os.getcwd() == str(tmp_path / "home/cache")
            assert os.listdir() == []
            assert Path("../beside").read_text() == "real"
            assert Path("../../link/beside").read_text() == "real"
            assert sorted(os.listdir("..")) == ["beside", "cache"]
            Path("../new").write_text("by the way out")
            assert error_of(lambda: os.link("../beside", "mine")) == errno.EXDEV
            Path("../cache/mine").write_text("in RAM")
            os.chdir("..")
            assert os.getcwd() == str(tmp_path / "home")
            os.chdir("cache")
            assert os.listdir() == ["mine"]
            assert os.path.realpath("../../../../../../../../etc") == "/etc"
        finally:
            os.chdir(before)
    assert (tmp_path / "home/new").read_text() == "by the way out"
    assert os.listdir(tmp_path / "home/cache") == ["hidden"]


def test_closing_the_scratch_leaves_a_removed_directory(tmp_path: Path) -> None:
    beneath = tmp_path / "beneath"
    beneath.mkdir()
    assert (
        run_with_tree(f"""
        import errno, diskless
        def fails(call):
            try: call()
            except OSError as error: return errno.errorcode[error.errno]
            return "worked"
        first = diskless.scratch(at={str(beneath)!r})
        os.mkdir({str(beneath / "d")!r}); os.chdir({str(beneath / "d")!r})
        first.close()
        tries = [os.getcwd, lambda: open("x", "w"), lambda: os.mkdir("x"), lambda: os.mkdir("../x"),
                 lambda: os.stat("../x")]
        assert [fails(each) for each in tries] == ["ENOENT"] * 5, [fails(each) for each in tries]
        second = diskless.scratch()
        os.chdir(second.path)
        open("x", "w").close()
        second.close()
        assert fails(os.getcwd) == "ENOENT"
        os.chdir("/")
        assert os.getcwd() == "/"
    """)
        == ""
    )
    assert os.listdir(beneath) == []


def test_after_the_last_close_nothing_relative_lands_anywhere(tmp_path: Path) -> None:
    script = f"""
        base = {str(tmp_path / "beneath")!r}
        os.mkdir(base)
        import diskless
        with diskless.scratch(at=base):
            os.chdir(base)
        for path in ("x", "../x", "../" * 20 + base[1:] + "/x"):
            for call in (lambda: open(path, "w"), lambda: os.mkdir(path), lambda: os.listdir(".")):
                try: call()
                except OSError: pass
                else: raise AssertionError(path)
        assert os.listdir(base) == []
        os.chdir(base)
        assert os.getcwd() == base
        with diskless.scratch() as path:
            assert os.getcwd() == base
            os.chdir(path)
            os.mkdir("x")
            os.chdir("/")
    """
    source = f"import os, sys\nsys.path[:0] = {sys.path!r}\n"
    done = subprocess.run([sys.executable, "-c", source + textwrap.dedent(script)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_mount_may_be_the_working_directory_too(tree: NativeTree) -> None:
    tree.file("d/a", b"in RAM")
    before = os.getcwd()
    fd = os.open(tree.path("d"), os.O_RDONLY)
    try:
        os.chdir(tree.path("d"))
        assert Path("a").read_bytes() == b"in RAM"
        assert error_of(lambda: open("b", "w")) == errno.EROFS
        os.chdir("/")
        os.fchdir(fd)
        assert os.getcwd() == tree.path("d")
        assert error_of(lambda: os.chdir("a")) == errno.ENOTDIR
        assert error_of(lambda: os.chdir("none")) == errno.ENOENT
    finally:
        os.chdir(before)
        os.close(fd)


def test_going_there_and_back_leaks_nothing(scratch: str) -> None:
    os.mkdir(f"{scratch}/d")
    before, children = len(os.listdir("/proc/self/fd")), _children()
    for _ in range(50):
        os.chdir(f"{scratch}/d")
        os.chdir("..")
        os.chdir("/")
    assert len(os.listdir("/proc/self/fd")) == before
    assert _children() == children


def _children() -> set[str]:
    """Every process and zombie that came from here, also those that no wait() meets."""
    return set(" ".join(file.read_text() for file in Path("/proc/self/task").glob("*/children")).split())
