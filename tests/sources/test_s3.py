"""S3Source: listings against moto and against servers with habits of their own."""

from __future__ import annotations

import time

import pytest

from diskless.errors import (
    NotFound,
    SourceUnavailable,
)
from diskless.sources import Listing, Object, open_source, resolve
from tests.sources.stub_server import Answer, Asked, StubServer, s3_error, s3_listing

# Keys that a parser, a signature or a path could stumble over; all are file names.
UNUSUAL = [
    "%2e%2e",
    "a%20b",
    "a%2Fb",
    "%",
    "100%zz",
    "a b",
    "a+b",
    "a&b=c",
    "a?b",
    "a#b",
    "a*b",
    "~tilde",
    "back\\slash",
    "[x]{y}",
    "quote\"'`",
    "<x>|^",
    "a:b;c@d,e",
    "$!(x)",
    "\u00fcber/stra\u00dfe",
    "e\u0301 is not \u00e9",
    "\U0001f600",
    "\u200b",
    "n" * 255,
]
# Keys that cannot be files.
ODD = ["a//b", "../x", "/x", "x/../y", "./z", "n" * 300, "tab\there", "del\x7f", "marker-with-bytes/"]


def _source(url: str, **options: object):
    return open_source(resolve(url, storage_options=options))


def _list(url: str, **options: object) -> Listing:
    return _source(url, **options).list()


def _paths(listing: Listing) -> list[str]:
    return sorted(entry.path for entry in listing.objects)


def _read(source, entry: Object, start: int, end: int) -> bytes:
    return b"".join(bytes(chunk) for chunk in source.read(entry, start, end))


def test_unusual_keys_are_listed_and_read_and_odd_ones_never_hide_them(s3_env, bucket):
    for key in UNUSUAL + ODD:
        bucket.put(key, key.encode())
    bucket.put("directory/", b"")
    source = _source(bucket.url)
    listing = source.list()
    assert _paths(listing) == sorted(UNUSUAL)
    assert sorted(key for key, _ in listing.refused) == sorted(ODD)
    assert all(why for _, why in listing.refused) and not listing.is_object
    for entry in listing.objects:
        assert _read(source, entry, 0, entry.size_bytes) == entry.key.encode()


@pytest.mark.parametrize("key", [key for key in UNUSUAL if "/" not in key])
def test_the_url_of_one_unusual_key_gives_that_object(s3_env, bucket, key):
    bucket.put(f"d/{key}", b"mine")
    bucket.put("d/other", b"other")
    listing = _list(f"{bucket.url}/d/{key}")
    assert listing.is_object and [(entry.key, entry.path) for entry in listing.objects] == [(f"d/{key}", key)]


def test_a_listed_object_carries_its_size_etag_and_time(s3_env, bucket):
    before = time.time()
    bucket.put("a", b"12345")
    (entry,) = _list(bucket.url).objects
    assert entry.size_bytes == 5
    # The MD5 of the content, as S3 quotes it.
    assert entry.etag == '"827ccb0eea8a706c4c34a16891f84e7b"'
    assert abs(entry.mtime_ns / 1e9 - before) < 60


def test_an_exact_object_comes_before_a_prefix_and_a_slash_asks_for_the_prefix(s3_env, bucket):
    for key in ("bert", "bert/config.json", "bert/deep/x", "bert-large/config.json", "bert.bin"):
        bucket.put(key, b"x")
    assert [entry.key for entry in _list(f"{bucket.url}/bert").objects] == ["bert"]
    for url in (f"{bucket.url}/bert/", f"{bucket.url}/bert/deep/", f"{bucket.url}/bert/deep"):
        assert not _list(url).is_object
    assert _paths(_list(f"{bucket.url}/bert/")) == ["config.json", "deep/x"]
    assert _paths(_list(f"{bucket.url}/bert/deep")) == ["x"]


def test_a_prefix_is_no_beginning_of_a_name(s3_env, bucket):
    for key in ("bert/config.json", "bertha/config.json", "bert-large"):
        bucket.put(key, b"x")
    assert _paths(_list(f"{bucket.url}/bert")) == ["config.json"]
    with pytest.raises(NotFound):
        _list(f"{bucket.url}/ber")


def test_a_prefix_behind_more_than_a_page_of_neighbours_is_found(s3_env, bucket, monkeypatch):
    """``bert-…`` and ``bert.…`` sort between ``bert`` and ``bert/``; a page of one object stands for one of 1,000."""
    from diskless.sources import s3

    whole = s3.canonical_query
    monkeypatch.setattr(s3, "canonical_query", lambda parameters: whole({**parameters, "max-keys": "1"}))
    for key in ("bert-a", "bert-b", "bert/1", "bert/2", "bert/3"):
        bucket.put(key, b"x")
    assert _paths(_list(f"{bucket.url}/bert")) == ["1", "2", "3"]


def test_directory_markers_are_no_objects(s3_env, bucket):
    for key in ("m/", "m/sub/", "m/sub/x"):
        bucket.put(key, b"" if key.endswith("/") else b"x")
    for url in (bucket.url, f"{bucket.url}/m", f"{bucket.url}/m/"):
        listing = _list(url)
        assert [entry.key for entry in listing.objects] == ["m/sub/x"] and listing.refused == []


def test_an_empty_object_is_an_object(s3_env, bucket):
    bucket.put("empty", b"")
    source = _source(f"{bucket.url}/empty")
    (entry,) = source.list().objects
    assert (entry.path, entry.size_bytes) == ("empty", 0)


def test_a_key_that_cannot_be_a_file_is_named_when_it_is_the_url(s3_env, bucket):
    bucket.put("n" * 300, b"x")
    with pytest.raises(NotFound, match=r"n{300}: this key cannot be a file: a part is longer than 255 bytes"):
        _list(f"{bucket.url}/{'n' * 300}")


