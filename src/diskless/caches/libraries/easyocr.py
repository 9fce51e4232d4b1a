"""EasyOCR: model/<name>.pth, as its configuration calls it, with an MD5 that it compares each time; and what users of
their own networks put beside."""

import sys

from diskless.caches.place import Place, directory

PACKAGES = ("easyocr",)


def places() -> list[Place]:
    config = sys.modules.get("easyocr.config")
    # It reads the environment when it is imported, and not again.
    home = config.MODULE_PATH if config is not None else directory("~/.EasyOCR", "EASYOCR_MODULE_PATH", "MODULE_PATH")
    return [Place(f"{home}/{name}", f"easyocr/{name}/") for name in ("model", "user_network")]
