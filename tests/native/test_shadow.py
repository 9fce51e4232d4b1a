"""A root laid over a real path: every way there leads to it, and nothing beneath is touched."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.native.tree import LIBRARY, NativeTree


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home directory that is reached through a symlink, as on machines whose /home is one."""
    real = tmp_path / "mnt/home/u"
    (real / ".cache").mkdir(parents=True)
    (tmp_path / "home").symlink_to(tmp_path / "mnt/home")
    monkeypatch.chdir("/")
    return tmp_path / "home/u"


@pytest.fixture
def shadow(home: Path) -> Iterator[NativeTree]:
    with NativeTree(shadow=str(home / ".cache/hub")) as made:
        made.file("model/weights", b"in RAM")
        yield made


def ways_to(home: Path) -> dict[str, str]:
    real = home.resolve()
    return {
        "as spelled": f"{home}/.cache/hub",
        "the real path": f"{real}/.cache/hub",
        "a symlink above": f"{home.parent.parent}/mnt/../home/u/.cache/hub",
        "dots and slashes": f"{home}/./.cache//hub/../hub/.",
        "through the shadow and out": f"{home}/.cache/hub/../../.cache/hub",
        "a new symlink": f"{home}/link/hub",
    }


@pytest.mark.parametrize("way", list(ways_to(Path("/"))))
def test_every_spelling_leads_into_the_shadow(shadow: NativeTree, home: Path, way: str) -> None:
    (home / "link").symlink_to(".cache")
    path = ways_to(home)[way]
    with open(f"{path}/model/weights", "rb") as file:
        assert file.read() == b"in RAM"
    assert os.listdir(f"{path}/model") == ["weights"]
    assert os.stat(path).st_dev == os.stat(shadow.root).st_dev
    assert os.path.realpath(f"{path}/model") == f"{home.resolve()}/.cache/hub/model"
    with pytest.raises(OSError) as caught:
        open(f"{path}/new", "wb")
    assert caught.value.errno == errno.EROFS


@pytest.mark.parametrize("directory", ["", ".cache", ".cache/real", "other"])
def test_relative_paths_are_joined_with_the_working_directory(
    shadow: NativeTree, home: Path, directory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / directory).mkdir(parents=True, exist_ok=True)
    monkeypatch.chdir(home / directory)
    relative = os.path.relpath(home.resolve() / ".cache/hub/model/weights", home.resolve() / directory)
    with open(relative, "rb") as file:
        assert file.read() == b"in RAM"
    assert not os.path.exists("weights")


def test_paths_relative_to_a_real_directory_descriptor_lead_into_it(shadow: NativeTree, home: Path) -> None:
    for directory, relative in [
        (home, ".cache/hub/model"),
        (home / ".cache", "hub/model"),
        (home.parent, "u/.cache/hub/model"),
    ]:
        fd = os.open(directory, os.O_RDONLY)
        try:
            assert os.stat(f"{relative}/weights", dir_fd=fd).st_size == 6
            other = os.open(relative, os.O_RDONLY, dir_fd=fd)
            assert os.listdir(other) == ["weights"]
            os.close(other)
            with pytest.raises(OSError) as caught:
                os.mkdir(f"{relative}/new", dir_fd=fd)
            assert caught.value.errno == errno.EROFS
        finally:
            os.close(fd)


def test_what_lies_beneath_is_hidden_and_back_afterwards(home: Path) -> None:
    beneath = home / ".cache/hub"
    beneath.mkdir()
    (beneath / "real").write_bytes(b"on disk")
    real = os.open(beneath, os.O_RDONLY)
    with NativeTree(shadow=str(beneath)) as shadow:
        shadow.file("a", b"")
        assert os.listdir(beneath) == ["a"]
        assert not (beneath / "real").exists()
        with pytest.raises(OSError) as caught:
            shutil.rmtree(beneath)
        assert caught.value.errno == errno.EROFS
        # A descriptor from before goes on to mean what it meant.
        assert os.listdir(real) == ["real"]
    assert os.listdir(beneath) == ["real"]
    assert (beneath / "real").read_bytes() == b"on disk"
    os.close(real)


