"""C and C++ streams on files of a scratch do what they do on a tmpfs, also where it is full."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import diskless
from tests.native.tree import HERE, compile_text, run_compiler

BUDGET = 2 << 20


@pytest.mark.parametrize("runtime", ["shared", "static"], ids=["libstdc++ shared", "libstdc++ linked in"])
def test_streams_answer_as_on_a_tmpfs_of_that_size(tmp_path: Path, runtime: str) -> None:
    mounted, program = tmp_path / "tmpfs", tmp_path / "streams"
    mounted.mkdir()
    compiler = os.environ.get("CXX") or shutil.which("c++") or "g++"
    options = ["-static-libstdc++", "-static-libgcc"] if runtime == "static" else []
    run_compiler(compiler, "-std=c++17", "-O1", "-w", *options, "-o", program, HERE / "streams.cpp")
    # Both are the program's /tmp, where tmpfile() goes.
    mount = 'mount -t tmpfs -o size=$1 none /tmp || exit 77; exec "$2" /tmp'
    shutil.copy(program, "/var/tmp/" + (name := f"diskless-streams-{os.getpid()}-{runtime}"))
    elsewhere = Path("/var/tmp") / name
    try:
        namespace = ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-Urm"]
        oracle = subprocess.run(
            [*namespace, "sh", "-c", mount, "sh", str(BUDGET), elsewhere], capture_output=True, text=True
        )
        if oracle.returncode == 77 or "unshare" in oracle.stderr:
            pytest.skip(f"no tmpfs can be mounted here: {oracle.stderr.strip()}")
        # The program is loaded as a library, since a program started from here sees no scratch.
        library = tmp_path / "streams.so"
        run_compiler(
            compiler, "-std=c++17", "-O1", "-w", "-shared", "-fPIC", *options, "-o", library, HERE / "streams.cpp"
        )
        script = f"""
            import sys
            sys.path[:0] = {sys.path!r}
            import ctypes, diskless
            with diskless.scratch(at="/tmp", budget={BUDGET}):
                sys.stdout.flush()
                code = ctypes.CDLL({str(elsewhere) + ".so"!r}).main(2, (ctypes.c_char_p * 3)(b"streams", b"/tmp", None))
                ctypes.CDLL(None).fflush(None)
                sys.exit(code)
        """
        shutil.copy(library, f"{elsewhere}.so")
        ours = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, cwd="/")
    finally:
        elsewhere.unlink()
        Path(f"{elsewhere}.so").unlink(missing_ok=True)
    assert oracle.returncode == 0, oracle.stderr
    assert ours.returncode == 0, ours.stderr
    assert ours.stdout.splitlines() == oracle.stdout.splitlines()
    assert ours.stdout.count("ENOSPC") > 5


def test_a_stream_works_on_after_the_last_mount_is_closed(tmp_path: Path) -> None:
    source = """
        #include <stdio.h>
        #include <unistd.h>
        static FILE *file;
        int begin(const char *path) { file = fopen(path, "w+"); return fputs("begun", file); }
        int number(void) { return fileno(file); }
        int end(void) { return fputs(" and ended", file) < 0 || fclose(file); }
    """
    library = ctypes.CDLL(str(compile_text(source, tmp_path / "keeper.so")))
    with diskless.scratch() as path:
        assert library.begin(os.fsencode(f"{path}/a")) >= 0
        copy = os.dup(library.number())
    assert os.fstat(library.number()).st_size == 0
    assert library.end() == 0
    assert os.pread(copy, 100, 0) == b"begun and ended"
    os.close(copy)
