"""diskless.open for writing: uploaded when it is closed, or not at all."""

from __future__ import annotations

import gc
import io
import os
import pickle
import subprocess
import sys
import textwrap

import pytest

import diskless
from tests.programs import SOURCE

DATA = os.urandom(20 << 20)


@pytest.fixture
def url(bucket):
    return f"s3://{bucket.name}"


@pytest.fixture(autouse=True)
def environment(s3_env):
    return s3_env


@pytest.mark.parametrize("kind", ["tree", "directory"])
def test_it_is_there_when_it_is_closed_and_not_before(bucket, url, kind, tmp_path):
    backing = "tree" if kind == "tree" else f"directory:{tmp_path}"
    with diskless.open(f"{url}/new.bin", "wb", backing=backing) as file:
        assert file.write(DATA) == len(DATA)
        file.seek(5)
        file.write(b"patched")
        file.seek(0)
        assert file.read(12) == DATA[:5] + b"patched"
        file.flush()
        assert bucket.keys() == []
    assert file.closed
    assert bucket.get("new.bin") == DATA[:5] + b"patched" + DATA[12:]
    with diskless.open(f"{url}/new.bin", backing=backing, verify=True) as again:
        assert again.size == len(DATA)


def test_text(bucket, url):
    with diskless.open(f"{url}/poem.txt", "w", encoding="utf-8", newline="\r\n") as file:
        file.write("über\n")
    assert bucket.get("poem.txt") == "über\r\n".encode()


def test_an_empty_file(bucket, url):
    diskless.open(f"{url}/empty", "wb").close()
    assert bucket.get("empty") == b""


@pytest.mark.parametrize("mode", ["wb", "w", "xb"])
def test_an_exception_uploads_nothing(bucket, url, mode):
    with pytest.raises(RuntimeError, match="midst"), diskless.open(f"{url}/new", mode) as file:
        file.write(b"x" if "b" in mode else "x")
        raise RuntimeError("in the midst")
    assert file.closed and bucket.keys() == []


@pytest.mark.parametrize("mode", ["wb", "w"])
def test_a_file_that_is_forgotten_is_not_uploaded(bucket, url, mode, caplog):
    file = diskless.open(f"{url}/new", mode)
    file.write(b"x" if "b" in mode else "x")
    with pytest.warns(ResourceWarning, match="never closed"):
        del file
        gc.collect()
    assert "new was never closed, and is not uploaded" in caplog.text
    assert bucket.keys() == []


def test_a_writer_that_dies_uploads_nothing(bucket, url):
    code = """
    import os, signal, sys
    import diskless
    with diskless.open(sys.argv[1], "wb") as file:
        file.write(b"x" * 1_000_000)
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    """
    environment = os.environ | {"PYTHONPATH": str(SOURCE)}
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code), f"{url}/new"], env=environment, check=False)
    assert done.returncode == -9 and bucket.keys() == []


def test_the_last_of_two_writers_counts(bucket, url):
    first, second = diskless.open(f"{url}/new", "wb"), diskless.open(f"{url}/new", "wb")
    second.write(b"second")
    first.write(b"first")
    second.close()
    first.close()
    assert bucket.get("new") == b"first"


def test_exclusively(bucket, url):
    with diskless.open(f"{url}/new", "xb") as file:
        file.write(b"one")
    with pytest.raises(diskless.AlreadyExists, match="exists"):
        diskless.open(f"{url}/new", "xb")
    racing = diskless.open(f"{url}/other", "xb")
    racing.write(b"two")
    bucket.put("other", b"sooner")
    with pytest.raises(diskless.AlreadyExists):
        racing.close()
    racing.discard()
    assert bucket.get("other") == b"sooner"


def test_an_upload_that_fails_keeps_the_bytes_for_another_try(bucket, url, short_upload_pauses, monkeypatch):
    file = diskless.open(f"{url}/new", "wb")
    file.write(DATA)
    with monkeypatch.context() as broken:
        broken.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        with pytest.raises(diskless.SourceUnavailable):
            file.close()
    assert not file.closed
    file.close()
    assert bucket.get("new") == DATA


def test_closing_twice_and_use_after_close(bucket, url):
    file = diskless.open(f"{url}/new", "wb")
    file.write(b"once")
    file.close()
    bucket.put("new", b"theirs")
    file.close()
    file.discard()
    assert bucket.get("new") == b"theirs"
    with pytest.raises(ValueError, match="closed"):
        file.write(b"x")


