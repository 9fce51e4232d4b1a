"""AWS's files: botocore, which everybody's are written for, is the oracle of what is read from them."""

from __future__ import annotations

from pathlib import Path

import botocore.session
import pytest

from diskless.errors import CredentialsError
from diskless.sources.profiles import read_profile

CONFIG = """
# a comment
[default]
region = eu-west-1
output = json

[profile plain]
region=eu-central-1
aws_access_key_id = AKIDCONFIG
aws_secret_access_key = config/secret=+
ca_bundle = /etc/ca.pem

[profile "two words"]
region = sa-east-1

[profile   spaced]
region = ap-south-1

[profile nested]
s3 =
    addressing_style = path
    max_concurrent_requests = 20
services = mine
endpoint_url = https://everything.example

[services mine]
s3 =
  endpoint_url = https://s3.example:9000
dynamodb =
  endpoint_url = https://dynamodb.example

[profile percent]
aws_access_key_id = AKID%(x)s
aws_secret_access_key = 100%

[profile sso]
sso_session = work
sso_account_id = 1

[sso-session work]
sso_region = us-east-1

[no-such-kind plain]
region = nowhere
[plain]
region = nowhere
[profile unclosed"]
region = nowhere
"""
CREDENTIALS = """
[default]
aws_access_key_id = AKIDDEFAULT
aws_secret_access_key = default-secret

[plain]
aws_access_key_id = AKIDPLAIN
aws_secret_access_key = plain-secret
aws_session_token = plain-token

[only]
aws_access_key_id = AKIDONLY
aws_secret_access_key = only-secret

[two words]
aws_access_key_id = AKIDTWO
aws_secret_access_key = two-secret
"""
PROFILES = ["default", "plain", "two words", "spaced", "nested", "percent", "sso", "only"]


@pytest.fixture
def files(no_env, tmp_path) -> Path:
    (tmp_path / "config").write_text(CONFIG)
    (tmp_path / "credentials").write_text(CREDENTIALS)
    return tmp_path


@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_has_the_settings_that_botocore_reads(files, name):
    theirs = botocore.session.Session(profile=name).get_scoped_config()
    ours = read_profile(name)
    flat = {key: value for key, value in theirs.items() if isinstance(value, str)}
    assert {key: ours.settings[key] for key in flat} == flat
    assert set(ours.settings) == set(theirs)
    assert ours.addressing_style == theirs.get("s3", {}).get("addressing_style")


@pytest.mark.parametrize("name", ["no-such", "no-such-kind plain", "unclosed", 'unclosed"', "mine", "work"])
def test_a_profile_that_botocore_does_not_find_is_named(files, name):
    with pytest.raises(botocore.exceptions.ProfileNotFound):
        botocore.session.Session(profile=name).get_scoped_config()
    with pytest.raises(CredentialsError) as caught:
        read_profile(name)
    assert str(caught.value) == f"the profile {name!r} is neither in {files}/credentials nor in {files}/config"


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"AWS_PROFILE": "plain"},
        {"AWS_DEFAULT_PROFILE": "only"},
        {"AWS_PROFILE": "plain", "AWS_DEFAULT_PROFILE": "only"},
    ],
)
def test_the_environment_chooses_the_profile_as_for_botocore(files, no_env, environment):
    for name, value in environment.items():
        no_env.setenv(name, value)
    profile = read_profile(None)
    assert dict(profile.settings) == botocore.session.Session().get_scoped_config()
    assert profile.asked == any(environment.values())


def test_the_endpoint_of_the_services_section_comes_first(files):
    theirs = botocore.session.Session(profile="nested")
    theirs.set_credentials("a", "b")
    client = theirs.create_client("s3", region_name="us-east-1")
    assert read_profile("nested").endpoint == client.meta.endpoint_url == "https://s3.example:9000"
    assert read_profile("plain").endpoint is None


def test_without_files_the_default_profile_is_empty(no_env):
    profile = read_profile(None)
    assert (profile.name, profile.settings, profile.asked, profile.needs_boto3) == ("default", {}, False, None)


def test_files_are_looked_for_in_the_home_directory(no_env, tmp_path):
    no_env.delenv("AWS_CONFIG_FILE")
    no_env.setenv("AWS_SHARED_CREDENTIALS_FILE", "~/elsewhere")
    no_env.setenv("HOME", str(tmp_path))
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "config").write_text("[default]\nregion = eu-north-1\n")
    (tmp_path / "elsewhere").write_text("[default]\naws_access_key_id = AKIDHOME\n")
    assert read_profile(None).settings == {"region": "eu-north-1", "aws_access_key_id": "AKIDHOME"}


@pytest.mark.parametrize("content", [b"aws_secret_access_key = PLANTED\n", b"[default\nPLANTED", b"[a]\nPLANTED\xff\n"])
@pytest.mark.parametrize("name", ["config", "credentials"])
def test_a_file_that_cannot_be_parsed_is_named_and_not_quoted(files, name, content):
    (files / name).write_bytes(content)
    with pytest.raises(CredentialsError, match=rf"{name} cannot be read \(\w+\); is it a valid AWS file") as caught:
        read_profile(None)
    assert "PLANTED" not in str(caught.value) and caught.value.__context__ is None


@pytest.mark.parametrize(
    ("setting", "assumes_role"),
    [
        ("role_arn", True),
        ("credential_process", False),
        ("sso_session", False),
        ("sso_start_url", False),
        ("login_session", False),
    ],
)
def test_what_only_boto3_can_do_is_said(files, setting, assumes_role):
    (files / "config").write_text(f"[profile x]\n{setting} = y\n")
    profile = read_profile("x")
    assert (profile.needs_boto3, profile.assumes_role) == (setting, assumes_role)


def test_keys_alone_need_no_boto3(files):
    assert read_profile("plain").needs_boto3 is None


def test_a_profile_does_not_show_its_settings(files):
    assert "secret" not in repr(read_profile("plain"))
