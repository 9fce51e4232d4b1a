"""The command line itself."""

from __future__ import annotations

import subprocess
import sys

import pytest

import diskless
from diskless.cli import main
from tests.cli.conftest import Terminal


def test_help_names_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    assert "demo" in capsys.readouterr().out


def test_no_command_is_a_usage_error(terminal: Terminal) -> None:
    done = terminal.run()
    assert done.returncode == 2
    assert "usage: diskless" in done.stderr and "Traceback" not in done.stderr


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"diskless {diskless.__version__}\n"


def test_python_m_diskless_is_the_same_command() -> None:
    done = subprocess.run([sys.executable, "-m", "diskless", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"diskless {diskless.__version__}\n"


def test_output_that_cannot_be_written_is_one_line(terminal: Terminal) -> None:
    code = (
        "import argparse, sys; from diskless.cli import demo, main\n"
        "def full(options): raise OSError(28, 'No space left on device')\n"
        "demo.run = full\n"
        "sys.exit(main(['demo']))"
    )
    done = subprocess.run([sys.executable, "-c", code], env=terminal.env, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "diskless: [Errno 28] No space left on device\n"
