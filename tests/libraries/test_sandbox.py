"""Where nothing can be written the load works all the same, and no model byte reaches a file.

The sandbox: root read-only, no /dev/shm, no /run, no home, an unprivileged user, 1,024 descriptors, and a /tmp of
1 MiB which importing transformers insists on (torch._dynamo asks `tempfile.gettempdir()`) and which must be empty at
the end. With a scratch over /tmp not even that is needed.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sandbox import NOTHING_WRITABLE, needs_sandbox, sandbox

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

# All that writes into a temporary directory, or wants one to be there.
LOAD_IN_SCRATCH = (
    NOTHING_WRITABLE
    + """
import diskless
with diskless.scratch(at="/tmp"):
    import safetensors.torch, torch, transformers
    from transformers import AutoModel, AutoTokenizer
    with diskless.mount(sys.argv[1] + "/minilm") as path:
        tokenizer, model = AutoTokenizer.from_pretrained(path), AutoModel.from_pretrained(path).eval()
    compiled = torch.compile(model, backend="eager")
    with torch.inference_mode():
        output = compiled(**tokenizer(["RAM is fast"], return_tensors="pt")).last_hidden_state
    tokenizer.save_pretrained("/tmp/saved")
    assert AutoTokenizer.from_pretrained("/tmp/saved")("x") == tokenizer("x")
    state = model.state_dict()
    def check(saved):
        assert list(saved) == list(state) and all(torch.equal(saved[name], state[name]) for name in state)
    torch.save(state, "/tmp/saved/state.pt")
    check(torch.load("/tmp/saved/state.pt", mmap=True))
    safetensors.torch.save_file(state, "/tmp/saved/state.safetensors")
    saved = safetensors.torch.load_file("/tmp/saved/state.safetensors")
    check({name: saved[name] for name in state})
    model.save_pretrained("/tmp/whole")
    check(AutoModel.from_pretrained("/tmp/whole").state_dict())
    model.save_pretrained("/tmp/sharded", max_shard_size="30MB")
    shards = [name for name in os.listdir("/tmp/sharded") if name.endswith(".safetensors")]
    assert len(shards) > 2 and "model.safetensors.index.json" in os.listdir("/tmp/sharded"), shards
    check(AutoModel.from_pretrained("/tmp/sharded").state_dict())
    made = ["/tmp/saved", "/tmp/saved/state.pt", "/tmp/whole/model.safetensors"]
    assert all(map(os.path.exists, made))
print("sum", float(output.double().sum()))
print("left", [name for name in made if os.path.exists(name)])
"""
)

# By name, with the caches in RAM: what the libraries want to write into them is, too.
LOAD_IN_CACHE = (
    NOTHING_WRITABLE
    + """
os.environ["HF_ENDPOINT"] = "http://127.0.0.1:9"
import diskless
with diskless.scratch(at="/tmp"), diskless.cache(sys.argv[1], only=["huggingface", "torch", "tiktoken"]) as cache:
    import torch
    from huggingface_hub import snapshot_download
    from transformers import AutoModel, AutoTokenizer
    tokenizer, model = AutoTokenizer.from_pretrained("minilm"), AutoModel.from_pretrained("minilm").eval()
    with torch.inference_mode():
        output = model(**tokenizer(["RAM is fast"], return_tensors="pt")).last_hidden_state
    assert snapshot_download("minilm").startswith(cache.directories[0])
    made = cache.directories
    assert all(map(os.path.isdir, made)) and "/tmp/data-gym-cache" in made, made
