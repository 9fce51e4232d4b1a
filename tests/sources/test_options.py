"""storage_options: what s3fs and obstore call the same thing, and what is refused."""

from __future__ import annotations

import base64

import botocore
import pytest

from diskless.errors import InvalidOption
from diskless.sources.options import as_s3fs, flatten
from diskless.sources.untranslated import Untranslated

KEY = b"a key of exactly thirty-two byte"
IN_BASE64 = base64.b64encode(KEY).decode()


@pytest.mark.parametrize(
    ("options", "flat"),
    [
        ({}, {}),
        ({"key": "k", "secret": "s", "token": "t"}, {"key": "k", "secret": "s", "token": "t"}),
        ({"aws_access_key_id": "k", "aws_secret_access_key": "s"}, {"key": "k", "secret": "s"}),
        ({"access_key_id": "k", "session_token": "t"}, {"key": "k", "token": "t"}),
        ({"key": None, "anon": True}, {"anon": True}),
        ({"anon": False}, {"anon": False}),
        ({"skip_signature": True}, {"anon": True}),
        ({"endpoint_url": "http://h", "region": "r"}, {"endpoint": "http://h", "region": "r"}),
        ({"client_kwargs": {"endpoint_url": "http://h"}}, {"endpoint": "http://h"}),
        ({"client_kwargs": {"region_name": "r", "verify": False}}, {"region": "r", "verify": False}),
        ({"client_kwargs": None, "config_kwargs": None}, {}),
        ({"client_kwargs": {"endpoint_url": None}}, {}),
        ({"config_kwargs": {"s3": {"addressing_style": "virtual"}}}, {"addressing_style": "virtual"}),
        ({"config_kwargs": {"s3": {}}}, {"addressing_style": "auto"}),
        ({"username": "k", "password": "s"}, {"key": "k", "secret": "s"}),
        ({"default_block_size": 1, "version_aware": True, "config_kwargs": {"retries": {}, "read_timeout": 1}}, {}),
        ({"config_kwargs": {"use_fips_endpoint": True}}, {"fips": True}),
        ({"config_kwargs": {"signature_version": "s3v4"}}, {}),
        ({"config_kwargs": {"signature_version": botocore.UNSIGNED}}, {"anon": True}),
        ({"s3_additional_kwargs": {"RequestPayer": "requester"}}, {"requester_pays": True}),
        ({"s3_additional_kwargs": {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "k"}}, {}),
        ({"s3_additional_kwargs": {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": KEY}}, {"sse_key": IN_BASE64}),
        ({"SSECustomerKey": KEY.decode()}, {"sse_key": IN_BASE64}),
        ({"SSECustomerKey": IN_BASE64}, {"sse_key": IN_BASE64}),
    ],
)
def test_options_mean_what_they_mean_elsewhere(options, flat):
    assert flatten(options) == flat


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("key=PLANTED", "storage_options is a mapping, not str"),
        ([("key", "PLANTED")], "storage_options is a mapping, not list"),
        ({"kee": "PLANTED"}, "'kee' is not known; known are .*'?addressing_style.* token"),
        ({3: "PLANTED"}, "3 is not known"),
        ({"client_kwargs": "PLANTED"}, "'client_kwargs' is a mapping, not str"),
        ({"client_kwargs": {"kee": "PLANTED"}}, r"client_kwargs\['kee'\] is not known; known are aws_access_key_id"),
        ({"config_kwargs": {"retrie": "PLANTED"}}, r"config_kwargs\['retrie'\] is not known; known are region_name"),
        (
            {"s3_additional_kwargs": {"Kee": "PLANTED"}},
            r"s3_additional_kwargs\['Kee'\] is not known; known are R",
        ),
        ({"SSECustomerKey": "PLANTED"}, "'SSECustomerKey' is a key of 32 bytes"),
        ({"SSECustomerKey": 3}, "'SSECustomerKey' is a key of 32 bytes"),
        ({"SSECustomerAlgorithm": "AES256"}, "'SSECustomerKey' is a key of 32 bytes"),
        ({"SSECustomerKey": KEY, "SSECustomerAlgorithm": "PLANTED"}, "'SSECustomerAlgorithm' is 'AES256'"),
        ({"config_kwargs": {"s3": "PLANTED"}}, "is a mapping, not str"),
        ({"key": b"PLANTED"}, "'key' is a string, not bytes"),
        ({"secret": 3}, "'secret' is a string, not int"),
        ({"endpoint_url": 3}, "'endpoint' is a string, not int"),
        ({"addressing_style": "PLANTED"}, "'addressing_style' is one of auto, path, virtual"),
        ({"config_kwargs": {"s3": {"addressing_style": 3}}}, "'addressing_style' is a string, not int"),
    ],
)
def test_what_is_not_known_is_named_and_its_value_is_not_shown(options, said):
    with pytest.raises(InvalidOption, match=said) as caught:
        flatten(options)
    assert "PLANTED" not in str(caught.value)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"session": object()}, "session"),
        ({"client_kwargs": {"api_version": "2006-03-01"}}, "client_kwargs['api_version']"),
        ({"config_kwargs": {"proxies": {}}}, "config_kwargs['proxies']"),
        ({"config_kwargs": {"signature_version": "s3"}}, "config_kwargs['signature_version']"),
        (
            {"config_kwargs": {"s3": {"use_arn_region": True}}},
            "config_kwargs['s3']['use_arn_region']",
        ),
        ({"s3_additional_kwargs": {"ExpectedBucketOwner": "1"}}, "s3_additional_kwargs['ExpectedBucketOwner']"),
    ],
)
def test_what_only_s3fs_understands_is_left_to_it(options, named):
    with pytest.raises(Untranslated) as caught:
        flatten(options)
    assert caught.value.option == named


def test_our_own_words_become_those_of_s3fs():
    ours = {"region": "r", "access_key_id": "k", "endpoint": "e", "verify": False, "addressing_style": "path"}
    assert as_s3fs({**ours, "client_kwargs": {"api_version": "1"}}) == {
        "key": "k",
        "endpoint_url": "e",
        "client_kwargs": {"region_name": "r", "verify": False, "api_version": "1"},
        "config_kwargs": {"s3": {"addressing_style": "path"}},
    }
