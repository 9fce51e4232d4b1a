"""Ctrl-C at the worst moments of `mount`, `prefetch` and `close`: nothing stays, and nothing bars the next load."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import diskless
from diskless.job import Job
from diskless.ram.directory import Directory
from diskless.ram.store import Store
from diskless.ram.tree import Tree


@pytest.fixture
def url(tmp_path: Path) -> str:
    directory = tmp_path / "model"
    directory.mkdir()
    for name in ("a", "b", "c"):
        (directory / name).write_text(name)
    return f"file://{directory}"


def _interrupted(function: Callable[..., Any], *, before: bool, count: int = 1) -> Callable[..., Any]:
    """The function, of which one call is interrupted."""
    calls = iter(range(1, 1_000_000))

    def call(*arguments: Any, **options: Any) -> Any:
        at = next(calls) == count
        if at and before:
            raise KeyboardInterrupt
        result = function(*arguments, **options)
        if at:
            raise KeyboardInterrupt
        return result

    return call


def _nothing_is_left(url: str, backing: str) -> None:
    assert diskless.mounts() == [] and diskless.usage().files == 0
    with diskless.mount(url, backing=backing) as path:
        assert sorted(os.listdir(path)) == ["a", "b", "c"]
    assert not os.path.exists(path) and diskless.usage().files == 0


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("load", [diskless.mount, diskless.prefetch])
def test_when_a_load_starts(url, backing, load, before, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(Job, "start", _interrupted(Job.start, before=before))
        with pytest.raises(KeyboardInterrupt):
            load(url, backing=backing)
    _nothing_is_left(url, backing)


def test_when_a_load_starts_that_another_thread_has_joined(url, monkeypatch):
    caught: list[BaseException] = []

    def join() -> None:
        try:
            diskless.mount(url)
        except diskless.Cancelled as error:
            caught.append(error)

    joining = threading.Thread(target=join)

    def start(job: Job) -> None:
        joining.start()
        while job.mounts < 2:
            pass
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Job, "start", start)
        with pytest.raises(KeyboardInterrupt):
            diskless.mount(url)
        joining.join()
    assert len(caught) == 1
    _nothing_is_left(url, "tree")


def test_when_a_mount_has_just_been_shown(url, backing, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr("diskless.paths.Mount", _interrupted(diskless.Mount, before=True))
        with pytest.raises(KeyboardInterrupt):
            diskless.mount(url, backing=backing)
    _nothing_is_left(url, backing)


@pytest.mark.parametrize("moment", ["hide", "release", "discard"])
def test_while_a_mount_closes(url, backing, moment, monkeypatch):
    mount = diskless.mount(url, backing=backing)
    owner: type = Store if moment == "release" else Tree if backing == "tree" else Directory
    with monkeypatch.context() as patched:
        patched.setattr(owner, moment, _interrupted(getattr(owner, moment), before=False))
        with pytest.raises(KeyboardInterrupt), mount:
            pass
    assert mount.closed and not os.path.exists(mount.path)
    mount.close()
    _nothing_is_left(url, backing)
