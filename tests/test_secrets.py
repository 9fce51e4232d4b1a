"""Secrets in environment, URL, session and options are shown nowhere when a call fails, whatever fails."""

from __future__ import annotations

import base64
import json
import logging
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import boto3
import pytest

import diskless
from diskless.sources import resolve
from tests.servers import free_port
from tests.sources.certificates import make_certificates
from tests.sources.stub_server import Answer, Asked, StubServer, s3_error, s3_listing, s3_object

# Part of every secret, and of each piece of one that a parser could cut off at its separators. Put together here, since
# tracebacks quote lines of source.
MARK = "PLAN" + "TED"
KEY = f"AKIA{MARK}KEY"
SECRET = f"{MARK}1/{MARK}2+{MARK}3:{MARK}4@{MARK}5"
TOKEN = f"{MARK}6/{MARK}7=={MARK}8"
OPTIONS = {"key": KEY, "secret": SECRET, "token": TOKEN}


class Place(NamedTuple):
    """What a failing call is made with: the environment, a directory, and the URL of a server that refuses."""

    env: pytest.MonkeyPatch
    directory: Path
    server: str


@pytest.fixture
def place(s3_env, monkeypatch, tmp_path):
    """An environment full of secrets."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_SESSION_TOKEN": TOKEN,
        "AWS_CONTAINER_AUTHORIZATION_TOKEN": TOKEN,
        "https_proxy": f"http://user:{quote(SECRET, safe='')}@127.0.0.1:{free_port()}",
        "no_proxy": "127.0.0.1",
    }.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / name))
    with StubServer(lambda asked: s3_error(403, "AccessDenied", _echo(asked))) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        yield Place(monkeypatch, tmp_path, server.url)


def _echo(asked: Asked) -> str:
    """What S3 quotes in some errors: the request, its key and its token; here the secret too."""
    return f"<AWSAccessKeyId>{KEY}</AWSAccessKeyId><CanonicalRequest>{dict(asked.headers)} {SECRET}</CanonicalRequest>"


def _shown(text: str) -> list[str]:
    """Return what of the secrets is in `text`, plain or in the encodings they travel in."""
    forms = [MARK, MARK.lower(), base64.b64encode(SECRET.encode()).decode(), base64.b64encode(TOKEN.encode()).decode()]
    return [form for form in forms if form in text]


def _prefetch_and_wait(url: str, **arguments: object) -> None:
    job = diskless.prefetch(url, **arguments)
    try:
        job.wait(timeout_s=60)
    finally:
        job.close()


def _push(url: str, **arguments: object) -> None:
    diskless.push(__file__, url, **arguments)


# How a load fails: at once, or for who waits for it.
DOORS = pytest.mark.parametrize("door", [diskless.mount, _prefetch_and_wait], ids=["mount", "prefetch"])


def _fails(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], call: Callable[[], object]
) -> BaseException:
    """Make the call, and look at everything a user or an operator gets to see of its failure."""
    caplog.set_level(logging.DEBUG)
    logging.getLogger("diskless").setLevel(logging.DEBUG)
    with pytest.raises(diskless.DisklessError) as caught:
        call()
    error = caught.value
    seen = [str(error), repr(error), repr(error.args), "".join(traceback.format_exception(error))]
    chain: BaseException | None = error
    while chain is not None:
        seen += [str(chain), repr(chain)]
        chain = chain.__cause__ or chain.__context__
    seen += [record.getMessage() for record in caplog.records] + [caplog.text, *capfd.readouterr()]
    for text in seen:
        assert not _shown(text), text
    return error


ANSWERS: dict[str, Callable[[Asked], Answer]] = {
    "expired": lambda asked: s3_error(400, "ExpiredToken", _echo(asked)),
    "wrong key": lambda asked: s3_error(403, "InvalidAccessKeyId", _echo(asked)),
    "wrong secret": lambda asked: s3_error(403, "SignatureDoesNotMatch", _echo(asked)),
    "denied": lambda asked: s3_error(403, "AccessDenied", _echo(asked)),
    "wrong region": lambda asked: s3_error(400, "AuthorizationHeaderMalformed", _echo(asked)),
    "no bucket": lambda asked: s3_error(404, "NoSuchBucket", _echo(asked)),
    "no key": lambda asked: s3_error(404, "NoSuchKey", _echo(asked)),
    "bad request": lambda asked: s3_error(400, "InvalidRequest", _echo(asked)),
    "teapot": lambda asked: Answer(418, _echo(asked).encode()),
    "redirection": lambda asked: Answer(302, headers={"location": f"https://u:p{MARK}@h/?X-Amz-Signature={MARK}"}),
    "no listing": lambda asked: Answer(200, f"<html>{_echo(asked)}".encode()),
    "nothing there": lambda asked: s3_listing(),
}


@pytest.mark.parametrize("given", ["environment", "options", "session", "profile"])
@pytest.mark.parametrize("answer", ANSWERS)
def test_no_answer_of_a_store_brings_them_to_light(place, caplog, capfd, given, answer):
    arguments: dict[str, object] = {}
    if given == "options":
        arguments["storage_options"] = OPTIONS
    elif given == "session":
        names = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")
        arguments["session"] = boto3.Session(**dict(zip(names, OPTIONS.values(), strict=True)))
    elif given == "profile":
        settings = f"aws_access_key_id={KEY}\naws_secret_access_key={SECRET}\naws_session_token={TOKEN}\n"
        (place.directory / "AWS_SHARED_CREDENTIALS_FILE").write_text(f"[p]\n{settings}")
        arguments["storage_options"] = {"profile": "p"}
    with StubServer(ANSWERS[answer]) as server:
        place.env.setenv("AWS_ENDPOINT_URL", server.url)
        _fails(caplog, capfd, lambda: diskless.mount("s3://models/bert", **arguments))
        # The secrets were in use: the server was told the key.
        assert KEY in server.asked[0].headers["authorization"]


def _in_mid_transfer(answer: str) -> Callable[[Asked], Answer]:
    """List one object and answer so when it is read."""
    return lambda asked: s3_listing(("bert/a", 10)) if "list-type" in asked.query else ANSWERS[answer](asked)


@pytest.mark.parametrize("answer", [name for name in ANSWERS if name != "nothing there"])
def test_no_answer_in_mid_transfer_brings_them_to_light(place, caplog, capfd, backing, answer):
    with StubServer(_in_mid_transfer(answer)) as server:
        place.env.setenv("AWS_ENDPOINT_URL", server.url)
        _fails(caplog, capfd, lambda: diskless.mount("s3://models/bert", backing=backing))
        assert KEY in server.asked[-1].headers["authorization"]


@DOORS
@pytest.mark.parametrize("answers", [ANSWERS.__getitem__, _in_mid_transfer], ids=["at once", "in mid-transfer"])
@pytest.mark.parametrize("answer", ANSWERS)
def test_no_answer_to_a_loader_in_threads_brings_them_to_light(place, caplog, capfd, in_threads, answer, answers, door):
    """There all that the Loader says and logs is in the user's own process."""
    with StubServer(answers(answer)) as server:
        place.env.setenv("AWS_ENDPOINT_URL", server.url)
        _fails(caplog, capfd, lambda: door("s3://models/bert"))
        assert KEY in server.asked[-1].headers["authorization"]


