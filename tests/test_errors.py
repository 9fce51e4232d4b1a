"""Bad input through `diskless.mount`: each gets an error with a class to catch and words that help; nothing is lost."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import diskless
from diskless import errors
from diskless.errors import redact
from tests.servers import free_port
from tests.sources.certificates import Certificates, make_certificates
from tests.sources.stub_server import Answer, Asked, StubServer, s3_error, s3_listing, s3_object


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def model(s3_env, bucket):
    for key in ("bert/config.json", "bert/model.bin", "gpt2/config.json"):
        bucket.put(key, key.encode())
    return bucket


def _error(url: str, **arguments: object) -> diskless.DisklessError:
    """Return the error of a mount, after a look that nothing is left of it."""
    with pytest.raises(diskless.DisklessError) as caught:
        diskless.mount(url, **arguments)
    assert diskless.mounts() == []
    # No other error shines through in the traceback.
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None or caught.value.__suppress_context__
    return caught.value


def _answered(answer: Callable[[Asked], Answer] | Answer, certificate: Path | None = None) -> diskless.DisklessError:
    """Return the error of mounting ``s3://models/bert`` from a server that answers so."""
    with StubServer(answer if callable(answer) else lambda asked: answer, certificate) as server:
        return _error("s3://models/bert", storage_options={"endpoint_url": server.url})


# What is not there.


def test_a_bucket_that_does_not_exist(s3_env, chosen_backing):
    error = _error("s3://no-such-bucket/bert")
    assert type(error) is diskless.NotFound and isinstance(error, FileNotFoundError)
    assert str(error) == f"no such bucket: s3://no-such-bucket at {s3_env.endpoint}"


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("brt", " (did you mean {url}/bert/?)"),
        ("brt/", " (did you mean {url}/bert/?)"),
        ("bert/model.bim", " (did you mean {url}/bert/model.bin?)"),
        ("bert/model.bin/", " (did you mean {url}/bert/model.bin?)"),
        ("xyz", "; below {url}/ there are: bert/, gpt2/"),
        ("xyz/deeper/still", ", nor anything below {url}/xyz/deeper/"),
    ],
)
def test_a_key_or_prefix_that_does_not_exist_says_what_is_near(model, key, said):
    error = _error(f"{model.url}/{key}")
    assert type(error) is diskless.NotFound
    assert str(error) == f"no object at {model.url}/{key}{said.format(url=model.url)}"


def test_an_empty_bucket(s3_env, bucket):
    error = _error(bucket.url)
    assert type(error) is diskless.NotFound
    assert str(error) == f"the bucket {bucket.url} is empty"


def test_a_bucket_of_keys_that_are_no_files_names_them_with_the_reasons(chosen_backing, bucket):
    for key in ("a//b", "../x"):
        bucket.put(key, b"x")
    error = _error(bucket.url)
    assert type(error) is diskless.NotFound
    assert str(error) == (
        f"no object below {bucket.url} can be a file: '../x': it has a part '.' or '..'; "
        "'a//b': it has an empty part between slashes"
    )


# Who asks.


