"""Runs the same lines in a directory on a tmpfs and in a scratch, and gives what each of them said."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import pytest

SHM = "/dev/shm"
ROOT = Path(__file__).parent.parent.parent

PRELUDE = """
import errno, glob, os, shutil, stat, subprocess, sys, tempfile, threading

def show(*calls):
    "Print what each call gives, or its errno."
    for call in calls:
        try:
            result = call()
        except OSError as error:
            result = errno.errorcode[error.errno]
        print(str(result).replace(base, "BASE").replace(above, "ABOVE"))
    sys.stdout.flush()

base = sys.argv[1]
above = os.path.dirname(base)
user = sys.argv[2]

def become_user():
    if user:
        os.setgroups([]); os.setgid(int(user)); os.setuid(int(user))
"""


def transcript(script: str, *, scratch: bool, user: str = "") -> str:
    """Run `script`, which has an empty directory `base`, as its working directory too; returns what it printed."""
    text = PRELUDE + textwrap.dedent(script)
    if scratch:
        inside = "import diskless\nwith diskless.scratch(at=base):\n" + textwrap.indent("os.chdir(base)\n", "    ")
        text = PRELUDE + inside + textwrap.indent(textwrap.dedent(script) + '\nos.chdir("/")\n', "    ")
    else:
        text = PRELUDE + "os.chdir(base)\n" + textwrap.dedent(script)
    with tempfile.TemporaryDirectory(dir=SHM) as above:
        os.chmod(above, 0o755)
        base = os.path.join(above, "base")
        os.mkdir(base)
        os.chmod(base, 0o1777)
        done = subprocess.run(
            [sys.executable, "-c", f"import sys\nsys.path[:0] = {sys.path!r}\n" + text, base, user],
            capture_output=True,
            text=True,
            timeout=120,
            cwd="/",
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode == 0, done.stderr
        if scratch:
            assert os.listdir(base) == [], "something landed on the directory beneath"
        assert os.listdir(above) == ["base"]
    return done.stdout


def compare(script: str, user: str = "") -> str:
    """Assert that a scratch says what a tmpfs does, and return it."""
    if not os.access(SHM, os.W_OK) or shutil.disk_usage(SHM).total == 0:
        pytest.skip(f"{SHM} is no tmpfs that can be written")
    expected = transcript(script, scratch=False, user=user)
    assert transcript(script, scratch=True, user=user) == expected
    return expected
