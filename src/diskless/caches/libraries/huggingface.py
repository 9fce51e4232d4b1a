"""Hugging Face: the cache of huggingface_hub, and what transformers and datasets keep beside it; not its tokens.
Sentence Transformers has a cache of its own of the same layout, where SENTENCE_TRANSFORMERS_HOME says so.

What a file is called is `hub_layout`'s to say. hf_xet checks what it fetches; nothing is compared when a file is there.
"""

import os
import sys

from diskless.caches.place import Place, directory

PACKAGES = ("huggingface_hub",)
_BELOW_HOME = {
    "xet": "HF_XET_CACHE",
    "assets": "HF_ASSETS_CACHE",
    "modules": "HF_MODULES_CACHE",
    "datasets": "HF_DATASETS_CACHE",
}


def hub() -> str:
    """Return the directory of repositories: what huggingface_hub has read from the environment, if it has."""
    constants = sys.modules.get("huggingface_hub.constants")
    if constants is not None:
        return os.path.abspath(str(constants.HF_HUB_CACHE))
    return directory(f"{_home()}/hub", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE")


def more_hubs() -> list[str]:
    """Return the directories in which repositories are kept likewise."""
    return [own for own in (directory("", "SENTENCE_TRANSFORMERS_HOME"),) if own and own != hub()]


def places() -> list[Place]:
    beside = [Place(directory(f"{_home()}/{name}", variable)) for name, variable in _BELOW_HOME.items()]
    return [Place(hub()), *beside]


def _home() -> str:
    default = directory("~/.cache/huggingface", "XDG_CACHE_HOME", below="huggingface")
    return directory(default, "HF_HOME")
