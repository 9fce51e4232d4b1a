"""fsspec's filesystems: the one that a URL names, or a caller's own. Runs in the user's process."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from diskless.errors import (
    AccessDenied,
    DisklessError,
    InvalidOption,
    InvalidURL,
    MissingDependency,
    NotFound,
    SourceUnavailable,
    TransferError,
    redact,
)
from diskless.sources.spec import SourceSpec
from diskless.sources.url import LOCAL, OURS, URL

# They keep their copies in files of a temporary directory.
_ON_DISK = ("simplecache", "filecache", "blockcache", "cached")
# What to install where fsspec's own words do not say it as pip takes it.
_INSTALL = {
    "s3": '"diskless[s3]"',
    "gs": '"diskless[gs]"',
    **dict.fromkeys(("az", "abfs", "abfss", "adl"), '"diskless[az]"'),
    **dict.fromkeys(("http", "https"), "aiohttp requests"),
    **dict.fromkeys(("sftp", "ssh"), "paramiko"),
    **dict.fromkeys(("github", "gist", "webhdfs", "dbfs", "jupyter", "jlab"), "requests"),
    "hf": '"diskless[huggingface]"',
    "smb": "smbprotocol",
    "git": "pygit2",
    "hdfs": "pyarrow",
    "arrow_hdfs": "pyarrow",
    "libarchive": "libarchive-c",
    "oss": "ossfs",
    "webdav": "webdav4[fsspec]",
    "dropbox": "dropboxdrivefs requests dropbox",
    "root": "fsspec-xrootd",
}
# Variables that may decide who the caller is.
_CALLER = re.compile(r"(?i)token|key|secret|passw|credential|account|profile|auth|user|endpoint|url|host|_home")
_SECRET = re.compile(r"(?i)token|key|secret|passw|credential|auth|sas|connection|header|user")


def from_url(url: URL, text: str, storage_options: Mapping[str, object]) -> SourceSpec:
    """Return the spec of a URL that fsspec reads; `text` is the URL as it was given, passwords and all.

    Raises InvalidURL for a scheme that nobody knows, MissingDependency where its package is not installed,
    InvalidOption for options that it does not take, and what its server says where it is asked at once.
    """
    import hashlib

    from fsspec.core import url_to_fs

    for scheme in _schemes(text):
        _check(scheme)
    given = (sorted(storage_options.items(), key=repr), sorted(item for item in os.environ.items() if _caller(item)))
    principal = hashlib.sha256(f"{text}\0{given!r}".encode(errors="surrogateescape")).hexdigest()
    problem: DisklessError
    try:
        # An instance of our own: what others have listed may be out of date.
        filesystem, path = url_to_fs(text, **storage_options, skip_instance_cache=True)
        return SourceSpec(url, principal=f"fsspec {principal}", filesystem=filesystem, path=path)
    except TypeError as error:
        problem = InvalidOption(f"{url}: its filesystem does not take these options: {_said(error, storage_options)}")
    except Exception as error:
        problem = translated(error, str(url), storage_options)
    raise problem


def from_filesystem(url: str, filesystem: Any) -> SourceSpec:
    """Return the spec of `url` in a caller's own fsspec filesystem; a bare path in it will do as well."""
    from diskless.sources.url import parse_url

    scheme = check_filesystem(url, filesystem)
    path = filesystem._strip_protocol(url)
    shown = parse_url(url if "://" in url or "::" in url else whole_url(scheme, path))
    # The job keeps the filesystem, so that no other one can have this number while there is something to share.
    return SourceSpec(shown, principal=f"filesystem {id(filesystem)}", filesystem=filesystem, path=path)


def check_filesystem(url: str, filesystem: Any) -> str:
    """Return the scheme of a caller's filesystem; InvalidOption where it is none or not that of `url`."""
    known = getattr(filesystem, "protocol", None)
    if isinstance(filesystem, type) or known is None or not hasattr(filesystem, "cat_file"):
        kind = f"the class {filesystem.__name__}" if isinstance(filesystem, type) else type(filesystem).__name__
        raise InvalidOption(f"fs= is an fsspec filesystem, such as s3fs.S3FileSystem(), not {kind}")
    protocols = (known,) if isinstance(known, str) else tuple(known)
    if not isinstance(url, str):
        raise InvalidURL(f"a URL is a str such as 's3://bucket/prefix', not {type(url).__name__}")
    if getattr(filesystem, "asynchronous", False):
        raise InvalidOption("fs= belongs to an event loop (asynchronous=True); give one made without that")
    scheme = url.partition("://")[0].partition("::")[0].lower() if "://" in url or "::" in url else None
    if scheme is not None and scheme not in protocols:
        raise InvalidOption(f"fs= reads {' and '.join(f'{name}://' for name in protocols)}, and the URL is {scheme}://")
    return scheme or str(protocols[0])


def remade(given: Any) -> Any:
    """Return a filesystem made anew, in the way that fsspec has one made of a pickle, and so each that it was made of.

    Of a dict, a list or a tuple those that are in it; all else as it is.
    """
    from fsspec import AbstractFileSystem

    if isinstance(given, AbstractFileSystem):
        make, arguments, *state = given.__reduce__()
        new = make(*remade(arguments))
        for attributes in filter(None, state[:1]):
            new.__dict__.update(attributes)
        return new
    if type(given) is dict:
        return {name: remade(value) for name, value in given.items()}
    if type(given) in (list, tuple):
        return type(given)(map(remade, given))
    return given


