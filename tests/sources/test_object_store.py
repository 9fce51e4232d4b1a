"""gs:// and az://: listed and read as their servers have it, with options in the words of gcsfs and adlfs."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Callable
from typing import Any
from xml.sax.saxutils import escape

import pytest

import diskless
from diskless.errors import AccessDenied, CredentialsError, InvalidOption, NotFound, ObjectChanged, TransferError
from diskless.sources import Object, filesystems, open_source, resolve
from diskless.sources.failures import from_obstore
from tests.sources.stub_server import Answer, Asked, StubServer, s3_listing

FILES = {"bert/config.json": b"{}", "bert/deep/w %.bin": bytes(range(256)) * (5 << 12), "bertha": b"other"}
KEY = base64.b64encode(b"PLANTED-key-of-32-bytes-length!!").decode()
HEADERS = {"etag": '"1"', "last-modified": "Fri, 02 Jan 2026 03:04:05 GMT"}


@pytest.fixture(autouse=True)
def nobody(no_env: pytest.MonkeyPatch) -> None:
    import os

    for name in list(os.environ):
        if name.startswith(("GOOGLE_", "AZURE_", "STORAGE_EMULATOR")):
            no_env.delenv(name)


def _azure_listing(files: dict[str, bytes]) -> Answer:
    blobs = "".join(
        f"<Blob><Name>{escape(key)}</Name><Properties><Last-Modified>{HEADERS['last-modified']}</Last-Modified>"
        f"<Etag>1</Etag><Content-Length>{len(data)}</Content-Length><Content-Type>x</Content-Type></Properties></Blob>"
        for key, data in files.items()
    )
    return Answer(200, f"<EnumerationResults><Blobs>{blobs}</Blobs><NextMarker/></EnumerationResults>".encode())


def serves(root: str, files: dict[str, bytes] = FILES) -> Callable[[Asked], Answer]:
    """Answer as the stores do, whose bucket is the path `root`: listings, HEAD, and ranges with their pin."""
    from urllib.parse import unquote

    def answer(asked: Asked) -> Answer:
        if "list-type" in asked.query or "comp" in asked.query:
            below = {key: data for key, data in files.items() if key.startswith(asked.query.get("prefix", ""))}
            listing = s3_listing(*((escape(key), len(data)) for key, data in below.items()), encoded=False)
            return listing if "list-type" in asked.query else _azure_listing(below)
        data = files.get(unquote(asked.path).removeprefix(f"{root}/"))
        if data is None:
            return Answer(404)
        if asked.method == "HEAD":
            return Answer(200, data, HEADERS)
        first, last = map(int, asked.headers["range"].removeprefix("bytes=").split("-"))
        return Answer(206, data[first : last + 1], {**HEADERS, "content-range": f"bytes {first}-{last}/{len(data)}"})

    return answer


def _google(server: StubServer) -> tuple[str, dict[str, Any]]:
    return "gs://models", {"endpoint_url": server.url, "token": "PLANTED-token"}


def _azure(server: StubServer) -> tuple[str, dict[str, Any]]:
    return "az://models", {"endpoint_url": f"{server.url}/acct", "account_name": "acct", "account_key": KEY}


STORES = pytest.mark.parametrize(("store", "root"), [(_google, "/models"), (_azure, "/acct/models")])


@STORES
def test_a_prefix_and_an_object_are_mounted(either_way, store, root):
    with StubServer(serves(root)) as server:
        url, options = store(server)
        with diskless.mount(f"{url}/bert", storage_options=options, load="background") as path:
            assert path == f"/diskless/{url.replace('://', '/')}/bert"
            assert open(f"{path}/config.json", "rb").read() == b"{}"
            assert open(f"{path}/deep/w %.bin", "rb").read() == FILES["bert/deep/w %.bin"]
        with diskless.mount(f"{url}/bertha", storage_options=options) as path:
            assert open(path, "rb").read() == b"other"
        gets = [asked for asked in server.asked if "range" in asked.headers]
        assert all(asked.headers["if-match"] == '"1"' for asked in gets) and len(gets) >= 3
        authorization = "Bearer PLANTED-token" if url == "gs://models" else "SharedKey acct:"
        assert all(asked.headers["authorization"].startswith(authorization) for asked in server.asked)


@STORES
def test_nobody_sees_the_keys(store, root, caplog):
    with (
        caplog.at_level(logging.DEBUG),
        StubServer(lambda asked: Answer(403, b"PLANTED-token" + KEY.encode())) as server,
    ):
        url, options = store(server)
        spec = resolve(f"{url}/x", storage_options=options)
        with pytest.raises(AccessDenied, match=f"{url}/x: access denied") as caught:
            diskless.mount(f"{url}/x", storage_options=options)
    shown = repr(spec) + spec.identity + str(caught.value) + caplog.text
    assert "PLANTED" not in shown and KEY not in shown


@STORES
def test_what_is_not_there_changes_or_cannot_be_listed_is_said(store, root):
    now = [serves(root)]
    with StubServer(lambda asked: now[0](asked)) as server:
        url, options = store(server)
        with pytest.raises(NotFound, match=f"no object at {url}/brt"):
            diskless.mount(f"{url}/brt", storage_options=options)
        source = open_source(resolve(f"{url}/bertha", storage_options=options))
        (entry,) = source.list().objects
        now[0] = lambda asked: Answer(412)
        with pytest.raises(ObjectChanged, match=f"{url}/bertha was replaced"):
            list(source.read(entry, 0, 5))
        now[0] = serves(root, {"a//b": b"1", "c": b"2"})
        with pytest.raises(TransferError, match="a key there has an empty part"):
            diskless.mount(url, storage_options=options)


@pytest.mark.parametrize(
    ("token", "config"),
    [
        (None, {}),
        ("anon", {"skip_signature": "true"}),
        ("ya29.token", {"bearer_token": "ya29.token"}),
        ({"type": "service_account"}, {"service_account_key": '{"type": "service_account"}'}),
    ],
)
def test_tokens_mean_what_gcsfs_means(token, config):
    spec = resolve("gs://models", storage_options={"token": token, "project": "p", "block_size": 1})
    assert spec.options == config and spec.anonymous == (token == "anon")


def test_a_key_file_is_known_by_what_it_is(tmp_path, monkeypatch):
    for kind, word in {"service_account": "service_account", "authorized_user": "application_credentials"}.items():
        (tmp_path / kind).write_text(json.dumps({"type": kind}))
        options = resolve("gs://models", storage_options={"token": str(tmp_path / kind)}).options
        assert options == {word: str(tmp_path / kind)}
    (tmp_path / "other").write_text("PLANTED")
    with pytest.raises(InvalidOption, match=r"holds no credentials of Google's") as caught:
        resolve("gs://models", storage_options={"token": str(tmp_path / "other")})
    assert "PLANTED" not in str(caught.value)
    with pytest.raises(InvalidOption, match="names a file that is not there"):
        resolve("gs://models", storage_options={"token": str(tmp_path / "no.json")})
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/key.json")
    assert resolve("gs://models").options == {"application_credentials": "/key.json"}
    assert resolve("gs://models", storage_options={"token": "t"}).options == {"bearer_token": "t"}


CONNECTION = f"AccountName=acct;AccountKey={KEY};BlobEndpoint=http://127.0.0.1:10000/acct;"


@pytest.mark.parametrize(
    ("url", "options", "config"),
    [
        ("az://models", {"account_name": "a", "sas_token": "?sv=1"}, {"account_name": "a", "sas_key": "?sv=1"}),
        (
            "abfs://models@acc1.dfs.core.windows.net/x",
            {"anon": True},
            {"account_name": "acc1", "skip_signature": "true"},
        ),
        ("az://models", {"account_name": "a", "anon": False, "version_aware": True}, {"account_name": "a"}),
        (
            "az://models",
            {"connection_string": CONNECTION},
            {"account_name": "acct", "account_key": KEY, "endpoint": "http://127.0.0.1:10000/acct"},
        ),
        (
            "az://models",
            {"account_name": "a", "client_id": "i", "client_secret": "s", "tenant_id": "t"},
            {"account_name": "a", "client_id": "i", "client_secret": "s", "tenant_id": "t"},
        ),
    ],
)
def test_azures_options_mean_what_adlfs_means(url, options, config):
    assert resolve(url, storage_options=options).options == {"container_name": "models", **config}


def test_azures_environment_is_read_and_gives_way(monkeypatch):
    with pytest.raises(CredentialsError, match="no storage account is named"):
        resolve("az://models")
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", CONNECTION)
    assert resolve("az://models").options["account_key"] == KEY
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "around")
    options = resolve("az://models", storage_options={"sas_token": "sv=1"}).options
    assert options["account_name"] == "around" and "account_key" not in options


def test_the_loader_heeds_the_present_environment(monkeypatch):
    with StubServer(serves("/models")) as server:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.url)
        for token in ("first", "second"):
            monkeypatch.setenv("GOOGLE_BEARER_TOKEN", token)
            with diskless.mount("gs://models/bertha"):
                assert server.asked[-1].headers["authorization"] == f"Bearer {token}"


@pytest.mark.parametrize("url", ["gs://models", "az://models"])
def test_options_that_nobody_knows_are_named(url):
    with pytest.raises(InvalidOption, match=r"'kee' is not known; known are .*anon") as caught:
        resolve(url, storage_options={"kee": "PLANTED"})
    assert "PLANTED" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "module", "name", "options", "theirs"),
    [
        ("gs://models/x", "gcsfs.core", "GCSFileSystem", {"token": "t", "project": "p"}, "requester_pays"),
        ("az://models/x", "adlfs.spec", "AzureBlobFileSystem", {"account_name": "a"}, "credential"),
    ],
)
def test_a_filesystem_is_translated_or_honoured_with_a_warning(url, module, name, options, theirs, caplog):
    """The class is one that only has its name and its options; what it does otherwise is not asked."""
    from fsspec import AbstractFileSystem

    def make(**given: Any) -> Any:
        kind = type(name, (AbstractFileSystem,), {"__module__": module, "protocol": (url[:2],), "cachable": False})
        return kind(**given)

    translated = resolve("models/x", fs=make(**options))
    assert translated.filesystem is None and str(translated.url) == url
    assert translated.options == resolve(url, storage_options=options).options and not caplog.records
    mine = make(**options, **{theirs: True})
    assert resolve(url, fs=mine).filesystem is mine
    assert f"{url} is read the slow way, by a thread of this process through fsspec: {theirs!r}" in caplog.text
    derived = type("Own", (type(make()),), {"__module__": "mine"})()
    assert resolve(url, fs=derived).filesystem is derived


def test_options_that_only_the_filesystem_knows_need_its_package(monkeypatch, caplog):
    monkeypatch.setattr(filesystems, "_INSTALL", {"gs": '"diskless[gs]"'})
    monkeypatch.setattr("fsspec.get_filesystem_class", lambda scheme: (_ for _ in ()).throw(ImportError("no")))
    with pytest.raises(diskless.MissingDependency, match=r'gs:// needs a package .*pip install "diskless\[gs\]"'):
        resolve("gs://models", storage_options={"requester_pays": True})
    assert "'requester_pays' is understood only there" in caplog.text


def test_no_credentials_at_all_are_said_as_such():
    """As obstore words it where there is no instance to ask."""
    refused = Exception(
        "Error performing token request: Error performing GET http://169.254.169.254/x in 1ms - refused"
    )
    spec = resolve("gs://models/x")
    error = from_obstore(refused, spec, Object("x", "x", 0, None, None, 0), 0)
    assert type(error) is CredentialsError and "gs://models/x: no credentials are in storage_options" in str(error)