def _not_found(url: str) -> str:
    with pytest.raises(NotFound) as caught:
        _list(url)
    assert isinstance(caught.value, FileNotFoundError)
    return str(caught.value).replace(url.split("/")[2], "B")


def test_what_is_near_is_said_where_nothing_is(s3_env, bucket):
    for key in ("bert/config.json", "bert/model.safetensors", "gpt2/config.json", "models/a/1"):
        bucket.put(key, b"x")
    assert _not_found(f"{bucket.url}/brt") == "no object at s3://B/brt (did you mean s3://B/bert/?)"
    assert _not_found(f"{bucket.url}/brt/") == "no object at s3://B/brt/ (did you mean s3://B/bert/?)"
    assert _not_found(f"{bucket.url}/bert/confg.json") == (
        "no object at s3://B/bert/confg.json (did you mean s3://B/bert/config.json?)"
    )
    assert _not_found(f"{bucket.url}/zzz") == "no object at s3://B/zzz; below s3://B/ there are: bert/, gpt2/, models/"
    assert _not_found(f"{bucket.url}/models/a/zzz/x") == (
        "no object at s3://B/models/a/zzz/x, nor anything below s3://B/models/a/zzz/"
    )


@pytest.mark.parametrize("key", ["only/", "only/sub/"])
def test_a_prefix_that_holds_only_directory_markers_holds_nothing(s3_env, bucket, key):
    bucket.put(key, b"")
    bucket.put("other", b"x")
    assert _not_found(f"{bucket.url}/only").startswith("no object at s3://B/only; below s3://B/ there are: o")


def test_an_empty_bucket_says_so(s3_env, bucket):
    assert _not_found(bucket.url) == "the bucket s3://B is empty"


def test_no_such_bucket_is_said_with_the_endpoint(s3_env):
    with pytest.raises(NotFound) as caught:
        _list("s3://no-such-bucket/x")
    assert str(caught.value) == f"no such bucket: s3://no-such-bucket at {s3_env.endpoint}"


# Servers with habits of their own.

SIGNED = {"key": "AKIDTEST", "secret": "test-secret", "region": "us-east-1"}


def test_keys_are_decoded_as_s3_encodes_them(no_env):
    """Real S3 writes a space as a plus sign, which boto3 undoes; moto and MinIO differ."""
    page = s3_listing(("a+b%2Bc", 1), ("d%2520e", 1), ("%C3%A9", 1), ("tab%09", 1), ("bad%FFutf", 1))
    with StubServer(lambda asked: page) as server:
        listing = _list("s3://models", endpoint_url=server.url, **SIGNED)
    assert _paths(listing) == ["a b+c", "d%20e", "\u00e9"]
    assert dict(listing.refused) == {"tab\t": "it holds control characters", "bad\udcffutf": "it is not valid UTF-8"}


def test_a_server_that_does_not_encode_keys_is_taken_at_its_word(no_env):
    with StubServer(lambda asked: s3_listing(("a+b", 1), ("c%20d", 1), encoded=False)) as server:
        assert _paths(_list("s3://models", endpoint_url=server.url, **SIGNED)) == ["a+b", "c%20d"]


def test_pages_are_asked_for_until_there_is_none(no_env):
    pages = [s3_listing(("a", 1), more="to/ken+="), s3_listing(more="second"), s3_listing(("b", 1))]
    with StubServer(lambda asked: pages.pop(0)) as server:
        assert _paths(_list("s3://models/", endpoint_url=server.url, **SIGNED)) == ["a", "b"]
        assert [asked.query.get("continuation-token") for asked in server.asked] == [None, "to/ken+=", "second"]
        assert {asked.query["list-type"] for asked in server.asked} == {"2"}


def test_a_token_that_is_escaped_is_sent_as_it_was_meant(no_env):
    pages = [s3_listing(("a", 1), more="x&amp;y"), s3_listing(("b", 1), more="&lt;z&gt;"), s3_listing(("c", 1))]
    with StubServer(lambda asked: pages.pop(0)) as server:
        assert _paths(_list("s3://models/", endpoint_url=server.url, **SIGNED)) == ["a", "b", "c"]
        assert [asked.query.get("continuation-token") for asked in server.asked] == [None, "x&y", "<z>"]


def test_a_token_of_the_last_page_leads_nowhere(no_env):
    """The page says itself whether it is the last; what was asked for too soon is not taken."""
    token = b"<NextContinuationToken>more</NextContinuationToken><Contents>"
    last = s3_listing(("b", 1))
    last = Answer(last.status, last.body.replace(b"<Contents>", token, 1))
    pages = [s3_listing(("a", 1), more="second"), last]
    with StubServer(lambda asked: pages.pop(0) if pages else s3_listing(("c", 1))) as server:
        assert _paths(_list("s3://models/", endpoint_url=server.url, **SIGNED)) == ["a", "b"]


def test_a_listing_that_is_no_xml_names_the_server(no_env):
    with (
        StubServer(lambda asked: Answer(200, b"<html><p>Welcome")) as server,
        pytest.raises(SourceUnavailable, match=f"{server.url} answered a listing with something that is no XML"),
    ):
        _list("s3://models", endpoint_url=server.url, **SIGNED)


def test_near_names_are_left_out_where_they_may_not_be_listed(no_env):
    def answer(asked: Asked) -> Answer:
        return s3_error(403, "AccessDenied") if "delimiter" in asked.query else s3_listing()

    with StubServer(answer) as server, pytest.raises(NotFound) as caught:
        _list("s3://models/brt", endpoint_url=server.url, **SIGNED)
    assert str(caught.value) == "no object at s3://models/brt"
