"""What safetensors writes to a path in RAM is what it writes to a disk: bytes, mode, errors, and what is left."""

from __future__ import annotations

import ctypes
import math
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import diskless
from tests.libraries.bits import same_state
from tests.programs import environment

safetensors = pytest.importorskip("safetensors")
pytestmark = pytest.mark.skipif(
    not hasattr(safetensors, "TensorSpec"), reason="before 0.8 the writer goes through libc, and nothing is replaced"
)
BUFFER = ctypes.create_string_buffer(numpy.random.default_rng(5).bytes(4096), 4096)
PACKED = "float4_e2m1fn_x2"  # two values in a byte; the last dimension counts bytes
BITS = {"bool": 8, PACKED: 8}


def _dtypes() -> list[str]:
    """Return every dtype that the library knows: its complaint of one that it does not names them."""
    with pytest.raises(safetensors.SafetensorError) as caught:
        safetensors.TensorSpec(dtype="none", shape=[], data_ptr=0, data_len=0)
    return str(caught.value).partition("Supported dtypes: ")[2].split(", ")


def _spec(dtype: str, shape: Sequence[int], *, more_bytes: int = 0) -> Any:
    bits = BITS.get(dtype) or int(re.sub(r"^\D+|_.*", "", dtype))
    size = math.prod(shape) * bits // 8 + more_bytes
    return safetensors.TensorSpec(dtype=dtype, shape=shape, data_ptr=ctypes.addressof(BUFFER), data_len=size)


@pytest.fixture
def scratch() -> Iterator[Path]:
    with diskless.scratch(budget="8MiB") as path:
        yield Path(path)


TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=8)
SHAPES = st.lists(st.integers(0, 7), max_size=3)
TENSORS = st.dictionaries(
    TEXTS | st.sampled_from(["a", "b", "__metadata__", 'é\n\0\x7f"\\']),
    st.deferred(lambda: st.tuples(st.sampled_from(_dtypes()), SHAPES)).filter(lambda each: each != (PACKED, [])),
    max_size=8,
)
# With more than one entry the library's own order is another one each time.
METADATA = st.none() | st.dictionaries(TEXTS, TEXTS, max_size=1)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tensors=TENSORS, metadata=METADATA)
def test_the_bytes_are_those_of_a_file_on_disk(scratch, tmp_path, tensors, metadata):
    assume(tensors or metadata != {})  # of which the library makes a header that is no JSON
    specs = {name: _spec(dtype, shape) for name, (dtype, shape) in tensors.items()}
    for place in (scratch, tmp_path):
        safetensors.serialize_file(specs, place / "file", metadata)
    ours, theirs = scratch / "file", tmp_path / "file"
    assert ours.read_bytes() == theirs.read_bytes()
    assert ours.stat().st_mode == theirs.stat().st_mode
    assert os.listdir(scratch) == ["file"]


def test_every_dtype_has_its_place_in_the_file(scratch, tmp_path):
    specs = {dtype: _spec(dtype, [2, 4]) for dtype in _dtypes()}
    assert len(specs) >= 20
    for place in (scratch, tmp_path):
        safetensors.serialize_file(specs, str(place / "all"))
    assert (scratch / "all").read_bytes() == (tmp_path / "all").read_bytes()


def test_torch_and_numpy_read_back_what_they_saved(scratch):
    torch = pytest.importorskip("torch")
    import safetensors.numpy
    import safetensors.torch

    tensors = {"none": torch.zeros(0, 3), "one": torch.ones(()), "w": torch.arange(6.0).to(torch.bfloat16).view(2, 3)}
    safetensors.torch.save_file(tensors, scratch / "torch", {"format": "pt"})
    assert same_state(safetensors.torch.load_file(scratch / "torch"), tensors)
    model = torch.nn.Linear(3, 3)
    safetensors.torch.save_model(model, str(scratch / "model"))
    other = torch.nn.Linear(3, 3)
    safetensors.torch.load_model(other, scratch / "model")
    assert same_state(other.state_dict(), model.state_dict())
    arrays = {"a": numpy.arange(6, dtype=numpy.int16)}
    safetensors.numpy.save_file(arrays, scratch / "numpy")
    assert same_state(safetensors.numpy.load_file(scratch / "numpy"), arrays)


