"""Open files of ram://: modes, transactions, and what Python's own files have."""

from __future__ import annotations

import gc
import io
import mmap
import os
import pickle
import zipfile

import pytest


def test_each_mode_is_the_one_of_open(fs, place):
    path = f"{place}/a"
    with fs.open(path, "wb") as file:
        assert file.write(b"12") == 2 and file.writable() and not file.readable()
        with pytest.raises(io.UnsupportedOperation):
            file.read()
    with fs.open(path, "ab") as file:
        assert file.tell() == 2
        file.write(b"34")
    with fs.open(path, "rb") as file:
        assert file.read() == b"1234" and not file.writable() and file.size == 4
        with pytest.raises(io.UnsupportedOperation):
            file.write(b"")
    with fs.open(path, "r+b") as file:
        file.seek(1)
        file.write(b"xx")
        file.seek(0)
        assert file.read() == b"1xx4"
    with fs.open(path, "a+b") as file:
        file.write(b"5")
        file.seek(0)
        assert file.read() == b"1xx45"
    with fs.open(path, "w+b") as file:
        file.write(b"new")
        file.seek(0)
        assert file.read() == b"new"
    with pytest.raises(FileExistsError):
        fs.open(path, "xb")
    with fs.open(f"{place}/b", "x+b") as file:
        file.write(b"first")
    with fs.open(f"{place}/b", "rb+") as file:
        assert file.read() == b"first"


@pytest.mark.parametrize("mode", ["", "b", "rwb", "wab", "rrb", "qb", "+b", "r++b", "rbb", "U", "r+w"])
def test_a_mode_that_makes_no_sense_is_refused(fs, place, mode):
    fs.touch(f"{place}/a")
    with pytest.raises(ValueError, match="mode"):
        fs.open(f"{place}/a", mode)
    with pytest.raises(ValueError, match="mode"):
        fs.open(f"{place}/none", mode)
    assert not fs.exists(f"{place}/none")


def test_text_is_encoded(fs, place):
    with fs.open(f"{place}/a", "w", encoding="latin-1", newline="") as file:
        file.write("é\r\n")
    assert fs.cat(f"{place}/a") == b"\xe9\r\n"
    assert fs.read_text(f"{place}/a", encoding="latin-1", newline="") == "é\r\n"
    fs.write_text(f"{place}/b", "line\n")
    with fs.open(f"{place}/b") as binary, fs.open(f"{place}/b", "r") as text:
        assert binary.read() == b"line\n" and list(text) == ["line\n"]


def test_compression_is_fsspecs(fs, place):
    with fs.open(f"{place}/a.gz", "wb", compression="infer") as file:
        file.write(b"1" * 1000)
    assert fs.size(f"{place}/a.gz") < 100
    with fs.open(f"{place}/a.gz", "rb", compression="gzip") as file:
        assert file.read() == b"1" * 1000


def test_an_open_file_is_one_of_pythons(fs, place):
    with fs.open(f"{place}/a.zip", "wb") as file, zipfile.ZipFile(file, "w") as archive:
        archive.writestr("inside", "text")
    with fs.open(f"{place}/a.zip", "rb") as file:
        assert isinstance(file, io.BufferedReader) and file.seekable()
        assert zipfile.ZipFile(file).read("inside") == b"text"
        assert os.fstat(file.fileno()).st_size == file.size
        assert not os.get_inheritable(file.fileno())
        with mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
            assert mapped[:2] == b"PK"


def test_lines_peeks_and_truncation(fs, place):
    with fs.open(f"{place}/a", "w+b") as file:
        file.writelines([b"one\n", b"two\n"])
        file.flush()
        assert fs.size(f"{place}/a") == 8
        file.seek(0)
        assert file.peek(1)[:3] == b"one" and file.readline() == b"one\n"
        assert file.truncate(4) == 4
    assert fs.cat(f"{place}/a") == b"one\n"


@pytest.mark.parametrize("data", [b"", b"x", bytearray(b"ab"), memoryview(b"abcd")[1:3], b"z" * (5 << 20)])
def test_any_buffer_is_written(fs, place, data):
    fs.pipe(f"{place}/a", data)
    assert fs.cat(f"{place}/a") == bytes(data)


def test_a_closed_file_is_an_error(fs, place):
    file = fs.open(f"{place}/a", "wb")
    raw = file.raw
    file.close()
    file.close()
    for attempt in (lambda: file.write(b"x"), file.tell, file.fileno, lambda: raw.write(b"x"), lambda: file.size):
        with pytest.raises(ValueError, match="closed"):
            attempt()


