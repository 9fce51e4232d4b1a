"""storage_options: what s3fs and obstore call the same thing, and what is refused."""

from __future__ import annotations

import pytest

from diskless.errors import InvalidOption
from diskless.sources.options import flatten


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
        ({"config_kwargs": {"retries": "PLANTED"}}, r"config_kwargs\['retries'\] is not known; known are region_name"),
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
