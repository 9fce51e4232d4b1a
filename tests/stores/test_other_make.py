"""A server of another make than moto: SeaweedFS, which checks signatures and rights, and keeps what S3 keeps."""

from __future__ import annotations

import io
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest

import diskless
from diskless import native_api as native
from diskless.sources import manifest, open_source, resolve
from tests.upload_store import write_files

MIB = 1 << 20
BIG = os.urandom(17 * MIB + 5)
FILES = {"config.json": b"{}", "empty": b"", "weights/big.bin": BIG, "weights/ü + %41&.txt": b"name"}
needs_the_tree = pytest.mark.skipif(not native.available(), reason="needs the Tree")


@pytest.fixture
def model(s3_env, bucket):
    for name, data in FILES.items():
        bucket.put(f"m/{name}", data)
    return bucket


def _contents(path: str) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in Path(path).rglob("*") if file.is_file()}


@pytest.mark.parametrize("load", ["eager", pytest.param("background", marks=needs_the_tree)])
@pytest.mark.parametrize("verify", [False, True])
def test_a_prefix_is_mounted(model, load, verify):
    with diskless.mount(f"{model.url}/m", load=load, verify=verify) as path:
        assert _contents(path) == FILES


def test_a_prefix_is_mounted_in_a_directory(model, tmp_path):
    (tmp_path / "ram").mkdir()
    with diskless.mount(f"{model.url}/m", backing=f"directory:{tmp_path / 'ram'}", verify=True) as path:
        assert _contents(path) == FILES


@needs_the_tree
def test_what_is_opened_is_fetched(model):
    with diskless.mount(f"{model.url}/m", load="lazy") as path:
        mount = diskless.mounts()[-1]
        assert os.stat(f"{path}/weights/big.bin").st_size == len(BIG)
        assert Path(path, "config.json").read_bytes() == b"{}" and mount.stats.fetched_bytes < len(BIG)
        assert _contents(path) == FILES


def test_more_than_a_page_is_listed(s3_env, bucket):
    names = [f"{number % 3}/{number:04}" for number in range(1005)]
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda name: bucket.put(f"m/{name}", name.encode()), names))
    source = open_source(resolve(f"{bucket.url}/m"))
    assert sorted(entry.path for entry in source.list().objects) == sorted(names)


def test_keys_come_back_as_they_are_whatever_order_they_are_listed_in(s3_env, bucket):
    """SeaweedFS lists a/x before `a b`, though a space comes before a slash."""
    good = ["a/x", "a b+c", "%2e%2e", "weights/%2e%2e/x", "grüße/😀", "n" * 255]
    odd = ["new\nline", "prefix"]
    for key in [*good, *odd, "prefix/below"]:
        bucket.put(f"m/{key}", key.encode())
    with diskless.mount(f"{bucket.url}/m") as path:
        assert _contents(path) == {key: key.encode() for key in [*good, "prefix/below"]}
        assert {key for key, _ in diskless.mounts()[-1].stats.refused} == {f"m/{key}" for key in odd}
    with diskless.mount(f"{bucket.url}/m/prefix") as path:
        assert Path(path).read_bytes() == b"prefix"
    with diskless.mount(f"{bucket.url}/m/prefix/") as path:
        assert os.listdir(path) == ["below"]


def test_any_range_of_the_listed_version_is_read_and_no_other(model):
    source = open_source(resolve(f"{model.url}/m/weights/big.bin"))
    (entry,) = source.list().objects
    for start, end in ((0, 1), (5, 9), (4 * MIB - 3, 12 * MIB + 3), (len(BIG) - 1, len(BIG))):
        assert b"".join(bytes(piece) for piece in source.read(entry, start, end)) == BIG[start:end]
    model.put("m/weights/big.bin", BIG[::-1])
    with pytest.raises(diskless.ObjectChanged, match="was replaced while it was read"):
        list(source.read(entry, 0, 5))
    model.delete("m/weights/big.bin")
    with pytest.raises(diskless.ObjectChanged, match="was deleted while it was read"):
        list(source.read(entry, 0, 5))


def test_a_version_is_mounted(s3_env, bucket):
    client = s3_env.client
    client.put_bucket_versioning(Bucket=bucket.name, VersioningConfiguration={"Status": "Enabled"})
    versions = [client.put_object(Bucket=bucket.name, Key="k", Body=data)["VersionId"] for data in (b"old", b"new!")]
    for version, data in zip(versions, (b"old", b"new!"), strict=True):
        with diskless.mount(f"{bucket.url}/k?versionId={version}", verify=True) as path:
            assert Path(path).read_bytes() == data


@pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"])
def test_its_checksums_are_compared_with(s3_env, bucket, algorithm):
    s3_env.client.put_object(Bucket=bucket.name, Key="m/x", Body=BIG[:300], ChecksumAlgorithm=algorithm)
    spec = resolve(f"{bucket.url}/m")
    source = open_source(spec)
    (entry,) = source.list().objects
    assert source.checksum(entry).algorithm == algorithm
    with diskless.mount(f"{bucket.url}/m", verify=True) as path:
        assert Path(path, "x").read_bytes() == BIG[:300]


