"""Mounts: what a user gets for a URL, on both Backings."""

from __future__ import annotations

import gc
import logging
import mmap
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import diskless
from diskless import native_api as native
from tests.loader.fault_server import FaultServer

FILES = {
    "config.json": b"{}",
    "weights/a.bin": os.urandom(3 << 20),
    "weights/b.bin": b"b",
    "empty": b"",
    "notes.txt": b"n",
}


@pytest.fixture
def model(s3_env, bucket):
    """A bucket with a small model below `bert/` and a file that only looks like a part of it."""
    for name, data in FILES.items():
        bucket.put(f"bert/{name}", data)
    bucket.put("bertha/config.json", b"another")
    return bucket


def _contents(path: str) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in Path(path).rglob("*") if file.is_file()}


def test_a_prefix_is_a_directory(model, backing):
    with diskless.mount(f"{model.url}/bert", backing=backing) as path:
        assert isinstance(path, str)
        assert _contents(path) == FILES
        assert sorted(os.listdir(path)) == ["config.json", "empty", "notes.txt", "weights"]
    assert not os.path.exists(path)


def test_the_tree_shows_scheme_bucket_and_key(model):
    with diskless.mount(f"{model.url}/bert") as path:
        assert path == f"/diskless/s3/{model.name}/bert"


def test_one_object_is_a_file(model, backing):
    with diskless.mount(f"{model.url}/bert/weights/a.bin", backing=backing) as path:
        assert path.endswith("/bert/weights/a.bin")
        assert Path(path).read_bytes() == FILES["weights/a.bin"]
        assert os.listdir(os.path.dirname(path)) == ["a.bin"]


def test_a_mount_is_an_object_too(model, backing):
    mount = diskless.mount(f"{model.url}/bert", backing=backing)
    mount.wait()
    assert os.fspath(mount) == mount.path and os.path.isdir(mount)
    assert mount in diskless.mounts()
    assert (mount.stats.files, mount.stats.size_bytes) == (len(FILES), sum(map(len, FILES.values())))
    assert mount.stats.backing == ("tree" if backing == "tree" else backing)
    assert model.url in repr(mount)
    mount.close()
    mount.close()
    assert mount.closed and mount not in diskless.mounts() and not os.path.exists(mount.path)


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        ({"allow_patterns": "*.bin"}, {"weights/a.bin", "weights/b.bin"}),
        ({"allow_patterns": ["weights/"]}, {"weights/a.bin", "weights/b.bin"}),
        ({"ignore_patterns": ["*.bin", "empty"]}, {"config.json", "notes.txt"}),
        ({"allow_patterns": ["*.bin"], "ignore_patterns": "weights/a*"}, {"weights/b.bin"}),
    ],
)
def test_patterns_choose_as_huggingface_hub_does(model, backing, patterns, expected):
    with diskless.mount(f"{model.url}/bert", backing=backing, **patterns) as path:
        assert set(_contents(path)) == expected


def test_patterns_that_leave_nothing_say_what_there_was(model, backing):
    with pytest.raises(diskless.NotFound, match=r"none of the 5 objects .*config\.json.*\*\.onnx"):
        diskless.mount(f"{model.url}/bert", allow_patterns="*.onnx", backing=backing)


@pytest.mark.parametrize("patterns", [{"allow_patterns": 3}, {"ignore_patterns": [1]}, {"allow_patterns": b"*"}])
def test_patterns_that_are_no_strings_are_refused(model, patterns):
    with pytest.raises(diskless.InvalidOption, match="patterns"):
        diskless.mount(f"{model.url}/bert", **patterns)


def test_the_same_bytes_are_held_once(model, backing):
    with (
        diskless.mount(f"{model.url}/bert", backing=backing) as first,
        diskless.mount(f"{model.url}/bert", backing=backing) as second,
        diskless.mount(f"{model.url}/bert/weights", backing=backing) as inner,
        diskless.mount(model.url, backing=backing) as outer,
    ):
        paths = [f"{first}/weights/a.bin", f"{second}/weights/a.bin", f"{inner}/a.bin", f"{outer}/bert/weights/a.bin"]
        assert len({(os.stat(path).st_dev, os.stat(path).st_ino) for path in paths}) == 1
        assert first == second and inner == f"{first}/weights" and first == f"{outer}/bert"
    assert not os.path.exists(first)


