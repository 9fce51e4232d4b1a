"""A random sequence of calls that change files gives the same on a tmpfs and in a scratch, call by call."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.native.tree import LIBRARY, compile_program

SEEDS = range(int(os.environ.get("DISKLESS_TEST_SEED", "1")), int(os.environ.get("DISKLESS_TEST_SEED", "1")) + 3)
CALLS = int(os.environ.get("DISKLESS_TEST_CALLS", "6000"))


def on_tmpfs(program: Path, mounted: Path, base: Path, words: list[str]) -> subprocess.CompletedProcess[str]:
    """Run the program on a tmpfs in a mount namespace of its own."""
    script = f"""
        mount -t tmpfs -o mode=755 none {mounted} || exit 77
        mkdir {base} && chmod 777 {base} || exit 77
        exec {program} run {base} {" ".join(words)}
    """
    namespace = ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-Urm"]
    return subprocess.run([*namespace, "sh", "-c", script], capture_output=True, text=True, errors="replace")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("user", ["0", "65534"], ids=["as the same user", "as nobody on what root left"])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_random_sequence_of_calls_answers_as_on_a_tmpfs(seed: int, user: str, public: Path) -> None:
    if user != "0" and os.geteuid() != 0:
        pytest.skip("only root can become another user")
    program = compile_program("changes.c", public)
    mounted = public / "tmpfs"
    mounted.mkdir()
    words = [str(seed), str(CALLS), user]
    oracle = on_tmpfs(program, mounted, mounted / "base", words)
    if oracle.returncode == 77 or "unshare" in oracle.stderr:
        pytest.skip(f"no tmpfs can be mounted here: {oracle.stderr.strip()}")
    assert oracle.returncode == 0, oracle.stderr
    # Of the same length, since the sizes of symlinks show it.
    base = f"/diskless/{'x' * (len(str(mounted)) - len('/diskless/'))}/base"
    scratch = subprocess.run(
        [program, "scratch", LIBRARY, base, *words], capture_output=True, text=True, errors="replace"
    )
    assert scratch.returncode == 0, scratch.stderr

    expected, found = oracle.stdout.splitlines(), scratch.stdout.splitlines()
    for line, (theirs, ours) in enumerate(zip(expected, found, strict=False)):
        before = "\n".join(expected[max(0, line - 30) : line])
        assert ours == theirs, f"after\n{before}\ntmpfs   {theirs}\nscratch {ours}"
    assert len(found) == len(expected) > CALLS
