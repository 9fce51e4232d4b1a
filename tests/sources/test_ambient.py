"""Credentials of the place: the endpoints of container, instance and STS, with boto3 as the oracle of the same ones."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from urllib.parse import parse_qs

import boto3
import pytest

import diskless
from diskless.errors import CredentialsError, SourceUnavailable
from diskless.sources import Credentials, ambient, resolve
from diskless.sources.ambient import ambient_credentials
from tests.servers import free_port
from tests.sources.stub_server import Answer, Asked, StubServer, s3_object

# boto3 renews what ends soon, so these end late.
EXPIRES = datetime.now(timezone.utc).replace(microsecond=0) + timedelta(hours=5)
GIVEN = {
    "Code": "Success",
    "AccessKeyId": "ASIAPLACE",
    "SecretAccessKey": "place/secret+",
    "Token": "place-token==",
    "Expiration": EXPIRES.strftime("%Y-%m-%dT%H:%M:%SZ"),
}
OURS = Credentials("ASIAPLACE", "place/secret+", "place-token==", EXPIRES.timestamp())
ROLE = "arn:aws:iam::123456789012:role/web"


def _found() -> Credentials:
    """Return what the Loader would get for a URL with the present environment."""
    spec = resolve("s3://models")
    assert spec.credentials is None
    return ambient_credentials(spec.environment, spec.region)


def _boto3s() -> Credentials:
    frozen = boto3.Session().get_credentials().get_frozen_credentials()
    return Credentials(frozen.access_key, frozen.secret_key, frozen.token, EXPIRES.timestamp())


def _gives(body: bytes | None = None, status: int = 200) -> Callable[[Asked], Answer]:
    return lambda asked: Answer(status, json.dumps(GIVEN).encode() if body is None else body)


def test_the_endpoint_of_a_container_is_asked_with_its_token_as_boto3_does(no_env):
    with StubServer(_gives()) as server:
        no_env.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{server.url}/role?x=1")
        no_env.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "Basic container-token")
        assert _found() == OURS == _boto3s()
        ours, theirs = server.asked
        assert (ours.method, ours.target) == (theirs.method, theirs.target) == ("GET", "/role?x=1")
        assert ours.headers["authorization"] == theirs.headers["authorization"] == "Basic container-token"


def test_the_token_of_a_pod_is_read_from_its_file(no_env, tmp_path):
    (tmp_path / "token").write_text("pod-token\n")
    no_env.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "not this one")
    no_env.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", str(tmp_path / "token"))
    with StubServer(_gives()) as server:
        no_env.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{server.url}/role")
        assert _found() == OURS
        assert server.asked[0].headers["authorization"] == "pod-token"


def test_a_relative_uri_is_below_the_host_of_ecs(no_env, monkeypatch):
    with StubServer(_gives()) as server:
        monkeypatch.setattr(ambient, "_CONTAINER_HOST", server.url)
        no_env.setenv("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2/credentials/1")
        no_env.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1:1/not-this")
        assert _found() == OURS
        assert server.asked[0].target == "/v2/credentials/1"


def test_the_local_endpoints_are_not_asked_through_a_proxy(no_env):
    no_env.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    with StubServer(_gives()) as server:
        no_env.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{server.url}/role")
        assert _found() == OURS


@pytest.mark.parametrize("url", ["http://example.com/role", "http://10.0.0.1/role", "ftp://x/y", "nonsense"])
def test_a_containers_token_is_sent_to_no_other_host(no_env, url):
    no_env.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", url)
    no_env.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "planted")
    with pytest.raises(CredentialsError, match="AWS_CONTAINER_CREDENTIALS_FULL_URI is http:// to a host that is not"):
        _found()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (_gives(b"denied planted", 403), "the container's credentials endpoint 127.0.0.1:.* answered 403"),
        (_gives(b"planted"), "endpoint 127.0.0.1:.* answered with something that is no credentials"),
        (_gives(b"[]"), "something that is no credentials"),
        (_gives(b'{"AccessKeyId": "planted"}'), "something that is no credentials"),
        (_gives(b'{"AccessKeyId": "p", "SecretAccessKey": "p", "Expiration": "planted"}'), "that is no credentials"),
    ],
)
def test_an_endpoint_that_gives_none_is_named(no_env, answer, said):
    with StubServer(answer) as server:
        no_env.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{server.url}/role")
        with pytest.raises(CredentialsError, match=said) as caught:
            _found()
    assert "planted" not in str(caught.value)


def test_a_containers_endpoint_that_is_not_there_is_named(no_env, monkeypatch):
    monkeypatch.setattr("diskless.sources.http._PAUSE_S", 0)
    port = free_port()
    no_env.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"http://127.0.0.1:{port}/role")
    with pytest.raises(SourceUnavailable, match=f"http://127.0.0.1:{port} cannot be reached: ConnectionRefusedError"):
        _found()


def test_a_token_file_that_is_missing_is_named(no_env, tmp_path):
    no_env.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1:1/role")
    no_env.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", str(tmp_path / "missing"))
    with pytest.raises(CredentialsError, match=r"the container's token cannot be read: No such file.*missing"):
        _found()


def _instance(asked: Asked) -> Answer:
    """The instance metadata service, version 2 only, which gives nothing without its token."""
    if (asked.method, asked.path) == ("PUT", "/latest/api/token"):
        return Answer(200 if "x-aws-ec2-metadata-token-ttl-seconds" in asked.headers else 400, b"metadata-token")
    if asked.headers.get("x-aws-ec2-metadata-token") != "metadata-token":
        return Answer(401)
    base = "/latest/meta-data/iam/security-credentials/"
    return {base: Answer(200, b"my-role"), base + "my-role": Answer(200, json.dumps(GIVEN).encode())}.get(
        asked.path, Answer(404)
    )


@pytest.fixture
def instance_env(no_env):
    no_env.delenv("AWS_EC2_METADATA_DISABLED")
    return no_env


def test_an_instance_is_asked_as_boto3_asks_it(instance_env):
    with StubServer(_instance) as server:
        instance_env.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", f"{server.url}/")
        assert _found() == OURS
        ours = list(server.asked)
        assert _boto3s() == OURS
        assert [(asked.method, asked.path) for asked in ours] == [
            (asked.method, asked.path) for asked in server.asked[len(ours) :]
        ]


def test_an_instance_that_is_switched_off_is_not_asked(no_env):
    with StubServer(_instance) as server:
        no_env.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", server.url)
        with pytest.raises(CredentialsError):
            _found()
        assert server.asked == []


NONE_FOUND = (
    "no credentials were found: not in storage_options, session=, AWS_ACCESS_KEY_ID, ~/.aws, web identity, the "
    "container's or the instance's endpoint. For a public bucket use storage_options={'anon': True}"
)


@pytest.mark.parametrize(
    "answer",
    [
        None,  # nobody listens
        lambda asked: Answer(404),
        lambda asked: Answer(404) if asked.method == "GET" else _instance(asked),  # an instance without a role
    ],
)
def test_where_there_are_none_the_places_looked_at_are_listed(instance_env, monkeypatch, answer):
    monkeypatch.setattr("diskless.sources.http._PAUSE_S", 0)
    with StubServer(answer or _instance) as server:
        url = server.url if answer else f"http://127.0.0.1:{free_port()}"
        instance_env.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", url)
        with pytest.raises(CredentialsError) as caught:
            _found()
    assert str(caught.value) == NONE_FOUND


def test_an_instance_that_names_a_role_and_gives_nothing_is_told_so(instance_env):
    with StubServer(lambda asked: Answer(404) if asked.path.endswith("my-role") else _instance(asked)) as server:
        instance_env.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", server.url)
        with pytest.raises(CredentialsError, match="no credentials for the role my-role: 404"):
            _found()


@pytest.fixture
def web_env(no_env, tmp_path):
    (tmp_path / "token").write_text("web-token\n")
    no_env.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    no_env.setenv("AWS_ROLE_ARN", ROLE)
    no_env.setenv("AWS_REGION", "us-east-1")
    return no_env


def _sts(asked: Asked) -> Answer:
    fields = {"AccessKeyId": "AccessKeyId", "SecretAccessKey": "SecretAccessKey", "SessionToken": "Token"}
    given = "".join(f"<{name}>{GIVEN[key]}</{name}>" for name, key in (*fields.items(), ("Expiration", "Expiration")))
    text = "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult>"
    text += f"<Credentials>{given}</Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"
    return Answer(200, text.encode())


@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL_STS", "AWS_ENDPOINT_URL"])
@pytest.mark.parametrize("name", [None, "my-session"])
def test_a_web_identity_is_exchanged_as_boto3_does(web_env, variable, name):
    if name:
        web_env.setenv("AWS_ROLE_SESSION_NAME", name)
    with StubServer(_sts) as server:
        web_env.setenv(variable, server.url)
        assert _found() == OURS == _boto3s()
        ours, theirs = (parse_qs(asked.body.decode()) for asked in server.asked)
        assert ours["RoleSessionName"] == [name or "diskless"]
        del ours["RoleSessionName"], theirs["RoleSessionName"]
        # boto3 reads the file as it is; a line break at its end is none of the token's.
        assert {**theirs, "WebIdentityToken": ["web-token"]} == ours


def test_motos_sts_gives_credentials_for_a_web_identity(web_env, s3_server):
    web_env.setenv("AWS_ENDPOINT_URL", s3_server.endpoint)
    found = _found()
    assert found.key.startswith("ASIA") and found.secret and found.token
    assert found.expires_at is not None and found.expires_at > datetime.now().timestamp()


def test_sts_is_asked_in_the_region(web_env, monkeypatch):
    asked: list[str] = []

    def record(endpoint, *_, **__):
        asked.append(endpoint.url)
        return 200, {}, _sts(None).body

    monkeypatch.setattr(ambient, "request", record)
    for region in ("eu-west-1", "cn-north-1"):
        web_env.setenv("AWS_REGION", region)
        assert _found() == OURS
    web_env.delenv("AWS_REGION")
    assert _found() == OURS
    assert asked == [
        "https://sts.eu-west-1.amazonaws.com",
        "https://sts.cn-north-1.amazonaws.com.cn",
        "https://sts.amazonaws.com",
    ]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            Answer(403, b"<Error><Code>AccessDenied</Code>planted</Error>"),
            f"the role {ROLE} was not given .*AccessDenied",
        ),
        (Answer(400, b"<Error><Code>ExpiredTokenException</Code></Error>"), "identity: ExpiredTokenException"),
        (Answer(400, b"planted"), "identity: 400"),
        (Answer(200, b"planted"), f"the answer for the role {ROLE} holds no credentials"),
    ],
)
def test_a_role_that_is_not_given_is_named_with_the_reason(web_env, answer, said):
    with StubServer(lambda asked: answer) as server:
        web_env.setenv("AWS_ENDPOINT_URL_STS", server.url)
        with pytest.raises(CredentialsError, match=said) as caught:
            _found()
    assert "planted" not in str(caught.value) and "web-token" not in str(caught.value)


def test_a_web_identity_without_its_role_or_file_is_named(web_env, tmp_path):
    (tmp_path / "token").unlink()
    with pytest.raises(CredentialsError, match=r"the web identity token cannot be read: No such file.*/token"):
        _found()
    web_env.delenv("AWS_ROLE_ARN")
    with pytest.raises(CredentialsError, match="AWS_WEB_IDENTITY_TOKEN_FILE is set and AWS_ROLE_ARN is not"):
        _found()


def test_web_identity_comes_before_the_container_and_that_before_the_instance(web_env):
    web_env.delenv("AWS_EC2_METADATA_DISABLED")
    with StubServer(_sts) as sts, StubServer(_gives()) as container, StubServer(_instance) as instance:
        web_env.setenv("AWS_ENDPOINT_URL_STS", sts.url)
        web_env.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{container.url}/role")
        web_env.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", instance.url)
        _found()
        assert [len(server.asked) for server in (sts, container, instance)] == [1, 0, 0]
        web_env.delenv("AWS_WEB_IDENTITY_TOKEN_FILE")
        _found()
        assert [len(server.asked) for server in (sts, container, instance)] == [1, 1, 0]


# Modules that leave a mark when they are imported, in whichever process.
MARKED = "open(__file__ + '.imported', 'w').close()\n"
LOAD = """
import diskless
from diskless.loader import process
with diskless.mount("s3://models/config.json", progress=False) as path:
    print(open(path).read(), "by threads" if process.in_process() else "by a process")
