"""A job and its Loader process: killed and replaced, cancelled, and given credentials."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from diskless import sources
from diskless.errors import Cancelled, CredentialsError, LoaderDied
from diskless.loader import client, process, serve
from diskless.loader.plan import LEAST_BYTES
from diskless.loader.protocol import MAX_MESSAGE_BYTES
from tests.loader.fault_server import Fault, FaultServer, Get
from tests.loader.fetching import fetch, listed, loader_pids, targets

MIB = 1 << 20
BIG = os.urandom(40 * MIB)


def _kill_loaders() -> None:
    for pid in loader_pids():
        os.kill(pid, signal.SIGKILL)


def test_a_loader_that_is_killed_is_replaced_and_only_missing_ranges_are_fetched() -> None:
    """Killed when half of the bytes are in place, as an out-of-memory killer does."""
    hanging = threading.Event()

    def plan(get: Get) -> Fault | None:
        # The first Loader gets the parts of the first half, and nothing of those behind.
        if get.start >= len(BIG) // 2 and not hanging.is_set():
            return Fault(hang_after=0)
        return None

    killed = threading.Event()

    def kill(done_bytes: int) -> None:
        if done_bytes >= len(BIG) // 2 and not killed.is_set():
            killed.set()
            _kill_loaders()
            time.sleep(0.2)  # what it had asked for last is still kept back
            hanging.set()

    with FaultServer({"big": BIG}, plan=plan) as server:
        contents, stats = fetch(server, on_progress=kill)
        assert contents == {"big": BIG}
        assert killed.is_set() and stats.loaders_lost == 1
        # One part may have been complete and not yet told.
        assert server.sent_bytes("big") - len(BIG) == stats.refetched_bytes <= LEAST_BYTES


def test_parts_that_were_under_way_are_fetched_again_and_counted() -> None:
    killed = threading.Event()

    def plan(get: Get) -> Fault | None:
        return None if killed.is_set() else Fault(hang_after=MIB)

    def kill(done_bytes: int) -> None:
        if done_bytes and not killed.is_set():
            killed.set()
            _kill_loaders()

    with FaultServer({"big": BIG}, plan=plan) as server:
        contents, stats = fetch(server, on_progress=kill)
        assert contents == {"big": BIG}
        assert 0 < stats.refetched_bytes <= server.sent_bytes("big") - len(BIG)


def test_a_loader_that_is_killed_while_it_lists_is_replaced() -> None:
    objects = {f"many/{number:04}": b"x" for number in range(300)}
    with FaultServer(objects, page_size=100) as server:
        pages: list[int] = []

        class Killing(dict):
            """The objects; the second page is asked for, and the Loader dies."""

            def __iter__(self):
                pages.append(1)
                if len(pages) == 3:
                    _kill_loaders()
                return super().__iter__()

        server.objects = Killing(objects)
        with listed(server, "many") as (job, found, _):
            assert [entry.key for entry in found] == list(objects)
            assert job.stats.loaders_lost == 1


def test_loaders_that_die_again_and_again_are_given_up() -> None:
    def plan(get: Get) -> Fault:
        if get.start == 0:
            _kill_loaders()
        return Fault(hang_after=0)

    with (
        FaultServer({"big": BIG}, plan=plan) as server,
        pytest.raises(LoaderDied, match=r"s3://faulty: the Loader process died 4 times; is it killed for memory"),
    ):
        fetch(server)
    with FaultServer({"big": BIG}) as server:
        assert fetch(server)[0] == {"big": BIG}, "the next job has a Loader again"


def test_jobs_share_one_loader_and_go_on_when_another_ends() -> None:
    def plan(get: Get) -> Fault | None:
        return Fault(hang_after=MIB) if get.key == "a" else None

    with FaultServer({"a": BIG, "b": b"b"}, plan=plan) as server:
        ended: list[BaseException] = []

        def load() -> None:
            try:
                fetch(server, "a")
            except BaseException as error:
                ended.append(error)

        other = threading.Thread(target=load)
        other.start()
        server.hanging.wait()
        for _ in range(3):
            assert fetch(server, "b")[0] == {"b": b"b"}
        assert len(loader_pids()) == 1 and not ended
        _kill_loaders()
        server.stop()
        other.join()
        assert ended, "the server is gone for good"


def test_a_cancel_meets_a_job_whose_loader_is_just_being_replaced(monkeypatch) -> None:
    """Between the old connection and the new one there is none that could be ended."""
    with FaultServer({"big": BIG}, hang_after=MIB) as server, listed(server) as (job, objects, files):
        connect = process.connect

        def connect_late(source):
            channel = connect(source)
            job.cancel()
            return channel

        monkeypatch.setattr(process, "connect", connect_late)
        killing = threading.Thread(target=lambda: server.hanging.wait() and _kill_loaders())
        killing.start()
        with pytest.raises(Cancelled):
            job.fetch(targets(objects, files))
        killing.join()


def test_a_job_that_is_cancelled_before_it_began_stays_so() -> None:
    with FaultServer({"a": b"a"}) as server:
        spec = sources.resolve(server.url, storage_options=server.storage_options)
        with client.Job(spec) as job:
            job.cancel()
            with pytest.raises(Cancelled):
                job.list()


def test_parts_that_are_reported_twice_count_once() -> None:
    """A full socket may cut a report in two: then all of it comes again."""
    progress = client._Progress([100, 50])
    for part in ((0, 10, 30), (0, 10, 30), (0, 60, 100), (1, 0, 50)):
        progress.add(*part)
    assert progress.missing(0) == [(0, 10), (30, 60)] and progress.missing(1) == []
    assert progress.done_bytes() == 20 + 40 + 50


class _Session:
    """A boto3 session whose credentials are renewed by a function, as those of a role are."""

    def __init__(self, lifetime_s: float) -> None:
        import boto3
        from botocore.credentials import RefreshableCredentials
        from botocore.session import get_session

        self.renewals = 0
        self.fails = False
        self._lifetime_s = lifetime_s
        botocore_session = get_session()
        botocore_session._credentials = RefreshableCredentials.create_from_metadata(
            self._renew(), refresh_using=self._renew, method="test"
        )
        self.session = boto3.Session(botocore_session=botocore_session, region_name="us-east-1")

    def expire(self) -> None:
        """Have the session renew when it is asked next."""
        self.session.get_credentials()._expiry_time = datetime.now(timezone.utc)

    def _renew(self) -> dict[str, str]:
        if self.fails:
            raise RuntimeError("the identity provider is down")
        self.renewals += 1
        expires = datetime.now(timezone.utc) + timedelta(seconds=self._lifetime_s)
        return {
            "access_key": f"AKID{self.renewals}",
            "secret_key": "secret",
            "token": "token",
            "expiry_time": expires.isoformat(),
        }


def _spec(server: FaultServer, session: _Session):
    return sources.resolve(
        server.url, session=session.session, storage_options={"endpoint_url": server.storage_options["endpoint_url"]}
    )


def _fetch_as(server: FaultServer, session: _Session) -> bytes:
    with client.Job(_spec(server, session)) as job:
        listing = job.list()
        fd = os.memfd_create("big")
        try:
            job.fetch(targets([listing.objects[0]], [fd]))
            return os.pread(fd, len(BIG) + 1, 0)
        finally:
            os.close(fd)


def test_credentials_of_a_session_are_renewed_in_mid_transfer_before_they_expire(either_way) -> None:
    """What expires within five minutes is renewed for each request, by the session, in this process."""

    def plan(get: Get) -> None:
        used.append(get.access_key)
        time.sleep(0.15)  # obstore asks for credentials at most ten times a second

    used: list[str] = []
    session = _Session(lifetime_s=60)
    with FaultServer({"big": BIG}, plan=plan) as server:
        assert _fetch_as(server, session) == BIG
    assert len(set(used)) > 1, used


@pytest.mark.parametrize("code", ["ExpiredToken", "AccessDenied"])
def test_credentials_that_are_refused_in_mid_transfer_are_renewed_ahead_of_their_time(either_way, code: str) -> None:
    """A 403 that heals: they were to last for an hour, and are withdrawn."""
    withdrawn: list[str] = []

    def plan(get: Get) -> Fault | None:
        if get.number == 1:
            withdrawn.append(get.access_key)
            session.expire()
        return Fault(status=403, code=code) if get.access_key in withdrawn else None

    session = _Session(lifetime_s=3600)
    with FaultServer({"big": BIG}, plan=plan) as server:
        assert _fetch_as(server, session) == BIG
        assert {get.access_key for get in server.gets} == {"AKID1", "AKID2"}


def test_credentials_that_stay_refused_are_an_error_at_once(either_way) -> None:
    session = _Session(lifetime_s=3600)
    with FaultServer({"big": BIG}, plan=lambda get: Fault(status=403, code="ExpiredToken")) as server:
        with pytest.raises(CredentialsError, match="expired"):
            _fetch_as(server, session)
        assert session.renewals == 1 and len(server.gets) <= 8, "asked once by each connection"


def test_a_session_that_cannot_renew_is_an_error_of_credentials(either_way) -> None:
    session = _Session(lifetime_s=60)
    with FaultServer({"big": BIG}) as server:
        spec = _spec(server, session)
        session.fails = True
        with client.Job(spec) as job, pytest.raises(CredentialsError, match="s3://faulty"):
            job.list()


def test_a_loader_waits_for_credentials_only_so_long(in_threads, monkeypatch) -> None:
    """The user's process may be stopped, or its session hang."""
    monkeypatch.setattr(serve, "_CREDENTIALS_WAIT_S", 0.05)
    monkeypatch.setattr(client.Job, "_receive", _never_answers_credentials)
    with (
        FaultServer({"big": BIG}) as server,
        client.Job(_spec(server, _Session(lifetime_s=60))) as job,
        pytest.raises(CredentialsError, match="no fresh credentials"),
    ):
        job.list()


