"""Descriptors of RAM files and of directories: what programs do with them, and that no wrong bytes are ever given."""

from __future__ import annotations

import array
import errno
import fcntl
import mmap
import os
import resource
import socket

import pytest

from tests.native.tree import NativeTree, error_of, run_with_tree


def test_each_open_has_an_offset_of_its_own(tree: NativeTree) -> None:
    tree.file("a", b"0123456789")
    first, second = os.open(tree.path("a"), os.O_RDONLY), os.open(tree.path("a"), os.O_RDONLY)
    assert os.read(first, 4) == b"0123"
    assert os.read(second, 2) == b"01"
    assert os.read(os.dup(first), 2) == b"45"


def test_closing_every_number_spares_our_files(tree: NativeTree) -> None:
    """closerange.py of the prototypes: a daemon closes all, opens others, and then reads the model."""
    script = """
        tree.file("model", b"WEIGHTS")
        os.closerange(3, 4096)
        for fd in range(3, 4096):
            try: os.close(fd)
            except OSError: pass
        fds = [os.open("/etc/passwd", os.O_RDONLY)]
        while fds[-1] < 400: fds.append(os.dup(fds[-1]))
        assert open(tree.path("model")).read() == "WEIGHTS"
        assert os.path.getsize(tree.path("model")) == 7
    """
    assert run_with_tree(script) == ""


def test_a_number_that_was_taken_over_gives_no_other_files_bytes(tree: NativeTree) -> None:
    """Where a call past us has closed a number of ours, the file is gone: EIO, whatever has the number now."""
    script = """
        import errno, mmap, shutil
        fd = tree.file("model", b"WEIGHTS")
        tree.call("release", fd)
        other = os.open("/etc/passwd", os.O_RDONLY)
        if other != fd: os.dup2(other, fd)
        for read in (lambda: open(tree.path("model")), lambda: os.stat(tree.path("model")),
                     lambda: os.open("model", os.O_RDONLY, dir_fd=os.open(tree.root, os.O_RDONLY)),
                     lambda: shutil.copy(tree.path("model"), "/dev/null"),
                     lambda: os.getxattr(tree.path("model"), "user.x")):
            try: read()
            except OSError as error: assert error.errno == errno.EIO, error
            else: raise AssertionError("another file's bytes")
        os.close(fd)
        try: open(tree.path("model"))
        except OSError as error: assert error.errno == errno.EIO, error
        tree.fds.clear()
    """
    assert run_with_tree(script) == ""


@pytest.mark.parametrize("flags", [os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_TRUNC, os.O_RDONLY | os.O_TRUNC])
def test_a_sealed_file_is_never_opened_for_writing(tree: NativeTree, flags: int) -> None:
    """sealed_as_root.py of the prototypes: root got a descriptor and failed only at the write."""
    tree.file("a", b"x" * 100)
    assert error_of(lambda: os.open(tree.path("a"), flags)) == errno.EROFS
    fd = os.open(tree.path("a"), os.O_RDONLY)
    assert error_of(lambda: os.open(f"/proc/self/fd/{fd}", flags)) == errno.EROFS
    assert error_of(lambda: os.open(f"/dev/fd/{fd}", flags)) == errno.EROFS
    os.close(fd)


def test_a_child_past_every_fork_handler_opens_the_right_files(tree: NativeTree) -> None:
    """By the number of the system call alone. Such a child has /proc/self/fd open as its parent had it."""
    if os.uname().machine != "x86_64":
        pytest.skip("fork has a number of its own on x86_64 only")
    script = """
        import ctypes, time
        call = ctypes.CDLL(None).syscall
        fork = 57
        numbers = {name: tree.file(name, name.encode()) for name in ("first", "second")}
        def read(): return [open(tree.path(name)).read() for name in numbers]
        assert read() == list(numbers)
        heard, say = os.pipe()
        parent = call(fork)
        if parent == 0:
            parent = os.getpid()
            if call(fork) == 0:
                for _ in range(2):  # while the parent is there, and when it has ended
                    os.write(say, "".join(read()).encode() + b" ")
                    while os.getppid() == parent: time.sleep(0.01)
                os._exit(0)
            os.read(heard, 12)
            tree.call("release", numbers["first"])  # and so the number stands for another file, in this process
            os.dup2(numbers["second"], numbers["first"])
            time.sleep(0.2)
            os._exit(0)
        assert os.waitpid(parent, 0)[1] == 0
        assert os.read(heard, 100) == b"firstsecond "
    """
    assert run_with_tree(script) == ""