def test_closing_one_of_two_mounts_leaves_the_other(model, backing):
    first = diskless.mount(f"{model.url}/bert", backing=backing)
    with diskless.mount(f"{model.url}/bert/weights", backing=backing) as second:
        first.close()
        assert sorted(os.listdir(second)) == ["a.bin", "b.bin"]
        assert not os.path.exists(f"{first.path}/config.json")
    assert not os.path.exists(second)


def test_a_new_version_gets_a_place_of_its_own_while_the_old_one_shows(model, backing):
    with diskless.mount(f"{model.url}/bert", allow_patterns="config.json", backing=backing) as old:
        model.put("bert/config.json", b"new")
        with diskless.mount(
            f"{model.url}/bert", allow_patterns=["config.json"], ignore_patterns="x", backing=backing
        ) as new:
            assert Path(old, "config.json").read_bytes() == b"{}"
            assert Path(new, "config.json").read_bytes() == b"new"


def test_mount_joins_a_prefetch(model, backing):
    job = diskless.prefetch(f"{model.url}/bert", backing=backing)
    with diskless.mount(f"{model.url}/bert", backing=backing) as path:
        assert _contents(path) == FILES
        assert diskless.mounts()[-1].stats is job.stats
    # The last Mount that joined took the bytes with it: the next one fetches anew.
    with diskless.mount(f"{model.url}/bert", backing=backing):
        assert diskless.mounts()[-1].stats is not job.stats


def test_a_prefetch_that_is_closed_first_leaves_the_bytes_to_the_mount(model, backing):
    job = diskless.prefetch(f"{model.url}/bert", backing=backing)
    with diskless.mount(f"{model.url}/bert", backing=backing) as path:
        job.close()
        assert _contents(path) == FILES
    assert job.store.held_bytes == 0


def test_a_prefetch_holds_its_bytes_until_it_is_closed(model):
    job = diskless.prefetch(f"{model.url}/bert")
    job.wait(timeout_s=60)
    assert job.store.held_bytes >= sum(map(len, FILES.values()))
    job.close()
    assert job.store.held_bytes == 0


def test_the_error_of_a_prefetch_comes_from_wait_and_from_mount(s3_env, bucket):
    job = diskless.prefetch(f"{bucket.url}/nothing")
    with pytest.raises(diskless.NotFound):
        job.wait(timeout_s=60)
    with pytest.raises(diskless.NotFound):
        diskless.mount(f"{bucket.url}/nothing")


