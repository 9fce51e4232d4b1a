"""CPython's own tests, unmodified, in a scratch: what fails there and not on a tmpfs is listed, with its reason."""

from __future__ import annotations

import os

import pytest

import diskless
from tests.filesystem.cpython import MODULE_LIMIT_S, MODULES, available, run_module
from tests.filesystem.cpython_differences import DIFFERENCES

MOST_DIFFERENCES = 45

modules = pytest.mark.parametrize(
    "module",
    [
        pytest.param(each, marks=[] if available(each) else pytest.mark.skip(f"this Python came without test.{each}"))
        for each in MODULES
    ],
)
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3 * MODULE_LIMIT_S)]


def told(failed: dict[str, str]) -> str:
    return "\n".join(f"{name}: {text[-400:]}" for name, text in failed.items())


@modules
@pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="needs a tmpfs at /dev/shm")
def test_they_pass_on_a_tmpfs(module: str) -> None:
    """Without it a failure would prove nothing."""
    outcome = run_module(module, "tmpfs")
    assert outcome.ran > 0
    assert not outcome.failed, told(outcome.failed)


@modules
@pytest.mark.skipif(not hasattr(diskless, "scratch"), reason="there is no scratch yet")
def test_they_pass_in_a_scratch_but_for_what_is_listed(module: str) -> None:
    outcome = run_module(module, "scratch")
    listed = {name for name in DIFFERENCES if name.startswith(f"test.{module}.")}
    assert outcome.ran > 0
    unlisted = {name: text for name, text in outcome.failed.items() if name not in listed}
    assert not unlisted, told(unlisted)
    assert not listed - set(outcome.failed), "listed as different, and passes"


@modules
@pytest.mark.skipif(not hasattr(diskless, "scratch"), reason="there is no scratch yet")
def test_they_pass_on_the_directory_backing(module: str, tmp_path: os.PathLike[str]) -> None:
    """Real files: no list there."""
    outcome = run_module(module, f"directory:{tmp_path}")
    assert outcome.ran > 0
    assert not outcome.failed, told(outcome.failed)


def test_the_list_of_differences_is_short_and_names_cases_of_these_modules() -> None:
    assert len(DIFFERENCES) <= MOST_DIFFERENCES
    assert all(name.split(".")[1] in MODULES for name in DIFFERENCES)


def test_a_case_that_kills_its_process_is_named_and_the_others_still_run(
    tmp_path: os.PathLike[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The runner itself, on a module of tests that is made up."""
    package = os.path.join(tmp_path, "test")
    os.mkdir(package)
    with open(os.path.join(package, "__init__.py"), "w") as file:
        file.write("from pkgutil import extend_path\n__path__ = extend_path(__path__, __name__)\n")
    with open(os.path.join(package, "test_made_up.py"), "w") as file:
        file.write(
            "import os, signal, unittest\n"
            "class Case(unittest.TestCase):\n"
            "    def test_a(self): pass\n"
            "    def test_b(self): os.kill(os.getpid(), signal.SIGKILL)\n"
            "    def test_c(self): self.fail('on purpose')\n"
        )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    failed = run_module("test_made_up", "tmpfs").failed
    assert sorted(name.rpartition(".")[2] for name in failed) == ["test_b", "test_c"]
    assert "ended with -9" in failed["test.test_made_up.Case.test_b"]
    assert "on purpose" in failed["test.test_made_up.Case.test_c"]
