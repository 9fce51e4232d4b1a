"""What writes and reads by fsspec, on ram://: each library itself."""

from __future__ import annotations

import fsspec
import joblib
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
import torch
from fsspec.implementations.asyn_wrapper import AsyncFileSystemWrapper

import diskless

FRAME = pd.DataFrame({"a": range(1000), "b": [str(number) for number in range(1000)]})


@pytest.fixture
def url(tree_fs, place):
    return tree_fs.unstrip_protocol(place)


@pytest.mark.filterwarnings("ignore:UPath 'ram' filesystem not explicitly implemented")
def test_universal_pathlib(url):
    upath = pytest.importorskip("upath")
    path = upath.UPath(url)
    (path / "sub").mkdir()
    (path / "sub/a.txt").write_text("alpha")
    assert [each.name for each in path.rglob("*.txt")] == ["a.txt"]
    assert (path / "sub" / "a.txt").read_bytes() == b"alpha" and (path / "sub").is_dir()
    (path / "sub/a.txt").rename(path / "b.txt")
    assert [each.name for each in path.iterdir() if each.is_file()] == ["b.txt"]
    (path / "b.txt").unlink()
    assert not (path / "b.txt").exists()


def test_pandas(url):
    FRAME.to_parquet(f"{url}/t.parquet")
    FRAME.to_csv(f"{url}/t.csv", index=False)
    assert pd.read_parquet(f"{url}/t.parquet").equals(FRAME)
    assert pd.read_csv(f"{url}/t.csv", dtype={"b": str}).equals(FRAME)


def test_pyarrow_writes_and_reads_a_dataset(tree_fs, place):
    table = pa.Table.from_pandas(FRAME)
    pa.dataset.write_dataset(table, f"{place}/set", format="parquet", filesystem=tree_fs)
    found = pa.dataset.dataset(f"{place}/set", filesystem=tree_fs)
    assert found.to_table(columns=["a"], filter=pa.dataset.field("a") < 10).num_rows == 10
    pq.write_table(table, f"{place}/one.parquet", filesystem=tree_fs)
    assert pq.read_table(f"{place}/one.parquet", filesystem=tree_fs).equals(table)


def test_polars_reads_the_same_file_as_a_path(url, tree_fs, place, polars):
    FRAME.to_parquet(f"{url}/t.parquet")
    with diskless.scratch():  # while which paths show
        assert polars.scan_parquet(f"{place}/t.parquet").filter(polars.col("a") > 990).collect().height == 9
    with tree_fs.open(f"{place}/t.parquet") as file:
        assert polars.read_parquet(file).height == 1000


def test_zarr(tree_fs, place):
    zarr = pytest.importorskip("zarr", minversion="3")
    store = zarr.storage.FsspecStore(AsyncFileSystemWrapper(tree_fs, asynchronous=True), path=place)
    array = zarr.create_array(store, shape=(100, 100), chunks=(10, 100), dtype="f4")
    array[:] = np.arange(10_000).reshape(100, 100)
    again = zarr.open_array(store, mode="r")
    assert np.array_equal(again[35:45, ::3], np.arange(10_000).reshape(100, 100)[35:45, ::3])


def test_a_distributed_checkpoint(url):
    from torch.distributed import checkpoint
    from torch.distributed.checkpoint._fsspec_filesystem import FsspecReader, FsspecWriter

    state = {"weight": torch.arange(100_000.0), "step": torch.tensor(7)}
    checkpoint.save(state, storage_writer=FsspecWriter(f"{url}/checkpoint"), no_dist=True)
    found = {"weight": torch.zeros(100_000), "step": torch.tensor(0)}
    checkpoint.load(found, storage_reader=FsspecReader(f"{url}/checkpoint"), no_dist=True)
    assert torch.equal(found["weight"], state["weight"]) and found["step"] == 7


def test_what_takes_file_objects(url, tree_fs, place):
    with fsspec.open(f"{url}/state.pt", "wb") as file:
        torch.save({"a": torch.arange(10)}, file)
    with fsspec.open(f"{url}/state.pt") as file:
        assert torch.load(file)["a"].tolist() == list(range(10))
    with tree_fs.open(f"{place}/a.npy", "wb") as file:
        np.save(file, np.arange(5))
    with tree_fs.open(f"{place}/a.npy") as file:
        assert np.load(file).tolist() == [0, 1, 2, 3, 4]
    with tree_fs.open(f"{place}/j", "wb") as file:
        joblib.dump({"x": np.arange(3)}, file)
    with tree_fs.open(f"{place}/j") as file:
        assert joblib.load(file)["x"].tolist() == [0, 1, 2]
    mapper = fsspec.get_mapper(f"{url}/map")
    mapper["k/v"] = b"value"
    assert mapper["k/v"] == b"value" and list(mapper) == ["k/v"]


def test_simplecache_and_ramcache_over_it(url, tree_fs, place, tmp_path):
    tree_fs.pipe_file(f"{place}/x", b"in RAM")
    with fsspec.open(f"simplecache::{url}/x", simplecache={"cache_storage": str(tmp_path)}) as file:
        assert file.read() == b"in RAM"
    with fsspec.open(f"ramcache::{url}/x") as file:
        assert file.read() == b"in RAM"
