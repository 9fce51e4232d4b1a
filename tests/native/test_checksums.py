"""The CRCs of the native library beside those of awscrt, which is another's work."""

from __future__ import annotations

import mmap
import threading
import time
import zlib

import pytest
from awscrt import checksums
from hypothesis import given, settings
from hypothesis import strategies as st

from diskless import native_api as native

ALGORITHMS = {"CRC32": zlib.crc32, "CRC32C": checksums.crc32c, "CRC64NVME": checksums.crc64nvme}
# What the catalogue of parametrised CRC algorithms gives for b"123456789".
CHECKS = {"CRC32": 0xCBF43926, "CRC32C": 0xE3069283, "CRC64NVME": 0xAE8B14860A799888}
each = pytest.mark.parametrize("algorithm", list(ALGORITHMS))


@each
def test_the_catalogues_value(algorithm: str) -> None:
    assert native.crc(algorithm, b"123456789") == CHECKS[algorithm]


@each
@settings(deadline=None)  # the machine may be busy
@given(data=st.binary(max_size=700), offset=st.integers(0, 17), before=st.integers(0, 2**32 - 1))
def test_any_bytes_at_any_alignment_behind_others(algorithm: str, data: bytes, offset: int, before: int) -> None:
    placed = memoryview(bytes(offset) + data)[offset:]
    assert native.crc(algorithm, placed, before) == ALGORITHMS[algorithm](data, before)


@each
def test_every_length_around_the_blocks(algorithm: str) -> None:
    data = bytes(range(251)) * 3
    for length in range(len(data)):
        assert native.crc(algorithm, data[:length]) == ALGORITHMS[algorithm](data[:length]), length


@each
@settings(deadline=None)  # the machine may be busy
@given(first=st.binary(max_size=200), second=st.binary(max_size=200))
def test_two_pieces_are_combined(algorithm: str, first: bytes, second: bytes) -> None:
    of_both = native.crc_combine(algorithm, native.crc(algorithm, first), native.crc(algorithm, second), len(second))
    assert of_both == native.crc(algorithm, first + second)


@each
@settings(deadline=None)  # the machine may be busy
@given(size=st.integers(1, 2**45), first=st.integers(0, 2**32 - 1), second=st.integers(0, 2**32 - 1))
def test_pieces_of_any_size_are_combined_as_another_does(algorithm: str, size: int, first: int, second: int) -> None:
    combine = getattr(checksums, f"combine_{algorithm.lower()}")
    assert native.crc_combine(algorithm, first, second, size) == combine(first, second, size)


def test_buffers_of_every_kind_are_read_where_they_stand() -> None:
    data = bytes(range(256)) * 8
    with mmap.mmap(-1, len(data)) as mapping:
        mapping[:] = data
        for buffer in (data, bytearray(data), memoryview(data), mapping):
            assert native.crc("CRC32C", buffer) == checksums.crc32c(data)
    with pytest.raises(BufferError):
        native.crc("CRC32C", memoryview(data)[::2])
    with pytest.raises(TypeError):
        native.crc("CRC32C", "text")


def test_other_threads_run_meanwhile() -> None:
    data, counted, go_on = bytes(64 << 20), [0], threading.Event()

    def count() -> None:
        while not go_on.is_set():
            counted[0] += 1
            time.sleep(0)

    thread = threading.Thread(target=count)
    thread.start()
    before = counted[0]
    for _ in range(8):
        native.crc("CRC64NVME", data)
    after = counted[0]
    go_on.set()
    thread.join()
    # With the GIL held it would be let go eight times only.
    assert after - before > 50
