"""What reads tables, through ramcache::, diskless.open and paths of a Mount: pandas, pyarrow, polars, datasets."""

from __future__ import annotations

import io
import itertools
import json
import os
import subprocess
import sys
import textwrap

import fsspec
import numpy as np
import pytest
from fsspec.parquet import open_parquet_file

import diskless
from tests.loader.fault_server import FaultServer
from tests.programs import SOURCE

datasets = pytest.importorskip("datasets")
pd = pytest.importorskip("pandas")
pa = pytest.importorskip("pyarrow")
pytest.importorskip("pyarrow.dataset")
pytest.importorskip("pyarrow.parquet")

ROWS = 90_000
THREE = ["c03", "c14", "c27"]


@pytest.fixture(scope="module")
def wide():
    """30 columns of random numbers: some 21 MB of parquet, in three row groups."""
    random = np.random.default_rng(7)
    return pa.table({f"c{number:02}": random.random(ROWS) for number in range(30)})


@pytest.fixture(scope="module")
def wide_parquet(wide):
    stored = io.BytesIO()
    pa.parquet.write_table(wide, stored, row_group_size=ROWS // 3, use_dictionary=False, compression="none")
    return stored.getvalue()


@pytest.fixture
def server(s3_env, wide_parquet):
    csv = "name,value\n" + "".join(f"row{number},{number}\n" for number in range(1000))
    with FaultServer({"wide.parquet": wide_parquet, "small.csv": csv.encode()}) as server:
        yield server


def _by_url(server, faulty):
    return pd.read_parquet(f"ramcache::{server.url}/wide.parquet", columns=THREE, storage_options={"s3": faulty})


def _by_filesystem(server, faulty):
    fs = fsspec.filesystem("ramcache", target_protocol="s3", target_options=faulty)
    return pd.read_parquet("faulty/wide.parquet", columns=THREE, filesystem=fs)


def _told_the_columns(server, faulty):
    fs = fsspec.filesystem("ramcache", target_protocol="s3", target_options=faulty)
    with open_parquet_file("faulty/wide.parquet", fs=fs, columns=THREE, engine="pyarrow") as file:
        return pd.read_parquet(file, columns=THREE)


@pytest.mark.parametrize("read", [_by_url, _by_filesystem, _told_the_columns])
def test_pandas_of_a_few_columns_fetches_fewer_than_half_of_the_bytes(server, faulty, wide, wide_parquet, read):
    assert read(server, faulty).equals(wide.select(THREE).to_pandas())
    sent = server.sent_bytes("wide.parquet")

    assert len(wide_parquet) > 20_000_000 and sent < len(wide_parquet) / 2
    assert read(server, faulty).equals(wide.select(THREE).to_pandas())
    ranges = sorted((get.start, get.end) for get in server.gets)
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(ranges)), "something was sent twice"


def test_pandas_reads_all_columns_once(server, faulty, wide, wide_parquet):
    url = f"ramcache::{server.url}/wide.parquet"
    assert pd.read_parquet(url, storage_options={"s3": faulty}).equals(wide.to_pandas())
    assert server.sent_bytes("wide.parquet") <= len(wide_parquet)


def test_pandas_reads_csv(server, faulty):
    frame = pd.read_csv(f"ramcache::{server.url}/small.csv", storage_options={"s3": faulty})
    assert list(frame["value"]) == list(range(1000)) and frame["name"][999] == "row999"
    assert server.sent_bytes("small.csv") == len(server.objects["small.csv"])


@pytest.mark.parametrize("how", ["background", "lazy", "ramcache"])
def test_tables_from_an_open_file(server, faulty, wide, wide_parquet, how, polars):
    def opened(key):
        if how == "ramcache":
            return fsspec.open(f"ramcache::{server.url}/{key}", s3=faulty).open()
        return diskless.open(f"{server.url}/{key}", load=how, storage_options=server.storage_options)

    expected = wide.select(THREE)
    with opened("wide.parquet") as file:
        assert pa.parquet.read_table(file, columns=THREE).equals(expected)
    # What has a path is read by that, and then comes as a whole.
    assert how != "ramcache" or server.sent_bytes("wide.parquet") < len(wide_parquet) / 2
    with opened("wide.parquet") as file:
        assert pd.read_parquet(file, columns=THREE).equals(expected.to_pandas())
    with opened("wide.parquet") as file:
        assert polars.read_parquet(file, columns=THREE).to_arrow().equals(expected)
    with opened("small.csv") as file:
        assert len(pd.read_csv(file)) == 1000


