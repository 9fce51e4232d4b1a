"""What the tests of the native library share: names in the Tree, made and taken away through the C interface."""

from __future__ import annotations

import concurrent.futures
import contextlib
import ctypes
import os
import shutil
import subprocess
import sys
import textwrap
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path

import diskless

LIBRARY = Path(os.environ.get("DISKLESS_TEST_LIBRARY", Path(diskless.__file__).parent / "libdiskless.so"))
HERE = Path(__file__).parent
MTIME_NS = 1_234_567_890_123_456_789


def error_of(call: Callable[..., object], *arguments: object) -> int | None:
    """Return the errno with which the call fails, or None."""
    try:
        call(*arguments)
    except OSError as error:
        return error.errno
    return None


def load() -> ctypes.CDLL:
    """Return the library with the argument types that ctypes would not guess."""
    library = ctypes.CDLL(str(LIBRARY))
    library.diskless_set_file.argtypes = [
        *(ctypes.c_char_p, ctypes.c_int, ctypes.c_uint, ctypes.c_longlong, ctypes.c_int)
    ]
    library.diskless_scratch_add.argtypes = [ctypes.c_char_p, ctypes.c_uint, ctypes.c_longlong]
    library.diskless_set_directory.argtypes = [ctypes.c_char_p, ctypes.c_uint, ctypes.c_longlong]
    library.diskless_set_space.argtypes = [ctypes.c_longlong, ctypes.c_longlong]
    return library


class NativeTree:
    """A directory of the Tree at `root`, visible while the context is open.

    Without `shadow` it lies below /diskless, under a name of its own.
    """

    def __init__(self, shadow: str | None = None) -> None:
        self.library = load()
        self.shadow = shadow
        self.root = shadow or f"/diskless/native-{uuid.uuid4().hex[:12]}"
        self.fds: list[int] = []
        self._names: list[str] = []
        self._active = 0

    def call(self, name: str, *arguments: object) -> int:
        """Call a function of the C interface; raises OSError for a negative result."""
        result: int = getattr(self.library, "diskless_" + name)(*arguments)
        if result < 0:
            raise OSError(-result, os.strerror(-result), name)
        return result

    def path(self, name: str = "") -> str:
        return f"{self.root}/{name}" if name else self.root

    def __enter__(self) -> NativeTree:
        if self.shadow is not None:
            self.call("root_add", os.fsencode(self.shadow))
        else:
            with contextlib.suppress(FileExistsError):
                self.call("scratch_add", b"/diskless", 0o1777, 0)
            self.directory("")
        self.activate()
        return self

    def __exit__(self, *exception: object) -> None:
        while self._active:
            self.deactivate()
        for name in sorted(self._names, key=lambda each: each.count("/") if each else -1, reverse=True):
            self.library.diskless_remove(os.fsencode(self.path(name)))
        if self.shadow is not None:
            self.library.diskless_root_remove(os.fsencode(self.shadow))
        for fd in self.fds:
            self.library.diskless_release(fd)

    def activate(self) -> None:
        self.call("activate")
        self._active += 1

    def deactivate(self) -> None:
        self.call("deactivate")
        self._active -= 1

    def memfd(self, data: bytes) -> int:
        fd = self.call("memfd", b"diskless")
        self.fds.append(fd)
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        self.call("seal", fd)
        return fd

    def file(self, name: str, data: bytes = b"", mode: int = 0o444, fd: int | None = None, gate: int = -1) -> int:
        """Name a file with these bytes, or one that is there already; returns its own descriptor."""
        fd = self.memfd(data) if fd is None else fd
        for above in [str(each) for each in Path(name).parents if str(each) != "."][::-1]:
            if above not in self._names:
                self._names.append(above)
        self.call("set_file", os.fsencode(self.path(name)), fd, mode, MTIME_NS, gate)
        self._names.append(name)
        return fd

    def directory(self, name: str, mode: int = 0o555) -> None:
        self.call("set_directory", os.fsencode(self.path(name)), mode, MTIME_NS)
        self._names.append(name)

    def symlink(self, name: str, target: str) -> None:
        self.call("set_symlink", os.fsencode(self.path(name)), os.fsencode(target))
        self._names.append(name)

    def remove(self, name: str) -> None:
        self.call("remove", os.fsencode(self.path(name)))
        self._names.remove(name)