print("sum", float(output.double().sum()))
print("left", [path for path in made if os.path.exists(path)])
"""
)

TRACED = "open,openat,openat2,creat,mmap,write,pwrite64,writev,pwritev,pwritev2,sendfile,copy_file_range,splice"
TRACED += ",fallocate,ftruncate,execve"
# As strace shows a descriptor with the file behind it.
DESCRIPTOR = r"\d+<([^>]*)>"
# Where a traced call names the file that it makes, opens for writing, maps for writing or writes to.
TARGETS = {
    r"creat|open(at2?)?": rf"(creat\(|.*\b(O_WRONLY|O_RDWR|O_CREAT)\b).* = {DESCRIPTOR}",
    r"mmap": rf".*\bPROT_WRITE\b.*\bMAP_SHARED(_VALIDATE)?\b.*, {DESCRIPTOR}, ",
    r"copy_file_range|splice": rf"\w+\(\d+<[^>]*>, [^,]*, {DESCRIPTOR}",
    r"p?writev?2?|pwrite64|sendfile|fallocate|ftruncate": rf"\w+\({DESCRIPTOR}",
}
# What a target may be: RAM files, pipes, sockets, and kernel objects that are no files.
HARMLESS = re.compile(r"/memfd:|pipe:|socket:|TCP|UDP|UNIX|NETLINK|anon_inode:|/dev/null|/proc/|/sys/kernel/mm")
# `tempfile` makes a file in /tmp, to see whether it can, and writes four bytes.
PROBE = re.compile(r'openat\(.*\bO_EXCL\b.* = \d+</tmp/\w{8}>|write\(\d+</tmp/\w{8}>, "blat", 4 *\)')


def _environment() -> dict[str, str]:
    told = {"HOME": "/nonexistent", "PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"}
    told["PYTHONPATH"] = str(Path(__file__).parents[2] / "src")
    return told | {name: value for name, value in os.environ.items() if name.startswith("AWS_")}


def _load(script: str, models: str, trace: Path, *, tmp: bool = True) -> dict[str, str]:
    """Run a script in the sandbox and return what it prints, by its first word. It may write to RAM files alone."""
    strace = ["strace", "-f", "--seccomp-bpf", "-y", "-qq", "-e", "signal=none", "-e", f"trace={TRACED}"]
    command = [*strace, "-o", str(trace), *sandbox(tmp=tmp), sys.executable, "-c", script, models]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=280, env=_environment())
    assert ended.returncode == 0, ended.stderr[-3000:]
    # Not what bubblewrap does to make the sandbox.
    calls = list(_calls(trace.read_text(errors="replace").partition(f'execve("{sys.executable}"')[2]))
    assert any("/memfd:" in str(_target(call)) for call in calls), "the trace shows no transfer at all"
    assert [call for call in calls if _is_of_a_file(call)] == []
    return dict(line.split(" ", 1) for line in ended.stdout.splitlines() if line.startswith(("sum ", "left ")))


@pytest.mark.timeout(300)
@needs_sandbox
def test_a_model_is_loaded_where_nothing_can_be_written(s3_env, models_url, models_on_disk, tmp_path):
    lines = _load(LOAD, models_url, tmp_path / "trace")
    assert lines["left"] == "[]"
    assert float(lines["sum"]) == _sum_from_disk(models_on_disk / "minilm")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("script", [LOAD_IN_SCRATCH, LOAD_IN_CACHE], ids=["by path", "by name"])
@needs_sandbox
def test_with_a_scratch_over_tmp_no_directory_need_be_writable(
    s3_env, models_url, models_on_disk, tmp_path, script: str
):
    lines = _load(script, models_url, tmp_path / "trace", tmp=False)
    assert lines["left"] == "[]"
    assert float(lines["sum"]) == _sum_from_disk(models_on_disk / "minilm")


def _calls(trace: str) -> Iterator[str]:
    """Give the calls of a trace, each in one line though others came in between."""
    begun: dict[str, str] = {}
    for line in trace.splitlines():
        pid, _, call = line.partition(" ")
        call = call.strip()
        if call.endswith("<unfinished ...>"):
            begun[pid] = call.removesuffix("<unfinished ...>")
        elif resumed := re.match(r"<\.\.\. \w+ resumed>", call):
            yield begun.pop(pid, "") + call[resumed.end() :]
        else:
            yield call
    yield from begun.values()


def _target(call: str) -> str | None:
    """Return what a traced call writes to, or may from then on; None where there is nothing."""
    name = call.partition("(")[0]
    for names, place in TARGETS.items():
        if re.fullmatch(names, name):
            found = re.match(place, call)
            return found[found.re.groups] if found else None
    return None


def _is_of_a_file(call: str) -> bool:
    target = _target(call)
    return target is not None and not HARMLESS.match(target) and not PROBE.match(call)


@pytest.mark.parametrize(
    "call",
    [
        'write(5</root/model>, "6</memfd:diskless>"..., 4096) = 4096',
        'pwritev2(5</tmp/abcdefgh>, [{iov_base="blat", iov_len=4}], 1, 0, 0) = 4',
        'write(5</tmp/abcdefgh>, "blatant", 7) = 7',
        "ftruncate(5</root/model>, 4096) = 0",
        "sendfile(5</root/model>, 6</memfd:diskless>, [0] => [4096], 4096) = 4096",
        "copy_file_range(6</memfd:diskless>, NULL, 5</root/model>, NULL, 4096, 0) = 4096",
        "splice(6<pipe:[7]>, NULL, 5</root/model>, [0], 4096, 0) = 4096",
        'open("/root/model", O_RDONLY|O_CREAT, 0666) = 5</root/model>',
        'creat("/root/model", 0666) = 5</root/model>',
        'openat(AT_FDCWD</memfd:diskless>, "/root/model", O_RDWR|O_CLOEXEC) = 5</root/model>',
        'openat(AT_FDCWD</>, "/tmp", O_RDWR|O_EXCL|O_TMPFILE, 0600) = 5</tmp/#7>(deleted)',
        'openat2(AT_FDCWD</>, "/root/model", {flags=O_WRONLY, resolve=0}, 24) = 5</root/model>',
        "mmap(NULL, 4096, PROT_READ|PROT_WRITE, MAP_SHARED, 5</root/model>, 0) = 0x7f0000000000",
    ],
)
def test_a_call_that_writes_to_a_file_would_be_seen(call):
    assert _is_of_a_file(call)


@pytest.mark.parametrize(
    "call",
    [
        'pwrite64(6</memfd:diskless>(deleted), "5</root/model>"..., 4096, 0) = 4096',
        'write(1<pipe:[7]>, "sum 1\\n", 6) = 6',
        "sendfile(6</memfd:diskless>, 5</root/model>, NULL, 4096) = 4096",
        "copy_file_range(5</root/model>, NULL, 6</memfd:diskless>, NULL, 4096, 0) = 4096",
        'openat(AT_FDCWD</>, "/root/model", O_RDONLY|O_CLOEXEC) = 5</root/model>',
        'openat(AT_FDCWD</>, "/root/model", O_RDWR|O_CREAT, 0666) = -1 EROFS (Read-only file system)',
        'openat(AT_FDCWD</>, "/dev/null", O_RDWR) = 5</dev/null>',
        "mmap(NULL, 4096, PROT_READ|PROT_WRITE, MAP_PRIVATE, 5</root/model>, 0) = 0x7f0000000000",
        "mmap(NULL, 4096, PROT_READ, MAP_SHARED, 5</root/model>, 0) = 0x7f0000000000",
        "mmap(NULL, 4096, PROT_READ|PROT_WRITE, MAP_SHARED, 6</memfd:diskless>, 0) = 0x7f0000000000",
        'openat(AT_FDCWD</>, "/tmp/abcdefgh", O_RDWR|O_CREAT|O_EXCL|O_NOFOLLOW, 0600) = 5</tmp/abcdefgh>',
        'write(5</tmp/abcdefgh>, "blat", 4) = 4',
        'write(5</tmp/abcdefgh>, "blat", 4 )        = 4',  # in two halves
    ],
)
def test_a_call_that_writes_to_ram_or_nowhere_is_let_pass(call):
    assert not _is_of_a_file(call)


def test_the_halves_of_a_call_are_one():
    trace = (
        '7  openat(AT_FDCWD</>, "/a", O_RDWR <unfinished ...>\n'
        '8  write(1<pipe:[7]>, "x", 1) = 1\n'
        "7  <... openat resumed>) = 5</a>\n"
        '8  write(5</a>, "x", 1 <unfinished ...>\n'
    )
    assert [call for call in _calls(trace) if _is_of_a_file(call)] == [
        'openat(AT_FDCWD</>, "/a", O_RDWR ) = 5</a>',
        'write(5</a>, "x", 1 ',
    ]


def _sum_from_disk(directory: Path) -> float:
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(str(directory)), AutoModel.from_pretrained(str(directory)).eval()
    with torch.inference_mode():
        output = model(**tokenizer(["RAM is fast"], return_tensors="pt")).last_hidden_state
    return float(output.double().sum())
