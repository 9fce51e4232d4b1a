"""Where nothing can be written the load works all the same, and no model byte reaches a file.

The sandbox: root read-only, no /dev/shm, no /run, no home, an unprivileged user, 1,024 descriptors, and a /tmp of
1 MiB which importing transformers insists on (torch._dynamo asks `tempfile.gettempdir()`) and which must be empty at
the end.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

LOAD = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024))
for path in ("/dev/shm", "/run", os.path.expanduser("~"), "/"):
    try:
        open(os.path.join(path, "probe"), "w")
    except OSError:
        continue
    sys.exit(f"{path} is writable: this is no sandbox")
import diskless
job = diskless.prefetch(sys.argv[1] + "/minilm")
import torch
import torch._dynamo
from transformers import AutoModel, AutoTokenizer
# Importing torch._dynamo makes torch's cache directory, empty: rmdir fails if it is not.
for name in os.listdir("/tmp"):
    os.rmdir(os.path.join("/tmp", name))
with diskless.mount(sys.argv[1] + "/minilm") as path:
    tokenizer, model = AutoTokenizer.from_pretrained(path), AutoModel.from_pretrained(path).eval()
    with torch.inference_mode():
        output = model(**tokenizer(["RAM is fast"], return_tensors="pt")).last_hidden_state
print("sum", float(output.double().sum()))
print("left", os.listdir("/tmp"))
"""

WRITES = "write,pwrite64,writev,pwritev,pwritev2,sendfile,copy_file_range,splice,fallocate,ftruncate"
# What a descriptor may be that is written to: RAM files, pipes, sockets, and kernel objects that are no files.
HARMLESS = re.compile(r"<(/memfd:|pipe:|socket:|TCP|UDP|UNIX|NETLINK|anon_inode:|/dev/null|/proc/|/sys/kernel/mm)")

HIDDEN = sys.prefix.startswith(("/tmp/", "/run/", "/dev/shm/"))


def _sandbox(*command: str) -> list[str]:
    environment = {"HOME": "/nonexistent", "PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"}
    environment |= {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    source = str(Path(__file__).parents[2] / "src")
    return [
        *("bwrap", "--unshare-user", "--uid", "65534", "--gid", "65534", "--unshare-pid"),
        *("--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev"),
        *("--tmpfs", "/dev/shm", "--remount-ro", "/dev/shm", "--remount-ro", "/dev"),
        *("--size", str(1 << 20), "--tmpfs", "/tmp", "--tmpfs", "/run", "--remount-ro", "/run"),
        *("--clearenv", "--setenv", "PYTHONPATH", source),
        *(word for name, value in environment.items() for word in ("--setenv", name, value)),
        *("--chdir", "/", *command),
    ]


@pytest.mark.timeout(300)
@pytest.mark.skipif(shutil.which("bwrap") is None, reason="needs bubblewrap (Debian: bubblewrap)")
@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
@pytest.mark.skipif(HIDDEN, reason="the Python that runs this lies in a directory that the sandbox hides")
def test_a_model_is_loaded_where_nothing_can_be_written(s3_env, models_url, models_on_disk, tmp_path):
    trace = tmp_path / "trace"
    # Not below /tmp, which the sandbox hides.
    command = _sandbox(sys.executable, "-c", LOAD, models_url)
    ended = subprocess.run(
        ["strace", "-f", "-y", "-qq", "-e", f"trace={WRITES}", "-e", "signal=none", "-o", str(trace), *command],
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    lines = dict(line.split(" ", 1) for line in ended.stdout.splitlines() if line.startswith(("sum ", "left ")))
    assert lines["left"] == "[]"
    assert float(lines["sum"]) == _sum_from_disk(models_on_disk / "minilm")

    written = [line for line in trace.read_text(errors="replace").splitlines() if re.search(r"\b\w+\(\d+<", line)]
    assert any("/memfd:" in line for line in written), "the trace shows no transfer at all"
    suspicious = [line for line in written if not HARMLESS.search(line) and not re.search(r"write\([12]<", line)]
    assert not [line for line in suspicious if not _probe(line)], suspicious[:5]


def _probe(line: str) -> bool:
    """Whether a traced write is `tempfile`'s own probe of /tmp, of five bytes (``blat``)."""
    return "/tmp/" in line and '"blat"' in line


def _sum_from_disk(directory: Path) -> float:
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(str(directory)), AutoModel.from_pretrained(str(directory)).eval()
    with torch.inference_mode():
        output = model(**tokenizer(["RAM is fast"], return_tensors="pt")).last_hidden_state
    return float(output.double().sum())
