"""Beside other tools that redirect calls: profilers, allocators, preloaded interposers, patchers of the same slots."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.native.tree import HERE, compile_text
from tests.servers import Bucket, S3Server

JEMALLOC = [
    path for path in Path("/usr/lib").glob("*-linux-gnu/libjemalloc.so.2") if os.uname().machine in path.parent.name
]


def run(script: str, *command: str, **environment: str) -> str:
    """Run Python code by `command`, which may be a tool; returns what it printed."""
    prelude = f"import ctypes, os, sys\nsys.path[:0] = {sys.path!r}\n"
    file = os.path.join(environment["FOLDER"], "script.py")
    Path(file).write_text(prelude + script)
    done = subprocess.run(
        [*(command or (sys.executable,)), file],
        capture_output=True,
        text=True,
        timeout=100,
        env=os.environ | environment,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("own_slot", [0, 1], ids=["calls what it found", "calls by its own slot"])
@pytest.mark.parametrize("first", ["tool", "diskless"])
@pytest.mark.parametrize("removed_first", ["tool", "diskless"])
def test_a_patcher_of_the_same_slots(own_slot: int, first: str, removed_first: str, tmp_path: Path) -> None:
    tool = compile_text((HERE / "tool.c").read_text(), tmp_path / "tool.so")
    script = f"""
from tests.native.tree import NativeTree
tool = ctypes.CDLL({str(tool)!r})

def seen(path):
    "How often the tool was called by opening, closing and asking for it."
    before = tool.tool_calls()
    os.stat(path)
    os.close(os.open(path, os.O_RDONLY))
    return tool.tool_calls() - before

tree = NativeTree()
if {first!r} == "tool":
    tool.tool_install({own_slot})
    tree.__enter__()
else:
    tree.__enter__()
    tool.tool_install({own_slot})
tree.file("a", b"bytes")

def ours():
    seen(tree.path("a"))
    return open(tree.path("a"), "rb").read() == b"bytes"

assert ours()
assert seen("/etc/passwd") == 3, seen("/etc/passwd")
import _decimal, _sqlite3     # loaded while both are there
assert ours() and seen("/etc/passwd") == 3

if {removed_first!r} == "tool":
    tool.tool_remove()
    assert ours(), "the tool took ours away"
    tree.deactivate()
    assert not os.path.exists(tree.path("a"))
    tool.tool_remove()
    assert seen("/etc/passwd") == 0
else:
    tree.deactivate()
    assert not os.path.exists(tree.path("a"))
    assert seen("/etc/passwd") == 3 and tool.tool_slots() > 0, "ours took the tool's away"
    assert tree.call("patched_slots") == 0
    tool.tool_remove()
    os.close(os.open("/etc/passwd", os.O_RDONLY))
assert tool.tool_slots() == 0
# Once more: nothing of the first time is in the way.
tree.activate()
assert ours()
tree.deactivate()
assert tree.call("patched_slots") == 0 and not os.path.exists(tree.path("a"))
assert os.stat("/etc/passwd").st_size > 0
print("both worked")
"""
    assert run(script, FOLDER=str(tmp_path)) == "both worked\n"


@pytest.mark.parametrize("when", ["at start", "at the first call"])
def test_a_preloaded_interposer_that_asks_for_the_next_function(when: str, tmp_path: Path) -> None:
    source = """
        #include <dlfcn.h>
        int preloaded_calls;
        typedef int Open(const char *, int, int);
        static Open *next, *next64;
        static void __attribute__((constructor)) begin(void) {
          if (!AT_START) return;
          next = dlsym(RTLD_NEXT, "open");
          next64 = dlsym(RTLD_NEXT, "open64");
        }
        int open(const char *path, int flags, int mode) {
          if (!next) next = dlsym(RTLD_NEXT, "open");
          preloaded_calls++;
          return next(path, flags, mode);
        }
        int open64(const char *path, int flags, int mode) {
          if (!next64) next64 = dlsym(RTLD_NEXT, "open64");
          preloaded_calls++;
          return next64(path, flags, mode);
        }
    """
    preloaded = compile_text(source, tmp_path / "preloaded.so", f"-DAT_START={int(when == 'at start')}")
    script = """