# The fixture `build`: what is to be built, and with which sanitizer.
Build = Callable[..., Path]
# The fixture `once`: the name of what is to be made, and what makes it in a directory.
Once = Callable[[str, Callable[[Path], object]], Path]


def sanitizer_options(sanitizer: str) -> list[str]:
    # The calls are also tried on null pointers, which are passed on as they come.
    return [f"-fsanitize={sanitizer}", "-fno-sanitize=nonnull-attribute"] if sanitizer else []


def compiler() -> list[str]:
    return [os.environ.get("CC") or shutil.which("cc") or "gcc"]


def run_compiler(*words: object) -> None:
    done = subprocess.run([*map(str, words)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def compile_program(source: str, into: Path, *options: str) -> Path:
    """Compile a C program beside this file and return the program."""
    program = into / Path(source).stem
    common = ["-O1", "-g", "-w", "-U_FORTIFY_SOURCE", *options]
    run_compiler(*compiler(), *common, "-o", program, HERE / source, "-ldl", "-pthread")
    return program


def compile_text(source: str, target: Path, *options: object) -> Path:
    """Compile C source text into `target`: a shared library if its name ends so, else a program."""
    file = target.with_suffix(".c")
    file.write_text("#define _GNU_SOURCE\n" + textwrap.dedent(source))
    shared = ["-shared", "-fPIC"] if target.suffix == ".so" else []
    common = ["-O1", "-g", "-w", "-U_FORTIFY_SOURCE", *shared]
    run_compiler(*compiler(), *common, "-o", target, file, *options, "-ldl", "-pthread")
    return target


def compile_objects(sources: Iterable[Path], into: Path, *options: str) -> list[Path]:
    """Compile C++ sources, all at once."""
    compiler = os.environ.get("CXX") or shutil.which("c++") or "g++"
    into.mkdir(exist_ok=True)

    def compile_one(source: Path) -> Path:
        target = into / f"{source.stem}.o"
        run_compiler(compiler, *options, "-std=c++20", "-O1", "-g", "-D_GNU_SOURCE", "-c", "-o", target, source)
        return target

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as threads:
        return list(threads.map(compile_one, sorted(sources)))


def link_objects(objects: list[Path], target: Path, *options: str) -> Path:
    compiler = os.environ.get("CXX") or shutil.which("c++") or "g++"
    run_compiler(compiler, *options, "-o", target, *objects, "-ldl", "-pthread")
    return target


def build_library(into: Path, *options: str) -> Path:
    """Build the library with other options than CMakeLists.txt has, without what makes it small."""
    sources = (Path(diskless.__file__).parent / "native").glob("*.cpp")
    language = ["-fPIC", "-fno-exceptions", "-fno-rtti", "-fvisibility=hidden"]
    objects = compile_objects(sources, into / "library", *options, *language)
    return link_objects(objects, into / "libdiskless.so", *options, "-shared", "-Wl,-z,nodelete")


def build_program(folder: str, into: Path, *options: str) -> Path:
    """Build the C++ program whose sources are in a folder beside this file, and return it."""
    warnings = ["-Wall", "-Wextra", "-Werror", "-U_FORTIFY_SOURCE"]
    objects = compile_objects((HERE / folder).glob("*.cpp"), into / f"{folder}-objects", *options, *warnings)
    return link_objects(objects, into / folder, *options)


def run_with_tree(script: str) -> str:
    """Run a script that has a `tree`, in a process of its own; returns what it complained about."""
    source = (
        "import os, sys, threading\n"
        f"sys.path[:0] = {sys.path!r}\n"
        "from tests.native.tree import NativeTree\n"
        "with NativeTree() as tree:\n" + textwrap.indent(textwrap.dedent(script), "    ")
    )
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, timeout=120, cwd=HERE.parent.parent
    )
    return done.stderr if done.returncode == 0 else f"exit status {done.returncode}: {done.stderr}"
