"""Opens a Source where the transfer runs."""

from __future__ import annotations

from collections.abc import Callable

from diskless.sources.spec import Credentials, Source, SourceSpec
from diskless.sources.url import AZURE, GOOGLE, LOCAL, WEB


def open_source(spec: SourceSpec, refresh: Callable[[], Credentials] | None = None) -> Source:
    """Return the Source of `spec`; `refresh` asks the user's process for fresh credentials."""
    if spec.filesystem is not None:
        from diskless.sources.fsspec_source import FsspecSource

        return FsspecSource(spec)
    if spec.url.scheme in WEB:
        from diskless.sources.web import WebSource

        return WebSource(spec)
    if spec.url.scheme in LOCAL:
        from diskless.sources.local import LocalSource

        return LocalSource(spec)
    if spec.url.scheme in GOOGLE:
        from diskless.sources.google import open_google
        from diskless.sources.object_store import ObjectStoreSource

        return ObjectStoreSource(spec, open_google)
    if spec.url.scheme in AZURE:
        from diskless.sources.azure import open_azure
        from diskless.sources.object_store import ObjectStoreSource

        return ObjectStoreSource(spec, open_azure)
    from diskless.sources.s3 import S3Source

    return S3Source(spec, refresh)
