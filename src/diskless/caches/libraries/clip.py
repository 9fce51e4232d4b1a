"""OpenAI's CLIP, and open_clip where it has a URL: the last part of the URL, such as ViT-B-32.pt.

Both compare the SHA-256 that stands in the URL each time they load, and fetch the file again where it differs.
"""

from diskless.caches.place import Place, directory

PACKAGES = ("clip", "open_clip")


def places() -> list[Place]:
    return [Place(directory("~/.cache/clip"), "clip/")]
