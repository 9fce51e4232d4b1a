"""Sessions, clients and the profiles that boto3 alone understands; roles are given by moto's STS."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

import aiobotocore.session
import boto3
import botocore
import botocore.session
import pytest
from botocore.config import Config
from botocore.credentials import RefreshableCredentials

from diskless.errors import CredentialsError, DisklessError, InvalidOption, MissingDependency
from diskless.sources import Credentials, resolve
from tests.sources.stub_server import Answer, StubServer

KEYS = {"aws_access_key_id": "AKIDSESSION", "aws_secret_access_key": "session-secret", "aws_session_token": "token"}
OURS = Credentials("AKIDSESSION", "session-secret", "token")
ROLE = "arn:aws:iam::123456789012:role/reader"


def _botocore_session() -> botocore.session.Session:
    session = botocore.session.Session()
    session.set_credentials(*KEYS.values())
    session.set_config_variable("region", "eu-west-3")
    return session


@pytest.mark.parametrize(
    "make",
    [
        lambda: boto3.Session(region_name="eu-west-3", **KEYS),
        lambda: boto3.client("s3", region_name="eu-west-3", **KEYS),
        lambda: boto3.resource("s3", region_name="eu-west-3", **KEYS).meta.client,
        _botocore_session,
    ],
    ids=["session", "client", "client of a resource", "botocore"],
)
def test_a_session_or_a_client_gives_credentials_and_region(no_env, make):
    no_env.setenv("AWS_ACCESS_KEY_ID", "AKIDENV")
    no_env.setenv("AWS_SECRET_ACCESS_KEY", "env-secret")
    no_env.setenv("AWS_REGION", "us-west-1")
    spec = resolve("s3://models", session=make())
    assert (spec.credentials, spec.region, spec.endpoint, spec.path_style) == (OURS, "eu-west-3", None, False)
    assert spec.refresh is None


def test_a_session_that_renews_to_what_no_header_can_carry_is_told_so(no_env):
    tokens = iter(["first", "second", "PLANTED\n"])
    soon = (datetime.now(timezone.utc) + timedelta(minutes=1)).isoformat()  # it is renewed whenever it is asked

    def renewed() -> dict[str, str]:
        return {"access_key": "AKID", "secret_key": "s", "token": next(tokens), "expiry_time": soon}

    session = botocore.session.Session()
    session._credentials = RefreshableCredentials.create_from_metadata(renewed(), renewed, "test")
    spec = resolve("s3://models", session=session)
    assert spec.credentials is not None and spec.credentials.token == "second" and spec.refresh is not None
    with pytest.raises(CredentialsError, match=r"the session token .* has white space around it") as caught:
        spec.refresh()
    assert "PLANTED" not in str(caught.value)


@pytest.mark.parametrize("region", ["us-east-1", "eu-west-3", "cn-north-1"])
def test_the_endpoint_of_a_client_is_taken_unless_it_is_awss_own(no_env, region):
    assert resolve("s3://models", session=boto3.client("s3", region_name=region, **KEYS)).endpoint is None
    for url in ("http://127.0.0.1:9000", "https://bucket.vpce-1.s3.eu-west-3.vpce.amazonaws.com"):
        client = boto3.client("s3", region_name=region, endpoint_url=url, **KEYS)
        assert resolve("s3://models", session=client).endpoint == url


def test_options_come_before_the_session(no_env):
    session = boto3.Session(region_name="eu-west-3", **KEYS)
    options = {"region": "r", "endpoint_url": "http://h:1"}
    spec = resolve("s3://models", session=session, storage_options=options)
    assert (spec.credentials, spec.region, spec.endpoint) == (OURS, "r", "http://h:1")
    spec = resolve("s3://models", session=session, storage_options={"key": "k", "secret": "s"})
    assert (spec.credentials, spec.region) == (Credentials("k", "s"), "eu-west-3")
    spec = resolve("s3://models", session=session, storage_options={"anon": True})
    assert spec.anonymous and spec.credentials is None


def test_a_session_without_credentials_may_read_a_public_bucket(no_env):
    session = boto3.Session(region_name="eu-west-3")
    assert resolve("s3://models", session=session, storage_options={"anon": True}).anonymous
    with pytest.raises(CredentialsError, match="s3://models: the session that was given has no credentials"):
        resolve("s3://models", session=session)


def test_a_client_that_does_not_sign_reads_without_a_name(no_env):
    client = boto3.client("s3", region_name="eu-west-3", config=Config(signature_version=botocore.UNSIGNED))
    spec = resolve("s3://models", session=client)
    assert spec.anonymous and spec.credentials is None


def test_the_addressing_style_of_a_client_is_heeded(no_env):
    def path_style(style: str) -> bool:
        config = Config(s3={"addressing_style": style})
        client = boto3.client("s3", region_name="r", endpoint_url="https://h.example", config=config, **KEYS)
        return resolve("s3://models", session=client).path_style

    assert path_style("path") and path_style("auto") and not path_style("virtual")


def test_a_session_of_a_profile_brings_the_profiles_endpoint(no_env, tmp_path):
    (tmp_path / "config").write_text(
        "[profile p]\nregion = eu-north-1\nendpoint_url = http://profile:1\nca_bundle = /ca.pem\n"
        "aws_access_key_id = k\naws_secret_access_key = s\n"
    )
    session = boto3.Session(profile_name="p")
    spec = resolve("s3://models", session=session)
    assert spec.endpoint == session.client("s3", verify=False).meta.endpoint_url == "http://profile:1"
    assert (spec.region, spec.ca_bundle, spec.credentials) == ("eu-north-1", "/ca.pem", Credentials("k", "s"))


@pytest.mark.parametrize("session", ["PLANTED", 3, {"key": "PLANTED"}, object(), boto3])
def test_what_is_no_session_is_refused_by_its_type(no_env, session):
    with pytest.raises(InvalidOption) as caught:
        resolve("s3://models", session=session)
    assert str(caught.value) == f"session= is a boto3.Session or a client of one, not {type(session).__name__}"


@pytest.mark.filterwarnings("error")
def test_a_session_of_aiobotocore_is_refused(no_env):
    with pytest.raises(InvalidOption, match="one of aiobotocore cannot be used here"):
        resolve("s3://models", session=aiobotocore.session.AioSession())


@pytest.fixture
def process(no_env, tmp_path) -> Path:
    """A profile whose keys come from a program, which reads them from the file that is returned."""
    (tmp_path / "config").write_text(f"[profile p]\ncredential_process = cat {tmp_path}/answer\nregion = eu-north-1\n")
    return tmp_path / "answer"


def test_a_credential_process_is_run_by_boto3(process):
    process.write_text(json.dumps({"Version": 1, "AccessKeyId": "AKIDPROCESS", "SecretAccessKey": "process-secret"}))
    spec = resolve("s3://models", storage_options={"profile": "p"})
    assert (spec.credentials, spec.region) == (Credentials("AKIDPROCESS", "process-secret"), "eu-north-1")
    assert spec.refresh is None


def test_what_a_credential_process_says_is_not_shown(process, tmp_path):
    (tmp_path / "config").write_text("[profile p]\ncredential_process = sh -c 'echo PLANTED >&2; exit 3'\n")
    with pytest.raises(CredentialsError) as caught:
        resolve("s3://models", storage_options={"profile": "p"})
    assert str(caught.value) == (
        "the profile 'p': boto3 could not get credentials: CredentialRetrievalError: its credential_process failed"
    )


@pytest.fixture
def role(no_env, tmp_path, s3_server) -> str:
    """A profile whose role moto's STS gives."""
    (tmp_path / "config").write_text(
        f"[profile reader]\nrole_arn = {ROLE}\nsource_profile = base\nregion = us-east-1\n"
        "[profile base]\naws_access_key_id = AKIDBASE\naws_secret_access_key = base-secret\n"
    )
    no_env.setenv("AWS_ENDPOINT_URL", s3_server.endpoint)
    return "reader"


