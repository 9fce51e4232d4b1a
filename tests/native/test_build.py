"""Properties of the shared library as it was built, read by binutils."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

import diskless
from tests.native.tree import LIBRARY

NATIVE = Path(diskless.__file__).parent / "native"
OLDEST_GLIBC = (2, 26)  # Amazon Linux 2's, beneath AWS Lambda's Python 3.10 and 3.11


@pytest.fixture(scope="module", autouse=True)
def binutils() -> None:
    if shutil.which("objdump") is None or shutil.which("readelf") is None:
        pytest.skip("objdump and readelf (binutils) are not installed")


def output_of(*words: object) -> str:
    return subprocess.run([*map(str, words)], check=True, capture_output=True, text=True).stdout


def versions_of(listing: str) -> set[tuple[int, ...]]:
    return {tuple(map(int, found.split("."))) for found in re.findall(r"GLIBC_([\d.]+)", listing)}


def test_no_symbol_is_newer_than_the_oldest_glibc() -> None:
    versions = versions_of(output_of("objdump", "-T", LIBRARY))
    assert versions
    assert max(versions) <= OLDEST_GLIBC


def test_nothing_but_glibc_is_needed() -> None:
    needed = set(re.findall(r"NEEDED\s+(\S+)", output_of("objdump", "-p", LIBRARY)))
    assert needed <= {"libc.so.6", "libdl.so.2", "libpthread.so.0", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"}
    assert "libc.so.6" in needed


def test_no_function_of_python_is_called() -> None:
    """Whoever opens a path may hold Python's lock or not, and what Python says about it may be wrong."""
    assert not re.search(r"\bPy\w+|\b_Py\w+", output_of("objdump", "-T", LIBRARY))


def test_only_the_c_interface_is_exported() -> None:
    names = [line.split()[-1] for line in output_of("objdump", "-T", LIBRARY).splitlines() if " .text" in line]
    declared = re.findall(r"DISKLESS_API \w[\w ]*?\**(diskless_\w+)\(", (NATIVE / "diskless.h").read_text())
    # The last is how the dynamic linker is made to call us under its lock (elf.cpp).
    assert set(names) == {*declared, "diskless_under_the_linkers_lock"}


def test_no_executable_stack_and_no_text_relocations() -> None:
    headers = output_of("readelf", "-W", "-l", "-d", LIBRARY)
    stack = next(line for line in headers.splitlines() if "GNU_STACK" in line)
    assert re.search(r" RW +0x", stack), stack
    assert "TEXTREL" not in headers
    assert "GNU_RELRO" in headers
    assert "BIND_NOW" in headers or "NOW" in headers
    assert "NODELETE" in headers


@pytest.mark.timeout(300)
def test_it_compiles_for_the_other_processor(tmp_path: Path) -> None:
    compiler, cmake = shutil.which("aarch64-linux-gnu-g++"), shutil.which("cmake")
    if compiler is None or cmake is None:
        pytest.skip("needs cmake and the cross compiler aarch64-linux-gnu-g++ (Debian's g++-aarch64-linux-gnu)")
    options = ["-DCMAKE_SYSTEM_NAME=Linux", "-DCMAKE_SYSTEM_PROCESSOR=aarch64", "-DDISKLESS_WERROR=ON"]
    output_of(cmake, "-S", NATIVE, "-B", tmp_path, f"-DCMAKE_CXX_COMPILER={compiler}", *options)
    output_of(cmake, "--build", tmp_path, "--parallel")
    built = tmp_path / "libdiskless.so"
    headers = output_of("readelf", "-W", "-h", "-d", "--dyn-syms", built)
    assert re.search(r"Machine: +AArch64", headers)
    assert "TEXTREL" not in headers
    assert max(versions_of(headers)) <= OLDEST_GLIBC
    assert "libstdc++" not in headers
    assert "libgcc" not in headers
