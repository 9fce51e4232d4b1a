"""From arguments and environment to a SourceSpec: boto3 is the oracle of order and of addresses."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import boto3
import pytest
from botocore.config import Config

from diskless.errors import CredentialsError, DisklessError, InvalidOption
from diskless.sources import Credentials, SourceSpec, resolve, s3
from diskless.sources.s3 import S3Source

KEYS = {"AWS_ACCESS_KEY_ID": "AKIDENV", "AWS_SECRET_ACCESS_KEY": "env-secret"}


@pytest.fixture
def files(no_env, tmp_path) -> Path:
    """A default profile without keys, and two with."""
    (tmp_path / "config").write_text("[default]\nregion = eu-west-1\n[profile a]\nregion = eu-west-2\n")
    (tmp_path / "credentials").write_text(
        "[a]\naws_access_key_id = AKIDA\naws_secret_access_key = a-secret\naws_session_token = a-token\n"
        "[b]\naws_access_key_id = AKIDB\naws_secret_access_key = b-secret\n"
    )
    return tmp_path


def _frozen(session: boto3.Session) -> Credentials | None:
    found = session.get_credentials()
    if found is None:
        return None
    frozen = found.get_frozen_credentials()
    return Credentials(frozen.access_key, frozen.secret_key, frozen.token)


_ENVIRONMENTS = [
    dict(itertools.chain.from_iterable(part.items() for part in parts))
    for parts in itertools.product(
        [{}, KEYS, {**KEYS, "AWS_SESSION_TOKEN": "env-token"}],
        [{}, {"AWS_PROFILE": "a"}, {"AWS_DEFAULT_PROFILE": "b"}, {"AWS_PROFILE": "a", "AWS_DEFAULT_PROFILE": "b"}],
        [{}, {"AWS_DEFAULT_REGION": "ap-south-1"}],
    )
]


@pytest.mark.parametrize("profile", [None, "a", "b"])
@pytest.mark.parametrize("environment", _ENVIRONMENTS, ids=" ".join)
def test_credentials_and_region_are_those_that_boto3_finds(files, no_env, environment, profile):
    for name, value in environment.items():
        no_env.setenv(name, value)
    theirs = boto3.Session(profile_name=profile)
    spec = resolve("s3://models", storage_options={"profile": profile})
    assert (spec.credentials, spec.region) == (_frozen(theirs), theirs.region_name)
    assert not spec.anonymous and spec.refresh is None


def test_options_come_before_the_environment(files, no_env):
    for name, value in {**KEYS, "AWS_SESSION_TOKEN": "t", "AWS_REGION": "r1", "AWS_ENDPOINT_URL": "http://env"}.items():
        no_env.setenv(name, value)
    options = {"key": "AKIDOPT", "secret": "opt-secret", "region": "r2", "endpoint_url": "http://opt:9000/"}
    spec = resolve("s3://models/x", storage_options=options)
    # The environment's token belongs to other keys.
    assert spec.credentials == Credentials("AKIDOPT", "opt-secret", None)
    assert (spec.region, spec.endpoint) == ("r2", "http://opt:9000")
    options = {"client_kwargs": {"aws_access_key_id": "k", "aws_secret_access_key": "s", "region_name": "r3"}}
    spec = resolve("s3://models/x", storage_options=options)
    assert (spec.credentials, spec.region, spec.endpoint) == (Credentials("k", "s"), "r3", "http://env")


def test_aws_region_comes_before_aws_default_region_and_the_profile(files, no_env):
    assert resolve("s3://models", storage_options={"anon": True}).region == "eu-west-1"
    no_env.setenv("AWS_DEFAULT_REGION", "two")
    assert resolve("s3://models", storage_options={"anon": True}).region == "two"
    no_env.setenv("AWS_REGION", "one")
    assert resolve("s3://models", storage_options={"anon": True}).region == "one"


@pytest.mark.parametrize("given", list(itertools.product([False, True], repeat=5)), ids=str)
def test_endpoints_have_the_order_of_boto3(no_env, tmp_path, given):
    s3_variable, variable, service, profile, ignore = given
    config = "[default]\nregion = us-east-1\n"
    config += "endpoint_url = http://profile:1\n" if profile else ""
    config += "services = mine\n[services mine]\ns3 =\n  endpoint_url = http://service:1\n" if service else ""
    (tmp_path / "config").write_text(config)
    for name, value, wanted in (
        ("AWS_ENDPOINT_URL_S3", "http://s3-variable:1", s3_variable),
        ("AWS_ENDPOINT_URL", "http://variable:1", variable),
        ("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true", ignore),
    ):
        if wanted:
            no_env.setenv(name, value)
    for name, value in KEYS.items():
        no_env.setenv(name, value)
    theirs = boto3.Session().client("s3").meta.endpoint_url
    ours = resolve("s3://models").endpoint
    assert ours == (None if "amazonaws" in theirs else theirs)


_BUCKETS = ["models", "my.models", "Models", "my_models", "a-1"]
_ENDPOINTS = [None, "http://127.0.0.1:9000", "https://store.example", "http://store.example:80", "https://h.example/s3"]
# Over http boto3 makes several labels of a dotted name. Ours puts it into the path, which works there too.
_ADDRESSED = [
    (bucket, endpoint, style)
    for bucket, endpoint, style in itertools.product(_BUCKETS, _ENDPOINTS, [None, "auto", "path", "virtual"])
    if not (bucket == "my.models" and style == "virtual" and endpoint is not None and endpoint.startswith("http:"))
]


@pytest.mark.parametrize("region", ["us-east-2", "cn-north-1"])
@pytest.mark.parametrize(("bucket", "endpoint", "style"), _ADDRESSED)
def test_a_bucket_has_the_address_that_boto3_gives_it(no_env, bucket, region, endpoint, style):
    keys = {"aws_access_key_id": "k", "aws_secret_access_key": "s"}
    config = Config(s3={"addressing_style": style}) if style else None
    client = boto3.client("s3", region_name=region, endpoint_url=endpoint, config=config, **keys)
    theirs: list[str] = []

    class Stop(Exception):
        pass

    def stop(request: object, **_: object) -> None:
        theirs.append(request.url.split("?")[0].rstrip("/"))
        raise Stop

    client.meta.events.register("before-send.s3", stop)
    with pytest.raises(Stop):
        client.list_objects_v2(Bucket=bucket)

    ours: list[str] = []

    def record(endpoint: object, method: str, target: str, headers: object, connection: object) -> None:
        ours.append((endpoint.url + target.split("?")[0]).rstrip("/"))
        raise Stop

    no_env.setattr(s3, "request", record)
    options = {"key": "k", "secret": "s", "region": region, "endpoint_url": endpoint, "addressing_style": style}
    with pytest.raises(Stop):
        S3Source(resolve(f"s3://{bucket}", storage_options=options)).list()
    assert ours == theirs


def test_the_addressing_style_of_the_profile_is_heeded(no_env, tmp_path):
    (tmp_path / "config").write_text("[default]\ns3 =\n  addressing_style = virtual\n")
    options = {"anon": True, "endpoint_url": "https://store.example"}
    assert not resolve("s3://models", storage_options=options).path_style
    assert resolve("s3://models", storage_options={**options, "addressing_style": "path"}).path_style


@pytest.mark.parametrize(
    ("environment", "options", "anonymous"),
    [
        ({}, {"anon": True}, True),
        (KEYS, {"anon": True}, True),
        ({"AWS_PROFILE": "no-such"}, {"anon": True}, True),
        ({"AWS_SKIP_SIGNATURE": "true"}, {}, True),
        ({"AWS_SKIP_SIGNATURE": "1", **KEYS}, {}, True),
        ({"AWS_SKIP_SIGNATURE": "false", **KEYS}, {}, False),
        ({"AWS_SKIP_SIGNATURE": "true", **KEYS}, {"anon": False}, False),
        ({"AWS_SKIP_SIGNATURE": "true"}, {"key": "k", "secret": "s"}, False),
        ({"AWS_SKIP_SIGNATURE": "true"}, {"profile": "a"}, False),
    ],
)
def test_a_public_bucket_is_read_without_a_name_where_that_is_asked_for(files, no_env, environment, options, anonymous):
    for name, value in environment.items():
        no_env.setenv(name, value)
    spec = resolve("s3://models", storage_options=options)
    assert (spec.anonymous, spec.credentials is None) == (anonymous, anonymous)


def test_certificates_and_who_pays(files, no_env):
    def spec(**options: object) -> SourceSpec:
        return resolve("s3://models", storage_options={"anon": True, **options})

    assert (spec().ca_bundle, spec().verify_tls, spec().request_payer) == (None, True, False)
    (files / "config").write_text("[default]\nca_bundle = /profile.pem\n")
    assert spec().ca_bundle == "/profile.pem"
    no_env.setenv("AWS_CA_BUNDLE", "/environment.pem")
    assert spec().ca_bundle == "/environment.pem"
    assert spec(verify="/option.pem").ca_bundle == "/option.pem"
    assert spec(verify=True).ca_bundle == "/environment.pem" and not spec(verify=False).verify_tls
    assert spec(requester_pays=True).request_payer


def test_use_ssl_false_means_http(no_env):
    options = {"anon": True, "endpoint_url": "https://h:9000", "use_ssl": False}
    assert resolve("s3://models", storage_options=options).endpoint == "http://h:9000"


@pytest.mark.parametrize(
    ("environment", "options", "kind", "said"),
    [
        ({}, {"key": "k"}, InvalidOption, "storage_options need both 'key' and 'secret', or neither"),
        ({}, {"secret": "s"}, InvalidOption, "storage_options need both 'key' and 'secret', or neither"),
        ({}, {"kee": "k"}, InvalidOption, "'kee' is not known"),
        ({}, [], InvalidOption, "storage_options is a mapping, not list"),
        ({}, "", InvalidOption, "storage_options is a mapping, not str"),
        (
            {},
            {"endpoint_url": "minio:9000"},
            InvalidOption,
            "is a URL that begins with http:// or https://, such as 'https://minio.example:9000'",
        ),
        ({}, {"endpoint_url": "ftp://h"}, InvalidOption, "is a URL that begins with"),
        ({}, {"endpoint_url": "http://"}, InvalidOption, "is a URL that begins with"),
        ({}, {"endpoint_url": "http://h:port"}, InvalidOption, "is a URL that begins with"),
        ({}, {"endpoint_url": "http://[::1"}, InvalidOption, "is a URL that begins with"),
        ({}, {"endpoint_url": "http://h?token=s"}, InvalidOption, "is a URL that begins with"),
        ({}, {"endpoint_url": "http://k:s@h"}, InvalidOption, "an endpoint holds no user name or keys"),
        ({"AWS_ENDPOINT_URL": "http://k:s@h"}, {}, InvalidOption, "an endpoint holds no user name or keys"),
        ({"AWS_ACCESS_KEY_ID": "k"}, {}, CredentialsError, "AWS_ACCESS_KEY_ID is set and AWS_SECRET_ACCESS_KEY is not"),
        ({}, {"profile": "no"}, CredentialsError, r"the profile 'no' is neither in .*credentials nor in .*config"),
        ({"AWS_PROFILE": "no"}, {}, CredentialsError, "the profile 'no' is neither in"),
        ({"AWS_DEFAULT_PROFILE": "no"}, {}, CredentialsError, "the profile 'no' is neither in"),
        (KEYS, {"profile": "no"}, CredentialsError, "the profile 'no' is neither in"),
        ({}, {"profile": "empty"}, CredentialsError, "the profile 'empty' holds no credentials; it is not skipped for"),
        ({"AWS_PROFILE": "empty"}, {}, CredentialsError, "'empty' holds no credentials"),
        ({"AWS_DEFAULT_PROFILE": "empty"}, {}, CredentialsError, "'empty' holds no credentials"),
        ({}, {"profile": "half"}, CredentialsError, "'half' has an aws_access_key_id and no aws_secret_access_key"),
    ],
)
def test_what_cannot_be_is_refused_by_class_and_message(files, no_env, environment, options, kind, said):
    (files / "config").write_text("[profile empty]\nregion = x\n[profile half]\naws_access_key_id = k\n")
    for name, value in environment.items():
        no_env.setenv(name, value)
    with pytest.raises(DisklessError, match=said) as caught:
        resolve("s3://models", storage_options=options)
    assert type(caught.value) is kind


def test_a_missing_profile_does_not_matter_where_keys_are_given(files, no_env):
    no_env.setenv("AWS_PROFILE", "no-such")
    options = {"key": "k", "secret": "s"}
    assert resolve("s3://models", storage_options=options).credentials == Credentials("k", "s")


def test_where_nothing_is_said_the_loader_asks_the_place_it_runs_in(files, no_env):
    spec = resolve("s3://models")
    assert spec.credentials is None and not spec.anonymous
    no_env.setenv("AWS_ROLE_ARN", "arn:aws:iam::1:role/x")
    no_env.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", "/token")
    other = resolve("s3://models")
    assert other.identity != spec.identity


def test_web_identity_comes_before_the_keys_of_a_profile_as_in_boto3(files, no_env, s3_server):
    (files / "token").write_text("web-token")
    for name, value in {
        "AWS_PROFILE": "a",
        "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/web",
        "AWS_WEB_IDENTITY_TOKEN_FILE": str(files / "token"),
        "AWS_ENDPOINT_URL": s3_server.endpoint,
    }.items():
        no_env.setenv(name, value)
    assert boto3.Session().get_credentials().method == "assume-role-with-web-identity"
    assert resolve("s3://models").credentials is None
    # A profile that is named in the call is meant.
    assert _frozen(boto3.Session(profile_name="a")).key == "AKIDA"
    assert resolve("s3://models", storage_options={"profile": "a"}).credentials.key == "AKIDA"


def test_a_spec_crosses_to_the_loader_whole(files, no_env):
    no_env.setenv("https_proxy", "http://user:password@proxy:1")
    no_env.setenv("AWS_CA_BUNDLE", "/ca.pem")
    options = {"key": "k", "secret": "s", "token": "t", "endpoint_url": "http://h", "requester_pays": True}
    for spec in (
        resolve("s3://models/%2e%2e/\u00e9", storage_options=options),
        resolve("s3://models", storage_options={"anon": True, "verify": False}),
        resolve("s3://models"),
    ):
        assert SourceSpec.from_message(json.loads(json.dumps(spec.to_message()))) == spec
        assert spec.environment["https_proxy"] == "http://user:password@proxy:1"


def test_only_what_one_caller_reads_of_one_store_is_shared(files):
    def identity(url: str = "s3://models", **options: object) -> str:
        return resolve(url, storage_options={"key": "k", "secret": "s", "region": "r", **options}).identity

    assert identity() == identity() == identity("s3://models/other/key")
    others = [
        identity("s3://other"),
        identity(key="k2"),
        identity(secret="s2"),
        identity(region="r2"),
        identity(endpoint_url="http://h"),
        resolve("s3://models", storage_options={"anon": True, "region": "r"}).identity,
    ]
    assert len({identity(), *others}) == len(others) + 1
    assert "s2" not in others[2].split()