@pytest.mark.parametrize("algorithm", ["CRC32", "SHA256"])
def test_checksums_of_parts_are_compared_with(s3_env, bucket, algorithm):
    s3_env.client.upload_fileobj(io.BytesIO(BIG), bucket.name, "big", ExtraArgs={"ChecksumAlgorithm": algorithm})
    source = open_source(resolve(f"{bucket.url}/big"))
    (entry,) = source.list().objects
    assert source.checksum(entry).part_ends == (8 * MIB, 16 * MIB, len(BIG))
    with diskless.mount(f"{bucket.url}/big", verify=True) as path:
        assert Path(path).read_bytes() == BIG


@pytest.mark.parametrize("has_library", [True, False])
def test_a_push_comes_back_the_same_with_checksums_that_it_keeps(
    s3_env, bucket, tmp_path, monkeypatch: pytest.MonkeyPatch, has_library
):
    with monkeypatch.context() as patched:
        if not has_library:
            patched.setattr(native, "has_checksums", lambda: False)
        diskless.push(write_files(tmp_path / "model", FILES), f"{bucket.url}/m")
    algorithm = "ChecksumCRC64NVME" if has_library and native.has_checksums() else "ChecksumCRC32"
    for name in FILES:
        head = s3_env.client.head_object(Bucket=bucket.name, Key=f"m/{name}", ChecksumMode="ENABLED")
        assert algorithm in head and "-" not in head[algorithm], name
    assert "Uploads" not in s3_env.client.list_multipart_uploads(Bucket=bucket.name)
    with diskless.mount(f"{bucket.url}/m", verify=True) as path:
        assert _contents(path) == FILES
    s3_env.client.delete_object(Bucket=bucket.name, Key=f"m/{manifest.NAME}")
    with diskless.mount(f"{bucket.url}/m", verify=True, allow_patterns="*") as path:
        assert _contents(path) == FILES, "by the store's own"


def test_a_push_replaces_only_when_asked_and_aborts_what_was_left(s3_env, model, tmp_path):
    directory = write_files(tmp_path / "model", FILES)
    left = s3_env.client.create_multipart_upload(Bucket=model.name, Key="m/weights/big.bin")["UploadId"]
    with pytest.raises(diskless.AlreadyExists, match="holds 4 objects already"):
        diskless.push(directory, f"{model.url}/m")
    diskless.push(directory, f"{model.url}/m", overwrite=True)
    uploads = s3_env.client.list_multipart_uploads(Bucket=model.name).get("Uploads", [])
    assert left not in {upload["UploadId"] for upload in uploads}
    with diskless.mount(f"{model.url}/m", verify=True) as path:
        assert _contents(path) == FILES


def test_refusals_have_their_classes(s3_env, model, tmp_path):
    (tmp_path / "x").write_bytes(b"x")

    def options(keys: dict[str, str]) -> dict[str, str]:
        return {"key": keys["aws_access_key_id"], "secret": keys["aws_secret_access_key"]}

    with pytest.raises(diskless.NotFound, match="no such bucket: s3://no-such-bucket"):
        diskless.mount("s3://no-such-bucket/m")
    with pytest.raises(diskless.NotFound, match="no such bucket: s3://no-such-bucket"):
        diskless.push(tmp_path / "x", "s3://no-such-bucket/m")
    with pytest.raises(diskless.NotFound, match=r"did you mean s3://.*/m/"):
        diskless.mount(f"{model.url}/mm")
    with pytest.raises(diskless.CredentialsError, match="SignatureDoesNotMatch"):
        diskless.mount(f"{model.url}/m", storage_options={**options(s3_env.credentials), "secret": "wrong"})
    with pytest.raises(diskless.CredentialsError, match="InvalidAccessKeyId"):
        diskless.mount(f"{model.url}/m", storage_options={**options(s3_env.credentials), "key": "AKIDNOBODY"})
    with pytest.raises(diskless.AccessDenied, match="access denied"):
        diskless.mount(f"{model.url}/m", storage_options={"anon": True})
    with diskless.mount(f"{model.url}/m", storage_options=options(s3_env.reader), allow_patterns="*.json") as path:
        assert os.listdir(path) == ["config.json"]
    with pytest.raises(diskless.AccessDenied, match="s3:PutObject"):
        diskless.push(tmp_path / "x", f"{model.url}/n", storage_options=options(s3_env.reader))


def test_a_public_bucket_needs_no_credentials(s3_env, model):
    resource = f"arn:aws:s3:::{model.name}"
    statement = {
        "Effect": "Allow",
        "Principal": "*",
        "Action": ["s3:GetObject", "s3:ListBucket"],
        "Resource": [resource, f"{resource}/*"],
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    s3_env.client.put_bucket_policy(Bucket=model.name, Policy=policy)
    with diskless.mount(f"{model.url}/m", storage_options={"anon": True}, verify=True) as path:
        assert _contents(path) == FILES


def test_a_presigned_url_is_mounted(s3_env, model):
    for key in ("m/config.json", "m/weights/big.bin"):
        url = s3_env.client.generate_presigned_url("get_object", Params={"Bucket": model.name, "Key": key})
        with diskless.mount(url) as path:
            assert Path(path).read_bytes() == FILES[key.removeprefix("m/")]
        assert urlsplit(url).query not in path


def test_a_key_of_the_customers_is_used(s3_env, bucket):
    key = os.urandom(32).hex()[:32]
    encrypted = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": key}
    s3_env.client.put_object(Bucket=bucket.name, Key="secret", Body=BIG, **encrypted)
    with diskless.mount(f"{bucket.url}/secret", storage_options=encrypted) as path:
        assert Path(path).read_bytes() == BIG