"""


def _imported_by_a_load(directory: Path) -> tuple[list[str], subprocess.CompletedProcess[str]]:
    """Load in a fresh process with the present environment; return what it or the Loader imported of boto3's."""
    for name in ("boto3", "botocore"):
        (directory / f"{name}.py").write_text(MARKED)
    path = os.pathsep.join([str(directory), str(Path(diskless.__file__).parents[1])])
    done = subprocess.run(
        [sys.executable, "-c", LOAD], env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, timeout=60
    )
    return sorted(mark.name.partition(".")[0] for mark in directory.glob("*.imported")), done


PLACES = {
    "environment": (
        _instance,
        {"AWS_ACCESS_KEY_ID": GIVEN["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": GIVEN["SecretAccessKey"]},
    ),
    "web identity": (_sts, {"AWS_ENDPOINT_URL_STS": "URL", "AWS_WEB_IDENTITY_TOKEN_FILE": __file__}),
    "container": (_gives(), {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "URL/role"}),
    "instance": (_instance, {"AWS_EC2_METADATA_SERVICE_ENDPOINT": "URL", "AWS_EC2_METADATA_DISABLED": "false"}),
}


@pytest.mark.parametrize("place", PLACES)
def test_a_load_with_credentials_of_the_place_imports_no_boto3_in_either_process(no_env, tmp_path, place):
    answer, variables = PLACES[place]
    with StubServer(s3_object("config.json", b"{}")) as s3, StubServer(answer) as asked:
        for name, value in {**variables, "AWS_ENDPOINT_URL_S3": s3.url, "AWS_ROLE_ARN": ROLE}.items():
            no_env.setenv(name, value.replace("URL", asked.url, 1))
        imported, done = _imported_by_a_load(tmp_path)
    assert (done.stdout, imported) == ("{} by a process\n", []), done.stderr
    assert bool(asked.asked) == (place != "environment")
    signed_by = [each.headers["authorization"].partition("Credential=")[2].partition("/")[0] for each in s3.asked]
    assert set(signed_by) == {GIVEN["AccessKeyId"]}


def test_an_import_of_boto3_would_be_seen(no_env, tmp_path):
    (tmp_path / "config").write_text("[default]\ncredential_process = cat /no/such/file\n")
    imported, done = _imported_by_a_load(tmp_path)
    assert imported == ["boto3"] and "CredentialsError" in done.stderr
