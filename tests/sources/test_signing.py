"""Signatures: botocore's for the same request at the same time."""

from __future__ import annotations

import datetime

import botocore.auth
import botocore.credentials
import pytest
from botocore.awsrequest import AWSRequest
from hypothesis import given
from hypothesis import strategies as st

from diskless.sources import Credentials
from diskless.sources.signing import canonical_query, sign

_NOW = datetime.datetime(2026, 3, 4, 5, 6, 7, tzinfo=datetime.timezone.utc)


def _botocore_headers(host, path, parameters, credentials, region, headers) -> dict[str, str]:
    request = AWSRequest("GET", f"https://{host}{path}", params=parameters, headers={**headers, "host": host})
    owner = botocore.credentials.Credentials(credentials.key, credentials.secret, credentials.token)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.auth, "get_current_datetime", lambda *_: _NOW)
        botocore.auth.S3SigV4Auth(owner, "s3", region).add_auth(request)
    return {name.lower(): value for name, value in request.headers.items()}


_PLAIN = Credentials("AKID", "secret")


@pytest.mark.parametrize("credentials", [_PLAIN, Credentials("ASIA", "other/secret+", "token==")])
@pytest.mark.parametrize("region", ["us-east-1", "eu-central-2"])
@pytest.mark.parametrize("host", ["models.s3.amazonaws.com", "127.0.0.1:9000"])
@pytest.mark.parametrize("path", ["/", "/models", "/storage/v1/s3/models"])
@pytest.mark.parametrize("headers", [{}, {"x-amz-request-payer": "requester"}])
def test_a_request_is_signed_as_botocore_signs_it(credentials, region, host, path, headers):
    parameters = {"list-type": "2", "prefix": "a b/\u00e9+&=~*'", "encoding-type": "url", "delimiter": "/"}
    ours = sign("GET", host, path, canonical_query(parameters), credentials, region, headers, _NOW.timestamp())
    theirs = _botocore_headers(host, path, parameters, credentials, region, headers)
    assert {**ours, "host": host} == theirs


@given(
    prefix=st.text(st.characters(exclude_categories=["Cs"])),
    token=st.text(st.characters(min_codepoint=33, max_codepoint=126)),
    secret=st.text(min_size=1, alphabet=st.characters(min_codepoint=33, max_codepoint=126)),
)
def test_any_prefix_and_continuation_token_is_signed_as_botocore_signs_it(prefix, token, secret):
    parameters = {"list-type": "2", "prefix": prefix, "continuation-token": token}
    credentials = Credentials("AKID", secret)
    ours = sign("GET", "h", "/b", canonical_query(parameters), credentials, "us-east-1", {}, _NOW.timestamp())
    theirs = _botocore_headers("h", "/b", parameters, credentials, "us-east-1", {})
    assert ours["authorization"] == theirs["authorization"]


def test_the_time_is_now_unless_it_is_given():
    before = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
    stamp = sign("GET", "h", "/", "", _PLAIN, "us-east-1", {})["x-amz-date"]
    signed_at = datetime.datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.timezone.utc)
    assert before <= signed_at <= datetime.datetime.now(datetime.timezone.utc)
