"""Which objects of a listing are meant: patterns, as huggingface_hub has them."""

from __future__ import annotations

import fnmatch
import logging
from typing import TYPE_CHECKING

from diskless.errors import InvalidOption, NotFound

if TYPE_CHECKING:
    from diskless.sources import Listing, Object

_log = logging.getLogger("diskless")


def select(
    listing: Listing, allow_patterns: tuple[str, ...] | None, ignore_patterns: tuple[str, ...] | None, url: str
) -> list[Object]:
    """Return the objects that the patterns leave, as huggingface_hub's `filter_repo_objects` reads them.

    Raises NotFound when nothing is left, saying what there was.
    """
    objects = [
        entry
        for entry in listing.objects
        if (allow_patterns is None or _matches(entry.path, allow_patterns))
        and not (ignore_patterns is not None and _matches(entry.path, ignore_patterns))
    ]
    for key, why in listing.refused:
        _log.warning("%s: the key %r is left out: %s", url, key, why)
    if listing.objects and not objects:
        examples = ", ".join(entry.path for entry in listing.objects[:3])
        raise NotFound(
            f"none of the {len(listing.objects)} objects below {url} (such as {examples}) is left by "
            f"allow_patterns={_words(allow_patterns)} and ignore_patterns={_words(ignore_patterns)}"
        )
    if not objects and listing.refused:
        raise NotFound(
            f"no object below {url} can be a file: " + "; ".join(f"{key!r}: {why}" for key, why in listing.refused[:5])
        )
    return objects


def patterns(name: str, value: object) -> tuple[str, ...] | None:
    """Return the patterns of an argument that takes one or several; InvalidOption for anything else."""
    if value is None:
        return None
    words = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, (list, tuple, set)) else (None,)
    if not all(isinstance(word, str) for word in words):
        raise InvalidOption(f"{name}= is a pattern such as '*.safetensors' or a list of them")
    # As in huggingface_hub, a pattern that ends in a slash means everything below.
    return tuple(str(word) + "*" if str(word).endswith("/") else str(word) for word in words)


def _matches(path: str, words: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(path, word) for word in words)


def _words(words: tuple[str, ...] | None) -> str:
    return "None" if words is None else str(list(words))