def test_a_role_is_assumed_by_boto3_and_renewed_in_this_process(role):
    spec = resolve("s3://models", storage_options={"profile": role})
    assert spec.credentials is not None and spec.refresh is not None
    assert spec.credentials.key.startswith("ASIA") and spec.credentials.token
    assert spec.credentials.expires_at is not None
    assert spec.refresh() == spec.credentials


def test_the_role_of_a_profile_comes_before_web_identity_as_in_boto3(role, no_env, tmp_path):
    (tmp_path / "token").write_text("web-token")
    no_env.setenv("AWS_PROFILE", role)
    no_env.setenv("AWS_ROLE_ARN", ROLE)
    no_env.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    assert boto3.Session().get_credentials().method == "assume-role"
    assert resolve("s3://models").refresh is not None


def test_two_calls_with_one_profile_are_one_caller(role):
    first, second = (resolve("s3://models", storage_options={"profile": role}) for _ in range(2))
    assert first.credentials != second.credentials
    assert first.identity == second.identity


def test_a_profile_that_is_edited_is_another_caller(role, tmp_path):
    first = resolve("s3://models", storage_options={"profile": role})
    config = tmp_path / "config"
    config.write_text(config.read_text().replace(ROLE, ROLE + "2"))
    assert resolve("s3://models", storage_options={"profile": role}).identity != first.identity


def test_two_sessions_that_renew_are_two_callers(role):
    session, other = boto3.Session(profile_name=role), boto3.Session(profile_name=role)
    identity = resolve("s3://models", session=session).identity
    assert resolve("s3://models", session=session).identity == identity
    assert resolve("s3://models", session=other).identity != identity


