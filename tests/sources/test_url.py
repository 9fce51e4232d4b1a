"""URLs: read byte for byte, refused by name, and never shown where they may hold a secret."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diskless.errors import InvalidURL
from diskless.sources import URL, parse_url

# What a careless user could put where the bucket is to stand; real secret keys hold slashes and plus signs.
ARN = "arn:aws:s3:eu-west-1:123456789012:accesspoint/mine"
TWICE = "x::tar://y::s3://m/a"
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
        ("gs://", "'' is no bucket name"),
        ("gs://models:9000/x", r"a gs:// URL holds no user name, keys or port; give keys as .*'token'"),
        ("az://Models/x", "'Models' is no container name"),
        ("abfs://c@account.example.com/x", r"an abfs:// URL holds no user name, .*'account_name'"),
        ("s3://models/?versionId=1", "names one version of one object"),
        ("s3://models/a/?versionId=1", "names one version of one object"),
        ("s3://models/a?versionId=", "names one version of one object"),
        ("https://", "this https:// URL has no valid host: ''"),
        ("https:///x", "this https:// URL has no valid host: ''"),
        ("https://ho st/x", "this https:// URL has no valid host: 'ho st'"),
        ("https://host:port/x", "this https:// URL has no valid host: 'host:port'"),
        ("https://host/a/../b", "a path with a '.' or '..' part"),
        ("https://host/a\nb", "holds control characters; percent-encode them"),
        ("file://models/x", "a file:// URL is absolute, such as 'file:///models/bert'"),
        ("file:///", "file:/// is the whole disk"),
        ("file:///a/../b", "a prefix with an empty, '.' or '..' part"),
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
        ("s3://arn:aws:s3:eu-west-1:1:accesspoint/x", "this is no access point's ARN; one looks like s3://arn:aws:"),
        ("s3://arn:aws:s3::123456789012:accesspoint/a.mrap/x", "this is no access point's ARN"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(url, said):
    with pytest.raises(InvalidURL, match=said):
        parse_url(url)


@pytest.mark.parametrize("url", [None, 3, b"s3://models", ["s3://models"]])
def test_what_is_no_string_is_refused_by_its_type(url):
    with pytest.raises(InvalidURL, match=f"a URL is a str .*not {type(url).__name__}"):
        parse_url(url)


@pytest.mark.parametrize(
    ("url", "parsed", "shown", "place"),
    [
        ("s3a://models/x", URL("s3", "models", "x"), "s3://models/x", "s3/models/x"),
        ("s3://m1/x?versionId=a/b", URL("s3", "m1", "x", "a/b"), "s3://m1/x?versionId=a/b", "s3/m1/x?versionId=a/b"),
        (f"s3://{ARN}/a/b", URL("s3", ARN, "a/b"), f"s3://{ARN}/a/b", f"s3/{ARN}/a/b"),
        (f"s3://{ARN}", URL("s3", ARN, ""), f"s3://{ARN}", f"s3/{ARN}"),
        ("gs://models/x/", URL("gs", "models", "x/"), "gs://models/x/", "gs/models/x"),
        ("gcs://models", URL("gs", "models", ""), "gs://models", "gs/models"),
        ("az://models/x", URL("az", "models", "x"), "az://models/x", "az/models/x"),
        ("file:///a/b", URL("file", "", "/a/b"), "file:///a/b", "file/a/b"),
        ("https://Host:1/a%20b#c", URL("https", "host:1", "a%20b"), "https://host:1/a%20b", "https/host:1/a%20b"),
        ("http://h", URL("http", "h", ""), "http://h", "http/h"),
        ("http://[::1]:8/x//y", URL("http", "[::1]:8", "x//y"), "http://[::1]:8/x//y", "http/[::1]:8/x/y"),
        ("memory://a/b", URL("memory", "", "a/b"), "memory://a/b", "memory/a/b"),
        ("hf://org/repo@rev/x", URL("hf", "", "org/repo@rev/x"), "hf://org/repo@rev/x", "hf/org/repo@rev/x"),
        ("github://o:r@main/x", URL("github", "", "o:r@main/x"), "github://o:r@main/x", "github/o:r@main/x"),
        ("zip::s3://m/a", URL("zip", "", "::s3://m/a"), "zip://::s3://m/a", "zip/s3/m/a"),
        ("zip://x/y::s3://m/a", URL("zip", "", "x/y::s3://m/a"), "zip://x/y::s3://m/a", "zip/s3/m/a/x/y"),
        ("zip://x::tar://y::s3://m/a", URL("zip", "", TWICE), f"zip://{TWICE}", "zip/tar/s3/m/a/y/x"),
    ],
)
def test_every_scheme_is_read_shown_and_has_a_place(url, parsed, shown, place):
    found = parse_url(url)
    assert found == parsed and str(found) == shown and found.place == place


@pytest.mark.parametrize(
    "url",
    [
        f"https://host/x?X-Amz-Signature={SECRET}",
        f"https://host/x?{SECRET}",
        f"sftp://me:{SECRET}@host/x",
        f"zip://a::sftp://me:{SECRET}@host/x",
        f"zip://a::https://host/x?sig={SECRET}",
        f"dav://host/x?token={SECRET}",
    ],
)
def test_what_may_be_a_secret_is_taken_and_not_shown(url):
    found = parse_url(url)
    shown = str(found) + repr(found) + found.place
    assert not any(part in shown for part in ("wJalr", "XUtn", "KEYplanted", "?", "@"))
    assert str(found).rpartition("://")[2] in ("host/x", "host/x::")


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
        f"https://user:{SECRET.replace('/', '@/')}@host/models",
        f"abfs://{SECRET}@account.dfs.core.windows.net/x",
        f"gs://models/x?X-Goog-Signature={SECRET}",
        f"az://models/x?sig={SECRET}",
        f"gs://:{SECRET}@models",
        f"s3://models/bert?X-Amz-Signature={SECRET}",
        f"s3://models/bert?X-Amz-Credential={SECRET}&X-Amz-Date=1",
        f"s3://models/bert?versionId=1&X-Amz-Security-Token={SECRET}",
        f"s3://models/a//b?Signature={SECRET}",
        f"s3://b/x?AWSAccessKeyId={SECRET}",
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