def _error(call: Callable[[], object]) -> tuple[type[BaseException], str] | None:
    try:
        call()
    except Exception as error:
        return type(error), re.sub(r'(?<= at path ").*/\.tmp\w+"', 'a new file"', str(error))
    return None


FAILING = {
    "no such directory": lambda top: safetensors.serialize_file({}, top / "missing" / "file"),
    "a file for a directory": lambda top: safetensors.serialize_file({}, top / "there" / "file"),
    "a directory": lambda top: safetensors.serialize_file({}, top / "directory"),
    "a slash behind it": lambda top: safetensors.serialize_file({}, f"{top}/there/"),
    "a long name": lambda top: safetensors.serialize_file({}, top / ("n" * 256)),
    "bytes": lambda top: safetensors.serialize_file({}, os.fsencode(top / "file")),
    "no tensor": lambda top: safetensors.serialize_file({"a": 1}, top / "file"),
    "no name": lambda top: safetensors.serialize_file({1: _spec("int8", [1])}, top / "file"),
    "no text": lambda top: safetensors.serialize_file({"\ud800": _spec("int8", [1])}, top / "file"),
    "no metadata": lambda top: safetensors.serialize_file({}, top / "file", {"a": 1}),
    "another size": lambda top: safetensors.serialize_file({"a": _spec("int8", [4], more_bytes=1)}, top / "file"),
    "no argument": lambda top: safetensors.serialize_file({}),
}


@pytest.mark.parametrize("call", FAILING.values(), ids=FAILING.keys())
def test_errors_are_those_of_the_library(scratch, tmp_path, call):
    answers = []
    for top in (scratch, tmp_path):
        (top / "directory").mkdir()
        (top / "there").touch()
        answers.append(_error(lambda top=top: call(top)))
        assert sorted(os.listdir(top)) == ["directory", "there"]
    assert answers[0] is not None
    assert answers[0] == answers[1]


def test_a_budget_that_is_spent_leaves_what_was_there(scratch):
    import safetensors.numpy

    safetensors.numpy.save_file({"a": numpy.arange(4)}, scratch / "file")
    before = (scratch / "file").read_bytes()
    with pytest.raises(safetensors.SafetensorError, match=r"I/O error: No space left on device \(os error 28\)$"):
        safetensors.numpy.save_file({"a": numpy.ones(2 << 20)}, scratch / "file")
    assert (scratch / "file").read_bytes() == before
    assert os.listdir(scratch) == ["file"]


def test_what_a_file_replaces_stays_where_it_is_mapped(scratch):
    torch = pytest.importorskip("torch")
    import safetensors.torch

    safetensors.torch.save_file({"a": torch.zeros(5000)}, scratch / "file")
    loaded = safetensors.torch.load_file(scratch / "file")["a"]
    safetensors.torch.save_file({"a": torch.ones(10)}, scratch / "file")
    assert same_state({"a": loaded}, {"a": torch.zeros(5000)})
    assert same_state(safetensors.torch.load_file(scratch / "file"), {"a": torch.ones(10)})


def test_a_read_only_mount_over_a_directory_keeps_the_disk_as_it_is(s3_env, bucket, tmp_path):
    bucket.put("a.txt", b"in RAM")
    with (
        diskless.mount(bucket.url, at=tmp_path),
        pytest.raises(safetensors.SafetensorError, match=r"Read-only file system \(os error 30\) at path"),
    ):
        safetensors.serialize_file({}, tmp_path / "file")
    assert os.listdir(tmp_path) == []


def test_a_working_directory_in_ram_is_where_relative_paths_lead(scratch):
    before = os.getcwd()
    os.chdir(scratch)
    try:
        safetensors.serialize_file({}, "relative")
        assert (scratch / "relative").exists()
    finally:
        os.chdir(before)


