"""tiktoken: the SHA-1 of the URL, in a directory among the temporary files; the SHA-256 that it knows is compared."""

import os
import tempfile

from diskless.caches.place import Place

PACKAGES = ("tiktoken",)


def places() -> list[Place]:
    for name in ("TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR"):
        if name in os.environ:  # empty, it keeps nothing
            return [Place(os.path.abspath(os.environ[name]), "tiktoken/")] if os.environ[name] else []
    try:
        return [Place(f"{tempfile.gettempdir()}/data-gym-cache", "tiktoken/")]
    except FileNotFoundError:  # no directory for temporary files can be written: tiktoken itself finds none
        return []