PORTAL = "https://portal.example/start"


@pytest.mark.parametrize(
    ("settings", "signed_in_to"),
    [
        ("sso_session = work", "work"),
        (f"sso_start_url = {PORTAL}\nsso_region = us-east-1", PORTAL),
    ],
    ids=["sso_session", "sso_start_url"],
)
def test_who_is_signed_in_by_sso_reads_with_the_keys_of_the_portal(no_env, tmp_path, settings, signed_in_to):
    """After `aws sso login`, which leaves a token in a file that is named for the session or the URL."""
    expires = datetime.now(timezone.utc).replace(microsecond=0) + timedelta(hours=5)
    role = {"accessKeyId": "ASIASSO", "secretAccessKey": "sso-secret", "sessionToken": "sso-token"}
    role |= {"expiration": int(expires.timestamp() * 1000)}
    (tmp_path / "config").write_text(
        f"[profile p]\n{settings}\nsso_account_id = 123456789012\nsso_role_name = reader\n"
        f"[sso-session work]\nsso_region = us-east-1\nsso_start_url = {PORTAL}\n"
    )
    token = tmp_path / ".aws/sso/cache" / f"{hashlib.sha1(signed_in_to.encode()).hexdigest()}.json"
    token.parent.mkdir(parents=True)
    token.write_text(json.dumps({"accessToken": "signed-in", "expiresAt": expires.strftime("%Y-%m-%dT%H:%M:%SZ")}))
    script = (
        "import json\nfrom diskless.sources import resolve\n"
        "spec = resolve('s3://models', storage_options={'profile': 'p'})\n"
        "print(json.dumps(spec.credentials.to_message()), spec.refresh() == spec.credentials)\n"
    )
    with StubServer(lambda asked: Answer(200, json.dumps({"roleCredentials": role}).encode())) as portal:
        # A process of its own: botocore looks for the home directory when it is imported.
        env = os.environ | {"HOME": str(tmp_path), "AWS_ENDPOINT_URL_SSO": portal.url}
        done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, timeout=60)
    ours = Credentials("ASIASSO", "sso-secret", "sso-token", expires.timestamp())
    assert done.stdout == f"{json.dumps(ours.to_message())} True\n", done.stderr
    assert [(asked.path, asked.query, asked.headers["x-amz-sso_bearer_token"]) for asked in portal.asked] == [
        ("/federation/credentials", {"role_name": "reader", "account_id": "123456789012"}, "signed-in")
    ]


@pytest.mark.parametrize(
    "settings",
    [
        f"role_arn = {ROLE}\nsource_profile = base",
        "credential_process = cat /nothing",
        "sso_session = work\nsso_account_id = 1\nsso_role_name = r",
        "sso_start_url = https://x\nsso_region = us-east-1\nsso_account_id = 1\nsso_role_name = r",
    ],
)
@pytest.mark.parametrize("by", ["option", "environment"])
def test_without_boto3_the_extra_that_brings_it_is_named(no_env, tmp_path, settings, by):
    (tmp_path / "config").write_text(f"[profile p]\n{settings}\n")
    no_env.setitem(sys.modules, "boto3", None)
    if by == "environment":
        no_env.setenv("AWS_PROFILE", "p")
    with pytest.raises(MissingDependency) as caught:
        resolve("s3://models", storage_options={"profile": "p"} if by == "option" else None)
    word = settings.split(" ", 1)[0]
    assert str(caught.value) == f"the profile 'p' uses {word}, which needs boto3: pip install \"diskless[s3]\""
    assert isinstance(caught.value, ImportError)


def test_a_profile_with_keys_needs_no_boto3(no_env, tmp_path):
    (tmp_path / "credentials").write_text("[p]\naws_access_key_id = k\naws_secret_access_key = s\n")
    no_env.setitem(sys.modules, "boto3", None)
    spec = resolve("s3://models", storage_options={"profile": "p"})
    assert spec.credentials == Credentials("k", "s")


@pytest.mark.parametrize(
    "config",
    [
        f"[profile p]\nrole_arn = {ROLE}\nsource_profile = missing\n",
        "[profile p]\nsso_session = missing\nsso_account_id = 1\nsso_role_name = r\n",
        "[profile p]\ncredential_process = /no/such/program\n",
        "[profile p]\ncredential_process = echo nonsense\n",
    ],
)
def test_where_boto3_fails_the_error_is_ours_and_names_the_profile(no_env, tmp_path, config):
    (tmp_path / "config").write_text(config)
    with pytest.raises(DisklessError, match=r"the profile 'p'.*could not get credentials") as caught:
        resolve("s3://models", storage_options={"profile": "p"})
    assert type(caught.value) is CredentialsError
    assert caught.value.__context__ is None