def translated(error: Exception, what: str, secrets: object = ()) -> DisklessError:
    """Return our error for one of a filesystem's, without what the options hold that is secret."""
    said = f"{what}: {_said(error, secrets)}"
    if isinstance(error, DisklessError):
        return error
    if isinstance(error, ImportError):
        return MissingDependency(f"{said}; install what it names")
    if isinstance(error, FileNotFoundError):
        return NotFound(f"{what} does not exist ({_said(error, secrets)})")
    if isinstance(error, PermissionError):
        return AccessDenied(f"{said}; may this caller read it?")
    if isinstance(error, (IsADirectoryError, NotADirectoryError, NotImplementedError)) or "fork-safe" in str(error):
        return TransferError(said)
    if isinstance(error, (OSError, EOFError, TimeoutError)) or type(error).__module__.split(".")[0] in _CLIENTS:
        return SourceUnavailable(said)
    return TransferError(said)


# Libraries whose errors say that a connection failed, and derive from none that the language has for it.
_CLIENTS = ("aiohttp", "asyncio", "botocore", "ftplib", "httpx", "httpx2", "paramiko", "requests", "urllib3")


def _schemes(text: str) -> list[str]:
    """Return the schemes of a chain; a link without one is a word that fsspec takes for one, or a local path."""
    links = text.split("::")
    return [link.partition("://")[0].lower() for link in links if "://" in link or re.fullmatch(r"[a-z0-9_]+", link)]


def _check(scheme: str) -> None:
    import difflib

    import fsspec

    _refuse_on_disk(scheme)
    known = fsspec.available_protocols()
    if scheme not in known and scheme not in OURS:
        near = difflib.get_close_matches(scheme, [*dict.fromkeys((*OURS, *known))], 3, 0.5)
        meant = f"did you mean {' or '.join(f'{name}://' for name in near)}?" if near else "one is s3://bucket/prefix"
        raise InvalidURL(f"nobody here knows {scheme}:// URLs; {meant}")
    missing = ""
    try:
        fsspec.get_filesystem_class(scheme)
    except (ImportError, ValueError) as error:
        missing = _INSTALL.get(scheme, "") or f"what it asks for: {redact(str(error))}"
    if missing:
        raise MissingDependency(f"{scheme}:// needs a package that is not installed: pip install {missing}")


def check_in_ram(*arguments: Any, **options: Any) -> None:
    """Raise InvalidURL where a filesystem keeps copies on a disk: one of those that another is made of, by these.

    As `fs`, whatever it is called, or as `target_protocol` and `target_options`; and so all the way down.
    """
    import fsspec

    for given in (*arguments, *options.values()):
        if isinstance(given, fsspec.AbstractFileSystem):
            _refuse_on_disk(*_protocols(type(given)))
            check_in_ram(*given.storage_args, **given.storage_options)
    if (protocol := options.get("target_protocol")) is not None:
        _refuse_on_disk(*_protocols(fsspec.get_filesystem_class(protocol)))
        check_in_ram(**options.get("target_options") or {})


def _protocols(kind: type) -> list[str]:
    """Return those of a class of filesystems and of what it derives from."""
    known = [getattr(each, "protocol", ()) for each in kind.__mro__]  # a property has none, until there is an instance
    return [
        name
        for names in known
        for name in ((names,) if isinstance(names, str) else names if isinstance(names, (tuple, list)) else ())
    ]


def _refuse_on_disk(*schemes: str) -> None:
    for scheme in schemes:
        if scheme in _ON_DISK:
            raise InvalidURL(f"{scheme}:: keeps its copy on a disk; leave it out: the bytes go to RAM")


def _caller(item: tuple[str, str]) -> bool:
    return _CALLER.search(item[0]) is not None


def _said(error: Exception, options: object) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return redact(text if type(error).__module__ == "builtins" else f"{type(error).__name__}: {text}", *_in(options))


def _in(options: object, secret: bool = False) -> list[str]:
    """Return the strings in options, however deep, whose names say that they are secret."""
    if isinstance(options, Mapping):
        return [
            found
            for name, value in options.items()
            for found in _in(value, secret or _SECRET.search(str(name)) is not None)
        ]
    return [options] if isinstance(options, str) and secret and len(options) > 3 else []


def whole_url(scheme: str, path: str) -> str:
    """Return the URL of a bare path in a filesystem."""
    return f"{scheme}://{'/' if scheme in LOCAL else ''}{path.lstrip('/')}"


# The classes that only say how to reach a store which we read ourselves; what derives from them may do more.
_FAST = {
    ("s3fs.core", "S3FileSystem"),
    ("gcsfs.core", "GCSFileSystem"),
    ("gcsfs.extended_gcsfs", "ExtendedGcsFileSystem"),
    ("adlfs.spec", "AzureBlobFileSystem"),
    ("fsspec.implementations.http", "HTTPFileSystem"),
    ("fsspec.implementations.local", "LocalFileSystem"),
}


def options_of(filesystem: Any) -> Mapping[str, object] | None:
    """Return the storage options that a caller's filesystem was made with; None where they do not say all about it."""
    kind = type(filesystem)
    if (kind.__module__, kind.__name__) not in _FAST or getattr(filesystem, "storage_args", None):
        return None
    found: Mapping[str, object] = filesystem.storage_options
    return found