from tests.native.tree import NativeTree
calls = ctypes.c_int.in_dll(ctypes.CDLL(None), "preloaded_calls")

def seen(path):
    before = calls.value
    os.close(os.open(path, os.O_RDONLY))
    return calls.value - before

with NativeTree() as tree:
    tree.file("a", b"bytes")
    assert open(tree.path("a"), "rb").read() == b"bytes"
    assert seen("/etc/passwd") == 1
    c = ctypes.CDLL(None).open     # asked for by name: the answer is the preloaded one's, as without us
    os.close(c(b"/etc/passwd", os.O_RDONLY))
    tree.deactivate()
    assert tree.call("patched_slots") == 0
    assert seen("/etc/passwd") == 1
    assert not os.path.exists(tree.path("a"))
    # Once more: that it is there does not mean that it has taken our place meanwhile.
    tree.activate()
    assert open(tree.path("a"), "rb").read() == b"bytes"
    assert seen("/etc/passwd") == 1
print("both worked")
"""
    assert run(script, FOLDER=str(tmp_path), LD_PRELOAD=str(preloaded)) == "both worked\n"


MOUNT = """
import diskless
from diskless import native_api as native
late = ctypes.CDLL({late!r}) if not {after} else None
for _ in range(2):
    with diskless.mount({url!r}) as path:
        assert native.patched_slots() > 0
        assert open(path + "/weights", "rb").read() == b"w" * 1_000_000
        assert os.listdir(path) == ["weights"]
        late = late or ctypes.CDLL({late!r})   # an object that is loaded while both are there
        late.grab.restype = ctypes.c_void_p
        for _ in range(8):
            late.give(ctypes.c_void_p(late.grab(4 << 20)))
    assert not os.path.exists(path)
    assert native.patched_slots() == 0
kept = [late.grab(5 << 20) for _ in range(4)]
print("mounted, read, closed")
"""


@pytest.fixture
def late(tmp_path: Path) -> Path:
    """A library that allocates."""
    source = """
        #include <stdlib.h>
        #include <string.h>
        void *grab(size_t size) { return memset(malloc(size), 1, size); }
        void give(void *memory) { free(memory); }
    """
    return compile_text(source, tmp_path / "late.so")


@pytest.mark.parametrize("after", [False, True], ids=["loaded before", "loaded while a Mount is open"])
def test_memray_sees_every_allocation_while_mounts_come_and_go(
    s3_env: S3Server, bucket: Bucket, late: Path, after: bool, tmp_path: Path
) -> None:
    pytest.importorskip("memray")
    bucket.put("m/weights", b"w" * 1_000_000)
    results = tmp_path / "results.bin"
    script = MOUNT.format(late=str(late), url=bucket.url + "/m/", after=after)
    memray = [sys.executable, "-m", "memray"]
    out = run(script, *memray, "run", "--native", "-o", str(results), FOLDER=str(tmp_path))
    assert "mounted, read, closed" in out
    done = subprocess.run(
        [*memray, "stats", "--json", "-o", str(tmp_path / "stats.json"), "-n", "20", str(results)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    stats = json.loads((tmp_path / "stats.json").read_text())
    sizes = stats["allocation_size_histogram"]
    assert stats["total_bytes_allocated"] > 16 * (4 << 20) + 4 * (5 << 20), sizes
    assert stats["metadata"]["has_native_traces"]


@pytest.mark.skipif(not JEMALLOC, reason="jemalloc (libjemalloc2) is not installed")
def test_with_jemalloc_preloaded(s3_env: S3Server, bucket: Bucket, late: Path, tmp_path: Path) -> None:
    bucket.put("m/weights", b"w" * 1_000_000)
    script = MOUNT.format(late=str(late), url=bucket.url + "/m/", after=True) + (
        "assert 'jemalloc' in open('/proc/self/maps').read()\n"
    )
    out = run(script, FOLDER=str(tmp_path), LD_PRELOAD=str(JEMALLOC[0]))
    assert "mounted, read, closed" in out
