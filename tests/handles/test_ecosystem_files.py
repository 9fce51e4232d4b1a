"""What reads open files: each library itself, from diskless.open and from ramcache::."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
import zipfile

import fsspec
import numpy as np
import pytest

import diskless
from tests.loader.fault_server import FaultServer

# 5 MB, so that readers who seek get ranges, and not the file.
ARRAY = np.random.default_rng(7).random((1300, 1000), np.float32)


def _stored(write):
    stored = io.BytesIO()
    write(stored)
    return stored.getvalue()


def _numpy(data):
    return _stored(lambda file: np.save(file, data))


def _array(data):
    return np.frombuffer(data, np.float32).reshape(ARRAY.shape)


def _zip(file):
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("first", b"1" * 100_000)
        archive.writestr("inner/array.npy", _numpy(ARRAY))


def _tar(mode):
    def write(file):
        with tarfile.open(fileobj=file, mode=mode) as archive:
            for name, data in (("first", b"1" * 100_000), ("inner/array.npy", _numpy(ARRAY))):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))

    return write


def _from_zip(file):
    with zipfile.ZipFile(file) as archive:
        assert archive.namelist() == ["first", "inner/array.npy"]
        return np.load(io.BytesIO(archive.read("inner/array.npy")))


def _from_tar(file):
    with tarfile.open(fileobj=file) as archive:
        return np.load(io.BytesIO(archive.extractfile("inner/array.npy").read()))


def _joblib(**options):
    joblib = pytest.importorskip("joblib")
    return _stored(lambda file: joblib.dump({"a": ARRAY}, file, **options)), lambda file: joblib.load(file)["a"]


def _torch():
    torch = pytest.importorskip("torch")
    written = _stored(lambda file: torch.save({"a": torch.from_numpy(ARRAY)}, file))
    return written, lambda file: torch.load(file, weights_only=True)["a"].numpy()


def _safetensors(read):
    safetensors = pytest.importorskip("safetensors.torch")
    torch = pytest.importorskip("torch")
    written = safetensors.save({"a": torch.from_numpy(ARRAY)})
    return written, lambda file: read(safetensors, file)["a"].numpy()


def _image():
    image = pytest.importorskip("PIL.Image")
    written = _stored(lambda file: image.fromarray(ARRAY).save(file, "TIFF"))
    return written, lambda file: np.asarray(image.open(file))


def _hdf5():
    h5py = pytest.importorskip("h5py")

    def write(file):
        with h5py.File(file, "w") as group:
            group["inner/a"] = ARRAY

    def read(file):
        with h5py.File(file, "r") as group:
            return group["inner/a"][:]

    return _stored(write), read


# What was stored, and how the array is read from the open file.
LIBRARIES = {
    "pickle": lambda: (pickle.dumps(ARRAY), pickle.load),
    "json": lambda: (json.dumps(ARRAY.tobytes().hex()).encode(), lambda file: _array(bytes.fromhex(json.load(file)))),
    "npy": lambda: (_numpy(ARRAY), np.load),
    "npy of objects": lambda: (
        _numpy(np.array([ARRAY, None], object)),
        lambda file: np.load(file, allow_pickle=True)[0],
    ),
    "a buffer": lambda: (ARRAY.tobytes(), lambda file: _array(file.getbuffer())),
    "npz": lambda: (
        _stored(lambda file: np.savez_compressed(file, a=ARRAY, b=ARRAY[0])),
        lambda file: np.load(file)["a"],
    ),
    "zip": lambda: (_stored(_zip), _from_zip),
    "tar": lambda: (_stored(_tar("w")), _from_tar),
    "tar.gz": lambda: (_stored(_tar("w:gz")), _from_tar),
    "joblib": _joblib,
    "joblib, compressed": lambda: _joblib(compress=3),
    "torch": _torch,
    # Of a buffer it only takes `bytes`.
    "safetensors": lambda: _safetensors(lambda safetensors, file: safetensors.load(file.read())),
    "safetensors, by a path": lambda: _safetensors(lambda safetensors, file: safetensors.load_file(file.path)),
    "PIL": _image,
    "h5py": _hdf5,
}


@pytest.fixture
def server(s3_env):
    with FaultServer({}) as server:
        yield server


@pytest.mark.parametrize("library", LIBRARIES)
def test_libraries_read_open_files(server, faulty, library):
    server.objects["file"], read = LIBRARIES[library]()
    url = f"{server.url}/file"
    for file in (
        diskless.open(url, load="background", storage_options=server.storage_options),
        diskless.open(url, load="lazy", storage_options=server.storage_options),
        fsspec.open(f"ramcache::{url}", s3=faulty).open(),
    ):
        with file:
            assert np.array_equal(read(file), ARRAY)
            file.seek(0)
            assert file.read() == server.objects["file"]
        fsspec.filesystem("ramcache", target_protocol="s3", target_options=faulty).clear_cache()
