"""S3Source: listings against moto and against servers with habits of their own, and pinned ranges through obstore."""

from __future__ import annotations

import os
import time

import pytest

from diskless.errors import (
    CredentialsError,
    DisklessError,
    InvalidOption,
    NotFound,
    ObjectChanged,
    SourceUnavailable,
    TransferError,
)
from diskless.sources import Credentials, Listing, Object, SourceSpec, open_source, resolve
from tests.servers import free_port
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


@pytest.mark.parametrize("options", [SIGNED, {**SIGNED, "token": "session-token"}, {"anon": True}])
def test_listing_and_reading_sign_alike(no_env, options):
    with StubServer(_one_object(b"0123456789")) as server:
        source = _source("s3://models", endpoint_url=server.url, **options)
        (entry,) = source.list().objects
        assert _read(source, entry, 2, 5) == b"234"
        listed, got = server.asked
    assert (listed.path, got.path) == ("/models", "/models/a")
    assert (got.headers["range"], got.headers["if-match"]) == ("bytes=2-4", '"1"')
    for asked in (listed, got):
        assert asked.headers.get("x-amz-security-token") == options.get("token")
        assert ("authorization" in asked.headers) == ("key" in options)


def test_who_pays_is_said_in_both(no_env):
    with StubServer(_one_object(b"0123456789")) as server:
        source = _source("s3://models", endpoint_url=server.url, requester_pays=True, **SIGNED)
        _read(source, source.list().objects[0], 0, 10)
        assert [asked.headers.get("x-amz-request-payer") for asked in server.asked] == ["requester"] * 2


def test_an_endpoint_may_have_a_path(no_env):
    with StubServer(_one_object(b"0123456789")) as server:
        source = _source("s3://models", endpoint_url=f"{server.url}/storage/v1/s3/", **SIGNED)
        assert _read(source, source.list().objects[0], 0, 10) == b"0123456789"
        assert [asked.path for asked in server.asked] == ["/storage/v1/s3/models", "/storage/v1/s3/models/a"]


def test_what_the_loaders_own_environment_says_is_not_heeded(no_env):
    """The Loader may have been started long before; what matters travels with the spec."""
    with StubServer(_one_object(b"0123456789")) as server:
        spec = resolve("s3://models", storage_options={"endpoint_url": server.url, **SIGNED})
        for name, value in {
            "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
            "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1",
            "AWS_SKIP_SIGNATURE": "true",
            "AWS_SESSION_TOKEN": "another",
            "AWS_REQUEST_PAYER": "true",
            "AWS_REGION": "eu-west-9",
            "http_proxy": "http://127.0.0.1:1",
            "all_proxy": "http://127.0.0.1:1",
        }.items():
            no_env.setenv(name, value)
        source = open_source(spec)
        assert _read(source, source.list().objects[0], 0, 10) == b"0123456789"
        for asked in server.asked:
            assert "/us-east-1/s3/" in asked.headers["authorization"]
            assert not {"x-amz-security-token", "x-amz-request-payer"} & set(asked.headers)


def test_listing_and_reading_go_through_the_proxy_of_the_environment(no_env):
    with StubServer(_one_object(b"0123456789")) as proxy:
        no_env.setenv("http_proxy", f"http://user:pass@127.0.0.1:{proxy.port}")
        source = _source("s3://models", endpoint_url="http://store.example", **SIGNED)
        assert _read(source, source.list().objects[0], 0, 10) == b"0123456789"
        assert [asked.headers["host"] for asked in proxy.asked] == ["store.example"] * 2
        assert all("proxy-authorization" in asked.headers for asked in proxy.asked)


@pytest.mark.parametrize("bundle", ["authority", "bundle"])
def test_listing_and_reading_trust_a_private_authority(no_env, certificates, bundle):
    no_env.setenv("AWS_CA_BUNDLE", str(getattr(certificates, bundle)))
    with StubServer(_one_object(b"0123456789"), certificates.server) as server:
        source = _source("s3://models", endpoint_url=server.url, **SIGNED)
        assert _read(source, source.list().objects[0], 0, 10) == b"0123456789"


def test_listing_and_reading_take_any_certificate_where_that_is_asked_for(no_env, certificates):
    no_env.setenv("AWS_CA_BUNDLE", "/no/such/file")
    with StubServer(_one_object(b"0123456789"), certificates.server) as server:
        source = _source("s3://models", endpoint_url=server.url, verify=False, **SIGNED)
        assert _read(source, source.list().objects[0], 0, 10) == b"0123456789"


def test_an_untrusted_certificate_is_refused_by_both(no_env, certificates):
    with StubServer(_one_object(b"0123456789"), certificates.server) as server:
        source = _source("s3://models", endpoint_url=server.url, **SIGNED)
        with pytest.raises(SourceUnavailable, match="AWS_CA_BUNDLE"):
            source.list()
        with pytest.raises(SourceUnavailable, match="InvalidCertificate UnknownIssuer"):
            _read(source, Object("a", "a", 10, '"1"', None, 0), 0, 10)
        assert server.asked == []


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


# Reading.


def _one_object(data: bytes, etag: str = '"1"'):
    """Answer a listing with one object ``a``, and ranges of it."""

    def answer(asked: Asked) -> Answer:
        if "list-type" in asked.query:
            return s3_listing(("a", len(data)))
        first, last = map(int, asked.headers["range"].removeprefix("bytes=").split("-"))
        return Answer(
            206,
            data[first : last + 1],
            {
                "content-range": f"bytes {first}-{last}/{len(data)}",
                "etag": etag,
                "last-modified": "Fri, 02 Jan 2026 03:04:05 GMT",
            },
        )

    return answer