def test_missing_ancestors_exist_and_nothing_can_be_made_in_them(home: Path) -> None:
    with NativeTree(shadow=str(home / ".local/share/models")) as shadow:
        shadow.file("a", b"")
        # As os.makedirs("~/.local/share/models", exist_ok=True) does it.
        os.makedirs(home / ".local/share/models", exist_ok=True)
        with pytest.raises(FileExistsError):
            os.mkdir(home / ".local")
        assert os.path.isdir(home / ".local/share")
        assert os.listdir(home / ".local") == ["share"]
        for refused in (lambda: os.mkdir(home / ".local/state"), lambda: (home / ".local/x").write_bytes(b"")):
            with pytest.raises(OSError) as caught:
                refused()
            assert caught.value.errno == errno.EROFS
        assert os.path.realpath(home / ".local/share/models/a/..") == f"{home.resolve()}/.local/share/models"
    assert not (home / ".local").exists()


def test_shadows_share_missing_ancestors_and_close_in_any_order(home: Path) -> None:
    first, second = NativeTree(shadow=str(home / ".local/a/one")), NativeTree(shadow=str(home / ".local/b/two"))
    first.__enter__()
    second.__enter__()
    first.file("x", b"1")
    second.file("x", b"2")
    assert sorted(os.listdir(home / ".local")) == ["a", "b"]
    first.__exit__()
    assert os.listdir(home / ".local") == ["b"]
    assert (home / ".local/b/two/x").read_bytes() == b"2"
    second.__exit__()
    assert not (home / ".local").exists()


def test_a_shadow_within_another_or_around_it_is_refused(shadow: NativeTree, home: Path) -> None:
    for path, error in [(home / ".cache/hub/in", errno.EEXIST), (home / ".cache/hub", errno.EEXIST)]:
        with pytest.raises(OSError) as caught:
            shadow.call("root_add", os.fsencode(path))
        assert caught.value.errno == error
    with NativeTree(shadow=str(home / ".local/a/b")), pytest.raises(OSError) as caught:
        shadow.call("root_add", os.fsencode(home / ".local/a"))
    assert caught.value.errno == errno.EBUSY


def test_a_file_shows_where_the_root_is(home: Path) -> None:
    with NativeTree(shadow=str(home / "weights.bin")) as shadow:
        shadow.file("", b"one object")
        assert (home / "weights.bin").read_bytes() == b"one object"
        assert (home.resolve() / "weights.bin").stat().st_size == 10
        with pytest.raises(NotADirectoryError):
            os.listdir(home / "weights.bin")
    assert not (home / "weights.bin").exists()


def test_rename_and_link_across_the_border(shadow: NativeTree, home: Path) -> None:
    (home / "on-disk").write_bytes(b"")
    for change in (os.rename, os.replace):
        for source, target in [(home / "on-disk", shadow.path("new")), (shadow.path("model"), home / "new")]:
            with pytest.raises(OSError) as caught:
                change(source, target)
            assert caught.value.errno == errno.EXDEV
    with pytest.raises(OSError) as caught:
        os.link(shadow.path("model/weights"), home / "new")
    assert caught.value.errno == errno.EXDEV
    assert (home / "on-disk").exists()
    assert not (home / "new").exists()


def test_other_paths_are_untouched(shadow: NativeTree, home: Path) -> None:
    (home / ".cache/other").mkdir()
    (home / ".cache/hub2").write_bytes(b"disk")
    (home / ".cache/other/file").write_bytes(b"disk")
    assert (home / ".cache/hub2").read_bytes() == b"disk"
    assert sorted(os.listdir(home / ".cache")) == ["hub2", "other"]
    (home / ".cache/other/file").rename(home / ".cache/other/moved")
    assert os.listdir(home / ".cache/other") == ["moved"]


