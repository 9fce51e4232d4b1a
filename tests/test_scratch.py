"""diskless.scratch(): a directory in RAM that may be written, on both Backings."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import pytest

import diskless
from diskless import InvalidOption, MountPathError
from diskless import native_api as native

needs_tree = pytest.mark.skipif(not native.available(), reason="the Tree does not work here")


def run(script: str) -> str:
    """Run a script in a process of its own and return what it prints."""
    source = f"import sys\nsys.path[:0] = {sys.path!r}\nimport diskless, os\n" + textwrap.dedent(script)
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_scratch_begins_empty_and_is_gone_when_closed(backing: str) -> None:
    with diskless.scratch(backing=backing) as path:
        assert isinstance(path, str) and os.path.isabs(path)
        assert os.listdir(path) == []
        Path(path, "a").mkdir()
        Path(path, "a", "b").write_text("text")
        assert Path(path, "a", "b").read_text() == "text"
    assert not os.path.exists(path)


def test_two_scratches_are_two_directories(backing: str) -> None:
    with diskless.scratch(backing=backing) as one, diskless.scratch(backing=backing) as other:
        Path(one, "name").write_text("one")
        assert one != other and os.listdir(other) == []


def test_a_scratch_is_a_path_and_says_what_it_is(backing: str) -> None:
    made = diskless.scratch(backing=backing)
    assert os.fspath(made) == made.path and not made.closed
    assert made.path in repr(made) and "closed" not in repr(made)
    made.close()
    made.close()
    assert made.closed and "closed" in repr(made)


def test_libraries_work_in_a_scratch(backing: str) -> None:
    with diskless.scratch(backing=backing) as path:
        with tempfile.TemporaryDirectory(dir=path) as below:
            Path(below, "file").write_bytes(b"x" * 100_000)
            shutil.copytree(below, os.path.join(path, "copy"))
        with tempfile.NamedTemporaryFile(dir=path) as file:
            assert os.path.samefile(file.name, f"/proc/self/fd/{file.fileno()}")
        assert os.listdir(path) == ["copy"]
        archive = shutil.make_archive(os.path.join(path, "archive"), "zip", os.path.join(path, "copy"))
        shutil.rmtree(os.path.join(path, "copy"))
        shutil.unpack_archive(archive, os.path.join(path, "unpacked"))
        assert Path(path, "unpacked", "file").stat().st_size == 100_000


def test_an_open_file_and_a_mapping_outlive_the_scratch(backing: str) -> None:
    import mmap

    with diskless.scratch(backing=backing) as path:
        file = open(os.path.join(path, "file"), "w+b")
        file.write(b"still here")
        file.flush()
        mapping = mmap.mmap(file.fileno(), 0)
    with file, mapping:
        assert file.seek(0) == 0 and file.read() == b"still here"
        mapping[:5] = b"STILL"
        assert os.pread(file.fileno(), 5, 0) == b"STILL"


def test_a_forked_child_closes_its_own_copy(backing: str) -> None:
    out = run(f"""
        made = diskless.scratch(backing={backing!r})
        open(made.path + "/kept", "w").write("by the parent")
        if os.fork() == 0:
            made.close()
            os._exit(0)
        os.wait()
        print(open(made.path + "/kept").read())
        made.close()
        print(os.path.exists(made.path))
    """)
    assert out == "by the parent\nFalse\n"


@pytest.mark.parametrize("budget", [0, -1, "lots", True])
def test_a_budget_that_makes_no_sense_is_refused(budget: object, backing: str) -> None:
    with pytest.raises(InvalidOption):
        diskless.scratch(backing=backing, budget=budget)  # type: ignore[arg-type]


def test_a_directory_refuses_at_by_name(tmp_path: Path) -> None:
    with pytest.raises(MountPathError, match="directory:"):
        diskless.scratch(at=tmp_path / "x", backing=f"directory:{tmp_path}/ram")
    assert not (tmp_path / "x").exists()


def test_a_directory_is_empty_again_afterwards(tmp_path: Path) -> None:
    base = tmp_path / "ram"
    with diskless.scratch(backing=f"directory:{base}") as path:
        assert Path(path).is_relative_to(base)
        Path(path, "shut").mkdir(0o000)
    assert not base.exists()


@needs_tree
def test_at_hides_what_is_there_and_leaves_it_alone(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "before").write_text("real")
    with diskless.scratch(at=tmp_path / "d", backing="tree") as path:
        assert path == str(tmp_path / "d") and os.listdir(path) == []
        Path(path, "before").write_text("in RAM")
    assert os.listdir(tmp_path / "d") == ["before"] and (tmp_path / "d" / "before").read_text() == "real"


@needs_tree
def test_missing_directories_above_answer_to_stat_and_mkdir_only(tmp_path: Path) -> None:
    with diskless.scratch(at=tmp_path / "a" / "b" / "c", backing="tree") as path:
        os.makedirs(path, exist_ok=True)
        with pytest.raises(FileExistsError):
            os.mkdir(tmp_path / "a")
        assert (tmp_path / "a" / "b").is_dir()
        with pytest.raises(OSError, match="Read-only"):
            (tmp_path / "a" / "other").write_text("x")
    assert os.listdir(tmp_path) == []


@needs_tree
@pytest.mark.parametrize("first", ["outer", "inner"], ids=["the outer closes first", "the inner closes first"])
@pytest.mark.parametrize("opened", ["outer", "inner"], ids=["the outer opened first", "the inner opened first"])
def test_the_innermost_scratch_wins_whatever_the_order(opened: str, first: str, tmp_path: Path) -> None:
    places = {"outer": tmp_path / "d", "inner": tmp_path / "d" / "e" / "f"}
    order = ["outer", "inner"] if opened == "outer" else ["inner", "outer"]
    open_ones = {name: diskless.scratch(at=places[name], backing="tree") for name in order}
    for name, place in places.items():
        (place / "file").write_text(name)
    assert (places["outer"] / "e" / "f" / "file").read_text() == "inner"
    assert os.path.realpath(f"{places['inner']}/../../file") == str(places["outer"] / "file")
    second = "inner" if first == "outer" else "outer"
    open_ones[first].close()
    assert not (places[first] / "file").exists()
    assert (places[second] / "file").read_text() == second
    open_ones[second].close()
    assert os.listdir(tmp_path) == []


@needs_tree
def test_a_scratch_within_one_of_its_own_path_nests_too() -> None:
    with diskless.scratch(backing="tree") as outer, diskless.scratch(at=f"{outer}/in", backing="tree") as inner:
        Path(inner, "file").write_text("inner")
        assert os.listdir(outer) == [] and Path(outer, "in", "file").read_text() == "inner"


@needs_tree
def test_names_do_not_cross_to_another_filesystem(tmp_path: Path) -> None:
    with diskless.scratch(backing="tree") as one, diskless.scratch(backing="tree") as other:
        Path(one, "file").write_text("x")
        for elsewhere in (other, str(tmp_path)):
            for call in (os.rename, os.link):
                with pytest.raises(OSError, match="cross-device"):
                    call(f"{one}/file", f"{elsewhere}/file")
        assert shutil.move(f"{one}/file", f"{other}/file") and Path(other, "file").read_text() == "x"


@needs_tree
@pytest.mark.parametrize("at", ["relative", "/", "/proc", "/proc/x", "/diskless", "/diskless/s3/b"])
def test_a_place_that_cannot_be_shadowed_is_refused(at: str) -> None:
    with pytest.raises(MountPathError):
        diskless.scratch(at=at, backing="tree")


@needs_tree
def test_the_same_place_twice_is_refused(tmp_path: Path) -> None:
    with diskless.scratch(at=tmp_path / "d", backing="tree"), pytest.raises(MountPathError, match="already"):
        diskless.scratch(at=tmp_path / "d", backing="tree")


@needs_tree
def test_a_home_directory_is_expanded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with diskless.scratch(at="~/.cache/clip", backing="tree") as path:
        assert path == f"{tmp_path}/.cache/clip"


@needs_tree
def test_files_get_the_umask_of_the_moment() -> None:
    out = run("""
        import ctypes
        os.umask(0o027)
        with diskless.scratch(backing="tree") as path:
            modes = []
            for mask in (None, 0o077, 0):
                if mask is not None:
                    os.umask(mask)
                open(f"{path}/{mask}", "w").close()
                modes.append(oct(os.stat(f"{path}/{mask}").st_mode & 0o777))
        os.umask(0o111)  # nobody watches now
        with diskless.scratch(backing="tree") as path:
            os.mkdir(path + "/d")
            modes.append(oct(os.stat(path + "/d").st_mode & 0o777))
        print(*modes)
    """)
    assert out.split() == ["0o640", "0o600", "0o666", "0o666"]


@needs_tree
def test_the_umask_of_a_vfork_child_is_not_ours() -> None:
    out = run("""
        import subprocess
        os.umask(0o022)
        with diskless.scratch(backing="tree") as path:
            subprocess.run(["true"], umask=0o777, check=True)
            open(path + "/f", "w").close()
            print(oct(os.stat(path + "/f").st_mode & 0o777))
    """)
    assert out == "0o644\n"


@needs_tree
def test_more_files_than_the_soft_descriptor_limit_fit() -> None:
    out = run("""
        import resource
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
        with diskless.scratch(backing="tree") as path:
            for number in range(600):
                open(f"{path}/{number}", "w").close()
            print(len(os.listdir(path)))
    """)
    assert out == "600\n"


@needs_tree
def test_at_the_hard_descriptor_limit_a_file_is_refused_and_none_is_lost() -> None:
    out = run("""
        import errno, resource
        resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
        with diskless.scratch(backing="tree") as path:
            made = 0
            try:
                for made in range(200):
                    open(f"{path}/{made}", "w").close()
            except OSError as error:
                print(error.errno == errno.EMFILE, len(os.listdir(path)) == made)
            from diskless.native_api import take_messages
            print("RLIMIT_NOFILE" in take_messages()[0])
            os.unlink(path + "/0")
            open(path + "/again", "w").close()
            print(len(os.listdir(path)) == made)
    """)
    assert out == "True True\nTrue\nTrue\n"


@needs_tree
def test_closing_frees_the_descriptors() -> None:
    before = len(os.listdir("/proc/self/fd"))
    with diskless.scratch(backing="tree") as path:
        for number in range(50):
            Path(path, str(number)).write_text("x")
        os.link(f"{path}/1", f"{path}/other")
        os.unlink(f"{path}/1")
        os.replace(f"{path}/2", f"{path}/3")
    assert len(os.listdir("/proc/self/fd")) == before


@needs_tree
def test_an_unnamed_file_gets_a_name_once() -> None:
    with diskless.scratch(backing="tree") as path:
        fd = os.open(path, os.O_TMPFILE | os.O_RDWR, 0o640)
        os.write(fd, b"unnamed")
        assert os.fstat(fd).st_nlink == 0 and os.listdir(path) == []
        os.link(f"/proc/self/fd/{fd}", f"{path}/named", src_dir_fd=0, follow_symlinks=True)
        assert Path(path, "named").read_bytes() == b"unnamed" and os.fstat(fd).st_nlink == 1
        os.close(fd)


@needs_tree
def test_a_budget_is_what_the_directory_says_that_it_has() -> None:
    with diskless.scratch(backing="tree", budget="1MiB") as path:
        Path(path, "file").write_bytes(b"x" * 4096)
        usage = shutil.disk_usage(path)
        assert usage.total == 1 << 20 and usage.free == (1 << 20) - 4096
        assert not os.statvfs(path).f_flag & os.ST_RDONLY
