"""diskless.cache(): directories of libraries in RAM, filled from a mirror."""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
import sys
import textwrap
import types
from pathlib import Path

import pytest

import diskless
from diskless import native_api as native
from tests.programs import SOURCE

pytestmark = pytest.mark.skipif(not native.available(), reason="needs the Tree")
WEIGHTS = os.urandom(3 << 20)


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A home that does not exist, as on a machine whose disk nobody may write to."""
    path = tmp_path / "home"
    monkeypatch.setenv("HOME", str(path))
    for name in ("XDG_CACHE_HOME", "TORCH_HOME"):
        monkeypatch.delenv(name, raising=False)
    return path


@pytest.fixture
def mirror(s3_env, bucket) -> str:
    bucket.put("m/clip/ViT-B-32.pt", WEIGHTS)
    bucket.put("m/torch/hub/checkpoints/net-0123.pth", b"state")
    bucket.put("m/mine/deep/er/file", b"mine")
    bucket.put("m/other", b"?")
    return f"{bucket.url}/m"


def test_a_library_finds_its_files_where_it_looks_for_them(mirror: str, home: Path):
    with diskless.cache(mirror, only=["clip", "torch"]) as cache:
        assert (home / ".cache/clip/ViT-B-32.pt").read_bytes() == WEIGHTS
        assert (home / ".cache/torch/hub/checkpoints/net-0123.pth").read_bytes() == b"state"
        assert cache.directories == [f"{home}/.cache/clip", f"{home}/.cache/torch/hub"]
        assert os.listdir(home / ".cache") == ["clip", "torch"], "and nothing beside them"
        # NLTK reads nothing that others may write.
        assert (home / ".cache/clip").stat().st_mode & 0o777 == 0o755
    assert not home.exists()


def test_what_the_disk_has_is_hidden_and_back(mirror: str, home: Path):
    directory = home / ".cache" / "clip"
    directory.mkdir(parents=True)
    (directory / "old.pt").write_text("old")
    (home / ".cache" / "token").write_text("secret")
    with diskless.cache(mirror, only="clip"):
        assert os.listdir(directory) == ["ViT-B-32.pt"]
        assert (home / ".cache" / "token").read_text() == "secret"
        (directory / "new.pt").write_text("new")
    assert os.listdir(directory) == ["old.pt"]


def test_only_what_is_opened_is_fetched(mirror: str, home: Path):
    with diskless.cache(mirror, only=["clip", "torch"]) as cache:
        assert (home / ".cache/clip/ViT-B-32.pt").stat().st_size == len(WEIGHTS)
        (home / ".cache/torch/hub/checkpoints/net-0123.pth").read_bytes()
        held = {os.path.basename(file.path): file.held_bytes for file in cache.ls()}
        assert held == {"ViT-B-32.pt": 0, "net-0123.pth": 4096}


def test_within_a_budget_files_take_turns(mirror: str, home: Path, bucket):
    other = os.urandom(3 << 20)
    bucket.put("m/clip/RN50.pt", other)
    right = {"ViT-B-32.pt": WEIGHTS, "RN50.pt": other}
    with diskless.cache(mirror, only="clip", budget="5MiB") as cache:
        for name in ("ViT-B-32.pt", "RN50.pt", "ViT-B-32.pt"):
            assert (home / ".cache/clip" / name).read_bytes() == right[name]
            held = {os.path.basename(file.path): file.held_bytes for file in cache.ls()}
            assert held[name] == 3 << 20 and sum(held.values()) <= 5 << 20


def test_other_directories_of_the_users(mirror: str, home: Path):
    with diskless.cache(mirror, only=[], paths={"~/.mylib": "mine", str(home / "all"): ""}) as cache:
        assert (home / ".mylib/deep/er/file").read_bytes() == b"mine"
        assert (home / "all/mine/deep/er/file").read_bytes() == b"mine"
        assert (home / "all/other").read_bytes() == b"?"
        assert len(cache.directories) == 2


def test_what_a_library_writes_stays_in_ram(mirror: str, home: Path):
    with diskless.cache(mirror, only="clip") as cache:
        path = home / ".cache" / "clip" / "ViT-B-32.pt"
        with path.open("wb") as file:  # as CLIP does where the checksum is wrong
            file.write(b"downloaded again")
        (path.parent / "RN50.pt").write_bytes(b"another")
        assert path.read_bytes() == b"downloaded again"
        assert [(os.path.basename(file.path), file.url) for file in cache.ls()] == [
            ("RN50.pt", None),
            ("ViT-B-32.pt", None),
        ]


def test_ls_says_where_each_file_is_from_and_when_it_was_used(mirror: str, home: Path):
    with diskless.cache(mirror, only="clip") as cache:
        (before,) = cache.ls()
        (home / ".cache/clip/ViT-B-32.pt").read_bytes()
        (after,) = cache.ls()
    assert before.url == after.url == f"{mirror}/clip/ViT-B-32.pt"
    assert (before.size_bytes, before.held_bytes, after.held_bytes) == (len(WEIGHTS), 0, len(WEIGHTS))
    assert after.used_at >= before.used_at


def test_files_go_on_when_the_cache_is_closed(mirror: str, home: Path):
    with diskless.cache(mirror, only="clip"):
        file = (home / ".cache/clip/ViT-B-32.pt").open("rb")
    with file:
        assert file.read() == WEIGHTS


def test_write_back_puts_what_was_fetched_elsewhere_into_the_mirror(mirror: str, home: Path, bucket):
    with diskless.cache(mirror, only="clip", write_back=True) as cache:
        (home / ".cache/clip/sub").mkdir()
        (home / ".cache/clip/sub/RN50.pt").write_bytes(b"another")
        assert cache.flush() == 1 and cache.flush() == 0
        (home / ".cache/clip/late.pt").write_bytes(b"late")
        (home / ".cache/clip/net.pth.1a2b.partial").write_bytes(b"half of it")
        (home / ".cache/clip/nowhere").symlink_to("nothing")
    assert bucket.get("m/clip/sub/RN50.pt") == b"another" and bucket.get("m/clip/late.pt") == b"late"
    keys = bucket.keys()
    assert not [key for key in keys if "partial" in key or "nowhere" in key]
    with diskless.cache(mirror, only=[], paths={str(home / "mine"): "mine/"}, write_back=True):
        (home / "mine/models--a--b").mkdir()
        (home / "mine/models--a--b/file").write_bytes(b"in a cache of their own")
    assert bucket.get("m/mine/models--a--b/file") == b"in a cache of their own"
    keys = bucket.keys()
    with pytest.raises(ZeroDivisionError), diskless.cache(mirror, only="clip", write_back=True):
        (home / ".cache/clip/half.pt").write_bytes(b"half")
        raise ZeroDivisionError
    assert bucket.keys() == keys


def test_a_mirror_that_may_not_be_written(mirror: str, home: Path, monkeypatch: pytest.MonkeyPatch):
    def refused(*arguments: object, **named: object) -> None:
        raise diskless.AccessDenied("no s3:PutObject here")

    monkeypatch.setattr("diskless.upload.push", refused)
    with pytest.raises(diskless.AccessDenied), diskless.cache(mirror, only="clip", write_back=True) as cache:
        (home / ".cache/clip/RN50.pt").write_bytes(b"another")
        assert (home / ".cache/clip/RN50.pt").read_bytes() == b"another"
    assert cache.closed and not home.exists()


def test_what_is_removed_while_others_are_written_back(mirror: str, monkeypatch: pytest.MonkeyPatch):
    constants = pytest.importorskip("huggingface_hub.constants")
    folder = Path(constants.HF_HUB_CACHE, "models--org--r")
    pushed: list[str] = []

    def push(path: str, url: str, **named: object) -> None:
        pushed.append(url)
        shutil.rmtree(folder / "refs")

    monkeypatch.setattr("diskless.upload.push", push)
    with diskless.cache(mirror, only="huggingface", write_back=True):
        for name in ("refs/main", "snapshots/1/config.json"):
            (folder / name).parent.mkdir(parents=True)
            (folder / name).write_text("1")
    assert pushed == [f"{mirror}/models--org--r/snapshots/1/config.json"]


def test_a_mirror_that_is_empty_is_where_write_back_begins(s3_env, bucket, home: Path):
    for expected in ([], [b"first"]):
        with diskless.cache(f"{bucket.url}/new", only="clip", write_back=True):
            directory = home / ".cache/clip"
            assert [path.read_bytes() for path in directory.iterdir()] == expected
            (directory / "first.pt").write_bytes(b"first")
    assert bucket.keys() == ["new/clip/first.pt"]
    with pytest.raises(diskless.NotFound, match="no such bucket"):
        diskless.cache("s3://no-such-bucket/new", only="clip", write_back=True)


def test_nothing_is_written_where_nobody_would_see_it(s3_env, bucket, tmp_path: Path):
    (tmp_path / "clip").mkdir()
    (tmp_path / "clip" / "net.pt").write_bytes(b"net")
    diskless.push(tmp_path, f"{bucket.url}/pushed")
    with diskless.cache(f"{bucket.url}/pushed", only="clip"):
        pass
    with pytest.raises(diskless.AlreadyExists, match="hides all other objects"):
        diskless.cache(f"{bucket.url}/pushed", only="clip", write_back=True)
    with pytest.raises(diskless.InvalidURL, match="only S3 is"):
        diskless.cache(f"file://{tmp_path}", only="clip", write_back=True)


def test_a_list_that_a_library_writes_on(mirror: str, home: Path, bucket):
    bucket.put("m/torch/hub/trusted_list", b"org_one\n")
    trusted = home / ".cache/torch/hub/trusted_list"
    with diskless.cache(mirror, only="torch", write_back=True) as cache:
        assert cache.flush() == 0
        with trusted.open("a") as file:
            file.write("org_two\n")
        assert trusted.read_text() == "org_one\norg_two\n"
    assert bucket.get("m/torch/hub/trusted_list") == b"org_one\norg_two\n"


def test_two_libraries_may_have_one_directory(mirror: str, home: Path, bucket, monkeypatch: pytest.MonkeyPatch):
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setenv("TORCH_HOME", str(home))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
    torch_hub = sys.modules.get("torch.hub")
    if torch_hub is not None:
        monkeypatch.setattr(torch_hub, "get_dir", lambda: str(home / "hub"))
    bucket.put("m/org/name/config.json", b"{}")
    with diskless.cache(mirror, only=["torch", "huggingface"], write_back=True):
        assert (home / "hub/checkpoints/net-0123.pth").read_bytes() == b"state"
        assert (home / "hub/models--org--name/snapshots").is_dir()
        (home / "hub/checkpoints/new.pth").write_bytes(b"new")
        (home / "hub/models--org--other/snapshots/1").mkdir(parents=True)
        (home / "hub/models--org--other/snapshots/1/config.json").write_bytes(b"other")
    assert bucket.get("m/torch/hub/checkpoints/new.pth") == b"new"
    assert [key for key in bucket.keys() if "other/" in key] == ["m/models--org--other/snapshots/1/config.json"]  # noqa: SIM118


def test_tokens_are_never_covered(mirror: str, home: Path, monkeypatch: pytest.MonkeyPatch):
    constants = pytest.importorskip("huggingface_hub.constants")
    home.mkdir()
    for name, path in (("HF_HUB_CACHE", home), ("HF_HOME", home), ("HF_TOKEN_PATH", home / "token")):
        monkeypatch.setattr(constants, name, str(path))
    (home / "token").write_text("hf_secret")
    with diskless.cache(mirror, only="huggingface"):
        assert (home / "token").read_text() == "hf_secret"
        assert (home / "token").stat().st_mode & 0o777 == 0o600
        assert not (home / "stored_tokens").exists()
    assert os.listdir(home) == ["token"]


def test_tokens_are_never_put_into_a_mirror(mirror: str, home: Path, bucket, monkeypatch: pytest.MonkeyPatch):
    constants = pytest.importorskip("huggingface_hub.constants")
    home.mkdir()
    (home / "real").mkdir()
    (home / "link").symlink_to("real")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(home / "link" / "token"))
    (home / "real" / "token").write_text("hf_secret")
    with diskless.cache(mirror, only=[], paths={str(home / "real"): "mine/"}, write_back=True):
        assert (home / "real" / "token").read_text() == "hf_secret"
        (home / "real" / "token").write_text("hf_other")
        (home / "real" / "stored_tokens").write_text("hf_both")
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", "/elsewhere/token")
    assert not [key for key in bucket.keys() if "token" in key]  # noqa: SIM118


def test_a_package_that_somebody_has_made_up(mirror: str, home: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "clip", types.ModuleType("clip"))
    for name in ("huggingface_hub", "open_clip"):
        monkeypatch.setitem(sys.modules, name, None)
    with diskless.cache(mirror):
        assert (home / ".cache/clip/ViT-B-32.pt").exists()
    monkeypatch.setitem(sys.modules, "clip", None)
    with diskless.cache(mirror):
        assert not (home / ".cache/clip/ViT-B-32.pt").exists()


def test_what_nobody_reads_takes_no_descriptor(mirror: str, home: Path, bucket):
    for number in range(40):
        bucket.put(f"m/.locks/{number}.lock", b"")
    with diskless.cache(mirror, only="clip"):
        assert diskless.usage().files < 10
    code = """
    import resource, sys
    import diskless
    resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
    try:
        diskless.cache(sys.argv[1], only="clip")
    except diskless.DescriptorLimit as error:
        print(error)
    """
    for number in range(40):
        bucket.put(f"m/many/{number}", b"")
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), mirror],
        env=os.environ | {"PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "too many objects to be a mirror here" in done.stdout and "allow_patterns" not in done.stdout


def test_two_caches_do_not_cover_one_directory(mirror: str, home: Path):
    with diskless.cache(mirror, only="clip"):
        with pytest.raises(diskless.MountPathError, match=r"\.cache/clip is in RAM already.*only="):
            diskless.cache(mirror, only=["torch", "clip"])
        with diskless.cache(only="torch"):
            assert os.listdir(home / ".cache/torch/hub") == []
        assert (home / ".cache/clip/ViT-B-32.pt").exists()


def test_a_mirror_one_level_off_is_told(mirror: str, home: Path, bucket, caplog: pytest.LogCaptureFixture):
    with diskless.cache(mirror, only="clip"), diskless.cache(mirror, only="torch"):
        assert "one level off" not in caplog.text
    bucket.put("plain/config.json", b"{}")
    with diskless.cache(f"{bucket.url}/plain", only=["clip", "torch"]):
        assert f"{bucket.url}/plain has nothing for clip, torch: no repository such as" in caplog.text


def test_bad_arguments(mirror: str, bucket):
    with pytest.raises(diskless.InvalidOption, match=r"'cilp' is none of huggingface.*paths="):
        diskless.cache(mirror, only=["cilp"])
    with pytest.raises(diskless.InvalidOption, match="needs a mirror"):
        diskless.cache(write_back=True)
    with pytest.raises(diskless.InvalidOption, match="write_back=True"), diskless.cache(mirror, only=[]) as cache:
        cache.flush()
    with pytest.raises(diskless.InvalidOption, match="prefix in the mirror"):
        diskless.cache(mirror, only=[], paths={"~/x": "/absolute"})
    for name, wrong in (("only", 5), ("paths", ["~/x"]), ("prefetch", 5), ("pin", 5)):
        with pytest.raises(diskless.InvalidOption, match=f"{name}= is no"):
            diskless.cache(mirror, **{name: wrong})
    with pytest.raises(diskless.InvalidOption, match="'org/name'"):
        diskless.cache(mirror, only="huggingface", prefetch=[None])
    with pytest.raises(diskless.NotFound, match="nothing-here"):
        diskless.cache(f"{bucket.url}/nothing-here")
    with pytest.raises(diskless.InvalidURL, match="is an object"):
        diskless.cache(f"{mirror}/other")
    with pytest.raises(diskless.BackingUnavailable, match="no filesystem of fsspec"):
        diskless.cache("memory://mirror", only=[])
    with pytest.raises(diskless.InvalidOption, match="need the Tree"):
        diskless.cache(mirror, backing="directory:/dev/shm")
    assert diskless.usage().held_bytes == 0


def test_a_forked_child_reads_it(mirror: str, home: Path):
    with diskless.cache(mirror, only="clip"):
        pid = os.fork()
        if pid == 0:
            os._exit(0 if (home / ".cache/clip/ViT-B-32.pt").read_bytes() == WEIGHTS else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert (home / ".cache/clip/ViT-B-32.pt").read_bytes() == WEIGHTS


def test_closing_twice_and_all_is_given_back(mirror: str, home: Path):
    cache = diskless.cache(mirror, only="clip").install()
    (home / ".cache/clip/ViT-B-32.pt").read_bytes()
    assert "closed" not in repr(cache) and mirror in repr(cache)
    cache.close()
    cache.close()
    assert cache.closed and "closed" in repr(cache)
    gc.collect()
    after = diskless.usage()
    assert (after.files, after.held_bytes, after.scratch_bytes) == (0, 0, 0)