def test_any_range_of_the_listed_version_is_read(s3_env, bucket):
    data = os.urandom(3 << 20)
    bucket.put("a", data)
    source = _source(bucket.url)
    (entry,) = source.list().objects
    for start, end in ((0, len(data)), (0, 1), (len(data) - 1, len(data)), (12345, 2345678)):
        assert _read(source, entry, start, end) == data[start:end]


def test_an_object_that_was_replaced_since_is_named(s3_env, bucket):
    bucket.put("a", b"first")
    source = _source(bucket.url)
    (entry,) = source.list().objects
    bucket.put("a", b"other")
    with pytest.raises(ObjectChanged, match=f"{bucket.url}/a was replaced while it was read"):
        _read(source, entry, 0, 5)


def test_an_object_that_was_deleted_since_is_named(s3_env, bucket):
    bucket.put("a", b"first")
    source = _source(bucket.url)
    (entry,) = source.list().objects
    bucket.delete("a")
    with pytest.raises(ObjectChanged, match=f"{bucket.url}/a was deleted while it was read"):
        _read(source, entry, 0, 5)


@pytest.mark.parametrize(
    ("answer", "kind", "said"),
    [
        (s3_error(403, "AccessDenied"), DisklessError, r"s3://models/a: access denied \(403 AccessDenied\)"),
        (s3_error(400, "ExpiredToken"), CredentialsError, "s3://models/a: the credentials are expired"),
        (s3_error(403, "SignatureDoesNotMatch"), CredentialsError, "s3://models/a: the credentials were not accepted"),
        (s3_error(404, "NoSuchKey"), ObjectChanged, "s3://models/a was deleted while it was read"),
        (s3_error(412, "PreconditionFailed"), ObjectChanged, "s3://models/a was replaced while it was read"),
        (s3_error(500, "InternalError"), SourceUnavailable, "s3://models/a: the server answered 500"),
        (s3_error(503, "SlowDown"), SourceUnavailable, "s3://models/a: the server answered 503"),
        (Answer(200, b"0123456789"), TransferError, "s3://models/a: the server ignores ranges"),
        (
            Answer(206, b"01234", {"content-range": "bytes 0-4/11", "last-modified": "Fri, 02 Jan 2026 03:04:05 GMT"}),
            ObjectChanged,
            "s3://models/a has 11 bytes and had 10 when it was listed",
        ),
    ],
)
def test_a_refusal_in_mid_transfer_has_its_class_and_names_the_object(no_env, answer, kind, said):
    with StubServer(lambda asked: answer) as server:
        source = _source("s3://models", endpoint_url=server.url, **SIGNED)
        with pytest.raises(kind, match=said) as caught:
            _read(source, Object("a", "a", 10, '"1"', None, 0), 0, 5)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_a_server_that_is_gone_is_unavailable(no_env):
    source = _source("s3://models", endpoint_url=f"http://127.0.0.1:{free_port()}", **SIGNED)
    with pytest.raises(SourceUnavailable, match=r"s3://models/a: .*Connection refused \(at byte 3\)"):
        _read(source, Object("a", "a", 10, '"1"', None, 0), 3, 5)


def test_certificates_that_cannot_be_read_are_named(no_env, tmp_path):
    source = _source("s3://models", endpoint_url="https://127.0.0.1:1", verify=str(tmp_path / "no.pem"), **SIGNED)
    with pytest.raises(InvalidOption, match=r"cannot be read from .*no\.pem: No such file"):
        source.list()


# Credentials that change.


def test_credentials_that_end_soon_are_renewed_before_they_do(no_env):
    made: list[Credentials] = []

    def refresh() -> Credentials:
        made.append(Credentials(f"AKID{len(made)}", "s", "t", time.time() + 3600))
        return made[-1]

    spec = resolve("s3://models", storage_options={"key": "old", "secret": "s", "region": "us-east-1"})
    with StubServer(_one_object(b"0123456789")) as server:
        old = Credentials("old", "s", None, time.time() + 60)
        message = {**spec.to_message(), "endpoint": server.url, "path_style": True, "credentials": old.to_message()}
        source = open_source(SourceSpec.from_message(message), refresh=refresh)
        (entry,) = source.list().objects
        for start in range(3):
            _read(source, entry, start, 10)
        assert all("Credential=AKID0/" in asked.headers["authorization"] for asked in server.asked)
    assert len(made) == 1


def test_credentials_of_the_place_are_asked_for_once(no_env):
    def place(asked: Asked) -> Answer:
        return Answer(200, b'{"AccessKeyId": "ASIAPLACE", "SecretAccessKey": "s", "Token": "t"}')

    with StubServer(place) as container, StubServer(_one_object(b"0123456789")) as server:
        no_env.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{container.url}/role")
        spec = resolve("s3://models", storage_options={"endpoint_url": server.url})
        # As in a Loader that was started elsewhere: what the place is comes with the spec.
        no_env.delenv("AWS_CONTAINER_CREDENTIALS_FULL_URI")
        source = open_source(SourceSpec.from_message(spec.to_message()))
        _read(source, source.list().objects[0], 0, 10)
        assert all("Credential=ASIAPLACE/" in asked.headers["authorization"] for asked in server.asked)
        assert len(container.asked) == 1
