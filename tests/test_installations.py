"""A Loader finds what its user has, however that was installed, and nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.loader.fault_server import FaultServer
from tests.programs import BY_A_PROCESS, MOUNT, SOURCE, command, environment, run


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer({"big": bytes(3 << 20), "small": b"s"}) as server:
        yield server


def _site_packages() -> str:
    import obstore

    return str(Path(obstore.__file__).parents[1])


def test_packages_named_by_pythonpath_are_found(server) -> None:
    """A Python of its own that knows no site-packages, as in AWS Lambda."""
    path = os.pathsep.join([str(SOURCE), _site_packages()])
    assert run(server, MOUNT, sys.executable, "-S", env=environment(PYTHONPATH=path)) == BY_A_PROCESS


def test_packages_found_through_entries_added_at_run_time_are_found(server) -> None:
    script = f"import sys; sys.path[:0] = [{str(SOURCE)!r}, {_site_packages()!r}]\n{MOUNT}"
    assert run(server, script, sys.executable, "-S", "-E", env=environment()) == BY_A_PROCESS


def test_packages_found_through_relative_entries_are_found(server, tmp_path) -> None:
    (tmp_path / "lib").symlink_to(_site_packages())
    script = f"import os, sys; sys.path[:0] = [{str(SOURCE)!r}, 'lib']\n{MOUNT}"
    assert run(server, script, sys.executable, "-S", env=environment(), cwd=tmp_path) == BY_A_PROCESS


def test_an_editable_installation_in_a_virtual_environment(server, tmp_path) -> None:
    """What `pip install -e` leaves: a .pth file that names the sources."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    (packages,) = (tmp_path / "venv/lib").glob("python*/site-packages")
    (packages / "_diskless_editable.pth").write_text(f"{SOURCE}\n{_site_packages()}\n")
    python = str(tmp_path / "venv/bin/python")
    script = f"import sys; assert sys.prefix != sys.base_prefix\n{MOUNT}"
    assert run(server, script, python, env=environment()) == BY_A_PROCESS


def test_a_package_that_is_copied_elsewhere_is_used_by_both_sides(server, tmp_path) -> None:
    """Another diskless on the path, that of a base image for instance, is not what the Loader may take."""
    shutil.copytree(
        SOURCE / "diskless", tmp_path / "mine/diskless", ignore=shutil.ignore_patterns("native", "__pycache__")
    )
    other = tmp_path / "other/diskless"
    other.mkdir(parents=True)
    (other / "__init__.py").write_text("raise ImportError('the wrong diskless')")
    script = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'mine')!r}); import diskless\n"
        f"sys.path.insert(0, {str(tmp_path / 'other')!r})\n{MOUNT}"
    )
    assert run(server, script, env=environment()) == BY_A_PROCESS


@pytest.mark.parametrize("on_the_path", [False, True])
def test_a_working_directory_with_modules_named_as_standard_ones(server, tmp_path, on_the_path: bool) -> None:
    """On the path they would break the program itself, unless it has imported the true ones before."""
    names = ["json", "socket", "array", "threading", "select"]
    for name in names:
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the wrong module')")
    script = f"import sys; sys.path.remove(''); import {', '.join(names)}\n"
    script += "sys.path.insert(0, '')\n" if on_the_path else ""
    assert run(server, script + MOUNT, cwd=tmp_path) == BY_A_PROCESS


@pytest.mark.parametrize("library", [str(SOURCE / "diskless/libdiskless.so"), "/no/such/library.so"])
def test_ld_preload_does_not_reach_the_loader(server, library: str) -> None:
    script = f"""
        import json, os, sys
        os.environ["LD_PRELOAD"] = {library!r}
        import diskless
        from tests.loader.fetching import loader_pids
        with diskless.mount(sys.argv[1], storage_options=json.loads(sys.argv[2])):
            (pid,) = loader_pids()
            print("LD_PRELOAD" in open(f"/proc/{{pid}}/environ").read())
            print({library!r} in open(f"/proc/{{pid}}/maps").read())
    """
    env = environment(PYTHONPATH=f"{SOURCE}{os.pathsep}{Path(__file__).parents[1]}")
    assert run(server, script, env=env) == ["False", "False"]


def test_a_program_started_with_ld_preload(server) -> None:
    env = environment(PYTHONPATH=str(SOURCE), LD_PRELOAD="/no/such/library.so")
    ended = subprocess.run(command(server, MOUNT), capture_output=True, text=True, timeout=90, env=env)
    assert ended.stdout.splitlines() == BY_A_PROCESS
    assert ended.stderr.count("/no/such/library.so") == 1, "only the program's own start complains"