def test_no_credentials(model, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    error = _error(model.url)
    assert type(error) is diskless.CredentialsError and isinstance(error, PermissionError)
    assert str(error) == (
        "no credentials were found: not in storage_options, session=, AWS_ACCESS_KEY_ID, ~/.aws, web identity, the "
        "container's or the instance's endpoint. For a public bucket use storage_options={'anon': True}"
    )


def _refuses_bytes(answer: Answer) -> Callable[[Asked], Answer]:
    """List one object and answer so when it is read."""
    return lambda asked: s3_listing(("bert/a.bin", 10)) if "list-type" in asked.query else answer


@pytest.mark.parametrize("phase", ["list", "read"])
@pytest.mark.parametrize(
    ("answer", "kind", "said"),
    [
        (
            s3_error(400, "ExpiredToken"),
            diskless.CredentialsError,
            "the credentials are expired (400 ExpiredToken)",
        ),
        (
            s3_error(403, "InvalidAccessKeyId"),
            diskless.CredentialsError,
            "the credentials were not accepted (403 InvalidAccessKeyId); check the key, its secret and that",
        ),
        (
            s3_error(403, "SignatureDoesNotMatch"),
            diskless.CredentialsError,
            "the credentials were not accepted (403 SignatureDoesNotMatch)",
        ),
        (
            s3_error(403, "AccessDenied"),
            diskless.AccessDenied,
            "access denied (403 AccessDenied); may this caller list and read it (s3:ListBucket, s3:GetObject)?",
        ),
        (
            s3_error(400, "AuthorizationHeaderMalformed", "<Region>eu-west-1</Region>"),
            diskless.CredentialsError,
            "us-east-1 is the wrong region for this bucket (400 AuthorizationHeaderMalformed); it is in eu-west-1: set "
            "AWS_REGION or storage_options={'region': 'eu-west-1'}",
        ),
    ],
)
def test_a_caller_that_the_store_refuses(chosen_backing, phase, answer, kind, said):
    error = _answered(answer if phase == "list" else _refuses_bytes(answer))
    assert type(error) is kind and isinstance(error, PermissionError)
    assert str(error).startswith(f"s3://models/bert{'/a.bin' if phase == 'read' else ''}: {said}")


def test_a_bucket_of_another_region(s3_env):
    error = _answered(s3_error(301, "PermanentRedirect", headers={"x-amz-bucket-region": "eu-west-1"}))
    assert type(error) is diskless.CredentialsError
    assert str(error) == (
        "s3://models/bert: us-east-1 is the wrong region for this bucket (301 PermanentRedirect); it is in eu-west-1: "
        "set AWS_REGION or storage_options={'region': 'eu-west-1'}"
    )


# The way there.


def test_a_refused_connection(s3_env, monkeypatch):
    endpoint = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    error = _error("s3://models/bert")
    assert type(error) is diskless.SourceUnavailable and isinstance(error, ConnectionError)
    assert str(error).startswith(f"{endpoint} cannot be reached: ConnectionRefusedError")
    assert str(error).endswith("; is the server running, and the endpoint (AWS_ENDPOINT_URL) right?")


def test_a_proxy_that_refuses_is_named(s3_env, monkeypatch):
    port = free_port()
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
    error = _error("s3://models/bert", storage_options={"endpoint_url": "http://store.example"})
    assert type(error) is diskless.SourceUnavailable
    assert "http://store.example cannot be reached through the proxy 127.0.0.1: ConnectionRefused" in str(error)


def test_an_untrusted_certificate(s3_env, certificates):
    error = _answered(s3_object("bert", b"x"), certificates.server)
    assert type(error) is diskless.SourceUnavailable
    assert "cannot be reached: SSLCertVerificationError" in str(error)
    assert str(error).endswith("; is the right certificate authority in AWS_CA_BUNDLE?")


def test_a_private_authority_that_is_named_is_trusted(s3_env, certificates, monkeypatch):
    monkeypatch.setenv("AWS_CA_BUNDLE", str(certificates.bundle))
    with StubServer(s3_object("bert", b"0123456789"), certificates.server) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        with diskless.mount("s3://models/bert") as path:
            assert Path(path).read_bytes() == b"0123456789"


def test_certificates_that_cannot_be_read(s3_env, monkeypatch, tmp_path):
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "missing.pem"))
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://127.0.0.1:1")
    error = _error("s3://models/bert")
    assert type(error) is diskless.InvalidOption and isinstance(error, ValueError)
    assert str(error) == (
        f"the certificates to trust (AWS_CA_BUNDLE, or 'verify') cannot be read from {tmp_path}/missing.pem: "
        "No such file or directory"
    )


@pytest.mark.parametrize(
    ("answer", "kind", "said"),
    [
        (s3_error(503, "SlowDown"), diskless.SourceUnavailable, "s3://models/bert: the server answered 503 SlowDown"),
        (Answer(200, b"<html>Welcome"), diskless.SourceUnavailable, "answered a listing with something that is no XML"),
        (
            Answer(302, headers={"location": "https://x/login"}),
            diskless.TransferError,
            "the endpoint right? It is https",
        ),
        (Answer(418), diskless.TransferError, "s3://models/bert: the server answered 418"),
        (
            _refuses_bytes(Answer(200, b"0123456789")),
            diskless.TransferError,
            "the server ignores ranges (it answers",
        ),
        (
            _refuses_bytes(s3_error(404, "NoSuchKey")),
            diskless.ObjectChanged,
            "bert/a.bin was deleted while it was",
        ),
        (
            _refuses_bytes(s3_error(412, "PreconditionFailed")),
            diskless.ObjectChanged,
            "bert/a.bin was replaced while",
        ),
    ],
)
def test_a_server_that_is_no_store_or_has_troubles(chosen_backing, answer, kind, said):
    error = _answered(answer)
    assert type(error) is kind
    assert said in str(error)


# Arguments.


@pytest.mark.parametrize(
    ("url", "kind", "said"),
    [
        ("models/bert", diskless.InvalidURL, "this is no URL (one looks like 's3://bucket/prefix'): 'models/bert'"),
        ("s4://models/bert", diskless.InvalidURL, "s4://"),
        ("s3://models/../x", diskless.InvalidURL, "a prefix with an empty, '.' or '..' part cannot be a path"),
        ("s3://models/a//b", diskless.InvalidURL, "a prefix with an empty, '.' or '..' part cannot be a path"),
        ("s3://models/a\nb", diskless.InvalidURL, r"'s3://models/a\nb' holds control characters"),
        (None, diskless.InvalidURL, "a URL is a str such as 's3://bucket/prefix', not NoneType"),
    ],
)
def test_a_url_that_cannot_be_read(s3_env, url, kind, said):
    error = _error(url)
    assert type(error) is kind and isinstance(error, ValueError)
    assert said in str(error)


