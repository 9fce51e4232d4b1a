"""Prefetches that are waited for, joined, cancelled and closed while the server makes them wait."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest

import diskless
from diskless.job import Job
from tests.loader.fault_server import FaultServer

DATA = os.urandom(3 << 20)


def test_waiting_has_a_limit_and_the_load_goes_on(backing):
    with FaultServer({"big": DATA}, hang_after=1000) as server:
        options = {"storage_options": server.storage_options, "backing": backing}
        job = diskless.prefetch(server.url, **options)
        with pytest.raises(TimeoutError, match=r"s3://faulty is not loaded after 0\.01 s"):
            job.wait(timeout_s=0.01)
        assert "running" in repr(job)
        server.hanging.wait()
        server.plan = lambda get: None
        server.stop()
        server.start()
        with diskless.mount(server.url, **options) as path:
            assert Path(path, "big").read_bytes() == DATA
            assert "complete" in repr(job) and len(server.gets) == 2, "the mount joined the job"


@pytest.mark.parametrize("how", ["cancel", "close"])
def test_a_prefetch_that_is_given_up_ends_for_who_waits_and_frees_its_bytes(backing, how):
    with FaultServer({"big": DATA}, hang_after=1000) as server:
        options = {"storage_options": server.storage_options, "backing": backing}
        job = diskless.prefetch(server.url, **options)
        caught: list[BaseException] = []

        def mount() -> None:
            try:
                diskless.mount(server.url, **options)
            except BaseException as error:
                caught.append(error)

        waiting = threading.Thread(target=mount)
        waiting.start()
        server.hanging.wait()
        while job.mounts == 0:
            time.sleep(0.001)
        if how == "close":
            job.close()  # the mount that joined needs it still
            assert "running" in repr(job)
        job.cancel()
        waiting.join()
        with pytest.raises(diskless.Cancelled, match="s3://faulty"):
            job.wait(timeout_s=20)
        assert [type(error) for error in caught] == [diskless.Cancelled]
        assert job.store.held_bytes == 0 and diskless.mounts() == []
        # What was given up does not stand in the way of the next.
        server.plan = lambda get: None
        with diskless.mount(server.url, **options) as path:
            assert os.path.getsize(f"{path}/big") == len(DATA)


def test_a_child_forked_before_the_load_has_begun_loads_for_itself(tmp_path, monkeypatch):
    """As a thread forks while another one is in `prefetch`: the child must not wait for a thread that it has not."""
    (tmp_path / "a").write_text("a")
    children: list[int] = []
    start = Job.start

    def fork_first(job: Job) -> None:
        pid = os.fork()
        if pid == 0:
            monkeypatch.undo()
            signal.alarm(30)
            with diskless.mount(f"file://{tmp_path}") as path:
                os._exit(0 if os.listdir(path) == ["a"] else 1)
        children.append(pid)
        start(job)

    monkeypatch.setattr(Job, "start", fork_first)
    diskless.prefetch(f"file://{tmp_path}").close()
    assert os.waitpid(children[0], 0)[1] == 0