def run(script: str) -> str:
    path = os.pathsep.join(filter(None, sys.path))
    command = [sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, env=environment(PYTHONPATH=path))
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


@pytest.mark.parametrize("first", ["", "import safetensors.numpy", "from safetensors import serialize_file"])
def test_the_order_of_imports_does_not_matter_and_all_is_put_back(first):
    script = f"""
import sys, types, numpy
{first}
early = globals().get("serialize_file")
import diskless
finders = list(sys.meta_path)
outer, inner = diskless.scratch(), diskless.scratch()
import safetensors.numpy
from safetensors import _safetensors_rust, serialize_file
held = serialize_file
users = [safetensors, _safetensors_rust, sys.modules["__main__"]]
assert all(user.serialize_file is held for user in (*users, safetensors.numpy))
assert early in (None, held.__wrapped__)
other = safetensors.numpy.serialize_file = lambda *arguments, **more: held(*arguments, **more)
for place in (outer, inner):
    safetensors.numpy.save_file({{"a": numpy.arange(3)}}, place.path + "/file")
    assert list(safetensors.numpy.load_file(place.path + "/file")["a"]) == [0, 1, 2]
    assert safetensors.serialize_file is held
    place.close()
assert sys.meta_path == finders
assert safetensors.numpy.serialize_file is other, "what somebody else put there stays"
assert all(type(user.serialize_file) is types.BuiltinFunctionType for user in users)
try:
    held({{}}, outer.path + "/file")
except safetensors.SafetensorError as error:
    print("No such file" in str(error))
"""
    assert run(script) == "True\n"


def test_a_forked_child_writes_too():
    script = """
import diskless, numpy, os
import safetensors.numpy
with diskless.scratch() as path:
    safetensors.numpy.save_file({"a": numpy.zeros(3)}, path + "/file")
    if os.fork() == 0:
        safetensors.numpy.save_file({"a": numpy.ones(3)}, path + "/file")
        os._exit(int(safetensors.numpy.load_file(path + "/file")["a"].sum()))
    print(os.waitstatus_to_exitcode(os.wait()[1]), safetensors.numpy.load_file(path + "/file")["a"].sum())
"""
    assert run(script) == "3 0.0\n"


def test_tensors_are_written_from_where_they_stand():
    script = """
import diskless, numpy
import safetensors.numpy
def peak_bytes():
    return int(open("/proc/self/status").read().partition("VmHWM:")[2].split()[0]) << 10
tensors = {"a": numpy.ones(16 << 20)}  # 128 MiB
with diskless.scratch() as path:
    safetensors.numpy.save_file({"a": numpy.ones(9)}, path + "/file")
    before = peak_bytes()
    safetensors.numpy.save_file(tensors, path + "/file")
    print(peak_bytes() - before < 8 << 20)
"""
    assert run(script) == "True\n"


def test_a_directory_of_plain_files_needs_nothing_replaced(tmp_path):
    script = f"""
import diskless, numpy, sys, types
finders = list(sys.meta_path)
with diskless.scratch(backing="directory:{tmp_path}") as path:
    import safetensors.numpy
    assert type(safetensors.numpy.serialize_file) is types.BuiltinFunctionType
    assert sys.meta_path == finders
    safetensors.numpy.save_file({{"a": numpy.ones(3)}}, path + "/file")
    print(safetensors.numpy.load_file(path + "/file"))
"""
    assert run(script) == "{'a': array([1., 1., 1.])}\n"


def test_an_object_that_only_says_that_it_is_a_module_is_left_alone(monkeypatch):
    """Such as the libraries of cffi that pyOpenSSL or cryptography put into `sys.modules`."""

    class Library:
        __slots__ = ()
        __class__ = type(sys)

    monkeypatch.setitem(sys.modules, "a_library_of_cffi", Library())
    with diskless.scratch() as path:
        safetensors.serialize_file({}, f"{path}/file")
        assert os.listdir(path) == ["file"]
