"""While the Tree shows, what safetensors writes to a path in it is written by us.

Since 0.8 its writer makes and renames files by raw system calls, past libc: it would find no directory there, or with
`at=` the disk's. So its `serialize_file`, which all its ways to save come to, is replaced for such paths. Reading goes
through libc, and so did the writer of older versions.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import TYPE_CHECKING, Any

from diskless import native_api as native
from diskless.forks import LOCK
from diskless.ram import safetensors_file

if TYPE_CHECKING:
    from safetensors import TensorSpec

_MODULE, _NAME = "safetensors._safetensors_rust", "serialize_file"
# How often the Tree shows, and what stands in for which function then. Guarded by LOCK.
_shown = 0
_ours: Callable[..., None] | None = None


def redirect() -> None:
    """Let what is written to the Tree go there, whether safetensors is imported or will be; counted."""
    global _shown
    with LOCK:
        _shown += 1
        if _shown == 1:
            # A new list: another thread may go through this one, and would miss a finder when one is taken away.
            sys.meta_path = [_finder, *sys.meta_path]
            _replace()


def restore() -> None:
    """Undo one `redirect`; the last one puts the library's own function back wherever ours is found."""
    global _shown, _ours
    with LOCK:
        _shown -= 1
        if _shown == 0:
            sys.meta_path = [finder for finder in sys.meta_path if finder is not _finder]
            if _ours is not None:
                _swap(_ours, _ours.__wrapped__)  # type: ignore[attr-defined]
                _ours = None


class _Finder:
    """Finds the module in which the writer is as everybody does, and has it replaced once it is there."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target) if name == _MODULE else None
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_replace(module: ModuleType) -> None:
                execute(module)
                with LOCK:
                    if _shown:
                        _replace()

            spec.loader.exec_module = execute_and_replace  # type: ignore[method-assign]
        return spec


_finder = _Finder()


def _replace() -> None:
    global _ours
    module = sys.modules.get(_MODULE)
    if hasattr(module, "TensorSpec"):  # it came with the writer that is meant
        original = getattr(module, _NAME)
        _ours = _writer(original, module.SafetensorError)  # type: ignore[union-attr]
        _swap(original, _ours)


def _swap(old: object, new: object) -> None:
    for module in list(sys.modules.values()):
        if issubclass(type(module), ModuleType):  # not what only says that it is one, as cffi's libraries do
            names = object.__getattribute__(module, "__dict__")  # a lazy module's own way would load it
            if names.get(_NAME) is old:
                names[_NAME] = new


def _writer(original: Callable[..., None], failure: type[Exception]) -> Callable[..., None]:
    @functools.wraps(original)
    def serialize_file(
        tensor_dict: Mapping[str, TensorSpec],
        filename: str | os.PathLike[str],
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        path: Any = os.fspath(filename) if isinstance(filename, os.PathLike) else filename
        if not isinstance(path, str) or not native.contains(safetensors_file.parent_of(path)):
            return original(tensor_dict, filename, metadata)
        # A name that no file can have: all that is wrong with the tensors is found, and then nothing can be made.
        try:
            original(tensor_dict, "\0/\0", metadata)
        except failure as error:
            if not str(error).startswith("Error while serializing: I/O error"):
                raise
        try:
            safetensors_file.write(path, tensor_dict, metadata)
        except OSError as error:
            # As the library says it: with the path of the new file where that could not be made.
            at = f' at path "{error.filename}"' if error.filename is not None and error.filename2 is None else ""
            text = f"Error while serializing: I/O error: {error.strerror} (os error {error.errno}){at}"
            raise failure(text) from None

    return serialize_file