def test_a_forked_child_uploads_nothing(bucket, url):
    file = diskless.open(f"{url}/new", "wb")
    file.write(b"parent's")
    pid = os.fork()
    if pid == 0:
        file.close()
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0 and bucket.keys() == []
    file.close()
    assert bucket.get("new") == b"parent's"


@pytest.mark.parametrize("in_block", [False, True])
def test_a_forked_child_writes_no_text_of_its_parents(bucket, url, in_block):
    file = diskless.open(f"{url}/new", "w")
    file.write("one\n")
    pid = os.fork()
    if pid == 0:
        if in_block:
            with file:
                pass
        file.close()
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0 and bucket.keys() == []
    file.write("two\n")
    file.close()
    assert bucket.get("new") == b"one\ntwo\n"


def test_what_wraps_it_and_closes_it_for_an_exception_uploads_nothing(bucket, url):
    with (
        pytest.raises(ZeroDivisionError),
        diskless.open(f"{url}/new", "wb") as file,
        io.TextIOWrapper(file) as text,
    ):
        text.write("half")
        raise ZeroDivisionError
    assert file.closed and bucket.keys() == []


def test_what_wraps_it_and_closes_it_uploads(bucket, url):
    with diskless.open(f"{url}/new", "wb") as file, io.TextIOWrapper(file) as text:
        text.write("all")
    assert bucket.get("new") == b"all"
    with diskless.open(f"{url}/other", "wb") as file:
        try:
            raise ZeroDivisionError
        except ZeroDivisionError:
            file.write(b"handled")
            file.close()
            assert not file.closed and bucket.keys() == ["new"]
    assert file.closed and bucket.get("other") == b"handled"
    with diskless.open(f"{url}/third", "wb") as file:
        file.write(b"closed")
        file.close()
        assert bucket.get("third") == b"closed"


def test_text_may_be_closed_in_its_block(bucket, url):
    with diskless.open(f"{url}/new", "w") as file:
        file.write("text")
        file.close()
        assert bucket.get("new") == b"text"


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("wrong", [{"encoding": "nope"}, {"newline": "x"}])
def test_text_of_no_kind_leaves_nothing(bucket, url, wrong):
    with pytest.raises((LookupError, ValueError)):
        diskless.open(f"{url}/new", "w", **wrong)
    gc.collect()
    assert bucket.keys() == []


def test_it_is_not_detached_from_what_uploads_it(bucket, url):
    with (
        diskless.open(f"{url}/new", "wb") as file,
        pytest.raises(io.UnsupportedOperation, match="cannot be detached"),
    ):
        file.detach()
    text = diskless.open(f"{url}/text", "w")
    text.write("a")
    text.detach().close()
    del text
    gc.collect()
    assert bucket.get("text") == b"a"


def test_libraries_write_to_it(bucket, url):
    import numpy as np
    import torch

    with diskless.open(f"{url}/state.pt", "wb") as file:
        torch.save({"a": torch.arange(10)}, file)
    with diskless.open(f"{url}/a.npz", "wb") as file:
        np.savez(file, a=np.arange(5))
    with diskless.open(f"{url}/state.pt") as file:
        assert torch.load(file)["a"].tolist() == list(range(10))
    with diskless.open(f"{url}/a.npz") as file:
        assert np.load(file)["a"].tolist() == list(range(5))


def test_bad_input(bucket, url):
    for wrong, match in (
        ({"load": "lazy"}, "load="),
        ({"once": True}, "once="),
        ({"verify": True}, "verify="),
        ({"budget": "1GiB"}, "budget="),
        ({"fs": object()}, "fs="),
    ):
        with pytest.raises(diskless.InvalidOption, match=f"{match} is for reading"):
            diskless.open(f"{url}/new", "wb", **wrong)
    for where in (url, f"{url}/", f"{url}/prefix/"):
        with pytest.raises(diskless.InvalidURL, match="whole key"):
            diskless.open(where, "wb")
    with pytest.raises(diskless.InvalidURL, match="only objects in S3"):
        diskless.open("https://example.com/x", "wb")
    with pytest.raises(TypeError, match="written by this process"):
        pickle.dumps(diskless.open(f"{url}/new", "wb"))


def test_no_room_is_an_error_and_uploads_nothing(bucket, url):
    code = """
    import resource, sys
    import diskless
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
    try:
        with diskless.open(sys.argv[1], "wb") as file:
            file.write(b"x" * (4 << 20))
    except OSError as error:
        print(error.strerror, file.closed)
    """
    environment = os.environ | {"PYTHONPATH": str(SOURCE)}
    command = [sys.executable, "-c", textwrap.dedent(code), f"{url}/new"]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    assert done.stdout == "File too large True\n" and bucket.keys() == []
