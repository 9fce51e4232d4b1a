"""URLs: read byte for byte, refused by name, and never shown where they may hold a secret."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diskless.errors import InvalidURL
from diskless.sources import URL, parse_url

# What a careless user could put where the bucket is to stand; real secret keys hold slashes and plus signs.
SECRET = "wJalr/XUtn+FEMI" + "KEYplanted"


@pytest.mark.parametrize(
    ("url", "bucket", "key"),
    [
        ("s3://models", "models", ""),
        ("s3://models/", "models", ""),
        ("s3://models/bert", "models", "bert"),
        ("s3://models/bert/", "models", "bert/"),
        ("S3://models/Bert", "models", "Bert"),
        ("s3://my.bucket-1_x/a", "my.bucket-1_x", "a"),
        ("s3://models/%2e%2e", "models", "%2e%2e"),
        ("s3://models/%2e%2e/x", "models", "%2e%2e/x"),
        ("s3://models/a%2Fb%20c%", "models", "a%2Fb%20c%"),
        ("s3://models/a b+c", "models", "a b+c"),
        ("s3://models/a?b=1#c", "models", "a?b=1#c"),
        ("s3://models/mail@host:1", "models", "mail@host:1"),
        ("s3://models/\u00e9\u65e5", "models", "\u00e9\u65e5"),
        ("s3://models/...", "models", "..."),
        ("s3://models/\\..\\x", "models", "\\..\\x"),
    ],
)
def test_a_key_stays_as_written(url, bucket, key):
    assert parse_url(url) == URL("s3", bucket, key)


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="/?&"), min_size=1))
def test_any_text_without_slashes_and_control_characters_is_a_key(key):
    if key in (".", ".."):
        return
    parsed = parse_url(f"s3://models/{key}")
    assert parsed.key == key
    assert parse_url(str(parsed)) == parsed


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "this is no URL"),
        ("models/bert", r"this is no URL \(one looks like 's3://bucket/prefix'\): 'models/bert'"),
        ("/models/bert", "this is no URL"),
        ("s3:/models", "this is no URL"),
        ("://models", "this is no URL"),
        ("gs://models/x", "gs:// is not supported yet; s3://bucket/prefix is"),
        ("https://models.s3.amazonaws.com/x", "https:// is not supported yet"),
        ("s3://", "'' is no bucket name"),
        ("s3:///bert", "'' is no bucket name, in 's3:///bert'"),
        ("s3://-models/x", "'-models' is no bucket name"),
        ("s3://my models/x", "'my models' is no bucket name"),
        ("s3://m\u00f6dels", "is no bucket name"),
        ("s3://%2e%2e/x", "'%2e%2e' is no bucket name"),
        ("s3://../x", "'..' is no bucket name"),
        ("s3://models/a//b", r"s3://models/a//b': a prefix with an empty, '.' or '..' part cannot be a path; mount"),
        ("s3://models//", "a prefix with an empty"),
        ("s3://models//x", "a prefix with an empty"),
        ("s3://models/../x", "a prefix with an empty"),
        ("s3://models/x/..", "a prefix with an empty"),
        ("s3://models/./x", "a prefix with an empty"),
        ("s3://models/x\0y", r"s3://models/x\\x00y' holds control characters"),
        ("s3://models/x\ny", r"s3://models/x\\ny' holds control characters"),
        ("s3://models/\x7f", r"s3://models/\\x7f' holds control characters"),
        ("s3://models:9000/x", "holds no user name, keys or port"),
        ("s3://arn:aws:s3:eu-west-1:1:accesspoint/x", "holds no user name, keys or port"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(url, said):
    with pytest.raises(InvalidURL, match=said):
        parse_url(url)


@pytest.mark.parametrize("url", [None, 3, b"s3://models", ["s3://models"]])
def test_what_is_no_string_is_refused_by_its_type(url):
    with pytest.raises(InvalidURL, match=f"a URL is a str .*not {type(url).__name__}"):
        parse_url(url)


def test_an_invalid_url_is_a_value_error():
    assert issubclass(InvalidURL, ValueError)


@pytest.mark.parametrize(
    "url",
    [
        f"s3://AKIAPLANTED:{SECRET}@models/bert",
        f"s3://:{SECRET}@models/bert",
        f"s3://AKIAPLANTED:{SECRET}",
        f"s3:/AKIAPLANTED:{SECRET}@models",
        f"https://user:{SECRET}@host/models",
        f"gs://{SECRET}@models",
        f"s3://models/bert?X-Amz-Signature={SECRET}",
        f"s3://models/bert?X-Amz-Credential={SECRET}&X-Amz-Date=1",
        f"s3://models/bert?versionId=1&X-Amz-Security-Token={SECRET}",
        f"s3://models/a//b?Signature={SECRET}",
        f"s3://b/x?AWSAccessKeyId={SECRET}",
        f"https://models.s3.amazonaws.com/bert?X-Amz-Signature={SECRET}",
        f"models/bert?X-Amz-Signature={SECRET}",
    ],
)
def test_what_may_be_a_secret_is_refused_and_not_shown(url):
    with pytest.raises(InvalidURL) as caught:
        parse_url(url)
    assert not any(part in str(caught.value) for part in ("wJalr", "XUtn", "KEYplanted", "AKIAPLANTED"))


def test_a_signed_url_is_told_what_to_leave_out():
    with pytest.raises(InvalidURL, match="leave out what begins with the question mark"):
        parse_url("s3://models/bert?X-Amz-Signature=0")
