"""http(s)://: one object, pinned as well as its server allows, and signatures that nobody sees."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Callable

import pytest

import diskless
from diskless.errors import AccessDenied, InvalidOption, NotFound, ObjectChanged, SourceUnavailable, TransferError
from diskless.sources import open_source, resolve
from tests.sources.certificates import Certificates
from tests.sources.stub_server import Answer, Asked, StubServer

DATA = bytes(range(256)) * (5 << 12)  # 5 MiB: two parts
MOMENT = "Fri, 02 Jan 2026 03:04:05 GMT"
pytestmark = pytest.mark.usefixtures("no_env")


def serves(data: bytes = DATA, etag: str | None = '"1"', modified: str | None = MOMENT) -> Callable[[Asked], Answer]:
    """Answer as a plain web server does, without what is None."""
    named = {"etag": etag, "last-modified": modified}
    headers = {name: value for name, value in named.items() if value is not None}

    def answer(asked: Asked) -> Answer:
        if "range" not in asked.headers:
            return Answer(200, data, headers)
        if not data:
            return Answer(416, b"", {"content-range": "bytes */0"})
        first, last = map(int, asked.headers["range"].removeprefix("bytes=").split("-"))
        last = min(last, len(data) - 1)
        return Answer(206, data[first : last + 1], {**headers, "content-range": f"bytes {first}-{last}/{len(data)}"})

    return answer


def test_an_object_is_mounted_under_its_host(either_way):
    with (
        StubServer(serves()) as server,
        diskless.mount(f"{server.url}/models/a%20b/x.bin", load="background") as path,
    ):
        assert path == f"/diskless/http/127.0.0.1:{server.port}/models/a%20b/x.bin"
        assert open(path, "rb").read() == DATA and stat.S_ISREG(os.stat(path).st_mode)
        assert os.stat(path).st_mtime == 1767323045
        assert {asked.path for asked in server.asked} == {"/models/a%20b/x.bin"}
        assert all(asked.headers.get("if-match") == '"1"' for asked in server.asked[1:])


def test_a_signature_goes_to_the_server_and_nowhere_else(caplog):
    query = "X-Amz-Signature=PLANTED%2F&b=1"
    with StubServer(serves()) as server, caplog.at_level(logging.DEBUG):
        mounted = diskless.mount(f"{server.url}/x?{query}")
        with mounted as path:
            assert open(path, "rb").read() == DATA
        assert {asked.target for asked in server.asked} == {f"/x?{query}"}
        shown = f"{mounted!r} {mounted.path} {mounted.url} {resolve(f'{server.url}/x?{query}')!r} {caplog.text}"
    with pytest.raises(SourceUnavailable) as caught:
        diskless.mount(f"{server.url}/x?{query}")
    assert "PLANTED" not in shown + str(caught.value)


def test_two_signatures_share_nothing():
    with (
        StubServer(serves()) as server,
        diskless.mount(f"{server.url}/x?sig=1") as one,
        diskless.mount(f"{server.url}/x?sig=2") as other,
    ):
        assert one != other
        assert len([asked for asked in server.asked if asked.target.endswith("sig=2")]) > 1


@pytest.mark.parametrize("data", [b"", b"1"])
def test_small_objects_and_the_root_of_a_server(data):
    with StubServer(serves(data)) as server, diskless.mount(server.url) as path:
        assert path == f"/diskless/http/127.0.0.1:{server.port}" and open(path, "rb").read() == data


def _sends_to(target: str, elsewhere: Callable[[Asked], Answer]) -> Callable[[Asked], Answer]:
    """Send who asks for anything else to `/there` at `target`, as hubs send to where their files lie."""

    def answer(asked: Asked) -> Answer:
        is_there = asked.path == "/there"
        return elsewhere(asked) if is_there else Answer(302, headers={"location": f"{target}/there"})

    return answer


@pytest.mark.parametrize("between", [("127.0.0.1", "localhost"), ("localhost", "127.0.0.1")])
def test_a_server_may_send_to_another_host_which_is_not_told_who_asks(between, either_way):
    origin, other = between
    with StubServer(lambda asked: reply(asked)) as server:
        reply = _sends_to(f"http://{other}:{server.port}", serves())
        given = {"headers": {"Authorization": "Bearer PLANTED"}}
        with diskless.mount(f"http://{origin}:{server.port}/x", storage_options=given) as path:
            assert open(path, "rb").read() == DATA
        told = {(asked.headers["host"], asked.headers.get("authorization")) for asked in server.asked}
    assert told == {(f"{origin}:{server.port}", "Bearer PLANTED"), (f"{other}:{server.port}", None)}


@pytest.mark.parametrize("excluded", ["127.0.0.1", "127.0.0.1,localhost"])
def test_a_server_without_a_proxy_may_send_to_one_behind_it(no_env, excluded):
    with StubServer(lambda asked: Answer(404)) as proxy, StubServer(lambda asked: reply(asked)) as server:
        no_env.setenv("http_proxy", proxy.url)
        no_env.setenv("no_proxy", excluded)
        reply = _sends_to(f"http://localhost:{server.port}", serves())
        source = open_source(resolve(f"{server.url}/x"))
        if "localhost" in excluded:
            assert source.list().objects[0].size_bytes == len(DATA) and proxy.asked == []
        else:
            with pytest.raises(NotFound):
                source.list()
            assert {asked.target for asked in proxy.asked} == {f"http://localhost:{server.port}/there"}


@pytest.mark.parametrize("etag", [None, 'W/"1"'])
def test_without_a_strong_etag_the_time_pins_and_nothing_is_shared(etag):
    with StubServer(serves(etag=etag)) as server:
        with diskless.mount(f"{server.url}/x") as path:
            assert open(path, "rb").read() == DATA
            before = len(server.asked)
            with diskless.mount(f"{server.url}/x", allow_patterns="*"):
                assert len(server.asked) > before + 1
        assert not any("if-match" in asked.headers for asked in server.asked)


@pytest.mark.parametrize(
    "later",
    [
        serves(etag='"2"'),
        serves(DATA + b"1", etag=None),
        serves(etag=None, modified="Fri, 02 Jan 2026 03:04:06 GMT"),
        lambda asked: Answer(412),
        lambda asked: Answer(404),
    ],
    ids=["etag", "size", "time", "412", "404"],
)
def test_an_object_that_changes_is_an_error(later):
    first = serves(etag='"1"') if later(Asked("GET", "/", {}, b"")).headers.get("etag") else serves(etag=None)
    now = [first]
    with StubServer(lambda asked: now[0](asked)) as server:
        source = open_source(resolve(f"{server.url}/x"))
        (entry,) = source.list().objects
        now[0] = later
        with pytest.raises(ObjectChanged, match=f"{server.url}/x"):
            list(source.read(entry, 0, 5))


@pytest.mark.parametrize(
    ("answer", "kind", "said"),
    [
        (Answer(404), NotFound, "/x does not exist"),
        (Answer(403), AccessDenied, r"/x: access denied \(403\); may this caller list and read it\?"),
        (Answer(200, DATA), TransferError, "/x: the server ignores ranges"),
    ],
)
def test_what_a_server_refuses_is_said(answer, kind, said):
    with StubServer(lambda asked: answer) as server, pytest.raises(kind, match=said):
        diskless.mount(f"{server.url}/x")


def test_headers_are_sent_with_every_request_and_are_part_of_who_asks():
    given = {"headers": {"Authorization": "Bearer PLANTED"}}
    with StubServer(serves()) as server:
        spec = resolve(f"{server.url}/x", storage_options=given)
        with diskless.mount(f"{server.url}/x", storage_options=given):
            assert {asked.headers.get("authorization") for asked in server.asked} == {"Bearer PLANTED"}
    assert "PLANTED" not in repr(spec) and spec.identity != resolve(f"{server.url}/x").identity


def test_a_private_authority_is_trusted_when_it_is_named(certificates: Certificates):
    with StubServer(serves(), certificates.server) as server:
        url = server.url.replace("127.0.0.1", "localhost") + "/x"
        with pytest.raises(SourceUnavailable):
            open_source(resolve(url)).list()
        listing = open_source(resolve(url, storage_options={"verify": str(certificates.authority)})).list()
        assert listing.objects[0].size_bytes == len(DATA)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"kee": "PLANTED"}, "'kee' is not known; known are headers, verify"),
        ({"headers": "PLANTED"}, "'headers' is a mapping of str to str"),
        ({"headers": {"a": 1}}, "'headers' is a mapping of str to str"),
    ],
)
def test_unknown_options_are_named(options, said):
    with pytest.raises(InvalidOption, match=said) as caught:
        resolve("https://host/x", storage_options=options)
    assert "PLANTED" not in str(caught.value)


def test_a_session_is_for_s3():
    with pytest.raises(InvalidOption, match="session= is for s3:// URLs, not https://"):
        resolve("https://host/x", session=object())
