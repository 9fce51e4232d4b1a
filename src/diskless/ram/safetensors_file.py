"""A safetensors file, written by calls that the Interposer sees: byte for byte what the library's own writer writes.

The format: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from safetensors import TensorSpec

# Tensors follow in the order of their types, so that each lies aligned: `Dtype` in the library's tensor.rs, backwards.
_DTYPES = (
    *("U64", "I64", "F64", "C64", "F32", "U32", "I32", "BF16", "F16", "U16", "I16"),
    *("F8_E5M2FNUZ", "F8_E4M3FNUZ", "F8_E8M0", "F8_E4M3", "F8_E5M2", "I8", "U8", "F4", "BOOL"),
)
_RANKS = {dtype: rank for rank, dtype in enumerate(_DTYPES)}


def parent_of(path: str) -> str:
    """Return the directory in which the file at `path` is made."""
    return os.path.dirname(path.rstrip("/")) or "."


def write(path: str, tensors: Mapping[str, TensorSpec], metadata: Mapping[str, str] | None) -> None:
    """Put a new file at `path`, complete from its first moment on; what it replaces is not touched where it is mapped.

    The arguments are valid ones. Raises OSError; nothing is left then.
    """
    import tempfile

    ordered = sorted(tensors.items(), key=lambda item: (_RANKS.get(item[1].dtype, len(_RANKS)), item[0]))
    header = _header(ordered, metadata)
    fd, temporary = tempfile.mkstemp(prefix=".tmp", dir=parent_of(path))
    try:
        with open(fd, "wb", buffering=0, closefd=True):
            os.ftruncate(fd, len(header) + sum(tensor.data_len for _, tensor in ordered))
            for part in (memoryview(header), *_contents(tensor for _, tensor in ordered)):
                _write_all(fd, part)
            os.rename(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def _header(ordered: Iterable[tuple[str, TensorSpec]], metadata: Mapping[str, str] | None) -> bytes:
    # Joined by hand, since a tensor may be called __metadata__, too.
    entries = [] if metadata is None else [f'"__metadata__":{_json(metadata)}']
    end = 0
    for name, tensor in ordered:
        begin, end = end, end + tensor.data_len
        description = {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [begin, end]}
        entries.append(f"{_json(name)}:{_json(description)}")
    text = f"{{{','.join(entries)}}}".encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _contents(tensors: Iterable[TensorSpec]) -> Iterator[memoryview]:
    """Give the memory of each tensor that has any, where it stands."""
    for tensor in tensors:
        if tensor.data_len > 0:
            yield memoryview((ctypes.c_char * tensor.data_len).from_address(tensor.data_ptr)).cast("B")


def _write_all(fd: int, part: memoryview) -> None:
    while part:
        part = part[os.write(fd, part) :]
