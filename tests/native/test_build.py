"""Properties of the shared library as it was built, read by binutils."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

import diskless
from tests.native.tree import LIBRARY, Once, compile_program

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


@pytest.fixture
def built_for_aarch64(once: Once) -> Path:
    """The directory with the library built for the other processor."""
    compiler, cmake = shutil.which("aarch64-linux-gnu-g++"), shutil.which("cmake")
    if compiler is None or cmake is None:
        pytest.skip("needs cmake and the cross compiler aarch64-linux-gnu-g++ (Debian's g++-aarch64-linux-gnu)")

    def make(into: Path) -> None:
        options = ["-DCMAKE_SYSTEM_NAME=Linux", "-DCMAKE_SYSTEM_PROCESSOR=aarch64", "-DDISKLESS_WERROR=ON"]
        output_of(cmake, "-S", NATIVE, "-B", into, f"-DCMAKE_CXX_COMPILER={compiler}", *options)
        output_of(cmake, "--build", into, "--parallel")

    return once("aarch64", make)


@pytest.mark.timeout(300)
def test_it_compiles_for_the_other_processor(built_for_aarch64: Path) -> None:
    headers = output_of("readelf", "-W", "-h", "-d", "--dyn-syms", built_for_aarch64 / "libdiskless.so")
    assert re.search(r"Machine: +AArch64", headers)
    assert "TEXTREL" not in headers
    assert max(versions_of(headers)) <= OLDEST_GLIBC
    assert "libstdc++" not in headers
    assert "libgcc" not in headers


@pytest.mark.timeout(300)
def test_calls_on_the_other_processor_answer_as_on_this_one(
    built_for_aarch64: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under an emulator, which does not know openat2(2) before its version 9."""
    emulator, libc = shutil.which("qemu-aarch64"), Path("/usr/aarch64-linux-gnu")
    if emulator is None or not libc.exists():
        pytest.skip("needs qemu-aarch64 (Debian's qemu-user) and its libc at /usr/aarch64-linux-gnu")
    words = ["tree", "/diskless/somewhere/base"]
    here = output_of(compile_program("calls.c", tmp_path), words[0], LIBRARY, words[1])
    monkeypatch.setenv("CC", "aarch64-linux-gnu-gcc")
    program, library = compile_program("calls.c", built_for_aarch64), built_for_aarch64 / "libdiskless.so"
    there = output_of(emulator, "-L", libc, program, words[0], library, words[1])
    expected, found = ([line for line in said.splitlines() if "openat2" not in line] for said in (here, there))
    assert len(found) > 30_000
    assert [pair for pair in zip(expected, found, strict=True) if pair[0] != pair[1]] == []


@pytest.mark.timeout(300)
def test_checksums_on_the_other_processor_are_those_of_this_one(
    built_for_aarch64: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    emulator, libc = shutil.which("qemu-aarch64"), Path("/usr/aarch64-linux-gnu")
    if emulator is None or not libc.exists():
        pytest.skip("needs qemu-aarch64 (Debian's qemu-user) and its libc at /usr/aarch64-linux-gnu")
    here = output_of(compile_program("checksums.c", tmp_path), LIBRARY)
    monkeypatch.setenv("CC", "aarch64-linux-gnu-gcc")
    program, library = compile_program("checksums.c", built_for_aarch64), built_for_aarch64 / "libdiskless.so"
    assert len(here.splitlines()) == 3 * 2001
    assert output_of(emulator, "-L", libc, program, library) == here
