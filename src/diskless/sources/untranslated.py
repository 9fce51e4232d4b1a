"""What the options of fsspec's filesystems are to us: our own, of no weight for a load, or only theirs."""

from __future__ import annotations

from diskless.errors import InvalidOption

# How fsspec lists, caches and cuts requests, which we do in our own way, and what concerns writing only.
TUNING = frozenset(
    {
        "asynchronous",
        "batch_size",
        "block_size",
        "blocksize",
        "cache_options",
        "default_block_size",
        "default_cache_type",
        "default_fill_cache",
        "fixed_upload_size",
        "listings_expiry_time",
        "loop",
        "local_expiry_check",
        "max_concurrency",
        "max_paths",
        "skip_instance_cache",
        "use_listings_cache",
        "version_aware",
    }
)


class Untranslated(Exception):
    """An option that only the filesystem of fsspec understands: it is to be read through that."""

    def __init__(self, option: str) -> None:
        super().__init__(option)
        self.option = option


def unknown(name: object, theirs: frozenset[str], known: object) -> Exception:
    """Return what to raise for an option that is not ours: it is theirs, or nobody's."""
    if name in theirs:
        return Untranslated(str(name))
    words = ", ".join(sorted(known))  # type: ignore[call-overload]  # any collection of str
    return InvalidOption(f"storage_options: {name!r} is not known; known are {words}")