@pytest.fixture
def parts(tmp_path, upload):
    """A directory of parquet files, one for each of four days, in the bucket."""
    for day in range(4):
        path = tmp_path / f"days/day={day}/part.parquet"
        path.parent.mkdir(parents=True)
        table = pa.table({"number": range(day * 1000, day * 1000 + 1000), "text": [f"of {day}"] * 1000})
        pa.parquet.write_table(table, path)
    return upload(tmp_path / "days")


def test_a_dataset_of_pyarrow_is_filtered(parts, moto):
    fs, root = fsspec.url_to_fs(f"ramcache::{parts}", s3=moto)
    dataset = pa.dataset.dataset(root, filesystem=fs, format="parquet", partitioning="hive")
    assert dataset.count_rows() == 4000
    wanted = (pa.dataset.field("day") == 2) & (pa.dataset.field("number") >= 2990)
    found = dataset.to_table(columns=["number", "day"], filter=wanted)
    assert found.to_pydict() == {"number": list(range(2990, 3000)), "day": [2] * 10}


def test_pandas_reads_a_directory(parts, moto):
    frame = pd.read_parquet(f"ramcache::{parts}", storage_options={"s3": moto}, filters=[("day", "==", 3)])
    assert list(frame["number"]) == list(range(3000, 4000))


def test_polars_scans_a_path_of_a_mount(parts, moto, polars):
    with diskless.mount(parts, storage_options=moto, backing="tree") as path:
        assert path.startswith("/diskless/")
        few = polars.scan_parquet(f"{path}/day=1/part.parquet").filter(polars.col("number") < 1003).collect()
        assert few["number"].to_list() == [1000, 1001, 1002]
        # Native code lists the directory, too.
        whole = polars.scan_parquet(path, hive_partitioning=True).select(
            polars.col("number").sum(), polars.col("day").max()
        )
        assert whole.collect().rows() == [(sum(range(4000)), 3)]


@pytest.fixture
def stored(tmp_path, upload):
    made = datasets.Dataset.from_dict({"text": [f"row {number}" for number in range(500)], "label": range(500)})
    made.save_to_disk(tmp_path / "one")
    datasets.DatasetDict({"train": made, "test": made.select(range(5))}).save_to_disk(tmp_path / "split")
    return {"one": upload(tmp_path / "one"), "split": upload(tmp_path / "split")}


def test_datasets_loads_from_a_path_of_a_mount(stored, moto):
    with diskless.mount(stored["one"], storage_options=moto, backing="tree") as path:
        dataset = datasets.load_from_disk(path)
        assert dataset[499] == {"text": "row 499", "label": 499}
    with diskless.mount(stored["split"], storage_options=moto, backing="tree") as path:
        assert {name: len(part) for name, part in datasets.load_from_disk(path).items()} == {"train": 500, "test": 5}


def test_datasets_loads_from_a_chained_url(stored, moto):
    dataset = datasets.load_from_disk(f"ramcache::{stored['one']}", storage_options={"s3": moto})
    assert dataset[499] == {"text": "row 499", "label": 499}


def test_a_short_program_that_reads_parquet_ends_as_it_should(server, faulty, wide_parquet):
    """pyarrow's threads let go of files later than it returns, and abort a process whose interpreter has ended."""
    code = """
    import json, sys, fsspec, pandas
    with fsspec.open(sys.argv[1], s3=json.loads(sys.argv[2])) as file:
        print(len(pandas.read_parquet(file, columns=[sys.argv[3]])))
    """
    url = f"ramcache::{server.url}/wide.parquet"
    environment = os.environ | {"PYTHONPATH": str(SOURCE)}
    for _ in range(8):  # one in four was aborted
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code), url, json.dumps(faulty), THREE[0]],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
