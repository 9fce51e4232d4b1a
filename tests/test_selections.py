"""Mounts that are open at once: each path has what its own Mount was asked for, and no more."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

import diskless

FILES = {"bert/config.json": b"{}", "bert/weights/a.bin": b"aa", "bert/weights/b.bin": b"b", "notes.txt": b"n"}


@pytest.fixture
def model(s3_env, bucket):
    for name, data in FILES.items():
        bucket.put(name, data)
    return bucket


def _names(path: str) -> list[str]:
    return sorted(str(file.relative_to(path)) for file in Path(path).rglob("*") if file.is_file())


def test_patterns_hold_whatever_else_is_open(model, backing):
    url = f"{model.url}/bert"
    with diskless.mount(url, allow_patterns="*.json", backing=backing) as chosen:
        with (
            diskless.mount(url, backing=backing) as whole,
            diskless.mount(url, allow_patterns="*.json", backing=backing) as equal,
            diskless.mount(url, ignore_patterns="*.bin", backing=backing) as same_files,
            diskless.mount(f"{url}/weights/a.bin", backing=backing) as one,
        ):
            assert _names(chosen) == ["config.json"]
            assert _names(whole) == ["config.json", "weights/a.bin", "weights/b.bin"]
            assert equal == same_files == chosen != whole
            assert os.path.samefile(f"{chosen}/config.json", f"{whole}/config.json"), "held once"
            assert os.path.samefile(one, f"{whole}/weights/a.bin")
        assert _names(chosen) == ["config.json"]


def test_what_nobody_verified_is_not_listed_beside_what_was(model):
    with (
        diskless.mount(f"{model.url}/bert", allow_patterns="*.json", verify=True) as verified,
        diskless.mount(f"{model.url}/bert"),
    ):
        assert _names(verified) == ["config.json"]


def test_a_mount_around_another_adds_nothing_to_it(model, backing):
    with (
        diskless.mount(f"{model.url}/bert", ignore_patterns="*.bin", backing=backing) as inner,
        diskless.mount(model.url, allow_patterns="bert/*.bin", backing=backing) as outer,
        diskless.mount(model.url, backing=backing) as whole,
    ):
        assert _names(inner) == ["config.json"]
        assert _names(outer) == ["bert/weights/a.bin", "bert/weights/b.bin"]
        assert _names(whole) == sorted(FILES)


@pytest.mark.parametrize("order", [("", "/bert", "/bert/weights"), ("/bert/weights", "/bert", "")])
def test_whole_prefixes_show_in_each_other_and_close_in_any_order(model, backing, order):
    mounts = {below: diskless.mount(model.url + below, backing=backing) for below in order}
    for below, mount in mounts.items():
        assert mount.path == mounts[""].path + below
    for closed in order:
        mounts.pop(closed).close()
        for below, mount in mounts.items():
            prefix = f"{below[1:]}/" if below else ""
            assert _names(mount.path) == sorted(name.removeprefix(prefix) for name in FILES if name.startswith(prefix))


def test_threads_that_choose_differently_see_their_own(model, backing):
    wrong: list[object] = []

    def choose(name: str) -> None:
        try:
            for _ in range(5):
                with diskless.mount(model.url, allow_patterns=name, backing=backing) as path:
                    if (seen := _names(path)) != [name]:
                        wrong.append((name, seen))
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=choose, args=(name,)) for name in FILES]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
