"""What S3 has besides buckets and keys: versions, keys of the customer's, access points, AWS's other endpoints."""

from __future__ import annotations

import logging

import pytest

import diskless
from diskless.errors import InvalidOption, InvalidURL, NotFound
from diskless.sources import Object, open_source, resolve
from tests.servers import Bucket, S3Server
from tests.sources.stub_server import Answer, StubServer, s3_object
from tests.sources.test_options import IN_BASE64, KEY

SIGNED = {"key": "AKIDTEST", "secret": "test-secret", "region": "us-east-1"}
POINT = "s3://arn:aws:s3:eu-west-1:123456789012:accesspoint/mine/models/x"


def _versions(server: S3Server, bucket: Bucket, *contents: bytes) -> list[str]:
    server.client.put_bucket_versioning(Bucket=bucket.name, VersioningConfiguration={"Status": "Enabled"})
    return [server.client.put_object(Bucket=bucket.name, Key="a/x", Body=data)["VersionId"] for data in contents]


def test_a_version_is_mounted_though_it_is_not_the_present_one(s3_env, bucket, either_way):
    old, empty, _ = _versions(s3_env, bucket, b"old", b"", b"present")
    with diskless.mount(f"{bucket.url}/a/x?versionId={old}") as path:
        assert path == f"/diskless/s3/{bucket.name}/a/x?versionId={old}"
        assert open(path, "rb").read() == b"old"
        with diskless.mount(f"{bucket.url}/a/x") as present:
            assert open(present, "rb").read() == b"present"
    with diskless.mount(f"{bucket.url}/a/x?versionId={empty}") as path:
        assert open(path, "rb").read() == b""


def test_the_version_null_is_not_taken_for_one_that_stays(s3_env, bucket):
    """What was put into a bucket without versions has it, and so has what replaces that."""
    for data in (b"1", b"2"):
        bucket.put("a/x", data)
        with diskless.mount(f"{bucket.url}/a/x?versionId=null") as path:
            assert open(path, "rb").read() == data
            bucket.put("a/x", b"3")
            with diskless.mount(f"{bucket.url}/a/x?versionId=null", allow_patterns="*") as later:
                assert open(later, "rb").read() == b"3"


def test_a_version_that_is_not_there_is_not_found(s3_env, bucket):
    _versions(s3_env, bucket, b"1")
    with pytest.raises(NotFound, match=r"a/x[?]versionId=no: there is no such version, or it marks a deletion"):
        diskless.mount(f"{bucket.url}/a/x?versionId=no")


def test_a_key_of_the_customers_goes_with_every_read_and_is_never_shown(no_env, caplog):
    with caplog.at_level(logging.DEBUG), StubServer(s3_object("a/x", b"12345")) as server:
        options = {**SIGNED, "endpoint_url": server.url, "SSECustomerAlgorithm": "AES256", "SSECustomerKey": KEY}
        spec = resolve("s3://models/a/x", storage_options=options)
        with diskless.mount("s3://models/a/x", storage_options=options) as path:
            assert open(path, "rb").read() == b"12345"
        (read,) = [asked for asked in server.asked if "range" in asked.headers]
        sent = {name: read.headers[f"x-amz-server-side-encryption-customer-{name}"] for name in ("algorithm", "key")}
        assert sent == {"algorithm": "AES256", "key": IN_BASE64}
        assert "x-amz-server-side-encryption-customer-key-md5" in read.headers["authorization"]
    shown = repr(spec) + spec.identity + caplog.text
    assert IN_BASE64 not in shown and KEY.decode() not in shown
    other = resolve("s3://models/a/x", storage_options={**options, "SSECustomerKey": KEY[::-1]})
    assert other.identity != spec.identity