def test_a_program_beneath_is_not_run(home: Path) -> None:
    program = home / ".cache/hub"
    program.write_text("#!/bin/sh\necho beneath\n")
    program.chmod(0o755)
    with NativeTree(shadow=str(program)) as shadow:
        shadow.file("", b"#!/bin/sh\necho RAM\n", mode=0o555)
        for start in (lambda: os.posix_spawn(program, [str(program)], {}), lambda: subprocess.run([program])):
            with pytest.raises(PermissionError):
                start()
        with pytest.raises(OSError):
            os.open(program, os.O_WRONLY)
    assert subprocess.run([program], capture_output=True, text=True).stdout == "beneath\n"


def test_a_bind_mount_of_a_directory_above_leads_into_the_shadow(home: Path, tmp_path: Path) -> None:
    script = f"""
        import os, sys
        sys.path[:0] = {[str(Path(__file__).parent.parent.parent), *sys.path]!r}
        os.environ["DISKLESS_TEST_LIBRARY"] = {str(LIBRARY)!r}
        from tests.native.tree import NativeTree
        with NativeTree(shadow={str(home / ".cache/hub")!r}) as shadow:
            shadow.file("model/weights", b"in RAM")
            for path in ({str(tmp_path / "bound")!r}, "/mnt"):
                assert open(path + "/.cache/hub/model/weights", "rb").read() == b"in RAM", path
                assert os.path.samefile(path + "/.cache/hub", {str(home / ".cache/hub")!r})
                assert os.listdir(path + "/.cache/hub/../hub/model/..") == ["model"]
            os.chdir("/mnt/.cache")
            assert os.listdir("hub/model") == ["weights"]
        assert os.listdir("/mnt/.cache") == []
        print("through the bind mounts")
    """
    (tmp_path / "bound").mkdir()
    (tmp_path / "script.py").write_text(textwrap.dedent(script))
    mounts = f"mount --bind {home} {tmp_path}/bound && mount --bind {home} /mnt || exit 77"
    namespace = ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-Urm"]
    done = subprocess.run(
        [*namespace, "sh", "-c", f"{mounts}; exec {sys.executable} {tmp_path}/script.py"],
        capture_output=True,
        text=True,
    )
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")
    assert done.stdout == "through the bind mounts\n", done.stderr


def test_paths_that_share_no_prefix_cost_no_system_call(shadow: NativeTree, tmp_path: Path) -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace counts the calls")
    script = f"""
        import os, sys
        sys.path[:0] = {[str(Path(__file__).parent.parent.parent), *sys.path]!r}
        os.environ["DISKLESS_TEST_LIBRARY"] = {str(LIBRARY)!r}
        from tests.native.tree import NativeTree
        with NativeTree(shadow={str(tmp_path / "a/b/shadow")!r}):
            for path in ("/usr/mark-1", {str(tmp_path)!r}, "/usr/mark-2", {str(tmp_path)!r} + "/x/y/z", "/usr/mark-3"):
                os.path.exists(path)
    """
    (tmp_path / "x/y").mkdir(parents=True)
    (tmp_path / "script.py").write_text(textwrap.dedent(script))
    done = subprocess.run(
        ["strace", "-e", "trace=%file", sys.executable, tmp_path / "script.py"], capture_output=True, text=True
    )
    if "ptrace" in done.stderr or done.returncode != 0:
        pytest.skip(f"strace does not work here: {done.stderr[-200:]}")
    lines = [line for line in done.stderr.splitlines() if "(" in line]
    marks = [next(i for i, line in enumerate(lines) if f"/usr/mark-{n}" in line) for n in (1, 2, 3)]
    assert marks[1] - marks[0] == 2, "the path above the shadow is known, only the call itself is made"
    components = len(tmp_path.parts) - 1 + len(("x", "y", "z"))
    assert marks[2] - marks[1] - 2 <= components, lines[marks[1] : marks[2] + 1]
