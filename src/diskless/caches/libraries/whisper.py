"""Whisper: the last part of the URL, such as tiny.pt, whose SHA-256 stands in the URL; it is compared each time."""

from diskless.caches.place import Place, directory

PACKAGES = ("whisper",)


def places() -> list[Place]:
    return [Place(directory("~/.cache/whisper", "XDG_CACHE_HOME", below="whisper"), "whisper/")]
