"""S3Source: pinned ranges through obstore, addressed, signed and trusted as the listing is."""

from __future__ import annotations

import os
import time

import pytest

from diskless.errors import (
    CredentialsError,
    DisklessError,
    InvalidOption,
    ObjectChanged,
    SourceUnavailable,
    TransferError,
)
from diskless.sources import Credentials, Object, SourceSpec, open_source, resolve
from tests.servers import free_port
from tests.sources.stub_server import Answer, Asked, StubServer, s3_error, s3_object

SIGNED = {"key": "AKIDTEST", "secret": "test-secret", "region": "us-east-1"}


def _source(url: str, **options: object):
    return open_source(resolve(url, storage_options=options))


def _read(source, entry: Object, start: int, end: int) -> bytes:
    return b"".join(bytes(chunk) for chunk in source.read(entry, start, end))


@pytest.mark.parametrize("options", [SIGNED, {**SIGNED, "token": "session-token"}, {"anon": True}])
def test_listing_and_reading_sign_alike(no_env, options):
    with StubServer(s3_object("a", b"0123456789")) as server:
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
    with StubServer(s3_object("a", b"0123456789")) as server:
        source = _source("s3://models", endpoint_url=server.url, requester_pays=True, **SIGNED)
        _read(source, source.list().objects[0], 0, 10)
        assert [asked.headers.get("x-amz-request-payer") for asked in server.asked] == ["requester"] * 2


def test_an_endpoint_may_have_a_path(no_env):
    with StubServer(s3_object("a", b"0123456789")) as server:
        source = _source("s3://models", endpoint_url=f"{server.url}/storage/v1/s3/", **SIGNED)
        assert _read(source, source.list().objects[0], 0, 10) == b"0123456789"
        assert [asked.path for asked in server.asked] == ["/storage/v1/s3/models", "/storage/v1/s3/models/a"]


def test_what_the_loaders_own_environment_says_is_not_heeded(no_env):
    """The Loader may have been started long before; what matters travels with the spec."""
    with StubServer(s3_object("a", b"0123456789")) as server:
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
    with StubServer(s3_object("a", b"0123456789")) as proxy:
        no_env.setenv("http_proxy", f"http://user:pass@127.0.0.1:{proxy.port}")
        source = _source("s3://models", endpoint_url="http://store.example", **SIGNED)
        assert _read(source, source.list().objects[0], 0, 10) == b"0123456789"
        assert [asked.headers["host"] for asked in proxy.asked] == ["store.example"] * 2
        assert all("proxy-authorization" in asked.headers for asked in proxy.asked)


@pytest.mark.parametrize("bundle", ["authority", "bundle"])
def test_listing_and_reading_trust_a_private_authority(no_env, certificates, bundle):
    no_env.setenv("AWS_CA_BUNDLE", str(getattr(certificates, bundle)))
    with StubServer(s3_object("a", b"0123456789"), certificates.server) as server:
        source = _source("s3://models", endpoint_url=server.url, **SIGNED)
        assert _read(source, source.list().objects[0], 0, 10) == b"0123456789"


def test_listing_and_reading_take_any_certificate_where_that_is_asked_for(no_env, certificates):
    no_env.setenv("AWS_CA_BUNDLE", "/no/such/file")
    with StubServer(s3_object("a", b"0123456789"), certificates.server) as server:
        source = _source("s3://models", endpoint_url=server.url, verify=False, **SIGNED)
        assert _read(source, source.list().objects[0], 0, 10) == b"0123456789"


def test_an_untrusted_certificate_is_refused_by_both(no_env, certificates):
    with StubServer(s3_object("a", b"0123456789"), certificates.server) as server:
        source = _source("s3://models", endpoint_url=server.url, **SIGNED)
        with pytest.raises(SourceUnavailable, match="AWS_CA_BUNDLE"):
            source.list()
        with pytest.raises(SourceUnavailable, match="InvalidCertificate UnknownIssuer"):
            _read(source, Object("a", "a", 10, '"1"', None, 0), 0, 10)
        assert server.asked == []


# Reading.


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
            "s3://models/a was replaced while it was read .*it has 11 bytes and had 10",
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
    with StubServer(s3_object("a", b"0123456789")) as server:
        old = Credentials("old", "s", None, time.time() + 60)
        message = {**spec.to_message(), "endpoint": server.url, "path_style": True, "credentials": old.to_message()}
        source = open_source(SourceSpec.from_message(message), refresh=refresh)
        (entry,) = source.list().objects
        for start in range(3):
            _read(source, entry, start, 10)
        assert all("Credential=AKID0/" in asked.headers["authorization"] for asked in server.asked)
    assert len(made) == 1


@pytest.mark.parametrize(("status", "code"), [(400, "ExpiredToken"), (403, "AccessDenied")])
def test_a_listing_that_is_refused_is_tried_again_with_fresh_credentials(no_env, status, code):
    spec = resolve("s3://models", storage_options={"key": "old", "secret": "s", "region": "us-east-1"})
    serve = s3_object("a", b"0123456789")

    def withdrawn(asked: Asked) -> Answer:
        if "Credential=old/" in asked.headers["authorization"]:
            return Answer(status, f"<Error><Code>{code}</Code></Error>".encode())
        return serve(asked)

    with StubServer(withdrawn) as server:
        message = {**spec.to_message(), "endpoint": server.url, "path_style": True}
        source = open_source(SourceSpec.from_message(message), refresh=lambda: Credentials("new", "s"))
        (entry,) = source.list().objects
        assert _read(source, entry, 0, 10) == b"0123456789"


def test_credentials_of_the_place_are_asked_for_once(no_env):
    def place(asked: Asked) -> Answer:
        return Answer(200, b'{"AccessKeyId": "ASIAPLACE", "SecretAccessKey": "s", "Token": "t"}')

    with StubServer(place) as container, StubServer(s3_object("a", b"0123456789")) as server:
        no_env.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{container.url}/role")
        spec = resolve("s3://models", storage_options={"endpoint_url": server.url})
        # As in a Loader that was started elsewhere: what the place is comes with the spec.
        no_env.delenv("AWS_CONTAINER_CREDENTIALS_FULL_URI")
        source = open_source(SourceSpec.from_message(spec.to_message()))
        _read(source, source.list().objects[0], 0, 10)
        assert all("Credential=ASIAPLACE/" in asked.headers["authorization"] for asked in server.asked)
        assert len(container.asked) == 1