def test_a_file_outlives_its_name(fs, place):
    fs.pipe(f"{place}/a", b"still here")
    with fs.open(f"{place}/a", "rb") as file:
        fs.rm(f"{place}/a")
        assert file.read() == b"still here"


@pytest.mark.parametrize("mode", ["rb", "wb", "ab", "r+b"])
def test_a_directory_is_not_opened(fs, place, mode):
    fs.mkdir(f"{place}/d")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with pytest.raises(IsADirectoryError):
            fs.open(f"{place}/d", mode)
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("mode", ["rb", "wb", "r+b"])
def test_an_open_file_is_not_sent_elsewhere(fs, place, mode):
    fs.touch(f"{place}/a")
    with fs.open(f"{place}/a", mode) as file, pytest.raises(TypeError, match="in the memory of this process"):
        pickle.dumps(file)


def test_a_transaction_shows_all_at_its_end(fs, place):
    fs.pipe(f"{place}/old", b"before")
    fs.pipe(f"{place}/log", b"1")
    with fs.transaction:
        with fs.open(f"{place}/d/new", "wb") as file:
            file.write(b"new")
        with fs.open(f"{place}/old", "w+b") as file:
            file.write(b"after")
        with fs.open(f"{place}/log", "ab") as file:
            file.write(b"2")
        with fs.open(f"{place}/text", "w") as file:
            file.write("text")
        fs.pipe(f"{place}/piped", b"piped")
        assert fs.find(place) == [f"{place}/log", f"{place}/old"]
        assert fs.cat(f"{place}/old") == b"before" and fs.cat(f"{place}/log") == b"1"
    found = {name.removeprefix(f"{place}/"): data for name, data in fs.cat(place, recursive=True).items()}
    assert found == {"d/new": b"new", "old": b"after", "log": b"12", "text": b"text", "piped": b"piped"}
    with fs.open(f"{place}/plain", "wb"):
        pass
    assert fs.exists(f"{place}/plain")


def test_a_transaction_that_fails_leaves_nothing(fs, place):
    fs.pipe(f"{place}/old", b"before")
    with pytest.raises(ZeroDivisionError), fs.transaction:
        fs.pipe({f"{place}/old": b"after", f"{place}/new": b"new"})
        raise ZeroDivisionError
    assert fs.find(place) == [f"{place}/old"] and fs.cat(f"{place}/old") == b"before"


def test_a_file_that_was_to_be_new_is_never_replaced(fs, place):
    fs.pipe(f"{place}/there", b"1")
    with pytest.raises(FileExistsError), fs.transaction:
        fs.open(f"{place}/there", "xb")
    with pytest.raises(FileExistsError), fs.transaction:
        with fs.open(f"{place}/new", "xb") as file:
            file.write(b"mine")
        with fs.open(f"{place}/new", "wb", autocommit=True) as file:
            file.write(b"theirs")
    assert fs.cat(f"{place}/new") == b"theirs" and len(fs.ls(place)) == 2


def test_a_file_that_cannot_get_its_name_leaves_nothing(fs, place):
    with pytest.raises(IsADirectoryError), fs.transaction:
        fs.pipe(f"{place}/d", b"a file")
        fs.mkdir(f"{place}/d")
    assert [each["type"] for each in fs.ls(place)] == ["directory"]


def test_files_are_committed_and_discarded_one_by_one(fs, place):
    kept, dropped = (fs.open(f"{place}/{name}", "wb", autocommit=False) for name in ("kept", "dropped"))
    kept.write(b"1")
    dropped.write(b"2")
    kept.commit()
    dropped.discard()
    fs.transaction.files.clear()
    assert kept.closed and dropped.closed and fs.find(place) == [f"{place}/kept"]
    with fs.open(f"{place}/kept", "ab") as file, pytest.raises(RuntimeError, match="transaction"):
        file.commit()


def test_nothing_is_left_open(fs, place):
    before = set(os.listdir("/proc/self/fd"))
    for number in range(5):
        with fs.transaction:
            fs.pipe(f"{place}/a", b"%d" % number)
        with fs.open(f"{place}/a", "rb") as file:
            file.read()
        fs.rm(f"{place}/a")
    fs.open(f"{place}/forgotten", "wb", autocommit=False).close()
    fs.transaction.files.clear()
    gc.collect()
    assert set(os.listdir("/proc/self/fd")) == before