def test_a_directory_descriptor_survives_dup_and_fork(tree: NativeTree) -> None:
    tree.file("d/a", b"in the directory")
    fd = os.open(tree.path("d"), os.O_RDONLY | os.O_DIRECTORY)
    for descriptor in (fd, os.dup(fd), fcntl.fcntl(fd, fcntl.F_DUPFD, 50)):
        assert os.listdir(descriptor) == ["a"]
        assert os.stat("a", dir_fd=descriptor).st_size == 16
        assert os.readlink(f"/proc/self/fd/{descriptor}") == tree.path("d")
    child = os.fork()
    if child == 0:
        os._exit(0 if os.listdir(fd) == ["a"] and os.open("a", os.O_RDONLY, dir_fd=fd) > 0 else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_descriptors_pass_through_sockets(tree: NativeTree) -> None:
    tree.file("d/a", b"passed")
    ours, theirs = socket.socketpair()
    sent = [os.open(tree.path("d"), os.O_RDONLY), os.open(tree.path("d/a"), os.O_RDONLY)]
    ours.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", sent))])
    received = array.array("i")
    received.frombytes(theirs.recvmsg(1, 1024)[1][0][2])
    assert os.listdir(received[0]) == ["a"]
    assert os.read(received[1], 10) == b"passed"
    assert os.readlink(f"/proc/self/fd/{received[1]}") == tree.path("d/a")


def test_a_directory_descriptor_gives_no_bytes(tree: NativeTree) -> None:
    tree.file("d/a", b"")
    fd = os.open(tree.path("d"), os.O_RDONLY)
    for call in (
        lambda: os.read(fd, 1),
        lambda: os.pread(fd, 1, 0),
        lambda: os.write(fd, b"x"),
        lambda: os.ftruncate(fd, 0),
        lambda: mmap.mmap(fd, 4096, prot=mmap.PROT_READ),
    ):
        assert error_of(call) is not None
    os.fsync(fd)
    fcntl.flock(fd, fcntl.LOCK_EX)


def test_a_removed_directory_is_empty_and_nothing_is_found_in_it(tree: NativeTree) -> None:
    tree.file("d/a", b"")
    fd = os.open(tree.path("d"), os.O_RDONLY)
    tree.remove("d/a")
    tree.remove("d")
    assert os.fstat(fd).st_nlink == 0
    assert os.listdir(fd) == []
    for call in (
        lambda: os.open("a", os.O_RDONLY, dir_fd=fd),
        lambda: os.stat("..", dir_fd=fd),
        lambda: os.mkdir("a", dir_fd=fd),
    ):
        assert error_of(call) == errno.ENOENT
    assert "/memfd:" not in os.readlink(f"/proc/self/fd/{fd}")


def test_open_files_and_mappings_outlive_their_names(tree: NativeTree) -> None:
    own = tree.file("a", b"still here")
    file, fd = open(tree.path("a"), "rb"), os.open(tree.path("a"), os.O_RDONLY)
    mapped = mmap.mmap(fd, 0, prot=mmap.PROT_READ)
    tree.remove("a")
    tree.call("release", own)
    tree.fds.remove(own)
    assert os.readlink(f"/proc/self/fd/{fd}").endswith(" (deleted)")
    assert "/memfd:" not in os.readlink(f"/proc/self/fd/{fd}")
    tree.deactivate()
    assert (file.read(), mapped[:]) == (b"still here", b"still here")
    tree.activate()


def test_a_directory_stream_outlives_deactivation(tree: NativeTree) -> None:
    names = [f"f{i}" for i in range(100)]
    for name in names:
        tree.file(name, b"")
    entries = os.scandir(tree.root)
    first = next(entries).name
    tree.deactivate()
    assert tree.call("patched_slots") > 0, "functions on directory streams stay until the last of ours is closed"
    assert sorted([first, *(entry.name for entry in entries)]) == sorted(names)
    entries.close()
    assert tree.call("patched_slots") == 0
    tree.activate()


def test_a_private_mapping_can_be_written_and_changes_nothing(tree: NativeTree) -> None:
    tree.file("a", b"x" * 8192)
    with open(tree.path("a"), "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) as mapped:
        mapped[:4] = b"mine"
        assert mapped[:5] == b"minex"
        file.seek(0)
        assert file.read(5) == b"xxxxx"


def test_a_limit_on_file_sizes_does_not_kill_whoever_opens_a_directory() -> None:
    script = """
        import errno, resource
        tree.file("d/a", b"x")
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
        try: os.listdir(tree.path("d"))
        except OSError as error: assert error.errno == errno.EFBIG
        assert open(tree.path("d/a")).read() == "x"
    """
    assert run_with_tree(script) == ""
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


def test_no_descriptor_leaks(tree: NativeTree) -> None:
    tree.file("d/e/a", b"x")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(50):
        list(os.walk(tree.root))
        list(os.fwalk(tree.root))
        os.listdir(tree.path("d"))
        open(tree.path("d/e/a")).close()
        error_of(lambda: open(tree.path("d")))
        error_of(lambda: os.listxattr(tree.path("d")))
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_descriptor_limit_is_an_error_and_not_a_crash() -> None:
    script = """
        import errno, resource
        tree.file("d/a", b"x")
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        taken = []
        try:
            while True: taken.append(os.open("/dev/null", os.O_RDONLY))
        except OSError as error: assert error.errno == errno.EMFILE
        for call in (lambda: open(tree.path("d/a")), lambda: os.listdir(tree.path("d")),
                     lambda: os.open(tree.root, os.O_RDONLY)):
            try: call()
            except OSError as error: assert error.errno == errno.EMFILE, error
            else: raise AssertionError("opened past the limit")
        assert os.stat(tree.path("d/a")).st_size == 1
        for fd in taken: os.close(fd)
        assert os.listdir(tree.path("d")) == ["a"]
    """
    assert run_with_tree(script) == ""
