"""Programs and libraries that keep files, in a scratch: they do what they do on a tmpfs."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sqlite3
import stat
import tarfile
import tempfile
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import diskless
from tests.filesystem.conftest import tmpfs

pytestmark = pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="needs a tmpfs at /dev/shm")


def on_both(program: Callable[[Path], Any]) -> Any:
    """Run it on a tmpfs and in a scratch, see that both give the same, and return that."""
    with tmpfs() as path:
        expected = program(Path(path))
    with diskless.scratch(backing="tree") as path:
        assert program(Path(path)) == expected
    return expected


def described(top: Path) -> dict[str, Any]:
    """Everything below a directory: type and mode, size, seconds of mtime, links, bytes or target."""
    found: dict[str, Any] = {}
    for directory, names, files in os.walk(top):
        for name in names + files:
            path = Path(directory, name)
            status = path.lstat()
            inside: object = None
            if path.is_symlink():
                inside = os.readlink(path)
            elif path.is_file():
                inside = path.read_bytes()
            # Archives do not keep a symlink's time.
            mtime = None if path.is_symlink() else int(status.st_mtime)
            found[str(path.relative_to(top))] = (oct(status.st_mode), mtime, inside, status.st_nlink)
    return found


def furnish(top: Path) -> None:
    """A directory with a bit of everything, all of it with the same times."""
    (top / "below/deeper").mkdir(parents=True)
    (top / "empty").touch(0o600)
    (top / "below/big").write_bytes(bytes(range(256)) * 1000)
    (top / "below/run.sh").write_text("#!/bin/sh\n")
    (top / "below/run.sh").chmod(0o755)
    (top / "below/deeper/namé").write_text("x")
    (top / "link").symlink_to("below/big")
    (top / "dangling").symlink_to("nowhere")
    os.link(top / "empty", top / "second")
    for directory, names, files in os.walk(top, topdown=False):
        for name in names + files:
            os.utime(Path(directory, name), (10**9, 10**9), follow_symlinks=False)


def in_a_child(work: Callable[[], None]) -> int:
    """Run it in a forked child; returns the wait status."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            os._exit(1)
    return os.waitpid(child, 0)[1]


# Archives, copies and temporary files.


@pytest.mark.parametrize("compression", ["", "gz", "bz2", "xz"])
def test_tarfile(compression: str) -> None:
    def program(place: Path) -> dict[str, Any]:
        furnish(place / "in")
        with tarfile.open(place / "archive", f"w:{compression}") as archive:
            archive.add(place / "in", arcname="out")
        with tarfile.open(place / "archive") as archive:
            archive.extractall(place, filter="tar")
        assert described(place / "out") == described(place / "in")
        return described(place / "out")

    assert on_both(program)["second"][3] == 2, "the hard link became a copy"


