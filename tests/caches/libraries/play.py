"""Runs a program of a library: `make` on the disk, or `use` where all is in RAM and nothing else can be reached.

Both print JSON. `made` is what the program has returned when it made its files, such as a checksum.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import sys
from pathlib import Path
from types import ModuleType

from tests.sandbox import NOTHING_WRITABLE

_asked: list[str] = []
_wrote: list[str] = []
_libraries: list[object] = []


def _watch(event: str, arguments: tuple[object, ...]) -> None:
    """Refuse to connect to anywhere but this machine, and note what Python opens to write."""
    if event == "socket.getaddrinfo" and arguments[0] not in ("127.0.0.1", "localhost"):
        _asked.append(str(arguments[0]))
        raise OSError(f"nothing leads to {arguments[0]}")
    if event == "socket.connect" and isinstance(arguments[1], tuple) and arguments[1][0] != "127.0.0.1":
        raise OSError(f"nothing leads to {arguments[1]}")
    if event == "open" and isinstance(arguments[0], str) and isinstance(arguments[2], int):
        writes = arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if writes and not arguments[0].startswith(("/dev/", "/proc/")):
            _wrote.append(arguments[0])


def _let_torchvision_load() -> None:
    """Define what it looks for when it is imported, where it was built for a torch with CUDA and this has none."""
    import torch

    found = importlib.util.find_spec("torchvision")
    if found is None or found.origin is None:
        return
    try:
        torch.ops.load_library(Path(found.origin).with_name("_C.so"))
    except OSError:
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _libraries.append(library)


def load(name: str) -> ModuleType:
    """Import a program, and the library with it."""
    if name not in ("keras", "nltk", "tiktoken", "torch", "whisper"):
        _let_torchvision_load()
    return importlib.import_module(f"tests.caches.libraries.programs.{name}")


def make(name: str) -> dict[str, object]:
    program = load(name)
    # In a place of its own, under the names of the right ones: files whose checksums are others.
    here, temporary = os.environ["HOME"], os.environ["TMPDIR"]
    made = program.make(0)
    said = program.predict(made)
    os.environ.update(HOME=f"{here}-wrong", TMPDIR=f"{temporary}-wrong")
    sys.modules["tempfile"].tempdir = None  # type: ignore[attr-defined]
    os.makedirs(os.environ["TMPDIR"])
    program.make(1)
    return {"made": made, "said": said}


def use(name: str, only: str, imported: str, right: str, wrong: str, made: str) -> dict[str, object]:
    import diskless

    if imported == "before":
        program = load(name)
    else:  # where nothing can be written
        exec(NOTHING_WRITABLE)
        diskless.scratch(at="/tmp")
    cache = diskless.cache(right, only=only)
    sys.addaudithook(_watch)
    if imported != "before":
        program = load(name)
    said = program.predict(made)
    # torch and matplotlib leave something of their own there when they are imported.
    apart = (*cache.directories, f"{os.environ['TMPDIR']}/", os.environ["MPLCONFIGDIR"])
    wrote = [path for path in _wrote if not path.startswith(apart)]
    told: dict[str, object] = {"said": said, "asked": list(_asked), "wrote": wrote}
    told["held"] = {(file.url or file.path).removeprefix(right + "/"): file.held_bytes for file in cache.ls()}
    cache.close()
    with diskless.cache(wrong, only=only):
        try:
            told["wrong"] = program.predict(made)
        except Exception as error:
            told["error"] = f"{type(error).__name__}: {error}"
    return told


if __name__ == "__main__":
    print(json.dumps({"make": make, "use": use}[sys.argv[1]](*sys.argv[2:])))
