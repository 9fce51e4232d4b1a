"""What the Tab key offers, asked of the shells themselves."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from diskless.cli import main
from tests.cli.conftest import Terminal
from tests.test_terminal import Terminal as Screen

COMMANDS = ["completions", "demo", "load", "ls", "mirror", "push"]
LOAD = ["--allow", "--budget", "--help", "--ignore", "--json", "--quiet", "--report", "--verify"]
# What stands on the line, and what is offered for the last word of it, in a directory with two files.
LINES = [
    ("diskless ", COMMANDS),
    ("diskless lo", ["load"]),
    ("diskless load s3://b/k --", LOAD),
    ("diskless load s3://b/k --re", ["--report"]),
    ("diskless load s3://b/k --report o", ["out put.html", "out.html"]),
    ("diskless load --budget ", []),
    ("diskless load o", []),
    ("diskless push o", ["out put.html", "out.html"]),
    ("diskless push out.html s3://b/k --ov", ["--overwrite"]),
    ("diskless mirror --from-cache o", ["out put.html", "out.html"]),
    ("diskless mirror --ch", ["--check"]),
    ("diskless completions ", ["bash", "fish", "zsh"]),
]


def _needs(shell: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(shell) is None, reason=f"needs {shell}")


def _script(shell: str, directory: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    assert main(["completions", shell]) == 0
    script = directory / "script"
    script.write_text(capsys.readouterr().out)
    for name in ("out.html", "out put.html"):
        (directory / name).touch()
    return script


@_needs("bash")
@pytest.mark.parametrize(("line", "offered"), LINES)
def test_bash_offers(line: str, offered: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = _script("bash", tmp_path, capsys)
    # As readline does it: the words of the line, then the function that is registered for the first of them.
    code = """
        compopt() { :; }  # works in a completion only
        source "$1"
        [ "$(complete -p diskless)" = "complete -F _diskless diskless" ] || exit 1
        COMP_LINE=$2 COMP_POINT=${#2}
        read -ra COMP_WORDS <<< "$2"
        [[ $2 == *' ' ]] && COMP_WORDS+=("")
        COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
        _diskless
        printf '%s\\n' "${COMPREPLY[@]}"
    """
    done = subprocess.run(
        ["bash", "--norc", "-c", code, "bash", str(script), line], capture_output=True, text=True, cwd=tmp_path
    )
    assert (done.returncode, done.stderr) == (0, "")
    said = sorted(filter(None, done.stdout.splitlines()))
    # Where nothing is typed bash offers options beside the words; the other shells do not.
    assert [word for word in said if line.split(" ")[-1] or not word.startswith("--")] == offered


@_needs("fish")
@pytest.mark.parametrize(("line", "offered"), LINES)
def test_fish_offers(
    line: str, offered: list[str], terminal: Terminal, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = _script("fish", tmp_path, capsys)
    code = f"source {script}; complete -C '{line}'"
    done = subprocess.run(
        ["fish", "--no-config", "-c", code], env=terminal.env, capture_output=True, text=True, cwd=tmp_path
    )
    assert (done.returncode, done.stderr) == (0, "")
    said = [each.partition("\t")[0].replace("\\ ", " ") for each in done.stdout.splitlines()]
    assert sorted(set(said) - {"terminal/"}) == offered


@_needs("zsh")
@pytest.mark.parametrize(("line", "whole"), [
    ("diskless comp", "diskless completions "),
    ("diskless load s3://b/k --re", "diskless load s3://b/k --report "),
    ("diskless push out.", "diskless push out.html "),
    ("diskless completions f", "diskless completions fish "),
])  # fmt: skip
def test_zsh_completes(
    line: str, whole: str, terminal: Terminal, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = _script("zsh", tmp_path, capsys)
    screen = Screen(["zsh", "-f", "-i"], {**terminal.env, "TERM": "dumb", "PS1": "ready> "})
    screen.read_until(b"ready> ")
    # What stands on the line goes to a file, since a screen has it in pieces.
    setting = (
        f"cd {tmp_path}; autoload -U compinit; compinit -D -u; source {script}; "
        "shown() { print -r -- $BUFFER > line; exit }; zle -N shown; bindkey '^X' shown; print go''od\r"
    )
    screen.type(setting.encode())
    screen.read_until(b"good")
    screen.type(line.encode() + b"\t\x18")
    assert screen.end() == 0
    assert (tmp_path / "line").read_text() == whole + "\n"


def test_a_shell_that_is_not_known_is_a_usage_error(terminal: Terminal) -> None:
    done = terminal.run("completions", "tcsh")
    assert done.returncode == 2 and "'bash'" in done.stderr
