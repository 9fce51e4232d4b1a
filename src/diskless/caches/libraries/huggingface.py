"""Hugging Face: the cache of huggingface_hub, and what transformers and datasets keep beside it; not its tokens.
Sentence Transformers has a cache of its own of the same layout, where SENTENCE_TRANSFORMERS_HOME says so.

What a file is called is `hub_layout`'s to say. hf_xet checks what it fetches; nothing is compared when a file is there.
"""

import os
import sys
from pathlib import PurePath

from diskless.caches.place import Place, directory

PACKAGES = ("huggingface_hub",)


def hub() -> str:
    """Return the directory of repositories: what huggingface_hub reads from the environment when it is imported."""
    from huggingface_hub import constants

    return os.path.abspath(str(constants.HF_HUB_CACHE))


def more_hubs() -> list[str]:
    """Return the directories in which repositories are kept likewise."""
    return [own for own in (directory("", "SENTENCE_TRANSFORMERS_HOME"),) if own and own != hub()]


def places() -> list[Place]:
    from huggingface_hub import constants

    transformers, datasets = (sys.modules.get(name) for name in ("transformers.utils.hub", "datasets.config"))
    modules = directory(f"{constants.HF_HOME}/modules", "HF_MODULES_CACHE")
    found = [
        hub(),
        constants.HF_XET_CACHE,
        constants.HF_ASSETS_CACHE,
        # These read the environment when they are imported, too.
        getattr(transformers or datasets, "HF_MODULES_CACHE", modules),
        getattr(datasets, "HF_DATASETS_CACHE", directory(f"{constants.HF_HOME}/datasets", "HF_DATASETS_CACHE")),
    ]
    return [Place(os.path.abspath(os.path.expanduser(each))) for each in found]


def tokens(below: str) -> list[str]:
    """Return what files with tokens are called below a directory, in which they are or may be."""
    constants = sys.modules.get("huggingface_hub.constants")
    home = directory(directory("~/.cache/huggingface", "XDG_CACHE_HOME", below="huggingface"), "HF_HOME")
    token = str(getattr(constants, "HF_TOKEN_PATH", directory(f"{home}/token", "HF_TOKEN_PATH")))
    # A directory may have another name by a link.
    real = PurePath(os.path.realpath(os.path.dirname(token)))
    if not real.is_relative_to(os.path.realpath(below)):
        return []
    top = os.path.normpath(os.path.join(below, real.relative_to(os.path.realpath(below))))
    return [os.path.join(top, name) for name in (os.path.basename(token), "stored_tokens")]