@pytest.mark.parametrize("answer", [name for name in ANSWERS if name != "nothing there"])
def test_no_answer_to_verify_brings_them_to_light(place, caplog, capfd, in_threads, answer):
    def answered(asked: Asked) -> Answer:
        return s3_object("bert/a", b"0123456789")(asked) if asked.method == "GET" else ANSWERS[answer](asked)

    with StubServer(answered) as server:
        place.env.setenv("AWS_ENDPOINT_URL", server.url)
        _fails(caplog, capfd, lambda: diskless.mount("s3://models/bert", verify=True))
        assert any(asked.method == "HEAD" and KEY in asked.headers["authorization"] for asked in server.asked)


@pytest.mark.parametrize("answer", [name for name in ANSWERS if name != "nothing there"])
def test_no_answer_to_a_push_brings_them_to_light(place, caplog, capfd, answer):
    def answered(asked: Asked) -> Answer:
        return s3_listing() if asked.method == "GET" else ANSWERS[answer](asked)

    (place.directory / "model").mkdir()
    (place.directory / "model" / "config.json").write_text("{}")
    with StubServer(answered) as server:
        place.env.setenv("AWS_ENDPOINT_URL", server.url)
        _fails(caplog, capfd, lambda: diskless.push(place.directory / "model", "s3://models/bert"))
        assert KEY in server.asked[-1].headers["authorization"]


