"""Where the bytes come from: URLs, credentials, listings and ranged reads."""

from diskless.sources.spec import Credentials, Listing, Object, Source, SourceSpec
from diskless.sources.store import open_source
from diskless.sources.url import URL, parse_url

TYPE_CHECKING = False
if TYPE_CHECKING:
    from diskless.sources.resolution import resolve

__all__ = ["URL", "Credentials", "Listing", "Object", "Source", "SourceSpec", "open_source", "parse_url", "resolve"]


def __getattr__(name: str) -> object:
    """Import what the Loader, which is to start quickly, has no use for."""
    if name == "resolve":
        from diskless.sources.resolution import resolve

        return resolve
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
