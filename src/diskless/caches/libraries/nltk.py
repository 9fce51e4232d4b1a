"""NLTK: <category>/<name>, as a directory or a zip file, in the first of its data directories that has it."""

from diskless.caches.place import Place, directory

PACKAGES = ("nltk",)


def places() -> list[Place]:
    return [Place(directory("~/nltk_data"), "nltk/")]