@pytest.mark.parametrize(
    "url",
    [
        f"s3://{KEY}:{SECRET}@models/bert",
        f"s3://{KEY}:{MARK}@models/bert",
        f"s3://:{SECRET}@models",
        f"s3:/{KEY}:{SECRET}@models/bert",
        f"https://{KEY}:{SECRET}@host/models",
        f"s3://models/bert?X-Amz-Credential={KEY}&X-Amz-Signature={MARK}",
        f"s3://models/bert?X-Amz-Security-Token={TOKEN}",
        f"models/bert?X-Amz-Signature={MARK}",
    ],
    ids=lambda url: url.replace(MARK, "_"),
)
@pytest.mark.parametrize("door", [diskless.mount, _prefetch_and_wait, _push], ids=["mount", "prefetch", "push"])
def test_no_url_brings_them_to_light(place, caplog, capfd, url, door):
    error = _fails(caplog, capfd, lambda: door(url))
    assert type(error) is diskless.InvalidURL


class _Printed:
    def __repr__(self) -> str:
        return SECRET

    __str__ = __repr__


@pytest.mark.parametrize(
    "arguments",
    [
        {"storage_options": f"secret={SECRET}"},
        {"storage_options": [("secret", SECRET)]},
        {"storage_options": {"secrt": SECRET}},
        {"storage_options": {"key": KEY, "secret": SECRET.encode()}},
        {"storage_options": {"key": KEY, "secret": _Printed()}},
        {"storage_options": {"secret": SECRET}},
        {"storage_options": {"client_kwargs": SECRET}},
        {"storage_options": {"client_kwargs": {"secrt": SECRET}}},
        {"storage_options": {"config_kwargs": {"s3": SECRET}}},
        {"storage_options": {**OPTIONS, "addressing_style": SECRET}},
        {"storage_options": {**OPTIONS, "endpoint_url": f"http://{KEY}:{SECRET}@h"}},
        {"storage_options": {**OPTIONS, "endpoint_url": f"http://h?token={TOKEN}"}},
        {"storage_options": {**OPTIONS, "endpoint_url": f"h:{SECRET}"}},
        {"storage_options": {**OPTIONS, "endpoint_url": "http://127.0.0.1:1"}},
        {"storage_options": {**OPTIONS, "endpoint_url": "http://no-such-host.invalid"}},
        {
            "storage_options": {**OPTIONS, "endpoint_url": "https://store.example"}
        },  # through the proxy, which is not there
        {"storage_options": {**OPTIONS, "verify": "/no/such/file", "endpoint_url": "https://h"}},
        {"storage_options": {"profile": "no-such"}},
        {"session": SECRET},
        {"session": _Printed()},
        {"session": {"aws_secret_access_key": SECRET}},
        {"storage_options": OPTIONS, "allow_patterns": 3},
        {"storage_options": OPTIONS, "backing": "none"},
        {"storage_options": OPTIONS, "at": "relative"},
        {"storage_options": OPTIONS, "budget": "much"},
        {"storage_options": OPTIONS, "progress": "much"},
    ],
    ids=lambda arguments: str(arguments).replace(MARK, "_"),
)
@DOORS
def test_no_argument_brings_them_to_light(place, caplog, capfd, arguments, door):
    _fails(caplog, capfd, lambda: door("s3://models/bert", **arguments))


def test_a_certificate_that_is_not_trusted_brings_none_to_light(place, caplog, capfd):
    with StubServer(s3_object("bert", b"x"), make_certificates(place.directory).server) as server:
        place.env.setenv("AWS_ENDPOINT_URL", server.url)
        _fails(caplog, capfd, lambda: diskless.mount("s3://models/bert"))


def _half_a_key(place: Place) -> None:
    place.env.delenv("AWS_SECRET_ACCESS_KEY")


def _an_endpoint_with_keys(place: Place) -> None:
    place.env.setenv("AWS_ENDPOINT_URL_S3", f"http://{KEY}:{SECRET}@127.0.0.1:1")


def _a_proxy_that_is_no_url(place: Place) -> None:
    place.env.setenv("http_proxy", f"http://user:{SECRET}@127.0.0.1:1")
    place.env.setenv("AWS_ENDPOINT_URL", "http://store.example")


def _a_container_that_refuses(place: Place) -> None:
    place.env.delenv("AWS_ACCESS_KEY_ID")
    place.env.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{place.server}/role")


def _a_container_that_is_elsewhere(place: Place) -> None:
    place.env.delenv("AWS_ACCESS_KEY_ID")
    place.env.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"http://user:{MARK}@example.com/role")


def _a_web_identity_that_is_refused(place: Place) -> None:
    place.env.delenv("AWS_ACCESS_KEY_ID")
    (place.directory / "token").write_text(TOKEN)
    place.env.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(place.directory / "token"))
    place.env.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/web")


