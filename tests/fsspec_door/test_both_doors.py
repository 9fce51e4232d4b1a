"""What is at ram://x is at /diskless/x: the same at the same moment, with Mounts and scratches in it."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import textwrap

import pytest

import diskless
from diskless import native_api as native
from diskless.filesystem import RamFileSystem
from tests.fsspec_door.conftest import DIRECTORY

FILES = {"config.json": b"{}", "weights/a.bin": os.urandom(1 << 20)}


@pytest.fixture
def model(s3_env, bucket):
    for name, data in FILES.items():
        bucket.put(f"bert/{name}", data)
    return bucket


def test_nothing_is_redirected(tree_fs, place):
    tree_fs.pipe(f"{place}/a", b"1")
    with tree_fs.open(f"{place}/a", "a+b") as file:
        file.write(b"2")
    assert tree_fs.find("ram://") and tree_fs.cat(f"{place}/a") == b"12"
    with tree_fs.transaction:
        tree_fs.pipe(f"{place}/b", b"")
    assert native.patched_slots() == 0
    assert not os.path.exists(place), "without a Mount there are no paths"


def test_paths_show_what_ram_shows(tree_fs, place):
    tree_fs.pipe(f"{place}/a", b"by ram")
    with diskless.scratch(backing="tree"):
        assert os.listdir(place) == ["a"]
        with open(f"{place}/a", "r+b") as file:
            assert file.read() == b"by ram"
            file.write(b" and path")
        assert tree_fs.cat(f"{place}/a") == b"by ram and path"
        os.makedirs(f"{place}/d/e")
        tree_fs.pipe(f"{place}/d/e/b", b"b")
        os.rename(f"{place}/d", f"{place}/f")
        assert tree_fs.find(place) == [f"{place}/a", f"{place}/f/e/b"]
        for name in (f"{place}/a", f"{place}/f", place):
            status, found = os.stat(name), tree_fs.info(name)
            assert [status.st_ino, status.st_mode, status.st_nlink, status.st_uid, status.st_gid] == [
                found[field] for field in ("ino", "mode", "nlink", "uid", "gid")
            ]
            assert (status.st_mtime, status.st_ctime) == (found["mtime"], found["created"])
            assert tree_fs._calls.stat(name) == status and tree_fs._calls.stat(name).st_dev == status.st_dev
        with open("/diskless/at-the-top", "w") as text:
            text.write("1")
        assert tree_fs.cat("ram://at-the-top") == b"1"
        tree_fs.rm("ram://at-the-top")
        assert not os.path.exists("/diskless/at-the-top")
        assert os.statvfs("/diskless").f_flag & os.ST_RDONLY == 0
        tree_fs.rm(f"{place}/f", recursive=True)
        assert os.listdir(place) == ["a"]
    assert tree_fs.cat(f"{place}/a") == b"by ram and path"


def test_a_scratch_is_a_directory_of_ram(tree_fs, place):
    with diskless.scratch(backing="tree") as path:
        tree_fs.pipe(f"{path}/a", b"1")
        assert open(f"{path}/a", "rb").read() == b"1"
        assert path in tree_fs.ls("ram://scratch", detail=False)
        tree_fs.mv(f"{path}/a", f"{place}/a")  # to another volume: copied
        assert os.listdir(path) == [] and tree_fs.cat(f"{place}/a") == b"1"
        tree_fs.pipe(f"{place}/d/e/b", b"2")
        tree_fs.symlink(f"{place}/d/e", f"{place}/d/link")
        tree_fs.mv(f"{place}/d", f"{path}/d")
        assert tree_fs.islink(f"{path}/d/link")
        assert tree_fs.cat(f"{path}/d/e/b") == b"2" and not tree_fs.exists(f"{place}/d")
        for attempt in (lambda: tree_fs.rmdir(path), lambda: tree_fs.mv(path, f"{place}/s")):
            with pytest.raises(OSError) as caught:
                attempt()
            assert caught.value.errno in (errno.EBUSY, errno.EXDEV)
        assert tree_fs.isdir(path)
    assert not tree_fs.exists(path)


def test_a_mount_shows_and_is_read_only(tree_fs, place, model):
    with diskless.mount(f"{model.url}/bert", backing="tree") as path:
        assert tree_fs.find(path) == [f"{path}/{name}" for name in FILES]
        assert tree_fs.cat(f"{path}/weights/a.bin") == FILES["weights/a.bin"]
        tree_fs.cp_file(f"{path}/config.json", f"{place}/copy")
        assert tree_fs.cat(f"{place}/copy") == b"{}"
        for attempt in (
            lambda: tree_fs.open(f"{path}/config.json", "wb"),
            lambda: tree_fs.open(f"{path}/config.json", "r+b"),
            lambda: tree_fs.touch(f"{path}/new"),
            lambda: tree_fs.mkdir(f"{path}/new"),
            lambda: tree_fs.rm(f"{path}/config.json"),
            lambda: tree_fs.rm(path, recursive=True),
            lambda: tree_fs.mv(f"{path}/config.json", f"{path}/other"),
            lambda: tree_fs.chmod(f"{path}/config.json", 0o600),
        ):
            with pytest.raises(OSError) as caught:
                attempt()
            assert caught.value.errno == errno.EROFS
        for attempt in (
            lambda: tree_fs.rmdir("ram://s3"),
            lambda: os.rmdir("/diskless/s3"),
            lambda: os.rename("/diskless/s3", "/diskless/mine"),
            lambda: os.rename(place, "/diskless/s3"),
        ):
            with pytest.raises(OSError) as caught:
                attempt()
            assert caught.value.errno in (errno.EBUSY, errno.EROFS)
        with pytest.raises(OSError) as caught:
            os.link(f"{path}/config.json", f"{place}/link")
        assert caught.value.errno == errno.EXDEV
        assert tree_fs.find(path) == [f"{path}/{name}" for name in FILES]
    assert not tree_fs.exists("ram://s3") and tree_fs.cat(f"{place}/copy") == b"{}"


@pytest.mark.parametrize("made", ["ram://s3/mine", "ram://s3"], ids=["a directory", "a file"])
def test_a_mount_does_not_mix_with_what_is_there(fs, model, made):
    backing = "tree" if not fs._hidden else DIRECTORY
    fs.pipe(made, b"mine")
    try:
        with diskless.mount(f"{model.url}/bert", backing=backing) as path:
            assert path == f"{fs._root}/s3~2/{model.name}/bert"
            assert open(f"{path}/config.json", "rb").read() == b"{}"
            assert fs.cat(made) == b"mine" and fs.find("ram://s3") == [fs._strip_protocol(made)]
            with diskless.mount(f"{model.url}/bert", backing=backing) as again:
                assert again == path
        assert not fs.exists("ram://s3~2")
    finally:
        fs.rm("ram://s3", recursive=True)
    with diskless.mount(f"{model.url}/bert", backing=backing) as path:
        assert path == f"{fs._root}/s3/{model.name}/bert"


@pytest.mark.parametrize("made", ["ram://scratch/mine", "ram://scratch"], ids=["a directory", "a file"])
def test_a_scratch_does_not_mix_with_what_is_there(made):
    """In a process of its own: the directory of the scratches stays once there was one."""
    script = f"""
        import diskless, os
        from diskless.filesystem import RamFileSystem
        fs = RamFileSystem(backing="tree")
        fs.pipe({made!r}, b"mine")
        with diskless.scratch(backing="tree") as path, diskless.scratch(backing="tree") as other:
            print(path, other, os.listdir(path), fs.cat({made!r}))
    """
    assert _run(script) == "/diskless/scratch~2/1 /diskless/scratch~2/2 [] b'mine'\n"


def test_a_mount_on_a_directory_is_beside_the_files(model):
    fs = RamFileSystem(backing=DIRECTORY)
    fs.pipe("ram://mine", b"1")
    with diskless.mount(f"{model.url}/bert", backing=DIRECTORY) as path:
        name = fs._name(path)
        assert fs.cat(f"{name}/config.json") == b"{}" and fs.find(name) == [f"{name}/{each}" for each in FILES]
        assert open(f"{fs._root}/mine", "rb").read() == b"1"
    assert fs.cat("ram://mine") == b"1" and not fs.exists(name)
    fs.rm("ram://mine")


def test_a_directory_is_gone_with_the_process(tmp_path):
    script = f"""
        import os
        from diskless.filesystem import RamFileSystem
        fs = RamFileSystem(backing="directory:{tmp_path}/ram")
        fs.pipe("ram://a/b", b"1")
        print(open(fs._root + "/a/b", "rb").read(), len(os.listdir("{tmp_path}/ram")))
    """
    assert _run(script) == "b'1' 1\n"
    assert os.listdir(tmp_path) == []


def test_the_environment_chooses_the_backing(tmp_path, monkeypatch):
    monkeypatch.setenv("DISKLESS_BACKING", f"directory:{tmp_path}")
    fs = RamFileSystem(skip_instance_cache=True)
    fs.pipe("ram://a", b"1")
    assert fs._root.startswith(str(tmp_path)) and fs.ls("ram://", detail=False) == ["/diskless/a"]
    fs.rm("ram://a")


def test_usage_counts_what_is_written(fs, place):
    before = diskless.usage().scratch_bytes
    fs.pipe(f"{place}/a", b"x" * (1 << 20))
    assert diskless.usage().scratch_bytes - before == 1 << 20
    fs.rm(f"{place}/a")
    assert diskless.usage().scratch_bytes == before


def test_at_is_refused_below_ram(tree_fs, place):
    with pytest.raises(diskless.MountPathError, match=r"ram://"):
        diskless.scratch(at=f"{place}/x", backing="tree")


def _run(script: str) -> str:
    source = f"import sys\nsys.path[:0] = {sys.path!r}\n" + textwrap.dedent(script)
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout
