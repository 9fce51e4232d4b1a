"""Where the bytes come from: URLs, credentials, listings and ranged reads."""

from diskless.sources.resolve import resolve
from diskless.sources.spec import Credentials, Listing, Object, Source, SourceSpec
from diskless.sources.store import open_source
from diskless.sources.url import URL, parse_url

__all__ = ["URL", "Credentials", "Listing", "Object", "Source", "SourceSpec", "open_source", "parse_url", "resolve"]