def _a_profile(settings: str) -> Callable[[Place], None]:
    def write(place: Place) -> None:
        place.env.delenv("AWS_ACCESS_KEY_ID")
        (place.directory / "AWS_CONFIG_FILE").write_text(settings)

    return write


@pytest.mark.parametrize(
    "arrange",
    [
        _half_a_key,
        _an_endpoint_with_keys,
        _a_proxy_that_is_no_url,
        _a_container_that_refuses,
        _a_container_that_is_elsewhere,
        _a_web_identity_that_is_refused,
        _a_profile(f"aws_secret_access_key = {SECRET}"),
        _a_profile(f"[default]\naws_secret_access_key {SECRET}"),
        _a_profile(f"[default]\naws_access_key_id = {KEY}"),
        _a_profile(f"[default]\ncredential_process = sh -c 'echo {SECRET} >&2; exit 1'"),
        _a_profile(f"[default]\ncredential_process = echo {json.dumps(SECRET)}"),
        _a_profile(f"[default]\ncredential_process = /no/such/program --password {SECRET}"),
    ],
    ids=[
        "half a key",
        "an endpoint with keys",
        "a proxy that is no URL",
        "a container that refuses",
        "a container that is elsewhere",
        "a web identity that is refused",
        "a profile without a section",
        "a profile without a value",
        "a profile with half a key",
        "a process that complains",
        "a process that answers nonsense",
        "a process that does not exist",
    ],
)
@DOORS
def test_no_environment_brings_them_to_light(place, caplog, capfd, either_way, arrange, door):
    arrange(place)
    error = _fails(caplog, capfd, lambda: door("s3://models/bert"))
    assert isinstance(error, (diskless.CredentialsError, diskless.InvalidOption, diskless.SourceUnavailable))


@pytest.mark.parametrize("spoilt", [0, 1, 2], ids=["key", "secret", "token"])
@pytest.mark.parametrize("given", ["environment", "options", "session", "container"])
@pytest.mark.parametrize("door", [diskless.mount, _prefetch_and_wait, _push], ids=["mount", "prefetch", "push"])
def test_a_newline_at_their_end_brings_none_to_light(place, caplog, capfd, given, spoilt, door):
    """As files have it that are made by `echo`, and what is read from them."""
    keys = [value + "\n" * (number == spoilt) for number, value in enumerate(OPTIONS.values())]
    arguments: dict[str, object] = {}
    answer = dict(zip(("AccessKeyId", "SecretAccessKey", "Token"), keys, strict=True))
    with StubServer(lambda asked: Answer(200, json.dumps(answer).encode())) as container:
        if given == "environment":
            names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
            for name, value in zip(names, keys, strict=True):
                place.env.setenv(name, value)
        elif given == "options":
            arguments["storage_options"] = dict(zip(OPTIONS, keys, strict=True))
        elif given == "session":
            arguments["session"] = boto3.Session(*keys)
        else:
            place.env.delenv("AWS_ACCESS_KEY_ID")
            place.env.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{container.url}/role")
        error = _fails(caplog, capfd, lambda: door("s3://models/bert", **arguments))
    assert type(error) is diskless.CredentialsError
    assert f"the {('access key', 'secret key', 'session token')[spoilt]} (" in str(error) and ".strip()" in str(error)


def test_what_is_printed_of_an_open_mount_holds_none(place, either_way, backing):
    with StubServer(s3_object("bert/a", b"0123456789")) as server:
        place.env.setenv("AWS_ENDPOINT_URL", server.url)
        job = diskless.prefetch("s3://models/bert", storage_options=OPTIONS, backing=backing)
        mount = diskless.mount("s3://models/bert", storage_options=OPTIONS, backing=backing)
        spec = resolve("s3://models/bert", storage_options=OPTIONS)
        session = resolve("s3://models/bert", session=boto3.Session(KEY, SECRET, TOKEN))
        assert spec.credentials is not None
        printed = [job, job.request, job.stats, mount, mount.stats, diskless.mounts()]
        printed += [spec, spec.credentials, spec.url, spec.display, spec.identity, session]
        for thing in printed:
            assert not _shown(f"{thing!r} {thing}"), thing
        mount.close()
        job.close()


def test_the_marks_would_be_found(place, caplog, capfd):
    """This file is no better than its net."""

    def leak() -> None:
        raise diskless.DisklessError("no") from ValueError(SECRET)

    with pytest.raises(AssertionError):
        _fails(caplog, capfd, leak)
    with pytest.raises(AssertionError):
        _fails(caplog, capfd, lambda: logging.getLogger("x").debug("%s", TOKEN) or diskless.mount("x"))