def _never_answers_credentials(self: client.Job, channel) -> dict[str, object]:
    while True:
        message, _ = channel.receive()
        if message["op"] == "error":
            raise CredentialsError(str(message["message"]))
        if message["op"] != "credentials":
            return message


def test_a_spec_fits_one_message() -> None:
    """Keys and session tokens are long; the environment that goes along is bounded by what is asked for."""
    import json

    options = {"key": "A" * 128, "secret": "s" * 128, "token": "t" * 4096, "region": "us-east-1"}
    spec = sources.resolve("s3://bucket/" + "k" * 1000, storage_options=options)
    assert len(json.dumps(spec.to_message())) < MAX_MESSAGE_BYTES / 2


def test_a_loader_holds_no_descriptor_of_this_process() -> None:
    """Not a file, a lock or a connection of the user's, only what it was handed."""
    with FaultServer({"big": BIG}, hang_after=MIB) as server, listed(server) as (job, objects, files):

        def load() -> None:
            with contextlib.suppress(Cancelled):
                job.fetch(targets(objects[:1], files[:1]))

        fetching = threading.Thread(target=load)
        fetching.start()
        server.hanging.wait()
        (pid,) = loader_pids()
        held = {os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir()}
        job.cancel()
        fetching.join()
    files_held = {
        link
        for link in held
        if link.startswith("/") and not link.startswith(("/dev/null", "/memfd:big", "/memfd:diskless-gates"))
    }
    assert not files_held - {os.readlink("/proc/self/fd/2")}, files_held