def test_zipfile() -> None:
    def program(place: Path) -> dict[str, Any]:
        furnish(place / "in")
        with zipfile.ZipFile(place / "archive", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.write(place / "in/below/big", "big")
        with zipfile.ZipFile(place / "archive", "a") as archive:
            archive.writestr("second", "more")
        with zipfile.ZipFile(place / "archive") as archive:
            assert archive.testzip() is None
            archive.extractall(place / "out")
        return {name: what[2] for name, what in described(place / "out").items()}

    assert on_both(program) == {"big": bytes(range(256)) * 1000, "second": b"more"}


def test_shutil_copies_moves_and_measures() -> None:
    def program(place: Path) -> tuple[object, ...]:
        furnish(place / "in")
        shutil.copytree(place / "in", place / "copy", symlinks=True)
        copied = described(place / "copy")
        shutil.move(place / "copy", place / "moved")
        assert described(place / "moved") == copied
        usage = shutil.disk_usage(place)
        assert usage.total >= usage.used + usage.free > 0
        return copied, sorted(os.listdir(place))

    on_both(program)


def test_rmtree_takes_all_but_what_symlinks_lead_to() -> None:
    def program(place: Path) -> list[str]:
        (place / "kept").mkdir()
        (place / "kept/file").touch()
        furnish(place / "gone")
        deep = place / "gone" / "/".join("d" * 200)
        deep.mkdir(parents=True)
        (place / "gone/out").symlink_to(place / "kept")
        os.chmod(place / "gone/below/big", 0)
        shutil.rmtree(place / "gone")
        with pytest.raises(OSError):
            (place / "link").symlink_to(place / "kept")
            shutil.rmtree(place / "link")
        return sorted(str(each.relative_to(place)) for each in place.rglob("*"))

    assert on_both(program) == ["kept", "kept/file", "link"]


def test_temporary_files() -> None:
    def program(place: Path) -> tuple[object, ...]:
        with tempfile.NamedTemporaryFile(dir=place) as named:
            mode, there = stat.S_IMODE(os.stat(named.name).st_mode), os.path.exists(named.name)
        with tempfile.TemporaryFile(dir=place) as unnamed:
            unnamed.write(b"unseen")
            hidden, links = os.listdir(place), os.fstat(unnamed.fileno()).st_nlink
        with tempfile.TemporaryDirectory(dir=place) as directory:
            furnish(Path(directory, "in"))
            directory_mode = stat.S_IMODE(os.stat(directory).st_mode)
        with tempfile.SpooledTemporaryFile(max_size=10, dir=place) as spooled:
            spooled.write(b"x" * 100)
            spooled.seek(0)
            size = len(spooled.read())
        return mode, there, hidden, links, directory_mode, size, os.listdir(place)

    assert on_both(program) == (0o600, True, [], 0, 0o700, 100, [])


# Locks and databases.


@pytest.mark.parametrize("kind", ["FileLock", "SoftFileLock"])
def test_filelock_excludes_threads_and_forked_children(kind: str, place: Path) -> None:
    filelock = pytest.importorskip("filelock")
    make = getattr(filelock, kind)
    path = str(place / "lock")

    def is_taken() -> bool:
        try:
            with make(path, timeout=0, is_singleton=False):
                return False
        except filelock.Timeout:
            return True

    def must_be_taken() -> None:
        assert is_taken()

    seen: list[bool] = []
    with make(path):
        thread = threading.Thread(target=lambda: seen.append(is_taken()))
        thread.start()
        thread.join()
        assert in_a_child(must_be_taken) == 0
    assert seen == [True]
    assert not is_taken()


JOURNALS = ["delete", "truncate", "persist", "memory", "wal"]


@pytest.mark.parametrize("journal", JOURNALS)
def test_sqlite_with_two_connections(journal: str, place: Path) -> None:
    first, second = (sqlite3.connect(place / "db", timeout=0, isolation_level=None) for _ in range(2))
    with contextlib.closing(first), contextlib.closing(second):
        assert first.execute(f"pragma journal_mode={journal}").fetchone() == (journal,)
        first.execute("create table t(x)")
        first.execute("begin immediate")
        first.executemany("insert into t values(?)", [(n,) for n in range(1000)])
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            second.execute("begin immediate")
        assert second.execute("select count(*) from t").fetchone() == (0,)
        first.execute("commit")
        assert second.execute("select count(*), sum(x) from t").fetchone() == (1000, 499500)
        second.execute("delete from t where x % 2")
        second.execute("vacuum")
        assert first.execute("select count(*) from t").fetchone() == (500,)
        assert first.execute("pragma integrity_check").fetchone() == ("ok",)
        if journal == "wal":
            assert {each.name for each in place.iterdir()} == {"db", "db-wal", "db-shm"}


@pytest.mark.parametrize("journal", ["persist", "truncate", "wal"])
def test_what_a_killed_writer_left_of_a_sqlite_transaction_is_undone(journal: str, place: Path) -> None:
    """Its journal has to be there before the fork: a child makes new names in its own copy of the Tree."""
    setting = sqlite3.connect(place / "db", isolation_level=None)
    setting.execute(f"pragma journal_mode={journal}")
    setting.execute("create table t(x)")
    setting.executemany("insert into t values(?)", [("kept",)] * 1000)
    # SQLite's connections do not survive a fork; in WAL mode the last one to close would take the log away.
    if journal != "wal":
        setting.close()

    def write_and_die() -> None:
        writer = sqlite3.connect(place / "db", isolation_level=None)
        writer.execute(f"pragma journal_mode={journal}")
        writer.execute("pragma cache_size=5")  # so that pages reach the file before the commit
        writer.execute("begin immediate")
        writer.execute("update t set x = 'lost' || hex(zeroblob(500))")
        os.kill(os.getpid(), signal.SIGKILL)

    before = os.path.getsize(place / "db")
    assert in_a_child(write_and_die) == signal.SIGKILL
    if journal != "wal":
        assert os.path.getsize(place / "db") > before, "the writer died before it wrote anything"
    with contextlib.closing(sqlite3.connect(place / "db")) as reader:
        assert reader.execute("select x, count(*) from t group by x").fetchall() == [("kept", 1000)]
        assert reader.execute("pragma integrity_check").fetchone() == ("ok",)
    setting.close()


def test_lmdb(place: Path) -> None:
    lmdb = pytest.importorskip("lmdb")
    for writemap in (False, True):
        path = str(place / f"env-{writemap}")
        with lmdb.open(path, map_size=1 << 26, max_dbs=2, writemap=writemap) as environment:
            table = environment.open_db(b"table")
            with environment.begin(table, write=True) as transaction:
                for n in range(2000):
                    transaction.put(b"%06d" % n, b"value" * (n % 50))
            with environment.begin(table) as old, environment.begin(table, write=True) as new:
                new.delete(b"000049")
                assert old.get(b"000049") == b"value" * 49
            environment.copy(_made(place / f"copy-{writemap}"), compact=True)
        for each in (path, str(place / f"copy-{writemap}")):
            with lmdb.open(each, max_dbs=2, readonly=True) as environment:
                table = environment.open_db(b"table", create=False)
                with environment.begin(table) as transaction:
                    assert transaction.stat(table)["entries"] == 1999
                    assert transaction.get(b"001999") == b"value" * (1999 % 50)


def _made(path: Path) -> str:
    path.mkdir()
    return str(path)


# Arrays.


def test_numpy_memmap_that_is_written(place: Path) -> None:
    numpy = pytest.importorskip("numpy")
    path = place / "array.npy"
    numpy.save(path, numpy.arange(100_000, dtype="f4").reshape(100, 1000))
    written = numpy.load(path, mmap_mode="r+")
    written[3] = 7
    written.flush()
    seen = numpy.load(path, mmap_mode="r")
    assert (seen[3] == 7).all() and seen[4, 0] == 4000
    written[5] = -1
    assert (seen[5] == -1).all(), "a shared mapping is not shared"
    fresh = numpy.memmap(place / "raw", dtype="u8", mode="w+", shape=(1 << 16,))
    fresh[-1] = 5
    del fresh, written
    assert numpy.fromfile(place / "raw", dtype="u8").sum() == 5
    assert numpy.load(path)[3].sum() == 7000


def test_h5py(place: Path) -> None:
    h5py = pytest.importorskip("h5py")
    numpy = pytest.importorskip("numpy")
    with h5py.File(place / "f.h5", "w") as file:
        data = file.create_dataset("x", (10, 10), dtype="f4", maxshape=(None, 10), chunks=(5, 5), compression="gzip")
        data[:] = numpy.arange(100).reshape(10, 10)
        file.attrs["name"] = "value"
        with pytest.raises(OSError):
            h5py.File(place / "f.h5", "w")
    with h5py.File(place / "f.h5", "r+") as file:
        file["x"].resize((20, 10))
        file["x"][10:] = 1
    with h5py.File(place / "f.h5", "r") as file, h5py.File(place / "f.h5", "r") as again:
        assert file["x"][:].sum() == 4950 + 100
        assert again.attrs["name"] == "value"


# Version control.


def test_dulwich_commits_and_clones() -> None:
    porcelain = pytest.importorskip("dulwich.porcelain")
    who = b"Somebody <somebody@example.org>"

    def program(place: Path) -> tuple[object, ...]:
        source, target = place / "source", place / "target"
        furnish(source)
        repository = porcelain.init(str(source))
        porcelain.add(str(source), paths=[str(source / "below"), str(source / "link"), str(source / "empty")])
        message = {"author": who, "committer": who, "author_timestamp": 10**9, "commit_timestamp": 10**9}
        zones = {"author_timezone": 0, "commit_timezone": 0}
        first = porcelain.commit(repository, message=b"first", **message, **zones)
        (source / "empty").write_text("no longer")
        unstaged = porcelain.status(str(source)).unstaged
        porcelain.add(str(source), paths=[str(source / "empty")])
        second = porcelain.commit(repository, message=b"second", **message, **zones)
        porcelain.clone(str(source), str(target), checkout=True, errstream=open(os.devnull, "wb")).close()
        clean = porcelain.status(str(target))
        files = {name: what[2] for name, what in described(target).items() if not name.startswith(".git")}
        repository.close()
        return first, second, unstaged, clean.staged, clean.unstaged, files

    first, second, unstaged, staged, left, files = on_both(program)
    assert first != second and unstaged == [b"empty"]
    assert not any(staged.values()) and left == []
    assert files["empty"] == b"no longer" and files["link"] == "below/big"
