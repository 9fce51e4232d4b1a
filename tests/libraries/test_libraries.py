"""What libraries read from a mounted bucket equals, bit for bit, what they read from disk, on both Backings."""

from __future__ import annotations

import glob
import hashlib
import os
import pickle
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy
import pytest

from tests.libraries.bits import same_bits, same_state

torch = pytest.importorskip("torch")


def _embed(directory: Path):
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(directory))
    model = AutoModel.from_pretrained(str(directory)).eval()
    with torch.inference_mode():
        return model(**tokenizer(["RAM is fast", "disks are not"], padding=True, return_tensors="pt")).last_hidden_state


@pytest.mark.parametrize(
    ("ours", "theirs", "same"),
    [
        ([0.0, float("nan")], [0.0, float("nan")], True),
        ([0.0], [-0.0], False),
        ([1.0, 2.0], [[1.0, 2.0]], False),
        ([1], [1.0], False),
    ],
)
def test_the_comparison_is_one_of_bits(ours, theirs, same):
    assert same_bits(torch.tensor(ours), torch.tensor(theirs)) == same
    assert same_bits(numpy.array(ours), numpy.array(theirs)) == same


@pytest.mark.parametrize("name", ["minilm", "minilm-bin"])
def test_transformers_gives_the_outputs_it_gives_from_disk(models, name):
    assert same_bits(_embed(models.mounted / name), _embed(models.disk / name))


def test_safe_open_reads_every_tensor(models):
    from safetensors import safe_open

    with (
        safe_open(models.mounted / "minilm/model.safetensors", framework="pt") as ours,
        safe_open(models.disk / "minilm/model.safetensors", framework="pt") as theirs,
    ):
        assert list(ours.keys()) == list(theirs.keys())
        for name in theirs.keys():  # noqa: SIM118 - not a dict
            assert same_bits(ours.get_tensor(name), theirs.get_tensor(name))


def test_rust_tokenizers_read_a_file(models):
    from tokenizers import Tokenizer

    text = "An unaffable tokenizer, 123."
    ours = Tokenizer.from_file(str(models.mounted / "minilm/tokenizer.json")).encode(text)
    theirs = Tokenizer.from_file(str(models.disk / "minilm/tokenizer.json")).encode(text)
    assert (ours.ids, ours.tokens, ours.offsets) == (theirs.ids, theirs.tokens, theirs.offsets)


@pytest.mark.parametrize("weights_only", [{}, {"weights_only": True}, {"weights_only": False}], ids=str)
@pytest.mark.parametrize("mmap", [{}, {"mmap": True}], ids=str)
def test_torch_load(models, mmap, weights_only):
    ours = torch.load(str(models.mounted / "minilm-bin/pytorch_model.bin"), **mmap, **weights_only)
    theirs = torch.load(models.disk / "minilm-bin/pytorch_model.bin", **mmap, **weights_only)
    assert same_state(ours, theirs)


def test_pickle_load_of_a_state_dict(models):
    with (
        open(models.mounted / "formats/state.pkl", "rb") as ours,
        open(models.disk / "formats/state.pkl", "rb") as theirs,
    ):
        a, b = pickle.load(ours), pickle.load(theirs)
    assert all(isinstance(tensor, torch.Tensor) for tensor in b.values())
    assert same_state(a, b)


def test_torchscript(models):
    ours = torch.jit.load(str(models.mounted / "formats/silero_vad.jit"))
    theirs = torch.jit.load(models.disk / "formats/silero_vad.jit")
    sound = torch.sin(torch.arange(512) / 7).unsqueeze(0)
    with torch.inference_mode():
        assert same_bits(ours(sound, 16000), theirs(sound, 16000))


def test_onnxruntime(models):
    import onnxruntime

    inputs = {
        "input": numpy.sin(numpy.arange(512, dtype=numpy.float32) / 7)[None],
        "state": numpy.zeros((2, 1, 128), numpy.float32),
        "sr": numpy.array(16000, numpy.int64),
    }
    results = [
        onnxruntime.InferenceSession(str(place / "formats/silero_vad.onnx"), providers=["CPUExecutionProvider"]).run(
            None, inputs
        )
        for place in (models.mounted, models.disk)
    ]
    assert all(same_bits(ours, theirs) for ours, theirs in zip(*results, strict=True))


def test_safetensors_load_file(models):
    from safetensors.torch import load_file

    ours = load_file(models.mounted / "formats/silero_vad_16k.safetensors")
    theirs = load_file(models.disk / "formats/silero_vad_16k.safetensors")
    assert same_state(ours, theirs)


def test_numpy_memmap(models):
    ours = numpy.load(models.mounted / "formats/array.npy", mmap_mode="r")
    assert isinstance(ours, numpy.memmap)
    assert same_bits(ours, numpy.load(models.disk / "formats/array.npy"))


@pytest.mark.parametrize("query", ["?mode=ro", "?mode=ro&immutable=1"])
def test_sqlite_reads_only(models, query):
    def opened(place: Path):
        return closing(sqlite3.connect(f"file:{place}/formats/table.sqlite{query}", uri=True))

    with opened(models.mounted) as ours, opened(models.disk) as theirs:
        rows = theirs.execute("select * from words").fetchall()
        assert ours.execute("select * from words").fetchall() == rows != []
        with pytest.raises(sqlite3.OperationalError, match=r"readonly|read-only"):
            ours.execute("delete from words")


def _tree(directory: Path) -> dict[str, str]:
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in directory.rglob("*")
        if path.is_file()
    }


def test_pathlib_walks_and_reads_every_file(models):
    assert _tree(models.mounted) == _tree(models.disk)


def test_os_walk_lists_what_the_disk_lists(models):
    def walked(top: Path):
        return sorted((os.path.relpath(at, top), sorted(dirs), sorted(names)) for at, dirs, names in os.walk(top))

    assert walked(models.mounted) == walked(models.disk)


def test_glob_finds_what_it_finds_on_disk(models):
    def found(top: Path):
        return sorted(os.path.relpath(name, top) for name in glob.glob(f"{top}/**/*.json", recursive=True))

    assert found(models.mounted) == found(models.disk) != []
