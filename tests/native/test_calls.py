"""Every path call of libc, on the same files in the Tree and on a tmpfs that is mounted read-only: same answers."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.native.tree import LIBRARY, compile_program

# What differs, and why. A line is "call<TAB>path".
DIFFERENCES = [
    # libc opens a directory for reading and fails at the first read. Our descriptors of directories are not open for
    # reading (a memfd would give zeros without end), so fopen itself fails.
    (r"f(re)?open(64)? r[be]?\t", "fopen of a directory fails with EISDIR"),
    # The kernel asks procfs for the new name before it compares the filesystems.
    (r"link from f\tout/not-there-either", "link(2) into /proc"),
    # wordexp loses the slash of a pattern without a match, and what it gives is all that we see of it.
    (r"wordexp\t@/to-\?/", "wordexp of a pattern that ends in a slash"),
]


def read_only_tmpfs(program: Path, mounted: Path, base: Path, user: str | None) -> subprocess.CompletedProcess[str]:
    """Run the program on a tmpfs in a mount namespace of its own."""
    script = f"""
        mount -t tmpfs -o mode=755 none {mounted} || exit 77
        umask 022; mkdir {base} && {program} build {base} && mount -o remount,ro {mounted} || exit 77
        exec {program} run {base} {user or ""}
    """
    namespace = ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-Urm"]
    return subprocess.run([*namespace, "sh", "-c", script], capture_output=True, text=True, errors="replace")


def lines_of(output: str) -> list[tuple[str, str]]:
    """Split each line into the call with its path, and the result."""
    return [(line.rpartition("\t")[0], line.rpartition("\t")[2]) for line in output.splitlines()]


def differs_on_purpose(call: str) -> bool:
    return any(re.match(pattern, call) for pattern, _ in DIFFERENCES)


@pytest.mark.parametrize("user", [None, "65534"], ids=["as the same user", "as nobody"])
def test_every_call_answers_as_on_a_tmpfs_mounted_read_only(user: str | None, public: Path) -> None:
    if user is not None and os.geteuid() != 0:
        pytest.skip("only root can become another user")
    program = compile_program("calls.c", public)
    mounted = public / "tmpfs"
    mounted.mkdir()
    oracle = read_only_tmpfs(program, mounted, mounted / "base", user)
    if oracle.returncode == 77 or "unshare" in oracle.stderr:
        pytest.skip(f"no tmpfs can be mounted here: {oracle.stderr.strip()}")
    assert oracle.returncode == 0, oracle.stderr
    # Of the same length, since the sizes of symlinks show it, and with the same last name.
    length = len(str(mounted)) - len("/diskless/")
    base = f"/diskless/{'x' * length}/base"
    tree = subprocess.run(
        [program, "tree", LIBRARY, base, *([user] if user else [])], capture_output=True, text=True, errors="replace"
    )
    assert tree.returncode == 0, tree.stderr

    expected, found = lines_of(oracle.stdout), lines_of(tree.stdout)
    assert [call for call, _ in found] == [call for call, _ in expected]
    wrong = [
        f"{call}: tmpfs {theirs!r}, Tree {ours!r}"
        for (call, theirs), (_, ours) in zip(expected, found, strict=True)
        if theirs != ours and not differs_on_purpose(call)
    ]
    assert not wrong, f"{len(wrong)} of {len(found)} calls:\n" + "\n".join(wrong[:40])
    assert len(found) > 30_000