@pytest.mark.parametrize(
    ("arguments", "kind", "said"),
    [
        ({"storage_options": {"kee": "k"}}, diskless.InvalidOption, "'kee' is not known; known are"),
        ({"storage_options": {"key": "k"}}, diskless.InvalidOption, "need both 'key' and 'secret', or neither"),
        ({"storage_options": {"endpoint_url": "minio:9000"}}, diskless.InvalidOption, "is a URL that begins with"),
        ({"storage_options": {"profile": "no"}}, diskless.CredentialsError, "the profile 'no' is neither in"),
        ({"session": "no"}, diskless.InvalidOption, "session= is a boto3.Session or a client of one, not str"),
    ],
)
def test_arguments_that_make_no_sense(s3_env, arguments, kind, said):
    error = _error("s3://models/bert", **arguments)
    assert type(error) is kind
    assert said in str(error)


def test_after_an_error_the_same_url_can_be_mounted(model, chosen_backing):
    with StubServer(lambda asked: s3_error(403, "AccessDenied")) as server:
        _error(f"{model.url}/bert", storage_options={"endpoint_url": server.url})
    _error(f"{model.url}/late")
    model.put("late", b"now")
    for name in ("bert/config.json", "late"):
        with diskless.mount(f"{model.url}/{name}") as path:
            assert Path(path).is_file()


def test_a_prefetch_tells_its_error_as_often_as_it_is_asked(model, chosen_backing):
    job = diskless.prefetch(f"{model.url}/brt")
    said = []
    for _ in range(2):
        with pytest.raises(diskless.NotFound, match="did you mean") as caught:
            job.wait(timeout_s=60)
        said.append(caught.value)
    assert str(said[0]) == str(said[1]) and said[0] is not said[1]
    job.close()


# The classes themselves.


def test_every_error_is_of_diskless_and_of_a_class_that_callers_catch_already():
    for name in errors.__all__:
        kind = getattr(errors, name)
        assert issubclass(kind, errors.DisklessError) and kind.__doc__
        assert getattr(diskless, name) is kind
        if kind is not errors.DisklessError:
            assert any(
                getattr(builtins, base.__name__, None) is base
                for base in kind.__mro__[1:]
                if base.__name__ not in ("Exception", "BaseException", "object")
            )
            # As it crosses from the Loader: by name and message.
            assert str(kind("words")) == "words"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://h/k?X-Amz-Signature=abc&x=1", "https://h/k?X-Amz-Signature=[secret]&x=1"),
        ("https://h/k?x=1&X-Amz-Security-Token=abc%2F", "https://h/k?x=1&X-Amz-Security-Token=[secret]"),
        ("https://h/k?AWSAccessKeyId=abc&Signature=d", "https://h/k?AWSAccessKeyId=[secret]&Signature=[secret]"),
        ("http://user:pass@proxy:1/x", "http://[secret]@proxy:1/x"),
        ("aws_secret_access_key = abc/def+", "aws_secret_access_key = [secret]"),
        ('"SecretAccessKey": "abc"', '"SecretAccessKey": "[secret]"'),
        ('secret_access_key: Some("abc")', 'secret_access_key: Some("[secret]")'),
        ("{'aws_session_token': 'abc', 'region': 'r'}", "{'aws_session_token': '[secret]', 'region': 'r'}"),
        ("x-amz-security-token: abc", "x-amz-security-token: [secret]"),
        ("Authorization: Bearer abc", "Authorization: [secret]"),
        ("s3://models/bert: access denied (403)", "s3://models/bert: access denied (403)"),
        ("mail me@example.com", "mail me@example.com"),
    ],
)
def test_redact_takes_out_what_looks_like_a_secret_and_nothing_else(text, shown):
    assert redact(text) == shown


_SECRETS = st.text("ABab01+/=", min_size=8)


@given(st.text(), _SECRETS, _SECRETS, st.text())
def test_redact_takes_out_given_secrets_wherever_they_stand(before, secret, token, after):
    shown = redact(f"{before}{secret} and {token} and {secret}{token}{secret}{after}", secret, token, None, "")
    for known in (secret, token):
        assert known not in shown


def test_redact_leaves_no_rest_of_a_secret_that_holds_another():
    assert redact("key AKID, token AKID-and-more", "AKID", "AKID-and-more") == "key [secret], token [secret]"