def test_threads_mount_the_same_url_at_once(model, backing):
    results: list[dict[str, bytes]] = []

    def load() -> None:
        with diskless.mount(f"{model.url}/bert", backing=backing) as path:
            results.append(_contents(path))

    threads = [threading.Thread(target=load) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [FILES] * 8


def test_open_files_and_mappings_survive_the_mount(model, backing):
    with diskless.mount(f"{model.url}/bert", backing=backing) as path:
        file = open(f"{path}/weights/a.bin", "rb")
        mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    gc.collect()
    data = FILES["weights/a.bin"]
    assert file.read() == data and mapped[:] == data
    mapped.close()
    file.close()


def test_a_mount_is_read_only(model, backing):
    with diskless.mount(f"{model.url}/bert", backing=backing) as path:
        if backing == "tree":
            for attempt in (
                lambda: open(f"{path}/config.json", "wb"),
                lambda: open(f"{path}/new", "xb"),
                lambda: os.unlink(f"{path}/config.json"),
                lambda: os.rename(f"{path}/config.json", f"{path}/other"),
                lambda: os.mkdir(f"{path}/dir"),
                lambda: os.chmod(f"{path}/config.json", 0o600),
                lambda: os.truncate(f"{path}/config.json", 0),
            ):
                with pytest.raises(OSError) as caught:
                    attempt()
                assert caught.value.errno == 30, "EROFS"
        else:
            assert os.stat(f"{path}/config.json").st_mode & 0o222 == 0
            assert os.stat(path).st_mode & 0o222 == 0
        assert _contents(path) == FILES


def test_nothing_is_patched_when_no_mount_is_open(model):
    assert native.patched_slots() == 0
    with diskless.mount(f"{model.url}/bert"):
        assert native.patched_slots() > 0
        with diskless.mount(f"{model.url}/bert/weights"):
            pass
        assert native.patched_slots() > 0
    assert native.patched_slots() == 0


def test_at_shows_it_at_a_path_of_choice(model, tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "mine").write_text("on disk")
    with diskless.mount(f"{model.url}/bert", at=tmp_path / "models") as path:
        assert path == str(tmp_path / "models")
        assert _contents(path) == FILES
        # Not there as well: one place, as asked for.
        assert not os.path.exists(f"/diskless/s3/{model.name}/bert")
    assert (tmp_path / "models" / "mine").read_text() == "on disk"


def test_at_may_name_what_does_not_exist_and_begin_with_a_tilde(model, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    with diskless.mount(f"{model.url}/bert", at="~/.cache/models") as path:
        assert path == str(tmp_path / ".cache" / "models")
        assert _contents(path) == FILES
        assert os.path.isdir(tmp_path / ".cache")
    assert not (tmp_path / ".cache").exists()


def test_at_of_one_object_is_the_path_of_the_file(model, tmp_path):
    with diskless.mount(f"{model.url}/bert/config.json", at=tmp_path / "c.json") as path:
        assert Path(path).read_bytes() == b"{}"
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("at", ["/", "/proc/x", "/sys", "/diskless", "/diskless/x"])
def test_at_is_refused_where_nothing_can_be_mounted(model, at):
    with pytest.raises(diskless.MountPathError, match="at="):
        diskless.mount(f"{model.url}/bert", at=at)


@pytest.mark.parametrize("at", ["models", "./models", "../models", ""])
def test_at_must_be_absolute(model, at):
    with pytest.raises(diskless.MountPathError) as caught:
        diskless.mount(f"{model.url}/bert", at=at)
    assert str(caught.value) == f"at={at!r} is relative: give an absolute path (or one that begins with ~)"


def test_at_needs_the_tree(tmp_path):
    """A Directory cannot hide what is elsewhere, and says so before anything is asked of the network."""
    at, backing = str(tmp_path / "models"), f"directory:{tmp_path}/ram"
    with FaultServer({"a": b"a"}) as server, pytest.raises(diskless.MountPathError) as caught:
        diskless.mount(server.url, storage_options=server.storage_options, at=at, backing=backing)
    assert str(caught.value) == (
        f"at={at!r} needs the Tree: with backing={backing!r} files can only be below that directory; "
        "use the path that the Mount gives"
    )
    assert server.list_requests == 0 and os.listdir(tmp_path) == []


def test_at_inside_another_mount_is_refused(model, tmp_path):
    with (
        diskless.mount(f"{model.url}/bert", at=tmp_path / "m"),
        pytest.raises(diskless.MountPathError, match="inside"),
    ):
        diskless.mount(f"{model.url}/bert", at=tmp_path / "m" / "weights")


@pytest.mark.parametrize("backing", ["ram", "directory:", "directory", "", 3])
def test_a_backing_that_does_not_exist_is_refused(model, backing):
    with pytest.raises(diskless.InvalidOption, match="backing"):
        diskless.mount(f"{model.url}/bert", backing=backing)


def test_the_environment_chooses_the_backing(model, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("DISKLESS_BACKING", f"directory:{tmp_path}/ram")
    with caplog.at_level(logging.INFO, "diskless"), diskless.mount(f"{model.url}/bert") as path:
        assert path.startswith(f"{tmp_path}/ram/")
    assert [record.message for record in caplog.records if record.message.startswith("backing:")] == [
        f"backing: directory:{tmp_path}/ram (DISKLESS_BACKING=directory:{tmp_path}/ram)"
    ]
    assert not (tmp_path / "ram").exists()


def test_where_the_tree_cannot_work_the_error_names_what_serves(model, monkeypatch):
    from diskless.ram import backing

    monkeypatch.setattr(backing, "_chosen", {})
    monkeypatch.setattr(native, "unavailable", lambda: "/proc is not mounted")
    with pytest.raises(diskless.BackingUnavailable, match=r"/proc is not mounted.*DISKLESS_BACKING=directory:"):
        diskless.mount(f"{model.url}/bert")


def test_2500_objects_are_listed_page_by_page_and_mounted(backing):
    objects = {f"many/{number:04}": b"%d" % number for number in range(2500)}
    with (
        FaultServer(objects) as server,
        diskless.mount(f"{server.url}/many", storage_options=server.storage_options, backing=backing) as path,
    ):
        assert {f"many/{name}": Path(path, name).read_bytes() for name in os.listdir(path)} == objects
        assert server.list_requests == 1 + 3  # is it one object? then three pages


def test_a_forked_child_reads_the_mount_and_closes_its_own(model, backing):
    mount = diskless.mount(f"{model.url}/bert", backing=backing)
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            assert _contents(mount.path) == FILES
            mount.close()
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
    assert _contents(mount.path) == FILES
    mount.close()


def test_a_forked_child_mounts_for_itself(model, backing):
    with diskless.mount(f"{model.url}/bert", backing=backing):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                with diskless.mount(f"{model.url}/bertha", backing=backing) as path:
                    status = 0 if os.listdir(path) == ["config.json"] else 2
            finally:
                os._exit(status)
        assert os.waitpid(pid, 0)[1] == 0


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_nothing_is_left_after_a_mount(model, backing):
    with diskless.mount(f"{model.url}/bert", backing=backing):
        pass
    gc.collect()  # what an earlier test left is closed now, not between the two counts
    before = _descriptors(), threading.active_count()
    for _ in range(3):
        with diskless.mount(f"{model.url}/bert", backing=backing):
            pass
    assert (_descriptors(), threading.active_count()) == before


def test_ctrl_c_during_a_transfer_releases_everything(s3_env, bucket, backing):
    """A server that never ends its answer; the interrupt comes while `mount` waits for it."""
    with FaultServer({"small": b"x"}) as server:  # a Loader is there from now on
        diskless.mount(server.url, storage_options=server.storage_options, backing=backing).close()
    before = _descriptors(), threading.active_count()
    with FaultServer({"big": os.urandom(1 << 20)}, hang_after=1000) as server:

        def interrupt() -> None:
            server.hanging.wait()
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

        interrupting = threading.Thread(target=interrupt)
        interrupting.start()
        started = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            diskless.mount(server.url + "/big", storage_options=server.storage_options, backing=backing)
        assert time.monotonic() - started < 10
        interrupting.join()
        assert diskless.mounts() == []
    assert (_descriptors(), threading.active_count()) == before


@pytest.mark.parametrize("progress", [3, "yes"])
def test_progress_takes_a_bool_or_a_function(model, progress):
    with pytest.raises(diskless.InvalidOption, match="progress"):
        diskless.mount(f"{model.url}/bert", progress=progress)


def test_a_progress_function_sees_all_bytes(model, backing):
    seen: list[tuple[int, int]] = []
    with diskless.mount(f"{model.url}/bert", progress=lambda done, total: seen.append((done, total)), backing=backing):
        pass
    size = sum(map(len, FILES.values()))
    assert seen[-1] == (size, size)
    assert seen == sorted(seen)


def test_nothing_is_printed_when_stderr_is_no_terminal(model):
    script = f"import diskless; diskless.mount({model.url + '/bert'!r}).close()"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def test_import_is_light():
    script = (
        "import sys, diskless\n"
        "heavy = ('fsspec', 'boto3', 'botocore', 'torch', 'huggingface_hub', 'obstore', 'tqdm', 'asyncio')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert ended.stdout.strip() == "[]", ended.stderr
