"""Where each library keeps its files: a module for each, with the packages that use it and their places."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from typing import Protocol

from diskless.caches.place import Place
from diskless.errors import InvalidOption

# By the name that `only=` has for it.
NAMES = ("huggingface", "torch", "clip", "easyocr", "whisper", "nltk", "keras", "tiktoken")
# What they have of a mirror; the rest of it is the Hub's.
PREFIXES = ("torch/hub/", "clip/", "easyocr/", "whisper/", "nltk/", "keras/models/", "keras/datasets/", "tiktoken/")


class Library(Protocol):
    """What each module here is."""

    # Whoever has none of these uses none of the places.
    PACKAGES: tuple[str, ...]

    def places(self) -> list[Place]:
        """Return the directories that it makes, as things are set up now."""
        ...


def find(name: str) -> Library:
    """Return the library of a name; InvalidOption where there is none such."""
    if name not in NAMES:
        raise InvalidOption(f"only={name!r} is none of {', '.join(NAMES)}; give other directories with paths=")
    library: Library = importlib.import_module(f"{__name__}.{name}")
    return library


def is_installed(library: Library) -> bool:
    """Whether one of its packages can be imported."""
    return any(map(_can_be_imported, library.PACKAGES))


def _can_be_imported(package: str) -> bool:
    if package in sys.modules:  # it may be made up, without a spec, or None to keep it out
        return sys.modules[package] is not None
    return importlib.util.find_spec(package) is not None