@pytest.mark.parametrize(
    ("url", "variables", "host"),
    [
        (POINT, {}, "mine-123456789012.s3-accesspoint.eu-west-1.amazonaws.com"),
        (POINT, {"FIPS": "true"}, "mine-123456789012.s3-accesspoint-fips.eu-west-1.amazonaws.com"),
        (POINT, {"DUALSTACK": "true"}, "mine-123456789012.s3-accesspoint.dualstack.eu-west-1.amazonaws.com"),
        ("s3://models/x", {"FIPS": "true"}, "models.s3-fips.us-east-1.amazonaws.com"),
        ("s3://models/x", {"DUALSTACK": "true"}, "models.s3.dualstack.us-east-1.amazonaws.com"),
        ("s3://models/x", {"FIPS": "true", "DUALSTACK": "true"}, "models.s3-fips.dualstack.us-east-1.amazonaws.com"),
        ("s3://my.models/x", {"FIPS": "true"}, "s3-fips.us-east-1.amazonaws.com"),
        ("s3://models/x", {"FIPS": "false"}, "models.s3.us-east-1.amazonaws.com"),
    ],
)
def test_requests_go_to_the_endpoint_that_is_asked_for(no_env, url, variables, host):
    """Through a proxy, which is told the host: nothing is asked of AWS."""
    with StubServer(lambda asked: Answer(403)) as proxy:
        no_env.setenv("https_proxy", proxy.url)
        for name, value in variables.items():
            no_env.setenv(f"AWS_USE_{name}_ENDPOINT", value)
        source = open_source(resolve(url, storage_options=SIGNED))
        with pytest.raises(OSError):
            source.list()
        assert {asked.target for asked in proxy.asked} == {f"{host}:443"}
        with pytest.raises(OSError):
            list(source.read(Object("x", "x", 1, None, None, 0), 0, 1))
        assert {asked.target for asked in proxy.asked} == {f"{host}:443"} and len(proxy.asked) > 1


def test_an_access_point_is_a_label_of_the_host_and_no_part_of_the_path(no_env):
    with StubServer(s3_object("models/x", b"12345")) as proxy:
        no_env.setenv("http_proxy", proxy.url)
        with diskless.mount(POINT, storage_options={**SIGNED, "endpoint_url": "http://s3.example"}) as path:
            assert open(path, "rb").read() == b"12345"
        listed, read = proxy.asked
    origin = "http://mine-123456789012.s3.example"
    assert listed.target.startswith(f"{origin}/?") and read.target == f"{origin}/models/x"
    assert all("/eu-west-1/s3/aws4_request" in asked.headers["authorization"] for asked in (listed, read))


def test_endpoints_are_asked_for_by_profile_and_options(no_env, tmp_path):
    (tmp_path / "config").write_text("[default]\nuse_fips_endpoint = true\nuse_dualstack_endpoint = true\n")
    found = resolve("s3://models", storage_options=SIGNED)
    assert found.fips and found.dualstack
    options = {**SIGNED, "config_kwargs": {"use_fips_endpoint": False, "s3": {"use_dualstack_endpoint": False}}}
    found = resolve("s3://models", storage_options=options)
    assert not found.fips and not found.dualstack
    with pytest.raises(InvalidOption, match="an endpoint of your own goes with neither FIPS nor dual-stack"):
        resolve("s3://models", storage_options={**SIGNED, "endpoint_url": "http://localhost:9000"})


def test_a_directory_bucket_is_refused_by_name(no_env):
    with pytest.raises(InvalidURL, match=r"a directory bucket .S3 Express One Zone. wants sessions"):
        resolve("s3://models--use1-az4--x-s3/x")


def test_an_s3fs_is_translated(s3_env, bucket, caplog):
    import s3fs

    bucket.put("m/a", b"1")
    keys = s3_env.credentials
    mine = s3fs.S3FileSystem(
        key=keys["aws_access_key_id"],
        secret=keys["aws_secret_access_key"],
        client_kwargs={"endpoint_url": s3_env.endpoint},
        requester_pays=True,
        default_block_size=1 << 20,
    )
    spec = resolve(f"{bucket.name}/m", fs=mine)
    assert spec.filesystem is None and spec.request_payer and spec.endpoint == s3_env.endpoint
    assert spec.credentials is not None and spec.credentials.secret == keys["aws_secret_access_key"]
    with diskless.mount(f"{bucket.url}/m", fs=mine, load="background") as path:
        assert open(f"{path}/a", "rb").read() == b"1"
    assert not caplog.records


def test_what_only_s3fs_understands_is_read_through_it_with_one_warning(s3_env, bucket, caplog):
    import s3fs

    bucket.put("m/a", b"1")
    odd = {"s3_additional_kwargs": {"ExpectedBucketOwner": "123456789012"}, "endpoint_url": s3_env.endpoint}
    for given in ({"storage_options": {**odd, "region": "us-east-1"}}, {"fs": s3fs.S3FileSystem(**odd)}):
        caplog.clear()
        with diskless.mount(f"{bucket.url}/m", **given) as path:
            assert path == f"/diskless/s3/{bucket.name}/m" and open(f"{path}/a", "rb").read() == b"1"
        (said,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
        assert "is read the slow way" in said and "s3_additional_kwargs['ExpectedBucketOwner']" in said
